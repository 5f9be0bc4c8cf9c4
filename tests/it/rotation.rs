//! Another pepper: refused, or taken by the documented rotation without losing anybody, however often it is broken off.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use scoreline_store::StorePlace;
use secrecy::ExposeSecret as _;
use serde_json::Value;

use crate::ground::Ground;
use crate::process::{Server, ask, get, models, post, scoreline};
use crate::worker::served::{body, wait_for};

/// A store with customers in it, and the peppers it is asked with.
struct RotationDesk {
    models: tempfile::TempDir,
    ground: Ground,
    runtime: tokio::runtime::Runtime,
}

impl RotationDesk {
    fn over(ground: impl Future<Output = Ground>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let desk = Self { models: models(), ground: runtime.block_on(ground), runtime };
        for name in ["one", "two", "three", "wrong"] {
            let path = desk.pepper(name);
            fs::write(&path, format!("{name}: a pepper that is long enough\n")).expect("written");
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            fs::set_permissions(&path, private).expect("private");
        }
        desk
    }

    fn pepper(&self, name: &str) -> String {
        self.models.path().join(format!(".{name}")).display().to_string()
    }

    /// The settings with this pepper, and those before it.
    fn environment(&self, pepper: &str, previous: &[&str]) -> Vec<(&'static str, String)> {
        let mut environment = vec![("SCORELINE__PRIVACY__PEPPER_FILE", self.pepper(pepper))];
        if !previous.is_empty() {
            let files: Vec<_> = previous.iter().map(|name| self.pepper(name)).collect();
            environment.push(("SCORELINE__PRIVACY__PREVIOUS_PEPPER_FILES", files.join(",")));
            environment.push(("SCORELINE__PRIVACY__PREVIOUS_UNTIL", "2099-01-01T00:00:00Z".to_owned()));
        }
        match &self.ground.settings.place {
            StorePlace::Sqlite(path) => environment.push(("SCORELINE__STORE__PATH", path.display().to_string())),
            StorePlace::Postgres(url) => {
                environment.push(("SCORELINE__STORE__PATH", String::new()));
                environment.push(("SCORELINE__STORE__URL", url.expose_secret().to_owned()));
            }
            StorePlace::Memory => unreachable!("no test asks for it"),
        }
        environment
    }

    fn command(&self, arguments: &[&str], pepper: &str, previous: &[&str]) -> Command {
        let mut command = scoreline(arguments, self.models.path());
        command.envs(self.environment(pepper, previous));
        command
    }

    /// Runs a command that succeeds; what it says.
    fn done(&self, arguments: &[&str], pepper: &str, previous: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(arguments, pepper, previous).output().expect("runs");
        let said = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        assert!(status.success(), "{arguments:?}: {said}");
        said
    }

    /// Runs a command that is refused for its settings; what it says.
    fn refused(&self, arguments: &[&str], pepper: &str, previous: &[&str]) -> String {
        let mut command = self.command(arguments, pepper, previous);
        command.env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0").env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0");
        let Output { status, stderr, .. } = command.output().expect("runs");
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(64), "{arguments:?} with {pepper}: {said}");
        said
    }

    fn start(&self, pepper: &str, previous: &[&str]) -> Server {
        let environment = self.environment(pepper, previous);
        let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Server::start_with(self.models.path(), &environment)
    }

    fn import(&self, customers: usize) -> String {
        let log = self.models.path().join(".purchases.csv");
        let mut text = "customer_id,date,amount,items\n".to_owned();
        for number in 0..customers {
            writeln!(text, "C-{number},2026-{:02}-05,{}.50,1", number % 9 + 1, number % 90 + 10)
                .expect("a string grows");
        }
        fs::write(&log, text).expect("written");
        log.display().to_string()
    }

    fn end(self) {
        self.runtime.block_on(self.ground.remove());
    }
}

fn stop(server: Server) {
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

fn outcome(customer: &str) -> String {
    format!(
        r#"{{"customerId": "{customer}", "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z",
        "prediction": {{"clv_value_usd": 20.0, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z",
        "horizon_days": 30}}}}"#
    )
}

fn told(server: &Server, customer: &str) -> String {
    post(&server.listen, "/v1/outcomes", &outcome(customer))
}

