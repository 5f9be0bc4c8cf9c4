//! Who a client certificate names. Only what a subject check may rely on is read.

use std::fmt;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The names in a verified client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject's common name. `None` when there is none, or more than one (a CA may have checked either), or when a
    /// CA of the chain is under name constraints: these bind the alternative names, not this one.
    pub subject_cn: Option<String>,
    /// The DNS and URI alternative names, in the certificate's order.
    pub sans: Vec<San>,
    /// SHA-256 of the certificate, for logs. Not an identity: it changes with every renewal.
    pub fingerprint: [u8; 32],
}

/// A subject alternative name of a kind that subjects are checked by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum San {
    Dns(String),
    Uri(String),
}

/// Why a chain names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    #[error("there is no client certificate")]
    NoCertificate,
    #[error("certificate {0} of the chain cannot be parsed")]
    Malformed(usize),
}

/// Longest subject in a log line, in characters: it is written by whoever connects.
const SHOWN: usize = 200;

impl CertificateNames {
    /// Reads the first certificate of a `chain` that the handshake has verified.
    ///
    /// # Errors
    /// When the chain is empty or holds something that is not a certificate.
    pub fn of(chain: &[CertificateDer<'_>]) -> Result<Self, PeerError> {
        let (leaf, issuers) = chain.split_first().ok_or(PeerError::NoCertificate)?;
        let certificate = parse(leaf).ok_or(PeerError::Malformed(0))?;
        let mut constrained = false;
        for (position, issuer) in issuers.iter().enumerate() {
            let issuer = parse(issuer).ok_or(PeerError::Malformed(position + 1))?;
            constrained |= !matches!(issuer.name_constraints(), Ok(None));
        }
        let mut names = certificate.subject().iter_common_name();
        let subject_cn = match (names.next(), names.next()) {
            (Some(name), None) if !constrained => name.as_str().ok().map(str::to_owned),
            (Some(_) | None, _) => None,
        };
        let alternatives = certificate.subject_alternative_name().map_err(|_| PeerError::Malformed(0))?;
        let sans =
            alternatives.into_iter().flat_map(|names| &names.value.general_names).filter_map(San::read).collect();
        Ok(Self { subject_cn, sans, fingerprint: Sha256::digest(leaf).into() })
    }
}

impl San {
    fn read(name: &GeneralName<'_>) -> Option<Self> {
        match name {
            GeneralName::DNSName(name) => Some(Self::Dns((*name).to_owned())),
            GeneralName::URI(uri) => Some(Self::Uri((*uri).to_owned())),
            GeneralName::OtherName(..)
            | GeneralName::RFC822Name(_)
            | GeneralName::X400Address(_)
            | GeneralName::DirectoryName(_)
            | GeneralName::EDIPartyName(_)
            | GeneralName::IPAddress(_)
            | GeneralName::RegisteredID(_)
            | GeneralName::Invalid(..) => None,
        }
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
        }
    }
}

/// Subject and alternative names for a log line, whoever signed them: escaped, and cut where they get long.
pub(super) fn shown(certificate: &CertificateDer<'_>) -> String {
    let Some(parsed) = parse(certificate) else { return "a certificate that cannot be parsed".to_owned() };
    let mut text = parsed.subject().to_string();
    if let Ok(Some(names)) = parsed.subject_alternative_name() {
        for san in names.value.general_names.iter().filter_map(San::read) {
            text.push_str(", ");
            text.push_str(&san.to_string());
        }
    }
    let mut shown: String = text.escape_debug().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    shown
}

/// The issuer's name as it is encoded.
pub(super) fn issuer_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    parse(certificate).map(|parsed| parsed.issuer().as_raw().to_vec())
}

/// One certificate and nothing behind it.
pub(super) fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    match X509Certificate::from_der(certificate) {
        Ok(([], parsed)) => Some(parsed),
        Ok(_) | Err(_) => None,
    }
}
