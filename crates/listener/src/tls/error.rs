//! Why a set of TLS files cannot be used. Each message names the key, the file, and what to do.

use std::io;
use std::path::PathBuf;

use jiff::Timestamp;

use scoreline_domain::text::with_causes;

/// A set of TLS files that is not taken. What served before keeps serving.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("`{key}` = `{path}` cannot be read")]
    Unreadable {
        key: String,
        path: PathBuf,
        #[source]
        err: io::Error,
    },
    #[error("`{key}` = `{path}` is not a file of up to {limit} bytes")]
    NotAFile { key: String, path: PathBuf, limit: u64 },
    #[error(
        "`{key}` = `{path}` can be read or written by others (mode {mode:04o}): `chmod 600` it, or mount the secret \
         with mode 0400"
    )]
    KeyExposed { key: String, path: PathBuf, mode: u32 },
    #[error("`{key}` = `{path}` belongs to user {owner}: it must belong to the user of this process or to root")]
    KeyOwner { key: String, path: PathBuf, owner: u32 },
    #[error("`{key}` = `{path}` is not PEM: {reason}")]
    NotPem { key: String, path: PathBuf, reason: String },
    #[error("`{key}` = `{path}` holds no `BEGIN CERTIFICATE`")]
    NoCertificate { key: String, path: PathBuf },
    #[error("`{key}` = `{path}`: certificate {position} cannot be parsed")]
    Certificate { key: String, path: PathBuf, position: usize },
    #[error("`{key}` = `{path}` holds no `BEGIN PRIVATE KEY`")]
    NoKey { key: String, path: PathBuf },
    #[error("`{key}` = `{path}` is encrypted: give the key without a passphrase, readable by this process alone")]
    KeyEncrypted { key: String, path: PathBuf },
    #[error("`{key}` = `{path}` holds a key that cannot be used: {reason}")]
    Key { key: String, path: PathBuf, reason: String },
    #[error(
        "`{key}` = `{path}` is not the key of the first certificate in `{certificate}`: give both of one pair, the \
         server's own certificate first"
    )]
    KeyMismatch { key: String, path: PathBuf, certificate: PathBuf },
    #[error("`{key}` = `{path}`: certificate {position} is not a CA (`{subject}`): trust its issuer, never the leaf")]
    NotACa { key: String, path: PathBuf, position: usize, subject: String },
    #[error("`{key}` = `{path}` holds no revocation list, neither `BEGIN X509 CRL` nor DER")]
    NoList { key: String, path: PathBuf },
    #[error("`{key}` = `{path}`: revocation list {position} cannot be used: {reason}")]
    List { key: String, path: PathBuf, position: usize, reason: String },
    #[error("`{key}` = `{path}`: the revocation list of `{issuer}` has no next update: it would never expire")]
    ListWithoutEnd { key: String, path: PathBuf, issuer: String },
    #[error("`{key}` = `{path}`: the revocation list of `{issuer}` expired at {since}: fetch the CA's new list")]
    ListExpired { key: String, path: PathBuf, issuer: String, since: Timestamp },
    #[error("TLS cannot be set up for [{section}]: {reason}")]
    Setup { section: &'static str, reason: String },
}

impl TlsError {
    /// Whether the same files may be fine on the next look: they could not be read at all.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }

    /// The message and its causes, on one line.
    pub fn with_causes(&self) -> String {
        with_causes(self)
    }
}
