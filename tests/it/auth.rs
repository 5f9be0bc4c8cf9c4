//! Who may do what over HTTP: scopes, open routes, refusals, rates, the token endpoint, changes while it runs.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use scoreline::auth::{self, Authenticator, NewSecret, PeerIdentity, RateRecord, Scope, Scopes};
use scoreline_domain::time::Timestamp;
use serde_json::Value;

use crate::auth_tokens::predict;
use crate::support::TestApp;
use crate::support::identity::{CredentialsFile, NOW};
use crate::support::test_app::Reply;

const BODY: &str = r#"{"features": {"recency_days": 30, "frequency_count": 10}}"#;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("a time")
}

fn scopes(names: &str) -> Scopes {
    Scopes::parse(names.split(' ')).expect("scopes")
}

pub fn key(file: &CredentialsFile, names: &str) -> String {
    let made = auth::add_key(&file.path(), "test key", scopes(names), RateRecord::default(), now()).expect("made");
    format!("Bearer {}", made.secret.as_str())
}

pub fn client(file: &CredentialsFile, names: &str) -> NewSecret {
    auth::add_client(&file.path(), "test client", scopes(names), RateRecord::default(), now()).expect("made")
}

pub async fn ask(app: &TestApp, admin: bool, method: &str, path: &str, authorization: Option<&str>) -> Reply {
    let mut request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(Body::from(if method == "POST" { BODY } else { "" })).expect("a request");
    if admin { app.send_admin(request).await } else { app.send(request).await }
}

#[tokio::test]
async fn without_credentials_in_the_settings_nobody_is_asked() {
    let app = TestApp::new();
    assert_eq!(app.post("/v1/predict/clv", BODY).await.status, 200);
    assert_eq!(app.admin("/metrics").await.status, 200);
    assert_eq!(app.post("/oauth/token", "grant_type=client_credentials").await.status, 404);
}

#[tokio::test]
async fn basic_and_more_than_one_header_are_refused_with_a_word() {
    let file = CredentialsFile::new("");
    let good = key(&file, "predict");
    let app = TestApp::guarded(&file.settings());
    let basic = predict(&app, format!("Basic {}", STANDARD.encode("a:b")).as_bytes()).await;
    assert_eq!(basic.status, 401);
    assert!(basic.json()["error"]["message"].as_str().expect("text").contains("Bearer"), "{}", basic.text);
    let request = Request::post("/v1/predict/clv").header("authorization", &good).header("authorization", &good);
    let twice = app.send(request.body(Body::from(BODY)).expect("a request")).await;
    assert_eq!(twice.status, 401, "{}", twice.text);
    assert_eq!(twice.headers["www-authenticate"], "Bearer error=\"invalid_request\"");
    assert_eq!(predict(&app, good.as_bytes()).await.status, 200);
    for wrong in
        [good.replace("sk_", "sk_x"), good.clone() + "A", good[..good.len() - 1].to_owned(), good.to_uppercase()]
    {
        assert_eq!(predict(&app, wrong.as_bytes()).await.status, 401);
    }
}

