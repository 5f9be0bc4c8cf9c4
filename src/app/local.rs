//! The socket beside an SQLite store: while a server has the file, commands of this machine tell it what they would write.
//!
//! Nobody has to say where the server listens, with which certificate and whose key: whoever may write the store's file may
//! connect, and nobody else.

use std::fs::{self, File, Permissions};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::UnixListener;
use tokio::time::sleep;

use crate::http::Endpoints;
use crate::lifecycle::Stop;
use scoreline_domain::durable::{PRIVATE, folder_of};
use scoreline_store::Store;

/// What the socket's name ends in, behind the store's.
const SOCKET: &str = ".sock";
/// How often is looked whether the store is open.
const OPEN_POLL: Duration = Duration::from_millis(100);

/// A path that is short however deep its folder is: the name of a socket has room for 107 bytes.
pub struct SocketPath {
    /// Held for as long as the path is used.
    folder: File,
    name: PathBuf,
}

impl SocketPath {
    /// Beside a store's file.
    ///
    /// # Errors
    /// When its folder cannot be opened.
    pub fn of(store: &Path) -> std::io::Result<Self> {
        let mut name = store.file_name().unwrap_or_default().to_owned();
        name.push(SOCKET);
        Ok(Self { folder: File::open(folder_of(store))?, name: name.into() })
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(&self.name)
    }
}

/// Answers commands from the moment the store is open until the process stops. A supervised task.
pub(super) async fn serve(at: PathBuf, store: Arc<OnceLock<Store>>, endpoints: Endpoints, stop: Stop) {
    // Before that, another process may have the file and its socket.
    while store.get().is_none() {
        tokio::select! {
            () = sleep(OPEN_POLL) => {}
            () = stop.requested() => return,
        }
    }
    match open(&at) {
        Ok((listener, socket)) => {
            let stopping = stop.clone();
            let stopped = async move { stopping.requested().await };
            let served = axum::serve(listener, endpoints.router().clone()).with_graceful_shutdown(stopped).await;
            if let Err(err) = served {
                tracing::warn!(error = %err, "commands of this machine are not answered any more");
            }
            // The next server makes it anew.
            let _ = fs::remove_file(socket.path());
        }
        Err(err) => {
            let error = format!("{err:#}");
            tracing::warn!(error, "commands of this machine cannot be answered: stop the server before they write");
        }
    }
    stop.requested().await;
}

fn open(store: &Path) -> anyhow::Result<(UnixListener, SocketPath)> {
    let socket = SocketPath::of(store).context("folder of the store cannot be opened")?;
    let path = socket.path();
    // Left by a process that was killed: the store's lock is ours.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).with_context(|| format!("socket `{}{SOCKET}`", store.display()))?;
    fs::set_permissions(&path, Permissions::from_mode(PRIVATE)).context("socket cannot be made private")?;
    Ok((listener, socket))
}
