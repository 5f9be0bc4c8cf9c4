//! `scoreline genesys export` and `doctor` as a person types them, the doctor against a simulated platform of its own process.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::process::scoreline;

/// A command in a folder of its own, without any settings.
fn genesys(arguments: &[&str], folder: &Path) -> Command {
    let mut command = scoreline(&["genesys"], folder);
    command.args(arguments).current_dir(folder);
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    genesys(arguments, folder.path()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn exported(arguments: &[&str]) -> String {
    let output = run(&[&["export", "campaign"], arguments].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

const SKILLS: [&str; 2] =
    ["--skills", "senior=6a1f0d2e-0000-4000-8000-000000000051,high_value=6a1f0d2e-0000-4000-8000-000000000052"];

#[test]
fn a_campaign_is_exported_as_bodies_of_the_api() {
    let json = exported(&[]);
    insta::assert_snapshot!("export_campaign_json", json);
    insta::assert_snapshot!(
        "export_campaign_json_of_everything",
        exported(&[&SKILLS[..], &["--skip-stale", "--list-name", "Café \"A\""]].concat())
    );
}

#[test]
fn a_campaign_is_exported_for_terraform() {
    let terraform = ["--format", "terraform"];
    insta::assert_snapshot!("export_campaign_terraform", exported(&terraform));
    insta::assert_snapshot!(
        "export_campaign_terraform_of_everything",
        exported(&[&terraform[..], &SKILLS[..], &["--skip-stale", "--list-name", "Café \"A\" ${b}"]].concat())
    );
    let both = exported(&["--format", "all"]);
    for part in ["# contact-list.json: POST /api/v2/outbound/contactlists\n{", "# campaign.json: ", "\nterraform {"] {
        assert!(both.contains(part), "{part}\n{both}");
    }
}

/// Every body is what the platform's schema says, and has no field that the platform has not.
#[test]
fn exported_bodies_fit_the_platforms_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/simulator/tests/fixtures/openapi-subset.json");
    let schemas: Value = serde_json::from_slice(&std::fs::read(path).expect("the fixture")).expect("JSON");
    let bodies: Vec<Value> = serde_json::from_str(&exported(&["--skip-stale"])).expect("JSON");
    let requests: Vec<_> = bodies.iter().map(|body| body["request"].as_str().expect("a request")).collect();
    let paths = ["contactlists", "rulesets", "contactlistfilters", "campaigns"];
    assert_eq!(requests, paths.map(|path| format!("POST /api/v2/outbound/{path}")));
    fits(&schemas, "ContactList", &bodies[0]["body"]);
    fits(&schemas, "RuleSet", &bodies[1]["body"]);
    // Of a filter, the subset has its clauses.
    fits(&schemas, "ContactListFilterClause", &bodies[2]["body"]["clauses"][0]);
    fits(&schemas, "Campaign", &bodies[3]["body"]);
}

fn fits(schemas: &Value, name: &str, value: &Value) {
    let reference = format!("#/components/schemas/{name}");
    let root = serde_json::json!({ "$ref": reference, "components": schemas["components"] });
    let validator = jsonschema::validator_for(&root).expect("a schema");
    let errors: Vec<String> = validator.iter_errors(value).map(|err| err.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
    let mut unknown = Vec::new();
    unknown_fields(schemas, &serde_json::json!({ "$ref": reference }), value, &mut unknown);
    assert!(unknown.is_empty(), "{name} has no {unknown:?}");
}

fn unknown_fields(schemas: &Value, schema: &Value, value: &Value, unknown: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = schemas.pointer(reference.trim_start_matches('#')).expect("a schema");
        return unknown_fields(schemas, target, value, unknown);
    }
    for value in value.as_array().into_iter().flatten() {
        unknown_fields(schemas, &schema["items"], value, unknown);
    }
    let (Some(fields), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else { return };
    let omitted = schema["x-omitted-from-subset"].as_array();
    for (name, value) in fields {
        match properties.get(name) {
            Some(schema) => unknown_fields(schemas, schema, value, unknown),
            None if omitted.is_some_and(|omitted| omitted.iter().any(|one| one == name)) => {}
            None => unknown.push(name.clone()),
        }
    }
}

#[test]
fn files_are_named_and_never_replaced_unasked() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |more: &[&str]| {
        let arguments = [&["export", "campaign", "--format", "all", "--out", "leads"], more].concat();
        let output = genesys(&arguments, folder.path()).output().expect("the binary runs");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, told, _) = write(&[]);
    assert_eq!(code, Some(0));
    let wrote = "wrote leads/contact-list.json: POST /api/v2/outbound/contactlists\n\
                 wrote leads/rule-set.json: POST /api/v2/outbound/rulesets\n\
                 wrote leads/campaign.json: POST /api/v2/outbound/campaigns\n\
                 wrote leads/campaign.tf\n";
    assert_eq!(told, wrote);
    let list = folder.path().join("leads/contact-list.json");
    let body: Value = serde_json::from_slice(&std::fs::read(&list).expect("written")).expect("a body alone");
    assert_eq!(body["columnNames"][2], "ml_score");
    std::fs::remove_file(folder.path().join("leads/campaign.tf")).expect("removed");
    std::fs::write(&list, "mine").expect("written");
    let (code, told, err) = write(&["--skip-stale"]);
    assert_eq!((code, &*told), (Some(64), ""));
    assert!(err.contains("`contact-list.json`, `rule-set.json`, `campaign.json` are already there"), "{err}");
    assert_eq!(std::fs::read_to_string(&list).expect("there"), "mine");
    assert!(!folder.path().join("leads/campaign.tf").exists(), "all or nothing");
    let (code, told, _) = write(&["--force"]);
    assert_eq!(code, Some(0));
    assert!(
        told.starts_with("replaced leads/contact-list.json: ") && told.ends_with("wrote leads/campaign.tf\n"),
        "{told}"
    );
}

#[test]
fn wrong_values_are_told_what_is_allowed() {
    for (arguments, said) in [
        (["--format", "xml"], "[possible values: json, terraform, all]"),
        (["--skills", "junior=6a1f"], "must be `senior=ID`, `high_value=ID` or both, separated by a comma"),
        (["--skills", "senior"], "must be `senior=ID`"),
        (["--skills", "senior="], "an ID is letters, digits and `-`"),
        (["--skills", "senior=a,senior=b"], "must be `senior=ID`"),
        (["--skills", "senior=a\"b"], "letters, digits and `-`"),
        (["--list-name", " "], "must be 1 to 200 characters"),
        (["--force", "--skip-stale"], "--out <DIR>"),
    ] {
        let output = run(&[&["export", "campaign"], &arguments[..]].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        assert!(told.contains(said) && output.stdout.is_empty(), "{arguments:?}: {told}");
    }
    let columns = [("SCORELINE__GENESYS__OUTBOUND__SCORE_COLUMN", "leadId")];
    let folder = tempfile::tempdir().expect("a folder");
    let output = genesys(&["export", "campaign"], folder.path()).envs(columns).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("names the column `leadId` twice"), "{}", text(&output.stderr));
}

#[test]
fn help_says_what_it_is_for() {
    for (arguments, said) in [
        (
            &["export", "campaign", "--help"][..],
            &["above 70 and below 80", "nobody with a score", "cannot be changed later"][..],
        ),
        (&["doctor", "--help"], &["0 nothing is wrong, 1 something will not work, 64", "changes nothing"]),
        (&["--help"], &["export", "doctor", "simulate"]),
    ] {
        let output = run(arguments);
        // The text is wrapped where the terminal ends.
        let help = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in said {
            assert!(output.status.success() && help.contains(part), "{part}: {help}");
        }
    }
}

/// `scoreline genesys simulate`, ended when it is dropped.
struct Simulated {
    child: Child,
    /// The settings that it prints.
    environment: Vec<(String, String)>,
    list: String,
    campaign: String,
}

impl Simulated {
    fn start(folder: &Path) -> Self {
        let arguments = ["simulate", "--customers", "10", "--days", "5", "--listen", "127.0.0.1:0"];
        let child = genesys(&arguments, folder).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = child.expect("the binary starts");
        let mut environment = Vec::new();
        let (mut list, mut campaign) = (String::new(), String::new());
        for line in BufReader::new(child.stdout.take().expect("piped")).lines() {
            let line = line.expect("text");
            let settings = line.trim().strip_prefix("export ").map(|rest| rest.split(' '));
            environment.extend(
                settings
                    .into_iter()
                    .flatten()
                    .filter_map(|one| one.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))),
            );
            if let Some((one, other)) =
                line.strip_prefix("Contact list ").and_then(|line| line.split_once(", campaign "))
            {
                (list, campaign) = (one.to_owned(), other.to_owned());
            }
            if line == "Ctrl-C ends it" {
                break;
            }
        }
        let secret = folder.join("simulated-secret");
        std::fs::write(&secret, "simulated-secret").expect("written");
        std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        Self { child, environment, list, campaign }
    }

    fn doctor(&self, folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut command = genesys(&["doctor"], folder);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env("SCORELINE__GENESYS__OUTBOUND__CONTACT_LISTS", &self.list);
        command.envs(environment.iter().copied()).output().expect("the binary runs")
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_doctor_says_what_it_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let simulated = Simulated::start(folder.path());
    let campaign = ["--campaign", &simulated.campaign];
    let fine = simulated.doctor(folder.path(), &[&campaign[..], &["--probe"]].concat(), &[]);
    assert_eq!(fine.status.code(), Some(0), "{}{}", text(&fine.stdout), text(&fine.stderr));
    insta::assert_snapshot!("doctor_finds_nothing_wrong", text(&fine.stdout));

    let column = [
        ("SCORELINE__GENESYS__OUTBOUND__TIME_COLUMN", "scored_at"),
        ("SCORELINE__GENESYS__REQUESTS_PER_MINUTE", "400"),
    ];
    let wrong = simulated.doctor(folder.path(), &campaign, &column);
    assert_eq!(wrong.status.code(), Some(1));
    insta::assert_snapshot!("doctor_finds_something_wrong", text(&wrong.stdout));
    assert_eq!(text(&wrong.stderr), "error: 2 things will not work\n");

    let json = simulated.doctor(folder.path(), &[&campaign[..], &["--json"]].concat(), &column);
    assert_eq!(json.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&found["verdict"], &found["findings"][2]["verdict"]), (&"wrong".into(), &"wrong".into()));
    assert_eq!(found["findings"][2]["fix"], "set `genesys.requests_per_minute = 300`");

    let documented = simulated.doctor(folder.path(), &[], &[("SCORELINE__GENESYS__API", "documented")]);
    assert_eq!(documented.status.code(), Some(64));
    assert!(text(&documented.stderr).contains("`genesys.api` must be `platform`"));
    let none = genesys(&["doctor"], folder.path()).output().expect("the binary runs");
    assert_eq!(none.status.code(), Some(64));
    assert!(text(&none.stderr).contains("set `genesys.region`"), "{}", text(&none.stderr));
}