#[tokio::test]
async fn a_certificate_stands_for_a_caller_and_a_header_goes_before_it() {
    let file = CredentialsFile::new(
        "[[certificate]]\nname = \"cloud\"\nsubject = \"dataactions.example.com\"\nscopes = [\"predict\"]\n\
         [[certificate]]\nname = \"dialer\"\nsan = \"Dialer.example.com\"\nscopes = [\"leads\"]\n",
    );
    let app = TestApp::guarded(&file.settings());
    let auth = app.auth.clone().expect("on");
    let peer = |subject: &str, sans: &[&str]| PeerIdentity {
        subject: subject.to_owned(),
        sans: sans.iter().map(|san| (*san).to_owned()).collect(),
    };
    let check = |peer: &PeerIdentity, scope| auth.check(None, Some(peer), scope).map(|caller| caller.name().to_owned());
    assert_eq!(check(&peer("dataactions.example.com", &[]), Scope::Predict).as_deref(), Ok("cloud"));
    assert_eq!(check(&peer("", &["x", "dialer.EXAMPLE.com"]), Scope::Leads).as_deref(), Ok("dialer"));
    assert!(check(&peer("dataactions.example.com", &[]), Scope::Admin).is_err());
    for other in ["", "dataactions.example.com.evil.example", "DATAACTIONS.EXAMPLE.COM", "dialer.example.com"] {
        assert!(check(&peer(other, &["dataactions.example.com"]), Scope::Predict).is_err(), "{other}");
    }
    let mut request = Request::post("/v1/predict/clv").body(Body::from(BODY)).expect("a request");
    request.extensions_mut().insert(Arc::new(peer("dataactions.example.com", &[])));
    assert_eq!(app.send(request).await.status, 200);
    let mut request = Request::post("/v1/predict/clv").header("authorization", "Bearer sk_a_b");
    request.extensions_mut().expect("valid").insert(Arc::new(peer("dataactions.example.com", &[])));
    assert_eq!(app.send(request.body(Body::from(BODY)).expect("a request")).await.status, 401);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_not() {
    let file = CredentialsFile::new("");
    let (busy, other) = (key(&file, "predict leads"), key(&file, "predict"));
    let mut settings = file.settings();
    settings.rates.predict = auth::Rate { per_second: 10, burst: 20 };
    settings.rates.leads = auth::Rate { per_second: 1, burst: 2 };
    let app = TestApp::guarded(&settings);
    for _ in 0..20 {
        assert_eq!(predict(&app, busy.as_bytes()).await.status, 200);
    }
    let refused = predict(&app, busy.as_bytes()).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]["code"]), (429, &Value::from("rate_limited")));
    assert_eq!(refused.headers["retry-after"], "1");
    assert_eq!(predict(&app, other.as_bytes()).await.status, 200);
    for expected in [503, 503, 429] {
        let reply = ask(&app, false, "POST", "/v1/predict/lead", Some(&busy)).await;
        assert_eq!(reply.status, expected, "its own lane: {}", reply.text);
    }
    let after: u64 = refused.headers["retry-after"].to_str().expect("text").parse().expect("seconds");
    app.clock.advance(Duration::from_secs(after));
    assert_eq!(predict(&app, busy.as_bytes()).await.status, 200);
    // A reload does not fill the bucket.
    while predict(&app, busy.as_bytes()).await.status == 200 {}
    let _third = key(&file, "events");
    app.auth.as_ref().expect("on").look();
    assert_eq!(predict(&app, busy.as_bytes()).await.status, 429);
}

async fn token_request(app: &TestApp, authorization: Option<&str>, kind: &str, body: &str) -> Reply {
    let mut request = Request::post("/oauth/token").header("content-type", kind);
    if let Some(value) = authorization {
        request = request.header("authorization", HeaderValue::from_str(value).expect("text"));
    }
    let reply = app.send(request.body(Body::from(body.to_owned())).expect("a request")).await;
    // The endpoint takes five a second of one address.
    app.clock.advance(Duration::from_secs(1));
    reply
}

const FORM: &str = "application/x-www-form-urlencoded";

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}

#[tokio::test]
async fn a_client_gets_a_token_by_basic_or_by_form_and_uses_it() {
    let file = CredentialsFile::new("");
    let NewSecret { id, secret } = client(&file, "predict leads");
    let app = TestApp::guarded(&file.settings());
    let by_form = format!("grant_type=client_credentials&client_id={id}&client_secret={}&extra=1", secret.as_str());
    let replies = [
        token_request(&app, None, FORM, &by_form).await,
        token_request(&app, Some(&basic(&id, &secret)), FORM, "grant_type=client_credentials").await,
        token_request(
            &app,
            Some(&basic(&id, &secret)),
            "Application/X-WWW-Form-Urlencoded; charset=utf-8",
            &format!("grant_type=client%5Fcredentials&client_id={id}&scope=leads+predict"),
        )
        .await,
    ];
    for reply in &replies {
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!(reply.headers["cache-control"], "no-store");
        let body = reply.json();
        assert_eq!((&body["token_type"], &body["expires_in"]), (&"Bearer".into(), &900.into()));
        assert_eq!(body["scope"], "predict leads");
        let bearer = format!("Bearer {}", body["access_token"].as_str().expect("a token"));
        assert_eq!(predict(&app, bearer.as_bytes()).await.status, 200);
        assert_eq!(ask(&app, false, "POST", "/v1/outcomes", Some(&bearer)).await.status, 403);
    }
    // Fewer scopes, when asked for.
    let body = "grant_type=client_credentials&scope=leads";
    let fewer = token_request(&app, Some(&basic(&id, &secret)), FORM, body).await.json();
    assert_eq!(fewer["scope"], "leads");
    let bearer = format!("Bearer {}", fewer["access_token"].as_str().expect("a token"));
    assert_eq!(predict(&app, bearer.as_bytes()).await.status, 403);
    // A token ends, and a client secret is no API key.
    app.clock.advance(Duration::from_secs(931));
    assert_eq!(ask(&app, false, "POST", "/v1/predict/lead", Some(&bearer)).await.status, 401);
    assert_eq!(predict(&app, format!("Bearer sk_{id}_{}", secret.as_str()).as_bytes()).await.status, 401);
}

