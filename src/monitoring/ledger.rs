//! Predictions waiting for their outcome, and the outcomes: written to the store by one task.
//!
//! Callers get `record` (never waits, may drop) and `report` (an answer means committed and synced). The figures follow
//! what is in the store, so replicas that share one show the same.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, counter, gauge};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::book::{PredictionAdmission, PredictionBook, PredictionLimits};
use super::gauges;
use super::outcome::{Judged, Outcome, Prediction, Verdict};
use super::quality::{Quality, Rolling};
use scoreline_domain::privacy::Tombstones;
use scoreline_domain::privacy::erasure::{Erasable, EraseError};
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};
use scoreline_store::{KeptPrediction, Ruling, Store, StoreError, ToldOutcome, WaitingPrediction};

/// Predictions and reports that may wait for the task.
const PREDICTION_QUEUE: usize = 4096;
const REPORT_QUEUE: usize = 256;
/// Reports that share one commit.
const MOST_GROUPED: usize = 256;
/// How often the task looks for predictions. They do not wake it: waking costs the sender a system call.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often predictions are written, unless a queue of them waits, and what other replicas were told is read. Nobody was
/// told that they are kept.
const WRITE_EVERY: Duration = Duration::from_secs(1);
/// Most model versions that get gauges in the life of a process; more are shown by `/admin/outcomes` only.
const MOST_MEASURED: usize = 64;

/// A handle on the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<LedgerState>,
}

struct LedgerState {
    limits: PredictionLimits,
    predictions: Option<SyncSender<RecordedPrediction>>,
    commands: mpsc::Sender<LedgerCommand>,
    /// The other ends, until somebody keeps the ledger.
    desk: Mutex<Option<(mpsc::Receiver<LedgerCommand>, Receiver<RecordedPrediction>)>>,
    /// Locked for a moment, never across an await.
    book: Mutex<PredictionBook>,
    /// Whether the store is open and what it holds is known.
    open: AtomicBool,
    lost_in_queue: Counter,
    /// Model versions that have gauges, with what these say. Callers name versions, and a gauge is never taken back.
    measured: Mutex<HashMap<(ModelName, ModelVersion), Quality>>,
}

struct RecordedPrediction {
    customer: CustomerKey,
    model: ModelName,
    prediction: Prediction,
}

/// Outcomes to be kept, and keys of their customers that were carried over.
struct Report {
    outcomes: Vec<Outcome>,
    moved: Vec<(CustomerKey, CustomerKey)>,
    answer: oneshot::Sender<Verdicts>,
}

type Verdicts = Result<Vec<Verdict>, LedgerError>;

enum LedgerCommand {
    Report(Report),
    Close(oneshot::Sender<()>),
}

/// Why outcomes were not accepted. None of them is kept then, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("the store that outcomes are kept in (`store.path` or `store.url`) is not open; send them again later")]
    Closed,
    #[error("too many outcomes are waiting to be written; send them again later")]
    Busy,
    #[error("outcomes cannot be written at the moment; send them again later")]
    Store,
}

/// Where the ledger stands, for people.
#[derive(Clone, Debug)]
pub struct LedgerStatus {
    pub predictions: usize,
    pub outcomes: usize,
    pub immature: u64,
    pub open: bool,
    pub quality: Vec<(ModelName, ModelVersion, Quality)>,
}

