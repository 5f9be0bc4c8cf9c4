//! A client that sends whatever certificate it is given, whether the server will like it or not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{
    AlertDescription, ClientConfig, Error, HandshakeKind, RootCertStore, SignatureAlgorithm, SignatureScheme,
    SupportedProtocolVersion,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Identity};
use super::server::Server;

pub type Version = &'static SupportedProtocolVersion;

/// What a client shows: a chain and how it signs.
#[derive(Clone, Debug)]
pub struct Shown(Option<Arc<CertifiedKey>>);

impl Shown {
    pub fn nothing() -> Self {
        Self(None)
    }

    pub fn new(identity: &Identity) -> Self {
        Self::signed_by(identity, identity)
    }

    /// The chain of one, the key of another.
    pub fn signed_by(chain: &Identity, key: &Identity) -> Self {
        let key = default_provider().key_provider.load_private_key(key.private_key()).expect("a key");
        Self(Some(Arc::new(CertifiedKey::new(chain.chain.clone(), key))))
    }

    /// With a bit of every handshake signature turned.
    pub fn with_broken_signatures(identity: &Identity) -> Self {
        let key = default_provider().key_provider.load_private_key(identity.private_key()).expect("a key");
        Self(Some(Arc::new(CertifiedKey::new(identity.chain.clone(), Arc::new(Broken(key))))))
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

#[derive(Debug)]
struct Broken<T: ?Sized>(T);

impl SigningKey for Broken<Arc<dyn SigningKey>> {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered).map(|signer| Box::new(Broken(signer)) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl Signer for Broken<Box<dyn Signer>> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let mut signature = self.0.sign(message)?;
        if let Some(last) = signature.last_mut() {
            *last ^= 1;
        }
        Ok(signature)
    }

    fn scheme(&self) -> SignatureScheme {
        self.0.scheme()
    }
}

/// A client that trusts `ca` and shows `shown`. Its sessions are remembered from one connection to the next.
pub fn client(ca: &Authority, shown: Shown, version: Version) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der()).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(shown));
    Arc::new(config)
}

/// Connects and asks once: the kind of handshake, and the answer's last line.
pub async fn ask(server: &Server, client: &Arc<ClientConfig>) -> io::Result<(HandshakeKind, String)> {
    let mut stream = connect(server, client).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let kind = stream.get_ref().1.handshake_kind().expect("shaken hands");
    let body = answer.rsplit("\r\n").next().unwrap_or_default().to_owned();
    if answer.starts_with("HTTP/1.1 200") { Ok((kind, body)) } else { Err(io::Error::other(answer)) }
}

/// The alert that ends a connection which must not come about. Nothing is sent: the alert of TLS 1.3 comes after the
/// client's part of the handshake, and a reset could overtake it.
pub async fn alert(server: &Server, client: &Arc<ClientConfig>) -> AlertDescription {
    let refused = async {
        let mut stream = connect(server, client).await?;
        stream.read_u8().await
    };
    let err = tokio::time::timeout(Duration::from_secs(5), refused).await.expect("an end").expect_err("refused");
    match err.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
        Some(Error::AlertReceived(alert)) => *alert,
        other => panic!("no alert but {other:?}: {err}"),
    }
}

async fn connect(server: &Server, client: &Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(server.address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::clone(client)).connect(name, stream).await
}
