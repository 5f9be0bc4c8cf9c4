//! What outlasts the process: interactions, purchases, features, scores, leads and where they stand, wishes for what targets
//! say, outcomes, tombstones, promoted versions, last tiers, positions of extractions, leases of jobs, the pace of tokens, questions
//! that are answered later, answers of conversations that go on, questions to be replayed. They are in an SQLite file or in
//! PostgreSQL, with one logical schema.
//!
//! No clock is read: times are arguments. No raw identifier comes here. What a writing call has answered is committed and
//! synced. `sqlx` is named here and nowhere else.
//!
//! Writers are alone (one connection, or one advisory lock). So what a writing transaction read still holds when it
//! commits, and sequence numbers become visible in order. A damaged file is refused and left as it is; a new one is
//! made under another name and takes its place whole. Erasure overwrites deleted rows and cuts the write-ahead log; in
//! PostgreSQL erased bytes go with vacuum.

mod conversations;
mod customers;
mod db;
mod erase;
mod error;
mod features;
mod health;
mod labels;
mod last_tiers;
mod lead_places;
mod leads;
mod leases;
mod lock;
mod merge;
mod outbox;
mod outcomes;
mod pace;
mod peppers;
mod positions;
mod promotions;
mod purchases;
mod questions;
mod queues;
mod record;
mod rekey;
mod replay_log;
mod rows;
mod scan;
mod schema;
mod scores;
mod settings;
mod sweeps;
mod takeover;
mod wish;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, RwLock};

use scoreline_domain::time::Timestamp;

pub use conversations::ConversationRow;
pub use customers::CustomerNumber;
pub use error::StoreError;
pub use features::{Computed, FeatureChange, FeatureChanges, FeatureRow, Saved};
pub use last_tiers::{LastTier, LastTiers};
pub use leads::{
    Aging, KeptLead, LeadFact, LeadLogEntry, LeadRuling, LeadSource, LeadVerdict, NextLead, ScoreRules, WriteLog,
};
pub use leases::Lease;
pub use outbox::{Claim, FailedWrite, Landed, OutboxCounts, OutboxRow, Settled, WriteOutcome};
pub use outcomes::{KeptOutcome, KeptPrediction, Ruling, ToldOutcome, WaitingPrediction};
pub use peppers::{KnownPeppers, PepperLayer};
pub use purchases::{NewPurchase, PurchaseId, PurchasesRecorded, Repetitions};
pub use questions::{
    CallbackOutcome, DueCallback, KeptQuestion, NewQuestion, QuestionAnswer, QuestionCounts, QuestionRuling,
    QuestionStage, WaitingQuestion,
};
pub use queues::{QueueTotal, ScoredInteraction};
pub use record::{Annotated, Batch, RecordedCounts};
pub use rekey::Rekeyed;
pub use replay_log::ReplayRow;
pub use scan::{ChangeMark, Cursor, History, HistoryPage, ScanRequest, StoredInteraction, StoredPurchase, Which};
pub use scores::{ScoresSaved, StoredScore};
pub use settings::{Check, StorePlace, StoreSettings};
pub use sweeps::RunningSweep;
pub use takeover::{TakenOver, has_old_customers, has_old_files};
pub use wish::{Profile, WishState};

use db::{Db, DbAccess, Tx};
use health::StoreHealth;
use labels::Labels;

/// The store, open. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<StoreState>,
}

struct StoreState {
    db: Db,
    access: DbAccess,
    health: Arc<StoreHealth>,
    /// The layer of the pepper that this process hashes with; 0 when it was not told.
    pepper: AtomicI64,
    /// Labels seen so far. Locked for a moment, never across an await.
    labels: RwLock<Labels>,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreCounts {
    pub customers: u64,
    pub interactions: u64,
    pub purchases: u64,
    pub features: u64,
    pub scores: u64,
    /// Customers whose features do not tell everything yet.
    pub dirty: u64,
}

impl Store {
    /// Opens the store to read and write, begins it when there is none, and brings its schema up to date. An SQLite file
    /// is locked for this process and checked first. Of customers with a tombstone nothing is taken in.
    ///
    /// # Errors
    /// When it is in use, damaged, not ours, newer than this program, or not reached. Nothing is changed then.
    pub async fn open(settings: &StoreSettings) -> Result<Self, StoreError> {
        Self::open_for(settings, DbAccess::Write).await
    }