impl Ledger {
    /// A ledger that nobody keeps yet: predictions wait, outcomes are refused.
    pub fn new(limits: PredictionLimits) -> Self {
        let (commands, told) = mpsc::channel(REPORT_QUEUE);
        let (sender, recorded) = sync_channel(PREDICTION_QUEUE);
        let inner = LedgerState {
            limits,
            predictions: (limits.predictions > 0).then_some(sender),
            commands,
            desk: Mutex::new(Some((told, recorded))),
            book: Mutex::new(PredictionBook::new(limits)),
            open: AtomicBool::new(false),
            lost_in_queue: not_recorded("queue_full"),
            measured: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Says that the store is there: outcomes wait for it from now on instead of being refused.
    pub fn open(&self) {
        self.inner.open.store(true, Ordering::Release);
    }

    /// Offers a prediction to be recorded, without waiting: it is dropped and counted when too many wait already.
    pub fn record(&self, customer: CustomerKey, model: &ModelName, prediction: impl FnOnce() -> Prediction) {
        let Some(sender) = &self.inner.predictions else { return };
        let recorded = RecordedPrediction { customer, model: model.clone(), prediction: prediction() };
        if sender.try_send(recorded).is_err() {
            self.inner.lost_in_queue.increment(1);
        }
    }

    /// Keeps outcomes. One verdict each, in order; by then they are committed and synced. What is kept under an earlier key
    /// of a customer is put under the current one first: pairs of both are `moved`.
    ///
    /// # Errors
    /// When they could not be kept: none of them is.
    pub async fn report(&self, outcomes: Vec<Outcome>, moved: Vec<(CustomerKey, CustomerKey)>) -> Verdicts {
        if !self.inner.open.load(Ordering::Acquire) {
            return Err(LedgerError::Closed);
        }
        let (sender, answer) = oneshot::channel();
        let report = LedgerCommand::Report(Report { outcomes, moved, answer: sender });
        self.inner.commands.try_send(report).map_err(|err| match err {
            mpsc::error::TrySendError::Full(_) => LedgerError::Busy,
            mpsc::error::TrySendError::Closed(_) => LedgerError::Closed,
        })?;
        // Dropped unanswered only when the task is gone.
        answer.await.unwrap_or(Err(LedgerError::Closed))
    }

    pub fn status(&self) -> LedgerStatus {
        let book = self.inner.book();
        LedgerStatus {
            predictions: book.predictions,
            outcomes: book.outcomes,
            immature: book.immature,
            open: self.inner.open.load(Ordering::Acquire),
            quality: book.quality(),
        }
    }

    /// Sets the gauges that are read off rather than counted.
    pub fn report_gauges(&self) {
        let status = self.status();
        gauge!("scoreline_ledger_predictions").set(status.predictions as f64);
        let mut measured = self.inner.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone: Vec<_> = measured.keys().cloned().collect();
        for (model, version, quality) in status.quality {
            let own = (model, version);
            gone.retain(|measured| *measured != own);
            let before = measured.get(&own);
            if measured.len() < MOST_MEASURED || before.is_some() {
                gauges::set_quality(&own.0, &own.1, &quality, before);
                measured.insert(own, quality);
            }
        }
        // Every customer whose outcomes they were about was erased.
        for own in gone {
            let nothing = Rolling::new(0).quality();
            gauges::set_quality(&own.0, &own.1, &nothing, measured.get(&own));
            measured.insert(own, nothing);
        }
    }

    /// Keeps the ledger in this store until it is closed. Of whoever has a tombstone nothing is kept. Told once.
    pub async fn keep(self, store: Store, tombstones: Tombstones) {
        let desk = self.inner.desk.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((mut commands, predictions)) = desk else { return };
        let ledger = Arc::clone(&self.inner);
        let counters = Counters::register();
        let waiting = Vec::new();
        let since = Stopwatch::start();
        let mut keeper =
            Keeper { ledger, store, tombstones, predictions, waiting, since, counters, seq: 0, failing: false };
        self.open();
        while let Err(err) = keeper.begin().await {
            keeper.tell(&err);
            sleep(WRITE_EVERY).await;
            if refuse_all(&mut commands) {
                return;
            }
        }
        let mut ticks = interval(LOOK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let command = tokio::select! {
                command = commands.recv() => command,
                _ = ticks.tick() => {
                    keeper.look().await;
                    continue;
                }
            };
            let Some(first) = command else { return };
            let mut reports = Vec::new();
            let mut closing = None;
            let more = std::iter::from_fn(|| commands.try_recv().ok());
            for command in std::iter::once(first).chain(more).take(MOST_GROUPED) {
                match command {
                    LedgerCommand::Report(report) => reports.push(report),
                    LedgerCommand::Close(done) => closing = Some(done),
                }
            }
            // Predictions first: an outcome may be about one of them.
            keeper.admit();
            keeper.write().await;
            if !reports.is_empty() {
                keeper.commit(reports).await;
            }
            if let Some(done) = closing {
                // Whoever asked has gone.
                let _ = done.send(());
                return;
            }
        }
    }

    /// Writes what waits and ends. What is reported after this is refused.
    pub async fn close(&self) {
        self.inner.open.store(false, Ordering::Release);
        // Nobody keeps it: what waits is lost with it.
        drop(self.inner.desk.lock().unwrap_or_else(PoisonError::into_inner).take());
        let (done, ended) = oneshot::channel();
        if self.inner.commands.send(LedgerCommand::Close(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

impl Erasable for Ledger {
    fn name(&self) -> &'static str {
        "outcomes"
    }

    /// What is in the store is the store's to erase.
    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        Ok(self.inner.book().forget(|customer| customers.contains(customer)))
    }

    fn sweep(&self, tombstones: &Tombstones) {
        self.inner.book().forget(|customer| tombstones.contains(customer));
    }
}

impl LedgerState {
    fn book(&self) -> MutexGuard<'_, PredictionBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task's side.
struct Keeper {
    ledger: Arc<LedgerState>,
    store: Store,
    tombstones: Tombstones,
    /// Offered, not looked at yet.
    predictions: Receiver<RecordedPrediction>,
    /// To be written.
    waiting: Vec<WaitingPrediction>,
    /// The last look at the store.
    since: Stopwatch,
    counters: Counters,
    /// The last outcome that the figures know.
    seq: i64,
    /// Whether the store failed last time: told once.
    failing: bool,
}

struct Counters {
    verdicts: [Counter; Verdict::NAMES.len()],
    recorded: Counter,
    full: Counter,
    store: Counter,
}

impl Counters {
    fn register() -> Self {
        Self {
            verdicts: Verdict::NAMES.map(|name| counter!("scoreline_outcomes_total", "result" => name)),
            recorded: counter!("scoreline_predictions_recorded_total"),
            full: not_recorded("ledger_full"),
            store: not_recorded("store"),
        }
    }
}

fn not_recorded(reason: &'static str) -> Counter {
    counter!("scoreline_predictions_not_recorded_total", "reason" => reason)
}

impl Keeper {
    /// Reads what is kept.
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.follow().await?;
        self.remember().await?;
        self.count().await
    }

    async fn remember(&mut self) -> Result<(), StoreError> {
        let last = self.store.last_predictions().await?;
        self.ledger.book().remember(last);
        Ok(())
    }

    async fn count(&mut self) -> Result<(), StoreError> {
        let (predictions, outcomes) = self.store.outcome_counts().await?;
        self.ledger.book().count(predictions, outcomes);
        Ok(())
    }

    /// Takes outcomes into the figures that were told since the last look, by whichever replica.
    async fn follow(&mut self) -> Result<(), StoreError> {
        let most = self.ledger.limits.outcomes.max(1);
        loop {
            let kept = self.store.outcomes_since(self.seq, most).await?;
            let more = kept.len() == most;
            let mut book = self.ledger.book();
            for outcome in kept {
                self.seq = outcome.seq;
                // Of a later version of this program.
                let Ok(prediction) = serde_json::from_str::<Prediction>(&outcome.prediction) else { continue };
                let judged = Judged::new(&prediction, outcome.spend_usd);
                book.take(&outcome.model, &prediction.version, &judged, outcome.mature);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Takes in what is offered; now and then writes it, makes room when there is none, and looks at what others were told.
    async fn look(&mut self) {
        self.admit();
        if self.waiting.len() < PREDICTION_QUEUE && self.since.elapsed() < WRITE_EVERY {
            return;
        }
        self.since = Stopwatch::start();
        self.write().await;
        let (sweep, reread, recount) = {
            let mut book = self.ledger.book();
            if book.recount {
                // Of whoever was erased no figure tells any more: they are made again of what is left.
                book.clear_figures();
                self.seq = 0;
            }
            (book.sweep(), book.reread, book.recount)
        };
        let looked = async {
            self.follow().await?;
            if let Some(before) = sweep {
                self.store.expire_predictions(before).await?;
            }
            if sweep.is_some() || reread {
                self.remember().await?;
            }
            if sweep.is_some() || reread || recount { self.count().await } else { Ok(()) }
        };
        match looked.await {
            Ok(()) => self.tell_success(),
            Err(err) => self.tell(&err),
        }
    }

    /// Takes in the predictions that were offered and are to be recorded.
    fn admit(&mut self) {
        let mut book = self.ledger.book();
        for RecordedPrediction { customer, model, prediction } in self.predictions.try_iter().take(PREDICTION_QUEUE) {
            if self.tombstones.contains(&customer) {
                continue;
            }
            match book.admit(customer, &model, prediction.scored_at.as_second()) {
                PredictionAdmission::Record => {
                    self.waiting.push(WaitingPrediction { customer, model, prediction: kept(&prediction) });
                }
                PredictionAdmission::Sampled => {}
                PredictionAdmission::Full => self.counters.full.increment(1),
            }
        }
    }

    /// Writes the predictions that wait.
    async fn write(&mut self) {
        let offered = self.waiting.len();
        if offered == 0 {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        let written = self.store.keep_predictions(waiting, self.ledger.limits.predictions).await;
        match written {
            Ok(written) => {
                self.counters.recorded.increment(written as u64);
                self.counters.full.increment((offered - written) as u64);
                self.ledger.book().reread |= written < offered;
            }
            Err(err) => {
                self.counters.store.increment(offered as u64);
                self.ledger.book().reread = true;
                self.tell(&err);
            }
        }
    }

    /// Decides and writes in one commit, takes into the figures and only then answers.
    async fn commit(&mut self, reports: Vec<Report>) {
        let mut told = Vec::new();
        let mut moved = Vec::new();
        let mut answers = Vec::with_capacity(reports.len());
        for Report { outcomes, moved: keys, answer } in reports {
            // One who turned out to be erased under an earlier pepper may not be so in the store yet.
            let erased: Vec<_> = outcomes.iter().map(|outcome| self.tombstones.contains(&outcome.customer)).collect();
            told.extend(outcomes.into_iter().zip(&erased).filter(|(_, erased)| !**erased).map(|(it, _)| it.into()));
            moved.extend(keys);
            answers.push((erased, answer));
        }
        let kept = self.store.tell_outcomes(&told, &moved, self.ledger.limits.outcomes).await;
        // What is not read now is read by the next look.
        let followed = if kept.is_ok() { self.follow().await } else { Ok(()) };
        if let Some(err) = kept.as_ref().err().or(followed.as_ref().err()) {
            self.tell(err);
        }
        let mut rulings = kept.map(Vec::into_iter);
        for (erased, answer) in answers {
            let own = rulings.as_mut().map_err(|_| LedgerError::Store).and_then(|rulings| {
                let judge = |erased| if erased { Ok(Verdict::Erased) } else { verdict(rulings.next()) };
                erased.into_iter().map(judge).collect::<Verdicts>()
            });
            for verdict in own.iter().flatten() {
                self.counters.verdicts[verdict.index()].increment(1);
            }
            // A caller that has hung up can ask again: the answer will be `duplicate`.
            let _ = answer.send(own);
        }
    }

    fn tell(&mut self, err: &StoreError) {
        if !self.failing {
            let cause = std::error::Error::source(err).map(ToString::to_string);
            tracing::error!(error = %err, cause, "outcomes and predictions cannot be written or read");
        }
        self.failing = true;
    }

    fn tell_success(&mut self) {
        if self.failing {
            tracing::info!("outcomes and predictions can be written and read again");
        }
        self.failing = false;
    }
}

/// Answers those who wait that nothing can be kept; whether one of them asked for the end.
fn refuse_all(commands: &mut mpsc::Receiver<LedgerCommand>) -> bool {
    while let Ok(command) = commands.try_recv() {
        match command {
            LedgerCommand::Report(Report { answer, .. }) => drop(answer.send(Err(LedgerError::Store))),
            LedgerCommand::Close(done) => {
                let _ = done.send(());
                return true;
            }
        }
    }
    false
}

fn kept(prediction: &Prediction) -> KeptPrediction {
    KeptPrediction {
        version: prediction.version.clone(),
        scored_s: prediction.scored_at.as_second(),
        matures_s: prediction.matures_at(),
        text: serde_json::to_string(prediction).expect("our own predictions serialise into memory"),
    }
}

impl From<Outcome> for ToldOutcome {
    fn from(outcome: Outcome) -> Self {
        let Outcome { customer, model, spend_usd, observed_at, prediction } = outcome;
        Self { customer, model, spend_usd, observed_at, prediction: prediction.as_ref().map(kept) }
    }
}

fn verdict(ruling: Option<Ruling>) -> Result<Verdict, LedgerError> {
    let read = |kept: KeptPrediction| {
        serde_json::from_str(&kept.text).map_err(|err| {
            tracing::error!(error = %err, "a recorded prediction cannot be read: it is of a later version");
            LedgerError::Store
        })
    };
    Ok(match ruling.ok_or(LedgerError::Store)? {
        Ruling::Kept { mature: true, prediction } => Verdict::Recorded(read(prediction)?),
        Ruling::Kept { mature: false, prediction } => Verdict::Immature(read(prediction)?),
        Ruling::Duplicate(prediction) => Verdict::Duplicate(read(prediction)?),
        Ruling::Unmatched => Verdict::Unmatched,
        Ruling::Erased => Verdict::Erased,
    })
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::told;
    use super::*;
    use scoreline_store::StoreSettings;

    const LATE: &str = "2026-03-01T00:00:00Z";

    async fn open(folder: &tempfile::TempDir) -> (Ledger, Store, tokio::task::JoinHandle<()>) {
        let store = Store::open(&StoreSettings::sqlite(folder.path().join("s.db"))).await.expect("opens");
        let limits = PredictionLimits { predictions: 100, outcomes: 1000, window: 1000, sample_every: 0 };
        let ledger = Ledger::new(limits);
        assert_eq!(ledger.report(vec![told(1, true, LATE)], Vec::new()).await, Err(LedgerError::Closed));
        #[expect(clippy::disallowed_methods, reason = "a test has no process to stop")]
        let task = tokio::spawn(ledger.clone().keep(store.clone(), Tombstones::default()));
        while !ledger.status().open {
            tokio::task::yield_now().await;
        }
        (ledger, store, task)
    }

    async fn words(ledger: &Ledger, outcomes: Vec<Outcome>) -> Vec<&'static str> {
        let verdicts = ledger.report(outcomes, Vec::new()).await.expect("kept");
        verdicts.iter().map(Verdict::as_str).collect()
    }

    #[tokio::test]
    async fn outcomes_and_predictions_are_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ledger, store, task) = open(&folder).await;
        let known = told(9, true, LATE);
        let prediction = known.prediction.clone().expect("given");
        ledger.record(known.customer, &known.model, || prediction);
        let outcomes = vec![told(1, true, LATE), told(1, true, LATE), told(2, false, LATE)];
        assert_eq!(words(&ledger, outcomes).await, ["recorded", "duplicate", "unmatched"]);
        ledger.close().await;
        task.await.expect("ended");
        assert_eq!(ledger.report(vec![told(3, true, LATE)], Vec::new()).await, Err(LedgerError::Closed));
        store.close().await;

        let (ledger, store, _task) = open(&folder).await;
        assert_eq!(words(&ledger, vec![told(1, true, LATE)]).await, ["duplicate"]);
        assert_eq!(ledger.status().quality[0].2.outcomes, 1, "the figures are made again");
        let outcomes = vec![told(9, false, LATE), told(9, false, "2026-01-02T00:00:00Z")];
        assert_eq!(words(&ledger, outcomes).await, ["recorded", "immature"]);
        let status = ledger.status();
        assert_eq!((status.predictions, status.outcomes, status.quality[0].2.outcomes), (1, 3, 2));
        ledger.close().await;
        store.close().await;
    }

    #[tokio::test]
    async fn many_reporters_at_once_each_get_their_own_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ledger, store, _task) = open(&folder).await;
        let reports = (0..100).map(|customer| ledger.report(vec![told(customer / 2, true, LATE)], Vec::new()));
        let answers = futures_util::future::join_all(reports).await;
        let verdicts = answers.into_iter().flat_map(|answer| answer.expect("kept"));
        assert_eq!(verdicts.filter(|verdict| verdict.as_str() == "recorded").count(), 50);
        assert_eq!(ledger.status().outcomes, 50);
        store.close().await;
        let refused = ledger.report(vec![told(1, true, LATE)], Vec::new()).await;
        assert_eq!(refused, Err(LedgerError::Store), "the store is closed");
    }
}
