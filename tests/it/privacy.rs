//! Personal data is refused by name of the field, customers are erased for good, and a new pepper loses nothing.

use std::path::Path;

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use scoreline::monitoring::book::PredictionLimits;
use scoreline::monitoring::{MonitoringSettings, WindowSettings};
use scoreline_domain::privacy::{IdHasher, Identifiers, PrivacySettings, Screen};
use serde_json::{Value, json};

use crate::support::test_app::{Kept, privacy};
use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";
/// One of each kind, with what must not come back.
const PERSONAL: [&str; 5] =
    ["4111 1111 1111 1111", "+4915112345678", "jane.doe@example.com", "123-45-6789", "DE89370400440532013000"];

fn features() -> Value {
    json!({"recency_days": 30, "frequency_count": 10})
}

/// A store with outcomes in it.
async fn kept(folder: &Path) -> Kept {
    let windows = WindowSettings { length: std::time::Duration::from_hours(24), least_rows: 500, most_rows: 50_000 };
    let limits = PredictionLimits { predictions: 1000, outcomes: 1000, window: 100, sample_every: 0 };
    Kept::open(folder, &MonitoringSettings { windows, ledger: Some(limits), replay: None }).await
}

fn keeping(kept: &Kept, settings: &PrivacySettings) -> TestApp {
    TestApp::keeping(&[TestBundle::clv("v1.2")], |_| {}, settings, kept)
}

fn outcome(customer: &str) -> Value {
    json!({"customerId": customer, "actual_spend_usd": 12.5, "observed_at": "2026-03-01T00:00:00Z",
        "prediction": {"clv_value_usd": 20.0, "model_version": "v1.2", "scored_at": "2026-01-01T00:00:00Z",
            "horizon_days": 30}})
}

#[tokio::test]
async fn personal_data_in_any_text_is_refused_by_name_and_never_repeated() {
    let app = TestApp::new();
    for datum in PERSONAL {
        for field in ["customerId", "acquisition_channel", "segment", "model", "model_version", "request_id"] {
            let mut body = json!({"features": features(), "request_id": "req-1"});
            body[field] = json!(datum);
            // A request id that cannot be shown is refused for that.
            let expected = if field == "request_id" && datum.contains(' ') { "invalid_field" } else { "pii_refused" };
            let text = body.to_string();
            for path in [PREDICT, "/v1/route/tier"] {
                let reply = app.post(path, text.clone()).await;
                assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", reply.text);
                let error = &reply.json()["error"];
                assert_eq!((&error["code"], &error["field"]), (&json!(expected), &json!(field)), "{}", reply.text);
                assert!(!reply.text.contains(datum) && !format!("{:?}", reply.headers).contains(datum));
                let own = field != "request_id";
                assert_eq!(reply.json()["metadata"]["request_id"] == "req-1", own, "{}", reply.text);
            }
            let batch = app.ok(&format!("{PREDICT}/batch"), json!([body])).await;
            assert_eq!(batch["results"][0]["error"]["code"], expected, "{batch}");
            assert!(!batch.to_string().contains(datum), "{batch}");
            let mut flat = body.clone();
            flat.as_object_mut().expect("an object").remove("features");
            for path in ["/v1/genesys/clv", "/v1/genesys/route"] {
                let reply = app.ok(path, flat.clone()).await;
                assert_eq!((&reply["status"], &reply["reason"]), (&json!("error"), &json!(expected)), "{reply}");
                assert!(reply["clv_value_usd"].is_number() && !reply.to_string().contains(datum), "{reply}");
            }
        }
        let reply = app.post(PREDICT, json!({"features": {"contact_reason": datum}}).to_string()).await;
        assert_eq!(reply.json()["error"]["field"], "features.contact_reason", "{}", reply.text);
        let mut named = json!({"features": {}});
        named["features"][datum] = json!(1);
        let reply = app.post(PREDICT, named.to_string()).await;
        assert_eq!(reply.json()["error"]["code"], "pii_refused", "{}", reply.text);
        assert!(!reply.text.contains(datum), "{}", reply.text);
        let mut named = json!({});
        named[datum] = json!(1);
        let reply = app.post(PREDICT, named.to_string()).await;
        assert_eq!(reply.json()["error"]["code"], "pii_refused", "{}", reply.text);
        assert!(!reply.text.contains(datum), "{}", reply.text);
        let path = format!("/v1/customers/{}/score", datum.replace(' ', "%20").replace('+', "%2B"));
        assert_eq!(app.get(&path).await.json()["error"]["code"], "pii_refused");
    }
}

