//! Figures of blocks of time.

use crate::packing::html::chart::{Axis, Plot, Sample};
use crate::packing::html::data::OverTime;
use crate::packing::html::svg::number;

/// One class for each line; more lines share the last.
const CLASSES: [&str; 3] = ["line first", "line second", "line third"];

pub(crate) fn draw(over_time: &OverTime) -> String {
    let OverTime { title, axis, unit, blocks, lines, note: _ } = over_time;
    let finite = || lines.iter().flat_map(|(_, values)| values).copied().filter(|value| value.is_finite());
    let low = finite().fold(f64::INFINITY, f64::min);
    let high = finite().fold(f64::NEG_INFINITY, f64::max);
    if low > high {
        return String::new();
    }
    let margin = ((high - low) * 0.1).max(0.01 * high.abs()).max(1e-6);
    let vertical = Axis::new(axis, *unit, [low - margin, high + margin]);
    let mut plot = Plot::of_names(blocks, "block of time, the oldest on the left", &vertical);
    let mut legend = Vec::new();
    for (line, (name, values)) in lines.iter().enumerate() {
        let class = CLASSES[line.min(CLASSES.len() - 1)];
        let points: Vec<[f64; 2]> = (0..).zip(values).map(|(i, value)| [f64::from(i), *value]).collect();
        // A block without a value breaks the line.
        for piece in points.split(|point| !point[1].is_finite()).filter(|piece| !piece.is_empty()) {
            plot.curve(class, piece);
            for point in piece {
                let hint = format!("{name}, {}: {}", blocks[point[0] as usize], number(point[1], 0.001, *unit));
                let place = plot.place(*point);
                plot.canvas.circle(&class.replace("line", "dot"), place, 3.0, &hint);
            }
        }
        legend.push((Sample::Line, class, name.as_str()));
    }
    plot.legend(&legend);
    let means = lines.iter().map(|(name, values)| {
        let known: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        format!("{name}: mean {}", number(known.iter().sum::<f64>() / known.len() as f64, 0.001, *unit))
    });
    plot.canvas.finish(title, &means.collect::<Vec<_>>().join("; "))
}
