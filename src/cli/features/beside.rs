//! Purchases told to the server that has the store's file, on the socket beside it.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use reqwest::Client;
use serde::{Deserialize, Serialize};

use crate::app::local::SocketPath;
use crate::config::Settings;
use scoreline_store::PurchasesRecorded;

/// A server gives each request its time; a store that waits for its disk may take as long.
const PATIENCE: Duration = Duration::from_mins(2);
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
    client: Client,
    _socket: SocketPath,
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
    pub(super) fn of(store: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let socket = SocketPath::of(store)?;
        if !socket.path().exists() {
            bail!("the process that has it takes no purchases: it is no server, or none that has opened it yet");
        }
        let client = Client::builder().unix_socket(socket.path()).timeout(PATIENCE).build()?;
        let rows = settings.server.batch_rows.min(settings.server.batch_body_limit / ROW).max(1);
        Ok(Self { client, _socket: socket, rows })
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
        let request = self.client.post("http://store/v1/purchases").body(body);
        let reply = request.send().await.context("the server that has the store does not answer")?;
        let status = reply.status();
        let reply = reply.bytes().await.context("the server that has the store broke off")?;
        if !status.is_success() {
            let said =
                serde_json::from_slice::<ReplyError>(&reply).map_or_else(|_| String::new(), |said| said.error.message);
            return Err(anyhow!("the server that has the store answers {status}: {said}"));
        }
        let PurchasesReply { purchases, errors } =
            serde_json::from_slice(&reply).context("its answer cannot be read")?;
        if let Some(first) = errors.first() {
            bail!("the server that has the store refuses {} purchases: {}", errors.len(), first.error.message);
        }
        let ReplyCounts { written, same, erased } = purchases;
        Ok(PurchasesRecorded { written, same, refused: erased, impossible: 0 })
    }
}
