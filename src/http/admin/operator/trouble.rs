//! What is wrong, since when, and where the document says what to do about it.

use std::fmt::Write as _;

use super::chart::Percent;
use super::look::Findings;
use super::words::{age, duration};
use crate::http::operator_desk::OperatorDesk;
use crate::monitoring::journal::JournalKind;
use crate::scoring::FallbackReason;
use scoreline_domain::Source;
use scoreline_domain::job::RunResult;
use scoreline_domain::resilience::breaker::Phase;
use scoreline_domain::time::Timestamp;
use scoreline_engine::inference::registry::VersionState;

/// Above this share of the answers of the last ten minutes, fallbacks are a trouble; and so many answers there must be.
const FALLBACKS: f64 = 0.05;
const FALLBACK_SECONDS: usize = 600;
const FALLBACK_ANSWERS: u64 = 20;
/// Above this time, in seconds, the slowest hundredth of the last minute is; and so many requests there must be.
const SLOW: f64 = 0.05;
const SLOW_REQUESTS: u64 = 100;
/// Scores that wait longer, in seconds.
const BACKLOG: u64 = 3600;
/// Levels of intervals may be off by so much, when so many outcomes say so.
const COVERAGE: f64 = 0.05;
const COVERAGE_OUTCOMES: usize = 100;

/// The document that anchors are of.
pub(super) const DOCUMENT: &str = "operate.md";

/// A chapter of the runbook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runbook {
    NoModel,
    Refused,
    Held,
    Promotion,
    Trial,
    Breaker,
    Fallbacks,
    Slow,
    Mix,
    Store,
    Drift,
    Calibration,
    Job,
    Paused,
    Dead,
    Backlog,
    Slots,
}

impl Runbook {
    #[cfg(test)]
    pub(super) const ALL: [Self; 17] = [
        Self::NoModel,
        Self::Refused,
        Self::Held,
        Self::Promotion,
        Self::Trial,
        Self::Breaker,
        Self::Fallbacks,
        Self::Slow,
        Self::Mix,
        Self::Store,
        Self::Drift,
        Self::Calibration,
        Self::Job,
        Self::Paused,
        Self::Dead,
        Self::Backlog,
        Self::Slots,
    ];

    /// The anchor of its heading in `DOCUMENT`.
    pub(super) fn anchor(self) -> &'static str {
        match self {
            Self::NoModel => "no-model-serves",
            Self::Refused => "a-model-is-refused",
            Self::Held => "a-model-is-held",
            Self::Promotion => "promotion-and-rollback",
            Self::Trial => "a-candidate-is-on-trial",
            Self::Breaker => "a-breaker-is-open",
            Self::Fallbacks => "answers-come-from-fallbacks",
            Self::Slow => "answers-are-slow",
            Self::Mix => "the-mix-of-tiers-shifts",
            Self::Store => "the-store-does-not-do-its-work",
            Self::Drift => "a-column-drifts",
            Self::Calibration => "intervals-miss-their-level",
            Self::Job => "a-job-fails",
            Self::Paused => "a-target-pauses",
            Self::Dead => "scores-cannot-be-written",
            Self::Backlog => "scores-wait-too-long",
            Self::Slots => "slots-of-data-actions",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) since: Timestamp,
    pub(super) text: String,
    pub(super) runbook: Runbook,
}

/// Found now: what tells it from others, since when if that is known, what it is, where it is described.
type Found = (String, Option<Timestamp>, String, Runbook);

/// Everything that is wrong, oldest first.
pub(super) fn of(findings: &Findings, desk: &OperatorDesk) -> Vec<Trouble> {
    let mut found = Vec::new();
    models(findings, &mut found);
    answers(findings, &mut found);
    drift(findings, &mut found);
    jobs(findings, &mut found);
    writes(findings, &mut found);
    let keys: Vec<_> = found.iter().map(|(key, ..)| key.clone()).collect();
    let noticed = desk.since(&keys, findings.now);
    let known = found.into_iter().zip(noticed);
    let mut troubles: Vec<_> = known
        .map(|((_, since, text, runbook), noticed)| Trouble { since: since.unwrap_or(noticed), text, runbook })
        .collect();
    troubles.sort_by_key(|trouble| trouble.since);
    troubles
}

