//! The real server asked by Schemathesis, from each of its documents: examples, edges, random requests, and sequences of them,
//! good and bad. No answer is a server error, and each is as the document says. Reports are left in `target/schemathesis/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::auth::key;
use crate::process::{Server, get, scoreline};
use crate::support::identity::CredentialsFile;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The programs of `tests/schemathesis/requirements.txt`; `None`, with a word why, where they cannot be had.
fn tools() -> Option<PathBuf> {
    let (venv, wanted) = (root().join("target/schemathesis/venv"), root().join("tests/schemathesis/requirements.txt"));
    let wanted = std::fs::read_to_string(wanted).expect("a list");
    if std::fs::read_to_string(venv.join("installed.txt")).is_ok_and(|installed| installed == wanted) {
        return Some(venv.join("bin"));
    }
    let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    let installed = done(Command::new("python3").args(["-m", "venv"]).arg(&venv))
        && done(Command::new(venv.join("bin/pip")).args(["install", "-q"]).args(wanted.lines()));
    if !installed {
        eprintln!("skipped: the packages of Python cannot be installed");
        return None;
    }
    std::fs::write(venv.join("installed.txt"), wanted).expect("written");
    Some(venv.join("bin"))
}

#[test]
#[ignore = "needs packages of Python"]
#[expect(clippy::disallowed_methods, reason = "the size of a run by hand")]
fn every_operation_is_as_the_document_says() {
    let Some(tools) = tools() else { return };
    let (folder, file) = (tempfile::tempdir().expect("a folder"), CredentialsFile::new(""));
    let key = key(&file, "predict leads events admin");
    let (store, credentials) = (folder.path().join("scoreline.db"), file.path());
    let server = Server::run(
        scoreline(&["serve"], &root().join("models")),
        &[
            ("SCORELINE__STORE__PATH", store.to_str().expect("text")),
            ("SCORELINE__AUTH__CREDENTIALS_FILE", credentials.to_str().expect("text")),
            ("SCORELINE__LIMITS__PREDICT_PER_SECOND", "0"),
            ("SCORELINE__LIMITS__LEADS_PER_SECOND", "0"),
        ],
    );
    let mut failed = Vec::new();
    for (name, address) in [("public", &server.listen), ("admin", &server.admin)] {
        let reply = get(address, "/openapi.json");
        let document = folder.path().join(format!("{name}.json"));
        std::fs::write(&document, reply.split_once("\r\n\r\n").expect("a body").1).expect("written");
        let valid = Command::new(tools.join("openapi-spec-validator")).arg(&document).status().expect("it runs");
        if !valid.success() {
            failed.push(format!("{name}: not valid"));
        }
        let examples = std::env::var("SCORELINE_SCHEMATHESIS_EXAMPLES").unwrap_or_else(|_| "50".to_owned());
        let passed = Command::new(tools.join("schemathesis"))
            .arg("--config-file")
            .arg(root().join("tests/schemathesis/schemathesis.toml"))
            .args(["run", &format!("http://{address}/openapi.json"), "--max-examples", &examples, "--seed", "17"])
            .args(["--phases", "examples,coverage,fuzzing,stateful", "--report", "junit", "--report-dir"])
            .arg(root().join("target/schemathesis").join(name))
            .env("SCHEMATHESIS_HOOKS", root().join("tests/schemathesis/hooks.py"))
            .env("SCORELINE_KEY", key.strip_prefix("Bearer ").expect("a bearer"))
            .current_dir(folder.path())
            .status()
            .expect("it runs");
        if !passed.success() {
            failed.push(format!("{name}: some answers are not as the document says"));
        }
    }
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    assert!(failed.is_empty(), "{failed:?}");
}
