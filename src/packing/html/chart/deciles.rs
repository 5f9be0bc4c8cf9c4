//! Predicted against actual mean of each tenth of the customers.

use crate::packing::html::chart::{Axis, Plot, Sample};
use crate::packing::html::data::Decile;
use crate::packing::html::svg::{Unit, nice_end, number};

/// From this ratio of the largest to the smallest mean on, the axis is logarithmic.
const WIDE: f64 = 20.0;

pub(crate) fn draw(deciles: &[Decile]) -> String {
    let names: Vec<String> = (1..=deciles.len()).map(|i| i.to_string()).collect();
    let largest = deciles.iter().fold(0.0, |most, decile| f64::max(most, decile.high.max(decile.predicted)));
    let smallest = deciles.iter().fold(f64::INFINITY, |least, decile| least.min(decile.predicted).min(decile.actual));
    let mut vertical = Axis::new("mean spend", Unit::Usd, [0.0, nice_end(largest, 5)]);
    if smallest > 0.0 && largest / smallest > WIDE {
        vertical = Axis { range: [smallest * 0.7, largest * 1.15], logarithmic: true, ..vertical };
    }
    let mut plot = Plot::of_names(&names, "tenth of customers by prediction, the best on the right", &vertical);
    let predicted: Vec<[f64; 2]> = (0..).zip(deciles).map(|(i, decile)| [f64::from(i), decile.predicted]).collect();
    plot.curve("line second", &predicted);
    for (i, decile) in deciles.iter().enumerate() {
        let Decile { n, predicted, actual, low, high } = *decile;
        let usd = |value| number(value, 0.01, Unit::Usd);
        let hint = format!("tenth {}, {n} customers: predicted {}, actual {}", i + 1, usd(predicted), usd(actual));
        plot.whisker("whisker", i as f64, [low, high]);
        let [x, y] = plot.place([i as f64, actual]);
        plot.canvas.circle("dot first", [x, y], 4.5, &hint);
    }
    plot.legend(&[(Sample::Dot, "dot first", "actual, 90 % bootstrap"), (Sample::Line, "line second", "predicted")]);
    let outside = deciles.iter().filter(|d| d.predicted < d.low || d.predicted > d.high).count();
    let description = format!("In {outside} of {} tenths the prediction lies outside the bar.", deciles.len());
    plot.canvas.finish("Predicted and actual mean by decile", &description)
}
