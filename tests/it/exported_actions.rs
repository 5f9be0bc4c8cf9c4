//! `scoreline genesys export data-action` and `routing-rules`: the files, and what the platform's engine, Terraform and the
//! real server make of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::auth::client;
use crate::process::{Server, ask, get, scoreline};
use crate::support::identity::CredentialsFile;

const URL: &str = "https://score.example.com";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// `scoreline genesys export` in a folder of its own, with the shipped models and no other settings.
fn export(arguments: &[&str], folder: &Path) -> Command {
    let mut command = scoreline(&["genesys", "export"], &repository("models"));
    command.args(arguments).current_dir(folder).env("SCORELINE__STORE__PATH", folder.join("scoreline.db"));
    command
}

fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    export(arguments, folder.path()).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The files of data actions by name.
fn files(arguments: &[&str]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = [&["data-action", "--url", URL, "--format", "all", "--out", "out"], arguments].concat();
    let output = export(&arguments, folder.path()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let entries = std::fs::read_dir(folder.path().join("out")).expect("the files");
    let read = |entry: std::fs::DirEntry| {
        let text = std::fs::read_to_string(entry.path()).expect("text");
        (entry.file_name().into_string().expect("a name"), text)
    };
    entries.map(|entry| read(entry.expect("a file"))).collect()
}

fn parsed(files: &BTreeMap<String, String>, name: &str) -> Value {
    serde_json::from_str(&files[name]).unwrap_or_else(|err| panic!("{name}: {err}"))
}

fn is_action(name: &str) -> bool {
    name.ends_with(".custom.json")
}

#[test]
fn data_actions_are_exported_to_import_and_for_terraform() {
    for auth in ["oauth", "key", "mtls"] {
        let files = files(&["--auth", auth]);
        let all: Vec<String> = files.iter().map(|(name, text)| format!("== {name}\n{text}")).collect();
        let all = all.concat();
        if auth == "oauth" {
            insta::assert_snapshot!("export_data_action", all);
        } else {
            let lines = all.lines().filter(|line| line.starts_with("==") || line.contains("uthorization"));
            insta::assert_snapshot!(format!("export_data_action_auth_{auth}"), lines.collect::<Vec<_>>().join("\n"));
        }
        is_laid_out(&files["data-actions.tf"]);
    }
    let explicit = files(&["--explicit"]);
    is_laid_out(&explicit["data-actions.tf"]);
    let template = |name: &str| {
        let template = parsed(&explicit, name)["config"]["request"]["requestTemplate"].clone();
        format!("== {name}\n{}\n", template.as_str().expect("a template").replace(",\"", ",\n\""))
    };
    let templates: String = explicit.keys().filter(|name| is_action(name)).map(|name| template(name)).collect();
    insta::assert_snapshot!("export_data_action_explicit", templates);
}

/// `terraform fmt` has nothing to change; without Terraform nobody looks.
fn is_laid_out(terraform: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("main.tf"), terraform).expect("written");
    let mut command = Command::new("terraform");
    match command.args(["fmt", "-check", "-diff", "-no-color"]).current_dir(folder.path()).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
        }
        Err(_) => eprintln!("skipped: `terraform fmt` of exported files needs terraform"),
    }
}

