//! Drawing: scales with readable ticks, number texts, and an SVG being written. Colours are the page's classes, so
//! that a picture follows light, dark and print.

use std::fmt::{Display, Write as _};

use scoreline_domain::text::EscapedWriter;

/// How numbers of an axis or a table are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Number,
    Percent,
    Usd,
}

/// Maps values to places on the page.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    from: f64,
    to: f64,
    logarithmic: bool,
    start: f64,
    end: f64,
}

impl Scale {
    /// From `from..to` to `start..end` on the page. An empty range is widened.
    pub(crate) fn linear([from, to]: [f64; 2], [start, end]: [f64; 2]) -> Self {
        let to = if to > from { to } else { from + 1.0 };
        Self { from, to, logarithmic: false, start, end }
    }

    /// As `linear`, for positive values over several orders of magnitude.
    pub(crate) fn logarithmic([from, to]: [f64; 2], [start, end]: [f64; 2]) -> Self {
        debug_assert!(from > 0.0);
        let to = if to > from { to } else { from * 10.0 };
        Self { from, to, logarithmic: true, start, end }
    }

    /// Where a value is; values outside the range are put on its border.
    pub(crate) fn at(&self, value: f64) -> f64 {
        let value = value.clamp(self.from, self.to);
        let part = if self.logarithmic {
            (value / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        self.start + part * (self.end - self.start)
    }

    /// About `count` values that people like to read, and the step between them (0 when it is not constant).
    pub(crate) fn ticks(&self, count: usize) -> (Vec<f64>, f64) {
        if self.logarithmic {
            return (self.logarithmic_ticks(count), 0.0);
        }
        let step = nice_step((self.to - self.from) / count.max(1) as f64);
        let first = (self.from / step - 1e-9).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        ((first..=last).map(|k| k as f64 * step).collect(), step)
    }

    fn logarithmic_ticks(&self, count: usize) -> Vec<f64> {
        let decades = self.from.log10().floor() as i32..=self.to.log10().ceil() as i32;
        let within = |factors: &[f64]| -> Vec<f64> {
            let all = decades.clone().flat_map(|decade| factors.iter().map(move |f| f * 10_f64.powi(decade)));
            all.filter(|tick| (self.from * 0.999..=self.to * 1.001).contains(tick)).collect()
        };
        [&[1.0, 2.0, 5.0][..], &[1.0, 3.0], &[1.0]]
            .into_iter()
            .map(within)
            .find(|ticks| ticks.len() <= count + 2)
            .unwrap_or_else(|| within(&[1.0]))
    }
}

/// The next of 1, 2, 2.5, 5, 10 times a power of ten.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// The end of the first nice tick at or above `value`: a range that ends where its axis does.
pub(crate) fn nice_end(value: f64, count: usize) -> f64 {
    if !(value > 0.0 && value.is_finite()) {
        return 1.0;
    }
    let step = nice_step(value / count as f64);
    (value / step - 1e-9).ceil() * step
}

/// A number with no more decimals than `step` asks for; 0 is "as many as the number needs".
pub(crate) fn number(value: f64, step: f64, unit: Unit) -> String {
    let (value, step) = if unit == Unit::Percent { (value * 100.0, step * 100.0) } else { (value, step) };
    let text = if step > 0.0 {
        let decimals = (0..6).find(|d| is_whole(step * 10_f64.powi(*d))).unwrap_or(6);
        grouped(value, decimals as usize)
    } else {
        let decimals =
            if value == 0.0 || value.abs() >= 100.0 { 0 } else { (2 - value.abs().log10().floor() as i32).clamp(0, 6) };
        let text = grouped(value, decimals as usize);
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    };
    match unit {
        Unit::Number => text,
        Unit::Percent => format!("{text}\u{202f}%"),
        Unit::Usd => format!("${text}"),
    }
}

fn is_whole(value: f64) -> bool {
    (value - value.round()).abs() < 1e-6 * value.abs().max(1.0)
}

/// Thousands by commas.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut out = String::new();
    if value < 0.0 && text.bytes().any(|digit| (b'1'..=b'9').contains(&digit)) {
        out.push('\u{2212}');
    }
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out + rest
}

/// Text that can stand in HTML and in attributes.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Control characters are not allowed in XML, whatever the escape.
        let c = if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c };
        // Writing to a string cannot fail.
        let _ = EscapedWriter(&mut out).write_char(c);
    }
    out
}

