//! The store of a running server: there from the first start, shared by replicas, never in the way of a prediction, and
//! whole after any kill.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use scoreline_domain::privacy::{IdHasher, Tombstone};
use scoreline_domain::time::Stopwatch;
use scoreline_store::{Store, StorePlace};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use sqlx::Connection as _;

use crate::ground::Ground;
use crate::process::{Server, ask, get, models, post, scoreline};
use crate::support::TestBundle;
use crate::support::test_app::privacy;
use crate::worker::served::{body, wait_for};

const PEPPER: &str = "a pepper that lasts";
const FEATURES: &str = r#"{"recency_days": 30, "frequency_count": 10}"#;

/// Where a test's servers keep what they are told.
struct Desk {
    models: tempfile::TempDir,
    ground: Ground,
    runtime: tokio::runtime::Runtime,
}

impl Desk {
    fn sqlite() -> Self {
        Self::over(async { Ground::sqlite() })
    }

    fn postgres(test: &str) -> Self {
        Self::over(Ground::postgres(test))
    }

    fn over(ground: impl Future<Output = Ground>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { models: models(), ground: runtime.block_on(ground), runtime }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let pepper = ("SCORELINE__PRIVACY__PEPPER", PEPPER.to_owned());
        match &self.ground.settings.place {
            StorePlace::Sqlite(path) => vec![pepper, ("SCORELINE__STORE__PATH", path.display().to_string())],
            StorePlace::Postgres(url) => vec![
                pepper,
                ("SCORELINE__STORE__PATH", String::new()),
                ("SCORELINE__STORE__URL", url.expose_secret().to_owned()),
            ],
            StorePlace::Memory => unreachable!("no test asks for it"),
        }
    }

    fn start(&self) -> Server {
        start(self.models.path(), &self.environment())
    }

    /// The store, once no server of SQLite has it.
    fn look<T>(&self, work: impl AsyncFnOnce(&Store) -> T) -> T {
        self.runtime.block_on(async {
            let store = self.ground.open().await;
            let seen = work(&store).await;
            store.close().await;
            seen
        })
    }

    fn end(self) {
        self.runtime.block_on(self.ground.remove());
    }
}

fn start(models: &Path, environment: &[(&str, String)]) -> Server {
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Server::start_with(models, &environment)
}

