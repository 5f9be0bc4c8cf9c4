//! How far each feature moves answers: a bar for each, the longest first.

use crate::html::chart::{FONT, WIDTH};
use crate::html::data::Importance;
use crate::html::svg::{Anchor, Canvas, Scale, Unit, clipped, nice_end, number, text_width};

const ROW: f64 = 24.0;
const TOP: f64 = 4.0;
const BOTTOM: f64 = 42.0;
/// Room for the figure behind a bar.
const RIGHT: f64 = 70.0;

/// Longest name of a feature, in characters.
const LABEL: usize = 26;

/// How the figures are defined.
pub(crate) fn note(importance: &Importance) -> String {
    format!(
        "Mean absolute contribution over {} rows: how far the feature moves an answer away from that of the typical \
         customer, up or down, as `explain` tells it. Features that say the same share what they move. It is what the model \
         uses, not what causes anything.",
        number(importance.rows as f64, 1.0, Unit::Number)
    )
}

pub(crate) fn draw(importance: &Importance) -> String {
    let Importance { axis, unit, rows: _, features } = importance;
    let Some((first, most)) = features.first() else { return String::new() };
    let labels: Vec<String> = features.iter().map(|(name, _)| clipped(name, LABEL)).collect();
    let left = 16.0 + labels.iter().map(|label| text_width(label, FONT)).fold(0.0, f64::max);
    let bottom = TOP + ROW * features.len() as f64;
    let x = Scale::linear([0.0, nice_end(*most, 4)], [left, WIDTH - RIGHT]);
    let mut canvas = Canvas::new(WIDTH, bottom + BOTTOM);
    let (ticks, step) = x.ticks(4);
    for tick in ticks {
        canvas.line("grid", [x.at(tick), TOP], [x.at(tick), bottom]);
        canvas.text("tick", [x.at(tick), bottom + 18.0], Anchor::Middle, &number(tick, step, *unit));
    }
    for (i, ((name, amount), label)) in features.iter().zip(&labels).enumerate() {
        let y = TOP + ROW * i as f64;
        let figure = number(*amount, 0.01, *unit);
        let end = x.at(*amount);
        canvas.rect("bar first", [left, y + 4.0], [end - left, ROW - 8.0], &format!("{name}: {figure}"));
        canvas.text("tick", [left - 8.0, y + ROW / 2.0 + 4.0], Anchor::End, label);
        canvas.text("tick", [end + 6.0, y + ROW / 2.0 + 4.0], Anchor::Start, &figure);
    }
    canvas.line("axis", [left, TOP], [left, bottom]);
    canvas.text("label", [f64::midpoint(left, WIDTH - RIGHT), bottom + 36.0], Anchor::Middle, axis);
    canvas.finish("Importance of the features", &format!("{} features; {first} moves answers most.", features.len()))
}
