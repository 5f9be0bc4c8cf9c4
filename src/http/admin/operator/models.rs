//! The versions on disk with their state, what people may do about them, and the last things that happened to them.

use super::act::PageAction;
use super::chart::Percent;
use super::look::Findings;
use super::status::runbook;
use super::trouble::Runbook;
use super::words::{age, duration, moment, rate};
use crate::http::page::Markup;
use crate::monitoring::journal::JournalKind;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::registry::{Hold, VersionState, VersionStatus};

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    html.raw("<h2>Models</h2><div class=\"wide\"><table><thead><tr>");
    for heading in ["Model", "State", "Change", "Bundle", "Serves since"] {
        html.raw("<th scope=\"col\">").raw(heading).raw("</th>");
    }
    for heading in ["Rows a second", "p99"] {
        html.raw("<th scope=\"col\" class=\"n\">").raw(heading).raw("</th>");
    }
    html.raw("<th scope=\"col\">Drift, calibration</th><th scope=\"col\">Runbook</th></tr></thead><tbody>");
    for version in &findings.versions {
        row(html, findings, version);
    }
    if findings.versions.is_empty() {
        html.raw("<tr><td colspan=\"9\">No model is in the folder.</td></tr>");
    }
    html.raw("</tbody></table></div>");
}

fn row(html: &mut Markup, findings: &Findings, version: &VersionStatus) {
    html.raw("<tr><th scope=\"row\">").text(&version.model).raw(" <span class=\"nowrap\">").text(&version.version);
    html.raw("</span></th><td>");
    state(html, version);
    html.raw("</td><td class=\"acts\">");
    change(html, version);
    html.raw("</td>");
    match &version.snapshot {
        Some(snapshot) => loaded(html, findings, version, snapshot),
        None => {
            html.raw("<td>–</td><td>–</td><td class=\"n\">–</td><td class=\"n\">–</td><td>–</td>");
        }
    }
    html.raw("<td>");
    runbook(html, chapter(version));
    html.raw("</td></tr>");
}

/// What people may do about a version.
fn change(html: &mut Markup, version: &VersionStatus) {
    let model = version.model.to_string();
    if version.serves {
        PageAction::RollBack { model: model.clone() }.button(html);
        if version.held == Some(Hold::Promoted) {
            PageAction::Latest { model }.button(html);
        }
    } else if !matches!(version.state, VersionState::Refused { .. } | VersionState::Settling) {
        PageAction::Promote { model, version: version.version.to_string() }.button(html);
    }
}

/// What is known of a version that is loaded.
fn loaded(html: &mut Markup, findings: &Findings, version: &VersionStatus, snapshot: &ModelSnapshot) {
    let (manifest, digest) = (snapshot.manifest(), snapshot.digest().to_string());
    html.raw("<td class=\"nowrap\"><code>").text(&digest[..8]).raw("</code> ").raw(manifest.backend.as_str());
    html.raw("<br><span class=\"quiet\">trained ").text(manifest.trained_at.to_string().get(..10).unwrap_or_default());
    html.raw("</span></td><td class=\"nowrap\">");
    let name = format!("{} {}", version.model, version.version);
    let since = findings.journal.iter().find(|entry| entry.kind == JournalKind::Serves && entry.object == name);
    match since.filter(|_| version.serves) {
        Some(entry) => html.text(age(entry.at, findings.now)),
        None => html.raw("–"),
    };
    let recent = &findings.traffic.recent;
    let rows = recent.reading.model(snapshot.digest());
    html.raw("</td><td class=\"n\">").text(rate(recent.rate(rows.count))).raw("</td><td class=\"n\">");
    html.text(duration(rows.p99)).raw("</td><td>");
    worst_drift(html, findings, version);
    html.raw("<br><span class=\"quiet\">");
    calibration(html, findings, version);
    html.raw("</span></td>");
}

