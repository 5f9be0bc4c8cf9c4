//! Gain curve: how much of the outcome comes with the best part of the customers.

use crate::packing::html::chart::{Axis, Plot, Sample};
use crate::packing::html::data::Gain;
use crate::packing::html::svg::{Unit, number};

pub(crate) fn draw(gain: &Gain) -> String {
    let vertical = format!("share of all {}", gain.of);
    let mut plot = Plot::new(
        &Axis::new("share of rows, best prediction first", Unit::Percent, [0.0, 1.0]),
        &Axis::new(&vertical, Unit::Percent, [0.0, 1.0]),
    );
    plot.curve("line faint dashed", &[[0.0, 0.0], [1.0, 1.0]]);
    plot.curve("line second", &gain.perfect);
    plot.curve("line first", &gain.model);
    plot.legend(&[
        (Sample::Line, "line first", "this model"),
        (Sample::Line, "line second", "perfect order"),
        (Sample::Line, "line faint dashed", "random order"),
    ]);
    let best = |curve: &[[f64; 2]]| {
        let at = curve.iter().rfind(|point| point[0] <= 0.1 + 1e-9).map_or(0.0, |point| point[1]);
        number(at, 0.01, Unit::Percent)
    };
    let description = format!(
        "The best tenth of customers by prediction brings {} of all {}; in the perfect order it would bring {}.",
        best(&gain.model),
        gain.of,
        best(&gain.perfect)
    );
    plot.canvas.finish("Gain curve", &description)
}
