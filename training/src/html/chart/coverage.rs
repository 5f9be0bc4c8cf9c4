//! Coverage of the intervals of one level, by group, with binomial uncertainty and the goal.

use crate::html::chart::{FONT, WIDTH};
use crate::html::data::Coverage;
use crate::html::svg::{Anchor, Canvas, Scale, Unit, clipped, number, text_width};
use crate::html::wilson;

const ROW: f64 = 30.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// Longest label of a group, in characters.
const LABEL: usize = 26;

pub(crate) fn draw(coverage: &Coverage) -> String {
    let Coverage { level, groups, band, least } = coverage;
    let shares: Vec<_> = groups.iter().map(|group| wilson(group.inside, group.n)).collect();
    let goals = band.iter().flatten().chain(least).copied().chain([*level]);
    let low = shares.iter().map(|(_, [low, _])| *low).chain(goals.clone()).fold(1.0, f64::min);
    let high = shares.iter().map(|(_, [_, high])| *high).chain(goals).fold(0.0, f64::max);
    let range = [((low - 0.01) * 50.0).floor() / 50.0, (((high + 0.005) * 50.0).ceil() / 50.0).min(1.0)];

    let labels: Vec<String> = groups.iter().map(|group| clipped(&group.label, LABEL)).collect();
    let left = 16.0 + labels.iter().map(|label| text_width(label, FONT)).fold(0.0, f64::max);
    let right = WIDTH - 140.0;
    let bottom = TOP + ROW * groups.len() as f64;
    let x = Scale::linear(range, [left, right]);
    let mut canvas = Canvas::new(WIDTH, bottom + BOTTOM);
    if let Some([from, to]) = band {
        canvas.rect("band", [x.at(*from), TOP], [x.at(*to) - x.at(*from), bottom - TOP], "where the whole should lie");
    }
    // The axis is short: labels with a decimal leave room for few.
    let (ticks, step) = x.ticks(4);
    for tick in ticks {
        canvas.line("grid", [x.at(tick), TOP], [x.at(tick), bottom]);
        canvas.text("tick", [x.at(tick), bottom + 18.0], Anchor::Middle, &number(tick, step, Unit::Percent));
    }
    if let Some(least) = least {
        canvas.line("line second dashed", [x.at(*least), TOP], [x.at(*least), bottom]);
    }
    canvas.line("line faint", [x.at(*level), TOP], [x.at(*level), bottom]);
    canvas.line("axis", [left, bottom], [right, bottom]);
    for (i, ((group, label), (share, [from, to]))) in groups.iter().zip(&labels).zip(&shares).enumerate() {
        let y = TOP + ROW * (i as f64 + 0.5);
        let hint = format!("{}: {} of {} inside", group.label, group.inside, group.n);
        canvas.line("whisker", [x.at(*from), y], [x.at(*to), y]);
        canvas.circle("dot first", [x.at(*share), y], 5.0, &hint);
        canvas.text("tick", [left - 8.0, y + 4.0], Anchor::End, label);
        let size = format!("n = {}", number(group.n as f64, 1.0, Unit::Number));
        canvas.text("tick", [right + 62.0, y + 4.0], Anchor::End, &number(*share, 0.001, Unit::Percent));
        canvas.text("tick", [WIDTH - 2.0, y + 4.0], Anchor::End, &size);
    }
    let level = number(*level, 0.0, Unit::Percent);
    let middle = f64::midpoint(left, right);
    canvas.text("label", [middle, bottom + 38.0], Anchor::Middle, &format!("outcomes inside the {level} interval"));
    let rows = groups.iter().zip(&shares).map(|(group, (share, _))| format!("{} {share:.3}", group.label));
    canvas.finish(&format!("Coverage at {level}"), &rows.collect::<Vec<_>>().join("; "))
}