    /// Opens a store that is there to read from, beside whoever writes.
    ///
    /// # Errors
    /// As `open`, but being in use is no reason. Every writing call fails.
    pub async fn open_to_read(settings: &StoreSettings) -> Result<Self, StoreError> {
        Self::open_for(settings, DbAccess::Read).await
    }

    async fn open_for(settings: &StoreSettings, access: DbAccess) -> Result<Self, StoreError> {
        let db = Db::open(settings, access).await?;
        let state =
            StoreState { db, access, health: Arc::default(), pepper: AtomicI64::new(0), labels: RwLock::default() };
        Ok(Self { inner: Arc::new(state) })
    }

    /// The lock file beside an SQLite store: it stays when the store is closed.
    pub fn lock_of(store: &Path) -> PathBuf {
        lock::beside(store, lock::LOCK)
    }

    /// Finishes what runs and closes the connections; an SQLite file takes its log over. Every later call fails.
    pub async fn close(&self) {
        self.inner.db.close().await;
    }

    /// # Errors
    /// When it cannot be read.
    pub async fn counts(&self) -> Result<StoreCounts, StoreError> {
        const COUNT: &str = "SELECT (SELECT COUNT(*) FROM customers), (SELECT COUNT(*) FROM interactions), \
                             (SELECT COUNT(*) FROM purchases), (SELECT COUNT(*) FROM features), \
                             (SELECT COUNT(*) FROM scores), (SELECT COUNT(*) FROM dirty)";
        let mut tx = self.read("counted").await?;
        let Some(row) = tx.row(COUNT, &[]).await? else { return Ok(StoreCounts::default()) };
        let count = |column| row.int(column).map(i64::cast_unsigned);
        Ok(StoreCounts {
            customers: count(0)?,
            interactions: count(1)?,
            purchases: count(2)?,
            features: count(3)?,
            scores: count(4)?,
            dirty: count(5)?,
        })
    }

    /// The version of its schema, and the newest that this program knows. A store that was opened to read from may have another.
    ///
    /// # Errors
    /// When it cannot be read; `Newer` when this program is too old to write to it.
    pub async fn schema(&self) -> Result<(i64, i64), StoreError> {
        let mut tx = self.read("read").await?;
        let found = tx.row(schema::APPLIED, &[]).await?.map_or(Ok(0), |row| row.int(0))?;
        if found > schema::newest() {
            let oldest = tx.row(schema::OLDEST, &[]).await.ok().flatten();
            schema::check_oldest(found, oldest.map_or(Ok(found), |row| row.int(0))?)?;
        }
        Ok((found, schema::newest()))
    }

    /// When the oldest interaction that is kept started. Reads all of them.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn oldest_interaction(&self) -> Result<Option<Timestamp>, StoreError> {
        let mut tx = self.read("looked through").await?;
        let row = tx.row("SELECT MIN(start_ms) FROM interactions", &[]).await?;
        let ms = row.map(|row| row.opt_int(0)).transpose()?.flatten();
        ms.map(|ms| time(ms, "interactions.start_ms")).transpose()
    }

    async fn write(&self, doing: &'static str) -> Result<Tx, StoreError> {
        if self.inner.access == DbAccess::Read {
            return Err(StoreError::ReadOnly);
        }
        let mut tx = self.inner.db.write(doing, &self.inner.health).await?;
        if self.inner.db.is_shared() {
            self.check_standing(&mut tx).await?;
        }
        Ok(tx)
    }

    async fn read(&self, doing: &'static str) -> Result<Tx, StoreError> {
        self.inner.db.read(doing).await
    }
}

/// A time of the store; its millisecond.
fn time(ms: i64, column: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(ms).map_err(|_| StoreError::Unreadable { column, value: ms.to_string() })
}
