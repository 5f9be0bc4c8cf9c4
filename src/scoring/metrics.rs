//! What the pipeline counts. Handles are registered once: counting a prediction is a few atomic additions.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};

use super::cache::ScoreCache;
use super::task::Score;
use super::{AskFault, FallbackReason, Scored, Warning};
use crate::monitoring::Traffic;
use crate::monitoring::traffic::{AnswerCount, REASONS as COUNTED_REASONS};
use scoreline_domain::Source;
use scoreline_domain::resilience::breaker::Phase;
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
        Self {
            by_source: Source::ALL.map(|source| counter!("scoreline_predictions_total", "source" => source.as_str())),
            refused: counter!("scoreline_predictions_refused_total"),
            duration: histogram!("scoreline_prediction_duration_seconds"),
            warnings: WARNINGS.map(|warning| counter!("scoreline_prediction_warnings_total", "kind" => warning.kind())),
            reasons: REASONS.map(|reason| counter!("scoreline_fallbacks_total", "reason" => reason.as_str())),
            coalesced: counter!("scoreline_coalesced_total"),
            unknown_inputs: counter!("scoreline_prediction_warnings_total", "kind" => "unknown_input"),
            traffic,
        }
    }

    pub(super) fn record<E: Score>(&self, scored: &Result<Scored<E>, AskFault>) {
        let Ok(scored) = scored else { return self.refused.increment(1) };
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

    /// Sets the gauges that are read off rather than counted.
    pub(super) fn report(cache: &ScoreCache, registry: &Registry) {
        gauge!("scoreline_cache_entries").set(cache.entries() as f64);
        for snapshot in registry.all_serving() {
            let now = snapshot.engine().phase();
            for phase in Phase::ALL {
                let is = if phase == now { 1.0 } else { 0.0 };
                gauge!("scoreline_breaker_state", "model" => snapshot.name().to_string(), "state" => phase.as_str())
                    .set(is);
            }
        }
        for version in registry.status() {
            let (model, name) = (version.model.to_string(), version.version.to_string());
            for state in VersionState::WORDS {
                let is = if state == version.state.as_str() { 1.0 } else { 0.0 };
                gauge!("scoreline_model_state", "model" => model.clone(), "version" => name.clone(), "state" => state)
                    .set(is);
            }
        }
    }
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
