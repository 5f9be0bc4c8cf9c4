//! The interval as a bar: the band is the interval, the stroke the value, dotted lines are where tiers begin. The scale is a
//! square root, because most customers spend little.

use crate::http::page::Markup;

/// What is drawn, in US dollars.
pub(super) struct Bar {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// Where medium and high value begin.
    pub limits: Option<(f64, f64)>,
}

/// Room at either end, in percent.
const MARGIN: f64 = 2.0;
/// Ends of a band that are nearer than this have no room for two amounts, in percent.
const ROOM: f64 = 35.0;

impl Bar {
    /// Draws it; places are shares of the width, so that nothing is stretched. `label` says the same in words.
    pub(super) fn draw(&self, markup: &mut Markup, label: &str, money: impl Fn(f64) -> String) {
        let Self { value, low, high, limits } = *self;
        let reach = limits.map_or(0.0, |(_, high)| high * 1.15);
        let top = high.max(value).max(reach).max(1.0) * 1.05;
        let place = |amount: f64| MARGIN + (100.0 - 2.0 * MARGIN) * (amount.max(0.0) / top).sqrt();
        let percent = |share: f64| format!("{share:.1}%");
        let (from, to) = (place(low), place(high));
        markup.raw("<svg class=\"scale\" role=\"img\" aria-label=\"").text(label).raw("\">");
        markup.raw("<line class=\"axis\" x1=\"2%\" x2=\"98%\" y1=\"18\" y2=\"18\"/>");
        markup.raw("<rect class=\"band\" y=\"10\" height=\"16\" rx=\"3\" x=\"").text(percent(from));
        markup.raw("\" width=\"").text(percent((to - from).max(1.0))).raw("\"/>");
        for limit in limits.into_iter().flat_map(|(medium, high)| [medium, high]) {
            let at = percent(place(limit));
            markup
                .raw("<line class=\"limit\" y1=\"2\" y2=\"34\" x1=\"")
                .text(&at)
                .raw("\" x2=\"")
                .text(&at)
                .raw("\"/>");
        }
        let at = percent(place(value));
        markup.raw("<line class=\"mark\" y1=\"5\" y2=\"31\" x1=\"").text(&at).raw("\" x2=\"").text(&at).raw("\"/>");
        if to - from >= ROOM {
            markup.raw("<text y=\"48\" x=\"").text(percent(from)).raw("\">").text(money(low)).raw("</text>");
            markup
                .raw("<text class=\"end\" y=\"48\" x=\"")
                .text(percent(to))
                .raw("\">")
                .text(money(high))
                .raw("</text>");
        }
        markup.raw("</svg>");
    }
}
