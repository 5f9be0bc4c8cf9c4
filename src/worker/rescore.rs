//! Customers whose features changed are scored, all of them when another model serves, through the code that answers
//! requests; the score and the wish for their profile are kept in one transaction.
//!
//! Scores are made a few at a time on the threads of the requests, which come first: each few give way, and a model that
//! has no room refuses a batch row like any other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{counter, describe_counter};
use serde::{Deserialize, Serialize};

use super::lease::{HeldLease, Leases};
use super::progress::JobProgress;
use super::schedule::{Cause, Job, JobEnd};
use super::{JobError, position};
use crate::scoring::feature_table::StoredFeatures;
use crate::scoring::{Ask, FallbackReason, Scored, Scorer};
use scoreline_domain::score::{cents, round};
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{CustomerKey, Estimate, JobName, Probability, Source, Tier};
use scoreline_engine::features::catalogue_row;
use scoreline_engine::inference::registry::{CandidateMode, ModelRoute};
use scoreline_store::{CustomerNumber, FeatureChange, FeatureRow, Profile, ScoresSaved, StoredScore};

/// Vectors of a page; their scores are kept in one transaction.
const PAGE: usize = 2_000;
/// Scores between two moments at which requests go first: some tens of microseconds.
const SPELL: usize = 16;
/// Probabilities are written to four digits, as they are answered.
const DIGITS: f64 = 1e4;
/// Where the place is kept that changes of features are scored up to.
const SCORED_KEPT: &str = "rescore";

/// Scores what changed.
#[derive(Clone)]
pub struct Rescore {
    pub scorer: Scorer,
    pub leases: Leases,
    /// The place that profiles are written to, if any.
    pub target: Option<&'static str>,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rescored {
    pub customers: u64,
    /// Of those, without history: scored by their baseline.
    pub cold: u64,
    /// Could not be scored: their features do not fit the model, or it failed on them.
    pub failed: u64,
    /// Profiles that say something else now.
    pub wishes: u64,
    pub elapsed: Duration,
}

/// Up to where changes of features have been scored, and by which models.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct RescorePlace {
    models: String,
    seq: i64,
    /// Where profiles were written to: another place has none of them.
    #[serde(default)]
    target: String,
}

impl Rescore {
    /// Scores everything that is waiting, telling `observe` after each page. `None` while another process is at it.
    ///
    /// # Errors
    /// When there is no model, it gives no answers, or the store does not. What was kept stays.
    pub async fn run(&self, observe: impl FnMut(&Rescored) + Send) -> Result<Option<Rescored>, JobError> {
        let Some(held) = self.leases.take(JobName::Rescore).await? else { return Ok(None) };
        held.during(self.pass(&held, observe)).await.map(Some)
    }

    /// Whether anything is waiting.
    async fn is_due(&self) -> Result<bool, JobError> {
        let Some(place) = position::kept::<RescorePlace>(&self.leases, SCORED_KEPT).await? else { return Ok(true) };
        if (place.models, place.target) != (self.models()?, self.target.unwrap_or_default().to_owned()) {
            return Ok(true);
        }
        let changes = self.leases.store().features_since(place.seq, 1).await?;
        Ok(!changes.changes.is_empty())
    }

    async fn pass(&self, held: &HeldLease, mut observe: impl FnMut(&Rescored) + Send) -> Result<Rescored, JobError> {
        let watch = Stopwatch::start();
        let store = self.leases.store();
        let mut rescored = Rescored::default();
        let mut place = position::kept::<RescorePlace>(&self.leases, SCORED_KEPT).await?.unwrap_or_default();
        loop {
            let target = self.target.unwrap_or_default();
            let models = self.models()?;
            if (place.models.as_str(), place.target.as_str()) != (&models, target) {
                place = RescorePlace { models, seq: 0, target: target.to_owned() };
            }
            let page = store.features_since(place.seq, PAGE).await?;
            if page.changes.is_empty() && page.seq == place.seq {
                break;
            }
            let scores = self.score(&page.changes, &mut rescored).await?;
            let targets: Vec<&str> = self.target.into_iter().collect();
            let now = self.leases.clock().now();
            let ScoresSaved { wishes, .. } = store.save_scores(&scores, &targets, now, Some(held.lease())).await?;
            place.seq = page.seq;
            // After the scores: a kill in between scores them once more, to the same effect.
            position::keep(&self.leases, held, SCORED_KEPT, &place).await?;
            rescored.wishes += wishes;
            rescored.elapsed = watch.elapsed();
            observe(&rescored);
            if !page.more {
                break;
            }
        }
        rescored.elapsed = watch.elapsed();
        rescored.report();
        Ok(rescored)
    }

