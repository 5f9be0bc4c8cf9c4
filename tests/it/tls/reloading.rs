//! Files that change under a running server: by copy, rename and link, good and bad, and under load.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusBuilder;
use rustls::version::{TLS12, TLS13};
use scoreline_listener::tls::Checked;
use tokio_util::sync::CancellationToken;

use super::authority::{Authority, Identity};
use super::client::{Shown, alert, ask, client};
use super::server::{Files, Server, clock, mode, write, write_key};

const GOOD: &str = "crm.clients.example";

/// Whether the server now shows a certificate of `ca`.
async fn serves(server: &Server, ca: &Authority) -> bool {
    ask(server, &client(ca, Shown::nothing(), &TLS13)).await.is_ok()
}

/// Looks until something is decided.
fn decide(server: &Server) -> Checked {
    assert!(matches!(server.reloading.check(), Checked::Settling), "a change is seen, and given time");
    server.reloading.check()
}

#[tokio::test]
async fn every_way_of_replacing_files_is_noticed() {
    let [first, copied, moved, linked] = ["first", "copied", "moved", "linked"].map(Authority::root);
    let files = Files::new(&first.server());
    let server = Server::start(&files).await;
    let path = |name: &str| files.folder.path().join(name);
    assert!(serves(&server, &first).await && matches!(server.reloading.check(), Checked::Unchanged));

    files.write_server(&copied.server());
    assert!(matches!(decide(&server), Checked::Reloaded));
    assert!(serves(&server, &copied).await && !serves(&server, &first).await);

    let next = moved.server();
    write(&path("new.crt"), next.chain_pem().as_bytes());
    write_key(&path("new.key"), &next.key_pem());
    fs::rename(path("new.crt"), path("tls.crt")).expect("moved");
    fs::rename(path("new.key"), path("tls.key")).expect("moved");
    assert!(matches!(decide(&server), Checked::Reloaded));
    assert!(serves(&server, &moved).await);

    // As Kubernetes mounts a secret: names that lead through `..data`, which is turned in one step.
    let volume = |folder: &str, identity: &Identity| {
        fs::create_dir(path(folder)).expect("a folder");
        write(&path(folder).join("tls.crt"), identity.chain_pem().as_bytes());
        write_key(&path(folder).join("tls.key"), &identity.key_pem());
        symlink(folder, path("..tmp")).expect("a link");
        fs::rename(path("..tmp"), path("..data")).expect("turned");
    };
    volume("..2026_1", &moved.server());
    for name in ["tls.crt", "tls.key"] {
        fs::remove_file(path(name)).expect("removed");
        symlink(Path::new("..data").join(name), path(name)).expect("a link");
    }
    assert!(matches!(decide(&server), Checked::Reloaded));
    volume("..2026_2", &linked.server());
    assert!(matches!(decide(&server), Checked::Reloaded));
    assert!(serves(&server, &linked).await);
    // The old folder goes later, and that is nothing new.
    fs::remove_dir_all(path("..2026_1")).expect("removed");
    assert!(matches!(server.reloading.check(), Checked::Unchanged));
}

#[tokio::test]
async fn a_bad_set_keeps_the_old_one_and_says_why_once() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let files = Files::new(&old.server_until(2027));
    let server = Server::start(&files).await;
    let next = new.server();
    let refused = |checked: Checked| match checked {
        Checked::Refused(err) => err.to_string().replace(&format!("{}/", files.folder.path().display()), ""),
        other @ (Checked::Unchanged | Checked::Settling | Checked::Reloaded) => panic!("{other:?}"),
    };
    metrics::with_local_recorder(&recorder, || {
        write(&files.settings.certificate, next.chain_pem().as_bytes());
        let half = refused(decide(&server));
        assert!(half.starts_with("`server.tls.key` = `tls.key` is not the key of the first certificate"), "{half}");
        assert!(matches!(server.reloading.check(), Checked::Unchanged), "decided once");
        fs::remove_file(&files.settings.key).expect("removed");
        assert_eq!(refused(decide(&server)), "`server.tls.key` = `tls.key` cannot be read");
        assert_eq!(refused(server.reloading.check()), "`server.tls.key` = `tls.key` cannot be read", "and tried again");
        let text = metrics.render();
        assert!(text.contains("scoreline_tls_reloads_total{listener=\"public\",outcome=\"refused\"} 2"), "{text}");
    });
    assert!(serves(&server, &old).await, "what served before keeps serving");
    metrics::with_local_recorder(&recorder, || {
        write_key(&files.settings.key, &next.key_pem());
        assert!(matches!(decide(&server), Checked::Reloaded));
        files.write_server(&old.server_until(2027));
        mode(&files.settings.key, 0o640);
        let exposed = refused(decide(&server));
        assert!(exposed.contains("can be read or written by others (mode 0640)"), "{exposed}");
        mode(&files.settings.key, 0o400);
        assert!(matches!(decide(&server), Checked::Reloaded));
        let text = metrics.render();
        assert!(text.contains("scoreline_tls_reloads_total{listener=\"public\",outcome=\"reloaded\"} 2"), "{text}");
        // From 2026-11-21T10:00:00Z to the beginning of 2027.
        assert!(text.contains("scoreline_tls_certificate_expiry_seconds{listener=\"public\"} 3506400"), "{text}");
    });
}

