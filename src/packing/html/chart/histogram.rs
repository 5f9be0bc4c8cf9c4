//! Shares of rows by value.

use crate::packing::html::chart::{Axis, Plot, Sample};
use crate::packing::html::data::Histogram;
use crate::packing::html::svg::{Unit, nice_end, number};

pub(crate) fn draw(histogram: &Histogram) -> String {
    let Histogram { title, axis, unit, edges, shares, above, note: _ } = histogram;
    let (Some(first), Some(last)) = (edges.first(), edges.last()) else { return String::new() };
    // What is above has a bar of its own, as wide as the last one and one gap away.
    let width = edges.windows(2).last().map_or(1.0, |pair| pair[1] - pair[0]);
    let end = if *above > 0.0 { last + 2.0 * width } else { *last };
    let largest = shares.iter().chain([above]).copied().fold(0.0, f64::max);
    let mut plot = Plot::new(
        &Axis { ticks_to: *last, ..Axis::new(axis, *unit, [*first, end]) },
        &Axis::new("share of rows", Unit::Percent, [0.0, nice_end(largest, 5)]),
    );
    let floor = plot.area[3];
    let bar = |plot: &mut Plot, class: &str, [from, to]: [f64; 2], share: f64, hint: &str| {
        let [left, top] = plot.place([from, share]);
        plot.canvas.rect(class, [left + 0.5, top], [plot.x.at(to) - left - 1.0, floor - top], hint);
    };
    for (pair, share) in edges.windows(2).zip(shares) {
        let of = |value: f64| number(value, 0.0, *unit);
        let hint = format!("{} to {}: {}", of(pair[0]), of(pair[1]), number(*share, 0.001, Unit::Percent));
        bar(&mut plot, "bar first", [pair[0], pair[1]], *share, &hint);
    }
    if *above > 0.0 {
        let hint = format!("above {}: {}", number(*last, 0.0, *unit), number(*above, 0.001, Unit::Percent));
        bar(&mut plot, "bar second", [last + width, end], *above, &hint);
        let name = format!("above {}", number(*last, 0.0, *unit));
        plot.legend(&[(Sample::Area, "bar first", "share of rows"), (Sample::Area, "bar second", &name)]);
    }
    let description = format!("{} bins; the fullest holds {}.", shares.len(), number(largest, 0.001, Unit::Percent));
    plot.canvas.finish(title, &description)
}
