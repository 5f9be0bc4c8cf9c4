//! Versions on trial beside the one that serves: how far they are apart, and whether that is enough to judge by.

use super::chart::Percent;
use super::look::Findings;
use super::status::runbook;
use super::trouble::Runbook;
use super::words::{count, duration};
use crate::http::page::Markup;
use crate::monitoring::comparison::{Summary, WINDOW};
use crate::monitoring::trials::TrialStatus;
use scoreline_engine::inference::manifest::Task;

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    html.raw("<h2>Candidates</h2>");
    if findings.trials.is_empty() {
        html.raw("<p class=\"none\">No version is on trial. ");
        runbook(html, Runbook::Trial);
        html.raw("</p>");
        return;
    }
    html.raw("<div class=\"wide\"><table><thead><tr>");
    for heading in ["Candidate", "Beside", "How"] {
        html.raw("<th scope=\"col\">").raw(heading).raw("</th>");
    }
    for heading in
        ["Rows compared", "Mean difference", "5 to 95 % of them", "Rank correlation", "Tier up", "Tier down", "Time"]
    {
        html.raw("<th scope=\"col\" class=\"n\">").raw(heading).raw("</th>");
    }
    html.raw("<th scope=\"col\">Enough to judge?</th><th scope=\"col\">Runbook</th></tr></thead><tbody>");
    for trial in &findings.trials {
        row(html, findings, trial);
    }
    html.raw("</tbody></table></div>");
}

fn row(html: &mut Markup, findings: &Findings, trial: &TrialStatus) {
    let version = findings.versions.iter().find(|it| it.model == trial.model && it.version == trial.version);
    let is_lead = version.and_then(|it| it.snapshot.as_ref()).is_some_and(|snapshot| snapshot.task() == Task::Lead);
    html.raw("<tr><th scope=\"row\">").text(&trial.model).raw(" ").text(&trial.version).raw("</th><td>");
    html.text(&trial.against).raw("</td><td>").raw(trial.mode).raw("</td><td class=\"n\">");
    match &trial.summary {
        None => {
            html.raw("0</td><td class=\"n\">–</td><td class=\"n\">–</td><td class=\"n\">–</td><td class=\"n\">–</td>");
            html.raw("<td class=\"n\">–</td><td class=\"n\">–");
        }
        Some(summary) => figures(html, summary, is_lead),
    }
    html.raw("</td><td>").text(verdict(trial)).raw("</td><td>");
    runbook(html, Runbook::Trial);
    html.raw("</td></tr>");
}

fn figures(html: &mut Markup, summary: &Summary, is_lead: bool) {
    let amount = |value: f64| if is_lead { format!("{value:+.2} points") } else { format!("{value:+.2} $") };
    html.text(count(summary.rows)).raw("</td><td class=\"n\">").text(amount(summary.mean)).raw("</td><td class=\"n\">");
    html.text(amount(summary.p05)).raw(" to ").text(amount(summary.p95)).raw("</td><td class=\"n\">");
    match summary.rank_correlation {
        Some(correlation) => html.text(format_args!("{correlation:.3}")),
        None => html.raw("–"),
    };
    for flips in [summary.flips.map(|flips| flips.up), summary.flips.map(|flips| flips.down)] {
        html.raw("</td><td class=\"n\">");
        match flips {
            Some(share) => html.text(Percent(share)),
            None => html.raw("–"),
        };
    }
    html.raw("</td><td class=\"n\">").text(duration(summary.candidate_seconds)).raw(" beside ");
    html.text(duration(summary.serving_seconds));
}

/// Whether the quantiles and the rank correlation are over as many rows as they can be.
fn verdict(trial: &TrialStatus) -> String {
    let rows = trial.summary.map_or(0, |summary| summary.rows);
    let missing = (WINDOW as u64).saturating_sub(rows);
    let mut text = if missing == 0 { "yes".to_owned() } else { format!("{} rows more", count(missing)) };
    if trial.failures > 0 {
        text = format!("{text}; {} rows had no answer", count(trial.failures));
    }
    if trial.dropped > 0 {
        text = format!("{text}; {} were not compared", count(trial.dropped));
    }
    text
}