#[tokio::test]
async fn the_token_endpoint_refuses_with_the_bodies_of_the_standard() {
    let file = CredentialsFile::new("");
    let NewSecret { id, secret } = client(&file, "predict");
    let secret = secret.as_str();
    let app = TestApp::guarded(&file.settings());
    let good = basic(&id, secret);
    let grant = "grant_type=client_credentials";
    let in_form = format!("{grant}&client_id={id}&client_secret={secret}");
    let other = basic(&id, "wrong");
    let nobody = basic("nobody", secret);
    let empty = basic("", "");
    let table: Vec<(Option<&str>, &str, String, u16, &str)> = vec![
        (None, FORM, grant.into(), 401, "invalid_client"),
        (None, FORM, format!("{grant}&client_id={id}"), 401, "invalid_client"),
        (None, FORM, format!("{grant}&client_id={id}&client_secret="), 401, "invalid_client"),
        (None, FORM, format!("{grant}&client_id={id}&client_secret={secret}x"), 401, "invalid_client"),
        (Some(&other), FORM, grant.into(), 401, "invalid_client"),
        (Some(&nobody), FORM, grant.into(), 401, "invalid_client"),
        (Some(&empty), FORM, grant.into(), 401, "invalid_client"),
        (Some("Basic"), FORM, grant.into(), 401, "invalid_client"),
        (Some("Basic !!!"), FORM, grant.into(), 401, "invalid_client"),
        (Some("Basic Og=="), FORM, grant.into(), 401, "invalid_client"),
        (Some("Basic bm9jb2xvbg=="), FORM, grant.into(), 401, "invalid_client"),
        (Some("Bearer abc"), FORM, grant.into(), 401, "invalid_client"),
        (Some("Digest a=b"), FORM, in_form.clone(), 401, "invalid_client"),
        (Some(&good), FORM, in_form.clone(), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&client_id=other"), 400, "invalid_request"),
        (Some(&good), FORM, String::new(), 400, "invalid_request"),
        (Some(&good), FORM, "grant_type=".into(), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&{grant}"), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&scope=predict&scope=predict"), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&x=%zz"), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&x=%F"), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&x=%ff"), 400, "invalid_request"),
        (Some(&good), FORM, format!("{grant}&x={}", "y".repeat(9000)), 400, "invalid_request"),
        (Some(&good), "application/json", r#"{"grant_type":"client_credentials"}"#.into(), 400, "invalid_request"),
        (Some(&good), "text/plain", grant.into(), 400, "invalid_request"),
        (Some(&good), FORM, "grant_type=password&username=a&password=b".into(), 400, "unsupported_grant_type"),
        (Some(&good), FORM, "grant_type=authorization_code&code=1".into(), 400, "unsupported_grant_type"),
        (Some(&good), FORM, "grant_type=refresh_token".into(), 400, "unsupported_grant_type"),
        (Some(&good), FORM, "grant_type=CLIENT_CREDENTIALS".into(), 400, "unsupported_grant_type"),
        (Some(&good), FORM, format!("{grant}&scope=admin"), 400, "invalid_scope"),
        (Some(&good), FORM, format!("{grant}&scope=predict+admin"), 400, "invalid_scope"),
        (Some(&good), FORM, format!("{grant}&scope=everything"), 400, "invalid_scope"),
    ];
    for (authorization, kind, body, status, error) in &table {
        let reply = token_request(&app, *authorization, kind, body).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["error"]), (*status, &Value::from(*error)), "{body}");
        assert_eq!(reply.headers["cache-control"], "no-store");
        assert_eq!(reply.headers.contains_key("www-authenticate"), *status == 401, "{body}");
        assert!(!reply.text.contains(secret), "{}", reply.text);
    }
    println!("{} refusals of the token endpoint", table.len());
    // Many at once from one address.
    let request =
        || Request::post("/oauth/token").header("content-type", FORM).body(Body::from(grant)).expect("a request");
    let mut last = app.send(request()).await;
    for _ in 0..30 {
        last = app.send(request()).await;
    }
    assert_eq!((last.status.as_u16(), &last.json()["error"]), (429, &"temporarily_unavailable".into()));
    assert_eq!(last.headers["retry-after"], "1");
    let get = app.get("/oauth/token").await;
    assert_eq!(get.status, 405);
}

