//! Whether the model is still asked about the customers it was trained on: each column's index against its limit.

use super::chart::{Percent, against};
use super::look::Findings;
use super::status::runbook;
use super::trouble::Runbook;
use super::words::{age, count, duration};
use crate::http::page::Markup;
use crate::monitoring::drift::{ClosedWindow, ColumnStatus, DriftStatus};

/// Columns that are shown of a model; more are folded away.
const SHOWN: usize = 8;

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    html.raw("<h2>Drift</h2>");
    if findings.drift.is_empty() {
        html.raw("<p class=\"none\">No model that serves carries a reference to be watched by. ");
        runbook(html, Runbook::Drift);
        html.raw("</p>");
    }
    for status in &findings.drift {
        model(html, findings, status);
    }
}

fn model(html: &mut Markup, findings: &Findings, status: &DriftStatus) {
    html.raw("<h3>").text(&status.model).raw(" ").text(&status.version).raw("</h3><p class=\"quiet\">");
    if let Some(window) = &status.closed {
        html.raw("The last complete window ended ").text(age(window.to, findings.now)).raw(" ago and held ");
        html.text(count(window.rows)).raw(" rows. ");
    } else {
        let windows = findings.windows;
        html.raw("The first window is open: it ends after ").text(duration(windows.length.as_secs_f64())).raw(" with ");
        html.text(count(windows.least_rows)).raw(" rows, or with ").text(count(windows.most_rows)).raw(". ");
    }
    html.raw("The open one has ")
        .text(count(status.open_rows))
        .raw(" rows in ")
        .text(age(status.opened_at, findings.now));
    html.raw(". ");
    runbook(html, Runbook::Drift);
    html.raw("</p>");
    if let Some(window) = &status.closed {
        table(html, window);
    }
}

fn table(html: &mut Markup, window: &ClosedWindow) {
    let mut columns: Vec<&ColumnStatus> = window.columns.iter().collect();
    columns.sort_by(|a, b| (b.psi.value / b.psi.limit).total_cmp(&(a.psi.value / a.psi.limit)));
    html.raw("<div class=\"wide\"><table><thead><tr><th scope=\"col\">Column</th><th scope=\"col\">Index against its limit</th>");
    for heading in ["PSI", "Limit", "Missing", "In training"] {
        html.raw("<th scope=\"col\" class=\"n\">").raw(heading).raw("</th>");
    }
    html.raw("<th scope=\"col\">Moved most</th></tr></thead><tbody>");
    for column in columns.iter().take(SHOWN) {
        row(html, column);
    }
    html.raw("</tbody></table></div>");
    if let Some(most) = columns.get(SHOWN) {
        html.raw("<p class=\"quiet\">").text(columns.len() - SHOWN).raw(" more columns are at ");
        html.text(format_args!("{:.2}", most.psi.value)).raw(" or closer to training.</p>");
    }
}

fn row(html: &mut Markup, column: &ColumnStatus) {
    let ColumnStatus { subject, psi, worst, worst_trained, missing, missing_trained, alarm } = column;
    html.raw("<tr><th scope=\"row\">").text(subject.as_str());
    if *alarm {
        html.raw(" <b class=\"bad\">alarm</b>");
    }
    html.raw("</th><td>");
    let words = format!("{}: {:.2} of {:.2}", subject.as_str(), psi.value, psi.limit);
    against(html, &words, psi.value, psi.limit);
    html.raw("</td><td class=\"n\">").text(format_args!("{:.2}", psi.value)).raw("</td><td class=\"n\">");
    html.text(format_args!("{:.2}", psi.limit)).raw("</td><td class=\"n\">").text(Percent(*missing));
    html.raw("</td><td class=\"n\">").text(Percent(*missing_trained)).raw("</td><td>").text(worst).raw(": ");
    html.text(Percent(psi.worst_share)).raw(", in training ").text(Percent(*worst_trained)).raw("</td></tr>");
}