fn state(html: &mut Markup, version: &VersionStatus) {
    let (class, reason) = match &version.state {
        VersionState::Serving => ("ok", None),
        VersionState::Refused { code, reason } => ("bad", Some(format!("{code}: {reason}"))),
        VersionState::Held { reason } => ("warn", Some(reason.clone())),
        VersionState::Candidate => ("", version.trial.map(|mode| mode.as_str().to_owned())),
        VersionState::Available | VersionState::Unchecked | VersionState::Settling => ("", version.behind.clone()),
    };
    html.raw("<b class=\"").raw(class).raw("\">").raw(version.state.as_str()).raw("</b>");
    if let Some(held) = version.held {
        html.raw(" ").raw(held.as_str());
    }
    if version.serves && version.state != VersionState::Serving {
        html.raw(" and serves on");
    }
    if let Some(reason) = reason {
        html.raw("<br><span class=\"quiet\">").text(reason).raw("</span>");
    }
}

fn worst_drift(html: &mut Markup, findings: &Findings, version: &VersionStatus) {
    let watched = findings.drift.iter().find(|it| it.model == version.model && it.version == version.version);
    let Some(status) = watched.filter(|_| version.serves) else {
        html.raw("not watched");
        return;
    };
    let columns = status.closed.iter().flat_map(|window| &window.columns);
    let worst = columns.max_by(|a, b| (a.psi.value / a.psi.limit).total_cmp(&(b.psi.value / b.psi.limit)));
    match worst {
        Some(column) if column.alarm => html.raw("<b class=\"bad\">").text(column.subject.as_str()).raw(" alarm</b>"),
        Some(column) => html.text(column.subject.as_str()).raw(" ").text(format_args!("{:.2}", column.psi.value)),
        None => html.raw("first window open"),
    };
}

fn calibration(html: &mut Markup, findings: &Findings, version: &VersionStatus) {
    let found = findings.stored.quality.iter();
    let found =
        found.filter(|(model, of, _)| *model == version.model && *of == version.version).map(|(.., it)| it).next();
    let widest = found.and_then(|quality| quality.coverage.last());
    match widest {
        Some((level, share)) if share.n > 0 => html
            .text(Percent(share.share))
            .raw(" in ")
            .text(Percent(*level))
            .raw(" intervals, ")
            .text(share.n)
            .raw(" outcomes"),
        _ => html.raw("no outcomes"),
    };
}

/// What to read about a version in its state.
fn chapter(version: &VersionStatus) -> Runbook {
    match version.state {
        VersionState::Refused { .. } => Runbook::Refused,
        VersionState::Held { .. } => Runbook::Held,
        VersionState::Candidate => Runbook::Trial,
        VersionState::Serving | VersionState::Available | VersionState::Unchecked | VersionState::Settling => {
            Runbook::Promotion
        }
    }
}

/// What happened, newest first.
pub(super) fn journal(html: &mut Markup, findings: &Findings) {
    html.raw("<h2>What happened</h2>");
    if findings.journal.is_empty() {
        html.raw("<p class=\"none\">Nothing since the start.</p>");
        return;
    }
    html.raw("<div class=\"wide scroll\" tabindex=\"0\" role=\"region\" aria-label=\"What happened\"><table><caption>The last 50 swaps, refusals and \
              actions since the start; the audit log has all of them</caption><thead><tr>");
    for heading in ["When (UTC)", "What", "Object", "Reason", "Who"] {
        html.raw("<th scope=\"col\">").raw(heading).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    for entry in &findings.journal {
        let (class, what) = match entry.kind {
            JournalKind::Serves => ("ok", "serves"),
            JournalKind::Trial => ("", "is tried"),
            JournalKind::Refused => ("bad", "refused"),
            JournalKind::Held => ("warn", "held"),
            JournalKind::NotServing => ("", "does not serve"),
            JournalKind::Asked(action, _) => ("", action.as_str()),
        };
        html.raw("<tr><td class=\"nowrap\">")
            .text(moment(entry.at))
            .raw("</td><td class=\"nowrap\"><b class=\"")
            .raw(class);
        html.raw("\">").raw(what).raw("</b>");
        if let JournalKind::Asked(_, outcome) = entry.kind {
            html.raw(" ").raw(outcome.as_str());
        }
        html.raw("</td><td>").text(&entry.object).raw("</td><td>").text(&entry.reason);
        html.raw("</td><td>");
        html.text(&entry.who).raw("</td></tr>");
    }
    html.raw("</tbody></table></div>");
}
