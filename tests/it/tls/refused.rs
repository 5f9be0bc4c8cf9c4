//! Bad client certificates: each is refused with an alert, over both protocol versions, and with a reason in the log.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CustomExtension, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints, SanType,
    date_time_ymd,
};
use rustls::AlertDescription as Alert;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::authority::{Authority, Identity, dns, uri};
use super::client::{Shown, alert, ask, client};
use super::server::{Files, Server, clock};

const GOOD: &str = "crm.clients.example";

struct Bad {
    name: &'static str,
    shown: Shown,
    code: &'static str,
    alert: Alert,
}

fn bad(name: &'static str, shown: Shown, code: &'static str, alert: Alert) -> Bad {
    Bad { name, shown, code, alert }
}

/// A certificate of `ca` that is good but for what `change` does.
fn but(ca: &Authority, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Shown {
    Shown::new(&ca.client_with(|params| {
        params.subject_alt_names = vec![dns(GOOD)];
        change(params);
    }))
}

/// A certificate of `ca` with these names alone.
fn named(ca: &Authority, names: Vec<SanType>) -> Shown {
    but(ca, |params| params.subject_alt_names = names)
}

fn common_name(ca: &Authority, name: &str) -> Shown {
    but(ca, |params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, name);
    })
}

/// Certificates that break what every chain must keep.
fn bad_chains(root: &Authority) -> Vec<Bad> {
    let good = root.client(GOOD);
    let issuing = root.below("Issuing CA", |_| {});
    let mut orphan = issuing.client(GOOD);
    orphan.chain.truncate(1);
    let constrained = root.below("Partner CA", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("partner.example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let last = root.below("Last CA", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    let mut long = root.below("CA 1", |_| {});
    for number in 2..=9 {
        long = long.below(&format!("CA {number}"), |_| {});
    }
    let mut damaged = root.client(GOOD);
    let mut der = damaged.chain[0].to_vec();
    *der.last_mut().expect("not empty") ^= 1;
    damaged.chain[0] = der.into();
    let mut cut = root.client(GOOD);
    cut.chain[0] = cut.chain[0][..100].to_vec().into();
    vec![
        bad("no certificate", Shown::nothing(), "no_certificate", Alert::CertificateRequired),
        bad("self-signed", Shown::new(&Identity::self_signed(GOOD)), "unknown_issuer", Alert::UnknownCA),
        bad("another CA", Shown::new(&Authority::root("Other CA").client(GOOD)), "unknown_issuer", Alert::UnknownCA),
        bad(
            "another CA of the same name",
            Shown::new(&Authority::root("Regional CA").client(GOOD)),
            "bad_signature",
            Alert::DecryptError,
        ),
        bad("expired", but(root, |p| p.not_after = date_time_ymd(2026, 11, 20)), "expired", Alert::CertificateExpired),
        bad(
            "not valid yet",
            but(root, |p| p.not_before = date_time_ymd(2026, 11, 22)),
            "not_yet_valid",
            Alert::CertificateExpired,
        ),
        bad(
            "for servers only",
            but(root, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
            "wrong_purpose",
            Alert::UnsupportedCertificate,
        ),
        bad(
            "a CA as a client",
            but(root, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            "not_acceptable",
            Alert::CertificateUnknown,
        ),
        bad("intermediate missing", Shown::new(&orphan), "unknown_issuer", Alert::UnknownCA),
        bad(
            "outside the name constraints of its CA",
            Shown::new(&constrained.client(GOOD)),
            "not_acceptable",
            Alert::CertificateUnknown,
        ),
        bad(
            "below a CA that may have none below it",
            Shown::new(&last.below("One too many", |_| {}).client(GOOD)),
            "not_acceptable",
            Alert::CertificateUnknown,
        ),
        bad("chain of nine CAs", Shown::new(&long.client(GOOD)), "not_acceptable", Alert::CertificateUnknown),
        bad("issued by a client", Shown::new(&good.issue(GOOD)), "not_acceptable", Alert::CertificateUnknown),
        bad(
            "unknown critical extension",
            but(root, |p| {
                let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
                extension.set_criticality(true);
                p.custom_extensions = vec![extension];
            }),
            "not_acceptable",
            Alert::CertificateUnknown,
        ),
        bad("certificate signature damaged", Shown::new(&damaged), "bad_signature", Alert::DecryptError),
        bad("certificate cut off", Shown::new(&cut), "malformed", Alert::BadCertificate),
        bad("handshake signature damaged", Shown::with_broken_signatures(&good), "bad_signature", Alert::DecryptError),
        bad(
            "a stolen certificate without its key",
            Shown::signed_by(&good, &root.client(GOOD)),
            "bad_signature",
            Alert::DecryptError,
        ),
    ]
}

/// Good chains whose subject is not let in.
fn bad_subjects(root: &Authority) -> Vec<Bad> {
    let constrained = root.below("Partner CA", |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("partner.example".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let email = SanType::Rfc822Name(GOOD.to_owned().try_into().expect("ASCII"));
    let shown = [
        ("another name", named(root, vec![dns("erp.clients.example")])),
        ("a longer name", named(root, vec![dns("crm.clients.example.evil.example")])),
        ("a wildcard over the name", named(root, vec![dns("*.clients.example")])),
        ("a wildcard where one label is open", named(root, vec![dns("*.region.clients.example")])),
        ("two labels where one is open", named(root, vec![dns("a.b.region.clients.example")])),
        ("the URI with more behind it", named(root, vec![uri("spiffe://corp.example/crm/admin")])),
        ("the URI as a DNS name", named(root, vec![dns("spiffe://corp.example/crm")])),
        ("the name as an e-mail address", named(root, vec![email])),
        (
            "the name in the organization",
            but(root, |params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::OrganizationName, GOOD);
            }),
        ),
        ("a zero byte behind the name", common_name(root, "crm.clients.example\0.evil.example")),
        (
            "two common names, one of them good",
            but(root, |params| {
                params.subject_alt_names.clear();
                params.distinguished_name.push(DnType::CommonName, "erp.clients.example");
                params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 3]), GOOD);
            }),
        ),
        ("a common name from a CA under name constraints", common_name(&constrained, GOOD)),
        ("no name at all", named(root, Vec::new())),
    ];
    shown.map(|(name, shown)| bad(name, shown, "subject_not_allowed", Alert::AccessDenied)).into()
}

#[tokio::test]
async fn bad_client_certificates_are_refused_with_an_alert_and_a_reason() {
    let (root, log) = (Authority::root("Regional CA"), Log::default());
    let _guard = log.capture();
    let server = Server::start(&Files::with_clients(&root.server(), &[&root], &[])).await;
    let rows: Vec<_> = bad_chains(&root).into_iter().chain(bad_subjects(&root)).collect();
    assert!(rows.len() >= 16, "{}", rows.len());
    for version in [&TLS12, &TLS13] {
        for row in &rows {
            let alert = alert(&server, &client(&root, row.shown.clone(), version)).await;
            let refusal = server.refusal().await;
            let case = format!("{} over {:?}: {refusal:?}", row.name, version.version);
            assert_eq!((refusal.code, alert), (row.code, row.alert), "{case}");
            let logged = log.take();
            assert!(logged.contains(&format!("code=\"{}\"", row.code)), "{case}: {logged}");
            if row.code == "subject_not_allowed" {
                assert!(
                    logged.contains("client certificate refused") && logged.contains("subject="),
                    "{case}: {logged}"
                );
            }
        }
    }
    // None of them has left the server worse off.
    let good = client(&root, Shown::new(&root.client(GOOD)), &TLS13);
    assert_eq!(ask(&server, &good).await.expect("accepted").1, format!("DNS:{GOOD} a client"));
    assert_eq!(server.refusals(), 0);
    println!("{} bad client certificates, each over TLS 1.2 and 1.3: all refused", rows.len());
}

#[tokio::test]
async fn the_log_names_a_refused_subject_without_its_control_characters() {
    let (root, log) = (Authority::root("Regional CA"), Log::default());
    let _guard = log.capture();
    let server = Server::start(&Files::with_clients(&root.server(), &[&root], &[])).await;
    let shown = common_name(&root, "evil\n2026-11-21 INFO scoreline: all is well\u{1b}[2J");
    alert(&server, &client(&root, shown, &TLS13)).await;
    server.refusal().await;
    let logged = log.take();
    assert!(logged.contains("CN=evil") && logged.contains("allowed_subjects"), "{logged}");
    assert!(!logged.contains("evil\n2026") && !logged.contains("\u{1b}[2J"), "{logged}");
}

#[tokio::test]
async fn revoked_and_doubtful_certificates_are_refused() {
    let root = Authority::root("Regional CA");
    let issuing = root.below("Issuing CA", |_| {});
    let (direct, below) = (root.client(GOOD), issuing.client(GOOD));
    let impostor = Authority::root("Regional CA");
    let revoked_ca = rcgen::SerialNumber::from_slice(&x509_serial(&below));
    let published = |uri: &str| {
        let uri = uri.to_owned();
        root.client_with(move |params| {
            params.subject_alt_names = vec![dns(GOOD)];
            params.crl_distribution_points = vec![rcgen::CrlDistributionPoint { uris: vec![uri] }];
        })
    };
    let elsewhere = published("http://crl.example/a.crl");
    let none: &[&rcgen::SerialNumber] = &[];
    let cases = [
        ("revoked", vec![root.list(&[direct.serial()], None)], &direct, "revoked", Alert::CertificateRevoked),
        (
            "its CA revoked",
            vec![root.list(&[&revoked_ca], None), issuing.list(none, None)],
            &below,
            "revoked",
            Alert::CertificateRevoked,
        ),
        (
            "revoked below a CA that is not",
            vec![root.list(none, None), issuing.list(&[below.serial()], None)],
            &below,
            "revoked",
            Alert::CertificateRevoked,
        ),
        ("a list of its root alone", vec![root.list(none, None)], &below, "revocation_unknown", Alert::UnknownCA),
        ("a list of its issuer alone", vec![issuing.list(none, None)], &below, "revocation_unknown", Alert::UnknownCA),
        (
            "a list of another CA of the same name",
            vec![impostor.list(none, None)],
            &direct,
            "revocation_list_signature",
            Alert::HandshakeFailure,
        ),
        (
            "a list of certificates published elsewhere",
            vec![root.list_of("http://crl.example/b.crl")],
            &elsewhere,
            "revocation_unknown",
            Alert::UnknownCA,
        ),
    ];
    for (name, lists, identity, code, expected) in cases {
        let server = Server::start(&Files::with_clients(&root.server(), &[&root], &lists)).await;
        for version in [&TLS12, &TLS13] {
            let alert = alert(&server, &client(&root, Shown::new(identity), version)).await;
            let refusal = server.refusal().await;
            assert_eq!((refusal.code, alert), (code, expected), "{name}: {refusal:?}");
        }
    }
}

#[tokio::test]
async fn a_list_that_expires_refuses_the_clients_it_speaks_of() {
    let (root, other) = (Authority::root("Regional CA"), Authority::root("Own CA"));
    let clock = clock();
    let files = Files::with_clients(&root.server(), &[&root, &other], &[root.list(&[], Some(2027))]);
    let server = Server::at(&files, Arc::clone(&clock)).await;
    let of_root = client(&root, Shown::new(&root.client(GOOD)), &TLS13);
    let of_other = client(&root, Shown::new(&other.client(GOOD)), &TLS13);
    ask(&server, &of_root).await.expect("accepted while the list holds");
    ask(&server, &of_other).await.expect("a CA without a list is not bound by the other's");
    clock.advance(Duration::from_hours(24 * 60));
    assert_eq!(alert(&server, &of_root).await, Alert::UnknownCA);
    let refusal = server.refusal().await;
    assert_eq!(refusal.code, "revocation_list_expired", "{refusal:?}");
    ask(&server, &of_other).await.expect("accepted");
}

#[tokio::test]
async fn what_is_not_tls_1_2_is_refused() {
    let root = Authority::root("Regional CA");
    let server = Server::start(&Files::with_clients(&root.server(), &[&root], &[])).await;
    let mut hello = vec![0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
    for (name, sent, code) in [
        ("a client hello of TLS 1.1", hello.as_slice(), "incompatible"),
        ("plain HTTP", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n", "not_tls"),
        ("nothing", b"", "disconnected"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.expect("connects");
        stream.write_all(sent).await.expect("sent");
        stream.shutdown().await.expect("closed");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert_eq!(server.refusal().await.code, code, "{name}");
        if code == "incompatible" {
            assert_eq!(answer, [21, 3, 3, 0, 2, 2, 40], "{name}: the alert handshake_failure");
        }
    }
    let mut newest = Files::new(&root.server());
    newest.settings.min_version = scoreline_listener::tls::MinVersion::Tls13;
    let server = Server::start(&newest).await;
    assert_eq!(alert(&server, &client(&root, Shown::nothing(), &TLS12)).await, Alert::ProtocolVersion);
    ask(&server, &client(&root, Shown::nothing(), &TLS13)).await.expect("accepted");
}

/// The serial number of the first CA in a chain.
fn x509_serial(identity: &Identity) -> Vec<u8> {
    use x509_parser::prelude::FromDer;
    let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(&identity.chain[1]).expect("a certificate");
    parsed.raw_serial().to_vec()
}

/// What this thread logs.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn take(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.0.lock().expect("no panics"))).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panics").extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
