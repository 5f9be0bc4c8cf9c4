//! Purchases told to the server that has the store's file, on the socket that is named by it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::app::local;
use crate::config::Settings;
use scoreline_store::PurchasesRecorded;

/// A server gives each request its time; a store that waits for its disk may take as long.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a server that does not listen is looked for, and how far apart.
const BEGINNING: u32 = 10;
const BEGINNING_POLL: Duration = Duration::from_millis(200);
/// Bytes that a row takes at most, of those that are usual.
const ROW: usize = 1024;

/// A purchase as the server is told it.
#[derive(Serialize)]
pub(super) struct ToldPurchase {
    pub(super) customer_id: Box<str>,
    pub(super) date: String,
    pub(super) amount: f64,
    pub(super) items: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) purchase_id: Option<Box<str>>,
    /// How many equal ones without an id came before it in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repetition: Option<u32>,
}

/// The server beside the store.
pub(super) struct StoreServer {
    store: PathBuf,
    /// The process that holds the store's lock.
    holder: String,
    /// Purchases that it takes at a time.
    pub(super) rows: usize,
}

#[derive(Deserialize)]
struct PurchasesReply {
    purchases: ReplyCounts,
    errors: Vec<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyCounts {
    written: u64,
    same: u64,
    erased: u64,
}

#[derive(Deserialize)]
struct ReplyError {
    error: ErrorText,
}

#[derive(Deserialize)]
struct ErrorText {
    message: String,
}

impl StoreServer {
    /// # Errors
    /// When nobody answers there.
    pub(super) async fn of(store: &Path, holder: &str, settings: &Settings) -> anyhow::Result<Self> {
        let rows = settings.server.batch_rows.min(settings.server.batch_body_limit / ROW).max(1);
        let server = Self { store: store.to_owned(), holder: holder.to_owned(), rows };
        // One that has just begun listens in a moment.
        for _ in 0..BEGINNING {
            if server.connect().is_ok() {
                break;
            }
            sleep(BEGINNING_POLL).await;
        }
        server.connect()?;
        Ok(server)
    }

    fn connect(&self) -> anyhow::Result<tokio::net::UnixStream> {
        let takes_none = "the process that has it takes no purchases: it is no server, or none that has opened it yet";
        let stream = local::connect(&self.store).context(takes_none)?;
        // Names of sockets are anybody's: customers' identifiers are for the holder of the lock alone.
        let answers = stream.peer_cred()?.pid().map(|process| process.to_string());
        if answers.is_some_and(|process| process != self.holder) {
            bail!("another process answers on its socket");
        }
        Ok(stream)
    }

    /// # Errors
    /// When they are not taken, or that is not known: telling them again changes nothing.
    pub(super) async fn tell(&self, purchases: &[ToldPurchase]) -> anyhow::Result<PurchasesRecorded> {
        let mut body = Vec::with_capacity(purchases.len() * 128);
        for purchase in purchases {
            serde_json::to_writer(&mut body, purchase)?;
            body.push(b'\n');
        }
        // A line by itself would be one object, and its customer's erasure an error.
        if let [_] = purchases {
            body = [b"[", body.trim_ascii_end(), b"]"].concat();
        }
        let reply =
            timeout(PATIENCE, self.ask(&body)).await.context("the server that has the store does not answer")??;
        let (head, reply) = reply.split_once("\r\n\r\n").context("the server that has the store broke off")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status != "200" {
            let said =
                serde_json::from_str(reply).map_or_else(|_| String::new(), |said: ReplyError| said.error.message);
            return Err(anyhow!("the server that has the store answers {status}: {said}"));
        }
        let PurchasesReply { purchases, errors } =
            serde_json::from_str(reply).context("the answer of the server that has the store cannot be read")?;
        if let Some(first) = errors.first() {
            bail!("the server that has the store refuses {} purchases: {}", errors.len(), first.error.message);
        }
        let ReplyCounts { written, same, erased } = purchases;
        Ok(PurchasesRecorded { written, same, refused: erased, impossible: 0 })
    }

    /// One request on a connection of its own; the reply whole.
    async fn ask(&self, body: &[u8]) -> anyhow::Result<String> {
        let mut stream = self.connect()?;
        let length = body.len();
        let head = format!(
            "POST /v1/purchases HTTP/1.1\r\nhost: store\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok(reply)
    }
}
