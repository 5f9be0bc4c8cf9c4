//! The first part of the page: one sentence about how things are, or what is wrong, oldest first.

use super::chart::Percent;
use super::look::Findings;
use super::trouble::{DOCUMENT, Runbook, in_brackets};
use super::words::{age, count, moment};
use crate::http::page::Markup;
use scoreline_domain::Source;

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    let serving = findings.versions.iter().filter(|version| version.serves).count();
    let models = if serving == 1 { "1 model serves".to_owned() } else { format!("{serving} models serve") };
    let wrong = findings.troubles.len();
    html.raw("<h1>scoreline</h1><p class=\"lead\" role=\"status\"><b class=\"");
    match (findings.is_draining, findings.clv.is_some(), wrong) {
        (true, ..) => html.raw("bad\">Leaving.</b> The process was asked to stop and finishes what it has begun. "),
        (false, false, _) => html.raw("bad\">Not ready.</b> "),
        (false, true, 0) => html.raw("ok\">Ready.</b> "),
        (false, true, 1) => html.raw("bad\">Needs a look.</b> One thing is wrong. "),
        (false, true, _) => html.raw("bad\">Needs a look.</b> ").text(wrong).raw(" things are wrong. "),
    };
    html.text(models).raw(".</p>");
    if wrong > 0 {
        html.raw("<ol class=\"troubles\">");
        for trouble in &findings.troubles {
            html.raw("<li class=\"flag bad\"><b>")
                .text(age(trouble.since, findings.now))
                .raw("</b> ")
                .text(&trouble.text);
            html.raw(" ");
            runbook(html, trouble.runbook);
            html.raw("</li>");
        }
        html.raw("</ol>");
    }
    let sources = findings.traffic.sources[0];
    let all: u64 = sources.iter().sum();
    let below = sources[Source::StaleCache as usize] + sources[Source::Fallback as usize];
    html.raw("<p class=\"quiet\">");
    if all == 0 {
        html.raw("Nothing was asked in the last hour.");
    } else {
        html.text(Percent(below as f64 / all as f64)).raw(" of the last hour's ").text(count(all));
        html.raw(" answers came from a fallback").text(in_brackets(&findings.traffic.reasons[0])).raw(".");
    }
    html.raw(" As of <time>").text(moment(findings.now)).raw(" UTC</time>.</p>");
}

/// Where the document says what to do: its name and the heading's, for whoever has it at hand.
pub(super) fn runbook(html: &mut Markup, chapter: Runbook) {
    html.raw("<code class=\"runbook\">").raw(DOCUMENT).raw("#").raw(chapter.anchor()).raw("</code>");
}
