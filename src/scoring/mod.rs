//! The scoring pipeline, on one screen: what is asked, the ladder, what is answered.
//!
//! model -> fresh cache -> stale cache -> segment baseline -> channel baseline -> neutral. Every request gets an answer
//! from one immutable snapshot; nothing here waits for disk or network, and for another request only where it asks the
//! same of a model that has threads of its own, within its own deadline.

pub mod baseline;
mod by_id;
pub mod cache;
mod candidate;
mod caught;
pub mod estimate;
pub mod explanation;
pub mod feature_table;
mod flight;
pub mod gate;
pub mod golden;
mod last_tiers;
mod metrics;
pub(crate) mod places;
pub mod predictive;
pub mod replay;
mod run;
pub mod self_probe;
pub mod task;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::civil::Date;
use smallvec::SmallVec;

use crate::monitoring::{Monitoring, ScoredRow};
use scoreline_domain::catalogued;
use scoreline_domain::template::is_input_name;
use scoreline_domain::time::{Clock, Stopwatch, Timestamp, seconds_between};
use scoreline_domain::trace;
use scoreline_domain::{CustomerKey, Estimate, LeadScore, ModelName, ModelVersion, RollingPlaces, Source, Tier};
use scoreline_engine::features::{FeatureFault, Given, Value, schema};
use scoreline_engine::inference::bundle::{BundleDigest, ReadCustomer};
use scoreline_engine::inference::engine::Engine;
use scoreline_engine::inference::manifest::Task;
use scoreline_engine::inference::registry::{ModelRoute, Registry};
use scoreline_engine::inference::{BackendError, ModelSnapshot};

use baseline::KnownLabels;
use cache::{CachedScore, Question, ScoreCache};
use candidate::{Beside, Comparing, judgement};
use estimate::Wish;
use explanation::ExplainSettings;
use feature_table::{FeatureTable, StoredFeatures};
use flight::{FlightKey, Flights, Joined};
use metrics::ScoringMetrics;
use places::{LeadPlaces, UnkeptLeads};
use run::{RunFailure, TimeLimit};
use task::{Score, StandIn, TaskScore};

/// One question about one customer or lead.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Which model answers; the configured one of the task when absent.
    pub model: Option<&'a str>,
    /// The version the caller would like.
    pub version: Option<&'a str>,
    pub customer: Option<CustomerKey>,
    /// Named values, `None` for null; absent when only the customer is given.
    pub features: Option<&'a [(&'a str, Option<Value<'a>>)]>,
    /// What is stored of the customer, where it has been looked up already.
    pub stored: Option<&'a StoredFeatures>,
    /// When the features were computed, where the caller says so.
    pub dated: Option<Timestamp>,
    pub known: KnownLabels<'a>,
    pub prefer: Prefer,
    /// Level of the interval; the model's own when absent.
    pub level: Option<f64>,
    /// The tier the customer has been in; their last score's when absent.
    pub previous: Option<Tier>,
    /// Longest wait for a model that runs on threads of its own; capped by the settings. With zero there is no time for
    /// any model and the ladder answers at once.
    pub deadline: Option<Duration>,
    /// There is no room to ask the model: the ladder answers without it.
    pub shed: bool,
}

/// Which score is wanted when the customer has a recent one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Prefer {
    /// The answer to exactly these features.
    #[default]
    Exact,
    /// The customer's last score, whatever the features: routing never runs the model for a customer it knows.
    LastScore,
}

/// The answer with everything that is said about it.
#[derive(Clone, Debug)]
pub struct Scored<E = Estimate> {
    /// What the task answers with.
    pub estimate: E,
    pub source: Source,
    /// Why the ladder stepped down; absent on success.
    pub reason: Option<FallbackReason>,
    /// The snapshot that answered; warnings refer to its schema.
    pub snapshot: Arc<ModelSnapshot>,
    /// The version that made the score: the snapshot's, unless the score is a cached one.
    pub version: ModelVersion,
    pub interval_level: Option<f64>,
    pub scored_at: Timestamp,
    pub age_seconds: u64,
    /// The time of the stored features it was made from; absent when the request brought the features.
    pub features_as_of: Option<Timestamp>,
    pub latency_ms: f64,
    pub warnings: Warnings,
    pub baseline: Option<BaselineUsed>,
}