    async fn score(
        &self,
        changes: &[FeatureChange],
        rescored: &mut Rescored,
    ) -> Result<Vec<(CustomerNumber, StoredScore, Profile)>, JobError> {
        let changed: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                FeatureChange::Saved { number, customer, features } => Some((*number, *customer, features)),
                // Who is erased has no score either.
                FeatureChange::Gone { .. } => None,
            })
            .collect();
        let numbers: Vec<_> = changed.iter().map(|(number, ..)| *number).collect();
        let tiers = self.leases.store().tiers_of(&numbers).await?;
        let mut scores = Vec::with_capacity(changed.len());
        let mut failed = 0;
        let asked = changed.len() as u64;
        for few in changed.chunks(SPELL) {
            for (number, customer, features) in few {
                match self.score_one(*customer, features, &tiers, *number).await? {
                    Some(scored) => {
                        rescored.customers += 1;
                        rescored.cold += u64::from(scored.source == Source::ColdStart);
                        counter!("scoreline_rescored_customers_total", "source" => scored.source.as_str()).increment(1);
                        scores.push((*number, stored(&scored, features), profile(&scored)));
                    }
                    None => failed += 1,
                }
            }
            tokio::task::yield_now().await;
        }
        counter!("scoreline_rescored_customers_total", "source" => "none").increment(failed);
        // A few rows that a model cannot answer must not hold up all others; a model that answers nobody must.
        if failed > 0 && failed == asked {
            return Err(JobError::NotScored { failed, asked });
        }
        if failed > 0 {
            tracing::warn!(failed, asked, "some customers could not be scored and keep the score they had");
        }
        rescored.failed += failed;
        Ok(scores)
    }

    /// `None` when the model has no answer for this customer.
    ///
    /// # Errors
    /// When it has none for anybody at the moment.
    async fn score_one(
        &self,
        customer: CustomerKey,
        features: &FeatureRow,
        tiers: &HashMap<CustomerNumber, Tier>,
        number: CustomerNumber,
    ) -> Result<Option<Scored>, JobError> {
        let Some(values) = catalogue_row::from_bytes(&features.vector) else { return Ok(None) };
        let stored = StoredFeatures { as_of: features.as_of, exact_until: features.next_change_at, values };
        let previous = tiers.get(&number).copied();
        let ask = Ask { customer: Some(customer), stored: Some(&stored), previous, ..Ask::default() };
        let Ok(scored) = self.scorer.score(ask).await else { return Ok(None) };
        match (scored.source, scored.reason) {
            (Source::Model | Source::Cache | Source::ColdStart, _) => Ok(Some(scored)),
            (Source::StaleCache | Source::Fallback, Some(FallbackReason::ModelError) | None) => Ok(None),
            (
                Source::StaleCache | Source::Fallback,
                Some(FallbackReason::Overloaded | FallbackReason::Deadline | FallbackReason::BreakerOpen),
            ) => Err(JobError::NotScored { failed: 1, asked: 1 }),
        }
    }

    /// What makes the scores: another text is another model, or another share of customers for a candidate.
    fn models(&self) -> Result<String, JobError> {
        let name = self.scorer.default_model();
        let route = self.scorer.registry().route(name);
        let Some(route) = route else { return Err(JobError::NoModel { model: name.to_string() }) };
        Ok(models(&route))
    }
}

impl Job for Rescore {
    fn name(&self) -> JobName {
        JobName::Rescore
    }

    fn activate<'a>(&'a self, cause: Cause, progress: &'a JobProgress) -> BoxFuture<'a, Result<JobEnd, JobError>> {
        Box::pin(async move {
            if cause == Cause::Timer && !self.is_due().await? {
                return Ok(JobEnd::Idle { until: None });
            }
            let observe = |rescored: &Rescored| {
                progress.set("customers", rescored.customers);
                progress.set("cold_start", rescored.cold);
                progress.set("failed", rescored.failed);
                progress.set("profile_changes", rescored.wishes);
            };
            Ok(self.run(observe).await?.map_or(JobEnd::Elsewhere, |_| JobEnd::Done))
        })
    }
}

impl Rescored {
    fn report(&self) {
        if self.customers + self.failed > 0 {
            let Self { customers, cold, failed, wishes, elapsed } = *self;
            tracing::info!(customers, cold, failed, wishes, seconds = elapsed.as_secs_f64(), "customers were scored");
        }
    }
}

fn models(route: &ModelRoute) -> String {
    let serving = &route.serving;
    let mut text = format!("{}/{} {}", serving.name(), serving.version(), serving.digest());
    if let Some(candidate) = &route.candidate
        && let CandidateMode::Canary { share } = candidate.mode
    {
        let _ = write!(text, " canary {} {share}", candidate.snapshot.digest());
    }
    text
}

fn stored(scored: &Scored, features: &FeatureRow) -> StoredScore {
    StoredScore {
        estimate: scored.estimate,
        model: scored.snapshot.name().clone(),
        version: scored.version.clone(),
        features_as_of: features.as_of,
        scored_at: scored.scored_at,
    }
}

/// As it is written: to the cent and to four digits. What differs by less is no change; nor is a later time alone, so a
/// profile's time says since when it has said what it says.
fn profile(scored: &Scored) -> Profile {
    let Estimate { value, tier, confidence, risk, .. } = scored.estimate;
    let written = |probability: Probability| round(probability.get(), DIGITS);
    Profile {
        value_usd: cents(value),
        tier,
        confidence: confidence.map(written),
        risk: risk.map(written),
        calculated_at: scored.scored_at,
    }
}

/// Tells the recorder what the metrics of scoring customers mean.
pub(super) fn describe() {
    describe_counter!(
        "scoreline_rescored_customers_total",
        "Customers scored because their features or the model changed, by where the score came from."
    );
}
