//! What systems run the program by: the unit, the package, the image, manifests; and a store that is taken from a back-up.

mod backup;
mod image;
mod package;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::process::scoreline;

const UNIT: &str = "integrations/deploy/scoreline.service";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

/// Whether a program is there and does this.
fn is_there(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn systemd_takes_the_unit_and_finds_little_exposed() {
    if !is_there(Command::new("systemd-analyze").arg("--version")) {
        eprintln!("skipped: the unit is judged by systemd-analyze (Debian package systemd)");
        return;
    }
    // A root in which the programs that the unit names are there.
    let root = tempfile::tempdir().expect("a folder");
    for name in ["usr/bin/scoreline", "bin/sh"] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().expect("below the root")).expect("made");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    let system = root.path().join("etc/systemd/system");
    fs::create_dir_all(&system).expect("made");
    fs::copy(repository(UNIT), system.join("scoreline.service")).expect("copied");
    for name in ["multi-user.target", "network-online.target", "sysinit.target", "basic.target", "shutdown.target"] {
        fs::write(system.join(name), "[Unit]\nDescription=stands in\n").expect("written");
    }
    let mut command = Command::new("systemd-analyze");
    let output = command.arg("verify").arg("--root").arg(root.path()).arg("scoreline.service").output().expect("runs");
    assert!(output.status.success(), "{}", said(&output));

    let mut command = Command::new("systemd-analyze");
    let output = command.args(["security", "--offline=true", "--threshold=20"]).arg(repository(UNIT)).output();
    let output = output.expect("runs");
    let told = said(&output);
    assert!(output.status.success() && told.contains("Overall exposure level"), "above 2.0: {told}");
}

#[test]
fn models_are_tried_under_the_filters_of_the_unit() {
    let python = Path::new("/usr/bin/python3");
    if !is_there(Command::new(python).args(["-c", "import seccomp"]))
        || !is_there(Command::new("systemd-analyze").arg("--version"))
    {
        eprintln!("skipped: the unit's filters are tried with python3-seccomp and systemd-analyze (Debian packages)");
        return;
    }
    let filtered = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(python);
        command.arg(repository("tests/deploy/filtered.py")).arg(repository(UNIT)).arg(program).args(arguments);
        command.current_dir(repository("")).env_remove("SCORELINE_CONFIG").output().expect("runs")
    };
    let output = filtered(env!("CARGO_BIN_EXE_scoreline"), &["models", "verify", "models"]);
    let told = said(&output);
    assert!(output.status.success() && told.contains("ok    probe"), "{told}");
    // The filters hold.
    let output = filtered("/bin/mount", &["-t", "tmpfs", "none", "/mnt"]);
    assert!(!output.status.success(), "{}", said(&output));
}

/// What is packaged: the program that `SCORELINE_PACKAGED` names, else the tests' own without its symbols.
#[expect(clippy::disallowed_methods, reason = "a test is told its program this way")]
fn packaged(folder: &Path) -> PathBuf {
    if let Some(path) = std::env::var_os("SCORELINE_PACKAGED") {
        return PathBuf::from(path);
    }
    let program = folder.join("scoreline");
    let mut command = Command::new("strip");
    let output = command.arg("-o").arg(&program).arg(env!("CARGO_BIN_EXE_scoreline")).output().expect("strip runs");
    assert!(output.status.success(), "{}", said(&output));
    program
}

fn megabytes(path: &Path) -> f64 {
    fs::metadata(path).expect("there").len() as f64 / 1e6
}

/// Every file that systems run the program by.
fn deployed() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![repository("integrations/deploy")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_variable_of_a_manifest_is_a_setting() {
    let mut named = 0;
    for path in deployed() {
        let text = fs::read_to_string(&path).expect("text");
        let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        for name in text.split(|c| !is_part(c)).filter(|word| word.starts_with("SCORELINE__")) {
            // A value that no setting has: known names say what they take, others that they are none.
            let output =
                scoreline(&["config", "check"], &repository("models")).env(name, "\u{1}").output().expect("runs");
            assert!(!said(&output).contains("is not known"), "{}: `{name}` is no setting", path.display());
            named += 1;
        }
    }
    assert!(named > 10, "{named}");
    let settings = repository("integrations/deploy/scoreline.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    let output = command.arg("--config").arg(settings).args(["config", "check"]).output().expect("runs");
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn kubernetes_takes_the_manifests() {
    let mut command = Command::new("kubectl");
    let Ok(output) = command.args(["kustomize", "integrations/deploy/kubernetes"]).current_dir(repository("")).output()
    else {
        eprintln!("skipped: manifests are put together by kubectl");
        return;
    };
    assert!(output.status.success(), "{}", said(&output));
    let folder = tempfile::tempdir().expect("a folder");
    let manifests = folder.path().join("manifests.yaml");
    fs::write(&manifests, &output.stdout).expect("written");
    let validate = repository("target/test-venv/bin/kubernetes-validate");
    if !validate.exists() {
        eprintln!("skipped: manifests are judged by kubernetes-validate in target/test-venv");
        return;
    }
    let output = Command::new(validate).arg("--strict").arg(&manifests).output().expect("runs");
    assert!(output.status.success() && said(&output).matches(" passed ").count() == 4, "{}", said(&output));
}

#[test]
fn the_files_of_the_image_are_all_that_the_program_asks_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("bash");
    command.arg(repository("integrations/deploy/stage")).arg(env!("CARGO_BIN_EXE_scoreline")).arg(folder.path());
    let output = command.output().expect("bash runs");
    if said(&output).contains("install ca-certificates") {
        eprintln!("skipped: the image takes its authorities from ca-certificates (Debian package)");
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    let root = folder.path().join("root");
    assert!(
        root.join("models/clv/v1.2/bundle.toml").exists() && root.join("etc/ssl/certs/ca-certificates.crt").exists()
    );
    // In a root of its own, as the image's user.
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg("--userspec=65532:65532").arg(&root).args(["/usr/bin/scoreline", "features", "catalogue"]);
    let output = command.env_clear().env("ORT_DISABLE_TELEMETRY", "1").output().expect("chroot runs");
    if said(&output).contains("Operation not permitted") {
        eprintln!("skipped: a root of its own needs root");
        return;
    }
    assert!(output.status.success() && said(&output).contains("recency_days"), "{}", said(&output));
}

#[test]
fn compose_takes_its_file() {
    let judge = |password: &str| {
        let mut command = Command::new("docker-compose");
        command.args(["--file", "integrations/deploy/compose.yaml", "config"]).current_dir(repository(""));
        command.env("DATABASE_PASSWORD", password).output()
    };
    let Ok(output) = judge("a-password") else {
        eprintln!("skipped: the compose file is judged by docker-compose (Debian package)");
        return;
    };
    let told = said(&output);
    assert!(output.status.success() && told.contains("postgres://scoreline:a-password@database/scoreline"), "{told}");
    let output = judge("").expect("runs");
    let told = said(&output);
    assert!(!output.status.success() && told.contains("see the first lines of compose.yaml"), "{told}");
}
