//! History on its way in, and scores on their way to profiles and dialers: how far, how old, and what could not be written.

use super::act::PageAction;
use super::look::Findings;
use super::status::runbook;
use super::trouble::Runbook;
use super::words::{age, count, duration};
use crate::http::operator_desk::TargetFindings;
use crate::http::page::Markup;
use scoreline_domain::job::RunResult;
use scoreline_domain::time::seconds_between;
use scoreline_domain::{JobName, JobStatus};
use scoreline_store::WishState;

pub(super) fn part(html: &mut Markup, findings: &Findings) {
    html.raw("<h2>Intake and writes</h2>");
    jobs(html, findings);
    html.raw("<p class=\"quiet\">");
    match findings.oldest_features {
        Some(oldest) => {
            html.text(count(findings.customers as u64))
                .raw(" customers are answered by id, from features that are at most ");
            html.text(age(oldest, findings.now)).raw(" old. ");
        }
        None => {
            html.raw("No customer's features are held: predictions by id get the baseline. ");
        }
    }
    if let Some((fresh, stale)) = findings.stored.leads {
        html.text(count(fresh))
            .raw(" leads have a score that counts, ")
            .text(count(stale))
            .raw(" one that is too old. ");
    }
    if let Some((used, allowed)) = findings.rate {
        html.text(used)
            .raw(" of ")
            .text(allowed)
            .raw(" requests that the platform allows in a minute counted when one was last sent. ");
    }
    if let Some(problem) = findings.stored.problem {
        html.raw("<b class=\"bad\">What is on its way out cannot be told: ").raw(problem).raw(".</b> ");
        runbook(html, Runbook::Store);
    }
    html.raw("</p>");
    if findings.stored.targets.is_empty() {
        html.raw("<p class=\"none\">Nothing is written back and nothing is pushed.</p>");
        return;
    }
    html.raw("<div class=\"wide\"><table><caption>On the way out</caption><thead><tr><th scope=\"col\">To</th><th scope=\"col\">State</th>");
    for heading in ["Wait", "Oldest", "Failing", "Written", "Not there", "Given up"] {
        html.raw("<th scope=\"col\" class=\"n\">").raw(heading).raw("</th>");
    }
    for heading in ["Why", "Runbook", "Change"] {
        html.raw("<th scope=\"col\">").raw(heading).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    for target in &findings.stored.targets {
        row(html, findings, target);
    }
    html.raw("</tbody></table></div>");
}

fn jobs(html: &mut Markup, findings: &Findings) {
    if findings.jobs.is_empty() {
        html.raw("<p class=\"none\">No jobs run here.</p>");
        return;
    }
    html.raw("<div class=\"wide\"><table><caption>Jobs</caption><thead><tr>");
    for heading in ["Job", "State", "Did its work", "Next run", "Counted", "Runbook", "Change"] {
        html.raw("<th scope=\"col\">").raw(heading).raw("</th>");
    }
    html.raw("</tr></thead><tbody>");
    for (job, status) in &findings.jobs {
        job_row(html, findings, *job, status);
    }
    html.raw("</tbody></table></div>");
}

fn job_row(html: &mut Markup, findings: &Findings, job: JobName, status: &JobStatus) {
    html.raw("<tr><th scope=\"row\">").raw(job.as_str()).raw("</th><td>");
    match (status.running_since, &status.last) {
        (Some(since), _) => html.raw("runs for ").text(age(since, findings.now)),
        (None, None) => html.raw("waits for its first run"),
        (None, Some(last)) => match &last.result {
            RunResult::Failed(reason) => {
                html.raw("<b class=\"bad\">failed ").text(status.failures).raw(" ×</b><br><span class=\"quiet\">");
                html.text(reason).raw("</span>")
            }
            RunResult::Idle => html.raw("nothing to do"),
            RunResult::Done | RunResult::Elsewhere | RunResult::Stopped => html.raw(last.result.as_str()),
        },
    };
    html.raw("</td><td class=\"nowrap\">");
    match status.last_success {
        Some(at) => html.text(age(at, findings.now)).raw(" ago"),
        None => html.raw("not yet"),
    };
    html.raw("</td><td class=\"nowrap\">");
    match status.next_at {
        Some(at) if seconds_between(findings.now, at) > 0 => html.raw("in ").text(age(findings.now, at)),
        Some(_) => html.raw("now"),
        None => html.raw("–"),
    };
    html.raw("</td><td>");
    for (number, (name, counted)) in status.counts.iter().filter(|(_, counted)| **counted > 0).enumerate() {
        html.raw(if number > 0 { ", " } else { "" }).raw(name).raw(" ").text(count(*counted));
    }
    html.raw("</td><td>");
    runbook(html, Runbook::Job);
    html.raw("</td><td class=\"acts\">");
    PageAction::Run { job }.button(html);
    html.raw("</td></tr>");
}

fn row(html: &mut Markup, findings: &Findings, target: &TargetFindings) {
    let counts = target.counts;
    html.raw("<tr><th scope=\"row\">").text(&target.name).raw(if target.is_of_leads {
        " (leads)"
    } else {
        " (profiles)"
    });
    html.raw("</th><td>");
    let pause = findings.pauses.iter().find(|(name, ..)| *name == target.name);
    match pause {
        Some((_, state, reason)) => {
            html.raw("<b class=\"bad\">").raw(state).raw("</b><br><span class=\"quiet\">").text(reason).raw("</span>")
        }
        None => html.raw("running"),
    };
    html.raw("</td><td class=\"n\">").text(count(counts.pending)).raw("</td><td class=\"n\">");
    match target.oldest_seconds {
        Some(oldest) if counts.pending > 0 => html.text(duration(oldest.max(1) as f64)),
        _ => html.raw("–"),
    };
    for number in [counts.failing, counts.applied, counts.absent] {
        html.raw("</td><td class=\"n\">").text(count(number));
    }
    html.raw("</td><td class=\"n\">");
    if counts.dead > 0 {
        html.raw("<b class=\"bad\">").text(count(counts.dead)).raw("</b>");
    } else {
        html.raw("0");
    }
    html.raw("</td><td>");
    for (number, (state, reason, times)) in target.reasons.iter().enumerate() {
        html.raw(if number > 0 { "<br>" } else { "" }).text(times).raw(" × ").text(reason);
        html.raw(if *state == WishState::Dead { " (given up)" } else { "" });
    }
    html.raw("</td><td>");
    let chapter = if counts.dead > 0 {
        Runbook::Dead
    } else if pause.is_some() {
        Runbook::Paused
    } else {
        Runbook::Backlog
    };
    runbook(html, chapter);
    html.raw("</td><td class=\"acts\">");
    if counts.dead + counts.absent > 0 {
        let retry = if target.is_of_leads { PageAction::RetryPush } else { PageAction::RetryWriteBack };
        retry.button(html);
    }
    html.raw("</td></tr>");
}
