//! Coverage of the intervals of one level, by group, with binomial uncertainty and the goal.

use crate::packing::html::chart::WIDTH;
use crate::packing::html::data::Coverage;
use crate::packing::html::svg::{Anchor, Canvas, Scale, Unit, clipped, number};
use crate::packing::html::wilson;

const ROW: f64 = 38.0;
const TOP: f64 = 4.0;
/// Room for half a tick's label.
const SIDE: f64 = 22.0;
const BOTTOM: f64 = 46.0;

/// Longest label of a group, in characters.
const LABEL: usize = 26;

/// One range for the levels of a page, so that they can be compared by eye.
pub(crate) fn range(all: &[Coverage]) -> [f64; 2] {
    let goals = all.iter().flat_map(|one| one.band.iter().flatten().chain(&one.least).chain([&one.level])).copied();
    let groups = all.iter().flat_map(|one| &one.groups);
    let ends = groups.flat_map(|group| wilson(group.inside, group.n).1).chain(goals);
    let [low, high] = ends.fold([1.0_f64, 0.0_f64], |[low, high], end| [low.min(end), high.max(end)]);
    [((low - 0.01) * 50.0).floor() / 50.0, (((high + 0.005) * 50.0).ceil() / 50.0).min(1.0)]
}

/// Draws one of them over such a range.
pub(crate) fn draw(coverage: &Coverage, range: [f64; 2]) -> String {
    let Coverage { level, groups, band, least } = coverage;
    let shares: Vec<_> = groups.iter().map(|group| wilson(group.inside, group.n)).collect();

    let (left, right) = (SIDE, WIDTH - SIDE);
    let bottom = TOP + ROW * groups.len() as f64;
    let x = Scale::linear(range, [left, right]);
    let mut canvas = Canvas::new(WIDTH, bottom + BOTTOM);
    if let Some([from, to]) = band {
        canvas.rect("band", [x.at(*from), TOP], [x.at(*to) - x.at(*from), bottom - TOP], "where the whole should lie");
    }
    let (ticks, step) = x.ticks(5);
    for tick in ticks {
        canvas.line("grid", [x.at(tick), TOP], [x.at(tick), bottom]);
        canvas.text("tick", [x.at(tick), bottom + 18.0], Anchor::Middle, &number(tick, step, Unit::Percent));
    }
    if let Some(least) = least {
        canvas.line("line second dashed", [x.at(*least), TOP], [x.at(*least), bottom]);
    }
    canvas.line("line faint", [x.at(*level), TOP], [x.at(*level), bottom]);
    canvas.line("axis", [left, bottom], [right, bottom]);
    for (i, (group, (share, [from, to]))) in groups.iter().zip(&shares).enumerate() {
        let top = TOP + ROW * i as f64;
        let (text, y) = (top + 13.0, top + 26.0);
        let hint = format!("{}: {} of {} inside", group.label, group.inside, group.n);
        canvas.line("whisker", [x.at(*from), y], [x.at(*to), y]);
        canvas.circle("dot first", [x.at(*share), y], 5.0, &hint);
        let size = number(group.n as f64, 1.0, Unit::Number);
        let figures = format!("{}, n = {size}", number(*share, 0.001, Unit::Percent));
        canvas.text("tick", [4.0, text], Anchor::Start, &clipped(&group.label, LABEL));
        canvas.text("tick", [WIDTH - 4.0, text], Anchor::End, &figures);
    }
    let level = number(*level, 0.0, Unit::Percent);
    let middle = f64::midpoint(left, right);
    canvas.text("label", [middle, bottom + 38.0], Anchor::Middle, &format!("outcomes inside the {level} interval"));
    let rows = groups.iter().zip(&shares).map(|(group, (share, _))| format!("{} {share:.3}", group.label));
    canvas.finish(&format!("Coverage at {level}"), &rows.collect::<Vec<_>>().join("; "))
}