#[tokio::test]
async fn leads_and_outcomes_are_looked_at_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let bundles = [TestBundle::clv("v1.2"), TestBundle::lead("v1.0")];
    let kept = kept(folder.path()).await;
    let app = TestApp::keeping(&bundles, |_| {}, &privacy("test pepper", &[]), &kept);
    for datum in PERSONAL {
        for field in ["leadId", "lead_source"] {
            let mut body = json!({});
            body["leadId"] = json!("L-1");
            body[field] = json!(datum);
            let reply = app.post("/v1/predict/lead", body.to_string()).await;
            assert_eq!(reply.json()["error"]["field"], field, "{}", reply.text);
            assert_eq!(app.ok("/v1/genesys/lead", body).await["reason"], "pii_refused");
        }
        let reply = app.post("/v1/outcomes", outcome(datum).to_string()).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(reply.json()["error"]["field"], "customerId", "{}", reply.text);
        let rows = app.ok("/v1/outcomes", json!([outcome(datum), outcome("CUST-1")])).await;
        assert_eq!(rows["results"][0]["error"]["code"], "pii_refused", "{rows}");
        assert!(rows["results"][1]["outcome"].is_object() && !rows.to_string().contains(datum), "{rows}");
    }
}

#[tokio::test]
async fn usual_identifiers_are_taken_and_a_personal_header_is_passed_over() {
    let app = TestApp::new();
    for id in ["CUST-12345", "550e8400-e29b-41d4-a716-446655440000", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "0012v00002abcdEAAQ"]
    {
        app.ok(PREDICT, json!({"features": features(), "customerId": id, "request_id": id})).await;
    }
    let ask = |id: &str| {
        let request = Request::post(PREDICT).header("x-request-id", id);
        request.body(Body::from(json!({"features": features()}).to_string())).expect("a request")
    };
    let reply = app.send(ask("jane.doe@example.com")).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(!reply.text.contains("jane") && reply.headers["x-request-id"] != "jane.doe@example.com");
    assert_eq!(app.send(ask("trace-1")).await.headers["x-request-id"], "trace-1");
}

#[tokio::test]
async fn strict_mode_takes_hashes_only_and_screening_can_be_switched_off() {
    let screen = Screen { identifiers: Identifiers::Hashed, ..Screen::default() };
    let strict = TestApp::private(&PrivacySettings { screen, ..privacy("test pepper", &[]) });
    let ask = |id: &str| json!({"features": features(), "customerId": id}).to_string();
    let refused = strict.post(PREDICT, ask("CUST-12345")).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let error = &refused.json()["error"];
    assert_eq!((&error["code"], &error["field"]), (&json!("invalid_field"), &json!("customerId")));
    assert!(error["message"].as_str().expect("a text").contains("SHA-256") && !refused.text.contains("CUST-12345"));
    strict.ok_text(PREDICT, &ask(&"ab".repeat(32))).await;

    let screen = Screen { refuse_pii: false, ..Screen::default() };
    let open = TestApp::private(&PrivacySettings { screen, ..privacy("test pepper", &[]) });
    open.ok_text(PREDICT, &ask("+4915112345678")).await;
    let logged = json!({"features": features(), "request_id": "+4915112345678"}).to_string();
    assert_eq!(open.post(PREDICT, logged).await.json()["error"]["code"], "pii_refused", "request ids are logged");
}