fn models(findings: &Findings, found: &mut Vec<Found>) {
    if findings.clv.is_none() {
        let text = "No model answers: there is not even a baseline.".to_owned();
        found.push(("no model".to_owned(), None, text, Runbook::NoModel));
    }
    for version in &findings.versions {
        let name = format!("{} {}", version.model, version.version);
        let told = |kind| findings.journal.iter().find(|entry| entry.kind == kind && entry.object == name);
        match &version.state {
            VersionState::Refused { code, reason } => {
                let goes_on = if version.serves { "; it was loaded before and serves on" } else { "" };
                let text = format!("Model {name} is refused ({code}): {reason}{goes_on}.");
                let since = told(JournalKind::Refused).map(|entry| entry.at);
                found.push((format!("refused {name}"), since, text, Runbook::Refused));
            }
            VersionState::Held { reason } => {
                let since = told(JournalKind::Held).map(|entry| entry.at);
                found.push((format!("held {name}"), since, format!("Model {name} is held: {reason}."), Runbook::Held));
            }
            VersionState::Serving
            | VersionState::Candidate
            | VersionState::Available
            | VersionState::Unchecked
            | VersionState::Settling => {}
        }
        if let Some(snapshot) = version.snapshot.as_ref().filter(|_| version.serves)
            && snapshot.engine().phase() != Phase::Closed
        {
            let text = format!(
                "The breaker of {name} is {}: answers come from the ladder.",
                snapshot.engine().phase().as_str()
            );
            found.push((format!("breaker {name}"), None, text, Runbook::Breaker));
        }
    }
}

fn answers(findings: &Findings, found: &mut Vec<Found>) {
    let seconds = findings.traffic.seconds.iter().rev().take(FALLBACK_SECONDS);
    let mut all = 0;
    let mut below = 0;
    let mut reasons = [0_u64; FallbackReason::ALL.len()];
    for second in seconds {
        all += second.sources.iter().copied().map(u64::from).sum::<u64>();
        below += [Source::StaleCache, Source::Fallback]
            .map(|source| u64::from(second.sources[source as usize]))
            .iter()
            .sum::<u64>();
        reasons.iter_mut().zip(second.reasons).for_each(|(sum, reason)| *sum += u64::from(reason));
    }
    let share = below as f64 / all.max(1) as f64;
    if share > FALLBACKS && all >= FALLBACK_ANSWERS {
        let text = format!(
            "{} of the answers of the last ten minutes came from a fallback{}.",
            Percent(share),
            in_brackets(&reasons)
        );
        found.push(("fallbacks".to_owned(), None, text, Runbook::Fallbacks));
    }
    let recent = findings.traffic.recent.reading.requests();
    if recent.p99 > SLOW && recent.count >= SLOW_REQUESTS {
        let text = format!("One request in a hundred of the last minute took longer than {}.", duration(recent.p99));
        found.push(("slow".to_owned(), None, text, Runbook::Slow));
    }
    if let Some(trouble) = findings.store_trouble.clone() {
        let text = format!("The store does not do its work: {}. Predictions are answered.", trouble.reason());
        found.push(("store".to_owned(), None, text, Runbook::Store));
    }
}

fn drift(findings: &Findings, found: &mut Vec<Found>) {
    for (status, window) in findings.drift.iter().filter_map(|status| Some((status, status.closed.as_ref()?))) {
        let columns: Vec<_> =
            window.columns.iter().filter(|column| column.alarm).map(|column| column.subject.as_str()).collect();
        if !columns.is_empty() {
            let (model, version) = (&status.model, &status.version);
            let text = format!("Drift of {model} {version}: {} no longer as in training.", first_of(&columns));
            found.push((format!("drift {model}"), None, text, Runbook::Drift));
        }
    }
    for (model, version, quality) in &findings.stored.quality {
        for (level, share) in quality.coverage.iter().filter(|(_, share)| share.n >= COVERAGE_OUTCOMES) {
            if (share.share - level).abs() > COVERAGE && !(share.low..=share.high).contains(level) {
                let text = format!(
                    "Intervals of {model} {version} hold {} of the outcomes instead of {}.",
                    Percent(share.share),
                    Percent(*level)
                );
                found.push((format!("coverage {model} {level}"), None, text, Runbook::Calibration));
            }
        }
    }
}

