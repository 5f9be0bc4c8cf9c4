//! TLS of the listeners: certificate and key, client certificates, revocation lists, all reloaded from disk.
//! The only place that builds a `rustls` configuration; whoever accepts connections asks for the current one.
//!
//! What is decided here:
//!
//! * **Trust the CA, check the subject, never pin the leaf.** A client certificate must chain to `client_ca` and
//!   carry one of `allowed_subjects`. A leaf that was renewed under the same CA is accepted at once; a wrong subject
//!   fails in the handshake with the alert `access_denied`, and a log line names it.
//! * **Revocation.** Lists are enforced past their `nextUpdate`: an expired list refuses the clients it speaks of. A
//!   chain that touches a CA with a list needs the list of each of its CAs, so that "unknown" is never "good". A
//!   chain none of whose certificates comes from a CA with a list is accepted without one: a bundle may hold a CA
//!   that publishes none.
//! * **Resumption.** With client certificates asked for, sessions are neither kept nor handed out as tickets:
//!   resumption does not look at the certificate again, and a revoked client could come back. Without them, tickets
//!   are encrypted under a key that stays in memory, rotates, and ends with the configuration that made it.
//! * **Open connections** keep what they were accepted with until they end, at the listener's limits at the latest;
//!   new CAs, lists, subjects and certificates hold for every handshake after the reload.

mod error;
mod files;
mod material;
mod peer;
mod refusal;
mod reload;
mod settings;
mod subject;
mod verifier;

pub use error::TlsError;
pub use files::TlsFiles;
pub use material::Loaded;
pub use peer::{CertificateNames, PeerError, San};
pub use refusal::HandshakeRefusal;
pub use reload::{CheckPanicked, Checked, Reloading};
pub use settings::{ClientSettings, MinVersion, Presence, TlsListener, TlsSettings};
pub use subject::{AllowedSubjects, SubjectError};
