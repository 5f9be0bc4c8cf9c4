//! The socket of an SQLite store: while a server has the file, commands of this machine tell it what they would write.
//!
//! Nobody has to say where the server listens, with which certificate and whose key. The socket has no file: its name is
//! that of the store's file, by device and number. The server answers its own user, and a command speaks only to the
//! process that holds the store's lock.

use std::fs;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::sleep;

use crate::http::Endpoints;
use crate::lifecycle::Stop;
use scoreline_store::Store;

/// How often is looked whether the store is open.
const OPEN_POLL: Duration = Duration::from_millis(100);

fn address(store: &Path) -> io::Result<SocketAddr> {
    let file = fs::metadata(store)?;
    SocketAddr::from_abstract_name(format!("scoreline {:x} {:x}", file.dev(), file.ino()))
}

/// Connects to the server that has a store's file.
///
/// # Errors
/// When nobody listens there.
pub fn connect(store: &Path) -> io::Result<tokio::net::UnixStream> {
    let stream = UnixStream::connect_addr(&address(store)?)?;
    stream.set_nonblocking(true)?;
    tokio::net::UnixStream::from_std(stream)
}

/// Answers commands from the moment the store is open until the process stops. A supervised task.
pub(super) async fn serve(at: PathBuf, store: Arc<OnceLock<Store>>, endpoints: Endpoints, stop: Stop) {
    // Before that, another process may have the file.
    while store.get().is_none() {
        tokio::select! {
            () = sleep(OPEN_POLL) => {}
            () = stop.requested() => return,
        }
    }
    match listen(&at) {
        Ok(listener) => {
            let stopping = stop.clone();
            endpoints.answer_commands(listener, async move { stopping.requested().await }).await;
        }
        Err(error) => {
            tracing::warn!(%error, "commands of this machine cannot be answered: stop the server before they write");
        }
    }
    stop.requested().await;
}

fn listen(store: &Path) -> io::Result<tokio::net::UnixListener> {
    let listener = UnixListener::bind_addr(&address(store)?)?;
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}
