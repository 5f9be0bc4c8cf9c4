//! What the pipeline counts. Handles are registered once: counting a prediction is a few atomic additions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::cache::ScoreCache;
use super::task::Score;
use super::{AskFault, FallbackReason, Scored, Warning};
use crate::monitoring::Traffic;
use crate::monitoring::traffic::{AnswerCount, REASONS as COUNTED_REASONS};
use scoreline_domain::Source;
use scoreline_domain::resilience::breaker::Phase;
use scoreline_domain::trace::{self, Attributes};
use scoreline_engine::inference::registry::{Registry, VersionState};

pub(super) struct ScoringMetrics {
    by_source: [Counter; Source::ALL.len()],
    refused: Counter,
    duration: Histogram,
    warnings: [Counter; WARNINGS.len()],
    reasons: [Counter; REASONS.len()],
    /// Questions answered by an equal one that was under way.
    pub coalesced: Counter,
    /// Inputs of data actions that no model knows.
    pub unknown_inputs: Counter,
    traffic: Arc<Traffic>,
    /// Models and versions whose gauges say something.
    shown: Mutex<ShownModels>,
}

/// Models with a breaker, and versions in the folder.
#[derive(Default)]
struct ShownModels {
    models: BTreeSet<String>,
    versions: BTreeSet<(String, String)>,
}

/// One of each kind: the labels are registered before the first of them happens, so that rates start at zero.
const WARNINGS: [Warning; 16] = [
    Warning::Imputed(0),
    Warning::OutsideTraining(0),
    Warning::VersionNotLoaded,
    Warning::UnknownChannel,
    Warning::UnknownSegment,
    Warning::IntervalLevel,
    Warning::UnknownCategory(0),
    Warning::UnknownLeadSource,
    Warning::NothingStored,
    Warning::NothingStoredYet,
    Warning::StoredStale,
    Warning::StoredUnfit,
    Warning::Ignored(0),
    Warning::StoredLacks(0),
    Warning::Stale(0),
    Warning::Future(0),
];
const REASONS: [FallbackReason; COUNTED_REASONS] = FallbackReason::ALL;

impl ScoringMetrics {
    pub(super) fn register(traffic: Arc<Traffic>) -> Self {
        describe();
        Self {
            by_source: Source::ALL.map(|source| counter!("scoreline_predictions_total", "source" => source.as_str())),
            refused: counter!("scoreline_predictions_refused_total"),
            duration: histogram!("scoreline_prediction_duration_seconds"),
            warnings: WARNINGS.map(|warning| counter!("scoreline_prediction_warnings_total", "kind" => warning.kind())),
            reasons: REASONS.map(|reason| counter!("scoreline_fallbacks_total", "reason" => reason.as_str())),
            coalesced: counter!("scoreline_coalesced_total"),
            unknown_inputs: counter!("scoreline_prediction_warnings_total", "kind" => "unknown_input"),
            traffic,
            shown: Mutex::default(),
        }
    }

    pub(super) fn record<E: Score>(&self, scored: &Result<Scored<E>, AskFault>) {
        let Ok(scored) = scored else { return self.refused.increment(1) };
        trace::stage_of("parse", "score", Duration::from_secs_f64(scored.latency_ms / 1e3), || noted(scored));
        self.by_source[scored.source as usize].increment(1);
        self.duration.record(scored.latency_ms / 1e3);
        if let Some(reason) = scored.reason {
            self.reasons[reason as usize].increment(1);
        }
        // An answer often says the same of ten features: one addition a kind is enough.
        let mut tally = [0; WARNINGS.len()];
        for warning in &scored.warnings {
            tally[warning.index()] += 1;
        }
        for (counter, times) in self.warnings.iter().zip(tally).filter(|(_, times)| *times > 0) {
            counter.increment(times);
        }
        self.traffic.counts().answer(&AnswerCount {
            source: scored.source,
            tier: scored.estimate.tier(),
            reason: scored.reason.map(|reason| reason as usize),
            is_imputed: tally[Warning::Imputed(0).index()] > 0,
            is_outside: tally[Warning::OutsideTraining(0).index()] > 0,
            model: scored.snapshot.digest(),
            took: Duration::from_secs_f64(scored.latency_ms / 1e3),
        });
    }

