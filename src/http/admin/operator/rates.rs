//! How much is asked, how long answers take, and how many slots of data actions that holds.

use super::chart::{Line, Percent, Scale, lines};
use super::look::Findings;
use super::status::runbook;
use super::trouble::Runbook;
use super::words::{count, duration, rate};
use crate::http::page::Markup;
use crate::monitoring::traffic::{DurationSummary, RequestClass};
use crate::monitoring::traffic_history::TrafficSample;

/// Data actions of an organization may be under way at the same time, and be asked for in a minute.
const SLOTS: f64 = 50.0;
const CALLS_A_MINUTE: f64 = 2500.0;
/// What the network may take between the platform and here, in seconds: an assumption, said as one.
const PATH: f64 = 0.04;

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    let seconds = &findings.traffic.seconds;
    let series = |pick: fn(&TrafficSample) -> f64| seconds.iter().map(pick).collect::<Vec<_>>();
    let recent = &findings.traffic.recent;
    let all = recent.reading.requests();
    html.raw("<h2>Rates and times</h2><div class=\"grid\">");
    let now = seconds.last().map_or(0.0, TrafficSample::rate);
    let requests = Line { name: "", now: format!("{} /s", rate(now)), values: series(TrafficSample::rate) };
    lines(html, "Requests", &[requests], Scale::Linear, |value| format!("{} /s", rate(value)));
    let times = [
        Line { name: "p50", now: duration(all.p50), values: series(|second| f64::from(second.p50)) },
        Line { name: "p99", now: duration(all.p99), values: series(|second| f64::from(second.p99)) },
        Line { name: "p99.9", now: duration(all.p999), values: series(|second| f64::from(second.p999)) },
    ];
    lines(html, "Times", &times, Scale::Decades, duration);
    html.raw(
        "</div><div class=\"wide\"><table><caption>The last minute</caption><thead><tr><th scope=\"col\">Requests</th>",
    );
    for heading in ["a second", "p50", "p99", "p99.9", "failed", "refused"] {
        html.raw("<th scope=\"col\" class=\"n\">").text(heading).raw("</th>");
    }
    html.raw("<th scope=\"col\">Runbook</th></tr></thead><tbody>");
    for class in RequestClass::ALL {
        let found = recent.reading.class(class);
        let chapter = if recent.reading.failed(class) > 0 { Runbook::Fallbacks } else { Runbook::Slow };
        row(html, class.as_str(), found, recent.rate(found.count));
        for number in [recent.reading.failed(class), recent.reading.refused(class)] {
            html.raw("<td class=\"n\">").text(count(number)).raw("</td>");
        }
        html.raw("<td>");
        runbook(html, chapter);
        html.raw("</td></tr>");
    }
    html.raw("</tbody></table></div><p class=\"quiet\">").text(count(findings.connections as u64));
    let (live, batches) = findings.in_flight;
    html.raw(" connections are open, ")
        .text(live)
        .raw(" live calls and ")
        .text(batches)
        .raw(" batches are under way. ");
    let shed = findings.traffic.reasons[0][0];
    html.text(count(shed))
        .raw(" answers of the last hour were turned away from a busy model. Threads were late by at most ");
    html.text(if findings.traffic.lag > 0.0 { duration(findings.traffic.lag) } else { "0 ms".to_owned() });
    html.raw(" in the last minute.</p>");
}

fn row(html: &mut Markup, name: &'static str, found: DurationSummary, rate_now: f64) {
    html.raw("<tr><th scope=\"row\">").text(name).raw("</th><td class=\"n\">").text(rate(rate_now)).raw("</td>");
    for seconds in [found.p50, found.p99, found.p999] {
        html.raw("<td class=\"n\">").text(duration(seconds)).raw("</td>");
    }
}

/// The slots that calls hold which take so long: Little's law.
fn held(calls_a_minute: f64, seconds: f64) -> f64 {
    calls_a_minute * seconds / 60.0
}

pub(super) fn slots(html: &mut Markup, findings: &Findings) {
    let recent = &findings.traffic.recent;
    let found = recent.reading.class(RequestClass::DataAction);
    let (p99, whose) = if found.count > 0 {
        (found.p99, "data actions")
    } else {
        (recent.reading.requests().p99, "all requests, for want of data actions")
    };
    html.raw("<h2>Slots of data actions</h2>");
    if p99 <= 0.0 {
        html.raw("<p class=\"none\">Nothing was asked in the last minute: there is no time to tell slots by. ");
        runbook(html, Runbook::Slots);
        html.raw("</p>");
        return;
    }
    let (most, with_path) = (held(CALLS_A_MINUTE, p99), held(CALLS_A_MINUTE, p99 + PATH));
    html.raw("<p>At 2,500 calls a minute and the p99 of ").text(duration(p99)).raw(" (").text(whose);
    html.raw(") this server holds <b>").text(slot(most)).raw(" of 50</b> slots; with a network path of 40 ms <b>");
    html.text(slot(with_path)).raw("</b> (").text(Percent(with_path / SLOTS)).raw("). At the ");
    let rate_now = recent.rate(found.count) * 60.0;
    html.text(rate(rate_now)).raw(" calls a minute of now: ").text(slot(held(rate_now, p99 + PATH))).raw(". ");
    runbook(html, Runbook::Slots);
    html.raw("</p>");
}

fn slot(number: f64) -> String {
    if number < 0.001 {
        "under 0.001".to_owned()
    } else {
        format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_calls_times_their_time() {
        // 2,500 a minute of 74 us each, and with 40 ms more.
        assert_eq!(slot(held(CALLS_A_MINUTE, 74e-6)), "0.003");
        assert_eq!(slot(held(CALLS_A_MINUTE, 74e-6 + PATH)), "1.67");
        assert_eq!(slot(held(60.0, 1e-4)), "under 0.001");
        assert_eq!(slot(held(2500.0, 1.2)), "50");
    }
}