fn outcome(customer: &str) -> String {
    format!(
        r#"{{"customerId": "{customer}", "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z",
        "prediction": {{"clv_value_usd": 20.0, "confidence_interval_low": 0.0, "confidence_interval_high": 50.0,
        "interval_level": 0.9, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z", "horizon_days": 30}}}}"#
    )
}

fn predict(customer: &str) -> String {
    format!(r#"{{"customerId": "{customer}", "features": {FEATURES}}}"#)
}

fn delete(address: &str, customer: &str) -> String {
    ask(address, &format!("DELETE /v1/customers/{customer} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
}

/// What a server that does not start says, and its exit code.
fn refused(models: &Path, environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = scoreline(&["serve"], models)
        .env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")
        .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

#[test]
fn everything_works_from_the_first_start_and_after_the_next() {
    let models = models();
    let state = models.path().join(".state");
    let server = start(models.path(), &[]);
    let pepper = fs::metadata(state.join("pepper")).expect("drawn");
    assert_eq!(pepper.mode() & 0o777, 0o600);
    for file in ["scoreline.db", "scoreline.db-wal"] {
        assert_eq!(fs::metadata(state.join(file)).expect("made").mode() & 0o777, 0o600, "{file}");
    }
    assert!(post(&server.listen, "/v1/predict/clv", &predict("CUST-1")).contains("\"source\":\"model\""));
    let early = r#"{"customerId": "CUST-1", "actual_spend_usd": 1.0, "observed_at": "2026-11-28T00:00:00Z"}"#;
    let told = post(&server.listen, "/v1/outcomes", early);
    assert!(told.contains("\"result\":\"immature\""), "the prediction was recorded: {told}");
    assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-2")).contains("\"result\":\"recorded\""));
    let erased = delete(&server.listen, "CUST-2");
    assert!(erased.contains("\"tombstone\":\"kept\""), "{erased}");
    assert!(erased.contains("\"store\":1"), "{erased}");
    let by_id = post(&server.listen, "/v1/predict/clv", r#"{"customerId": "CUST-3"}"#);
    assert!(by_id.starts_with("HTTP/1.1 200") && by_id.contains("stored_features"), "{by_id}");
    let shown = body(&get(&server.admin, "/admin/privacy"));
    assert_eq!((&shown["pepper_lasts"], &shown["tombstones_hold"]), (&true.into(), &"for_good".into()));
    // Beside a server: a second writer is told who is there, and by which key.
    let second = scoreline(&["rescore"], models.path()).output().expect("runs");
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && text.contains("`store.path`") && text.contains("in use by process"), "{text}");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);

    let log = state.join("purchases.csv");
    fs::write(&log, "customer_id,date,amount,items\nCUST-1,2026-01-05,10.50,1\nCUST-2,2026-01-05,10.50,1\n")
        .expect("written");
    let imported = scoreline(&["features", "import-purchases"], models.path()).arg(&log).output().expect("runs");
    let text = String::from_utf8_lossy(&imported.stderr).into_owned();
    assert!(text.contains("1 new or changed, 0 known already, 1 of erased customers"), "{text}");
    let rescored = scoreline(&["rescore"], models.path()).output().expect("runs");
    assert!(rescored.status.success(), "{}", String::from_utf8_lossy(&rescored.stderr));

    let server = start(models.path(), &[]);
    assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-2")).starts_with("HTTP/1.1 410"));
    assert!(post(&server.listen, "/v1/outcomes", early).contains("\"result\":\"duplicate\""));
    let answer = || body(&post(&server.listen, "/v1/predict/clv", r#"{"customerId": "CUST-1"}"#));
    wait_for("the table", || answer()["metadata"]["features_as_of"].is_string());
    server.signal("TERM");
    assert_eq!(server.wait(), 0);

    // Without its pepper nobody in the store would be found again.
    fs::rename(state.join("pepper"), state.join("elsewhere")).expect("moved");
    for environment in [&[][..], &[("SCORELINE__PRIVACY__PEPPER", PEPPER)]] {
        let (code, said) = refused(models.path(), environment);
        assert!(code == Some(64) && said.contains("`store.path`") && said.contains("pepper"), "{code:?}: {said}");
    }
}

#[test]
fn what_can_not_be_used_is_said_with_the_key_and_left_as_it_is() {
    let models = models();
    let folder = tempfile::tempdir().expect("a folder");
    let damaged = folder.path().join("scoreline.db");
    fs::write(&damaged, "this is no database".repeat(1000)).expect("written");
    let below = damaged.join("scoreline.db");
    for path in [&damaged, &below] {
        let path = path.display().to_string();
        let (code, said) = refused(models.path(), &[("SCORELINE__STORE__PATH", &path)]);
        assert!(code == Some(64) && said.contains("`store.path`") && said.contains(&path[..20]), "{code:?}: {said}");
    }
    assert_eq!(fs::read(&damaged).expect("there"), "this is no database".repeat(1000).into_bytes());
    let (code, said) = refused(models.path(), &[("SCORELINE__MONITORING__PATH", "state/monitoring")]);
    assert!(code == Some(64) && said.contains("`monitoring.path` is no setting any more"), "{said}");
}

#[test]
fn in_memory_everything_works_and_is_forgotten() {
    let models = models();
    for _ in 0..2 {
        let server = start(models.path(), &[("SCORELINE__STORE__PATH", ":memory:".to_owned())]);
        assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-1")).contains("\"result\":\"recorded\""));
        let erased = delete(&server.listen, "CUST-1");
        assert!(erased.contains("\"tombstone\":\"until_restart\"") && erased.contains("\"store\":1"), "{erased}");
        assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-1")).starts_with("HTTP/1.1 410"));
        server.signal("TERM");
        assert_eq!(server.wait(), 0);
    }
    assert!(!models.path().join(".state").exists());
    let command =
        scoreline(&["rescore"], models.path()).env("SCORELINE__STORE__PATH", ":memory:").output().expect("runs");
    let said = String::from_utf8_lossy(&command.stderr).into_owned();
    assert!(!command.status.success() && said.contains("`store.path`") && said.contains("`:memory:`"), "{said}");
}

#[test]
fn a_database_that_is_gone_costs_what_is_kept_and_no_prediction() {
    let models = models();
    // Nobody listens there; and somebody who never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    for address in ["127.0.0.1:1".to_owned(), silent.local_addr().expect("bound").to_string()] {
        let environment = [
            ("SCORELINE__PRIVACY__PEPPER", PEPPER.to_owned()),
            ("SCORELINE__STORE__PATH", String::new()),
            ("SCORELINE__STORE__URL", format!("postgres://nobody@{address}/none")),
        ];
        let watch = Stopwatch::start();
        let server = start(models.path(), &environment);
        assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
        for _ in 0..2 {
            let answer = post(&server.listen, "/v1/predict/clv", &predict("CUST-1"));
            assert!(answer.contains("\"source\":\"model\""), "nothing is kept, so nothing is cached: {answer}");
        }
        assert!(get(&server.admin, "/health/ready").starts_with("HTTP/1.1 200"));
        assert!(get(&server.admin, "/metrics").contains("scoreline_store_open 0"));
        let told = post(&server.listen, "/v1/outcomes", &outcome("CUST-1"));
        assert!(told.starts_with("HTTP/1.1 503") && told.contains("`store.url`"), "{told}");
        let erased = delete(&server.listen, "CUST-1");
        assert!(erased.starts_with("HTTP/1.1 503") && erased.contains("`store`"), "{erased}");
        let promoted = post(&server.admin, "/admin/models/clv/v1.2/promote", "");
        assert!(promoted.starts_with("HTTP/1.1 503") && promoted.contains("`store.url`"), "{promoted}");
        server.signal("TERM");
        assert_eq!(server.wait(), 0);
    }
}

/// Known customers would be answered as strangers: whoever balances the load waits, for as long as it was told to.
#[test]
fn readiness_waits_for_the_features_of_known_customers() {
    let desk = Desk::postgres("readiness");
    let StorePlace::Postgres(url) = &desk.ground.settings.place else { unreachable!("asked for above") };
    let end = |server: Server| {
        server.signal("TERM");
        assert_eq!(server.wait(), 0);
    };
    let ready = |server: &Server| body(&get(&server.listen, "/health/ready"))["status"].clone();
    // Makes the tables.
    let mut server = desk.start();
    wait_for("an empty table", || ready(&server) == "ready");
    let said = server.event("the features of all known customers are in memory");
    assert_eq!(said["customers"], 0, "{said}");
    end(server);

    // Nobody can read them.
    let mut held = desk.runtime.block_on(sqlx::PgConnection::connect(url.expose_secret())).expect("reached");
    let mut lock = desk.runtime.block_on(held.begin()).expect("begun");
    let locking = sqlx::query("LOCK TABLE features IN ACCESS EXCLUSIVE MODE").execute(&mut *lock);
    desk.runtime.block_on(locking).expect("locked");
    let mut waits = desk.start();
    let mut environment = desk.environment();
    environment.push(("SCORELINE__SERVER__READY_WAIT", "1s".to_owned()));
    let mut impatient = start(desk.models.path(), &environment);
    let reply = get(&waits.listen, "/health/ready");
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains("\"status\":\"loading\""), "{reply}");
    assert!(post(&waits.listen, "/v1/predict/clv", &predict("CUST-1")).contains("\"source\":\"model\""));
    wait_for("its time", || ready(&impatient) == "ready");
    impatient.event("ready before the features of all known customers were read: the others are answered as new; `server.ready_wait` is how long that is waited for, `scoreline_book_complete` tells when it is done");
    assert_eq!(ready(&waits), "loading");
    desk.runtime.block_on(lock.rollback()).expect("unlocked");
    wait_for("the features", || ready(&waits) == "ready");
    waits.event("the features of all known customers are in memory");
    for server in [waits, impatient] {
        end(server);
    }
    desk.runtime.block_on(held.close()).expect("closed");
    desk.end();
}

fn serving(server: &Server) -> Value {
    let reply = post(&server.listen, "/v1/predict/clv", &format!(r#"{{"features": {FEATURES}}}"#));
    body(&reply)["metadata"]["model_version"].clone()
}

#[test]
fn replicas_share_promotions_outcomes_and_erasures() {
    let desk = Desk::postgres("replicas");
    TestBundle::clv("v1.1").with_log_mean(3.3).write(desk.models.path());
    let (one, other) = (desk.start(), desk.start());
    assert_eq!((serving(&one), serving(&other)), ("v1.2".into(), "v1.2".into()));
    wait_for("the models to stand still", || {
        post(&one.admin, "/admin/models/clv/v1.1/promote", "").starts_with("HTTP/1.1 200")
    });
    assert_eq!(serving(&one), "v1.1");
    let watch = Stopwatch::start();
    wait_for("the promotion", || serving(&other) == "v1.1");
    eprintln!("a promotion was served by the other replica after {:?}", watch.elapsed());

    // Recorded by one, told to the other, counted once by both.
    assert!(post(&one.listen, "/v1/predict/clv", &predict("CUST-1")).contains("\"source\":\"model\""));
    assert!(post(&other.listen, "/v1/predict/clv", &predict("CUST-1")).contains("\"source\":\"model\""));
    let early = r#"{"customerId": "CUST-1", "actual_spend_usd": 1.0, "observed_at": "2026-11-28T00:00:00Z"}"#;
    let mut told = String::new();
    wait_for("the prediction", || {
        told = post(&other.listen, "/v1/outcomes", early);
        told.starts_with("HTTP/1.1 200")
    });
    assert!(post(&one.listen, "/v1/outcomes", &outcome("CUST-2")).contains("\"result\":\"recorded\""));
    assert!(post(&other.listen, "/v1/outcomes", &outcome("CUST-2")).contains("\"result\":\"duplicate\""));
    for server in [&one, &other] {
        wait_for("the gauge", || {
            get(&server.admin, "/metrics").contains("scoreline_outcome_window{model=\"clv\",version=\"v1.2\"} 1")
        });
    }

    let score = |server: &Server| get(&server.listen, "/v1/customers/CUST-1/score");
    assert!(score(&one).starts_with("HTTP/1.1 200") && score(&other).starts_with("HTTP/1.1 200"));
    assert!(delete(&one.listen, "CUST-1").starts_with("HTTP/1.1 200"));
    assert!(score(&one).starts_with("HTTP/1.1 404"));
    assert!(post(&other.listen, "/v1/outcomes", &outcome("CUST-1")).starts_with("HTTP/1.1 410"), "at once");
    wait_for("the erasure", || score(&other).starts_with("HTTP/1.1 404"));
    assert!(post(&other.listen, "/v1/predict/clv", &predict("CUST-1")).contains("\"source\":\"model\""));
    assert!(score(&other).starts_with("HTTP/1.1 404"), "nothing is kept of them there either");

    let back = post(&other.admin, "/admin/models/clv/latest", "");
    assert!(back.starts_with("HTTP/1.1 200"), "{back}");
    wait_for("the newest", || serving(&one) == "v1.2");
    for server in [one, other] {
        server.signal("TERM");
        assert_eq!(server.wait(), 0);
    }
    desk.end();
}

#[test]
fn a_promotion_outlasts_a_restart_and_commands_see_it() {
    let desk = Desk::sqlite();
    TestBundle::clv("v1.1").with_log_mean(3.3).write(desk.models.path());
    let mut server = desk.start();
    wait_for("the models to stand still", || {
        post(&server.admin, "/admin/models/clv/v1.1/promote", "").starts_with("HTTP/1.1 200")
    });
    server.signal("KILL");
    assert!(!server.child.wait().expect("ended").success());
    let server = desk.start();
    assert_eq!(serving(&server), "v1.1", "from the first answer on");
    let list = scoreline(&["models", "list"], desk.models.path()).envs(desk.environment()).output().expect("runs");
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    let line = text.lines().find(|line| line.contains("v1.1")).expect("listed");
    assert!(line.contains("serving") && line.contains("promoted"), "{text}");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// The files that earlier versions kept.
const OLD_FILES: [&str; 3] = ["monitoring/outcomes.journal", "tombstones", "models.toml"];

/// Puts files of the version before where the server's store is made.
fn leave_old_files(models: &Path) -> std::path::PathBuf {
    let state = models.join(".state");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/store/tests/fixtures/files/state");
    fs::create_dir_all(state.join("monitoring")).expect("a folder");
    for name in OLD_FILES {
        fs::copy(fixture.join(name), state.join(name)).expect("copied");
    }
    state
}

#[test]
fn old_files_are_left_alone_while_their_pepper_is_not_known() {
    let models = models();
    let state = leave_old_files(models.path());
    let (code, said) = refused(models.path(), &[]);
    assert_eq!(code, Some(64), "{said}");
    assert!(said.contains("`privacy.pepper_file`") && said.contains("earlier version"), "{said}");
    assert!(OLD_FILES.iter().all(|name| state.join(name).exists()), "nothing is renamed");
    assert!(!state.join("pepper").exists(), "no pepper is drawn");
}

#[test]
fn files_of_the_version_before_are_taken_in_by_a_start() {
    let models = models();
    TestBundle::clv("v1.1").with_log_mean(3.3).write(models.path());
    let state = leave_old_files(models.path());
    let pepper = ("SCORELINE__PRIVACY__PEPPER", "the later pepper of the fixtures".to_owned());
    let server = start(models.path(), &[pepper]);
    assert_eq!(serving(&server), "v1.1");
    for (customer, result) in [("CUST-1", "duplicate"), ("CUST-6", "duplicate"), ("CUST-7", "recorded")] {
        let told = post(&server.listen, "/v1/outcomes", &outcome(customer));
        assert!(told.contains(&format!("\"result\":\"{result}\"")), "{customer}: {told}");
    }
    assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-2")).starts_with("HTTP/1.1 410"));
    let metrics = get(&server.admin, "/metrics");
    assert!(metrics.contains("scoreline_outcome_window{model=\"clv\",version=\"v1.2\"} 4"), "{metrics}");
    assert!(state.join("tombstones.imported").exists());
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

/// One request; `None` once the server is gone.
fn request(address: &str, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    let length = body.len();
    let head = "HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length:";
    stream.write_all(format!("{method} {path} {head} {length}\r\n\r\n{body}").as_bytes()).ok()?;
    let mut reply = String::new();
    stream.read_to_string(&mut reply).ok()?;
    reply.starts_with("HTTP/1.1 200").then_some(reply)
}

/// Kills servers while four clients tell outcomes and erase every second customer; what was answered holds.
fn killed(desk: Desk, rounds: usize) {
    let (mut kept, mut erased): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut random = fastrand::Rng::with_seed(11);
    for round in 0..rounds {
        let mut server = desk.start();
        let checked = kept.len().saturating_sub(50);
        for customer in &kept[checked..] {
            let reply = post(&server.listen, "/v1/outcomes", &outcome(customer));
            assert!(reply.contains("\"result\":\"duplicate\""), "round {round}, {customer}: {reply}");
        }
        for customer in &erased[erased.len().saturating_sub(50)..] {
            let reply = post(&server.listen, "/v1/outcomes", &outcome(customer));
            assert!(reply.starts_with("HTTP/1.1 410"), "round {round}, {customer}: {reply}");
        }
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let address = server.listen.clone();
                std::thread::spawn(move || {
                    let (mut kept, mut erased) = (Vec::new(), Vec::new());
                    for number in 0.. {
                        let customer = format!("C-{round}-{client}-{number}");
                        if request(&address, "POST", "/v1/outcomes", &outcome(&customer)).is_none() {
                            break;
                        }
                        if number % 2 == 0 {
                            kept.push(customer);
                        } else if request(&address, "DELETE", &format!("/v1/customers/{customer}"), "").is_some() {
                            erased.push(customer);
                        } else {
                            break;
                        }
                    }
                    (kept, erased)
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(100 + random.u64(0..400)));
        server.signal("KILL");
        for client in clients {
            let (told, gone) = client.join().expect("no panic");
            kept.extend(told);
            erased.extend(gone);
        }
        assert!(!server.child.wait().expect("ended").success());
    }
    // How many is the machine's affair: a busy one answers few before it is killed.
    assert!(!kept.is_empty() && !erased.is_empty(), "{} kept, {} erased", kept.len(), erased.len());
    let hasher = IdHasher::new(&privacy(PEPPER, &[]));
    let (tombstones, outcomes) = desk.look(async |store| {
        let (tombstones, _) = store.tombstones_since(-1).await.expect("read");
        (tombstones, store.outcome_counts().await.expect("counted").1)
    });
    let missing = erased.iter().filter(|customer| !tombstones.contains(&Tombstone::of(&hasher.key(customer)))).count();
    assert_eq!(missing, 0, "of {} erasures", erased.len());
    // Each client may have had one more on disk whose answer the kill cut off.
    let least = kept.len();
    let (outcomes, remembered) = (usize::try_from(outcomes).expect("few"), 20_000);
    assert!((least.min(remembered)..=least + 4 * rounds).contains(&outcomes), "{outcomes} of {least}");
    eprintln!("{rounds} kills: {least} outcomes and {} erasures were answered, 0 lost", erased.len());
    desk.end();
}

#[test]
fn what_was_answered_outlasts_kills() {
    killed(Desk::sqlite(), 3);
}

#[test]
fn what_was_answered_outlasts_kills_on_postgresql() {
    killed(Desk::postgres("answered"), 3);
}

#[test]
#[ignore = "minutes: cargo test --test it stored::what_was_answered_outlasts_two_hundred_kills -- --ignored --nocapture"]
fn what_was_answered_outlasts_two_hundred_kills() {
    killed(Desk::sqlite(), 200);
    killed(Desk::postgres("answered_long"), 200);
}

/// No byte of whoever was erased is in the files of a store that was killed behind the commit, once it was started again.
#[test]
fn an_erasure_that_a_kill_interrupted_is_finished_by_the_next_start() {
    let desk = Desk::sqlite();
    let key = IdHasher::new(&privacy(PEPPER, &[])).key("CUST-1");
    let mut server = desk.start();
    assert!(post(&server.listen, "/v1/outcomes", &outcome("CUST-1")).starts_with("HTTP/1.1 200"));
    assert!(delete(&server.listen, "CUST-1").starts_with("HTTP/1.1 200"));
    server.signal("KILL");
    server.child.wait().expect("ended");
    let server = desk.start();
    let folder = desk.ground.path().parent().expect("a folder").to_owned();
    let left = || {
        fs::read_dir(&folder).expect("a folder").any(|entry| {
            let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
            memchr::memmem::find(&bytes, key.as_bytes()).is_some()
        })
    };
    wait_for("the end of the erasure", || !left());
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}
