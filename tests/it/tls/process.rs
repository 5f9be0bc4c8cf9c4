//! The program with TLS in its settings: both listeners, a renewed certificate, a stop.

use std::path::Path;
use std::time::Duration;

use super::accepted::browser;
use super::authority::Authority;
use super::server::Files;
use crate::process::{Server, get, models};

fn shown(path: &Path) -> &str {
    path.to_str().expect("a temporary path is text")
}

#[tokio::test]
async fn serve_speaks_tls_and_takes_renewed_files() {
    let (region, operators) = (Authority::root("Regional CA"), Authority::root("Operators"));
    let mut files = Files::with_clients(&region.server(), &[&region], &[]);
    let admin = Files::new(&operators.server());
    let ca = files.clients().ca.clone();
    let models = models();
    let server = Server::start_with(
        models.path(),
        &[
            ("SCORELINE__SERVER__TLS__CERTIFICATE", shown(&files.settings.certificate)),
            ("SCORELINE__SERVER__TLS__KEY", shown(&files.settings.key)),
            ("SCORELINE__SERVER__TLS__CLIENT_AUTH", "required"),
            ("SCORELINE__SERVER__TLS__CLIENT_CA", shown(&ca)),
            ("SCORELINE__SERVER__TLS__ALLOWED_SUBJECTS", "crm.clients.example"),
            ("SCORELINE__SERVER__ADMIN_TLS__CERTIFICATE", shown(&admin.settings.certificate)),
            ("SCORELINE__SERVER__ADMIN_TLS__KEY", shown(&admin.settings.key)),
        ],
    );
    let live = format!("https://{}/health/live", server.listen);
    let good = region.client("crm.clients.example");
    let client = browser(&region, Some(&good));
    assert_eq!(client.get(&live).send().await.expect("accepted").status(), 200);
    assert!(browser(&region, None).get(&live).send().await.is_err(), "without a certificate");
    let other = region.client("erp.clients.example");
    assert!(browser(&region, Some(&other)).get(&live).send().await.is_err(), "with another subject");
    let plain = std::panic::catch_unwind(|| get(&server.listen, "/health/live"));
    assert!(!plain.is_ok_and(|reply| reply.contains("200 OK")), "plain HTTP");

    let metrics = format!("https://{}/metrics", server.admin);
    assert!(browser(&region, None).get(&metrics).send().await.is_err(), "the admin listener has a CA of its own");
    let operator = browser(&operators, None);
    let text = operator.get(&metrics).send().await.expect("accepted").text().await.expect("text");
    for line in [
        "scoreline_tls_handshakes_refused_total{listener=\"public\",code=\"no_certificate\"} 1",
        "scoreline_tls_handshakes_refused_total{listener=\"public\",code=\"subject_not_allowed\"} 1",
        "scoreline_tls_certificate_expiry_seconds{listener=\"admin\"}",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }

    let renewed = Authority::root("New public CA");
    files.write_server(&renewed.server());
    let client = browser(&renewed, Some(&good));
    let mut taken = false;
    for _ in 0..100 {
        taken = client.get(&live).send().await.is_ok();
        if taken {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(taken, "the renewed certificate is shown without a restart");
    server.signal("TERM");
    // The clients have connections open and must go on reading to learn that these end.
    let ended = tokio::task::spawn_blocking(move || server.wait());
    assert_eq!(ended.await.expect("waited for"), 0);
}
