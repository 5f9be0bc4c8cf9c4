//! The first hour with the program: a folder of one's own, what is not right with it, completions and manual pages.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use sqlx::{Connection as _, SqliteConnection};

use crate::process::{Server, ask, get};
use crate::support::TestBundle;
use crate::tls::authority::Authority;
use crate::worker::served::wait_for;

/// `scoreline` in a folder, with nothing of the tests' own settings.
fn scoreline(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    command.args(arguments).current_dir(folder).env_remove("SCORELINE_CONFIG").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn init(folder: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (code, told, err) = run(scoreline(root, &["init"]).arg(folder));
    assert_eq!((code, err.as_str()), (0, ""), "{told}");
    told
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn what_init_makes_serves_and_is_never_written_over() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path().join("new/here");
    let told = init(&folder);
    let key = told.lines().map(str::trim).find(|line| line.starts_with("sk_")).expect("shown once").to_owned();
    for name in ["pepper", "credentials.toml"] {
        assert_eq!(mode(&folder.join(name)), 0o600, "{name}");
    }
    let kept: Vec<_> = ["scoreline.toml", "pepper", "credentials.toml", ".gitignore"]
        .iter()
        .map(|name| fs::read_to_string(folder.join(name)).expect("made"))
        .collect();
    assert!(!kept.concat().contains(&key), "kept as a hash alone");
    assert!(folder.join("models/clv/v1.2/bundle.toml").exists() && !folder.join(".models.new").exists());

    // Whatever is there stays, also what was changed or half made.
    fs::write(folder.join("models/clv/v1.2/own"), "x").expect("written");
    fs::remove_file(folder.join(".gitignore")).expect("removed");
    let again = init(&folder);
    assert!(!again.contains("sk_") && again.matches("left as it is").count() == 4, "{again}");
    assert!(again.contains("made   .gitignore"), "{again}");
    for (name, before) in ["scoreline.toml", "pepper", "credentials.toml", ".gitignore"].iter().zip(&kept) {
        assert_eq!(&fs::read_to_string(folder.join(name)).expect("there"), before, "{name}");
    }

    let (code, told, err) = run(&mut scoreline(&folder, &["doctor"]));
    assert!(code == 0 && told.ends_with(" 0 fail\n"), "{told}{err}");
    let server = Server::run(scoreline(&folder, &["serve"]), &[]);
    let body = r#"{"features":{"recency_days":12,"frequency_count":48}}"#;
    let question = |authorization: &str| {
        ask(
            &server.listen,
            &format!(
                "POST /v1/predict/clv HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    };
    assert!(question("").starts_with("HTTP/1.1 401"), "{}", question(""));
    let answer = question(&format!("authorization: Bearer {key}\r\n"));
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"clv_value_usd\""), "{answer}");
    assert!(folder.join("state/scoreline.db").exists() && !folder.join("state/pepper").exists());

    // Beside a running server, too, which it knows by its answer.
    let settings = [("SCORELINE__SERVER__LISTEN", &server.listen), ("SCORELINE__SERVER__ADMIN_LISTEN", &server.admin)];
    let (code, told, err) = run(scoreline(&folder, &["doctor"]).envs(settings));
    assert!(code == 0 && told.contains(&format!("a scoreline answers on `{}`", server.listen)), "{told}{err}");
    assert!(told.contains("store: it opens: 0 customers"), "{told}");
    assert!(get(&server.listen, "/health/live").starts_with("HTTP/1.1 200"));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn init_keeps_the_pepper_of_a_store_that_is_there() {
    let scratch = tempfile::tempdir().expect("a folder");
    fs::create_dir(scratch.path().join("state")).expect("made");
    fs::write(scratch.path().join("state/pepper"), "0123456789abcdef0123456789abcdef\n").expect("written");
    fs::set_permissions(scratch.path().join("state/pepper"), fs::Permissions::from_mode(0o600)).expect("private");
    init(scratch.path());
    assert!(!scratch.path().join("pepper").exists());
    let settings = fs::read_to_string(scratch.path().join("scoreline.toml")).expect("made");
    assert!(settings.contains("pepper_file = \"state/pepper\""), "{settings}");
    let (code, told, err) = run(&mut scoreline(scratch.path(), &["config", "check"]));
    assert_eq!(code, 0, "{told}{err}");
    let (code, _, err) = run(&mut scoreline(scratch.path(), &["init", "scoreline.toml"]));
    assert!(code == 64 && err.contains("is not a folder"), "{err}");
}

#[test]
fn a_doctor_says_all_that_is_wrong_with_a_fix_for_each() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    TestBundle::clv("v1.2").write(&folder.join("models"));
    fs::write(folder.join("models/clv/v1.2/model.json"), "{}").expect("written");
    fs::set_permissions(folder.join("models"), fs::Permissions::from_mode(0o777)).expect("open");
    let identity = Authority::root("A CA").server_until(2020);
    let files = [("server.crt", identity.chain_pem()), ("server.key", identity.key_pem())];
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("written");
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).expect("private");
    }
    fs::write(folder.join("store.db"), "this is no database").expect("written");
    fs::write(folder.join("pepper"), "0123456789abcdef0123456789abcdef\n").expect("written");
    fs::set_permissions(folder.join("pepper"), fs::Permissions::from_mode(0o600)).expect("private");
    fs::write(folder.join("credentials.toml"), "[[key]]\nid = 3\n").expect("written");
    fs::set_permissions(folder.join("credentials.toml"), fs::Permissions::from_mode(0o600)).expect("private");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let holder = TcpListener::bind(taken).expect("again");
    let settings = format!(
        "[server]\nlisten = \"{taken}\"\nadmin_listen = \"192.0.2.1:8081\"\nallow_plain_http = true\n\
         allow_public_without_auth = true\n[server.tls]\ncertificate = \"server.crt\"\nkey = \"server.key\"\n\
         [privacy]\npepper_file = \"pepper\"\n[auth]\ncredentials_file = \"credentials.toml\"\n\
         [store]\npath = \"store.db\"\n[log]\naudit_path = \"scoreline.toml/audit\"\n[connections]\nmost = 1000000\n\
         [models.pins]\nclv = \"v9\"\n[models.candidates]\nclv = {{ version = \"v1.3\", mode = \"shadow\" }}\n\
         [widget]\nurl = \"https://score.example.com\"\naccess = \"conversation\"\nframe_ancestors = [\"https://desk.example.com\"]\n"
    );
    fs::write(folder.join("scoreline.toml"), settings).expect("written");
    let mut command = scoreline(folder, &["doctor", "--json"]);
    let (code, told, err) = run(command.env("SCORELINE_COLOUR", "red"));
    drop(holder);
    assert!(code == 1 && err.contains("things will not work"), "{told}{err}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["health"], "fail");
    let checks = told["checks"].as_array().expect("a list");
    let found = |about: &str, health: &str, says: &str| {
        checks.iter().any(|check| {
            check["about"] == about
                && check["health"] == health
                && check["says"].as_str().is_some_and(|text| text.contains(says))
        })
    };
    for (about, health, says) in [
        ("settings", "warn", "`SCORELINE_COLOUR`"),
        ("callers", "fail", "auth.credentials_file"),
        ("server.tls", "fail", "has expired"),
        ("exposure", "warn", "plain HTTP"),
        ("server.listen", "warn", "is in use"),
        ("server.admin_listen", "fail", "cannot be opened"),
        ("open files", "warn", "connections.most"),
        ("pepper", "ok", "keep a copy"),
        ("widget", "warn", "knows the id of a conversation"),
        ("store", "fail", "store.db"),
        ("log.audit_path", "fail", "is not a folder"),
        ("models", "warn", "every user"),
        ("models", "fail", "SHA-256"),
        ("models", "fail", "no version of `models.clv_model` = `clv`"),
        ("models", "fail", "`models.pins.clv` = `v9`"),
        ("models", "warn", "`models.candidates.clv` names `v1.3`"),
        ("deadline", "ok", "500 ms"),
    ] {
        assert!(found(about, health, says), "{about} {health} `{says}` in {told:#}");
    }
    for check in checks {
        assert_eq!(check["health"] == "ok", check["fix"].is_null(), "a fix for what is not right: {check}");
    }
    // The same for people: a line each, and the fix below it.
    let (code, text, _) = run(&mut scoreline(folder, &["doctor"]));
    assert!(code == 1 && !text.contains('\u{1b}'), "{text}");
    for line in text.lines() {
        let word = line.split(' ').next().unwrap_or_default();
        let is_sum = line.ends_with(" fail");
        assert!(is_sum || ["ok", "warn", "fail"].contains(&word) || line.starts_with("      fix: "), "{line}");
    }
}

#[test]
fn a_doctor_tells_of_a_store_of_another_version() {
    let scratch = tempfile::tempdir().expect("a folder");
    let folder = scratch.path();
    TestBundle::clv("v1.2").write(&folder.join("models"));
    let server = Server::run(scoreline(folder, &["serve"]), &[]);
    wait_for("the store", || get(&server.admin, "/metrics").contains("scoreline_store_open 1"));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
    let doctor = || run(&mut scoreline(folder, &["doctor"]));
    let (code, told, err) = doctor();
    assert!(code == 0 && told.contains("ok    store: it opens: 0 customers"), "{told}{err}");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let change = |sql: &'static str| {
        runtime.block_on(async {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("state/scoreline.db"));
            let mut store = SqliteConnection::connect_with(&options).await.expect("opened");
            sqlx::query(sql).execute(&mut store).await.expect("changed");
            store.close().await.expect("closed");
        });
    };
    change("DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)");
    let (code, told, _) = doctor();
    assert!(code == 0 && told.contains("warn  store: it opens, and the next start brings its schema from"), "{told}");
    assert!(told.contains("fix: back it up first"), "{told}");
    change(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
    );
    let (code, told, _) = doctor();
    assert!(code == 0 && told.contains("ok    store: it opens"), "a newer program that only added: {told}");
    change("UPDATE oldest_program SET schema_version = 999");
    let (code, told, _) = doctor();
    assert!(code == 1 && told.contains("fail  store:") && told.contains("fix: run the newer program"), "{told}");
}

