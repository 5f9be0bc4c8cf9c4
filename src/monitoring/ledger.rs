//! Predictions waiting for their outcome, and the outcomes: kept by one thread of its own, in memory and in a journal.
//!
//! Callers get `record` (never waits, may drop) and `report` (an answer means committed and synced). A store that is
//! shared between processes can take this one's place behind the same two calls.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::{Counter, counter, gauge};
use tokio::sync::oneshot;

use super::book::{Admission, Book, BookLimits, Entry};
use super::gauges;
use super::journal::{self, Journal, JournalError, Recovered};
use super::outcome::{Outcome, Prediction, Verdict};
use super::quality::Quality;
use scoreline_domain::privacy::Tombstones;
use scoreline_domain::privacy::erasure::{Erasable, EraseError};
use scoreline_domain::time::Stopwatch;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion};

/// Predictions and reports that may wait for the thread.
const PREDICTION_QUEUE: usize = 4096;
const REPORT_QUEUE: usize = 256;
/// Reports that share one sync.
const MOST_GROUPED: usize = 256;
/// How often the thread looks for predictions. They do not wake it: waking costs the sender a system call.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Predictions alone are synced this often; nobody was told that they are kept.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Most model versions that get gauges in the life of a process; more are shown by `/admin/outcomes` only.
const MOST_MEASURED: usize = 64;
/// The journal is written anew when it is twice what it was then, and at least this large.
const SMALLEST_REWRITE: u64 = 4 << 20;

/// Where the ledger is kept and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSettings {
    pub path: PathBuf,
    pub limits: BookLimits,
    /// Whether predictions are recorded at all: keys of customers that change with every start are not worth it.
    pub records_predictions: bool,
}

/// A handle on the ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<Inner>,
}

struct Inner {
    predictions: Option<SyncSender<Recorded>>,
    reports: SyncSender<Command>,
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
    lost_in_queue: Counter,
    /// Model versions that have gauges. Callers name versions, and a gauge is never taken back.
    measured: Mutex<HashSet<(ModelName, ModelVersion)>>,
}

/// What the writer changes and others look at. The book is never locked while the disk is waited for.
struct Shared {
    book: Mutex<Book>,
    journal_bytes: AtomicU64,
    /// A sync failed: what is on disk is not known any more, and nothing is accepted until a restart.
    failed: AtomicBool,
    /// Customers of whom nothing is kept.
    tombstones: OnceLock<Tombstones>,
}

struct Recorded {
    customer: CustomerKey,
    model: ModelName,
    prediction: Prediction,
}

type Answer = Result<Vec<Verdict>, LedgerError>;
/// Told how many entries were erased.
type EraseAnswer = SyncSender<Result<u64, LedgerError>>;

enum Command {
    Report(Vec<Outcome>, oneshot::Sender<Answer>),
    /// Pairs of an earlier and the current key of a customer.
    Move(Vec<(CustomerKey, CustomerKey)>),
    Erase(Vec<CustomerKey>, EraseAnswer),
    Close,
}

/// Why outcomes were not accepted. None of them is kept then, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    #[error("too many outcomes are waiting to be written; send them again later")]
    Busy,
    #[error("outcomes cannot be written at the moment; send them again later")]
    Disk,
    #[error("outcomes cannot be kept until scoreline is restarted: an earlier one could not be synced")]
    Failed,
}

/// Where the ledger stands, for people.
#[derive(Clone, Debug)]
pub struct LedgerStatus {
    pub predictions: usize,
    pub outcomes: usize,
    pub immature: u64,
    pub journal_bytes: u64,
    pub failed: bool,
    pub quality: Vec<(ModelName, ModelVersion, Quality)>,
}