impl<E> Scored<E> {
    /// Whether nothing is known of whom it is about: to be routed as if there were no score.
    pub fn is_neutral(&self) -> bool {
        self.baseline.as_ref().is_some_and(|used| used.level == NEUTRAL)
    }

    /// How old the stored features are that it was made from.
    pub fn features_age_seconds(&self) -> Option<u64> {
        Some(seconds_between(self.features_as_of?, self.scored_at) + self.age_seconds)
    }
}

pub type Warnings = SmallVec<[Warning; 24]>;

/// Features that a caller dates further back are named as old: a score is not kept longer either.
const FEATURES_FRESH: SignedDuration = SignedDuration::from_hours(24);
/// How far the caller's clock may be ahead of ours.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);
/// The request's field for it, and the column of a table.
pub const FEATURES_TIME: &str = "timestamp_utc";
/// What may stand there.
pub const TIME_ALLOWED: &str = "an RFC 3339 time such as `2023-10-27T14:30:00Z`";

/// Something the caller should know about an otherwise good answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning {
    /// The feature at this position of the schema was missing and imputed by the bundle's rule.
    Imputed(u16),
    /// The feature at this position has a possible value that training never saw.
    OutsideTraining(u16),
    /// The categorical feature at this position has a category that training never saw: as good as missing.
    UnknownCategory(u16),
    /// The catalogued feature at this position of the catalogue was given, and the model does not read it.
    Ignored(u16),
    /// The feature at the first position was given, and it is not used for want of the one at the second.
    Unused(u16, u16),
    /// The given features are so many minutes old, by the time they came with.
    Stale(u32),
    /// The given features are from a time that is so many minutes ahead.
    Future(u32),
    /// The requested version is not loaded; the serving one answered.
    VersionNotLoaded,
    /// The acquisition channel has no baseline.
    UnknownChannel,
    /// The segment has no baseline.
    UnknownSegment,
    /// The lead source has no baseline.
    UnknownLeadSource,
    /// The interval is of another level than was asked for: the score is an earlier one, or a baseline.
    IntervalLevel,
    /// Nothing is stored of the customer: a baseline answered.
    NothingStored,
    /// As `NothingStored`, while the stored features are still being read after a start.
    NothingStoredYet,
    /// What is stored of the customer is old, and time may have changed it since.
    StoredStale,
    /// What is stored of the customer is not what this model needs: a baseline answered.
    StoredUnfit,
    /// There is history of the customer, but none of the kind that this model answers from: the feature at this position
    /// is 0, and a baseline answered. Purchases without an interaction are the usual case.
    StoredLacks(u16),
}

impl Warning {
    /// What there is to say about the features a model was given.
    pub fn of_features(given: &Given) -> impl Iterator<Item = Self> {
        let imputed = given.missing.iter().copied().map(Self::Imputed);
        let unknown = given.unknown.iter().copied().map(Self::UnknownCategory);
        let ignored = given.ignored.iter().copied().map(Self::Ignored);
        let unused = given.unused.iter().map(|(position, wanting)| Self::Unused(*position, *wanting));
        let outside = given.outside.iter().copied().map(Self::OutsideTraining);
        imputed.chain(outside).chain(unknown).chain(ignored).chain(unused)
    }

    /// What there is to say about the time that features came with.
    pub fn of_time(dated: Timestamp, now: Timestamp) -> Option<Self> {
        let age = now.duration_since(dated);
        let minutes = u32::try_from(age.as_mins().unsigned_abs()).unwrap_or(u32::MAX);
        if age > FEATURES_FRESH {
            Some(Self::Stale(minutes))
        } else if -age > CLOCKS_DIFFER {
            Some(Self::Future(minutes))
        } else {
            None
        }
    }

