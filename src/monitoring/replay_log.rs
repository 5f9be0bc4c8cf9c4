//! The replay log: questions as they were answered, to be put to another version afterwards. Off unless the settings ask for it.
//!
//! Nobody can be read out of it. A customer is their keyed hash, which only erasure uses. Of the features there are numbers, and
//! categories that the model itself has: no other text. A prediction never waits for it: what finds the queue full is
//! counted and dropped. One task writes to the store; a kill costs what came in the last second, and never a part of a row.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter, describe_counter};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use scoreline_domain::privacy::Tombstones;
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Source, Tier};
use scoreline_store::{ReplayRow, Store, StoreError};

/// Questions that may wait for the task.
const WAITING: usize = 4096;
/// How often what waits is written. What comes meanwhile and is more than may wait is dropped.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Questions of one transaction.
const WRITTEN_AT_ONCE: usize = 1024;
/// How often old questions are looked for in the store, in rounds of `WRITE_EVERY`.
const FORGET_ROUNDS: u32 = 60;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayLimits {
    /// The newest so many questions.
    pub questions: u64,
    pub kept_for: Duration,
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedQuestion<'a> {
    pub asked_at: Timestamp,
    pub model: ModelName,
    /// The version that answered.
    pub version: ModelVersion,
    /// What was given of the customer, or stored; absent where nothing was known of them.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub features: Option<LoggedFeatures<'a>>,
    /// The level of the interval that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// The tier that the customer was in before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Tier>,
    pub answer: LoggedAnswer,
}

/// Values by the names of their features.
pub type LoggedFeatures<'a> = BTreeMap<Cow<'a, str>, LoggedValue<'a>>;