#[tokio::test]
async fn new_cas_and_lists_hold_for_the_next_handshake() {
    let (first, second) = (Authority::root("first"), Authority::root("second"));
    let mut files = Files::with_clients(&first.server(), &[&first], &[first.list(&[], None)]);
    let server = Server::start(&files).await;
    let (of_first, of_second) = (first.client(GOOD), second.client(GOOD));
    let first_client = client(&first, Shown::new(&of_first), &TLS13);
    let second_client = client(&first, Shown::new(&of_second), &TLS12);
    ask(&server, &first_client).await.expect("accepted");
    alert(&server, &second_client).await;
    assert_eq!(server.refusal().await.code, "unknown_issuer");

    write(&files.clients().ca, format!("{}{}", first.pem(), second.pem()).as_bytes());
    assert!(matches!(decide(&server), Checked::Reloaded));
    ask(&server, &second_client).await.expect("its CA is trusted now");

    write(&files.clients().crl[0], &first.list(&[of_first.serial()], None));
    assert!(matches!(decide(&server), Checked::Reloaded));
    alert(&server, &first_client).await;
    assert_eq!(server.refusal().await.code, "revoked");

    write(&files.clients().ca, second.pem().as_bytes());
    assert!(matches!(decide(&server), Checked::Reloaded));
    alert(&server, &client(&first, Shown::new(&first.client(GOOD)), &TLS13)).await;
    assert_eq!(server.refusal().await.code, "unknown_issuer");
}

#[tokio::test]
async fn the_task_takes_a_change_by_itself_and_ends_when_asked() {
    let (old, new) = (Authority::root("old"), Authority::root("new"));
    let files = Files::new(&old.server());
    let server = Server::start(&files).await;
    let stop = CancellationToken::new();
    let watching = Arc::clone(&server.reloading).watch(stop.clone());
    let changing = async {
        files.write_server(&new.server());
        for _ in 0..100 {
            if serves(&server, &new).await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let taken = serves(&server, &new).await;
        stop.cancel();
        taken
    };
    let (ended, taken) = tokio::join!(watching, changing);
    assert_eq!((ended, taken), (Ok(()), true));
}

/// 1,000 handshakes while certificate and key are swapped 20 times, one file after the other, as `cp` does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "clients are nobody's supervised tasks")]
async fn no_handshake_fails_while_files_are_swapped() {
    const HANDSHAKES: usize = 1000;
    const SWAPS: usize = 20;
    let root = Arc::new(Authority::root("Regional CA"));
    let files = Files::with_clients(&root.server(), &[&root], &[root.list(&[], None)]);
    let server = Arc::new(Server::at(&files, clock()).await);
    let done = Arc::new(AtomicBool::new(false));
    let swapping = {
        let (server, root, done) = (Arc::clone(&server), Arc::clone(&root), Arc::clone(&done));
        tokio::task::spawn_blocking(move || {
            let mut reloaded = 0;
            let mut swaps = 0;
            while !done.load(Ordering::Relaxed) || swaps < SWAPS {
                if swaps < SWAPS {
                    files.write_server(&root.server());
                    swaps += 1;
                }
                for _ in 0..3 {
                    reloaded += usize::from(matches!(server.reloading.check(), Checked::Reloaded));
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            (swaps, reloaded)
        })
    };
    let identity = Arc::new(root.client(GOOD));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (server, root, identity) = (Arc::clone(&server), Arc::clone(&root), Arc::clone(&identity));
            tokio::spawn(async move {
                let version = if number % 2 == 0 { &TLS13 } else { &TLS12 };
                for _ in 0..HANDSHAKES / 8 {
                    ask(&server, &client(&root, Shown::new(&identity), version)).await.expect("accepted");
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no handshake failed");
    }
    done.store(true, Ordering::Relaxed);
    let (swaps, reloaded) = swapping.await.expect("swapped");
    assert_eq!((server.refusals(), swaps, reloaded), (0, SWAPS, SWAPS));
    println!("{HANDSHAKES} handshakes, {swaps} swaps, {reloaded} reloads, 0 failures");
}