    /// What there is to say about a channel and a segment that a baseline was looked up by.
    pub fn of_names(known: KnownLabels<'_>, snapshot: &ModelSnapshot) -> impl Iterator<Item = Self> + use<> {
        let tables = &snapshot.manifest().baselines;
        let channel = known.channel.is_some_and(|channel| !tables.channel.contains_key(channel));
        let segment = known.segment.is_some_and(|segment| !tables.segment.contains_key(segment));
        channel.then_some(Self::UnknownChannel).into_iter().chain(segment.then_some(Self::UnknownSegment))
    }

    /// Kind for metrics: a handful of fixed words.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Imputed(_) => schema::IMPUTED,
            Self::OutsideTraining(_) => schema::OUTSIDE,
            Self::UnknownCategory(_) => schema::UNKNOWN_CATEGORY,
            Self::Ignored(_) | Self::Unused(..) => schema::IGNORED,
            Self::Stale(_) => "stale",
            Self::Future(_) => "future",
            Self::UnknownLeadSource => "lead_source_unknown",
            Self::VersionNotLoaded => "model_version_not_loaded",
            Self::UnknownChannel => "acquisition_channel_unknown",
            Self::UnknownSegment => "segment_unknown",
            Self::IntervalLevel => "interval_level_not_available",
            Self::NothingStored => "no_stored_features",
            Self::NothingStoredYet => "stored_features_loading",
            Self::StoredStale => "stored_features_stale",
            Self::StoredUnfit => "stored_features_not_usable",
            Self::StoredLacks(_) => schema::LACKING,
        }
    }

    /// What the caller reads: the word, and the feature where there is one.
    pub fn text(self, snapshot: &ModelSnapshot) -> Cow<'_, str> {
        let remarks = |position: u16| snapshot.schema().remarks(usize::from(position));
        Cow::Borrowed(match self {
            Self::Stale(minutes) => {
                return Cow::Owned(format!("{}: {FEATURES_TIME} is {} old", self.kind(), span(minutes)));
            }
            Self::Future(minutes) => {
                return Cow::Owned(format!("{}: {FEATURES_TIME} is {} ahead", self.kind(), span(minutes)));
            }
            Self::Unused(position, wanting) => {
                let [name, wanting] = [position, wanting].map(|at| &snapshot.schema().rules()[usize::from(at)].name);
                return Cow::Owned(format!("{}: {name} (needs {wanting})", self.kind()));
            }
            Self::Imputed(position) => &remarks(position).imputed,
            Self::OutsideTraining(position) => &remarks(position).outside,
            Self::UnknownCategory(position) => &remarks(position).unknown_category,
            Self::Ignored(position) => schema::ignored_remark(position),
            Self::StoredLacks(position) => &remarks(position).lacking,
            Self::VersionNotLoaded
            | Self::UnknownChannel
            | Self::UnknownSegment
            | Self::UnknownLeadSource
            | Self::IntervalLevel
            | Self::NothingStored
            | Self::NothingStoredYet
            | Self::StoredStale
            | Self::StoredUnfit => self.kind(),
        })
    }
}

/// A span in the largest unit that there are at least two of.
fn span(minutes: u32) -> String {
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

/// Why an answer is not the model's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FallbackReason {
    /// Every worker of the model was busy and its queue full.
    Overloaded,
    /// The model did not answer in time.
    Deadline,
    /// The model failed or gave something that is not a number.
    ModelError,
    /// The model kept failing and is not asked until a probe succeeds.
    BreakerOpen,
}

impl FallbackReason {
    pub const ALL: [Self; 4] = [Self::Overloaded, Self::Deadline, Self::ModelError, Self::BreakerOpen];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overloaded => "model_overloaded",
            Self::Deadline => "model_deadline",
            Self::ModelError => "model_error",
            Self::BreakerOpen => "model_breaker_open",
        }
    }
}

/// The level of a baseline that nothing is known behind: neither a segment, a channel nor a lead source.
pub const NEUTRAL: &str = "neutral";

/// The baseline behind an answer: its table, its entry, and how much its own customers count.
#[derive(Clone, Debug, PartialEq)]
pub struct BaselineUsed {
    pub level: &'static str,
    pub name: String,
    pub customers: u32,
    pub weight: f64,
    /// The day from which its customers' spend was counted.
    pub as_of: Option<Date>,
}

