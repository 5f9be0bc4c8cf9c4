//! A server around `Reloading`: accepts, shakes hands, answers HTTP with the name of the peer, keeps the refusals.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use scoreline_domain::time::ManualClock;
use scoreline_listener::tls::{
    AllowedSubjects, CertificateNames, ClientSettings, HandshakeRefusal, MinVersion, Presence, Reloading, TlsListener,
    TlsSettings,
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Identity};

/// The names that the test server admits.
pub const ALLOWED: [&str; 4] =
    ["crm.clients.example", "*.region.clients.example", "spiffe://corp.example/crm", "CRM service"];

/// The files of a listener in a folder of their own.
pub struct Files {
    pub folder: TempDir,
    pub settings: TlsSettings,
}

pub struct Server {
    pub address: SocketAddr,
    pub reloading: Arc<Reloading>,
    refusals: Arc<Mutex<Vec<HandshakeRefusal>>>,
    accepting: JoinHandle<()>,
}

impl Files {
    /// A server's certificate without any word of clients.
    pub fn new(server: &Identity) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let settings = TlsSettings {
            listener: TlsListener::Public,
            certificate: folder.path().join("tls.crt"),
            key: folder.path().join("tls.key"),
            min_version: MinVersion::Tls12,
            clients: None,
        };
        let files = Self { folder, settings };
        files.write_server(server);
        files
    }

    /// And client certificates of `cas` are required.
    pub fn with_clients(server: &Identity, cas: &[&Authority], lists: &[Vec<u8>]) -> Self {
        let mut files = Self::new(server);
        let path = |name: &str| files.folder.path().join(name);
        let crl: Vec<PathBuf> = (0..lists.len()).map(|number| path(&format!("{number}.crl"))).collect();
        for (path, list) in crl.iter().zip(lists) {
            write(path, list);
        }
        let ca = path("client-ca.pem");
        write(&ca, cas.iter().map(|ca| ca.pem()).collect::<String>().as_bytes());
        let allowed_subjects = AllowedSubjects::parse(ALLOWED).expect("usable names");
        files.settings.clients = Some(ClientSettings { presence: Presence::Required, ca, allowed_subjects, crl });
        files
    }

    pub fn write_server(&self, server: &Identity) {
        write(&self.settings.certificate, server.chain_pem().as_bytes());
        write_key(&self.settings.key, &server.key_pem());
    }

    pub fn clients(&mut self) -> &mut ClientSettings {
        self.settings.clients.as_mut().expect("with clients")
    }

    pub fn reloading(&self, clock: Arc<ManualClock>) -> Arc<Reloading> {
        Arc::new(Reloading::start(self.settings.clone(), clock).expect("usable files"))
    }
}

impl Server {
    pub async fn start(files: &Files) -> Self {
        Self::at(files, clock()).await
    }

    #[expect(clippy::disallowed_methods, reason = "the connections of a test server end with the test")]
    pub async fn at(files: &Files, clock: Arc<ManualClock>) -> Self {
        let reloading = files.reloading(clock);
        let configs = reloading.configs();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let refused = Arc::clone(&refusals);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, from) = listener.accept().await.expect("accepts");
                let (acceptor, refused) = (TlsAcceptor::from(configs()), Arc::clone(&refused));
                tokio::spawn(async move {
                    if let Err(refusal) = answer(acceptor, stream).await {
                        refusal.report(TlsListener::Public.name(), from);
                        refused.lock().expect("no panics").push(refusal);
                    }
                });
            }
        });
        Self { address, reloading, refusals, accepting }
    }

    /// The refusals since the last call; waits for one.
    pub async fn refusal(&self) -> HandshakeRefusal {
        for _ in 0..500 {
            if let Some(refusal) = self.refusals.lock().expect("no panics").pop() {
                return refusal;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing was refused within 5 s");
    }

    pub fn refusals(&self) -> usize {
        self.refusals.lock().expect("no panics").len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

pub fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at("2026-11-21T10:00:00Z".parse().expect("a time")))
}

pub fn write(path: &Path, contents: &[u8]) {
    std::fs::write(path, contents).unwrap_or_else(|err| panic!("{}: {err}", path.display()));
}

pub fn write_key(path: &Path, pem: &str) {
    write(path, pem.as_bytes());
    mode(path, 0o600);
}

pub fn mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
}

async fn answer(acceptor: TlsAcceptor, stream: TcpStream) -> Result<(), HandshakeRefusal> {
    let accepted = acceptor.accept(stream).await.map_err(|err| HandshakeRefusal::of_handshake(&err))?;
    let chain = accepted.get_ref().1.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
    let who = match CertificateNames::of(&chain) {
        Ok(peer) => peer.sans.iter().map(ToString::to_string).chain(peer.subject_cn).collect::<Vec<_>>().join(" "),
        Err(err) => err.to_string(),
    };
    let service = hyper::service::service_fn(move |_| {
        let who = who.clone();
        async move { Ok::<_, Infallible>(Response::new(Body::from(who))) }
    });
    // A client that hangs up after its answer is no failure.
    let _ = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(accepted), service).await;
    Ok(())
}
