//! The settings of one TLS listener, already checked against each other. Files are named here and read in `files`.

use std::path::PathBuf;

use super::subject::AllowedSubjects;

/// Which listener a setting, a log line or a metric is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsListener {
    Public,
    Admin,
}

/// A listener that speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    pub listener: TlsListener,
    /// PEM: the server's own certificate first, then its intermediates.
    pub certificate: PathBuf,
    /// PEM: the key of that certificate, without a passphrase.
    pub key: PathBuf,
    pub min_version: MinVersion,
    /// `None`: clients are not asked for a certificate.
    pub clients: Option<ClientSettings>,
}

/// What is asked of clients.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    pub presence: Presence,
    /// PEM: the CAs that may issue client certificates.
    pub ca: PathBuf,
    pub allowed_subjects: AllowedSubjects,
    /// PEM or DER; empty: revocation is not checked.
    pub crl: Vec<PathBuf>,
}

/// Whether a client may come without a certificate. One that is shown is checked either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    Optional,
    Required,
}

/// The oldest protocol version that is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    Tls12,
    Tls13,
}

impl TlsListener {
    /// The section of the settings.
    pub fn section(self) -> &'static str {
        match self {
            Self::Public => "server.tls",
            Self::Admin => "server.admin_tls",
        }
    }

    /// The label in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Admin => "admin",
        }
    }

    /// The key `name` of this listener's section.
    pub fn key(self, name: &str) -> String {
        format!("{}.{name}", self.section())
    }
}