/// A question that cannot be answered as asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AskFault {
    #[error(transparent)]
    Feature(#[from] FeatureFault),
    #[error("either `features` or an id is required: `customerId`, `leadId` of a lead")]
    Nothing,
    #[error("`model` is not loaded; loaded are {loaded}")]
    UnknownModel { loaded: String },
    #[error("model `{model}` is a `{}` model and answers another question", task.as_str())]
    OtherTask { model: ModelName, task: Task },
    /// Only in strict mode.
    #[error("`model_version` is not loaded; serving is `{serving}`")]
    VersionNotLoaded { serving: ModelVersion },
    #[error("`interval_level` must be one that this model is calibrated for ({})", list(levels))]
    IntervalLevel { levels: Vec<f64> },
    /// No model for the question: nothing to answer from, not even a baseline.
    #[error("no model is loaded: `{model}` is missing")]
    NoModel { model: ModelName },
}

fn list(levels: &[f64]) -> String {
    if levels.is_empty() {
        return "none".to_owned();
    }
    levels.iter().map(|level| format!("`{level}`")).collect::<Vec<_>>().join(", ")
}

/// Settings of the pipeline.
#[derive(Clone, Debug)]
pub struct ScorerSettings {
    /// The model behind `/v1/predict/clv`.
    pub clv_model: ModelName,
    /// The model behind `/v1/predict/lead`.
    pub lead_model: ModelName,
    /// Refuse a version that is not loaded instead of answering with a warning.
    pub strict_version: bool,
    pub deadline: Duration,
    pub cache_bytes: u64,
    pub cache_ttl: Duration,
    pub explain: ExplainSettings,
}

/// Answers questions. Every request takes a clone of its own: one count goes up.
#[derive(Clone)]
pub struct Scorer {
    parts: Arc<ScorerParts>,
}

/// What a scorer is made of.
struct ScorerParts {
    registry: Arc<Registry>,
    cache: ScoreCache,
    /// What questions without features are answered from.
    table: FeatureTable,
    clock: Arc<dyn Clock>,
    settings: ScorerSettings,
    metrics: ScoringMetrics,
    monitoring: Monitoring,
    flights: Flights,
    comparing: Comparing,
    places: LeadPlaces,
}

impl Scorer {
    /// `monitoring` sees every row that a model scores; questions without features are answered from `table`.
    pub fn new(
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        settings: ScorerSettings,
        monitoring: Monitoring,
        table: FeatureTable,
    ) -> Self {
        let cache = ScoreCache::new(settings.cache_bytes, settings.cache_ttl);
        let metrics = ScoringMetrics::register(Arc::clone(monitoring.traffic()));
        let flights = Flights::default();
        let comparing = Comparing::new();
        let places = LeadPlaces::default();
        let parts =
            ScorerParts { registry, cache, table, clock, settings, metrics, monitoring, flights, comparing, places };
        Self { parts: Arc::new(parts) }
    }