/// What is said of a customer by id, once the features are read.
fn by_id(server: &Server, customer: &str) -> Value {
    let answer = || body(&post(&server.listen, "/v1/predict/clv", &format!(r#"{{"customerId": "{customer}"}}"#)));
    wait_for("the features", || answer()["metadata"]["features_as_of"].is_string());
    answer()["prediction"].clone()
}

/// Everything that is known of customers is found by this server.
fn finds_everybody(server: &Server, before: &[Value]) {
    for (number, before) in before.iter().enumerate() {
        assert_eq!(&by_id(server, &format!("C-{number}")), before, "C-{number}");
    }
    assert!(told(server, "C-1").contains("\"result\":\"duplicate\""));
    assert!(told(server, "C-9").starts_with("HTTP/1.1 410"), "erased for good");
    assert!(get(&server.admin, "/metrics").contains("scoreline_store_open 1"));
}

fn rotates(desk: RotationDesk) {
    let log = desk.import(60);
    desk.done(&["features", "import-purchases", &log], "one", &[]);
    let server = desk.start("one", &[]);
    assert!(told(&server, "C-1").contains("\"result\":\"recorded\""));
    let erased = ask(&server.listen, "DELETE /v1/customers/C-9 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(erased.contains("\"tombstone\":\"kept\"") && erased.contains("\"found\":true"), "{erased}");
    assert!(post(&server.admin, "/admin/jobs/features/run", "").starts_with("HTTP/1.1 202"));
    let before: Vec<_> = (0..5).map(|number| by_id(&server, &format!("C-{number}"))).collect();
    stop(server);

    for arguments in [&["serve"][..], &["rescore"], &["features", "import-purchases", &log]] {
        let said = desk.refused(arguments, "wrong", &[]);
        assert!(said.contains("`privacy.pepper_file`") && said.contains("another pepper"), "{said}");
        // One that was never the store's does not make another one right.
        desk.refused(arguments, "wrong", &["two"]);
    }

    // As it is documented: the new one, and the one before beside it.
    let server = desk.start("two", &["one"]);
    wait_for("the store", || get(&server.admin, "/metrics").contains("scoreline_store_open 1"));
    finds_everybody(&server, &before);
    stop(server);
    // The one before is needed no more, and taken no more.
    let server = desk.start("two", &[]);
    finds_everybody(&server, &before);
    stop(server);
    assert!(desk.refused(&["serve"], "one", &[]).contains("another pepper"));
    let said = desk.done(&["features", "import-purchases", &log], "two", &[]);
    assert!(said.contains("0 new or changed, 59 known already, 1 of erased customers"), "{said}");

    // And once more, back to the first, by a command.
    let said = desk.done(&["rescore"], "one", &["two"]);
    assert!(said.contains("customers get keys of the new pepper"), "{said}");
    let server = desk.start("one", &[]);
    finds_everybody(&server, &before);
    stop(server);
    desk.end();
}

#[test]
fn the_documented_rotation_loses_nobody() {
    rotates(RotationDesk::over(async { Ground::sqlite() }));
}

#[test]
fn the_documented_rotation_loses_nobody_on_postgresql() {
    rotates(RotationDesk::over(Ground::postgres("rotation")));
}

/// A customer's purchases are known already under the pepper that the rotation ends with.
fn resumes(desk: RotationDesk) {
    const CUSTOMERS: usize = 14_000;
    let log = desk.import(CUSTOMERS);
    desk.done(&["features", "import-purchases", &log], "one", &[]);
    let mut kills = 0;
    for _ in 0..20 {
        let mut child = desk
            .command(&["features", "import-purchases", "--quiet", &log], "two", &["one"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut steps = lines.map_while(Result::ok).filter(|line| line.contains("keys of the new pepper"));
        // The first says where it begins, the second that something is done.
        let goes_on = steps.next().is_some() && steps.next().is_some();
        if !goes_on {
            child.wait().expect("ended");
            break;
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        kills += 1;
        let status = desk.done(&["status"], "two", &[]);
        let left = status.lines().find(|line| line.starts_with("pepper"));
        assert!(left.is_none_or(|left| left.contains("have still a key of the one before")), "{status}");
        // Who is not told of the new pepper changes nothing in between.
        desk.refused(&["rescore"], "one", &[]);
    }
    assert!(kills > 0, "it was never broken off");
    let said = desk.done(&["features", "import-purchases", &log], "two", &[]);
    assert!(said.contains(&format!("0 new or changed, {CUSTOMERS} known already")), "after {kills} kills: {said}");
    let customers = desk.done(&["status"], "two", &[]);
    assert!(customers.contains(&format!("customers     {CUSTOMERS}")), "{customers}");
    desk.end();
}

#[test]
fn a_rotation_that_is_killed_goes_on() {
    resumes(RotationDesk::over(async { Ground::sqlite() }));
}

#[test]
fn a_rotation_that_is_killed_goes_on_on_postgresql() {
    resumes(RotationDesk::over(Ground::postgres("rotation_killed")));
}

/// A replica that was not told of the new pepper keeps nothing under the old one, and says why.
#[test]
fn a_replica_with_the_old_pepper_writes_nothing_after_a_rotation() {
    let desk = RotationDesk::over(Ground::postgres("rotation_replica"));
    let old = desk.start("one", &[]);
    assert!(told(&old, "C-1").contains("\"result\":\"recorded\""));
    let new = desk.start("two", &["one"]);
    wait_for("the store", || get(&new.admin, "/metrics").contains("scoreline_store_open 1"));
    assert!(told(&new, "C-1").contains("\"result\":\"duplicate\""));
    wait_for("the word of it", || get(&old.admin, "/metrics").contains("scoreline_store_open 0"));
    assert!(told(&old, "C-3").starts_with("HTTP/1.1 503"));
    let shown = body(&get(&old.admin, "/admin/outcomes"));
    assert_eq!(shown["kept"], false);
    assert!(shown["reason"].as_str().is_some_and(|reason| reason.contains("`privacy.pepper_file`")), "{shown}");
    assert_eq!(body(&get(&old.listen, "/health/ready"))["status"], "degraded");
    assert!(told(&new, "C-3").contains("\"result\":\"recorded\""));
    for server in [old, new] {
        stop(server);
    }
    desk.end();
}

/// Two servers of one settings file: the second ends and says who has the store.
#[test]
fn a_second_server_on_one_file_does_not_start() {
    let models = models();
    let first = Server::start_with(models.path(), &[]);
    let second = |path: &Path| {
        scoreline(&["serve"], models.path())
            .env("SCORELINE__STORE__PATH", path)
            .env("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")
            .env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0")
            .output()
            .expect("runs")
    };
    let path = models.path().join(".state/scoreline.db");
    let Output { status, stderr, .. } = second(&path);
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(!status.success(), "{said}");
    let holder = format!("in use by process {}", first.child.id());
    assert!(said.contains(&holder) && said.contains("`store.path`"), "{said}");
    assert!(post(&first.listen, "/v1/outcomes", &outcome("C-1")).contains("\"result\":\"recorded\""));
    stop(first);
}
