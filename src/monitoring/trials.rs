//! Candidates being compared with what serves: one trial for each pair of them, with its counts and statistics.
//!
//! A trial begins with the first row that is put to its candidate and ends when the candidate is none any more. The
//! counts are atomic, because requests add to them; the statistics are for the one task that compares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use metrics::{Counter, counter, describe_counter, describe_gauge, gauge};

use super::comparison::{Comparison, Judgement, Summary, WINDOW};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::inference::bundle::BundleDigest;
use scoreline_engine::inference::registry::{Candidate, CandidateMode, ModelRoute};

/// Tells the recorder what the metrics mean.
pub fn describe() {
    for (name, meaning) in [
        (
            "scoreline_candidate_rows_total",
            "Rows that the candidate scored: for comparison in shadow, as answers in canary.",
        ),
        (
            "scoreline_candidate_failures_total",
            "Rows that the candidate could not score; none of them went unanswered.",
        ),
        ("scoreline_candidate_dropped_total", "Rows that were not compared, by reason."),
    ] {
        describe_counter!(name, meaning);
    }
    for (name, meaning) in [
        ("scoreline_candidate_compared_rows", "Rows that both models have scored since this trial began."),
        ("scoreline_candidate_delta", "Candidate score minus serving score: dollars, or points of a probability."),
        (
            "scoreline_candidate_rank_correlation",
            "Spearman's, of both models' scores over the last 2,000 compared rows.",
        ),
        ("scoreline_candidate_tier_flip_rate", "Share of compared rows that the candidate puts in another tier."),
        ("scoreline_candidate_latency_seconds", "Mean time of a run over the compared rows, by side."),
    ] {
        describe_gauge!(name, meaning);
    }
}

/// All trials under way. Finding one is wait-free.
#[derive(Default)]
pub struct Trials {
    open: ArcSwap<Vec<Arc<Trial>>>,
}

/// One candidate beside one serving version.
pub struct Trial {
    model: ModelName,
    version: ModelVersion,
    digest: BundleDigest,
    against: ModelVersion,
    against_digest: BundleDigest,
    mode: &'static str,
    rows: CountedMetric,
    failures: CountedMetric,
    busy: CountedMetric,
    unpaired: CountedMetric,
    /// Locked for one row, or to be copied.
    comparison: Mutex<Comparison>,
}

/// How a trial stands, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialStatus {
    pub model: ModelName,
    pub version: ModelVersion,
    pub digest: BundleDigest,
    /// The serving version that it is compared with.
    pub against: ModelVersion,
    pub mode: &'static str,
    /// Rows that the candidate scored.
    pub scored: u64,
    pub failures: u64,
    /// Rows that were not compared.
    pub dropped: u64,
    /// `None` before the first compared row.
    pub summary: Option<Summary>,
}

/// A count that people see as a metric and as a number.
struct CountedMetric {
    counter: Counter,
    count: AtomicU64,
}

impl Trials {
    /// The trial of a route's candidate; begun when it is new.
    pub fn of(&self, route: &ModelRoute, candidate: &Candidate) -> Arc<Trial> {
        let found = |open: &[Arc<Trial>]| open.iter().find(|trial| trial.is_of(route, candidate)).cloned();
        if let Some(trial) = found(&self.open.load()) {
            return trial;
        }
        let new = Arc::new(Trial::new(route, candidate));
        let before = self.open.rcu(|open| {
            if found(open).is_some() {
                return Arc::clone(open);
            }
            // A model has one candidate: what was compared before is over.
            let others = open.iter().filter(|trial| trial.model != new.model).cloned();
            Arc::new(others.chain([Arc::clone(&new)]).collect())
        });
        found(&before).unwrap_or(new)
    }

    /// Ends the trials that `goes_on` does not hold for.
    pub fn retain(&self, goes_on: impl Fn(&Trial) -> bool) {
        if self.open.load().iter().all(|trial| goes_on(trial)) {
            return;
        }
        let before = self.open.rcu(|open| open.iter().filter(|trial| goes_on(trial)).cloned().collect::<Vec<_>>());
        before.iter().filter(|trial| !goes_on(trial)).for_each(|trial| trial.report(None));
    }

    pub fn status(&self) -> Vec<TrialStatus> {
        self.open.load().iter().map(|trial| trial.status()).collect()
    }

    /// Sets the gauges.
    pub fn report(&self) {
        for trial in &**self.open.load() {
            let summary = trial.comparison().clone().summary();
            trial.report(summary.as_ref());
        }
    }
}

