//! A version on trial: which customers it answers, and how its scores are held against those of the version that serves.
//!
//! *Canary*: a share of the customers, always the same ones, is answered by the candidate; where it fails, the serving
//! version answers. *Shadow*: the serving version answers everybody. In both, the other model scores the same question
//! after the answer, in one background task that takes a bounded share of a processor: what it scores is compared and
//! then forgotten, never cached, never counted for drift, never an answer.
//!
//! A candidate is chosen by customer: by a mix of the customer's key and the candidate's digest, or of the features
//! when nobody is named. So retries agree, and a larger share keeps the customers it had. Changing the pepper changes
//! which customers a canary answers.
//!
//! The question, read by the other model's schema, waits in a queue for one supervised task, which rests four times as
//! long as it works. What finds the queue full is counted and dropped. A trial belongs to one pair of digests: another
//! serving version starts it anew.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::caught::{Panicked, caught};
use super::estimate::Wish;
use super::run::{self, RunFailure, TimeLimit};
use super::task::Score;
use super::{Ask, AskFault, Scored, Scorer};
use crate::monitoring::comparison::Judgement;
use crate::monitoring::trials::Trial;
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{CustomerKey, Estimate, LeadScore};
use scoreline_engine::features::{Row, Value};
use scoreline_engine::inference::bundle::{BundleDigest, ReadCustomer};
use scoreline_engine::inference::engine::Engine;
use scoreline_engine::inference::manifest::Task;
use scoreline_engine::inference::registry::{Candidate, CandidateMode, ModelRoute};
use scoreline_engine::inference::{BackendError, ModelSnapshot};

/// Rows that may wait to be compared. Those that come while it is full are dropped.
const WAITING: usize = 256;
/// Longest wait for a model with threads of its own. Nobody waits for the result: it only bounds how long one row can
/// hold up the others.
const PATIENCE: Duration = Duration::from_secs(1);
/// The task rests after this much work, four times as long: a trial costs a fifth of one processor at most, and what
/// does not fit in is the part of the traffic that is not sampled.
const SPELL: Duration = Duration::from_micros(500);
const REST: u32 = 4;

/// Rows on their way to be compared.
pub(super) struct Comparing {
    sender: mpsc::Sender<PendingRow>,
    /// Held by the one task that compares.
    receiver: Mutex<mpsc::Receiver<PendingRow>>,
}

/// An answer that the other model of its route is to be asked about.
pub(super) struct Beside<'a> {
    route: &'a Arc<ModelRoute>,
    other: &'a ModelSnapshot,
    answers: Side,
    trial: &'a Arc<Trial>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Side {
    Serving,
    Candidate,
}

/// A row that one model has scored and the other has not.
struct PendingRow {
    route: Arc<ModelRoute>,
    trial: Arc<Trial>,
    answered: Side,
    judgement: Judgement,
    /// In the order of the other model's schema.
    raw: Row,
    wish: Wish,
}

impl Comparing {
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self { sender, receiver: Mutex::new(receiver) }
    }

    /// Puts an answered question to the other model, later. Never waits; while the task is busy, it only counts.
    ///
    /// The question is read anew by the other model's schema: a candidate may use features that the serving version
    /// does not, and number its categories differently.
    pub(super) fn offer(&self, beside: &Beside<'_>, judgement: Judgement, ask: &Ask<'_>, wish: Wish) {
        if beside.answers == Side::Candidate {
            beside.trial.answered();
        }
        let Ok(place) = self.sender.try_reserve() else { return beside.trial.busy() };
        match ask.read(beside.other) {
            Ok(ReadCustomer::Known(given)) => place.send(PendingRow {
                route: Arc::clone(beside.route),
                trial: Arc::clone(beside.trial),
                answered: beside.answers,
                judgement,
                raw: given.raw,
                wish,
            }),
            // One of the models has a score, the other a baseline: there is nothing to compare.
            Ok(ReadCustomer::New) => {}
            Err(fault) => match beside.answers {
                Side::Serving => beside.trial.failed(&fault),
                Side::Candidate => beside.trial.unpaired(),
            },
        }
    }
}

impl Scorer {
    /// Compares until `stop` is ready. A supervised task.
    pub async fn compare(&self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut pending = self.parts.comparing.receiver.lock().await;
        let mut worked = Duration::ZERO;
        loop {
            let next = tokio::select! {
                biased;
                () = &mut stop => return,
                next = pending.recv() => next,
            };
            let Some(next) = next else { return };
            let watch = Stopwatch::start();
            tokio::select! {
                biased;
                () = &mut stop => return,
                () = self.complete(next) => {}
            }
            worked += watch.elapsed();
            if worked >= SPELL {
                tokio::select! {
                    biased;
                    () = &mut stop => return,
                    () = tokio::time::sleep(worked * REST) => {}
                }
                worked = Duration::ZERO;
            }
        }
    }