impl Ledger {
    /// Opens the journal, reads it back and starts the thread that keeps it.
    ///
    /// # Errors
    /// When the folder cannot be used.
    pub fn open(settings: &LedgerSettings) -> Result<Self, JournalError> {
        let mut book = Book::new(settings.limits);
        let mut unreadable = 0_u64;
        let (journal, recovered) = Journal::open(&settings.path, |text| match serde_json::from_str(text) {
            Ok(entry) => book.take(entry),
            Err(_) => unreadable += 1,
        })?;
        book.expire();
        log_recovery(settings, recovered, unreadable);
        let shared = Arc::new(Shared {
            book: Mutex::new(book),
            journal_bytes: AtomicU64::new(journal.bytes()),
            failed: AtomicBool::new(false),
            tombstones: OnceLock::new(),
        });
        let (reports, commands) = sync_channel(REPORT_QUEUE);
        let (sender, predictions) = sync_channel(PREDICTION_QUEUE);
        let rewritten_bytes = journal.bytes() / 2;
        let writer = Writer {
            journal,
            shared: Arc::clone(&shared),
            rewritten_bytes,
            unsynced: None,
            counters: Counters::register(),
            lines: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("outcomes".to_owned());
        let thread = thread.spawn(move || writer.run(&commands, &predictions));
        let thread = thread.map_err(|source| JournalError::Folder { folder: settings.path.clone(), source })?;
        let inner = Inner {
            predictions: settings.records_predictions.then_some(sender),
            reports,
            shared,
            writer: Mutex::new(Some(thread)),
            lost_in_queue: not_recorded("queue_full"),
            measured: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Offers a prediction to be recorded, without waiting: it is dropped and counted when too many wait already.
    pub fn record(&self, customer: CustomerKey, model: &ModelName, prediction: impl FnOnce() -> Prediction) {
        let Some(sender) = &self.inner.predictions else { return };
        let recorded = Recorded { customer, model: model.clone(), prediction: prediction() };
        if sender.try_send(recorded).is_err() {
            self.inner.lost_in_queue.increment(1);
        }
    }

    /// Keeps outcomes. One verdict each, in order; by then they are committed and synced.
    ///
    /// # Errors
    /// When they could not be kept: none of them is.
    pub async fn report(&self, outcomes: Vec<Outcome>) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.inner.reports.try_send(Command::Report(outcomes, sender)).map_err(|err| match err {
            TrySendError::Full(_) => LedgerError::Busy,
            TrySendError::Disconnected(_) => LedgerError::Failed,
        })?;
        // Dropped unanswered only when the thread is gone.
        answer.await.unwrap_or(Err(LedgerError::Failed))
    }

    /// Keeps nothing of these customers from now on. Told once, before the first report.
    pub fn refuse(&self, tombstones: Tombstones) {
        // A second set would be the same one.
        let _ = self.inner.shared.tombstones.set(tombstones);
    }

    /// Keeps what is kept under an earlier key of a customer under the current one. Reports sent after this find it
    /// there; one that is lost to a full queue is made up for by the customer's next.
    pub fn carry_over(&self, keys: Vec<(CustomerKey, CustomerKey)>) {
        if !keys.is_empty() && self.inner.reports.try_send(Command::Move(keys)).is_err() {
            tracing::debug!("keys could not be carried over: too much is waiting");
        }
    }

    pub fn status(&self) -> LedgerStatus {
        let shared = &self.inner.shared;
        let book = shared.book();
        LedgerStatus {
            predictions: book.predictions(),
            outcomes: book.outcomes(),
            immature: book.immature(),
            journal_bytes: shared.journal_bytes.load(Ordering::Relaxed),
            failed: shared.failed.load(Ordering::Relaxed),
            quality: book.quality(),
        }
    }

    /// Sets the gauges that are read off rather than counted.
    pub fn report_gauges(&self) {
        let status = self.status();
        gauge!("scoreline_ledger_predictions").set(status.predictions as f64);
        gauge!("scoreline_ledger_journal_bytes").set(status.journal_bytes as f64);
        gauge!("scoreline_ledger_failed").set(if status.failed { 1.0 } else { 0.0 });
        let mut measured = self.inner.measured.lock().unwrap_or_else(PoisonError::into_inner);
        for (model, version, quality) in &status.quality {
            let own = (model.clone(), version.clone());
            if measured.len() < MOST_MEASURED || measured.contains(&own) {
                measured.insert(own);
                gauges::set_quality(model, version, quality);
            }
        }
    }

    /// Writes and syncs what waits, and ends the thread. What is reported after this is refused.
    pub fn close(&self) {
        let writer = self.inner.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return };
        if self.inner.reports.send(Command::Close).is_ok() && writer.join().is_err() {
            tracing::error!("the thread that keeps outcomes panicked");
        }
    }
}

impl Erasable for Ledger {
    fn name(&self) -> &'static str {
        "outcomes"
    }

