//! The page in Chromium, with everything wrong that can be: looked at by axe in light and dark, with and without its script,
//! narrow and wide, and used with the keyboard. Pictures are left in `target/browser/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use scoreline::auth::{self, RateRecord, Scopes};
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_simulator::{AwkwardContacts, FaultPlan};
use serde_json::json;

use crate::leads::served::{environment, opened, platform, serve};
use crate::process::{Server, post};
use crate::worker::served::wait_for;

const OUTAGE: &str = "[[fault]]\npath = \"/api/v2/analytics/**\"\nkind = \"status\"\nstatus = 503\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder with the browser's driver and axe in it; `None`, with a word why, where something is missing.
fn tools() -> Option<PathBuf> {
    let folder = root().join("target/browser");
    std::fs::create_dir_all(&folder).expect("a folder");
    for program in ["chromium", "node", "npm"] {
        if Command::new(program).arg("--version").output().is_err() {
            eprintln!("skipped: there is no `{program}`");
            return None;
        }
    }
    if !folder.join("node_modules/axe-core").exists() || !folder.join("node_modules/playwright-core").exists() {
        let packages = ["install", "--no-audit", "--no-fund", "playwright-core@1", "axe-core@4"];
        let installed = Command::new("npm").args(packages).current_dir(&folder).status();
        if !installed.is_ok_and(|status| status.success()) {
            eprintln!("skipped: the packages cannot be installed");
            return None;
        }
    }
    Some(folder)
}

/// The models of the repository, and a version of one that is refused.
fn shipped() -> tempfile::TempDir {
    let models = tempfile::tempdir().expect("a folder");
    let copied = Command::new("cp").arg("-r").arg(root().join("models/.")).arg(models.path()).status();
    assert!(copied.expect("cp runs").success());
    let (good, bad) = (models.path().join("clv/v1.2"), models.path().join("clv/v1.3"));
    std::fs::create_dir_all(&bad).expect("a folder");
    for entry in std::fs::read_dir(&good).expect("a version") {
        let path = entry.expect("a file").path();
        let name = path.file_name().expect("a name");
        let text = std::fs::read(&path).expect("read");
        let text = String::from_utf8(text).expect("text");
        let text = text.replace("version = \"v1.2\"", "version = \"v1.3\"").replace("sha256 = \"", "sha256 = \"00");
        std::fs::write(bad.join(name), text).expect("written");
    }
    models
}

fn scored(server: &Server, frequency: usize) {
    let body = json!({"customerId": format!("C-{frequency}"),
        "features": {"recency_days": 1 + frequency % 90, "frequency_count": frequency, "sentiment_score_avg": -0.9}});
    let reply = post(&server.listen, "/v1/predict/clv", &body.to_string());
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
}

fn run(tools: &Path, what: &str, server: &Server, key: &str) {
    let script = root().join("tests/browser/operator.mjs");
    let ran = Command::new("node")
        .arg(script)
        .args([what, &server.admin, key])
        .current_dir(tools)
        .output()
        .expect("node runs");
    let said = String::from_utf8_lossy(&ran.stdout);
    eprintln!("{said}");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
#[ignore = "needs Chromium, and packages of npm"]
fn the_page_is_good_to_look_at_and_to_use_whatever_is_wrong() {
    let Some(tools) = tools() else { return };
    let platform = platform(&["L1".to_owned(), "P1".to_owned()]);
    let (folder, models) = (tempfile::tempdir().expect("a folder"), shipped());
    let mut environment = environment(&platform, folder.path());
    // Windows end with so many rows.
    environment.push(("SCORELINE__MONITORING__WINDOW_ROWS", "300".to_owned()));
    environment.push(("SCORELINE__MONITORING__MIN_ROWS", "100".to_owned()));
    let mut server = serve(models.path(), &environment);
    opened(&mut server);
    run(&tools, "well", &server, "");

    platform.set_faults(FaultPlan::parse(OUTAGE).expect("a plan"));
    platform.set_awkward_contacts(AwkwardContacts { refused: Some("P".to_owned()), hanging: None });
    assert!(post(&server.admin, "/admin/jobs/extract/run", "").starts_with("HTTP/1.1 202"));
    for lead in ["L1", "P1"] {
        let event =
            json!({"leadId": lead, "timestamp": format!("{:.3}", SystemClock.now()), "new_score": 87}).to_string();
        assert!(post(&server.listen, "/v1/events/lead-score", &event).starts_with("HTTP/1.1 202"));
    }
    let page = || {
        crate::process::ask(
            &server.admin,
            &format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", server.admin),
        )
    };
    let mut frequency = 0;
    for expected in ["alarm</b>", "could not be written", "Job extract failed"] {
        wait_for(expected, || {
            for _ in 0..100 {
                frequency += 1;
                scored(&server, frequency);
            }
            page().contains(expected)
        });
    }
    run(&tools, "troubled", &server, "");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
#[ignore = "needs Chromium, and packages of npm"]
fn the_page_asks_for_a_key_and_forgets_it() {
    let Some(tools) = tools() else { return };
    let (folder, models) = (tempfile::tempdir().expect("a folder"), shipped());
    let file = folder.path().join("credentials.toml");
    let scopes = Scopes::parse(["admin"]).expect("scopes");
    let made = auth::add_key(&file, "ann", scopes, RateRecord::default(), SystemClock.now()).expect("made");
    let server =
        Server::start_with(models.path(), &[("SCORELINE__AUTH__CREDENTIALS_FILE", file.to_str().expect("text"))]);
    std::thread::sleep(Duration::from_millis(500));
    run(&tools, "key", &server, made.secret.as_str());
}