    /// Compares what waits now. For tests, and for whoever has no task.
    pub async fn catch_up(&self) {
        let mut pending = self.parts.comparing.receiver.lock().await;
        while let Ok(next) = pending.try_recv() {
            self.complete(next).await;
        }
    }

    /// Ends the comparison of candidates that are none any more.
    pub(super) fn close_trials(&self) {
        self.parts.monitoring.trials().retain(|trial| self.goes_on(trial));
    }

    fn goes_on(&self, trial: &Trial) -> bool {
        let route = self.parts.registry.route(trial.model());
        let candidate = route.as_ref().and_then(|route| Some((route, route.candidate.as_ref()?)));
        candidate.is_some_and(|(route, candidate)| trial.is_of(route, candidate))
    }

    /// Rows of a trial that is over only hold on to its models.
    async fn complete(&self, pending: PendingRow) {
        if self.goes_on(&pending.trial) {
            pending.complete().await;
        }
    }

    /// Answers a question about a model that has a candidate.
    pub(super) async fn answer_beside<E: Score>(
        &self,
        route: &Arc<ModelRoute>,
        candidate: &Candidate,
        ask: Ask<'_>,
    ) -> Result<Scored<E>, AskFault> {
        let trial = self.parts.monitoring.trials().of(route, candidate);
        // Once for both models: between two looks the stored features may have been replaced.
        let stored = self.stored(E::TASK, &ask);
        let ask = Ask { stored: stored.as_ref(), ..ask };
        let (serving, tried) = (&route.serving, &candidate.snapshot);
        if tried.task() != E::TASK {
            trial.failed(&format_args!("it is a `{}` model", tried.task().as_str()));
            return self.climb_on(serving, None, ask).await;
        }
        match candidate.mode {
            CandidateMode::Shadow => {
                let beside = Beside { route, other: tried, answers: Side::Serving, trial: &trial };
                self.climb_on(serving, Some(&beside), ask).await
            }
            // Who names the serving version gets it.
            CandidateMode::Canary { share }
                if ask.version != Some(serving.version().as_str()) && takes_part(share, tried.digest(), &ask) =>
            {
                self.answer_by_canary(route, tried, &trial, ask).await
            }
            CandidateMode::Canary { .. } => self.climb_on(serving, None, ask).await,
        }
    }

    /// The candidate's answer; where it has none of its own, the serving version's.
    async fn answer_by_canary<E: Score>(
        &self,
        route: &Arc<ModelRoute>,
        tried: &Arc<ModelSnapshot>,
        trial: &Arc<Trial>,
        ask: Ask<'_>,
    ) -> Result<Scored<E>, AskFault> {
        let watch = Stopwatch::start();
        let limit = ask.deadline.map_or(self.parts.settings.deadline, |asked| asked.min(self.parts.settings.deadline));
        if limit.is_zero() || ask.shed {
            // No model is asked at all, and this one is not to blame for it.
            return self.climb_on(&route.serving, None, ask).await;
        }
        let deadline = match tried.engine() {
            Engine::Inline(_) => ask.deadline,
            // The other half is for the serving version.
            Engine::Pooled(_) => Some(limit / 2),
        };
        let beside = Beside { route, other: &route.serving, answers: Side::Candidate, trial };
        let answer = caught(self.climb_on(tried, Some(&beside), Ask { deadline, ..ask })).await;
        let refusal = match answer {
            Ok(Ok(scored)) => match scored.reason {
                None => return Ok(scored),
                Some(reason) => {
                    trial.failed(&reason.as_str());
                    None
                }
            },
            Ok(Err(fault)) => Some(fault),
            Err(panicked) => {
                trial.failed(&panicked);
                None
            }
        };
        let left = limit.saturating_sub(watch.elapsed());
        let mut scored = self.climb_on(&route.serving, None, Ask { deadline: Some(left), ..ask }).await?;
        if let Some(fault) = refusal {
            // The serving version can answer what the candidate refuses.
            trial.failed(&fault);
        }
        scored.latency_ms = watch.elapsed_ms();
        Ok(scored)
    }
}

