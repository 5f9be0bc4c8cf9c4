//! The Debian package: made, judged by lintian, installed into a root of its own, run, upgraded, removed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{is_there, megabytes, packaged, repository, said};
use crate::process::{Server, post};

/// A root for dpkg that holds nothing yet. Scripts of packages run outside of it and are told where it is.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        for folder in ["info", "updates", "triggers"] {
            fs::create_dir_all(root.path().join("var/lib/dpkg").join(folder)).expect("made");
        }
        fs::write(root.path().join("var/lib/dpkg/status"), "").expect("written");
        Self(root)
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.0.path().display()));
        command.arg(format!("--log={}", self.at("dpkg.log").display()));
        command.args(["--force-script-chrootless", "--force-depends"]).args(arguments);
        let output = command.output().expect("dpkg runs");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    fn mode(&self, path: &str) -> u32 {
        fs::metadata(self.at(path)).unwrap_or_else(|err| panic!("{path}: {err}")).permissions().mode() & 0o7777
    }
}

fn made(program: &Path, folder: &Path) -> PathBuf {
    let mut command = Command::new("bash");
    command.arg(repository("integrations/deploy/package")).arg(program).arg(folder);
    let output = command.output().expect("bash runs");
    assert!(output.status.success(), "{}", said(&output));
    let mut entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.find(|path| path.extension().is_some_and(|end| end == "deb")).expect("a package")
}

#[test]
#[ignore = "makes a package: a minute, and root"]
fn the_debian_package_installs_runs_and_leaves_what_is_the_operators() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = packaged(folder.path());
    let package = made(&program, &folder.path().join("made"));
    let shown = package.to_str().expect("a name");
    eprintln!("{:.1} MB: {}", megabytes(&package), package.file_name().expect("a name").display());
    if is_there(Command::new("lintian").arg("--version")) {
        // It closes no wish of Debian's: it is not made for Debian's archive.
        let suppressed = "--suppress-tags=initial-upload-closes-no-bugs";
        let output =
            Command::new("lintian").args(["--fail-on=error,warning", "--allow-root", suppressed, shown]).output();
        let output = output.expect("lintian runs");
        assert!(output.status.success(), "{}", said(&output));
        eprintln!("lintian: {}", if said(&output).is_empty() { "nothing to say" } else { "only remarks" });
    } else {
        eprintln!("not judged: lintian is not there (Debian package)");
    }

    let root = Root::new();
    root.dpkg(&["--install", shown]);
    for (path, mode) in [
        ("usr/bin/scoreline", 0o755),
        ("etc/scoreline/scoreline.toml", 0o644),
        ("etc/scoreline/pepper", 0o600),
        ("usr/share/scoreline/models/clv/v1.2/bundle.toml", 0o644),
        ("usr/share/doc/scoreline/copyright", 0o644),
        ("usr/share/doc/scoreline/changelog.gz", 0o644),
        ("usr/share/doc/scoreline/operate.md", 0o644),
        ("usr/share/man/man1/scoreline.1.gz", 0o644),
        ("usr/share/man/man1/scoreline-replay.1.gz", 0o644),
        ("usr/share/bash-completion/completions/scoreline", 0o644),
        ("usr/share/zsh/vendor-completions/_scoreline", 0o644),
        ("usr/share/fish/vendor_completions.d/scoreline.fish", 0o644),
        ("usr/lib/systemd/system/scoreline.service", 0o644),
    ] {
        assert_eq!(format!("{:o}", root.mode(path)), format!("{mode:o}"), "{path}");
    }
    let installed = root.dpkg(&["--status", "scoreline"]);
    assert!(installed.contains("Conffiles:\n /etc/scoreline/scoreline.toml "), "{installed}");
    eprintln!("{}", installed.lines().find(|line| line.starts_with("Installed-Size")).expect("a size"));
    let pepper = fs::read_to_string(root.at("etc/scoreline/pepper")).expect("drawn");
    assert!(pepper.len() == 64 && pepper.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert!(!root.at("etc/systemd/system").exists(), "neither enabled nor started");
    verified(&root);

    // Run by its own settings, but that folders are those of the root.
    let mut command = Command::new(root.at("usr/bin/scoreline"));
    command.arg("--config").arg(root.at("etc/scoreline/scoreline.toml")).arg("serve").env_remove("SCORELINE_CONFIG");
    command.env("SCORELINE__MODELS__DIR", root.at("usr/share/scoreline/models"));
    command.env("SCORELINE__STORE__PATH", root.at("var/lib/scoreline/scoreline.db"));
    command.env("SCORELINE__PRIVACY__PEPPER_FILE", root.at("etc/scoreline/pepper"));
    let server = Server::run(command, &[]);
    let question = r#"{"customerId":"C-1","features":{"recency_days":12,"frequency_count":48}}"#;
    let answer = post(&server.listen, "/v1/predict/clv", question);
    assert!(answer.contains("\"source\":\"model\""), "{answer}");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);

    // What the operator wrote and what was drawn stay.
    let settings = root.at("etc/scoreline/scoreline.toml");
    let own = fs::read_to_string(&settings).expect("text") + "# mine\n";
    fs::write(&settings, &own).expect("written");
    for arguments in [["--install", shown], ["--remove", "scoreline"]] {
        root.dpkg(&arguments);
        assert_eq!(fs::read_to_string(&settings).expect("text"), own, "{arguments:?}");
        assert_eq!(fs::read_to_string(root.at("etc/scoreline/pepper")).expect("there"), pepper, "{arguments:?}");
    }
    assert!(!root.at("usr/bin/scoreline").exists() && !root.at("usr/lib/systemd/system/scoreline.service").exists());
    root.dpkg(&["--purge", "scoreline"]);
    assert!(!settings.exists() && root.at("etc/scoreline/pepper").exists());
}

/// The unit as it is installed, with the program and the manual page it names.
fn verified(root: &Root) {
    if !is_there(Command::new("systemd-analyze").arg("--version")) {
        eprintln!("not judged: systemd-analyze is not there (Debian package systemd)");
        return;
    }
    let system = root.at("usr/lib/systemd/system");
    fs::create_dir_all(root.at("bin")).expect("made");
    fs::copy("/bin/sh", root.at("bin/sh")).expect("copied");
    for name in ["multi-user.target", "network-online.target", "sysinit.target", "basic.target", "shutdown.target"] {
        fs::write(system.join(name), "[Unit]\nDescription=stands in\n").expect("written");
    }
    let mut command = Command::new("systemd-analyze");
    let output: Output =
        command.arg("verify").arg("--root").arg(root.0.path()).arg("scoreline.service").output().expect("runs");
    assert!(output.status.success(), "{}", said(&output));
}
