//! From the contents of the files to a server configuration: everything is parsed, matched and dated here, so that a set
//! that would refuse every client is refused as a set.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;

use super::error::TlsError;
use super::files::TlsFiles;
use super::peer;
use super::settings::{ClientSettings, MinVersion, TlsListener, TlsSettings};
use super::verifier::{ClientVerifier, RevocationList};
use scoreline_domain::time::Clock;

/// A set of files that is good, and when it ceases to be.
#[derive(Clone)]
pub struct Loaded {
    pub config: Arc<ServerConfig>,
    /// When the first certificate of the served chain begins to be valid.
    pub certificate_begins: Timestamp,
    /// When the first of the served chain expires.
    pub certificate_expires: Timestamp,
    /// When the first revocation list expires; its CA's clients are refused from then on.
    pub lists_expire: Option<Timestamp>,
}

const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
const TLS13_ONLY: [&SupportedProtocolVersion; 1] = [&version::TLS13];
const TLS12_AND_13: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

impl Loaded {
    pub(super) fn new(settings: &TlsSettings, files: &TlsFiles, clock: &Arc<dyn Clock>) -> Result<Self, TlsError> {
        let listener = settings.listener;
        let setup =
            |err: &dyn std::fmt::Display| TlsError::Setup { section: listener.section(), reason: err.to_string() };
        let provider = Arc::new(default_provider());
        let versions = match settings.min_version {
            MinVersion::Tls12 => TLS12_AND_13.as_slice(),
            MinVersion::Tls13 => TLS13_ONLY.as_slice(),
        };
        let at = File { listener, name: "certificate", path: &settings.certificate };
        let chain = at.certificates(&files.certificate)?;
        let (certificate_begins, certificate_expires) = at.validity(&chain)?;
        let key = File { listener, name: "key", path: &settings.key }.key(&files.key)?;
        let key = provider.key_provider.load_private_key(key).map_err(|err| TlsError::Key {
            key: listener.key("key"),
            path: settings.key.clone(),
            reason: err.to_string(),
        })?;
        let certified = CertifiedKey::new(chain, key);
        certified.keys_match().map_err(|_| TlsError::KeyMismatch {
            key: listener.key("key"),
            path: settings.key.clone(),
            certificate: settings.certificate.clone(),
        })?;

        let builder = ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(ByClock(Arc::clone(clock))))
            .with_protocol_versions(versions)
            .map_err(|err| setup(&err))?;
        let mut lists_expire = None;
        let builder = match (&settings.clients, &files.client_ca) {
            (Some(clients), Some(ca)) => {
                let roots = roots(listener, clients, ca)?;
                let lists = lists(listener, clients, &files.crl, clock.now())?;
                lists_expire = lists.iter().map(|list| list.expires).min();
                let verifier = ClientVerifier::new(listener, clients, roots, lists, &provider);
                builder.with_client_cert_verifier(Arc::new(verifier.map_err(|err| setup(&err))?))
            }
            (None, _) | (_, None) => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        if settings.clients.is_some() {
            // A resumed session is not verified again: whoever was revoked since would come back.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.ticketer = Ticketer::new().map_err(|err| setup(&err))?;
        }
        Ok(Self { config: Arc::new(config), certificate_begins, certificate_expires, lists_expire })
    }

    /// Says what an operator should know of a certificate that is served although clients will refuse it.
    pub(super) fn warn(&self, settings: &TlsSettings, now: Timestamp) {
        let (listener, path) = (settings.listener.name(), settings.certificate.display());
        if self.certificate_expires <= now {
            tracing::warn!(listener, certificate = %path, expired_at = %self.certificate_expires,
                "the TLS certificate has expired: clients will refuse it");
        } else if self.certificate_begins > now {
            tracing::warn!(listener, certificate = %path, valid_from = %self.certificate_begins,
                "the TLS certificate is not valid yet: clients will refuse it");
        }
    }
}

/// One file of the set, for messages.
#[derive(Clone, Copy)]
struct File<'a> {
    listener: TlsListener,
    name: &'static str,
    path: &'a Path,
}

