//! Why a handshake was refused, as a stable code and a sentence. The peer only sees a TLS alert; this is for logs.

use std::io;
use std::net::SocketAddr;

use rustls::{CertRevocationListError, CertificateError, Error};

/// A refused handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeRefusal {
    /// Stable: the label of `scoreline_tls_handshakes_refused_total`.
    pub code: &'static str,
    pub reason: String,
}

impl HandshakeRefusal {
    /// Of the error that accepting a connection ended with.
    pub fn of_handshake(err: &io::Error) -> Self {
        match err.get_ref().and_then(|cause| cause.downcast_ref::<Error>()) {
            Some(cause) => Self::of(cause),
            None => Self { code: DISCONNECTED, reason: err.to_string() },
        }
    }

    pub(super) fn of(err: &Error) -> Self {
        let code = code(err);
        let advice = match code {
            "no_certificate" => "the client sent no certificate; `client_auth` requires one",
            "subject_not_allowed" => "none of the certificate's names is in `allowed_subjects`",
            "revocation_unknown" => {
                "no list in `crl` speaks of a certificate of this chain; give the list of each CA of the chain"
            }
            "revocation_list_expired" => "a list in `crl` is past its next update; fetch the CA's new list",
            "unknown_issuer" => "the chain does not lead to a CA in `client_ca`; an intermediate may be missing",
            "incompatible" => "the client offers no protocol version, cipher or signature that is spoken here",
            _ => return Self { code, reason: err.to_string() },
        };
        Self { code, reason: format!("{advice} ({err})") }
    }

    /// Logs and counts it. `address` is the peer's. Who only connects and hangs up, as probes do, is not worth a line.
    pub fn report(&self, listener: &'static str, address: SocketAddr) {
        let Self { code, reason } = self;
        metrics::counter!("scoreline_tls_handshakes_refused_total", "listener" => listener, "code" => *code)
            .increment(1);
        if *code == DISCONNECTED {
            tracing::debug!(listener, %address, reason, "TLS handshake not finished");
        } else {
            tracing::info!(listener, %address, code, reason, "TLS handshake refused");
        }
    }
}

const DISCONNECTED: &str = "disconnected";

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors in minor versions; the rest share a code")]
fn code(err: &Error) -> &'static str {
    match err {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(err) => certificate_code(err),
        Error::InvalidCertRevocationList(CertRevocationListError::BadSignature) => "revocation_list_signature",
        Error::InvalidCertRevocationList(_) => "revocation_list",
        Error::PeerIncompatible(_) => "incompatible",
        Error::PeerMisbehaved(_)
        | Error::InvalidMessage(_)
        | Error::DecryptError
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. } => "not_tls",
        Error::AlertReceived(_) => "alert_received",
        _ => "other",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds errors in minor versions; the rest share a code")]
fn certificate_code(err: &CertificateError) -> &'static str {
    match err {
        CertificateError::BadEncoding => "malformed",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not_yet_valid",
        CertificateError::Revoked => "revoked",
        CertificateError::UnknownIssuer => "unknown_issuer",
        CertificateError::UnknownRevocationStatus => "revocation_unknown",
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "revocation_list_expired"
        }
        CertificateError::BadSignature => "bad_signature",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => "weak_algorithm",
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => "wrong_purpose",
        CertificateError::ApplicationVerificationFailure => "subject_not_allowed",
        // CA used as a leaf, path too long, name constraints, path length: the text says which.
        _ => "not_acceptable",
    }
}
