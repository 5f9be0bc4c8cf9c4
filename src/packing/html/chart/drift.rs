//! Reference shares of one feature's drift bins, small: there are many features.

use crate::packing::html::data::Drift;
use crate::packing::html::svg::{Anchor, Canvas, Scale, Unit, clipped, number, text_width};

const WIDTH: f64 = 270.0;
const HEIGHT: f64 = 148.0;
const TOP: f64 = 42.0;
const BOTTOM: f64 = 120.0;
const LEFT: f64 = 8.0;
const RIGHT: f64 = WIDTH - 8.0;

/// As in the style sheet, for small charts.
const FONT: f64 = 11.0;

pub(crate) fn draw(drift: &Drift) -> String {
    let Drift { feature, unit, edges, shares, missing } = drift;
    let mut canvas = Canvas::new(WIDTH, HEIGHT);
    canvas.text("small strong", [LEFT, 14.0], Anchor::Start, &clipped(feature, 36));
    // A missing value has a bin of its own, always shown, after a gap.
    let bins = shares.len() as f64 + 1.5;
    let x = Scale::linear([0.0, bins], [LEFT, RIGHT]);
    let largest = shares.iter().chain([missing]).copied().fold(0.0, f64::max);
    let y = Scale::linear([0.0, largest], [BOTTOM, TOP]);
    let most = format!("highest bin {}", number(largest, 0.01, Unit::Percent));
    let about = if unit.is_empty() { most } else { format!("{}; {most}", clipped(unit, 22)) };
    canvas.text("small", [LEFT, 30.0], Anchor::Start, &about);
    let mut bar = |class: &str, from: f64, share: f64, hint: &str| {
        let left = x.at(from);
        let top = y.at(share);
        canvas.rect(class, [left + 0.5, top], [x.at(from + 1.0) - left - 1.0, BOTTOM - top], hint);
    };
    let of = |value: f64| number(value, 0.0, Unit::Number);
    for (i, share) in shares.iter().enumerate() {
        let range = match (i.checked_sub(1).map(|below| edges[below]), edges.get(i)) {
            (None, Some(to)) => format!("up to {}", of(*to)),
            (Some(from), Some(to)) => format!("above {} to {}", of(from), of(*to)),
            (Some(from), None) => format!("above {}", of(from)),
            (None, None) => "all".to_owned(),
        };
        bar("bar first", i as f64, *share, &format!("{range}: {}", number(*share, 0.001, Unit::Percent)));
    }
    let missing_at = shares.len() as f64 + 0.5;
    bar("bar second", missing_at, *missing, &format!("missing: {}", number(*missing, 0.001, Unit::Percent)));
    canvas.line("axis", [LEFT, BOTTOM], [RIGHT, BOTTOM]);
    // Below each border its edge, where there is room; the right end belongs to "missing".
    let missing_label = if *missing > 0.0 {
        format!("missing {}", number(*missing, 0.01, Unit::Percent))
    } else {
        "missing".to_owned()
    };
    let end = RIGHT - text_width(&missing_label, FONT) - 6.0;
    let mut taken = LEFT - 8.0;
    for (i, edge) in edges.iter().enumerate() {
        let text = number(two_digits(*edge), 0.0, Unit::Number);
        let half = text_width(&text, FONT) / 2.0;
        let place = x.at(i as f64 + 1.0).max(LEFT + half);
        if place - half >= taken + 8.0 && place + half <= end {
            canvas.text("small", [place, BOTTOM + 15.0], Anchor::Middle, &text);
            taken = place + half;
        }
    }
    canvas.text("small", [RIGHT, BOTTOM + 15.0], Anchor::End, &missing_label);
    let description = format!("{} bins; the fullest holds {}.", shares.len(), number(largest, 0.01, Unit::Percent));
    canvas.finish(&format!("Reference distribution of {feature}"), &description)
}

/// Edges are only told roughly below the bars; the exact ones are in the hints.
fn two_digits(value: f64) -> f64 {
    let scale = 10_f64.powi(1 - value.abs().max(f64::MIN_POSITIVE).log10().floor() as i32);
    if value.abs() < 10.0 && value != 0.0 { (value * scale).round() / scale } else { value.round() }
}
