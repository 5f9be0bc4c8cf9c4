//! `scoreline reveal`: who the customers of a score file are, for whoever has the pepper and for nobody else.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use scoreline::sinks::{FileFormat, FileSettings, FileSink};
use scoreline_domain::CustomerKey;
use scoreline_domain::text::hex;
use scoreline_simulator::Party;
use serde_json::Value;

use super::end_to_end::centre;
use super::line::Line;
use crate::ground::Ground;
use crate::process::scoreline;

/// What the desk's platform and its store are hashed with.
const PEPPER: &str = "pepper of the client tests";

struct RevealDesk {
    folder: tempfile::TempDir,
    ground: Ground,
    /// What the platform calls each customer.
    contacts: HashMap<String, String>,
    erased: (String, String),
    /// The key of a customer of whom there are purchases alone, called `C-1`.
    buyer: String,
}

impl RevealDesk {
    /// A store with scored customers, one of them erased, and the file their scores were written to.
    async fn new() -> Self {
        let (ground, desk) = (Ground::sqlite(), centre(12));
        let folder = tempfile::tempdir().expect("a folder");
        let store = ground.open().await;
        let path = folder.path().join("scores.ndjson");
        let sink = FileSink::open(FileSettings { path: path.clone(), format: FileFormat::Ndjson }).expect("opens");
        Line::writing_to(&desk, &store, "one", &desk.client(), Arc::new(sink)).run().await;
        let hasher = desk.hasher();
        let key = |id: &str| hex(hasher.key(id).as_bytes());
        let truth = desk.truth();
        let parties = truth.values().filter_map(|expected| match &expected.party {
            Party::Contact { id, .. } => Some(id),
            Party::Address(_) => None,
        });
        let contacts: HashMap<_, _> = parties.map(|id| (key(id), id.clone())).collect();
        let text = fs::read_to_string(&path).expect("readable");
        let first: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        let first = first["customer_key"].as_str().expect("a key").to_owned();
        let erased = (first.clone(), contacts[&first].clone());
        store.erase_customers(&[hasher.key(&erased.1)]).await.expect("erased");
        store.close().await;

        let buyer = key("C-1");
        let unknown = hex(CustomerKey::from_digest([7; 32]).as_bytes());
        let more =
            format!("{{\"customer_key\":\"{buyer}\"}}\n{{ \"customer_key\": \"{unknown}\", \"a\": 1.50}}\nno object\n");
        fs::write(&path, text + &more).expect("written");
        let this = Self { folder, ground, contacts, erased, buyer };
        this.put("purchases.csv", "customer_id,date,amount,items\nC-1,2026-01-05,120.50,1\n");
        this.put("pepper", PEPPER);
        this.put("wrong", "another pepper that is long enough");
        let purchases = this.path("purchases.csv");
        let imported = this.run(&["features", "import-purchases", &purchases.display().to_string()], &[]);
        assert!(imported.status.success(), "{}", said(&imported));
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("private");
    }

    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = scoreline(arguments, self.folder.path());
        command.current_dir(self.folder.path()).env("SCORELINE__STORE__PATH", self.ground.path());
        command.env("SCORELINE__PRIVACY__PEPPER_FILE", self.path("pepper"));
        command.env("SCORELINE__LOG__AUDIT_PATH", self.path("audit.ndjson"));
        for (name, value) in environment {
            if value.is_empty() {
                command.env_remove(name)
            } else {
                command.env(name, value)
            };
        }
        command.output().expect("runs")
    }

    /// Runs `reveal` with success; the lines by key, and what was said.
    fn reveal(&self, arguments: &[&str]) -> (HashMap<String, Value>, String) {
        let arguments = [&["reveal", "--input", "scores.ndjson", "--output", "named.ndjson"], arguments].concat();
        let ended = self.run(&arguments, &[]);
        assert!(ended.status.success(), "{}", said(&ended));
        let text = fs::read_to_string(self.path("named.ndjson")).expect("readable");
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let named = lines.map(|line| (line["customer_key"].as_str().expect("a key").to_owned(), line)).collect();
        (named, said(&ended))
    }

    fn audited(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path("audit.ndjson")).expect("readable");
        assert!(self.contacts.values().all(|contact| !text.contains(contact)), "{text}");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn said(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_the_pepper_can_name_customers_and_that_is_audited() {
    let desk = Box::pin(RevealDesk::new()).await;
    let (named, said) = desk.reveal(&[]);
    assert!(named.len() > 10, "{named:?}");
    for (key, line) in &named {
        let expected = desk.contacts.get(key).filter(|_| *key != desk.erased.0);
        assert_eq!(line["customer_id"].as_str(), expected.map(String::as_str), "{line}");
    }
    let (all, known) = (named.len() + 1, named.len() - 3);
    let counts = format!(
        "named the customers of {known} of {all} lines; 1 of erased customers, 1 of customers without a sealed identifier, \
         2 of customers that are not known"
    );
    assert!(said.contains(&counts), "{said}");
    assert_eq!(mode(&desk.path("named.ndjson")), 0o600);
    let text = fs::read_to_string(desk.path("named.ndjson")).expect("readable");
    assert!(text.ends_with("\", \"a\": 1.50}\nno object\n"), "the rest is as it was: {text}");
    let audited = desk.audited();
    let [line] = &audited[..] else { panic!("one line, {audited:?}") };
    assert_eq!((&line["action"], &line["outcome"]), (&"customer.reveal".into(), &"done".into()), "{line}");
    assert!(line["who"].as_str().expect("a text").starts_with("uid "), "{line}");

    // Whoever knows an identifier can look for it; an erased customer stays erased.
    desk.put("ids.txt", &format!("\u{feff}C-1\r\n\n{}\nC-2\n", desk.erased.1));
    let (named, said) = desk.reveal(&["--ids", "ids.txt"]);
    assert_eq!(named[&desk.buyer]["customer_id"], "C-1", "{said}");
    assert_eq!(named[&desk.erased.0]["customer_id"], Value::Null, "{said}");

    // CSV, to standard output.
    let known = desk.contacts.keys().find(|key| **key != desk.erased.0).expect("one");
    desk.put("scores.csv", &format!("a,customer_key\n1,{known}\n\"x,y\",{}\n3\n", desk.erased.0));
    let ended = desk.run(&["reveal", "--input", "scores.csv"], &[]);
    let named = String::from_utf8(ended.stdout.clone()).expect("text");
    let expected =
        format!("customer_id,a,customer_key\n{},1,{known}\n,\"x,y\",{}\n,3\n", desk.contacts[known], desk.erased.0);
    assert_eq!(named, expected, "{}", self::said(&ended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_pepper_nothing_is_opened() {
    let desk = Box::pin(RevealDesk::new()).await;
    let wrong = desk.path("wrong").display().to_string();
    let arguments = ["reveal", "--input", "scores.ndjson", "--output", "named.ndjson"];
    let refused = |environment: &[(&str, &str)], what: &str| {
        let ended = desk.run(&arguments, environment);
        let said = said(&ended);
        assert_eq!(ended.status.code(), Some(64), "{said}");
        assert!(said.contains(what) && ended.stdout.is_empty(), "{said}");
        assert!(!desk.path("named.ndjson").exists(), "nothing is left behind");
    };
    refused(&[("SCORELINE__PRIVACY__PEPPER_FILE", &wrong)], "another pepper");
    let audited = desk.audited();
    assert_eq!(audited.last().expect("a line")["outcome"], "refused", "{audited:?}");
    refused(&[("SCORELINE__PRIVACY__PEPPER_FILE", "")], "`privacy.pepper_file`");
    refused(&[("SCORELINE__PRIVACY__IDENTIFIERS", "hashed")], "there is nothing to open");
    desk.put("scores.ndjson", "{\"a\":1}\n");
    refused(&[], "has no `customer_key`");
}