impl Trial {
    fn new(route: &ModelRoute, candidate: &Candidate) -> Self {
        let (model, version) = (candidate.snapshot.name().clone(), candidate.snapshot.version().clone());
        let mode = candidate.mode.as_str();
        let with = |name: &'static str, label: Option<(&'static str, &'static str)>| {
            let own = [("model", model.to_string()), ("version", version.to_string())];
            let labels: Vec<_> = own.into_iter().chain(label.map(|(key, value)| (key, value.to_owned()))).collect();
            CountedMetric { counter: counter!(name, &labels), count: AtomicU64::new(0) }
        };
        Self {
            rows: with("scoreline_candidate_rows_total", Some(("mode", mode))),
            failures: with("scoreline_candidate_failures_total", None),
            busy: with("scoreline_candidate_dropped_total", Some(("reason", "busy"))),
            unpaired: with("scoreline_candidate_dropped_total", Some(("reason", "serving_failed"))),
            digest: *candidate.snapshot.digest(),
            against: route.serving.version().clone(),
            against_digest: *route.serving.digest(),
            mode,
            comparison: Mutex::new(Comparison::new(WINDOW)),
            model,
            version,
        }
    }

    pub fn model(&self) -> &ModelName {
        &self.model
    }

    /// Whether this is the trial of a route's candidate.
    pub fn is_of(&self, route: &ModelRoute, candidate: &Candidate) -> bool {
        self.digest == *candidate.snapshot.digest()
            && self.against_digest == *route.serving.digest()
            && self.mode == candidate.mode.as_str()
    }

    /// A canary has answered a row.
    pub fn answered(&self) {
        self.rows.add();
    }

    /// Both models have scored a row.
    pub fn compared(&self, serving: &Judgement, candidate: &Judgement) {
        if self.mode == CandidateMode::Shadow.as_str() {
            self.rows.add();
        }
        self.comparison().record(serving, candidate);
    }

    /// The candidate could not score a row. The first time is worth a line; the metric counts the others.
    pub fn failed(&self, reason: &dyn std::fmt::Display) {
        let (model, version) = (&self.model, &self.version);
        if self.failures.add() == 0 {
            tracing::warn!(%model, %version, %reason, "candidate gave no answer; further failures are only counted");
        } else {
            tracing::debug!(%model, %version, %reason, "candidate gave no answer");
        }
    }

    /// A row is not compared, because those before it are not done.
    pub fn busy(&self) {
        self.busy.add();
    }

    /// A row that a canary answered is not compared, because the serving version could not score it.
    pub fn unpaired(&self) {
        self.unpaired.add();
    }

    pub fn status(&self) -> TrialStatus {
        let comparison = self.comparison().clone();
        TrialStatus {
            model: self.model.clone(),
            version: self.version.clone(),
            digest: self.digest,
            against: self.against.clone(),
            mode: self.mode,
            scored: self.rows.get(),
            failures: self.failures.get(),
            dropped: self.busy.get() + self.unpaired.get(),
            summary: comparison.summary(),
        }
    }

    /// Not a number where there is nothing to say, or nothing any more.
    fn report(&self, summary: Option<&Summary>) {
        let own = [("model", self.model.to_string()), ("version", self.version.to_string())];
        let set = |name: &'static str, label: Option<(&'static str, &'static str)>, value: Option<f64>| {
            let labels: Vec<_> = own.iter().cloned().chain(label.map(|(key, value)| (key, value.to_owned()))).collect();
            gauge!(name, &labels).set(value.unwrap_or(f64::NAN));
        };
        let of = |pick: fn(&Summary) -> f64| summary.map(pick);
        set("scoreline_candidate_compared_rows", None, Some(summary.map_or(0.0, |summary| summary.rows as f64)));
        for (stat, value) in [
            ("mean", of(|summary| summary.mean)),
            ("mean_abs", of(|summary| summary.mean_abs)),
            ("p05", of(|summary| summary.p05)),
            ("p50", of(|summary| summary.p50)),
            ("p95", of(|summary| summary.p95)),
        ] {
            set("scoreline_candidate_delta", Some(("stat", stat)), value);
        }
        let correlation = summary.and_then(|summary| summary.rank_correlation);
        set("scoreline_candidate_rank_correlation", None, correlation);
        let flips = summary.and_then(|summary| summary.flips);
        for (direction, rate) in [("up", flips.map(|flips| flips.up)), ("down", flips.map(|flips| flips.down))] {
            set("scoreline_candidate_tier_flip_rate", Some(("direction", direction)), rate);
        }
        for (side, seconds) in
            [("serving", of(|summary| summary.serving_seconds)), ("candidate", of(|summary| summary.candidate_seconds))]
        {
            set("scoreline_candidate_latency_seconds", Some(("side", side)), seconds);
        }
    }

    fn comparison(&self) -> MutexGuard<'_, Comparison> {
        self.comparison.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CountedMetric {
    /// The count before.
    fn add(&self) -> u64 {
        self.counter.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed)
    }

    fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