    /// The journal has been written anew without the customers when this returns.
    fn erase(&self, customers: &[CustomerKey]) -> Result<u64, EraseError> {
        let (sender, answer) = sync_channel(1);
        let failed = |err: LedgerError| EraseError(err.to_string());
        self.inner.reports.send(Command::Erase(customers.to_vec(), sender)).map_err(|_| failed(LedgerError::Failed))?;
        answer.recv().unwrap_or(Err(LedgerError::Failed)).map_err(failed)
    }
}

impl Shared {
    fn is_erased(&self, customer: &CustomerKey) -> bool {
        self.tombstones.get().is_some_and(|tombstones| tombstones.contains(customer))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Writer {
    journal: Journal,
    shared: Arc<Shared>,
    /// Size of the journal when it was last written anew.
    rewritten_bytes: u64,
    /// Since when something is appended and not synced.
    unsynced: Option<Stopwatch>,
    counters: Counters,
    lines: Vec<u8>,
}

struct Counters {
    verdicts: [Counter; Verdict::NAMES.len()],
    recorded: Counter,
    full: Counter,
    disk: Counter,
}

impl Counters {
    fn register() -> Self {
        Self {
            verdicts: Verdict::NAMES.map(|name| counter!("scoreline_outcomes_total", "result" => name)),
            recorded: counter!("scoreline_predictions_recorded_total"),
            full: not_recorded("ledger_full"),
            disk: not_recorded("disk"),
        }
    }
}

fn not_recorded(reason: &'static str) -> Counter {
    counter!("scoreline_predictions_not_recorded_total", "reason" => reason)
}

impl Writer {
    fn run(mut self, commands: &Receiver<Command>, predictions: &Receiver<Recorded>) {
        loop {
            let (mut reports, mut moves, mut erasures) = (Vec::new(), Vec::new(), Vec::new());
            let mut closing = false;
            let mut take = |command| match command {
                Command::Report(outcomes, answer) => reports.push((outcomes, answer)),
                Command::Move(keys) => moves.extend(keys),
                Command::Erase(customers, answer) => erasures.push((customers, answer)),
                Command::Close => closing = true,
            };
            match commands.recv_timeout(LOOK_EVERY) {
                Ok(command) => {
                    take(command);
                    commands.try_iter().take(MOST_GROUPED).for_each(take);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => closing = true,
            }
            // Predictions first: an outcome may be about one of them.
            self.record(predictions.try_iter().take(PREDICTION_QUEUE));
            self.carry_over(&moves);
            if !reports.is_empty() {
                self.commit(reports);
            }
            if !erasures.is_empty() {
                self.erase(erasures);
            }
            if closing || self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_EVERY) {
                // What fails here is logged; nobody waits for it.
                let _ = self.sync();
            }
            self.rewrite_if_due();
            self.shared.journal_bytes.store(self.journal.bytes(), Ordering::Relaxed);
            if closing {
                return;
            }
        }
    }

    fn record(&mut self, predictions: impl Iterator<Item = Recorded>) {
        self.lines.clear();
        let mut entries = Vec::new();
        {
            let mut book = self.shared.book();
            let shared = Arc::clone(&self.shared);
            for Recorded { customer, model, prediction } in predictions.filter(|it| !shared.is_erased(&it.customer)) {
                match book.admit(customer, &model, &prediction) {
                    Admission::Record => {
                        let entry = Entry::Prediction { customer, model, prediction };
                        write_line(&mut self.lines, &entry);
                        // Taken in at once: the next of this customer is to be sampled against it.
                        book.take(entry.clone());
                        entries.push(entry);
                    }
                    Admission::Sampled => {}
                    Admission::Full => self.counters.full.increment(1),
                }
            }
        }
        if entries.is_empty() {
            return;
        }
        if self.append().is_ok() {
            self.counters.recorded.increment(entries.len() as u64);
        } else {
            self.counters.disk.increment(entries.len() as u64);
        }
    }

    /// Decides, writes, syncs, takes in and only then answers.
    fn commit(&mut self, reports: Vec<(Vec<Outcome>, oneshot::Sender<Answer>)>) {
        self.lines.clear();
        let mut pending = HashSet::new();
        let mut entries = Vec::new();
        let mut answers = Vec::with_capacity(reports.len());
        {
            let book = self.shared.book();
            for (outcomes, answer) in reports {
                let decide = |outcome: Outcome| {
                    if self.shared.is_erased(&outcome.customer) {
                        return Verdict::Erased;
                    }
                    let (verdict, entry) = book.decide(outcome, &mut pending);
                    entries.extend(entry);
                    verdict
                };
                answers.push((outcomes.into_iter().map(decide).collect::<Vec<_>>(), answer));
            }
        }
        for entry in &entries {
            write_line(&mut self.lines, entry);
        }
        // A duplicate is confirmed as kept, so whatever it repeats must be synced as well: it was, before its answer.
        let kept = if entries.is_empty() { self.usable() } else { self.append().and_then(|()| self.sync()) };
        if kept.is_ok() {
            let mut book = self.shared.book();
            for entry in entries {
                book.take(entry);
            }
        }
        for (verdicts, answer) in answers {
            if kept.is_ok() {
                for verdict in &verdicts {
                    self.counters.verdicts[verdict.index()].increment(1);
                }
            }
            // A caller that has hung up can ask again: the answer will be `duplicate`.
            let _ = answer.send(kept.clone().map(|()| verdicts));
        }
    }

    /// Carries over what is known of these customers, and appends that it was.
    fn carry_over(&mut self, keys: &[(CustomerKey, CustomerKey)]) {
        self.lines.clear();
        let mut entries = Vec::new();
        {
            let book = self.shared.book();
            let known = keys.iter().filter(|(from, to)| from != to && book.knows(*from));
            entries.extend(known.map(|(from, to)| Entry::Moved { from: *from, to: *to }));
        }
        if entries.is_empty() {
            return;
        }
        for entry in &entries {
            write_line(&mut self.lines, entry);
        }
        // Not synced: a crash that loses it leaves everything under the earlier key, and it is carried over again.
        if self.append().is_ok() {
            let mut book = self.shared.book();
            for entry in entries {
                book.take(entry);
            }
        }
    }

    /// Forgets customers, writes the journal without them, and only then answers.
    fn erase(&mut self, erasures: Vec<(Vec<CustomerKey>, EraseAnswer)>) {
        // All share one rewrite; each is told its own count.
        let counts: Vec<u64> = {
            let mut book = self.shared.book();
            erasures.iter().map(|(customers, _)| book.erase(&customers.iter().copied().collect())).collect()
        };
        // Whatever the counts: the journal holds lines that the book has let go.
        let written = self.rewrite();
        for ((_, answer), count) in erasures.into_iter().zip(counts) {
            // Whoever asked has hung up.
            let _ = answer.try_send(written.clone().map(|()| count));
        }
    }

    fn usable(&self) -> Result<(), LedgerError> {
        if self.shared.failed.load(Ordering::Relaxed) { Err(LedgerError::Failed) } else { Ok(()) }
    }

    fn append(&mut self) -> Result<(), LedgerError> {
        self.usable()?;
        self.journal.append(&self.lines).map_err(|err| {
            tracing::error!(error = %err, cause = %cause(&err), "outcomes and predictions cannot be written");
            LedgerError::Disk
        })?;
        self.unsynced.get_or_insert_with(Stopwatch::start);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LedgerError> {
        self.usable()?;
        if self.unsynced.is_none() {
            return Ok(());
        }
        self.journal.sync().map_err(|err| {
            // The system may have thrown away what it could not write: trying again would only look like success.
            self.shared.failed.store(true, Ordering::Relaxed);
            tracing::error!(error = %err, cause = %cause(&err), "outcomes cannot be synced; none is accepted until a restart");
            LedgerError::Failed
        })?;
        self.unsynced = None;
        Ok(())
    }

    /// Drops from the journal what the book has forgotten.
    fn rewrite_if_due(&mut self) {
        if self.journal.bytes() < SMALLEST_REWRITE.max(2 * self.rewritten_bytes) || self.usable().is_err() {
            return;
        }
        // A failure is logged; it is tried again when the journal has doubled.
        let _ = self.rewrite();
    }

    /// Writes the journal anew, synced, with what the book holds.
    fn rewrite(&mut self) -> Result<(), LedgerError> {
        self.usable()?;
        self.lines.clear();
        {
            let mut book = self.shared.book();
            book.expire();
            book.entries().for_each(|entry| write_line(&mut self.lines, &entry));
        }
        let written = self.journal.rewrite(&self.lines);
        self.rewritten_bytes = self.journal.bytes();
        self.lines = Vec::new();
        match written {
            Ok(()) => {
                self.unsynced = None;
                Ok(())
            }
            Err(err) => {
                tracing::warn!(error = %err, cause = %cause(&err), "journal of outcomes cannot be written anew");
                Err(LedgerError::Disk)
            }
        }
    }
}

fn write_line(lines: &mut Vec<u8>, entry: &Entry) {
    journal::line(lines, &serde_json::to_string(entry).expect("our own entries serialise into memory"));
}

fn cause(err: &JournalError) -> String {
    std::error::Error::source(err).map_or_else(String::new, ToString::to_string)
}

fn log_recovery(settings: &LedgerSettings, recovered: Recovered, unreadable: u64) {
    let Recovered { lines, cut_bytes, damaged_lines } = recovered;
    let path = settings.path.display();
    tracing::info!(%path, lines, cut_bytes, "outcomes are kept");
    let damaged = damaged_lines + unreadable;
    if damaged > 0 {
        tracing::error!(%path, lines = damaged, "journal of outcomes has damaged lines; they are passed over");
    }
}

#[cfg(test)]
mod tests {
    use super::super::outcome::tests::matched;
    use super::*;

    fn settings(path: PathBuf) -> LedgerSettings {
        let limits = BookLimits { predictions: 100, outcomes: 1000, window: 1000, sample_every: 0 };
        LedgerSettings { path, limits, records_predictions: true }
    }

    fn outcome(customer: u8, given: bool) -> Outcome {
        let it = matched(customer, 5.0, "2026-03-01T00:00:00Z");
        Outcome {
            customer: it.customer,
            model: it.model,
            spend_usd: it.spend_usd,
            observed_at: it.observed_at,
            prediction: given.then_some(it.prediction),
        }
    }

    #[tokio::test]
    async fn outcomes_and_predictions_are_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(folder.path().join("below/this"));
        let ledger = Ledger::open(&settings).expect("opens");
        let known = matched(9, 0.0, "2026-03-01T00:00:00Z");
        ledger.record(known.customer, &known.model, || known.prediction.clone());
        let verdicts = ledger.report(vec![outcome(1, true), outcome(1, true), outcome(2, false)]).await;
        let words: Vec<_> = verdicts.expect("kept").iter().map(Verdict::as_str).collect();
        assert_eq!(words, ["recorded", "duplicate", "unmatched"]);
        ledger.close();
        assert_eq!(ledger.report(vec![outcome(3, true)]).await, Err(LedgerError::Failed), "closed");
        drop(ledger);

        let ledger = Ledger::open(&settings).expect("opens again");
        let verdicts = ledger.report(vec![outcome(1, true), outcome(9, false)]).await.expect("kept");
        assert_eq!(verdicts.iter().map(Verdict::as_str).collect::<Vec<_>>(), ["duplicate", "recorded"]);
        let status = ledger.status();
        assert_eq!((status.predictions, status.outcomes, status.quality[0].2.outcomes), (1, 2, 2));
        ledger.close();
    }

    #[tokio::test]
    async fn many_reporters_at_once_each_get_their_own_answer() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(&settings(folder.path().to_owned())).expect("opens");
        let mut reports = Vec::new();
        for customer in 0..100 {
            let ledger = ledger.clone();
            reports.push(async move { ledger.report(vec![outcome(customer / 2, true)]).await });
        }
        let mut recorded = 0;
        for report in reports {
            let verdicts = report.await.expect("kept");
            recorded += verdicts.iter().filter(|verdict| verdict.as_str() == "recorded").count();
        }
        assert_eq!((recorded, ledger.status().outcomes), (50, 50));
        ledger.close();
    }

    #[tokio::test]
    async fn an_erased_customer_is_not_in_the_journal_and_does_not_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let ledger = Ledger::open(&settings(folder.path().to_owned())).expect("opens");
        let tombstones = Tombstones::default();
        ledger.refuse(tombstones.clone());
        let known = matched(1, 0.0, "2026-03-01T00:00:00Z");
        ledger.record(known.customer, &known.model, || known.prediction.clone());
        ledger.report(vec![outcome(1, true), outcome(2, true)]).await.expect("kept");
        let journal = folder.path().join("outcomes.journal");
        let (gone, stays) = ("01".repeat(32), "02".repeat(32));
        assert!(std::fs::read_to_string(&journal).expect("there").contains(&gone));

        tombstones.lay(&[known.customer], known.observed_at).expect("in memory");
        assert_eq!(ledger.erase(&[known.customer]).expect("erased"), 2);
        let text = std::fs::read_to_string(&journal).expect("there");
        assert!(!text.contains(&gone) && text.contains(&stays), "{text}");

        ledger.record(known.customer, &known.model, || known.prediction.clone());
        let verdicts = ledger.report(vec![outcome(1, true), outcome(2, true)]).await.expect("kept");
        assert_eq!(verdicts.iter().map(Verdict::as_str).collect::<Vec<_>>(), ["erased", "duplicate"]);
        assert_eq!(ledger.erase(&[known.customer]).expect("erased"), 0);
        ledger.close();
        assert!(!std::fs::read_to_string(&journal).expect("there").contains(&gone));
        assert!(ledger.erase(&[known.customer]).is_err(), "closed");
    }