#[test]
fn a_doctor_tells_of_settings_that_cannot_be_used() {
    let scratch = tempfile::tempdir().expect("a folder");
    fs::write(scratch.path().join("scoreline.toml"), "[scoring]\ndeadline = \"3h\"\n").expect("written");
    let mut command = scoreline(scratch.path(), &["doctor"]);
    let (code, told, err) = run(command.env("SCORELINE__PRIVACY__PEPPER", "short"));
    assert!(code == 64 && err.contains("settings"), "{told}{err}");
    assert!(
        told.contains("fail  settings: `scoring.deadline`") && told.contains("fix: change it in `scoreline.toml`"),
        "{told}"
    );
    assert!(told.contains("fix: change the environment variable `SCORELINE__PRIVACY__PEPPER`"), "{told}");
    assert!(!told.contains("short"), "secrets stay where they are: {told}");
    let (code, _, err) = run(&mut scoreline(Path::new("/"), &["doctor", "--genesys"]));
    assert!(code == 64 && err.contains("genesys.region"), "{err}");
    let (code, told, _) = run(&mut scoreline(scratch.path().parent().expect("above"), &["doctor", "--json"]));
    assert!(code == 1 && told.contains("does not exist"), "a folder without models: {told}");
}

#[test]
fn shells_take_the_completions() {
    let folder = tempfile::tempdir().expect("a folder");
    for shell in ["bash", "zsh", "fish"] {
        let (code, text, err) = run(&mut scoreline(folder.path(), &["completions", shell]));
        assert!(code == 0 && err.is_empty(), "{shell}: {err}");
        for word in ["doctor", "verify", "--sources"] {
            assert!(text.contains(word.trim_start_matches("--")), "{shell} completes `{word}`");
        }
        let file = folder.path().join(shell);
        fs::write(&file, &text).expect("written");
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {}", String::from_utf8_lossy(&output.stderr)),
            Err(_) => eprintln!("skipped: completions for {shell} are read by {shell}, which is not there"),
        }
    }
    let (code, _, err) = run(&mut scoreline(folder.path(), &["completions", "tcsh"]));
    assert!(code == 64 && err.contains("bash, zsh, fish"), "{err}");
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("man1");
    let (code, told, err) = run(scoreline(folder.path(), &["man", "--out"]).arg(&out));
    assert!(code == 0 && told.contains("pages"), "{told}{err}");
    let mut pages: Vec<_> = fs::read_dir(&out).expect("made").map(|entry| entry.expect("a page").path()).collect();
    pages.sort();
    for name in ["scoreline", "scoreline-serve", "scoreline-models-verify", "scoreline-genesys-export-campaign"] {
        assert!(out.join(format!("{name}.1")).exists(), "{name} in {pages:?}");
    }
    assert!(!pages.iter().any(|page| page.to_string_lossy().contains("probe.1")), "what is hidden has none");
    for page in &pages {
        let text = fs::read_to_string(page).expect("text");
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{}", page.display());
    }
    // Style is not ours to choose here; what cannot be shown is an error.
    match Command::new("mandoc").args(["-T", "lint", "-W", "error"]).args(&pages).output() {
        Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
        Err(_) => eprintln!("skipped: manual pages are read by mandoc (Debian package mandoc)"),
    }
}