#[tokio::test]
async fn what_is_taken_back_is_refused_at_the_next_look_and_a_broken_file_changes_nothing() {
    let file = CredentialsFile::new("");
    let good = key(&file, "predict");
    let NewSecret { id, secret } = client(&file, "predict");
    let app = TestApp::guarded(&file.settings());
    let auth = app.auth.clone().expect("on");
    let reply = token_request(&app, Some(&basic(&id, &secret)), FORM, "grant_type=client_credentials").await.json();
    let bearer = format!("Bearer {}", reply["access_token"].as_str().expect("a token"));
    let status = async |credential: &str| predict(&app, credential.as_bytes()).await.status.as_u16();
    assert_eq!((status(&good).await, status(&bearer).await), (200, 200));

    let kept = std::fs::read_to_string(file.path()).expect("text");
    std::fs::write(file.path(), "version = 1\n[[key]]\nid = ").expect("written");
    auth.look();
    assert_eq!((status(&good).await, status(&bearer).await), (200, 200), "half a file");
    std::fs::write(file.path(), &kept).expect("written");
    auth.look();

    let key_id = good.split('_').nth(1).expect("an id");
    assert!(auth::revoke(&file.path(), key_id, now()).expect("written"));
    assert!(!auth::revoke(&file.path(), key_id, now()).expect("read"), "once is enough");
    auth.look();
    assert_eq!((status(&good).await, status(&bearer).await), (401, 200));
    assert!(auth::revoke(&file.path(), &id, now()).expect("written"));
    auth.look();
    assert_eq!(status(&bearer).await, 401, "a token goes with its client, though it was verified a moment ago");
    let gone = token_request(&app, Some(&basic(&id, &secret)), FORM, "grant_type=client_credentials").await;
    assert_eq!(gone.status, 401);
}

#[tokio::test]
async fn replicas_with_one_key_take_each_others_tokens_and_others_do_not() {
    let file = CredentialsFile::new("");
    let NewSecret { id, secret } = client(&file, "predict");
    let path = file.beside("token.key", "0123456789abcdef0123456789abcdef\n");
    let mut shared = file.settings();
    shared.token_key_file = Some(path.clone());
    let open = |settings: &auth::AuthSettings| {
        let clock = Arc::new(scoreline_domain::time::ManualClock::at(now()));
        Authenticator::open(settings, clock).map(|auth| auth.expect("on"))
    };
    let refused = open(&shared).err().expect("others may read it").to_string();
    assert!(refused.contains("auth.token_key_file"), "{refused}");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("private");
    let (one, two, alone) =
        (open(&shared).expect("on"), open(&shared).expect("on"), open(&file.settings()).expect("on"));
    let body = format!("grant_type=client_credentials&client_id={id}&client_secret={}", secret.as_str());
    let request = auth::GrantRequest {
        authorization: None,
        content_type: Some(FORM.as_bytes()),
        body: body.as_bytes(),
        from: None,
    };
    let token = one.grant(&request).expect("granted").access_token;
    let header = format!("Bearer {token}");
    let check = |auth: &Authenticator| auth.check(Some(header.as_bytes()), None, Scope::Predict).is_ok();
    assert_eq!((check(&one), check(&two), check(&alone)), (true, true, false));
    std::fs::write(&path, "too short").expect("written");
    let short = open(&shared).err().expect("refused").to_string();
    assert!(short.contains("32 bytes"), "{short}");
}