#[tokio::test]
async fn an_erased_customer_is_gone_everywhere_and_stays_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = privacy("test pepper", &[]);
    let store = kept(folder.path()).await;
    let app = keeping(&store, &settings);
    let ask = |customer: &str| json!({"features": features(), "customerId": customer});
    for customer in ["CUST-1", "CUST-2"] {
        assert_eq!(app.ok(PREDICT, ask(customer)).await["metadata"]["source"], "model");
        assert_eq!(app.ok(PREDICT, ask(customer)).await["metadata"]["source"], "cache");
        assert_eq!(app.ok("/v1/outcomes", outcome(customer)).await["outcome"]["result"], "recorded");
        assert_eq!(app.get(&format!("/v1/customers/{customer}/score")).await.json()["metadata"]["source"], "cache");
    }
    let key = IdHasher::new(&settings).key("CUST-1");
    let found = || {
        std::fs::read_dir(folder.path()).expect("a folder").any(|entry| {
            let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
            memchr::memmem::find(&bytes, key.as_bytes()).is_some()
        })
    };
    assert!(found());
    let erased = app.delete("/v1/customers/CUST-1").await;
    assert_eq!(erased.status, StatusCode::OK, "{}", erased.text);
    let erased = erased.json();
    let entries = |cache, outcomes, store| json!({"score_cache": cache, "feature_table": 0, "outcomes": outcomes, "store": store});
    assert_eq!(erased["erased"], entries(1, 1, 2), "in the store a prediction and its outcome");
    assert_eq!(erased["tombstone"], "kept");
    assert!(!found(), "the key is in no file");

    // Scored when they call, but nothing is kept.
    for _ in 0..2 {
        assert_eq!(app.ok(PREDICT, ask("CUST-1")).await["metadata"]["source"], "model");
    }
    assert_eq!(app.get("/v1/customers/CUST-1/score").await.status, StatusCode::NOT_FOUND);
    let late = app.post("/v1/outcomes", outcome("CUST-1").to_string()).await;
    assert_eq!((late.status, &late.json()["error"]["code"]), (StatusCode::GONE, &json!("customer_erased")));
    let rows = app.ok("/v1/outcomes", json!([outcome("CUST-1"), outcome("CUST-2")])).await;
    assert_eq!(rows["results"][0]["error"]["code"], "customer_erased", "{rows}");
    assert_eq!(rows["results"][1]["outcome"]["result"], "duplicate", "{rows}");
    let again = app.delete("/v1/customers/CUST-1").await.json();
    assert_eq!(again["erased"], entries(0, 0, 0));
    assert!(!found());
    // The others are as they were.
    assert_eq!(app.ok(PREDICT, ask("CUST-2")).await["metadata"]["source"], "cache");
    assert_eq!(app.admin("/admin/privacy").await.json()["tombstones"], 1);
    store.close().await;

    let store = kept(folder.path()).await;
    let app = keeping(&store, &settings);
    app.ok(PREDICT, ask("CUST-1")).await;
    assert_eq!(app.get("/v1/customers/CUST-1/score").await.status, StatusCode::NOT_FOUND, "after a restart");
    assert_eq!(app.post("/v1/outcomes", outcome("CUST-1").to_string()).await.status, StatusCode::GONE);
    store.close().await;
}

#[tokio::test]
async fn anything_can_be_erased_and_a_strange_path_is_refused_in_our_own_words() {
    let app = TestApp::new();
    for id in ["jane.doe%40example.com", "%2B4915112345678", "a%2Fb", "%C3%BC", "x"] {
        assert_eq!(app.delete(&format!("/v1/customers/{id}")).await.status, StatusCode::OK, "{id}");
    }
    for id in ["%FF", &"x".repeat(257)] {
        let refused = app.delete(&format!("/v1/customers/{id}")).await;
        assert_eq!(
            (refused.status, &refused.json()["error"]["field"]),
            (StatusCode::UNPROCESSABLE_ENTITY, &json!("customerId"))
        );
    }
    assert_eq!(app.get("/v1/customers/nobody/score").await.json()["error"]["code"], "not_found");
}

