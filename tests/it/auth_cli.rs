//! `scoreline auth` and a server that asks who calls, as processes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use scoreline_domain::time::Stopwatch;

use crate::process::{Server, ask, models, scoreline};

const BODY: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;

fn auth(arguments: &[&str], file: &Path) -> Output {
    let mut command = scoreline(&["auth"], file);
    command.args(arguments).arg("--file").arg(file);
    command.output().expect("the binary runs")
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text").trim().to_owned()
}

fn post(address: &str, path: &str, authorization: Option<&str>, kind: &str, body: &str) -> String {
    let authorization = authorization.map(|value| format!("authorization: {value}\r\n")).unwrap_or_default();
    ask(
        address,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{authorization}content-type: {kind}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ),
    )
}

#[test]
fn credentials_are_made_used_listed_and_taken_back() {
    let models = models();
    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("credentials.toml");
    let made = auth(&["new-key", "--name", "genesys", "--scope", "predict,leads"], &file);
    let key = printed(&made);
    assert!(key.starts_with("sk_") && !key.contains('\n'), "only the key on standard output");
    let made_client = printed(&auth(&["new-client", "--name", "cloud", "--scope", "predict"], &file));
    let field = |name: &str| {
        let line = made_client.lines().find_map(|line| line.strip_prefix(name)).expect("printed");
        line.to_owned()
    };
    let (id, secret) = (field("client_id="), field("client_secret="));
    let kept = std::fs::read_to_string(&file).expect("text");
    assert!(!kept.contains(&key) && !kept.contains(&key[key.len() - 43..]) && !kept.contains(&secret), "hashes only");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);

    let path = file.display().to_string();
    // With credentials an open address is no problem.
    let server = Server::start_with(
        models.path(),
        &[
            ("SCORELINE__AUTH__CREDENTIALS_FILE", path.as_str()),
            ("SCORELINE__SERVER__LISTEN", "0.0.0.0:0"),
            ("SCORELINE__SERVER__ALLOW_PLAIN_HTTP", "true"),
        ],
    );
    let listen = server.listen.replace("0.0.0.0", "127.0.0.1");
    let predict =
        |authorization: Option<&str>| post(&listen, "/v1/predict/clv", authorization, "application/json", BODY);
    let bearer = format!("Bearer {key}");
    assert!(predict(None).starts_with("HTTP/1.1 401"), "{}", predict(None));
    assert!(predict(Some("Bearer sk_a_b")).starts_with("HTTP/1.1 401"));
    assert!(predict(Some(&bearer)).starts_with("HTTP/1.1 200"), "{}", predict(Some(&bearer)));
    let flat = post(&listen, "/v1/genesys/clv", None, "application/json", "{}");
    assert!(flat.starts_with("HTTP/1.1 401"), "a real 401: {flat}");

    let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
    let reply = post(&listen, "/oauth/token", None, "application/x-www-form-urlencoded", &form);
    let token = reply.split("\"access_token\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a token");
    let token = format!("Bearer {token}");
    assert!(predict(Some(&token)).starts_with("HTTP/1.1 200"));
    assert!(crate::process::get(&server.admin, "/metrics").starts_with("HTTP/1.1 401"));
    assert!(crate::process::get(&server.admin, "/health/live").starts_with("HTTP/1.1 200"));

    let began = Stopwatch::start();
    printed(&auth(&["revoke", &id], &file));
    while predict(Some(&token)).starts_with("HTTP/1.1 200") {
        assert!(began.elapsed() < Duration::from_secs(10), "still accepted");
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("a token of a client that was taken back was refused after {:?}", began.elapsed());
    assert!(predict(Some(&bearer)).starts_with("HTTP/1.1 200"), "the key is another's");

    let list = printed(&auth(&["list"], &file));
    assert!(list.contains("genesys") && list.contains("revoked") && !list.contains("sha256"), "{list}");
    assert_eq!(auth(&["revoke", "nobody"], &file).status.code(), Some(64));
    assert_eq!(auth(&["new-key", "--name", "x", "--scope", "everything"], &file).status.code(), Some(64));
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn a_server_does_not_start_open_or_with_secrets_others_can_read() {
    let models = models();
    let run = |arguments: &[&str], environment: &[(&str, &str)]| {
        let mut command = scoreline(arguments, models.path());
        command.env("SCORELINE__SERVER__ADMIN_LISTEN", "127.0.0.1:0").envs(environment.iter().copied());
        let output = command.output().expect("the binary runs");
        (output.status.code(), String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned())
    };
    // What a start ends with is found without one.
    let start = |environment: &[(&str, &str)]| {
        let started = run(&["serve"], environment);
        let (code, told) = run(&["config", "check"], environment);
        assert!(code == started.0 && (code == Some(64) || started.1.contains(told.trim_end())), "{told}");
        started
    };
    let (code, told) = start(&[("SCORELINE__SERVER__LISTEN", "0.0.0.0:0")]);
    assert_eq!(code, Some(64));
    assert!(told.contains("[auth]\n      credentials_file = ") && told.contains("scoreline auth new-key"), "{told}");

    let folder = tempfile::tempdir().expect("temporary folder");
    let file = folder.path().join("credentials.toml");
    printed(&auth(&["new-key", "--name", "a", "--scope", "predict"], &file));
    let path = file.display().to_string();
    let named = ("SCORELINE__AUTH__CREDENTIALS_FILE", path.as_str());
    let (code, told) = run(&["config", "check"], &[named]);
    assert!(code == Some(0) && told.contains("good: auth.credentials_file"), "{told}");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("set");
    let (code, told) = start(&[named, ("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")]);
    assert_eq!(code, Some(1));
    assert!(told.contains("chmod 600") && told.contains("auth.credentials_file"), "{told}");
    assert_eq!(auth(&["list"], &file).status.code(), Some(1));
    std::fs::remove_file(&file).expect("gone");
    let (code, told) = start(&[named, ("SCORELINE__SERVER__LISTEN", "127.0.0.1:0")]);
    assert!(code == Some(1) && told.contains("cannot be read"), "{told}");
}
