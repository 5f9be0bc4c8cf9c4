//! Refusals of the endpoints for data actions: which are HTTP 200 and which keep their status, and that all are flat.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use scoreline::auth::Rate;
use scoreline_domain::feature::CATALOGUE;
use scoreline_engine::inference::registry::Patience;
use serde_json::json;

use crate::auth::key;
use crate::support::identity::{CredentialsFile, SigningKey, claims_but, issuer_record, key_set};
use crate::support::test_app::Reply;
use crate::support::{TestApp, TestBundle};

/// Each with a good question.
const ACTIONS: [(&str, &str); 3] = [
    ("/v1/genesys/clv", r#"{"recency_days": 30, "frequency_count": 10}"#),
    ("/v1/genesys/route", r#"{"recency_days": 30, "frequency_count": 10}"#),
    ("/v1/genesys/lead", r#"{"age": 40, "contact": "cellular"}"#),
];

struct World {
    app: TestApp,
    _file: CredentialsFile,
    good: String,
    other: String,
    token: String,
}

impl World {
    async fn new(rate: Rate) -> Self {
        let signing = SigningKey::new("a", jsonwebtoken::Algorithm::ES256);
        let file = CredentialsFile::new("");
        let keys = file.beside("keys.json", &key_set(&[&signing]));
        file.write(&issuer_record(&format!("jwks_file = \"{}\"", keys.display())));
        let (good, other) = (key(&file, "predict leads"), key(&file, "events"));
        let mut settings = file.settings();
        (settings.rates.predict, settings.rates.leads) = (rate, rate);
        let app = TestApp::guarded(&settings);
        TestBundle::lead("v1").write(app.models.path());
        app.registry.scan(Patience::Now);
        app.auth.clone().expect("on").fetch_keys(Duration::from_secs(10), crate::auth_issuers::spawn).await;
        Self {
            app,
            _file: file,
            good,
            other,
            token: format!("Bearer {}", signing.token(&claims_but("scope", json!("predict leads")))),
        }
    }

    async fn post(&self, path: &str, authorization: Option<&str>, body: impl Into<Body>) -> Reply {
        let mut request = Request::post(path).header("x-request-id", "call-7");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        self.app.send(request.body(body.into()).expect("a request")).await
    }
}

const UNLIMITED: Rate = Rate { per_second: 0, burst: 1 };

/// Flat scalars: what a success carries of its prediction, and why it is none. `known` is whether it may tell of models.
fn expect_flat(path: &str, reply: &Reply, status: u16, reason: &str, known: bool) {
    assert_eq!(reply.status, status, "{path}: {}", reply.text);
    assert_eq!(reply.headers["content-type"], "application/json");
    let answer = reply.json();
    let fields = answer.as_object().expect("an object");
    assert!(fields.values().all(|value| !value.is_object() && !value.is_array() && !value.is_null()), "{answer}");
    assert_eq!((&answer["status"], &answer["reason"]), (&json!("error"), &json!(reason)), "{path}");
    assert!(answer["message"].as_str().is_some_and(|text| !text.is_empty()), "{answer}");
    assert_eq!(answer["request_id"].as_str(), reply.headers["x-request-id"].to_str().ok(), "{path}");
    if path == "/v1/genesys/lead" {
        let chance = if known { 0.125 } else { 0.0 };
        assert_eq!((&answer["priority_score"], &answer["conversion_probability"]), (&json!(1), &json!(chance)));
        return;
    }
    let (value, skill) = if known { (20.0, "SKILL_GENERAL_SUPPORT") } else { (0.0, "") };
    assert_eq!((&answer["clv_value_usd"], &answer["skill_id"]), (&json!(value), &json!(skill)), "{path}");
    assert_eq!((&answer["priority"], &answer["use_default_routing"]), (&json!(0), &json!(true)), "{path}");
    assert!(answer["clv_tier"].is_string() && answer["low_confidence"] == true, "{answer}");
}

#[tokio::test]
async fn a_mistake_of_setup_keeps_its_status_and_tells_a_stranger_nothing() {
    let world = World::new(UNLIMITED).await;
    for (path, body) in ACTIONS {
        let ask = async |authorization| world.post(path, authorization, body).await;
        let nobody = ask(None).await;
        expect_flat(path, &nobody, 401, "unauthenticated", false);
        assert_eq!(nobody.headers["www-authenticate"], "Bearer");
        expect_flat(path, &ask(Some("Basic YTpi")).await, 401, "unauthenticated", false);
        let forbidden = ask(Some(&world.other)).await;
        expect_flat(path, &forbidden, 403, "forbidden", false);
        assert!(forbidden.headers["www-authenticate"].to_str().expect("text").contains("insufficient_scope"));
        let request = Request::get(path).header("authorization", &world.good).body(Body::empty());
        let wrong = world.app.send(request.expect("a request")).await;
        expect_flat(path, &wrong, 405, "method_not_allowed", false);
        assert_eq!(wrong.headers["allow"], "POST");
    }
    for unknown in ["/v1/genesys/clvs", "/v1/genesys/clv/", "/v1/genesys/a/b"] {
        expect_flat(unknown, &world.post(unknown, None, "{}").await, 404, "not_found", false);
    }
    world.app.clock.advance(Duration::from_hours(2));
    for (path, body) in ACTIONS {
        let expired = world.post(path, Some(&world.token), body).await;
        expect_flat(path, &expired, 401, "unauthenticated", false);
        assert!(expired.text.contains("expired"), "{}", expired.text);
    }
}

#[tokio::test]
async fn what_is_wrong_with_one_question_is_200_with_neutral_values() {
    let world = World::new(UNLIMITED).await;
    for (path, body) in ACTIONS {
        assert_eq!(world.post(path, Some(&world.token), body).await.json()["status"], "success", "{path}");
        let ask = async |body: String| world.post(path, Some(&world.good), body).await;
        expect_flat(path, &ask(" ".repeat(65 * 1024)).await, 200, "body_too_large", true);
        expect_flat(path, &ask("{broken".to_owned()).await, 200, "malformed_json", true);
        expect_flat(path, &ask("[1]".to_owned()).await, 200, "invalid_field", true);
        expect_flat(path, &ask(body.replace('{', r#"{"model": "nobody", "#)).await, 200, "unknown_model", true);
        // No content type is refused: what counts is the body.
        let request = Request::post(path).header("authorization", &world.good).header("content-type", "text/plain");
        let reply = world.app.send(request.body(Body::from(body)).expect("a request")).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["status"]), (200, &json!("success")), "{path}");
    }
}

#[tokio::test]
async fn a_caller_above_its_rate_gets_200_with_neutral_values_and_is_told_when_to_come_back() {
    for (path, body) in ACTIONS {
        let world = World::new(Rate { per_second: 1, burst: 1 }).await;
        assert_eq!(world.post(path, Some(&world.good), body).await.json()["status"], "success", "{path}");
        let refused = world.post(path, Some(&world.good), body).await;
        expect_flat(path, &refused, 200, "rate_limited", true);
        assert_eq!(refused.headers["retry-after"], "1");
    }
}

/// What a published action sends: the whole catalogue, and an input of a model that is gone.
#[tokio::test]
async fn a_model_that_reads_less_answers_what_an_action_sends_all_the_same() {
    let app = TestApp::new();
    let mut inputs: serde_json::Map<_, _> =
        CATALOGUE.iter().map(|feature| (feature.name.to_owned(), json!("1"))).collect();
    inputs.insert("loyalty_level".to_owned(), json!("gold"));
    for path in ["/v1/genesys/clv", "/v1/genesys/route"] {
        let answer = app.ok(path, inputs.clone().into()).await;
        assert_eq!((&answer["status"], &answer["use_default_routing"]), (&json!("success"), &json!(false)), "{answer}");
        let warnings = answer["warnings"].as_str().expect("warnings");
        assert!(
            warnings.contains("ignored: items_count") && warnings.ends_with("unknown: loyalty_level"),
            "{warnings}"
        );
    }
}

#[tokio::test]
async fn a_phone_number_in_place_of_the_customer_is_told_what_to_send() {
    let app = TestApp::new();
    let said = "looks like a phone number; give the external contact id (Call.ExternalContactId), not the number";
    for path in ["/v1/genesys/clv", "/v1/genesys/route"] {
        let answer = app.ok(path, json!({"customer_id": "+4915112345678", "recency_days": 3})).await;
        assert_eq!((&answer["status"], &answer["reason"]), (&json!("error"), &json!("pii_refused")));
        assert_eq!((&answer["field"], &answer["use_default_routing"]), (&json!("customer_id"), &json!(true)));
        assert_eq!(answer["message"], format!("`customer_id` {said}"));
    }
    let nested = app.post("/v1/predict/clv", r#"{"customerId": "+4915112345678", "features": {}}"#).await;
    assert_eq!(nested.json()["error"]["message"], format!("`customerId` {said}"));
    // What is no phone number is told as before, and so is a lead.
    for body in [json!({"customer_id": "a@example.com"}), json!({"customer_id": "C-1", "segment": "+4915112345678"})] {
        let answer = app.ok("/v1/genesys/clv", body).await;
        assert!(answer["message"].as_str().is_some_and(|text| !text.contains("Call.")), "{answer}");
    }
}
