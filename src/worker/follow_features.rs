//! Keeps the table of features what the store has: reads what changed since the last look, in the order it was stored.
//!
//! Predictions read the table, never the store: while the store is slow, gone or hanging, they are answered from what
//! was read last, and say how old it is.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use metrics::{Gauge, gauge};

use crate::scoring::feature_table::{Absorbed, FeatureTable, TableChange};
use scoreline_domain::time::Rounds;

/// Changes that are taken in together: each time the parts of the table they touch are copied.
const MOST_AT_ONCE: usize = 65_536;
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
    ok: Gauge,
}

impl<F: FeatureFeed> FeatureTableKeeper<F> {
    pub fn new(feed: F, table: FeatureTable) -> Self {
        metrics::describe_gauge!("scoreline_book_feed_ok", "1 while features in memory follow those in the store.");
        Self { feed, table, position: 0, failing: false, ok: gauge!("scoreline_book_feed_ok") }
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
            let FeedPage { changes, position, more } = self.read().await?;
            let Absorbed { stored, removed, refused } = self.absorb(changes).await?;
            self.position = position;
            sum.stored += stored;
            sum.removed += removed;
            sum.refused += refused;
            if !more {
                self.table.set_complete();
                return Ok(sum);
            }
        }
    }

    /// Pages until there are enough changes to take in, or no more.
    async fn read(&self) -> Result<FeedPage, FeedError> {
        let mut all = FeedPage { position: self.position, more: true, ..FeedPage::default() };
        while all.more && all.changes.len() < MOST_AT_ONCE {
            let page = tokio::time::timeout(PATIENCE, self.feed.since(all.position)).await;
            let FeedPage { changes, position, more } = page.map_err(|_| FeedError::Timeout)??;
            all.changes.extend(changes);
            (all.position, all.more) = (position, more);
        }
        Ok(all)
    }

    /// On a thread that may be busy for a while: the requests' own are not.
    async fn absorb(&self, changes: Vec<TableChange>) -> Result<Absorbed, FeedError> {
        if changes.is_empty() {
            return Ok(Absorbed::default());
        }
        let table = self.table.clone();
        tokio::task::spawn_blocking(move || table.absorb(changes)).await.map_err(|_| FeedError::Absorb)
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