impl PendingRow {
    /// Asks the other model and records both.
    async fn complete(self) {
        let Some(candidate) = &self.route.candidate else { return };
        let other = match self.answered {
            Side::Serving => &candidate.snapshot,
            Side::Candidate => &self.route.serving,
        };
        match (self.answered, judge(other, &self.raw, self.wish).await) {
            (Side::Serving, Ok(Ok(judged))) => self.trial.compared(&self.judgement, &judged),
            (Side::Candidate, Ok(Ok(judged))) => self.trial.compared(&judged, &self.judgement),
            // Its own threads have more to do than they can: that is no fault of the model.
            (_, Ok(Err(RunFailure::Backend(BackendError::Overloaded | BackendError::NoTurn)))) => self.trial.busy(),
            (Side::Serving, Ok(Err(failure))) => self.trial.failed(&failure),
            (Side::Serving, Err(panicked @ Panicked)) => self.trial.failed(&panicked),
            (Side::Candidate, Ok(Err(_)) | Err(Panicked)) => self.trial.unpaired(),
        }
    }
}

/// Asks a model about a row that nobody waits for.
pub(super) async fn judge(
    snapshot: &ModelSnapshot,
    raw: &[f64],
    wish: Wish,
) -> Result<Result<Judgement, RunFailure>, Panicked> {
    match snapshot.task() {
        Task::Clv => caught(judge_as::<Estimate>(snapshot, raw, wish)).await,
        Task::Lead => caught(judge_as::<LeadScore>(snapshot, raw, wish)).await,
    }
}

async fn judge_as<E: Score>(snapshot: &ModelSnapshot, raw: &[f64], wish: Wish) -> Result<Judgement, RunFailure> {
    let watch = Stopwatch::start();
    let score = run::ask::<E>(snapshot, raw, wish, TimeLimit { full: PATIENCE, left: PATIENCE }).await?;
    Ok(judgement(&score, watch))
}

/// What a model said in the time since `watch` was started.
pub(super) fn judgement<E: Score>(score: &E, watch: Stopwatch) -> Judgement {
    Judgement { score: score.amount(), tier: score.tier(), seconds: watch.elapsed().as_secs_f64() }
}

/// Whether a canary answers this question. A customer's answer is the same for all questions, and stays when the share
/// grows; other candidates are given other customers.
fn takes_part(share: f64, candidate: &BundleDigest, ask: &Ask<'_>) -> bool {
    let who = ask.customer.as_ref().map_or_else(|| features_number(ask.features), CustomerKey::prefix);
    let own = candidate.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mixed = mix(who ^ own);
    // The upper 53 bits as a number from 0 to below 1.
    ((mixed >> 11) as f64) / ((1_u64 << 53) as f64) < share
}

/// A number of named values, whatever their order.
fn features_number(features: Option<&[(&str, Option<Value<'_>>)]>) -> u64 {
    let number = |(name, value): &(&str, Option<Value<'_>>)| {
        let value = match (*value)? {
            // -0.0 equals 0.0.
            Value::Number(number) => mix((number + 0.0).to_bits()),
            Value::Text(text) | Value::Typed(text) => text_number(text.trim()),
        };
        Some(mix(text_number(name) ^ value.rotate_left(32)))
    };
    features.unwrap_or_default().iter().filter_map(number).fold(0, u64::wrapping_add)
}

fn text_number(text: &str) -> u64 {
    text.bytes().fold(mix(text.len() as u64), |number, byte| mix(number ^ u64::from(byte)))
}

/// The finaliser of `SplitMix64` (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): every bit
/// of the input moves about half of those of the output.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixing_is_the_published_generator() {
        // The first numbers of SplitMix64 from the seed 0: the state grows by the constant that `mix` adds.
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(gamma), 0x6e78_9e6a_a1b9_65f4);
    }

    #[test]
    fn the_number_of_features_is_of_what_is_said_not_of_its_order() {
        let number = |features: &[(&str, Option<Value<'_>>)]| features_number(Some(features));
        let (age, job) = (("age", Some(Value::Number(40.0))), ("job", Some(Value::Text("admin"))));
        assert_eq!(number(&[age, job]), number(&[job, ("unknown", None), age]));
        assert_ne!(number(&[age, job]), number(&[("age", Some(Value::Number(41.0))), job]));
        assert_ne!(number(&[age]), number(&[("job", age.1)]));
        assert_eq!(number(&[("age", Some(Value::Number(0.0)))]), number(&[("age", Some(Value::Number(-0.0)))]));
    }
}