impl File<'_> {
    fn certificates(self, contents: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(contents).collect();
        let found = found.map_err(|err| self.not_pem(&err))?;
        if found.is_empty() {
            return Err(TlsError::NoCertificate { key: self.key_name(), path: self.path.to_owned() });
        }
        Ok(found)
    }

    fn key(self, contents: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
        if contents.windows(9).any(|window| window == b"ENCRYPTED") {
            return Err(TlsError::KeyEncrypted { key: self.key_name(), path: self.path.to_owned() });
        }
        match PrivateKeyDer::from_pem_slice(contents) {
            Ok(key) => Ok(key),
            Err(pem::Error::NoItemsFound) => Err(TlsError::NoKey { key: self.key_name(), path: self.path.to_owned() }),
            Err(err) => Err(self.not_pem(&err)),
        }
    }

    /// When all certificates of a chain are valid.
    fn validity(self, chain: &[CertificateDer<'_>]) -> Result<(Timestamp, Timestamp), TlsError> {
        let mut both = (Timestamp::MIN, Timestamp::MAX);
        for (index, certificate) in chain.iter().enumerate() {
            let parsed = peer::parse(certificate).ok_or_else(|| self.malformed(index))?;
            let valid = parsed.validity();
            both = (both.0.max(time(valid.not_before)), both.1.min(time(valid.not_after)));
        }
        Ok(both)
    }

    /// PEM with any number of lists, or one in DER, as CAs publish them.
    fn lists(self, contents: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        const DER_SEQUENCE: u8 = 0x30;
        if contents.first() == Some(&DER_SEQUENCE) {
            return Ok(vec![CertificateRevocationListDer::from(contents.to_vec())]);
        }
        let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(contents).collect();
        let found = found.map_err(|err| self.not_pem(&err))?;
        if found.is_empty() {
            return Err(TlsError::NoList { key: self.key_name(), path: self.path.to_owned() });
        }
        Ok(found)
    }

    fn key_name(self) -> String {
        self.listener.key(self.name)
    }

    fn malformed(self, index: usize) -> TlsError {
        TlsError::Certificate { key: self.key_name(), path: self.path.to_owned(), position: index + 1 }
    }

    fn not_pem(self, err: &pem::Error) -> TlsError {
        let reason = if matches!(err, pem::Error::MissingSectionEnd { .. }) {
            "a `BEGIN` line without its `END` line".to_owned()
        } else if matches!(err, pem::Error::IllegalSectionStart { .. }) {
            "a malformed `BEGIN` line".to_owned()
        } else {
            err.to_string()
        };
        TlsError::NotPem { key: self.key_name(), path: self.path.to_owned(), reason }
    }
}

fn roots(listener: TlsListener, clients: &ClientSettings, contents: &[u8]) -> Result<RootCertStore, TlsError> {
    let at = File { listener, name: "client_ca", path: &clients.ca };
    let mut roots = RootCertStore::empty();
    for (index, certificate) in at.certificates(contents)?.into_iter().enumerate() {
        let is_ca = peer::parse(&certificate).ok_or_else(|| at.malformed(index))?.is_ca();
        if !is_ca {
            // As an anchor it would be trusted to issue certificates of its own.
            return Err(TlsError::NotACa {
                key: at.key_name(),
                path: at.path.to_owned(),
                position: index + 1,
                subject: peer::shown(&certificate),
            });
        }
        roots.add(certificate).map_err(|_| at.malformed(index))?;
    }
    Ok(roots)
}

fn lists(
    listener: TlsListener,
    clients: &ClientSettings,
    contents: &[Vec<u8>],
    now: Timestamp,
) -> Result<Vec<RevocationList>, TlsError> {
    let mut lists = Vec::new();
    for (path, contents) in clients.crl.iter().zip(contents) {
        let at = File { listener, name: "crl", path };
        for (index, der) in at.lists(contents)?.into_iter().enumerate() {
            let (key, path) = (at.key_name(), at.path.to_owned());
            let Ok(([], list)) = CertificateRevocationList::from_der(&der) else {
                let reason = "it is not DER of a revocation list".to_owned();
                return Err(TlsError::List { key, path, position: index + 1, reason });
            };
            let issuer = list.issuer().as_raw().to_vec();
            let shown = list.issuer().to_string().escape_debug().to_string();
            let Some(expires) = list.next_update().map(time) else {
                return Err(TlsError::ListWithoutEnd { key, path, issuer: shown });
            };
            if expires <= now {
                return Err(TlsError::ListExpired { key, path, issuer: shown, since: expires });
            }
            lists.push(RevocationList { der, issuer, expires });
        }
    }
    Ok(lists)
}

/// A date of a certificate; beyond the calendar it is the calendar's end.
fn time(date: ASN1Time) -> Timestamp {
    let seconds = date.timestamp();
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

/// The process's clock, as rustls asks it whether certificates and lists are valid.
struct ByClock(Arc<dyn Clock>);

impl std::fmt::Debug for ByClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ByClock")
    }
}

impl TimeProvider for ByClock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}
