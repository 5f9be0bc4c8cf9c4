//! Reliability diagram: of those who were told a probability, to how many it happened.

use crate::packing::html::chart::{Axis, Plot, Sample};
use crate::packing::html::data::Reliability;
use crate::packing::html::svg::{Unit, number};
use crate::packing::html::wilson;

/// One range for all diagrams of a page, so that they can be compared by eye.
pub(crate) fn range(all: &[Reliability]) -> [f64; 2] {
    let of = |pick: fn(f64, f64) -> f64, start: f64| {
        all.iter().flat_map(|one| &one.bins).fold(start, |best, bin| {
            let (_, [low, high]) = wilson(bin.happened, bin.n);
            pick(pick(best, bin.said), pick(low, high))
        })
    };
    let low = of(f64::min, 1.0);
    let high = of(f64::max, 0.0);
    [(low * 10.0 - 0.05).floor().max(0.0) / 10.0, (high * 10.0 + 0.05).ceil().min(10.0) / 10.0]
}

/// Draws one of them over such a range.
pub(crate) fn draw(reliability: &Reliability, range: [f64; 2]) -> String {
    let Reliability { title, event, bins, error } = reliability;
    let shares: Vec<_> = bins.iter().map(|bin| wilson(bin.happened, bin.n)).collect();
    let mut plot = Plot::new(
        &Axis::new(&format!("probability of {event}, as predicted"), Unit::Percent, range),
        &Axis::new("share to whom it happened", Unit::Percent, range),
    );
    plot.curve("line faint dashed", &[[range[0]; 2], [range[1]; 2]]);
    for (bin, (share, whisker)) in bins.iter().zip(&shares) {
        plot.whisker("whisker", bin.said, *whisker);
        let percent = |value| number(value, 0.001, Unit::Percent);
        let hint = format!("n = {}: predicted {}, happened to {}", bin.n, percent(bin.said), percent(*share));
        let [x, y] = plot.place([bin.said, *share]);
        plot.canvas.circle("dot first", [x, y], 4.5, &hint);
    }
    let [least, most] = bins.iter().fold([usize::MAX, 0], |[least, most], bin| [least.min(bin.n), most.max(bin.n)]);
    let size = if least == most { format!("n = {least} each") } else { format!("n = {least} to {most}") };
    let name = format!("{} bins, {size}, 90 % interval", bins.len());
    plot.legend(&[(Sample::Dot, "dot first", &name), (Sample::Line, "line faint dashed", "as it should be")]);
    plot.canvas.finish(title, &format!("Expected calibration error {error:.4} over {} bins.", bins.len()))
}