/// What a feature was given as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LoggedValue<'a> {
    Number(f64),
    /// A category.
    #[serde(borrow)]
    Category(Cow<'a, str>),
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggedAnswer {
    pub source: Source,
    /// US dollars, or percentage points of a probability.
    pub score: f64,
    /// Absent for tasks without tiers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
}

/// A handle on the log. Cheap to clone.
#[derive(Clone)]
pub struct ReplayLog {
    inner: Arc<LogParts>,
}

struct LogParts {
    limits: ReplayLimits,
    sender: mpsc::Sender<ReplayRow>,
    /// The other end, until somebody keeps the log.
    receiver: Mutex<Option<mpsc::Receiver<ReplayRow>>>,
    kept: Counter,
    queue_full: Counter,
    store: Counter,
}

impl ReplayLog {
    /// A log that nobody keeps yet.
    pub fn new(limits: ReplayLimits) -> Self {
        describe_counter!("scoreline_replay_questions_total", "Questions kept in the replay log.");
        describe_counter!(
            "scoreline_replay_dropped_total",
            "Questions that are missing from the replay log, by reason: `queue_full`, `store`."
        );
        let dropped = |reason| counter!("scoreline_replay_dropped_total", "reason" => reason);
        let (sender, receiver) = mpsc::channel(WAITING);
        let inner = LogParts {
            limits,
            sender,
            receiver: Mutex::new(Some(receiver)),
            kept: counter!("scoreline_replay_questions_total"),
            queue_full: dropped("queue_full"),
            store: dropped("store"),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Offers a question to be kept. Never waits; `question` is asked only where there is room for it.
    pub fn offer<'q>(&self, customer: Option<CustomerKey>, question: impl FnOnce() -> LoggedQuestion<'q>) {
        let Ok(place) = self.inner.sender.try_reserve() else { return self.inner.queue_full.increment(1) };
        let question = question();
        // Numbers are finite, and every other part has a form in JSON.
        if let Ok(line) = serde_json::to_string(&question) {
            place.send(ReplayRow { customer, asked_at: question.asked_at, question: line });
        }
    }

    /// Writes into the store until `stopped` is ready, and once more then. Of whoever has a tombstone nothing is kept. A
    /// supervised task; told once.
    pub async fn keep(
        self,
        store: Store,
        tombstones: Tombstones,
        clock: Arc<dyn Clock>,
        stopped: impl Future<Output = ()> + Send,
    ) {
        let receiver = self.inner.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(receiver) = receiver else { return };
        let mut keeper = Keeper { log: self.inner, receiver, store, tombstones, is_failing: false };
        let mut stopped = std::pin::pin!(stopped);
        let mut ticks = interval(WRITE_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for round in 0_u32.. {
            let is_over = tokio::select! {
                _ = ticks.tick() => false,
                () = &mut stopped => true,
            };
            keeper.write().await;
            if is_over {
                return;
            }
            if round.is_multiple_of(FORGET_ROUNDS) {
                let oldest = clock.now().checked_sub(keeper.log.limits.kept_for).unwrap_or(Timestamp::MIN);
                let forgotten = keeper.store.forget_replay(oldest).await;
                keeper.tell(forgotten.err().as_ref());
            }
        }
    }
}

/// Lets go of what an earlier start kept, where nothing is to be kept any more.
///
/// # Errors
/// When it may still be there.
pub async fn clear(store: &Store) -> Result<(), StoreError> {
    if store.replay_count().await? > 0 {
        let questions = store.forget_replay(Timestamp::MAX).await?;
        tracing::info!(questions, "the replay log is off: what was kept is deleted");
    }
    Ok(())
}

/// The task's side.
struct Keeper {
    log: Arc<LogParts>,
    receiver: mpsc::Receiver<ReplayRow>,
    store: Store,
    tombstones: Tombstones,
    /// Whether the store failed last time: told once.
    is_failing: bool,
}

impl Keeper {
    /// Writes what waits now.
    async fn write(&mut self) {
        let mut left = self.receiver.len();
        while left > 0 {
            let rows: Vec<_> =
                std::iter::from_fn(|| self.receiver.try_recv().ok()).take(left.min(WRITTEN_AT_ONCE)).collect();
            left -= rows.len();
            let is_kept = |row: &ReplayRow| !row.customer.is_some_and(|customer| self.tombstones.contains(&customer));
            let rows: Vec<_> = rows.into_iter().filter(is_kept).collect();
            let count = rows.len() as u64;
            match self.store.keep_replay(rows, self.log.limits.questions).await {
                Ok(kept) => {
                    self.log.kept.increment(kept);
                    self.tell(None);
                }
                Err(error) => {
                    self.log.store.increment(count);
                    self.tell(Some(&error));
                }
            }
        }
    }

    fn tell(&mut self, failure: Option<&StoreError>) {
        if let (Some(error), false) = (failure, self.is_failing) {
            tracing::warn!(%error, "questions cannot be kept for a replay; further ones are only counted");
        }
        self.is_failing = failure.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> ReplayLog {
        ReplayLog::new(ReplayLimits { questions: 10, kept_for: Duration::from_hours(1) })
    }

    fn question() -> LoggedQuestion<'static> {
        let features = [
            (Cow::Borrowed("recency_days"), LoggedValue::Number(0.1 + 0.2)),
            (Cow::Borrowed("job"), LoggedValue::Category(Cow::Borrowed("admin"))),
        ];
        LoggedQuestion {
            asked_at: Timestamp::UNIX_EPOCH,
            model: ModelName::parse("clv").expect("a name"),
            version: ModelVersion::parse("v1").expect("a version"),
            features: Some(features.into()),
            level: None,
            previous: Some(Tier::High),
            answer: LoggedAnswer { source: Source::Model, score: 1.0 / 3.0, tier: Some(Tier::Low) },
        }
    }

    #[test]
    fn a_question_reads_as_it_was_written() {
        let question = question();
        let line = serde_json::to_string(&question).expect("has a form");
        assert_eq!(
            line,
            r#"{"asked_at":"1970-01-01T00:00:00Z","model":"clv","version":"v1","features":{"job":"admin","recency_days":0.30000000000000004},"previous":"High_Value","answer":{"source":"model","score":0.3333333333333333,"tier":"Low_Value"}}"#
        );
        assert_eq!(serde_json::from_str::<LoggedQuestion<'_>>(&line).expect("reads"), question);
        let foreign = line.replace("\"answer\"", "\"customerId\":\"x\",\"answer\"");
        assert!(serde_json::from_str::<LoggedQuestion<'_>>(&foreign).is_err(), "nothing else is in it");
    }

    #[test]
    fn what_finds_no_room_is_not_even_asked_for() {
        let log = log();
        let mut asked = 0;
        for _ in 0..WAITING + 10 {
            log.offer(None, || {
                asked += 1;
                question()
            });
        }
        assert_eq!(asked, WAITING);
    }
}