    /// Sets the gauges that are read off rather than counted. What is gone since the last time is not a number any more.
    pub(super) fn report(&self, cache: &ScoreCache, registry: &Registry) {
        gauge!("scoreline_cache_entries").set(cache.entries() as f64);
        let mut now = ShownModels::default();
        for snapshot in registry.all_serving() {
            let phase = snapshot.engine().phase();
            let model = snapshot.name().to_string();
            set_breaker(&model, |other| if other == phase { 1.0 } else { 0.0 });
            now.models.insert(model);
        }
        for version in registry.status() {
            let (model, name) = (version.model.to_string(), version.version.to_string());
            set_state(&model, &name, |state| if state == version.state.as_str() { 1.0 } else { 0.0 });
            now.versions.insert((model, name));
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.models.difference(&now.models).for_each(|model| set_breaker(model, |_| f64::NAN));
        shown.versions.difference(&now.versions).for_each(|(model, name)| set_state(model, name, |_| f64::NAN));
        *shown = now;
    }
}

/// What a trace says of an answer: where it came from, and nothing of what was asked.
fn noted<E>(scored: &Scored<E>) -> Attributes {
    let is_hit = matches!(scored.source, Source::Cache | Source::StaleCache);
    let mut noted = vec![
        ("scoreline.model", scored.snapshot.name().to_string().into()),
        ("scoreline.version", scored.version.to_string().into()),
        ("scoreline.source", scored.source.as_str().into()),
        ("scoreline.cache_hit", is_hit.into()),
    ];
    noted.extend(scored.reason.map(|reason| ("scoreline.reason", reason.as_str().into())));
    noted
}

fn set_breaker(model: &str, value: impl Fn(Phase) -> f64) {
    for phase in Phase::ALL {
        gauge!("scoreline_breaker_state", "model" => model.to_owned(), "state" => phase.as_str()).set(value(phase));
    }
}

fn set_state(model: &str, version: &str, value: impl Fn(&str) -> f64) {
    for state in VersionState::WORDS {
        let labels = [("model", model.to_owned()), ("version", version.to_owned()), ("state", state.to_owned())];
        gauge!("scoreline_model_state", &labels).set(value(state));
    }
}

/// Tells the recorder what the metrics mean.
fn describe() {
    for (name, meaning) in [
        ("scoreline_predictions_total", "Answers by where they came from."),
        ("scoreline_predictions_refused_total", "Questions that cannot be answered as they were asked."),
        ("scoreline_prediction_warnings_total", "Warnings of answers by kind."),
        ("scoreline_fallbacks_total", "Answers that the model did not give, by reason."),
        ("scoreline_coalesced_total", "Questions answered by an equal one that was under way."),
        ("scoreline_explanations_total", "Explanations that were asked for, by what became of them."),
    ] {
        describe_counter!(name, meaning);
    }
    for (name, meaning) in [
        ("scoreline_cache_entries", "Scores in the cache."),
        ("scoreline_breaker_state", "1 at the state that the breaker of the serving model is in."),
        ("scoreline_model_state", "1 at the state that a version in the models folder is in."),
        ("scoreline_self_probe_ok", "1 while the serving model, or a step of its fallbacks, answers as it should."),
    ] {
        describe_gauge!(name, meaning);
    }
    describe_histogram!("scoreline_prediction_duration_seconds", "Time of a score, without the request around it.");
    describe_histogram!("scoreline_explanation_duration_seconds", "Time of an explanation, by method.");
}

impl Warning {
    fn index(self) -> usize {
        match self {
            Self::Imputed(_) => 0,
            Self::OutsideTraining(_) => 1,
            Self::VersionNotLoaded => 2,
            Self::UnknownChannel => 3,
            Self::UnknownSegment => 4,
            Self::IntervalLevel => 5,
            Self::UnknownCategory(_) => 6,
            Self::UnknownLeadSource => 7,
            Self::NothingStored => 8,
            Self::NothingStoredYet => 9,
            Self::StoredStale => 10,
            Self::StoredUnfit => 11,
            Self::Ignored(_) | Self::Unused(..) => 12,
            Self::StoredLacks(_) => 13,
            Self::Stale(_) => 14,
            Self::Future(_) => 15,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_match_their_labels() {
        for (index, warning) in WARNINGS.iter().enumerate() {
            assert_eq!(warning.index(), index);
        }
        for (index, source) in Source::ALL.iter().enumerate() {
            assert_eq!(*source as usize, index);
        }
        for (index, reason) in REASONS.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }
}
