//! How far each group of features moves answers: a bar for each, the longest first.

use crate::packing::html::chart::WIDTH;
use crate::packing::html::data::Importance;
use crate::packing::html::svg::{Anchor, Canvas, Scale, Unit, clipped, nice_end, number};

const ROW: f64 = 32.0;
const TOP: f64 = 4.0;
const BOTTOM: f64 = 42.0;
const LEFT: f64 = 4.0;
/// Room for half a tick's label.
const RIGHT: f64 = 22.0;

/// Longest name of a group, in characters.
const LABEL: usize = 40;

/// How the figures are defined.
pub(crate) fn note(importance: &Importance) -> String {
    format!(
        "Mean absolute contribution over {} rows: how far the group of features moves an answer away from that of the \
         typical customer, up or down, as reason codes tell it. Features that rise and fall together are one group. It is \
         what the model uses, not what causes anything.",
        number(importance.rows as f64, 1.0, Unit::Number)
    )
}

pub(crate) fn draw(importance: &Importance) -> String {
    let Importance { axis, unit, rows: _, features } = importance;
    let Some((first, most)) = features.first() else { return String::new() };
    let bottom = TOP + ROW * features.len() as f64;
    let x = Scale::linear([0.0, nice_end(*most, 4)], [LEFT, WIDTH - RIGHT]);
    let mut canvas = Canvas::new(WIDTH, bottom + BOTTOM);
    let (ticks, step) = x.ticks(4);
    for tick in ticks {
        let anchor = if tick == 0.0 { Anchor::Start } else { Anchor::Middle };
        canvas.line("grid", [x.at(tick), TOP], [x.at(tick), bottom]);
        canvas.text("tick", [x.at(tick), bottom + 18.0], anchor, &number(tick, step, *unit));
    }
    for (i, (name, amount)) in features.iter().enumerate() {
        let y = TOP + ROW * i as f64;
        let figure = number(*amount, 0.01, *unit);
        canvas.text("tick", [LEFT, y + 12.0], Anchor::Start, &clipped(name, LABEL));
        canvas.text("tick", [WIDTH - 4.0, y + 12.0], Anchor::End, &figure);
        canvas.rect("bar first", [LEFT, y + 17.0], [x.at(*amount) - LEFT, 10.0], &format!("{name}: {figure}"));
    }
    canvas.line("axis", [LEFT, TOP], [LEFT, bottom]);
    canvas.text("label", [WIDTH / 2.0, bottom + 36.0], Anchor::Middle, axis);
    canvas.finish("Importance of the features", &format!("{} features; {first} moves answers most.", features.len()))
}