    #[tokio::test]
    async fn what_is_carried_over_to_a_new_key_is_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = settings(folder.path().to_owned());
        let ledger = Ledger::open(&settings).expect("opens");
        ledger.report(vec![outcome(1, true)]).await.expect("kept");
        let (from, to) = (CustomerKey::from_digest([1; 32]), CustomerKey::from_digest([9; 32]));
        ledger.carry_over(vec![(from, to), (to, to)]);
        ledger.close();
        drop(ledger);
        let ledger = Ledger::open(&settings).expect("opens again");
        let verdicts = ledger.report(vec![outcome(9, true)]).await.expect("kept");
        assert_eq!(verdicts[0].as_str(), "duplicate");
        ledger.close();
    }

    #[tokio::test]
    async fn a_journal_of_forgotten_outcomes_is_shortened() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = settings(folder.path().to_owned());
        settings.limits.outcomes = 10;
        let ledger = Ledger::open(&settings).expect("opens");
        for group in 0..10_u64 {
            let many = (0..2000_u32).map(|number| {
                let mut digest = [0; 32];
                digest[..4].copy_from_slice(&number.to_le_bytes());
                digest[4..12].copy_from_slice(&group.to_le_bytes());
                Outcome { customer: CustomerKey::from_digest(digest), ..outcome(0, true) }
            });
            ledger.report(many.collect()).await.expect("kept");
        }
        ledger.close();
        let bytes = ledger.status().journal_bytes;
        // 20,000 lines of more than 300 bytes are above the limit, so it was crossed once.
        assert!(bytes < SMALLEST_REWRITE, "{bytes} bytes for 10 outcomes");
        drop(ledger);
        let again = Ledger::open(&settings).expect("opens again");
        assert_eq!(again.status().outcomes, 10);
        again.close();
    }
}