/// The first few names, and how many more there are.
fn first_of(names: &[&str]) -> String {
    const NAMED: usize = 4;
    let named = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn jobs(findings: &Findings, found: &mut Vec<Found>) {
    for (job, status) in findings.jobs.iter().filter(|(_, status)| status.failures > 0) {
        let Some(last) = &status.last else { continue };
        let RunResult::Failed(reason) = &last.result else { continue };
        let job = job.as_str();
        let times = if status.failures == 1 { String::new() } else { format!(" {} times in a row", status.failures) };
        let mut text = format!("Job {job} failed{times}: {reason}.");
        if let Some(success) = status.last_success {
            let _ = write!(text, " It last did its work {} ago.", age(success, findings.now));
        }
        found.push((format!("job {job}"), None, text, Runbook::Job));
    }
}

fn writes(findings: &Findings, found: &mut Vec<Found>) {
    for (target, state, reason) in &findings.pauses {
        let text = format!("Target {target} pauses ({state}): {reason}.");
        found.push((format!("paused {target}"), None, text, Runbook::Paused));
    }
    for target in &findings.stored.targets {
        let (name, what) = (&target.name, if target.is_of_leads { "scores of leads" } else { "profiles" });
        if target.counts.dead > 0 {
            let dead = target.counts.dead;
            let text = format!("{dead} {what} could not be written to {name} and were given up.");
            found.push((format!("dead {name}"), None, text, Runbook::Dead));
        }
        if let Some(oldest) = target.oldest_seconds.filter(|oldest| *oldest > BACKLOG && target.counts.pending > 0) {
            let pending = target.counts.pending;
            let text = format!("{pending} {what} wait for {name}, the oldest for {}.", duration(oldest as f64));
            found.push((format!("backlog {name}"), None, text, Runbook::Backlog));
        }
    }
}

/// The reasons that there were, the commonest first; nothing without any.
pub(super) fn in_brackets(reasons: &[u64; FallbackReason::ALL.len()]) -> String {
    let mut counted: Vec<_> = FallbackReason::ALL.into_iter().zip(*reasons).filter(|(_, count)| *count > 0).collect();
    counted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let total: u64 = reasons.iter().sum();
    let words: Vec<_> = match counted.as_slice() {
        [] => return String::new(),
        [(only, _)] => vec![only.as_str().to_owned()],
        several => {
            let word = |(reason, count): &(FallbackReason, u64)| {
                format!("{} {}", reason.as_str(), Percent(*count as f64 / total as f64))
            };
            several.iter().map(word).collect()
        }
    };
    format!(" ({})", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chapter_of_the_runbook_is_in_the_document() {
        let page = include_str!("../../../../docs/operate.md");
        let slug = |title: &str| -> String {
            let kept: String =
                title.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect();
            kept.replace(' ', "-")
        };
        let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix('#')).collect();
        let anchors: Vec<_> = headings.iter().map(|line| slug(line.trim_start_matches(['#', ' ']))).collect();
        for chapter in Runbook::ALL {
            assert!(anchors.iter().any(|anchor| anchor == chapter.anchor()), "{DOCUMENT}#{}", chapter.anchor());
        }
    }

    #[test]
    fn reasons_are_named_with_their_shares() {
        assert_eq!(in_brackets(&[0; 4]), "");
        assert_eq!(in_brackets(&[0, 7, 0, 0]), " (model_deadline)");
        assert_eq!(in_brackets(&[1, 3, 0, 0]), " (model_deadline 75 %, model_overloaded 25 %)");
    }
}
