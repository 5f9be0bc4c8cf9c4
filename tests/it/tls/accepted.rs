//! Good clients: real HTTP clients over both protocol versions and both versions of HTTP, renewed leaves, resumption.

use axum::http::Version as Http;
use rcgen::DnType;
use reqwest::tls::Version as Tls;
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use scoreline_listener::tls::{Checked, Presence};

use super::authority::{Authority, Identity, dns, uri};
use super::client::{Shown, alert, ask, client};
use super::server::{Files, Server, write};

const GOOD: &str = "crm.clients.example";

/// An ordinary HTTP client that trusts `ca`, with or without a certificate.
pub fn browser(ca: &Authority, identity: Option<&Identity>) -> reqwest::Client {
    builder(ca, identity).build().expect("a client")
}

fn builder(ca: &Authority, identity: Option<&Identity>) -> reqwest::ClientBuilder {
    let root = reqwest::Certificate::from_pem(ca.pem().as_bytes()).expect("a root");
    let builder = reqwest::Client::builder().tls_certs_only([root]).no_proxy();
    let Some(identity) = identity else { return builder };
    let pem = format!("{}{}", identity.chain_pem(), identity.key_pem());
    builder.identity(reqwest::Identity::from_pem(pem.as_bytes()).expect("an identity"))
}

#[tokio::test]
async fn good_clients_are_accepted_over_every_version() {
    let root = Authority::root("Regional CA");
    let server = Server::start(&Files::with_clients(&root.server(), &[&root], &[])).await;
    let identity = root.client(GOOD);
    let url = format!("https://127.0.0.1:{}/", server.address.port());
    for tls in [Tls::TLS_1_2, Tls::TLS_1_3] {
        for http in [Http::HTTP_11, Http::HTTP_2] {
            let builder = builder(&root, Some(&identity)).tls_version_min(tls).tls_version_max(tls);
            let builder = if http == Http::HTTP_11 { builder.http1_only() } else { builder };
            let client = builder.build().expect("a client");
            let answer = client.get(&url).send().await.expect("an answer");
            assert_eq!(answer.version(), http, "{tls:?}");
            assert_eq!(answer.text().await.expect("a body"), format!("DNS:{GOOD} a client"), "{tls:?} {http:?}");
        }
    }
}

#[tokio::test]
async fn every_kind_of_allowed_name_lets_in() {
    let root = Authority::root("Regional CA");
    let issuing = root.below("Issuing CA", |_| {});
    let server = Server::start(&Files::with_clients(&root.server(), &[&root], &[])).await;
    let identities = [
        root.client("CRM.Clients.Example"),
        root.client("eu-1.region.clients.example"),
        issuing.client(GOOD),
        root.client_with(|params| params.subject_alt_names = vec![dns("x.example"), uri("spiffe://corp.example/crm")]),
        root.client_with(|params| params.distinguished_name.push(DnType::CommonName, "CRM service")),
        root.client_with(|params| {
            params.distinguished_name.push(DnType::CommonName, "us-1.region.clients.example");
            params.extended_key_usages.clear();
        }),
    ];
    for version in [&TLS12, &TLS13] {
        for identity in &identities {
            ask(&server, &client(&root, Shown::new(identity), version)).await.expect("accepted");
        }
    }
}

#[tokio::test]
async fn a_leaf_renewed_under_the_same_ca_is_accepted_at_once() {
    let root = Authority::root("Regional CA");
    let files = Files::with_clients(&root.server(), &[&root], &[]);
    let server = Server::start(&files).await;
    // The client's leaf: nothing changes on the server.
    for _ in 0..3 {
        ask(&server, &client(&root, Shown::new(&root.client(GOOD)), &TLS13)).await.expect("accepted");
    }
    // The server's own.
    files.write_server(&root.server());
    assert!(matches!(server.reloading.check(), Checked::Settling));
    assert!(matches!(server.reloading.check(), Checked::Reloaded));
    ask(&server, &client(&root, Shown::new(&root.client(GOOD)), &TLS13)).await.expect("accepted");
}

#[tokio::test]
async fn an_optional_certificate_may_be_missing_but_not_bad() {
    let root = Authority::root("Regional CA");
    let mut files = Files::with_clients(&root.server(), &[&root], &[]);
    files.clients().presence = Presence::Optional;
    let server = Server::start(&files).await;
    for version in [&TLS12, &TLS13] {
        let (_, who) = ask(&server, &client(&root, Shown::nothing(), version)).await.expect("accepted");
        assert_eq!(who, "there is no client certificate");
        let (_, who) = ask(&server, &client(&root, Shown::new(&root.client(GOOD)), version)).await.expect("accepted");
        assert_eq!(who, format!("DNS:{GOOD} a client"));
        let stranger = Authority::root("Other CA").client(GOOD);
        alert(&server, &client(&root, Shown::new(&stranger), version)).await;
        assert_eq!(server.refusal().await.code, "unknown_issuer");
    }
}

#[tokio::test]
async fn a_revoked_client_can_not_resume() {
    let root = Authority::root("Regional CA");
    let identity = root.client(GOOD);
    for presence in [Presence::Required, Presence::Optional] {
        for version in [&TLS12, &TLS13] {
            let mut files = Files::with_clients(&root.server(), &[&root], &[root.list(&[], None)]);
            files.clients().presence = presence;
            let server = Server::start(&files).await;
            let client = client(&root, Shown::new(&identity), version);
            for _ in 0..3 {
                let (kind, _) = ask(&server, &client).await.expect("accepted");
                assert!(matches!(kind, HandshakeKind::Full), "{kind:?}");
            }
            write(&files.clients().crl[0], &root.list(&[identity.serial()], None));
            while !matches!(server.reloading.check(), Checked::Reloaded) {}
            alert(&server, &client).await;
            assert_eq!(server.refusal().await.code, "revoked");
        }
    }
}

#[tokio::test]
async fn sessions_resume_where_no_certificate_is_asked_for() {
    let root = Authority::root("Own CA");
    let files = Files::new(&root.server());
    let server = Server::start(&files).await;
    for version in [&TLS12, &TLS13] {
        let client = client(&root, Shown::nothing(), version);
        let mut kinds = Vec::new();
        for _ in 0..2 {
            kinds.push(ask(&server, &client).await.expect("accepted").0);
        }
        // The key of the tickets ends with the configuration that made it.
        files.write_server(&root.server());
        while !matches!(server.reloading.check(), Checked::Reloaded) {}
        kinds.push(ask(&server, &client).await.expect("accepted").0);
        let [first, second, third] = kinds.as_slice() else { panic!("three handshakes") };
        assert!(matches!(first, HandshakeKind::Full), "{first:?}");
        assert!(matches!(second, HandshakeKind::Resumed), "{second:?}");
        assert!(matches!(third, HandshakeKind::Full), "{third:?}");
    }
}
