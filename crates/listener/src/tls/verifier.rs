//! Whether a client certificate is accepted, inside the handshake: the chain by webpki, revocation, then the subject.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::peer::{self, CertificateNames};
use super::refusal::HandshakeRefusal;
use super::settings::{ClientSettings, Presence, TlsListener};
use super::subject::AllowedSubjects;

/// A revocation list that is not expired.
pub(super) struct RevocationList {
    pub(super) der: CertificateRevocationListDer<'static>,
    /// The issuer's name as it is encoded.
    pub(super) issuer: Vec<u8>,
    pub(super) expires: Timestamp,
}

/// Delegates the chain to webpki and checks the subject of what it accepts.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    listener: TlsListener,
    /// Every certificate of a chain must be known not to be revoked.
    listed: Arc<dyn ClientCertVerifier>,
    /// For chains that no list speaks of, when there are lists.
    unlisted: Option<Arc<dyn ClientCertVerifier>>,
    list_issuers: Vec<Vec<u8>>,
    allowed: AllowedSubjects,
    /// A CA of the bundle is under name constraints, which do not bind common names.
    constrained: bool,
}

impl ClientVerifier {
    pub(super) fn new(
        listener: TlsListener,
        clients: &ClientSettings,
        roots: RootCertStore,
        lists: Vec<RevocationList>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let constrained = roots.roots.iter().any(|root| root.name_constraints.is_some());
        let roots = Arc::new(roots);
        let builder = || {
            let builder = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
            match clients.presence {
                Presence::Required => builder,
                Presence::Optional => builder.allow_unauthenticated(),
            }
        };
        let unlisted = if lists.is_empty() { None } else { Some(builder().build()?) };
        let (ders, list_issuers): (Vec<_>, _) = lists.into_iter().map(|list| (list.der, list.issuer)).unzip();
        let listed = builder().with_crls(ders).enforce_revocation_expiration().build()?;
        let allowed = clients.allowed_subjects.clone();
        Ok(Self { listener, listed, unlisted, list_issuers, allowed, constrained })
    }

    fn verify(&self, chain: Presented<'_>, now: UnixTime) -> Result<ClientCertVerified, Error> {
        let Presented { end_entity, intermediates } = chain;
        let verified = match self.listed.verify_client_cert(end_entity, intermediates, now) {
            Err(Error::InvalidCertificate(CertificateError::UnknownRevocationStatus)) => match &self.unlisted {
                // A client can only add certificates to those of its chain, and each one more can only refuse it.
                Some(unlisted) if !self.is_listed(chain) => {
                    unlisted.verify_client_cert(end_entity, intermediates, now)?
                }
                Some(_) | None => return Err(CertificateError::UnknownRevocationStatus.into()),
            },
            verdict => verdict?,
        };
        let chain: Vec<_> = [end_entity].into_iter().chain(intermediates).cloned().collect();
        let mut peer = CertificateNames::of(&chain).map_err(|_| Error::from(CertificateError::BadEncoding))?;
        if self.constrained {
            peer.subject_cn = None;
        }
        if self.allowed.admit(&peer) {
            Ok(verified)
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    /// Whether a list is of the issuer of one of the certificates.
    fn is_listed(&self, chain: Presented<'_>) -> bool {
        let mut certificates = [chain.end_entity].into_iter().chain(chain.intermediates);
        certificates
            .any(|certificate| peer::issuer_of(certificate).is_none_or(|name| self.list_issuers.contains(&name)))
    }
}

/// What a client sent.
#[derive(Clone, Copy)]
struct Presented<'a> {
    end_entity: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.listed.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.listed.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(Presented { end_entity, intermediates }, now).inspect_err(|err| {
            let HandshakeRefusal { code, reason } = HandshakeRefusal::of(err);
            let subject = peer::shown(end_entity);
            tracing::warn!(listener = self.listener.name(), subject, code, reason, "client certificate refused");
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.listed.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.listed.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.listed.supported_verify_schemes()
    }
}