#[tokio::test]
async fn a_tombstone_that_can_not_be_written_is_said_and_holds_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = kept(folder.path()).await;
    let app = keeping(&store, &privacy("test pepper", &[]));
    let ask = json!({"features": features(), "customerId": "CUST-1"});
    app.ok(PREDICT, ask.clone()).await;
    store.close().await;
    let failed = app.delete("/v1/customers/CUST-1").await;
    assert_eq!(failed.status, StatusCode::SERVICE_UNAVAILABLE);
    let error = &failed.json()["error"];
    assert_eq!(error["code"], "erasure_incomplete");
    assert!(error["message"].as_str().expect("a text").contains("`store`"), "{}", failed.text);
    app.ok(PREDICT, ask).await;
    assert_eq!(app.get("/v1/customers/CUST-1/score").await.status, StatusCode::NOT_FOUND);
    let told = app.post("/v1/outcomes", outcome("CUST-2").to_string()).await;
    assert_eq!(told.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(told.text.contains("`store.path` or `store.url`"), "{}", told.text);
}

#[tokio::test]
async fn a_new_pepper_loses_neither_outcomes_nor_tombstones() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = kept(folder.path()).await;
    let app = keeping(&store, &privacy("the old pepper", &[]));
    app.ok("/v1/outcomes", outcome("CUST-1")).await;
    app.ok("/v1/outcomes", outcome("CUST-2")).await;
    app.delete("/v1/customers/CUST-2").await;
    let old = app.admin("/admin/privacy").await.json()["pepper_id"].clone();
    store.close().await;

    let store = kept(folder.path()).await;
    let app = keeping(&store, &privacy("the new pepper", &["the old pepper"]));
    assert_eq!(app.ok("/v1/outcomes", outcome("CUST-1")).await["outcome"]["result"], "duplicate");
    assert_eq!(app.post("/v1/outcomes", outcome("CUST-2").to_string()).await.status, StatusCode::GONE);
    let shown = app.admin("/admin/privacy").await.json();
    assert_eq!((&shown["previous_pepper_ids"], &shown["rotating"]), (&json!([old]), &json!(true)));
    assert_ne!(shown["pepper_id"], old);
    assert!(!shown.to_string().contains("the new pepper"), "{shown}");
    let erased = app.delete("/v1/customers/CUST-1").await.json();
    assert_eq!(erased["erased"]["store"], 1, "what was kept under the old pepper");
    // As the server does every second.
    let eraser = app.eraser.clone();
    tokio::task::spawn_blocking(move || eraser.catch_up()).await.expect("no panic").expect("carried over");
    store.close().await;

    // Both tombstones were carried over: the old pepper is not needed any more.
    let store = kept(folder.path()).await;
    let app = keeping(&store, &privacy("the new pepper", &[]));
    for customer in ["CUST-1", "CUST-2"] {
        let told = app.post("/v1/outcomes", outcome(customer).to_string()).await;
        assert_eq!(told.status, StatusCode::GONE, "{customer}");
    }
    store.close().await;
}

#[tokio::test]
async fn every_answer_forbids_guessing_and_keeping_and_none_is_for_other_sites() {
    let app = TestApp::new();
    let send = |method: Method, path: &str| {
        let request = Request::builder().method(method).uri(path).header("origin", "https://elsewhere.example");
        let request = request.header("access-control-request-method", "POST");
        request.body(Body::from(json!({"features": features()}).to_string())).expect("a request")
    };
    let mut replies = Vec::new();
    for path in
        [PREDICT, "/v1/predict/clv/batch", "/v1/route/tier", "/v1/genesys/clv", "/v1/outcomes", "/v1/customers/x"]
    {
        let preflight = app.send(send(Method::OPTIONS, path)).await;
        assert_eq!(preflight.status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        replies.extend([preflight, app.send(send(Method::POST, path)).await]);
    }
    replies.push(app.send(send(Method::GET, "/nowhere")).await);
    replies.push(app.send(send(Method::GET, "/health/live")).await);
    replies.push(app.admin("/metrics").await);
    replies.push(app.admin("/admin/privacy").await);
    for reply in replies {
        assert_eq!(reply.headers["x-content-type-options"], "nosniff", "{}", reply.text);
        assert_eq!(reply.headers["cache-control"], "no-store", "{}", reply.text);
        let cors = reply.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
        assert_eq!(cors, None, "{}", reply.text);
    }
}