    /// The time by the clock that scores are dated with.
    pub fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }

    /// The model that answers when none is named.
    pub fn default_model(&self) -> &ModelName {
        &self.parts.settings.clv_model
    }

    /// The model that answers questions of a task that name none.
    pub fn default_of(&self, task: Task) -> &ModelName {
        match task {
            Task::Clv => &self.parts.settings.clv_model,
            Task::Lead => &self.parts.settings.lead_model,
        }
    }

    pub fn registry(&self) -> &Arc<Registry> {
        &self.parts.registry
    }

    pub fn cache(&self) -> &ScoreCache {
        &self.parts.cache
    }

    pub fn table(&self) -> &FeatureTable {
        &self.parts.table
    }

    /// Answers one question about a customer's value.
    ///
    /// # Errors
    /// Only for a question that cannot be answered as asked; a failing model is answered from the ladder.
    pub async fn score(&self, ask: Ask<'_>) -> Result<Scored, AskFault> {
        let scored = self.climb(ask).await;
        self.parts.metrics.record(&scored);
        scored
    }

    /// Whether a question about a customer's value can be answered as asked. Answers nothing.
    ///
    /// # Errors
    /// As `score`.
    pub fn check(&self, ask: &Ask<'_>) -> Result<(), AskFault> {
        let snapshot = &self.route(Task::Clv, ask.model)?.serving;
        self.version_warning(snapshot, ask.version)?;
        interval_level(snapshot, ask.level)?;
        match (ask.features, ask.customer) {
            (Some(features), _) => snapshot.read(features.iter().copied()).map(drop).map_err(AskFault::from),
            (None, Some(_)) => Ok(()),
            (None, None) => Err(AskFault::Nothing),
        }
    }

    /// Answers one question about a lead; `known.channel` is its lead source.
    ///
    /// # Errors
    /// As `score`.
    pub async fn score_lead(&self, ask: Ask<'_>) -> Result<Scored<LeadScore>, AskFault> {
        let mut scored = self.score_lead_of_many(ask).await?;
        self.place_lead(&mut scored);
        Ok(scored)
    }

    /// As `score_lead`, without a place among other leads yet: the priority is only known when `place_lead` has seen it, or
    /// `place_together` all that are asked about together.
    ///
    /// # Errors
    /// As `score`.
    pub async fn score_lead_of_many(&self, ask: Ask<'_>) -> Result<Scored<LeadScore>, AskFault> {
        let scored = self.climb(ask).await;
        self.parts.metrics.record(&scored);
        scored
    }

    /// Gives a lead that was asked about alone its priority.
    pub fn place_lead(&self, lead: &mut Scored<LeadScore>) {
        self.parts.places.place(lead);
    }

    /// Gives leads that were asked about together their priorities.
    pub fn place_together<'s>(&self, leads: impl Iterator<Item = &'s mut Scored<LeadScore>>) {
        self.parts.places.place_together(leads);
    }

    /// The leads that were scored since the last time, by version. Serving versions without any are among them, so that
    /// what is kept of them is read.
    pub fn take_unkept_leads(&self) -> Vec<UnkeptLeads> {
        for snapshot in self.parts.registry.all_serving().iter().filter(|snapshot| snapshot.task() == Task::Lead) {
            self.parts.places.expect(snapshot);
        }
        self.parts.places.take_unkept()
    }

    /// Where leads of a version stand, as it is kept with them: here or by another replica.
    pub fn follow_places(&self, version: BundleDigest, places: RollingPlaces) {
        self.parts.places.follow(version, places);
    }

    /// Leads that could not be kept: they are among the next.
    pub fn give_back_unkept_leads(&self, unkept: UnkeptLeads) {
        self.parts.places.give_back(unkept);
    }

    /// Finds the ladder to climb: the serving version's, unless a candidate takes part.
    async fn climb<E: Score>(&self, ask: Ask<'_>) -> Result<Scored<E>, AskFault> {
        let route = self.route(E::TASK, ask.model)?;
        match &route.candidate {
            None => self.climb_on(&route.serving, None, ask).await,
            // Boxed: an answer without a candidate has no room for one in its future.
            Some(candidate) => Box::pin(self.answer_beside(&route, candidate, ask)).await,
        }
    }

    /// The ladder itself, top to bottom. What the model says is put to the other model of `beside` afterwards.
    async fn climb_on<E: Score>(
        &self,
        snapshot: &Arc<ModelSnapshot>,
        beside: Option<&Beside<'_>>,
        ask: Ask<'_>,
    ) -> Result<Scored<E>, AskFault> {
        let watch = Stopwatch::start();
        let now = self.parts.clock.now();
        let mut answer = AnswerInProgress {
            snapshot,
            now,
            watch,
            warnings: self.warnings(snapshot, &ask, now)?,
            level: interval_level(snapshot, ask.level)?,
            features_as_of: None,
        };
        let last = || {
            let score = self.parts.cache.last(snapshot.name(), ask.customer?, now)?;
            E::from_outcome(score.outcome).map(|estimate| (score, estimate))
        };
        let mut known = last();

        if ask.prefer == Prefer::LastScore
            && let Some((hit, estimate)) = known
        {
            return Ok(answer.cached(&hit, estimate, Source::Cache, None));
        }
        let read = match ask.features {
            Some(features) => snapshot.read(features.iter().copied())?,
            None => self.read_stored::<E>(&mut answer, &ask)?,
        };
        let ReadCustomer::Known(given) = read else {
            let scored = answer.cold_start(ask.known);
            self.log_question(&scored, &ask, None);
            return Ok(scored);
        };
        answer.warnings.extend(Warning::of_features(&given));

        let mut wish = Wish { level: answer.level, previous: ask.previous };
        let asked = wish;
        let is_same = |score: &CachedScore| score.question.is(snapshot, &given.raw, asked);
        if let Some((hit, estimate)) = known.take_if(|(score, _)| is_same(score)) {
            return Ok(answer.repeated(&hit, estimate));
        }
        let deadline =
            ask.deadline.map_or(self.parts.settings.deadline, |asked| asked.min(self.parts.settings.deadline));
        let mut time = TimeLimit { full: self.parts.settings.deadline, left: deadline };
        // Held until the score is in the cache.
        let mut turn = None;
        if let (Engine::Pooled(_), Some(customer), false) = (snapshot.engine(), ask.customer, ask.shed) {
            turn = match self.parts.flights.join(FlightKey::new(snapshot, customer, &given.raw, asked)) {
                Joined::First(turn) => Some(turn),
                Joined::After(first) => {
                    Box::pin(first.ended(deadline)).await;
                    known = last();
                    if let Some((hit, estimate)) = known.take_if(|(score, _)| is_same(score)) {
                        self.parts.metrics.coalesced.increment(1);
                        return Ok(answer.repeated(&hit, estimate));
                    }
                    // The first has failed or gone away, which is no reason for this one to.
                    time.left = deadline.saturating_sub(watch.elapsed());
                    None
                }
            };
        }
        let running = beside.map(|beside| (beside, Stopwatch::start()));
        wish.previous = wish.previous.or_else(|| self.previous_tier(snapshot, ask.customer, now, known.as_ref()));
        let ran = if ask.shed {
            Err(RunFailure::Backend(BackendError::Overloaded))
        } else {
            run::ask::<E>(snapshot, &given.raw, wish, time).await
        };
        let scored = match ran {
            Ok(estimate) => {
                let outcome = estimate.into_outcome();
                let (score, clv) = outcome.watched();
                if let Some((beside, running)) = running {
                    self.parts.comparing.offer(beside, judgement(&estimate, running), &ask, wish);
                }
                self.parts.monitoring.scored(ScoredRow {
                    snapshot,
                    raw: &given.raw,
                    score,
                    estimate: clv,
                    level: answer.level,
                    customer: ask.customer,
                    at: now,
                });
                if let Some(customer) = ask.customer {
                    let question = Question::new(snapshot, &given.raw, asked);
                    self.parts.cache.put(snapshot.name(), customer, answer.to_cache(outcome, question));
                }
                let scored = answer.give(estimate, Source::Model);
                self.log_question(&scored, &ask, wish.previous);
                scored
            }
            Err(failure) => {
                let reason = tell_failure(snapshot, &failure);
                match known {
                    Some((stale, estimate)) => answer.cached(&stale, estimate, Source::StaleCache, Some(reason)),
                    None => answer.fallback(ask.known, reason),
                }
            }
        };
        drop(turn);
        Ok(scored)
    }

    /// The tier that a customer was in last, by the score that is known here or by another replica's.
    fn previous_tier<E: Score>(
        &self,
        snapshot: &ModelSnapshot,
        customer: Option<CustomerKey>,
        now: Timestamp,
        known: Option<&(Arc<CachedScore>, E)>,
    ) -> Option<Tier> {
        let own = known.and_then(|(hit, estimate)| Some((estimate.tier()?, hit.scored_at)));
        match (E::TASK, customer) {
            (Task::Clv, Some(customer)) => self.parts.cache.last_tiers().before(snapshot.name(), customer, now, own),
            _ => None,
        }
    }

    /// How a feature is called that a data action sends under a name: one of the catalogue, or of the model that answers, whose
    /// names may hold what a data action's may not. `None` of names that nobody knows. Every name is known where no model
    /// answers: what is wrong is said by the answer then.
    pub fn feature_named(&self, task: Task, model: Option<&str>) -> impl Fn(&str) -> Option<Cow<'_, str>> + use<> {
        let route = self.route(task, model).ok();
        move |name: &str| {
            let Some(route) = &route else { return Some(Cow::Borrowed(name)) };
            let schema = route.serving.schema();
            if schema.position(name).is_some() || catalogued(name).is_some() {
                return Some(Cow::Borrowed(name));
            }
            let sent = schema.rules().iter().find(|rule| is_input_name(name, &rule.name));
            sent.map(|rule| Cow::Owned(rule.name.clone()))
        }
    }

    /// Counts names that `feature_named` does not know.
    pub fn count_unknown(&self, names: usize) {
        if names > 0 {
            self.parts.metrics.unknown_inputs.increment(names as u64);
        }
    }

    /// The neutral answer of the serving model, for callers that must get numbers whatever they sent. Without a model it
    /// is nothing, in the lowest tier.
    pub fn neutral(&self) -> Estimate {
        self.stand_in_for_nobody()
    }

    /// As `neutral`, of the lead model.
    pub fn neutral_lead(&self) -> LeadScore {
        self.stand_in_for_nobody()
    }

    fn stand_in_for_nobody<E: Score>(&self) -> E {
        let Ok(route) = self.route(E::TASK, None) else { return E::OF_NOBODY };
        E::stand_in(&route.serving, KnownLabels::default(), StandIn::Failure).0
    }

    /// Whether every model answers on the caller's thread, so that no question waits.
    pub fn never_waits(&self) -> bool {
        self.parts.registry.is_inline()
    }

    /// Whether a question about the CLV model has anything to be answered from.
    pub fn can_answer(&self) -> bool {
        self.parts.registry.serving(&self.parts.settings.clv_model).is_some()
    }

    /// Sets the gauges that are read off rather than counted.
    pub fn report_gauges(&self) {
        self.parts.metrics.report(&self.parts.cache, &self.parts.registry);
        self.parts.table.report_gauges(self.now());
        self.close_trials();
    }

    fn route(&self, task: Task, model: Option<&str>) -> Result<Arc<ModelRoute>, AskFault> {
        let route = if let Some(model) = model {
            ModelName::parse(model)
                .ok()
                .and_then(|name| self.parts.registry.route(&name))
                .ok_or_else(|| AskFault::UnknownModel { loaded: self.parts.registry.serving_names() })?
        } else {
            let model = self.default_of(task);
            self.parts.registry.route(model).ok_or_else(|| AskFault::NoModel { model: model.clone() })?
        };
        let serving = &route.serving;
        if serving.task() == task {
            Ok(route)
        } else {
            Err(AskFault::OtherTask { model: serving.name().clone(), task: serving.task() })
        }
    }

    /// What there is to say about a question before anything is looked up.
    fn warnings(&self, snapshot: &ModelSnapshot, ask: &Ask<'_>, now: Timestamp) -> Result<Warnings, AskFault> {
        let mut warnings = self.version_warning(snapshot, ask.version)?;
        // The time of stored features is their own.
        let dated = ask.dated.filter(|_| ask.features.is_some());
        warnings.extend(dated.and_then(|dated| Warning::of_time(dated, now)));
        Ok(warnings)
    }

    fn version_warning(&self, snapshot: &ModelSnapshot, asked: Option<&str>) -> Result<Warnings, AskFault> {
        match asked {
            Some(version) if version != snapshot.version().as_str() => {
                if self.parts.settings.strict_version {
                    let serving = snapshot.version().clone();
                    return Err(AskFault::VersionNotLoaded { serving });
                }
                Ok(smallvec::smallvec![Warning::VersionNotLoaded])
            }
            _ => Ok(Warnings::new()),
        }
    }
}