#[test]
fn records_that_can_not_be_used_are_named() {
    let refused = |text: &str| {
        let file = CredentialsFile::new(text);
        let clock = Arc::new(scoreline_domain::time::ManualClock::at(now()));
        let err = Authenticator::open(&file.settings(), clock).err().expect("refused");
        let cause = std::error::Error::source(&err).map(|cause| format!(": {cause}")).unwrap_or_default();
        format!("{err}{cause}")
    };
    let secret = format!("sha256:{}:{}", "0".repeat(24), "0".repeat(64));
    let key = format!("[[key]]\nid = \"a\"\nname = \"n\"\nsecret = \"{secret}\"\nscopes = [\"predict\"]\n");
    let issuer = crate::support::identity::issuer_record("jwks_url = \"https://login.example.com/keys\"");
    for (text, expected) in [
        (key.clone() + &key, "the id is there twice"),
        (key.replace("predict", "everything"), "`everything` is not a scope"),
        (key.replace("[\"predict\"]", "[]"), "`scopes` must not be empty"),
        (key.clone() + "colour = \"red\"\n", "unknown field `colour`"),
        (key.replace("id = \"a\"", "id = \"a_b\""), "`id` must be"),
        (key.clone() + "predict_burst = 0\n", "a burst must be at least 1"),
        ("[[certificate]]\nname = \"c\"\nscopes = [\"predict\"]\n".into(), "needs `subject` or `san`"),
        (issuer.replace("https://login.example.com/keys", "http://login.example.com/keys"), "`https://`"),
        (issuer.replace("\"RS256\", ", "\"HS256\", "), "`algorithms` must be a list of"),
        (issuer.replace("\"RS256\", ", "\"none\", "), "`algorithms` must be a list of"),
        (issuer.replace("https://login.example.com/\"", "scoreline\""), "`issuer` must be"),
        (issuer.clone() + &issuer, "there twice"),
        (issuer.replace("jwks_url = \"https://login.example.com/keys\"\n", ""), "needs `jwks_url` or `jwks_file`"),
        (issuer.replace("audience = \"scoreline-api\"", "audience = []"), "`audience` must name"),
        (issuer.clone() + "scope_claims = []\n", "`scope_claims` must be a list of `scope`, `scp`, `roles`"),
        (issuer.clone() + "scope_claims = [\"rolse\"]\n", "`scope_claims` must be a list of `scope`, `scp`, `roles`"),
        (issuer.clone() + "scope_claim = [\"roles\"]\n", "unknown field `scope_claim`"),
        (
            issuer.clone() + "scope_names = { R = \"predcit\" }\n",
            "`scope_names`: `predcit` is not a scope; scopes are `predict`",
        ),
        (issuer.clone() + "scope_names = { \"a b\" = \"predict\" }\n", "`scope_names`: a name must have"),
        (issuer.clone() + "scope_names = { R = 7 }\n", "must be a text or a list of texts"),
        (issuer.clone() + "grants = [\"all\"]\n", "`grants`: `all` is not a scope; scopes are `predict`"),
        (issuer.replace(", \"admin\"]", "]") + "grants = [\"admin\"]\n", "`grants` must stay within `scopes`"),
        (
            issuer.replace(", \"admin\"]", "]") + "scope_names = { R = [\"predict\", \"admin\"] }\n",
            "`scope_names` must stay within `scopes`, which is `predict leads events`",
        ),
        (
            issuer.clone() + "scope_prefix = \"s:\"\nscope_names = { R = \"predict\" }\n",
            "`scope_prefix` and `scope_names` say the same",
        ),
    ] {
        let told = refused(&text);
        assert!(told.contains(expected) && told.contains("auth.credentials_file"), "{told}");
    }
}
