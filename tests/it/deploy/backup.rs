//! A store comes back from its back-up, by the commands of `docs/operate.md`, on both databases.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use scoreline_store::StorePlace;
use secrecy::ExposeSecret as _;

use super::{is_there, repository, said};
use crate::ground::Ground;
use crate::process::{Server, ask, get, models, post, scoreline};
use crate::worker::served::{body, wait_for};

/// The commands of the two blocks under "Back up and restore" that begin with one of these words.
fn commands(words: &[&str]) -> [String; 2] {
    let page = fs::read_to_string(repository("docs/operate.md")).expect("text");
    let (_, section) = page.split_once("### Back up and restore").expect("a section");
    let section = section.split("\n### ").next().expect("something");
    let blocks = section.split("```console\n").skip(1).map(|block| block.split("```").next().expect("an end"));
    let own = |block: &str| {
        let lines = block.lines().filter(|line| words.iter().any(|word| line.starts_with(word)));
        lines.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    let [back_up, restore] = blocks.map(own).collect::<Vec<_>>().try_into().expect("two blocks");
    assert!(!back_up.is_empty() && !restore.is_empty(), "commands of {words:?}");
    [back_up, restore]
}

/// Runs commands of the page in a folder, whose own `backup` stands for `/backup`.
fn run(commands: &str, folder: &Path, environment: &[(&str, &str)]) -> Output {
    let commands = commands.replace("/backup", &folder.join("backup").display().to_string());
    let mut command = Command::new("bash");
    command.args(["-euc", &commands]).current_dir(folder).envs(environment.iter().copied());
    let output = command.output().expect("bash runs");
    assert!(output.status.success(), "{commands}{}", said(&output));
    output
}

/// What the store answers about a purchase: `written`, `same` or `erased`.
fn tell_purchase(server: &Server, customer: &str) -> String {
    let purchase = format!(r#"{{"customer_id":"{customer}","date":"2026-03-01","amount":19.9,"items":2}}"#);
    let told = body(&post(&server.listen, "/v1/purchases", &purchase));
    let word = ["written", "same"].into_iter().find(|word| told["purchases"][word] == 1);
    let word = word.or((told["error"]["code"] == "customer_erased").then_some("erased"));
    word.unwrap_or_else(|| panic!("{told}")).to_owned()
}

fn start(models: &Path, environment: &[(&str, &str)]) -> Server {
    let server = Server::start_with(models, environment);
    wait_for("the store", || get(&server.admin, "/metrics").contains("scoreline_store_open 1"));
    server
}

fn stop(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// A server that knows a customer and has erased another, copied while it runs; then it is told of a third.
fn copied(models: &Path, folder: &Path, back_up: &str, environment: &[(&str, &str)]) {
    fs::create_dir(folder.join("backup")).expect("made");
    let server = start(models, environment);
    assert_eq!(tell_purchase(&server, "C-1"), "written");
    let erased = ask(&server.listen, "DELETE /v1/customers/C-9 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(erased.contains("\"tombstone\":\"kept\""), "{erased}");
    run(back_up, folder, environment);
    assert_eq!(tell_purchase(&server, "C-2"), "written");
    stop(server);
}

fn is_restored(models: &Path, environment: &[(&str, &str)]) {
    let status = scoreline(&["doctor"], models).envs(environment.iter().copied()).output().expect("runs");
    assert!(status.status.success() && said(&status).contains("store: it opens: 1 customers"), "{}", said(&status));
    let server = start(models, environment);
    assert_eq!(tell_purchase(&server, "C-1"), "same", "known by the same key");
    assert_eq!(tell_purchase(&server, "C-9"), "erased", "and nobody comes back who was erased before the copy");
    assert_eq!(tell_purchase(&server, "C-2"), "written", "what came after the copy is gone");
    stop(server);
}

#[test]
fn an_sqlite_store_comes_back_with_its_pepper() {
    if !is_there(Command::new("sqlite3").arg("--version")) {
        eprintln!("skipped: the store is copied by sqlite3 (Debian package)");
        return;
    }
    let [back_up, restore] = commands(&["copy=", "sqlite3 ", "rm ", "install "]);
    let models = models();
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let shown = state.join("scoreline.db").display().to_string();
    let environment = [("SCORELINE__STORE__PATH", shown.as_str())];
    copied(models.path(), folder.path(), &back_up, &environment);
    let pepper = fs::read(state.join("pepper")).expect("drawn");

    // Another machine: nothing of the old folder is there.
    fs::remove_dir_all(&state).expect("gone");
    fs::create_dir(&state).expect("made");
    let copy = run("ls /backup/*.db", folder.path(), &[]);
    let copy = String::from_utf8(copy.stdout).expect("a name");
    run(&restore, folder.path(), &[("copy", copy.trim())]);
    assert_eq!(fs::metadata(&shown).expect("restored").permissions().mode() & 0o777, 0o600);
    let status = scoreline(&["doctor"], models.path()).envs(environment).output().expect("runs");
    assert!(!status.status.success() && said(&status).contains("fail  pepper"), "{}", said(&status));
    fs::write(state.join("pepper"), pepper).expect("restored");
    fs::set_permissions(state.join("pepper"), fs::Permissions::from_mode(0o600)).expect("private");
    is_restored(models.path(), &environment);
}

#[test]
fn a_postgres_store_comes_back() {
    if !is_there(Command::new("pg_dump").arg("--version")) {
        eprintln!("skipped: the store is copied by pg_dump (Debian package postgresql-client)");
        return;
    }
    let [back_up, restore] = commands(&["pg_"]);
    let models = models();
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::postgres("back_up"));
    let StorePlace::Postgres(url) = &ground.settings.place else { unreachable!("asked for") };
    let url = url.expose_secret().to_owned();
    let environment = [
        ("SCORELINE__PRIVACY__PEPPER", "a pepper that lasts"),
        ("SCORELINE__STORE__PATH", ""),
        ("SCORELINE__STORE__URL", &url),
    ];
    copied(models.path(), folder.path(), &back_up, &environment);
    run(&restore, folder.path(), &environment);
    is_restored(models.path(), &environment);
    runtime.block_on(ground.remove());
}
