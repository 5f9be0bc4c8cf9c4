//! Keeps the table of features what the store has: reads what changed since the last look, in the order it was stored.
//!
//! Predictions read the table, never the store: while the store is slow, gone or hanging, they are answered from what
//! was read last, and say how old it is.

use std::pin::pin;
use std::sync::mpsc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{Gauge, gauge};
use tokio::sync::oneshot;

use crate::scoring::feature_table::{Absorbed, FeatureTable, TableBatch, TableChange};
use scoreline_domain::time::{Rounds, Stopwatch};

/// Longest time the store may take for one page.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where changed features come from.
pub trait FeatureFeed: Send + Sync {
    /// What was stored, or removed, after `position`; 0 is the beginning. Of several changes of one customer the last
    /// is enough.
    ///
    /// # Errors
    /// Why it cannot be read. It is asked again.
    fn since(&self, position: u64) -> BoxFuture<'_, Result<FeedPage, FeedError>>;
}

/// Some changes, in the order they were stored.
#[derive(Clone, Debug, Default)]
pub struct FeedPage {
    pub changes: Vec<TableChange>,
    /// Where the next page begins.
    pub position: u64,
    /// Whether more is waiting behind it.
    pub more: bool,
}

/// A batch, and who waits for what became of it.
type Absorbing = (TableBatch, oneshot::Sender<Absorbed>);

/// A thread that takes batches in, which may keep it busy for a while: the requests' own are not. Always the same one,
/// because the allocator keeps memory by thread: shards that every thread of a pool made in turn took three times theirs.
/// It ends with whoever sends to it.
fn writer(table: FeatureTable) -> mpsc::Sender<Absorbing> {
    let (batches, waiting) = mpsc::channel::<Absorbing>();
    let run = move || {
        for (batch, tell) in waiting {
            // Who asked may have stopped waiting.
            let _ = tell.send(table.take_in(batch));
        }
    };
    // Without a thread the channel is closed, and each batch says that it was not taken in.
    drop(std::thread::Builder::new().name("features".to_owned()).spawn(run));
    batches
}

/// Pages that are taken in together.
struct Read {
    batch: TableBatch,
    position: u64,
    more: bool,
}

/// Why changes could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    #[error("changed features cannot be read from the store")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the store gave no changed features within {} s", PATIENCE.as_secs())]
    Timeout,
    #[error("taking in changed features broke off")]
    Absorb,
}

/// Follows a feed with a table. One for the process.
pub struct FeatureTableKeeper<F> {
    feed: F,
    table: FeatureTable,
    position: u64,
    /// Whether the last look went wrong: it is logged once, not every time.
    failing: bool,
    /// Since the table was empty.
    since: Stopwatch,
    writer: mpsc::Sender<Absorbing>,
    ok: Gauge,
}

impl<F: FeatureFeed> FeatureTableKeeper<F> {
    pub fn new(feed: F, table: FeatureTable) -> Self {
        metrics::describe_gauge!("scoreline_book_feed_ok", "1 while features in memory follow those in the store.");
        let since = Stopwatch::start();
        let writer = writer(table.clone());
        Self { feed, table, position: 0, failing: false, since, writer, ok: gauge!("scoreline_book_feed_ok") }
    }

    /// Looks every so often until `stop` is ready. A supervised task.
    pub async fn keep(mut self, period: Duration, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut rounds = Rounds::every(period);
        while rounds.next(stop.as_mut()).await {
            // A look may hang for long.
            let looked = tokio::select! {
                biased;
                () = stop.as_mut() => return,
                looked = self.catch_up() => looked,
            };
            self.tell(looked);
        }
    }

    /// Takes in everything that is new.
    ///
    /// # Errors
    /// When the store cannot be read. What was read before is in the table, and the next look goes on behind it.
    pub async fn catch_up(&mut self) -> Result<Absorbed, FeedError> {
        let mut sum = Absorbed::default();
        loop {
            let Read { batch, position, more } = self.read().await?;
            let Absorbed { stored, removed, refused } = self.absorb(batch).await?;
            self.position = position;
            sum.stored += stored;
            sum.removed += removed;
            sum.refused += refused;
            if !more {
                if !self.table.is_complete() {
                    let (customers, seconds) = (self.table.customers(), self.since.elapsed().as_secs_f64());
                    tracing::info!(customers, seconds, "the features of all known customers are in memory");
                }
                self.table.set_complete();
                return Ok(sum);
            }
        }
    }

    /// Pages until there are enough changes to take in, or no more.
    async fn read(&self) -> Result<Read, FeedError> {
        let most = self.table.most_at_once();
        let mut all = Read { batch: TableBatch::default(), position: self.position, more: true };
        while all.more && all.batch.len() < most {
            let page = tokio::time::timeout(PATIENCE, self.feed.since(all.position)).await;
            let FeedPage { changes, position, more } = page.map_err(|_| FeedError::Timeout)??;
            all.batch.extend(changes);
            (all.position, all.more) = (position, more);
        }
        Ok(all)
    }

    async fn absorb(&self, batch: TableBatch) -> Result<Absorbed, FeedError> {
        if batch.is_empty() {
            return Ok(Absorbed::default());
        }
        let (tell, absorbed) = oneshot::channel();
        self.writer.send((batch, tell)).map_err(|_| FeedError::Absorb)?;
        absorbed.await.map_err(|_| FeedError::Absorb)
    }