/// Where a text is anchored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture being drawn. `class` is one of the page's classes; coordinates have one decimal.
#[derive(Clone, Debug)]
pub(crate) struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// Adds room at the bottom; where it begins.
    pub(crate) fn grow(&mut self, by: f64) -> f64 {
        let before = self.height;
        self.height += by;
        before
    }

    pub(crate) fn line(&mut self, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) {
        self.push(format_args!(
            r#"<line class="{class}" x1="{}" y1="{}" x2="{}" y2="{}"/>"#,
            short(x1),
            short(y1),
            short(x2),
            short(y2)
        ));
    }

    pub(crate) fn polyline(&mut self, class: &str, points: impl Iterator<Item = [f64; 2]>) {
        let points: Vec<String> = points.map(|[x, y]| format!("{},{}", short(x), short(y))).collect();
        self.push(format_args!(r#"<polyline class="{class}" points="{}"/>"#, points.join(" ")));
    }

    /// `hint` is shown on hover and read aloud; empty for none.
    pub(crate) fn rect(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2], hint: &str) {
        let [x, y, width, height] = [x, y, width.max(0.0), height.max(0.0)].map(short);
        self.push(format_args!(r#"<rect class="{class}" x="{x}" y="{y}" width="{width}" height="{height}""#));
        self.close("rect", hint);
    }

    pub(crate) fn circle(&mut self, class: &str, [x, y]: [f64; 2], radius: f64, hint: &str) {
        let [x, y, radius] = [x, y, radius].map(short);
        self.push(format_args!(r#"<circle class="{class}" cx="{x}" cy="{y}" r="{radius}""#));
        self.close("circle", hint);
    }

    pub(crate) fn text(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (short(x), short(y), escape(text));
        self.push(format_args!(r#"<text class="{class}" x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>"#));
    }

    /// A text that reads upwards, centred on the point.
    pub(crate) fn upwards(&mut self, class: &str, [x, y]: [f64; 2], text: &str) {
        let (x, y, text) = (short(x), short(y), escape(text));
        self.push(format_args!(
            r#"<text class="{class}" transform="translate({x} {y}) rotate(-90)" text-anchor="middle">{text}</text>"#
        ));
    }

    /// The picture, with what it is and what it shows for who cannot see it.
    pub(crate) fn finish(self, title: &str, description: &str) -> String {
        let Self { width, height, body } = self;
        let (title, description) = (escape(title), escape(description));
        format!(
            "<svg role=\"img\" viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\"><title>{title}</title>\
             <desc>{description}</desc>\n{body}</svg>\n"
        )
    }

    fn close(&mut self, element: &str, hint: &str) {
        if hint.is_empty() {
            self.push(format_args!("/>"));
        } else {
            self.push(format_args!("><title>{}</title></{element}>", escape(hint)));
        }
    }

    fn push(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(what);
        if !self.body.ends_with('"') {
            self.body.push('\n');
        }
    }
}

/// One decimal is a tenth of a pixel.
fn short(value: f64) -> impl Display {
    (value * 10.0).round() / 10.0
}

/// About how wide a text is in the charts' font, in pixels: wide fonts take 0.6 em a character on average.
pub(crate) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// At most so many characters, with an ellipsis.
pub(crate) fn clipped(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    text.chars().take(characters.saturating_sub(1)).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_what_people_would_write() {
        let ticks = |range, count| {
            let (ticks, step) = Scale::linear(range, [0.0, 100.0]).ticks(count);
            ticks.into_iter().map(|tick| number(tick, step, Unit::Number)).collect::<Vec<_>>()
        };
        assert_eq!(
            ticks([0.0, 1.0], 5),
            ["0", "0.2", "0.4", "0.6", "0.8", "1"].map(|t| if t == "0" {
                "0.0"
            } else if t == "1" {
                "1.0"
            } else {
                t
            })
        );
        assert_eq!(ticks([0.0, 1234.0], 4), ["0", "500", "1,000"]);
        assert_eq!(ticks([-0.3, 0.3], 3), ["\u{2212}0.2", "0.0", "0.2"]);
        assert_eq!(ticks([5.0, 5.0], 2), ["5.0", "5.5", "6.0"]);
        let (ticks, _) = Scale::logarithmic([2.0, 300.0], [0.0, 1.0]).ticks(6);
        assert_eq!(ticks, [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]);
    }

    #[test]
    fn numbers_are_short_and_exact_enough() {
        assert_eq!(number(0.9, 0.05, Unit::Percent), "90\u{202f}%");
        assert_eq!(number(0.025, 0.025, Unit::Percent), "2.5\u{202f}%");
        assert_eq!(number(1_234_567.0, 0.0, Unit::Usd), "$1,234,567");
        assert_eq!(number(0.070_01, 0.0, Unit::Number), "0.07");
        assert_eq!(number(-0.0001, 0.01, Unit::Number), "0.00");
        assert_eq!(nice_end(0.83, 5), 1.0);
        assert_eq!(nice_end(310.0, 5), 400.0);
    }

    #[test]
    fn scales_keep_to_their_page() {
        let scale = Scale::linear([0.0, 10.0], [100.0, 0.0]);
        assert_eq!([scale.at(0.0), scale.at(2.5), scale.at(99.0)], [100.0, 75.0, 0.0]);
        let scale = Scale::logarithmic([1.0, 100.0], [0.0, 50.0]);
        assert!((scale.at(10.0) - 25.0).abs() < 1e-9);
    }

    #[test]
    fn names_can_not_break_out() {
        assert_eq!(escape("a<b & \"c\" 'd'\u{1}"), "a&lt;b &amp; &quot;c&quot; &#39;d&#39;\u{fffd}");
        assert_eq!(clipped("abcdef", 4), "abc\u{2026}");
    }
}
