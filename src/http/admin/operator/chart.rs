//! Charts as SVG inside of the page: lines over time, a bar of shares, a bar against its limit. Each says in words what it
//! shows, so that nobody has to see it.

use std::fmt::{self, Display};

use crate::http::page::Markup;

/// Points of a line: more than a screen shows would only be bytes.
const POINTS: usize = 225;
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 72.0;
/// Below and above the lines.
const MARGIN: f64 = 6.0;

/// One line of a chart.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// What it says now, in words.
    pub(super) now: String,
    pub(super) values: Vec<f64>,
}

/// How values stand over each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scale {
    /// From zero to the largest.
    Linear,
    /// Decades, for durations.
    Decades,
}

/// Lines over the same time, oldest value first; `unit` writes a value.
pub(super) fn lines(html: &mut Markup, title: &str, lines: &[Line<'_>], scale: Scale, unit: fn(f64) -> String) {
    let values = || lines.iter().flat_map(|line| &line.values).map(|value| shown(*value)).filter(|value| *value > 0.0);
    let most = values().fold(0.0, f64::max);
    let (low, high) = match scale {
        Scale::Linear => (0.0, most),
        Scale::Decades => {
            let least = values().fold(f64::INFINITY, f64::min).max(1e-7);
            (least.log10().floor(), most.max(1e-6).log10().ceil())
        }
    };
    let height = |value: f64| {
        let value = if scale == Scale::Decades { shown(value).log10() } else { shown(value) };
        let share = if high > low { ((value - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
        HEIGHT - MARGIN - share * (HEIGHT - 2.0 * MARGIN)
    };
    html.raw("<figure><figcaption>").text(title);
    for (number, line) in lines.iter().enumerate() {
        html.raw(" <span class=\"nowrap\"><i class=\"k k").text(number).raw("\"></i>");
        html.text(line.name).raw(" <b>").text(&line.now).raw("</b></span>");
    }
    html.raw("</figcaption><svg viewBox=\"0 0 300 72\" role=\"img\" aria-label=\"").text(title).raw(":");
    for line in lines {
        html.raw(" ").text(line.name).raw(" now ").text(&line.now).raw(",");
    }
    html.raw(" at most ").text(unit(most)).raw("\">");
    if scale == Scale::Decades && most > 0.0 {
        for decade in low as i32..=high as i32 {
            let at = height(10.0_f64.powi(decade));
            html.raw("<line class=\"grid\" x1=\"0\" x2=\"300\" y1=\"").text(Short(at)).raw("\" y2=\"").text(Short(at));
            html.raw("\"/><text x=\"2\" y=\"")
                .text(Short((at - 1.5).max(8.0)))
                .raw("\">")
                .text(unit(10.0_f64.powi(decade)));
            html.raw("</text>");
        }
    } else {
        html.raw("<line class=\"grid\" x1=\"0\" x2=\"300\" y1=\"66\" y2=\"66\"/>");
    }
    for (number, line) in lines.iter().enumerate() {
        polyline(html, number, &thinned(&line.values), height);
    }
    html.raw("</svg><p class=\"axis\"><span>").text(Span(lines.first().map_or(0, |line| line.values.len())));
    html.raw("</span><span>at most ").text(unit(most)).raw("</span></p></figure>");
}

/// As it is drawn: more than this is a wrong clock, and would leave nothing of the rest to see.
fn shown(value: f64) -> f64 {
    value.min(1e9)
}

/// The largest of neighbours where there are too many: what sticks out stays.
fn thinned(values: &[f64]) -> Vec<f64> {
    let together = values.len().div_ceil(POINTS).max(1);
    // From the newest on, so that a group does not change its members with every second.
    let mut thinned: Vec<f64> = values.rchunks(together).map(|some| some.iter().copied().fold(0.0, f64::max)).collect();
    thinned.reverse();
    thinned
}

fn polyline(html: &mut Markup, number: usize, values: &[f64], height: impl Fn(f64) -> f64) {
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    // Seconds without a request have no duration: the line is broken there.
    let is_gap = |value: f64| number > 0 && value <= 0.0;
    let mut open = false;
    for (position, value) in values.iter().enumerate() {
        if is_gap(*value) {
            html.raw(if open { "\"/>" } else { "" });
            open = false;
            continue;
        }
        if !open {
            html.raw("<polyline class=\"line l").text(number).raw("\" points=\"");
            open = true;
        }
        html.text(Short(position as f64 * step)).raw(",").text(Short(height(*value))).raw(" ");
    }
    html.raw(if open { "\"/>" } else { "" });
}

/// Shares of a whole as one bar with its key. Without anything to share it says so.
pub(super) fn shares(html: &mut Markup, title: &str, palette: &'static str, parts: &[(&str, f64)]) {
    let total: f64 = parts.iter().map(|(_, part)| part).sum();
    html.raw("<figure><figcaption>").text(title).raw("</figcaption>");
    if total <= 0.0 {
        html.raw("<p class=\"none\">Nothing yet.</p></figure>");
        return;
    }
    let words = |html: &mut Markup| {
        for (number, (name, part)) in parts.iter().enumerate() {
            html.raw(if number > 0 { ", " } else { "" }).text(name).raw(" ").text(Percent(part / total));
        }
    };
    html.raw("<svg viewBox=\"0 0 300 16\" preserveAspectRatio=\"none\" class=\"bar\" role=\"img\" aria-label=\"")
        .text(title);
    html.raw(": ");
    words(html);
    html.raw("\">");
    let mut left = 0.0;
    for (number, (_, part)) in parts.iter().enumerate() {
        let width = WIDTH * part / total;
        if width > 0.0 {
            html.raw("<rect class=\"").raw(palette).text(number).raw("\" x=\"").text(Short(left)).raw("\" width=\"");
            html.text(Short(width)).raw("\" height=\"16\"/>");
        }
        left += width;
    }
    html.raw("</svg><ul class=\"key\">");
    for (number, (name, part)) in parts.iter().enumerate() {
        html.raw("<li><i class=\"k ").raw(palette).text(number).raw("\"></i>").text(name).raw(" ");
        html.text(Percent(part / total)).raw("</li>");
    }
    html.raw("</ul></figure>");
}

/// A value as a bar, with a mark at its limit: the limit stands at two thirds.
pub(super) fn against(html: &mut Markup, label: &str, value: f64, limit: f64) {
    let most = limit * 1.5;
    let share = if most > 0.0 && most.is_finite() { (value / most).clamp(0.0, 1.0) } else { 0.0 };
    html.raw("<svg viewBox=\"0 0 150 10\" preserveAspectRatio=\"none\" class=\"limit\" role=\"img\" aria-label=\"");
    html.text(label).raw("\"><rect class=\"track\" width=\"150\" height=\"10\"/><rect class=\"");
    html.raw(if value > limit { "over" } else { "under" }).raw("\" width=\"").text(Short(150.0 * share));
    html.raw("\" height=\"10\"/><line class=\"mark\" x1=\"100\" x2=\"100\" y1=\"0\" y2=\"10\"/></svg>");
}

/// A coordinate with one digit.
struct Short(f64);

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.0 * 10.0).round() / 10.0;
        write!(f, "{rounded}")
    }
}

/// A share in percent.
pub(super) struct Percent(pub(super) f64);

impl Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.0 * 100.0;
        match percent {
            0.0 => f.write_str("0 %"),
            percent if percent < 0.1 => f.write_str("under 0.1 %"),
            percent if percent < 10.0 => write!(f, "{percent:.1} %"),
            percent => write!(f, "{percent:.0} %"),
        }
    }
}