    fn tell(&mut self, looked: Result<Absorbed, FeedError>) {
        match looked {
            Ok(Absorbed { stored, removed, .. }) => {
                if self.failing {
                    tracing::info!("stored features can be read again");
                }
                if stored + removed > 0 {
                    tracing::debug!(stored, removed, customers = self.table.customers(), "stored features were read");
                }
                self.failing = false;
            }
            Err(err) => {
                if !self.failing {
                    let cause = std::error::Error::source(&err).map(ToString::to_string);
                    tracing::warn!(error = %err, cause, "predictions by id are made from the features that were read last");
                }
                self.failing = true;
            }
        }
        self.ok.set(if self.failing { 0.0 } else { 1.0 });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::scoring::feature_table::StoredFeatures;
    use scoreline_domain::CustomerKey;
    use scoreline_domain::feature::CATALOGUE;
    use scoreline_domain::time::Timestamp;

    /// What a test says is stored, in pages of two.
    #[derive(Clone, Default)]
    struct ChangeLog {
        changes: Arc<Mutex<Vec<TableChange>>>,
        mood: Arc<Mutex<Mood>>,
    }

    #[derive(Clone, Copy, Default, PartialEq)]
    enum Mood {
        #[default]
        Well,
        Failing,
        Hanging,
    }

    impl ChangeLog {
        fn store(&self, number: u8, tag: i64) {
            self.change(number, Some(tagged(tag)));
        }

        fn change(&self, number: u8, features: Option<StoredFeatures>) {
            let (customer, number) = (customer(number), number.into());
            let change = match features {
                Some(features) => TableChange::Stored { number, customer, features },
                None => TableChange::Gone { number },
            };
            self.changes.lock().expect("not poisoned").push(change);
        }

        fn set(&self, mood: Mood) {
            *self.mood.lock().expect("not poisoned") = mood;
        }
    }

    impl FeatureFeed for ChangeLog {
        fn since(&self, position: u64) -> BoxFuture<'_, Result<FeedPage, FeedError>> {
            Box::pin(async move {
                let mood = *self.mood.lock().expect("not poisoned");
                match mood {
                    Mood::Well => {}
                    Mood::Failing => return Err(FeedError::Store("no such table".into())),
                    Mood::Hanging => std::future::pending().await,
                }
                let log = self.changes.lock().expect("not poisoned");
                let rest = &log[usize::try_from(position).expect("a position")..];
                let changes: Vec<TableChange> = rest.iter().take(2).cloned().collect();
                let position = position + changes.len() as u64;
                Ok(FeedPage { more: (position as usize) < log.len(), changes, position })
            })
        }
    }

    fn customer(number: u8) -> CustomerKey {
        CustomerKey::from_digest([number; 32])
    }

    fn tagged(tag: i64) -> StoredFeatures {
        let as_of = Timestamp::from_second(tag).expect("within the calendar");
        StoredFeatures { as_of, exact_until: None, values: [tag as f64; CATALOGUE.len()] }
    }

    fn table() -> FeatureTable {
        FeatureTable::new(Duration::from_hours(36))
    }

    #[tokio::test]
    async fn pages_are_read_to_the_end_and_then_only_what_is_new() {
        let (log, table) = (ChangeLog::default(), table());
        for number in 0..5 {
            log.store(number, 10);
        }
        let mut keeper = FeatureTableKeeper::new(log.clone(), table.clone());
        assert!(!table.is_complete());
        let absorbed = keeper.catch_up().await.expect("read");
        assert_eq!((absorbed.stored, table.customers(), table.is_complete()), (5, 5, true));
        log.store(1, 11);
        log.change(2, None);
        let absorbed = keeper.catch_up().await.expect("read");
        assert_eq!((absorbed.stored, absorbed.removed), (1, 1));
        assert_eq!((table.find(&customer(1)), table.find(&customer(2))), (Some(tagged(11)), None));
        assert_eq!(keeper.catch_up().await.expect("read"), Absorbed::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_or_hangs_is_asked_again_and_nothing_is_lost() {
        let (log, table) = (ChangeLog::default(), table());
        let mut keeper = FeatureTableKeeper::new(log.clone(), table.clone());
        log.store(1, 10);
        keeper.catch_up().await.expect("read");
        log.store(1, 11);
        log.set(Mood::Failing);
        let failed = keeper.catch_up().await.expect_err("failing");
        assert_eq!(failed.to_string(), "changed features cannot be read from the store");
        log.set(Mood::Hanging);
        let failed = keeper.catch_up().await.expect_err("hanging");
        assert_eq!(failed.to_string(), "the store gave no changed features within 30 s");
        assert_eq!(table.find(&customer(1)), Some(tagged(10)), "what was read last");
        log.set(Mood::Well);
        keeper.catch_up().await.expect("read");
        assert_eq!(table.find(&customer(1)), Some(tagged(11)));
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_until_it_is_stopped() {
        let (log, table) = (ChangeLog::default(), table());
        let follows = async {
            log.store(1, 10);
            while table.find(&customer(1)) != Some(tagged(10)) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            log.set(Mood::Failing);
            log.store(1, 11);
            tokio::time::sleep(Duration::from_secs(5)).await;
            log.set(Mood::Well);
            while table.find(&customer(1)) != Some(tagged(11)) {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // It is stopped in the middle of a look that would never end.
            log.set(Mood::Hanging);
            tokio::time::sleep(Duration::from_secs(2)).await;
        };
        FeatureTableKeeper::new(log.clone(), table.clone()).keep(Duration::from_secs(1), follows).await;
        assert_eq!(table.customers(), 1);
    }
}