/// Says in the log that a model gave no answer; why.
fn tell_failure(snapshot: &ModelSnapshot, failure: &RunFailure) -> FallbackReason {
    let reason = failure.reason();
    // An open breaker has said so once, and overload is counted: a line for every call says nothing more.
    if !matches!(reason, FallbackReason::BreakerOpen | FallbackReason::Overloaded) {
        let trace_id = trace::current().map(tracing::field::display);
        tracing::warn!(model = %snapshot.name(), version = %snapshot.version(), reason = reason.as_str(), error = %failure, trace_id, "model gave no answer");
    }
    reason
}

/// The interval level to answer with; `None` for a model without calibration.
///
/// # Errors
/// Names the calibrated levels when `asked` is none of them.
pub fn interval_level(snapshot: &ModelSnapshot, asked: Option<f64>) -> Result<Option<f64>, AskFault> {
    let calibration = snapshot.manifest().interval.as_ref();
    match (asked, calibration) {
        (None, calibration) => Ok(calibration.map(|calibration| calibration.level)),
        (Some(asked), Some(calibration)) => match calibration.position(asked) {
            Some(position) => Ok(Some(calibration.levels[position])),
            None => Err(AskFault::IntervalLevel { levels: calibration.levels.clone() }),
        },
        (Some(_), None) => Err(AskFault::IntervalLevel { levels: Vec::new() }),
    }
}

