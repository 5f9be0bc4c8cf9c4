//! What commands tell the server that has the store's file, on the socket that is named by it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};

use crate::app::local;
use crate::config::Settings;

/// A server gives each request its time; a store that waits for its disk may take as long.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a server that does not listen is looked for, and how far apart.
const BEGINNING: u32 = 10;
const BEGINNING_POLL: Duration = Duration::from_millis(200);
/// Bytes that a row takes at most, of those that are usual.
const ROW: usize = 1024;

/// The server beside the store.
pub(super) struct StoreServer {
    store: PathBuf,
    /// The process that holds the store's lock.
    holder: String,
    /// Rows that it takes at a time.
    pub(super) rows: usize,
}

/// What is wrong with a row, or with all of them.
#[derive(Deserialize)]
pub(super) struct ReplyError {
    pub(super) error: ErrorText,
}

#[derive(Deserialize)]
pub(super) struct ErrorText {
    pub(super) message: String,
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
        let takes_none = "the process that has it answers no commands: it is no server, or none that has opened it yet";
        let stream = local::connect(&self.store).context(takes_none)?;
        // Names of sockets are anybody's: customers' identifiers are for the holder of the lock alone.
        let answers = stream.peer_cred()?.pid().map(|process| process.to_string());
        if answers.is_some_and(|process| process != self.holder) {
            bail!("another process answers on its socket");
        }
        Ok(stream)
    }

    /// Asks for something; the answer's body.
    ///
    /// # Errors
    /// When it is not done, or that is not known.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> anyhow::Result<T> {
        let reply = timeout(PATIENCE, self.ask(path, body))
            .await
            .context("the server that has the store does not answer")??;
        let (head, reply) = reply.split_once("\r\n\r\n").context("the server that has the store broke off")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') {
            let said =
                serde_json::from_str(reply).map_or_else(|_| String::new(), |said: ReplyError| said.error.message);
            return Err(anyhow!("the server that has the store answers {status}: {said}"));
        }
        serde_json::from_str(reply).context("the answer of the server that has the store cannot be read")
    }

    /// One request on a connection of its own; the reply whole.
    async fn ask(&self, path: &str, body: &[u8]) -> anyhow::Result<String> {
        let mut stream = self.connect()?;
        let length = body.len();
        let head =
            format!("POST {path} HTTP/1.1\r\nhost: store\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await?;
        Ok(reply)
    }
}

/// Rows as one body. A line by itself would be one object, and what is wrong with it an error of the request.
pub(super) fn body_of(rows: &[Vec<u8>]) -> Vec<u8> {
    match rows {
        [one] => [b"[", one.as_slice(), b"]"].concat(),
        more => more.join(&b'\n'),
    }
}