/// What `terraform validate` says to a folder's files, by a provider that knows the schema alone; `None` where it cannot run.
fn judged(terraform: &str) -> Option<Output> {
    let python = repository("target/test-venv/bin/python");
    let is_there = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !is_there(Command::new("terraform").arg("version"))
        || !is_there(Command::new(&python).args(["-c", "import grpc"]))
    {
        eprintln!("skipped: `terraform validate` of exported files needs terraform, and grpcio in target/test-venv");
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir_all(path("exported")).expect("a folder");
    std::fs::write(path("exported/main.tf"), terraform).expect("written");
    let provider = repository("tests/terraform/provider.py");
    let program = format!("#!/bin/sh\nexec '{}' '{}'\n", python.display(), provider.display());
    std::fs::write(path("terraform-provider-genesyscloud"), program).expect("written");
    std::fs::set_permissions(path("terraform-provider-genesyscloud"), PermissionsExt::from_mode(0o755)).expect("ours");
    let overridden = format!(
        "provider_installation {{ dev_overrides {{ \"mypurecloud/genesyscloud\" = \"{}\" }} }}",
        folder.path().display()
    );
    std::fs::write(path("terraform.rc"), overridden.replace("{ ", "{\n").replace(" }", "\n}")).expect("written");
    let mut command = Command::new("terraform");
    command.args(["validate", "-no-color"]).current_dir(path("exported"));
    command.env("TF_CLI_CONFIG_FILE", path("terraform.rc")).env("CHECKPOINT_DISABLE", "1");
    Some(command.output().expect("terraform runs"))
}

#[test]
fn exported_files_are_valid_terraform() {
    let campaign = |more: &[&str]| text(&run(&[&["campaign", "--format", "terraform"], more].concat()).stdout);
    let actions =
        |more: &[&str]| text(&run(&[&["data-action", "--url", URL, "--format", "terraform"], more].concat()).stdout);
    let good = [
        campaign(&[]),
        campaign(&["--skip-stale", "--list-name", "Café \"A\" ${b}"]),
        actions(&["--auth", "oauth"]),
        actions(&["--auth", "key", "--explicit"]),
        actions(&["--auth", "mtls"]),
    ];
    for terraform in &good {
        let Some(output) = judged(terraform) else { return };
        assert!(output.status.success(), "{}{}\n{terraform}", text(&output.stdout), text(&output.stderr));
    }
    for (of, said, wrong, complaint) in [
        (0, "contact_sorts {", "contact_sort {", "Blocks of type \"contact_sort\" are not expected here"),
        (2, "config_timeout_seconds", "config_timeout_secs", "\"config_timeout_secs\" is not expected here"),
        (2, "request_type         = \"POST\"", "", "\"request_type\" is required"),
    ] {
        assert!(good[of].contains(said), "{said}");
        let output = judged(&good[of].replace(said, wrong)).expect("it ran before");
        assert!(!output.status.success() && text(&output.stderr).contains(complaint), "{}", text(&output.stderr));
    }
}

#[test]
fn exported_actions_fit_the_schema_of_imports() {
    let schema =
        std::fs::read(repository("tests/fixtures/genesys/data-action-export.schema.json")).expect("the schema");
    let schema: Value = serde_json::from_slice(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for more in [&[][..], &["--explicit", "--auth", "key"], &["--auth", "mtls"]] {
        let files = files(more);
        let actions: Vec<_> = files.keys().filter(|name| is_action(name)).collect();
        assert_eq!(actions, ["scoreline-clv.custom.json", "scoreline-lead.custom.json", "scoreline-route.custom.json"]);
        for name in actions {
            let action = parsed(&files, name);
            let errors: Vec<String> = validator.iter_errors(&action).map(|err| err.to_string()).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
            let mut wrong = action.clone();
            wrong["config"]["timeoutSeconds"] = json!(61);
            assert!(!validator.is_valid(&wrong), "the schema looks at {name}");
        }
    }
}

#[test]
fn without_a_folder_everything_is_printed() {
    let output = run(&["data-action", "--url", "https://gw.example.com:8443/scoreline/"]);
    let printed: Vec<Value> = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<_> = printed.iter().map(|file| file["file"].as_str().expect("a name")).collect();
    let all =
        ["clv.custom.json", "route.custom.json", "lead.custom.json", "auth.json"].map(|end| format!("scoreline-{end}"));
    assert_eq!(names, all);
    let request = &printed[1]["body"]["config"]["request"];
    assert_eq!(request["requestUrlTemplate"], "https://gw.example.com:8443/scoreline/v1/genesys/route");
    let terraform = run(&["data-action", "--url", URL, "--auth", "mtls", "--format", "terraform"]);
    assert!(text(&terraform.stdout).starts_with("# Data actions that ask for scores.\n\nterraform {"));
}

#[test]
fn wrong_values_of_an_action_are_told_what_is_allowed() {
    for (arguments, said) in [
        (&["--url", "http://score.example.com"][..], "must be https:// with the name of a host"),
        (&["--url", "https://score.example.com/$x"], "such as https://score.example.com"),
        (&["--url", URL, "--auth", "basic"], "[possible values: oauth, key, mtls]"),
        (&["--url", URL, "--format", "xml"], "[possible values: json, terraform, all]"),
        (&["--auth", "key"], "--url <URL>"),
        (&["--url", URL, "--force"], "--out <DIR>"),
    ] {
        let output = run(&[&["data-action"], arguments].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {told}");
        let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains(said) && output.stdout.is_empty(), "{arguments:?}: {told}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = export(&["data-action", "--url", URL], folder.path());
    let output = command.env("SCORELINE__MODELS__DIR", "nowhere").output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("`models.dir` = `nowhere` is not a folder"), "{}", text(&output.stderr));
}

#[test]
fn files_of_actions_and_rules_are_never_replaced_unasked() {
    for (what, first) in [
        (&["data-action", "--url", URL][..], "scoreline-clv.custom.json"),
        (&["routing-rules"], "routing-rule-high-value.xml"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |more: &[&str]| {
            let arguments = [what, &["--out", "out"], more].concat();
            let output = export(&arguments, folder.path()).output().expect("the binary runs");
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        };
        let file = folder.path().join("out").join(first);
        let (code, told, _) = write(&[]);
        assert_eq!(code, Some(0));
        assert!(told.starts_with(&format!("wrote out/{first}")), "{told}");
        std::fs::write(&file, "mine").expect("written");
        let (code, told, err) = write(&[]);
        assert_eq!((code, &*told), (Some(64), ""));
        assert!(err.contains(&format!("`{first}`")) && err.contains("`--force`"), "{err}");
        assert_eq!(std::fs::read_to_string(&file).expect("there"), "mine");
        let (code, told, _) = write(&["--force"]);
        assert_eq!(code, Some(0));
        assert!(told.starts_with(&format!("replaced out/{first}")), "{told}");
    }
}

#[test]
fn routing_rules_are_those_of_the_guides_with_the_tiers_of_the_settings() {
    let output = run(&["routing-rules"]);
    insta::assert_snapshot!("export_routing_rules", text(&output.stdout));
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = export(&["routing-rules"], folder.path());
    command.env("SCORELINE__ROUTING__HIGH_VALUE__SKILL_ID", "gold & <silver>");
    let output = command.env("SCORELINE__ROUTING__HIGH_VALUE__PRIORITY", "30").output().expect("the binary runs");
    let rules = text(&output.stdout);
    let own = "<skill_id>gold &amp; &lt;silver&gt;</skill_id>\n    <priority>30</priority>";
    assert!(rules.contains(own) && rules.contains("SKILL_GENERAL_SUPPORT"), "{rules}");
}

#[test]
fn the_help_of_exports_teaches() {
    for (command, said) in [
        ("data-action", &["Call.ExternalContactId", "use_default_routing", "cannot be changed", "loginUrl"][..]),
        ("routing-rules", &["customer_profile_enrichment", "imports no such rules"]),
    ] {
        let output = run(&[command, "--help"]);
        let help = text(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" ");
        for part in said {
            assert!(output.status.success() && help.contains(part), "{part}: {help}");
        }
    }
}

/// A server of the shipped models.
fn server(folder: &Path, more: &[(&str, &str)]) -> Server {
    let store = folder.join("scoreline.db").display().to_string();
    let environment = [&[("SCORELINE__STORE__PATH", store.as_str())], more].concat();
    Server::run(scoreline(&["serve"], &repository("models")), &environment)
}

/// Status and body of one request.
fn post(server: &Server, path: &str, headers: &[(&str, &str)], body: &str) -> (String, String) {
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let headers = headers.concat();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    );
    let reply = ask(&server.listen, &request);
    let (head, body) = reply.split_once("\r\n\r\n").expect("a reply");
    (head.split(' ').nth(1).expect("a status").to_owned(), body.to_owned())
}

/// The actions with their paths and their contracts.
fn actions(files: &BTreeMap<String, String>) -> Vec<(String, Value)> {
    let names = files.keys().filter(|name| is_action(name));
    names
        .map(|name| {
            let action = parsed(files, name);
            let url = action["config"]["request"]["requestUrlTemplate"].as_str().expect("a URL").to_owned();
            (url.strip_prefix(URL).expect("the URL that was given").to_owned(), action)
        })
        .collect()
}

type Inputs = Map<String, Value>;

fn properties(action: &Value) -> &Inputs {
    action["contract"]["input"]["inputSchema"]["properties"].as_object().expect("inputs")
}

/// A value for every input.
fn every_input(action: &Value, number: &Value, text: &str) -> Inputs {
    let value = |property: &Value| if property["type"] == "string" { text.into() } else { number.clone() };
    properties(action).iter().map(|(name, property)| (name.clone(), value(property))).collect()
}

#[test]
fn every_input_is_taken_and_every_answer_fits_the_contract() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = server(folder.path(), &[]);
    for (path, action) in actions(&files(&[])) {
        let all = every_input(&action, &json!(1), "C-1001");
        let mut one_more = all.clone();
        one_more.insert("loyalty_level".to_owned(), json!(7));
        let mut wrong = all.clone();
        let is_of_leads = path.ends_with("lead");
        let (feature, id) = if is_of_leads { ("nr_employed", "lead_id") } else { ("frequency_count", "customer_id") };
        wrong.insert(feature.to_owned(), json!("many"));
        // Whoever has a score is routed by it, whatever else is sent.
        wrong.remove(id);
        let mut phone = all.clone();
        phone.insert("customer_id".to_owned(), json!("+4915112345678"));
        let outputs = &action["contract"]["output"]["successSchema"]["properties"];
        for (inputs, status, field) in [
            (all, Some("success"), None),
            (one_more, Some("success"), None),
            (wrong, Some("error"), Some(feature)),
            (Map::from_iter([(id.to_owned(), json!("C-9"))]), None, None),
            (Map::new(), None, None),
        ] {
            let (code, answer) = post(&server, &path, &[], &Value::Object(inputs.clone()).to_string());
            let answer: Inputs = serde_json::from_str(&answer).expect("JSON");
            assert_eq!(code, "200", "{path}: {answer:?}");
            assert!(status.is_none_or(|status| answer["status"] == status), "{path}: {answer:?}");
            assert!(field.is_none_or(|field| answer["field"] == field), "{path}: {answer:?}");
            let is_unknown =
                answer.get("warnings").and_then(Value::as_str).is_some_and(|text| text.contains("unknown: "));
            assert_eq!(is_unknown, inputs.contains_key("loyalty_level"), "{path}: {answer:?}");
            for (name, value) in &answer {
                let fits = match outputs[name]["type"].as_str() {
                    Some("string") => value.is_string(),
                    Some("number") => value.is_number(),
                    Some("boolean") => value.is_boolean(),
                    _ => false,
                };
                assert!(fits, "{path}: `{name}` = {value} is not in the contract");
            }
        }
        if !is_of_leads {
            let (code, answer) = post(&server, &path, &[], &Value::Object(phone).to_string());
            assert!(
                code == "200" && answer.contains("give the external contact id (Call.ExternalContactId)"),
                "{answer}"
            );
        }
    }
    let metrics = get(&server.admin, "/metrics");
    assert!(metrics.contains("scoreline_prediction_warnings_total{kind=\"unknown_input\"} 3"), "{metrics}");
}

/// The platform's engine, where it is: Apache Velocity 1.7, and a Java that runs sources.
fn velocity() -> Option<Command> {
    let jars = ["velocity", "commons-collections3", "commons-lang"].map(|name| format!("/usr/share/java/{name}.jar"));
    let modules = Command::new("java").arg("--list-modules").output();
    let runs_sources = modules.is_ok_and(|output| text(&output.stdout).contains("jdk.compiler"));
    if !runs_sources || !jars.iter().all(|jar| Path::new(jar).exists()) {
        eprintln!("skipped: templates of data actions need Velocity (Debian packages velocity, default-jdk-headless)");
        return None;
    }
    let mut command = Command::new("java");
    command.args(["-cp", &jars.join(":")]).arg(repository("tests/fixtures/genesys/Render.java"));
    Some(command)
}

/// What `Render.java` is told.
#[derive(Default)]
struct Script(String);

impl Script {
    fn render(&mut self, template: &str, root: &str, values: &Inputs) {
        for (name, value) in values {
            let kind = match value.as_f64() {
                Some(_) if value.is_f64() => "d",
                Some(_) => "l",
                None if value.is_string() => "s",
                None => "n",
            };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = writeln!(self.0, "put {root}.{name} {kind} {}", STANDARD.encode(text));
        }
        let _ = writeln!(self.0, "render {}", STANDARD.encode(template));
    }

    fn run(self, mut velocity: Command) -> Vec<String> {
        let mut child = velocity.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("java runs");
        let mut input = child.stdin.take().expect("piped");
        let writer = std::thread::spawn(move || input.write_all(self.0.as_bytes()).expect("written"));
        let mut output = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut output).expect("text");
        writer.join().expect("no panic");
        assert!(child.wait().expect("it ends").success(), "{output}");
        output.lines().map(|line| text(&STANDARD.decode(line).expect("Base64"))).collect()
    }
}

/// Inputs as flows give them, by what is special about them.
fn cases(action: &Value) -> Vec<Inputs> {
    let all = |value: &Value| properties(action).keys().map(|name| (name.clone(), value.clone())).collect::<Inputs>();
    let mut cases = vec![
        every_input(action, &json!(1), "C-2002"),
        every_input(action, &json!(1.0), "C-2003"),
        every_input(action, &json!(0.00001), "C-2004"),
        every_input(action, &json!(12_345_678.5), "C-2005"),
        Map::new(),
        all(&Value::Null),
        all(&json!("")),
    ];
    for hostile in [
        r#"q"uo\te"#,
        "$x ${input.recency_days} $!{input.segment}",
        "x$input.segment #if(1) #end ## #foreach(",
        "line\nbreak\ttab\u{1}",
        "Zoë 客 🙂",
        "\"},{\"model\":\"other",
    ] {
        cases.push(every_input(action, &json!(1), hostile));
    }
    cases
}

/// Whether a rendered value says what was given.
fn is_same(given: &Value, rendered: &Value) -> bool {
    match (given, rendered) {
        (Value::Number(number), Value::String(text)) => text.parse().ok() == number.as_f64(),
        (Value::Number(number), Value::Number(other)) => number.as_f64() == other.as_f64(),
        _ => given == rendered,
    }
}

#[test]
fn what_the_platforms_engine_renders_is_what_was_given_and_the_server_answers_it() {
    let Some(engine) = velocity() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let credentials = CredentialsFile::new("");
    let known = client(&credentials, "predict leads");
    let server =
        server(folder.path(), &[("SCORELINE__AUTH__CREDENTIALS_FILE", &credentials.path().display().to_string())]);
    let (plain, explicit) = (files(&[]), files(&["--explicit"]));

    let auth = parsed(&plain, "scoreline-auth.json")["config"]["request"].clone();
    let header = |request: &Value, name: &str| request["headers"][name].as_str().expect("a header").to_owned();
    let mut script = Script::default();
    let secrets = json!({"clientId": known.id, "clientSecret": known.secret.as_str()});
    script.render(&header(&auth, "Authorization"), "credentials", secrets.as_object().expect("credentials"));
    let mut asked = Vec::new();
    for (path, action) in actions(&plain).into_iter().chain(actions(&explicit)) {
        let request = action["config"]["request"].clone();
        for inputs in cases(&action) {
            let mut context = inputs.clone();
            context.insert("rawRequest".to_owned(), Value::Object(inputs.clone()).to_string().into());
            script.render(request["requestTemplate"].as_str().expect("a template"), "input", &context);
            asked.push((path.clone(), request.clone(), inputs));
        }
    }
    let token = Map::from_iter([("access_token".to_owned(), json!("TOKEN"))]);
    script.render(&header(&asked[0].1, "Authorization"), "authResponse", &token);
    let mut rendered = script.run(engine).into_iter();

    let form = auth["requestTemplate"].as_str().expect("a form");
    let basic = rendered.next().expect("credentials");
    let headers = [("authorization", &*basic), ("content-type", &*header(&auth, "Content-Type"))];
    let (code, granted) = post(&server, "/oauth/token", &headers, form);
    assert_eq!(code, "200", "{granted}");
    let granted: Value = serde_json::from_str(&granted).expect("JSON");
    let bearer = rendered.next_back().expect("a header");
    let bearer = bearer.replace("TOKEN", granted["access_token"].as_str().expect("a token"));

    for ((path, request, inputs), body) in asked.iter().zip(rendered) {
        let told: Inputs = serde_json::from_str(&body).unwrap_or_else(|err| panic!("{path}: {err}: {body}"));
        let is_absent = |value: &Value| value.is_null() || value == "";
        let given: Inputs = inputs.clone().into_iter().filter(|(_, value)| !is_absent(value)).collect();
        for (name, value) in &told {
            let is_right = given.get(name).map_or_else(|| is_absent(value), |given| is_same(given, value));
            assert!(is_right, "{path}: `{name}` = {value} in {body}");
        }
        assert!(given.keys().all(|name| told.contains_key(name)), "{path}: {body}");
        let headers = request["headers"].as_object().expect("headers").iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| {
                (name.as_str(), if name == "Authorization" { &bearer } else { value.as_str().expect("text") })
            })
            .collect();
        let answer = |body: &str| {
            let (code, answer) = post(&server, path, &headers, body);
            assert_eq!(code, "200", "{path}: {body}: {answer}");
            let mut answer: Inputs = serde_json::from_str(&answer).expect("JSON");
            // What differs between two equal questions, or by the order of their fields.
            answer.retain(|name, _| {
                !["request_id", "inference_latency_ms", "scored_at", "age_seconds"].contains(&&**name)
            });
            answer.retain(|name, _| !["source", "warnings", "message", "field"].contains(&&**name));
            answer
        };
        assert_eq!(answer(&body), answer(&Value::Object(given).to_string()), "{path}: {body}");
    }
}