/// An answer in the making: everything comes from this one snapshot.
struct AnswerInProgress<'a> {
    snapshot: &'a Arc<ModelSnapshot>,
    now: Timestamp,
    watch: Stopwatch,
    warnings: Warnings,
    /// The interval level that was asked for.
    level: Option<f64>,
    /// The time of the stored features it is made from.
    features_as_of: Option<Timestamp>,
}

impl AnswerInProgress<'_> {
    fn give<E: Score>(self, estimate: E, source: Source) -> Scored<E> {
        Scored {
            estimate,
            source,
            reason: None,
            snapshot: Arc::clone(self.snapshot),
            version: self.snapshot.version().clone(),
            interval_level: self.level,
            scored_at: self.now,
            age_seconds: 0,
            features_as_of: self.features_as_of,
            latency_ms: self.watch.elapsed_ms(),
            warnings: self.warnings,
            baseline: None,
        }
    }

    /// The cache's answer to the very same features.
    fn repeated<E: Score>(self, hit: &CachedScore, estimate: E) -> Scored<E> {
        let features_as_of = self.features_as_of;
        Scored { features_as_of, ..self.cached(hit, estimate, Source::Cache, None) }
    }

    /// The customer's earlier score, whatever features it was made from.
    fn cached<E: Score>(
        mut self,
        hit: &CachedScore,
        estimate: E,
        source: Source,
        reason: Option<FallbackReason>,
    ) -> Scored<E> {
        if hit.interval_level != self.level {
            self.warnings.push(Warning::IntervalLevel);
        }
        Scored {
            reason,
            version: hit.version.clone(),
            interval_level: hit.interval_level,
            scored_at: hit.scored_at,
            age_seconds: seconds_between(hit.scored_at, self.now),
            features_as_of: hit.features_as_of,
            ..self.give(estimate, source)
        }
    }

    fn cold_start<E: Score>(self, known: KnownLabels<'_>) -> Scored<E> {
        self.stand_in(known, StandIn::ColdStart, None)
    }

    fn fallback<E: Score>(self, known: KnownLabels<'_>, reason: FallbackReason) -> Scored<E> {
        self.stand_in(known, StandIn::Failure, Some(reason))
    }

    fn stand_in<E: Score>(mut self, known: KnownLabels<'_>, why: StandIn, reason: Option<FallbackReason>) -> Scored<E> {
        self.warnings.extend(E::unknown_names(self.snapshot, known));
        let own = self.snapshot.manifest().interval.as_ref().map(|interval| interval.level);
        if self.level != own {
            self.warnings.push(Warning::IntervalLevel);
            self.level = own;
        }
        let (estimate, used) = E::stand_in(self.snapshot, known, why);
        let source = match why {
            StandIn::ColdStart => Source::ColdStart,
            StandIn::Failure => Source::Fallback,
        };
        Scored { reason, baseline: Some(used), ..self.give(estimate, source) }
    }

    fn to_cache(&self, outcome: TaskScore, question: Question) -> CachedScore {
        let version = self.snapshot.version().clone();
        let (scored_at, features_as_of) = (self.now, self.features_as_of);
        CachedScore { outcome, scored_at, version, interval_level: self.level, features_as_of, question }
    }
}
