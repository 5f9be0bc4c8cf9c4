//! OpenSSL as a client that shares no code with the server, and as the maker of certificates no library here will make.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::authority::Authority;
use super::server::{Files, Server, write};

const GOOD: &str = "crm.clients.example";

/// Whether there is an `openssl` to call; says so when not.
#[expect(clippy::print_stdout, reason = "a skipped test must not look like a passed one")]
fn is_installed() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: no `openssl` on this machine");
    }
    found
}

/// Connects with `arguments` and asks for `/`: everything that was printed.
async fn s_client(server: &Server, ca: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("openssl");
    let address = server.address.to_string();
    command.args(["s_client", "-connect", address.as_str(), "-servername", "localhost", "-verify_return_error"]);
    command.arg("-CAfile").arg(ca).args(["-ign_eof"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().expect("starts");
        let request = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        // A connection that was refused takes no request.
        let _ = child.stdin.take().expect("piped").write_all(request);
        let output = child.wait_with_output().expect("ends");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    });
    running.await.expect("ran")
}

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().expect("starts");
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn openssl_is_accepted_with_a_certificate_and_refused_without() {
    if !is_installed() {
        return;
    }
    let root = Authority::root("Regional CA");
    let files = Files::with_clients(&root.server(), &[&root], &[]);
    let server = Server::start(&files).await;
    let (ca, pair) = (files.folder.path().join("root.pem"), files.folder.path().join("client.pem"));
    let client = root.client(GOOD);
    write(&ca, root.pem().as_bytes());
    write(&pair, format!("{}{}", client.chain_pem(), client.key_pem()).as_bytes());
    let pair = pair.display().to_string();
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let accepted = s_client(&server, &ca, &[version, "-alpn", "http/1.1", "-cert", &pair, "-key", &pair]).await;
        assert!(accepted.contains("HTTP/1.1 200 OK") && accepted.contains(name), "{accepted}");
        assert!(
            accepted.contains("ALPN protocol: http/1.1") && accepted.contains("Verify return code: 0"),
            "{accepted}"
        );
        let refused = s_client(&server, &ca, &[version]).await;
        assert!(!refused.contains("HTTP/1.1") && refused.contains("alert"), "{refused}");
        assert_eq!(server.refusal().await.code, "no_certificate");
    }
    let old = s_client(&server, &ca, &["-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]).await;
    assert!(old.contains("alert handshake failure") && old.contains("Cipher    : 0000"), "{old}");
    assert_eq!(server.refusal().await.code, "incompatible");
}

#[tokio::test]
async fn weak_keys_and_sha1_signatures_are_refused() {
    if !is_installed() {
        return;
    }
    let own = Authority::root("Own CA");
    let mut files = Files::with_clients(&own.server(), &[&own], &[]);
    let folder: PathBuf = files.folder.path().to_owned();
    write(&folder.join("ext"), b"subjectAltName=DNS:crm.clients.example\nextendedKeyUsage=clientAuth\n");
    openssl(&folder, "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=RSA-CA -days 3650");
    for (name, bits, digest) in [("good", 2048, "sha256"), ("weak", 1024, "sha256"), ("sha1", 2048, "sha1")] {
        openssl(&folder, &format!("req -newkey rsa:{bits} -nodes -keyout {name}.key -out {name}.csr -subj /CN=client"));
        openssl(
            &folder,
            &format!(
                "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -{digest} -days 3650 \
                 -extfile ext -out {name}.pem"
            ),
        );
    }
    files.clients().ca = folder.join("ca.pem");
    let clock = std::sync::Arc::new(scoreline_domain::time::ManualClock::at(now()));
    let server = Server::at(&files, clock).await;
    let root = folder.join("root.pem");
    write(&root, own.pem().as_bytes());
    let shown = |name: &str| {
        let path = |ending| folder.join(format!("{name}.{ending}")).display().to_string();
        [path("pem"), path("key")]
    };
    // OpenSSL itself refuses such keys unless it is told not to.
    let lax = ["-tls1_2", "-cipher", "DEFAULT:@SECLEVEL=0"];
    let [cert, key] = shown("good");
    let accepted = s_client(&server, &root, &[&lax[..], &["-cert", &cert, "-key", &key]].concat()).await;
    assert!(accepted.contains("HTTP/1.1 200 OK"), "{accepted}");
    for (name, code) in [("weak", "bad_signature"), ("sha1", "weak_algorithm")] {
        let [cert, key] = shown(name);
        let refused = s_client(&server, &root, &[&lax[..], &["-cert", &cert, "-key", &key]].concat()).await;
        assert!(!refused.contains("HTTP/1.1") && refused.contains("alert"), "{name}: {refused}");
        let refusal = server.refusal().await;
        assert_eq!(refusal.code, code, "{name}: {refusal:?}");
    }
}

/// OpenSSL dates what it signs by the machine's clock.
fn now() -> jiff::Timestamp {
    use scoreline_domain::time::{Clock as _, SystemClock};
    SystemClock.now()
}
