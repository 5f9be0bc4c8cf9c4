//! Certificate authorities of the tests' own: they issue good certificates, bad ones, and revocation lists.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A CA with what a client has to send to reach it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// This CA and those above it, without the root.
    above: Vec<CertificateDer<'static>>,
}

/// A certificate chain and the key of its first certificate.
pub struct Identity {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
    serial: SerialNumber,
}

impl Authority {
    /// A self-signed CA. Two of one name have different keys.
    pub fn root(name: &str) -> Self {
        let issuer = CertifiedIssuer::self_signed(ca(name), new_key()).expect("a root");
        Self { issuer, above: Vec::new() }
    }

    /// A CA below this one.
    pub fn below(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca(name);
        change(&mut params);
        let issuer = CertifiedIssuer::signed_by(params, new_key(), &self.issuer).expect("an intermediate");
        let above = [issuer.der().clone()].into_iter().chain(self.above.iter().cloned()).collect();
        Self { issuer, above }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A client's certificate with `name` as its DNS name.
    pub fn client(&self, name: &str) -> Identity {
        self.client_with(|params| params.subject_alt_names = vec![dns(name)])
    }

    /// A client's certificate, without names until `change` gives it some.
    pub fn client_with(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, "a client");
        change(&mut params);
        self.sign(params)
    }

    /// The certificate of a server on this machine.
    pub fn server(&self) -> Identity {
        let mut params = leaf(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![dns("localhost"), SanType::IpAddress([127, 0, 0, 1].into())];
        self.sign(params)
    }

    pub fn server_until(&self, year: i32) -> Identity {
        let mut params = leaf(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names = vec![dns("localhost")];
        params.not_after = date_time_ymd(year, 1, 1);
        self.sign(params)
    }

    /// A revocation list, DER, good until 3000 unless `until` says otherwise.
    pub fn list(&self, revoked: &[&SerialNumber], until: Option<i32>) -> Vec<u8> {
        self.signed_list(revoked, until, None)
    }

    /// A list that only speaks of certificates published at `uri`.
    pub fn list_of(&self, uri: &str) -> Vec<u8> {
        let distribution_point = CrlDistributionPoint { uris: vec![uri.to_owned()] };
        self.signed_list(&[], None, Some(CrlIssuingDistributionPoint { distribution_point, scope: None }))
    }

    fn signed_list(
        &self,
        revoked: &[&SerialNumber],
        until: Option<i32>,
        issuing_distribution_point: Option<CrlIssuingDistributionPoint>,
    ) -> Vec<u8> {
        let revoked_certs = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: (*serial).clone(),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(until.unwrap_or(3000), 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").der().to_vec()
    }

    fn sign(&self, mut params: CertificateParams) -> Identity {
        let key = new_key();
        let serial = SerialNumber::from(serial());
        params.serial_number = Some(serial.clone());
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let chain = [certificate.der().clone()].into_iter().chain(self.above.iter().cloned()).collect();
        Identity { chain, key, serial }
    }
}

impl Identity {
    /// A certificate that nobody signed but its own key.
    pub fn self_signed(name: &str) -> Self {
        let key = new_key();
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names = vec![dns(name)];
        let certificate = params.self_signed(&key).expect("a certificate");
        Self { chain: vec![certificate.der().clone()], key, serial: SerialNumber::from(1_u64) }
    }

    /// A certificate signed with this one, which is no CA's.
    pub fn issue(&self, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a client");
        let issuer = rcgen::Issuer::new(params, &self.key);
        let mut params = leaf(ExtendedKeyUsagePurpose::ClientAuth);
        params.subject_alt_names = vec![dns(name)];
        let key = new_key();
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let chain = [certificate.der().clone()].into_iter().chain(self.chain.iter().cloned()).collect();
        Self { chain, key, serial: SerialNumber::from(2_u64) }
    }

    pub fn serial(&self) -> &SerialNumber {
        &self.serial
    }

    pub fn chain_pem(&self) -> String {
        let encode = |der: &CertificateDer<'_>| pem("CERTIFICATE", der);
        self.chain.iter().map(encode).collect()
    }

    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.to_owned().try_into().expect("ASCII"))
}

pub fn uri(uri: &str) -> SanType {
    SanType::URI(uri.to_owned().try_into().expect("ASCII"))
}

pub fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from(serial()));
    params
}

fn leaf(purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.extended_key_usages = vec![purpose];
    params
}

fn serial() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
