//! Charts: each draws one kind of data from `data` as an SVG. This file owns what they share: the frame with axes and
//! the legend.

pub(crate) mod coverage;
pub(crate) mod deciles;
pub(crate) mod drift;
pub(crate) mod gain;
pub(crate) mod histogram;
pub(crate) mod importance;
pub(crate) mod over_time;
pub(crate) mod reliability;

use crate::packing::html::svg::{Anchor, Canvas, Scale, Unit, number, text_width};

/// A phone shows a picture of this width with texts that can still be read.
pub(crate) const WIDTH: f64 = 400.0;
pub(crate) const HEIGHT: f64 = 270.0;

/// Font size of ticks and labels; the page's style sheet says the same.
pub(crate) const FONT: f64 = 12.0;

const TOP: f64 = 12.0;
const RIGHT: f64 = 22.0;
const LEGEND_ROW: f64 = 20.0;
const BOTTOM: f64 = 48.0;

/// An axis: what it shows, in which unit, over which range.
#[derive(Clone, Debug)]
pub(crate) struct Axis<'a> {
    pub label: &'a str,
    pub unit: Unit,
    pub range: [f64; 2],
    pub logarithmic: bool,
    /// No tick beyond this value.
    pub ticks_to: f64,
}

/// A frame with two axes, ready to be drawn into.
pub(crate) struct Plot {
    pub canvas: Canvas,
    pub x: Scale,
    pub y: Scale,
    /// Left, top, right, bottom of the drawing area.
    pub area: [f64; 4],
}

impl<'a> Axis<'a> {
    pub(crate) fn new(label: &'a str, unit: Unit, range: [f64; 2]) -> Self {
        Self { label, unit, range, logarithmic: false, ticks_to: f64::INFINITY }
    }

    fn scale(&self, page: [f64; 2]) -> Scale {
        if self.logarithmic { Scale::logarithmic(self.range, page) } else { Scale::linear(self.range, page) }
    }
}

impl Plot {
    /// Draws grid, ticks and labels. As many ticks as fit without touching.
    pub(crate) fn new(horizontal: &Axis<'_>, vertical: &Axis<'_>) -> Self {
        let mut plot = Self::with_vertical(horizontal, vertical);
        let bottom = plot.area[3];
        let ticks = (2..=10).rev().map(|count| labelled(&plot.x, count, horizontal.unit)).find(|ticks| {
            let widest = ticks.iter().map(|(_, text)| text_width(text, FONT)).fold(0.0, f64::max);
            let places: Vec<f64> = ticks.iter().map(|(value, _)| plot.x.at(*value)).collect();
            places.windows(2).all(|pair| pair[1] - pair[0] > widest + 14.0)
        });
        for (value, text) in ticks.unwrap_or_default() {
            if value > horizontal.ticks_to {
                break;
            }
            let place = plot.x.at(value);
            plot.canvas.line("axis", [place, bottom], [place, bottom + 4.0]);
            plot.canvas.text("tick", [place, bottom + 18.0], Anchor::Middle, &text);
        }
        plot
    }

    /// A frame whose horizontal axis has a place for each name instead of a scale: names that would touch are left out.
    pub(crate) fn of_names(names: &[String], label: &str, vertical: &Axis<'_>) -> Self {
        let mut plot = Self::with_vertical(&Axis::new(label, Unit::Number, [-0.5, names.len() as f64 - 0.5]), vertical);
        let [left, _, right, bottom] = plot.area;
        let widest = names.iter().map(|name| text_width(name, FONT)).fold(0.0, f64::max);
        let room = (right - left) / names.len().max(1) as f64;
        let every = ((widest + 10.0) / room).ceil().max(1.0) as usize;
        for (i, name) in names.iter().enumerate().step_by(every) {
            plot.canvas.text("tick", [plot.x.at(i as f64), bottom + 18.0], Anchor::Middle, name);
        }
        plot
    }

    /// Everything but the ticks of the horizontal axis.
    fn with_vertical(horizontal: &Axis<'_>, vertical: &Axis<'_>) -> Self {
        let top = TOP;
        let right = WIDTH - RIGHT;
        let bottom = HEIGHT - BOTTOM;
        let y = vertical.scale([bottom, top]);
        let ticks = labelled(&y, 6, vertical.unit);
        let left = 34.0 + ticks.iter().map(|(_, text)| text_width(text, FONT)).fold(0.0, f64::max);
        let x = horizontal.scale([left, right]);
        let mut plot = Self { canvas: Canvas::new(WIDTH, HEIGHT), x, y, area: [left, top, right, bottom] };
        for (value, text) in ticks {
            let place = plot.y.at(value);
            plot.canvas.line("grid", [left, place], [right, place]);
            plot.canvas.text("tick", [left - 6.0, place + 4.0], Anchor::End, &text);
        }
        plot.canvas.line("axis", [left, bottom], [right, bottom]);
        plot.labels(horizontal.label, vertical.label);
        plot
    }

    fn labels(&mut self, horizontal: &str, vertical: &str) {
        let [left, top, right, bottom] = self.area;
        self.canvas.text("label", [f64::midpoint(left, right), HEIGHT - 8.0], Anchor::Middle, horizontal);
        self.canvas.upwards("label", [13.0, f64::midpoint(top, bottom)], vertical);
    }

    pub(crate) fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        [self.x.at(x), self.y.at(y)]
    }

    pub(crate) fn curve(&mut self, class: &str, points: &[[f64; 2]]) {
        let places: Vec<[f64; 2]> = points.iter().map(|point| self.place(*point)).collect();
        self.canvas.polyline(class, places.into_iter());
    }

    /// A vertical bar with short ends, from `low` to `high` at `x`.
    pub(crate) fn whisker(&mut self, class: &str, x: f64, [low, high]: [f64; 2]) {
        let (x, low, high) = (self.x.at(x), self.y.at(low), self.y.at(high));
        self.canvas.line(class, [x, low], [x, high]);
        for end in [low, high] {
            self.canvas.line(class, [x - 4.0, end], [x + 4.0, end]);
        }
    }

    /// A line sample or a dot with a name for each, below the picture, in as many rows as they need.
    pub(crate) fn legend(&mut self, entries: &[(Sample, &str, &str)]) {
        let [mut x, mut y] = [f64::INFINITY, 0.0];
        for (sample, class, name) in entries {
            let width = 26.0 + text_width(name, FONT);
            if x + width > WIDTH {
                x = 10.0;
                y = self.canvas.grow(LEGEND_ROW) + LEGEND_ROW / 2.0;
            }
            match sample {
                Sample::Line => self.canvas.line(class, [x, y], [x + 20.0, y]),
                Sample::Dot => self.canvas.circle(class, [x + 10.0, y], 4.0, ""),
                Sample::Area => self.canvas.rect(class, [x, y - 6.0], [20.0, 12.0], ""),
            }
            self.canvas.text("tick", [x + 26.0, y + 4.0], Anchor::Start, name);
            x += width + 18.0;
        }
    }
}

/// How a legend shows its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sample {
    Line,
    Dot,
    Area,
}

fn labelled(scale: &Scale, count: usize, unit: Unit) -> Vec<(f64, String)> {
    let (ticks, step) = scale.ticks(count);
    ticks.into_iter().map(|tick| (tick, number(tick, step, unit))).collect()
}
