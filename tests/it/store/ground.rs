//! An empty database for one test, and rows to put into it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scoreline::config::variable;
use scoreline::domain::time::Timestamp;
use scoreline::domain::{Channel, CustomerKey, Interaction, InteractionId, SealedId, Sentiment};
use scoreline::store::{Batch, History, Lease, NewInteraction, Recorded, Scan, Store, StoreSettings, Which};
use sqlx::{AssertSqlSafe, Connection as _};

/// Where a test's store is.
pub struct Ground {
    pub settings: StoreSettings,
    folder: Option<tempfile::TempDir>,
    database: Option<String>,
}

impl Ground {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = StoreSettings::sqlite(folder.path().join("scoreline.db"));
        Self { settings, folder: Some(folder), database: None }
    }

    /// A database of its own on the server the tests were given.
    pub async fn postgres(test: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = server();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let test: String = test.chars().take(30).collect();
        let database = format!("scoreline_{}_{number}_{test}", std::process::id());
        let mut admin = sqlx::PgConnection::connect(&server).await.expect("the server of SCORELINE_TEST_POSTGRES");
        let sql = format!("CREATE DATABASE {database} TEMPLATE template0");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("may create databases");
        let (base, _) = server.rsplit_once('/').expect("a URL with a database");
        let settings = StoreSettings::postgres(format!("{base}/{database}"));
        Self { settings, folder: None, database: Some(database) }
    }

    pub async fn remove(self) {
        let Some(database) = self.database else { return };
        let mut admin = sqlx::PgConnection::connect(&server()).await.expect("the server");
        let sql = format!("DROP DATABASE {database} WITH (FORCE)");
        sqlx::query(AssertSqlSafe(sql)).execute(&mut admin).await.expect("dropped");
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.settings).await.expect("opened")
    }

    /// Of an SQLite store.
    pub fn path(&self) -> std::path::PathBuf {
        self.folder.as_ref().expect("an SQLite store").path().join("scoreline.db")
    }
}

fn server() -> String {
    let url = variable("SCORELINE_TEST_POSTGRES").and_then(|url| url.into_string().ok());
    url.expect("SCORELINE_TEST_POSTGRES names a server: `export SCORELINE_TEST_POSTGRES=$(bash tests/postgres start)`")
}

pub const MINUTE: Duration = Duration::from_mins(1);

/// Seconds after a fixed time.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).expect("in the calendar")
}

pub fn key(number: u32) -> CustomerKey {
    let mut digest = [0x5a; 32];
    digest[..4].copy_from_slice(&number.to_be_bytes());
    CustomerKey::from_digest(digest)
}

pub fn id(number: u32) -> InteractionId {
    let mut id = [0xc3; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    InteractionId(id)
}

pub fn sentiment(score: f64) -> Option<Sentiment> {
    let sentiment = Sentiment::new(score);
    assert!(sentiment.is_some(), "within -1..1: {score}");
    sentiment
}

/// A scored voice interaction of five minutes, about billing, in the queue `support`.
pub fn interaction(number: u32, customer: u32, start: i64) -> Interaction {
    Interaction {
        id: id(number),
        customer: key(customer),
        start: at(start),
        end: Some(at(start + 300)),
        channel: Channel::Voice,
        handle_ms: Some(240_000),
        sentiment: sentiment(0.25),
        topics: vec!["billing".into()],
        queue: Some("support".into()),
    }
}

pub fn new(interaction: Interaction) -> NewInteraction {
    let contact = Some(SealedId(format!("sealed {:?}", interaction.customer).into_bytes().into()));
    NewInteraction { interaction, contact }
}

pub fn batch<'a>(interactions: &'a [NewInteraction], lease: Option<&'a Lease>) -> Batch<'a> {
    Batch { interactions, annotations: &[], source: "test", position: "{}", at: at(0), lease }
}

pub async fn record(store: &Store, interactions: impl IntoIterator<Item = Interaction>) -> Recorded {
    let interactions: Vec<_> = interactions.into_iter().map(new).collect();
    store.record(&batch(&interactions, None)).await.expect("recorded")
}

/// Every history of a scan, over all its pages.
pub async fn scan(store: &Store, which: Which, interactions: usize) -> Vec<History> {
    let mut scan = Scan { which, after: None, interactions, since: None };
    let mut all = Vec::new();
    loop {
        let page = store.scan(&scan).await.expect("scanned");
        all.extend(page.histories);
        scan.after = page.next;
        if page.next.is_none() {
            return all;
        }
    }
}
