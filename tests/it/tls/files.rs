//! Files that cannot be used: each message names the key, the file, and what is wrong.

use std::path::PathBuf;
use std::sync::Arc;

use scoreline_domain::time::Clock;
use scoreline_listener::tls::{Loaded, TlsError, TlsFiles};

use super::authority::{Authority, Identity, pem};
use super::server::{Files, clock, mode, write};

fn load(files: &Files) -> Result<Loaded, TlsError> {
    let clock: Arc<dyn Clock> = clock();
    TlsFiles::load(&files.settings, &clock)
}

/// The message about a set that is good but for what `spoil` does.
fn message(ca: &Authority, spoil: impl FnOnce(&mut Files)) -> String {
    let mut files = Files::with_clients(&ca.server(), &[ca], &[ca.list(&[], None)]);
    spoil(&mut files);
    let err = load(&files).err().expect("refused");
    err.with_causes().replace(&format!("{}/", files.folder.path().display()), "")
}

fn folder(files: &Files) -> PathBuf {
    let folder = files.folder.path().join("folder");
    std::fs::create_dir(&folder).expect("a folder");
    folder
}

#[test]
fn every_message_names_the_key_the_file_and_the_reason() {
    let ca = Authority::root("Regional CA");
    let other = ca.server();
    let client = ca.client("crm.clients.example");
    let encrypted = pem("ENCRYPTED PRIVATE KEY", &[1; 40]);
    let spoilt: Vec<(&str, String)> = vec![
        ("certificate missing", message(&ca, |f| f.settings.certificate = f.folder.path().join("none.crt"))),
        ("a folder", message(&ca, |f| f.settings.certificate = folder(f))),
        ("empty", message(&ca, |f| write(&f.settings.certificate, b""))),
        ("key as certificate", message(&ca, |f| write(&f.settings.certificate, other.key_pem().as_bytes()))),
        ("cut off", message(&ca, |f| write(&f.settings.certificate, &other.chain_pem().as_bytes()[..300]))),
        ("not X.509", message(&ca, |f| write(&f.settings.certificate, pem("CERTIFICATE", b"hello").as_bytes()))),
        ("no key", message(&ca, |f| write(&f.settings.key, other.chain_pem().as_bytes()))),
        ("encrypted key", message(&ca, |f| write(&f.settings.key, encrypted.as_bytes()))),
        ("unusable key", message(&ca, |f| write(&f.settings.key, pem("PRIVATE KEY", b"hello").as_bytes()))),
        ("another key", message(&ca, |f| write(&f.settings.key, other.key_pem().as_bytes()))),
        ("readable by others", message(&ca, |f| mode(&f.settings.key, 0o644))),
        ("empty CA bundle", message(&ca, |f| write(&f.clients().ca.clone(), b"# none yet\n"))),
        ("a leaf as CA", message(&ca, |f| write(&f.clients().ca.clone(), client.chain_pem().as_bytes()))),
        ("no list", message(&ca, |f| write(&f.clients().crl[0].clone(), b""))),
        ("not a list", message(&ca, |f| write(&f.clients().crl[0].clone(), &ca.der()))),
        ("expired list", message(&ca, |f| write(&f.clients().crl[0].clone(), &ca.list(&[], Some(2026))))),
    ];
    let text: Vec<_> = spoilt.into_iter().map(|(name, message)| format!("{name}: {message}")).collect();
    insta::assert_snapshot!(text.join("\n"), @r"
    certificate missing: `server.tls.certificate` = `none.crt` cannot be read: No such file or directory (os error 2)
    a folder: `server.tls.certificate` = `folder` is not a file of up to 67108864 bytes
    empty: `server.tls.certificate` = `tls.crt` holds no `BEGIN CERTIFICATE`
    key as certificate: `server.tls.certificate` = `tls.crt` holds no `BEGIN CERTIFICATE`
    cut off: `server.tls.certificate` = `tls.crt` is not PEM: a `BEGIN` line without its `END` line
    not X.509: `server.tls.certificate` = `tls.crt`: certificate 1 cannot be parsed
    no key: `server.tls.key` = `tls.key` holds no `BEGIN PRIVATE KEY`
    encrypted key: `server.tls.key` = `tls.key` is encrypted: give the key without a passphrase, readable by this process alone
    unusable key: `server.tls.key` = `tls.key` holds a key that cannot be used: unexpected error: failed to parse private key as RSA, ECDSA, or EdDSA
    another key: `server.tls.key` = `tls.key` is not the key of the first certificate in `tls.crt`: give both of one pair, the server's own certificate first
    readable by others: `server.tls.key` = `tls.key` can be read or written by others (mode 0644): `chmod 600` it, or mount the secret with mode 0400
    empty CA bundle: `server.tls.client_ca` = `client-ca.pem` holds no `BEGIN CERTIFICATE`
    a leaf as CA: `server.tls.client_ca` = `client-ca.pem`: certificate 1 is not a CA (`CN=a client, DNS:crm.clients.example`): trust its issuer, never the leaf
    no list: `server.tls.crl` = `0.crl` holds no revocation list, neither `BEGIN X509 CRL` nor DER
    not a list: `server.tls.crl` = `0.crl`: revocation list 1 cannot be used: it is not DER of a revocation list
    expired list: `server.tls.crl` = `0.crl`: the revocation list of `CN=Regional CA` expired at 2026-01-01T00:00:00Z: fetch the CA's new list
    ");
}

#[test]
fn an_expired_certificate_is_served_and_its_date_known() {
    let ca = Authority::root("Own CA");
    let loaded = load(&Files::new(&ca.server_until(2026))).expect("served: clients decide");
    assert_eq!(loaded.certificate_expires.to_string(), "2026-01-01T00:00:00Z");
    assert_eq!(loaded.lists_expire, None);
}

#[test]
fn lists_are_read_as_pem_and_as_der() {
    let (ca, other) = (Authority::root("Regional CA"), Authority::root("Own CA"));
    let (der, two) = (ca.list(&[], Some(2028)), [ca.list(&[], Some(2029)), other.list(&[], Some(2030))]);
    let both: String = two.iter().map(|list| pem("X509 CRL", list)).collect();
    let files = Files::with_clients(&ca.server(), &[&ca, &other], &[der, both.into_bytes()]);
    let loaded = load(&files).expect("usable");
    assert_eq!(loaded.lists_expire.map(|date| date.to_string()).as_deref(), Some("2028-01-01T00:00:00Z"));
}

#[test]
fn chains_and_every_form_of_key_are_read() {
    let root = Authority::root("Own CA");
    let below = root.below("Issuing CA", |_| {});
    let server: Identity = below.server();
    assert_eq!(server.chain.len(), 2);
    assert!(load(&Files::new(&server)).is_ok());
}