/// How far back so many seconds go.
struct Span(usize);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..=1 => f.write_str("just started"),
            seconds @ 2..120 => write!(f, "{seconds} s ago"),
            seconds => write!(f, "{} min ago", seconds / 60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[f64], scale: Scale) -> String {
        let mut html = Markup::default();
        let line = |name| Line { name, now: "1".to_owned(), values: values.to_vec() };
        lines(&mut html, "Requests", &[line("a"), line("b")], scale, |value| format!("{value}"));
        html.as_str().to_owned()
    }

    #[test]
    fn lines_stay_inside_their_frame_whatever_the_values() {
        for values in
            [vec![], vec![0.0], vec![1e-6; 3], vec![0.0, 5.0, 0.0, f64::MAX], (0..900).map(f64::from).collect()]
        {
            for scale in [Scale::Linear, Scale::Decades] {
                let svg = drawn(&values, scale);
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                for points in svg.split("points=\"").skip(1) {
                    let points = points.split('"').next().expect("closed");
                    assert!(points.split_whitespace().count() <= POINTS);
                    for point in points.split_whitespace() {
                        let (x, y) = point.split_once(',').expect("two");
                        let (x, y): (f64, f64) = (x.parse().expect("x"), y.parse().expect("y"));
                        assert!((0.0..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_sticks_out_is_not_thinned_away() {
        let mut values = vec![1.0; 900];
        values[450] = 99.0;
        assert_eq!(thinned(&values).into_iter().fold(0.0, f64::max), 99.0);
        assert_eq!(thinned(&[1.0, 2.0]), [1.0, 2.0]);
    }

    #[test]
    fn shares_are_in_words_too() {
        let mut html = Markup::default();
        shares(&mut html, "Source", "s", &[("model", 3.0), ("cache", 1.0), ("fallback", 0.0)]);
        assert!(html.as_str().contains("aria-label=\"Source: model 75 %, cache 25 %, fallback 0 %\""), "{html:?}");
        let mut html = Markup::default();
        shares(&mut html, "Source", "s", &[("model", 0.0)]);
        assert!(html.as_str().contains("Nothing yet"));
    }
}
