//! The HTTP contract: documented shapes, the ladder, errors that name the field, and what a data action needs.

use axum::http::StatusCode;
use insta::assert_json_snapshot;
use scoreline::http::admission::WhenOverloaded;
use serde_json::{Value, json};
use std::time::Duration;

use crate::support::{TestApp, TestBundle};

const PREDICT: &str = "/v1/predict/clv";
const ROUTE: &str = "/v1/route/tier";

fn features(recency: f64, frequency: u32) -> Value {
    json!({"recency_days": recency, "frequency_count": frequency})
}

/// A bundle that loads and then fails on every row: about e^2236 is not finite.
fn failing(version: &str) -> TestBundle {
    TestBundle::clv(version)
        .with_log_mean(8.0)
        .edit("value = \"value\"", "value = { output = \"value\", apply = \"exp\" }")
}

#[tokio::test]
async fn the_documented_request_gets_the_documented_shape() {
    let app = TestApp::new();
    let body = json!({"features": {"recency_days": 12, "frequency_count": 48, "avg_handling_time_sec": 245,
        "sentiment_score_avg": 0.65, "topic_diversity": 7}, "model_version": "v1.2", "request_id": "req-998877"});
    let reply = app.post(PREDICT, body.to_string()).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert_eq!(reply.headers["x-request-id"], "req-998877");
    assert_json_snapshot!(reply.json(), {".metadata.inference_latency_ms" => "[latency]"});
    assert!(reply.json()["metadata"]["inference_latency_ms"].as_f64().is_some_and(|ms| ms > 0.0));
}

#[tokio::test]
async fn the_documented_feature_vector_is_accepted_as_it_is() {
    let app = TestApp::new();
    let body = json!({"customerId": "CUST-12345", "features": {"recency_days": 12, "frequency_count": 48,
        "avg_handling_time_sec": 245, "sentiment_score_avg": 0.65, "sentiment_trend_slope": 0.02,
        "topic_diversity": 7, "channel_preference_email": 1, "channel_preference_voice": 0},
        "timestamp_utc": "2023-10-27T14:30:00Z"});
    let answer = app.ok(PREDICT, body).await;
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["metadata"]["features_as_of"], "2023-10-27T14:30:00Z");
    let ignored =
        ["avg_handling_time_sec", "channel_preference_email", "channel_preference_voice", "sentiment_trend_slope"];
    let mut warnings = answer["metadata"]["warnings"].as_array().expect("a list").clone();
    warnings.sort_by_key(ToString::to_string);
    let mut expected: Vec<_> = ignored.iter().map(|name| json!(format!("ignored: {name}"))).collect();
    expected.push(json!("stale: timestamp_utc is 1120 days old"));
    assert_eq!(warnings, expected, "what the test's model does not read is said");
}

#[tokio::test]
async fn features_of_another_time_are_named_by_every_endpoint() {
    let app = TestApp::new();
    for (time, said) in [
        ("2025-11-21T10:00:00Z", Some("stale: timestamp_utc is 365 days old")),
        ("2026-11-20T09:59:59Z", Some("stale: timestamp_utc is 24 hours old")),
        ("2026-11-20T10:00:00", None),
        ("2026-11-21T10:05:00Z", None),
        ("2026-11-21T11:07:00+01:00", Some("future: timestamp_utc is 7 minutes ahead")),
        ("2027-11-21T10:00:00Z", Some("future: timestamp_utc is 365 days ahead")),
    ] {
        let nested = json!({"features": features(30.0, 10), "timestamp_utc": time});
        let flat = json!({"recency_days": 30, "frequency_count": 10, "timestamp_utc": time});
        let mut answers = vec![
            app.ok(PREDICT, nested.clone()).await["metadata"]["warnings"].clone(),
            app.ok(ROUTE, nested.clone()).await["metadata"]["warnings"].clone(),
            app.ok("/v1/predict/clv/batch", json!([nested])).await["results"][0]["metadata"]["warnings"].clone(),
        ];
        for action in ["/v1/genesys/clv", "/v1/genesys/route"] {
            let answer = app.ok(action, flat.clone()).await;
            answers.push(answer["warnings"].as_str().expect("a text").split("; ").collect());
        }
        for warnings in answers {
            let warnings = warnings.as_array().expect("a list");
            let about: Vec<_> =
                warnings.iter().filter(|warning| warning.to_string().contains("timestamp_utc")).collect();
            assert_eq!(about, said.map(Value::from).iter().collect::<Vec<_>>(), "{time}: {warnings:?}");
        }
    }
    // Stored features have a time of their own, and there are none here.
    let by_id = app.ok(PREDICT, json!({"customerId": "C-1", "timestamp_utc": "2025-11-21T10:00:00Z"})).await;
    assert!(!by_id["metadata"]["warnings"].to_string().contains("timestamp_utc"), "{by_id}");
}

#[tokio::test]
async fn missing_features_are_imputed_and_named_and_null_counts_as_missing() {
    let app = TestApp::new();
    let body = json!({"features": {"recency_days": 30, "frequency_count": 10, "topic_diversity": null}});
    let answer = app.ok(PREDICT, body).await;
    assert_eq!(answer["metadata"]["warnings"], json!(["imputed: sentiment_score_avg", "imputed: topic_diversity"]));
    // The golden row by hand: 0.5 * 1.5 * e^3.
    assert_eq!(answer["prediction"]["clv_value_usd"], 15.06);
    assert_eq!(answer["prediction"]["risk_score"], 0.5);
    // One-sided at a risk of one half: 15.064 + 1.0 * (15.064 + 5).
    assert_eq!(answer["prediction"]["confidence_interval_low"], 0.0);
    assert_eq!(answer["prediction"]["confidence_interval_high"], 35.13);
}

#[tokio::test]
async fn a_possible_value_outside_training_is_answered_with_a_warning() {
    let app = TestApp::new();
    let answer = app
        .ok(
            PREDICT,
            json!({"features": {"recency_days": 4000, "frequency_count": 10,
        "sentiment_score_avg": 0.0, "topic_diversity": 1}}),
        )
        .await;
    assert_eq!(answer["status"], "success");
    assert_eq!(answer["metadata"]["warnings"], json!(["outside_training_range: recency_days"]));
}

#[tokio::test]
async fn a_request_chooses_its_interval_level_and_a_wider_level_holds_a_narrower() {
    let app = TestApp::new();
    let high = async |level: f64, customer: &str| {
        let body = json!({"customerId": customer, "features": features(30.0, 10), "interval_level": level});
        let answer = app.ok(PREDICT, body).await;
        assert_eq!(answer["metadata"]["interval_level"], level);
        (answer["prediction"]["confidence_interval_high"].as_f64(), answer["metadata"]["source"].clone())
    };
    // 15.064 + 0.5 * 20.064 and 15.064 + 1.0 * 20.064; another level is another question to the cache.
    assert_eq!(high(0.8, "a").await, (Some(25.1), json!("model")));
    assert_eq!(high(0.8, "a").await, (Some(25.1), json!("cache")));
    assert_eq!(high(0.9, "a").await, (Some(35.13), json!("model")));
    // The last question alone is answered from the cache.
    assert_eq!(high(0.8, "a").await, (Some(25.1), json!("model")));
    let cold = json!({"features": features(30.0, 0), "interval_level": 0.8});
    let cold = app.ok(PREDICT, cold).await;
    assert_eq!(cold["metadata"]["interval_level"], 0.9, "baselines know one level");
    assert_eq!(cold["metadata"]["warnings"], json!(["interval_level_not_available"]));
}

#[tokio::test]
async fn a_customer_keeps_their_tier_inside_the_dead_band() {
    let banded = TestBundle::clv("v1.2").edit(
        "high = 40.0",
        "high = 40.0\nhysteresis = { medium = { fall = 0.5, rise = 2.0 }, high = { fall = 0.3, rise = 2.0 } }",
    );
    let app = TestApp::with(&[banded], |_| ());
    let tier = async |body: Value| app.ok(PREDICT, body).await["prediction"]["clv_tier"].clone();
    let near = |previous: &str| json!({"features": features(30.0, 10), "previous_tier": previous});
    // 15.06 USD: limits are 10 and 40.
    assert_eq!(tier(json!({"features": features(30.0, 10)})).await, "Medium_Value");
    assert_eq!(tier(near("Low_Value")).await, "Low_Value", "rises at 20");
    assert_eq!(tier(near("High_Value")).await, "High_Value", "falls at 12");
    // Without being told, the customer's last score is the tier they were in.
    let of = |recency: f64| json!({"customerId": "a", "features": features(recency, 10)});
    let first = tier(of(30.0)).await;
    let app_value = app.ok(PREDICT, of(75.0)).await;
    assert_eq!(first, "Medium_Value");
    let value = app_value["prediction"]["clv_value_usd"].as_f64().expect("a value");
    assert!((5.0..10.0).contains(&value), "{value} is under the limit and above where customers fall");
    assert_eq!(app_value["prediction"]["clv_tier"], "Medium_Value");
}

#[tokio::test]
async fn the_same_customer_and_features_come_from_the_cache_with_their_age() {
    let app = TestApp::new();
    let body = json!({"customerId": "CUST-1", "features": features(10.0, 5)});
    let first = app.ok(PREDICT, body.clone()).await;
    assert_eq!(first["metadata"]["source"], "model");
    app.clock.advance(Duration::from_hours(1));
    let second = app.ok(PREDICT, body.clone()).await;
    assert_eq!(second["metadata"]["source"], "cache");
    assert_eq!(second["metadata"]["age_seconds"], 3600);
    assert_eq!(second["metadata"]["scored_at"], first["metadata"]["scored_at"]);
    assert_eq!(second["prediction"], first["prediction"]);
    // Other features, another customer, or a day later: the model runs.
    let other = app.ok(PREDICT, json!({"customerId": "CUST-1", "features": features(11.0, 5)})).await;
    assert_eq!(other["metadata"]["source"], "model");
    let other = app.ok(PREDICT, json!({"customerId": "CUST-2", "features": features(10.0, 5)})).await;
    assert_eq!(other["metadata"]["source"], "model");
    app.clock.advance(Duration::from_hours(24));
    assert_eq!(app.ok(PREDICT, body).await["metadata"]["source"], "model");
}

#[tokio::test]
async fn a_swapped_model_never_answers_from_the_old_ones_cache() {
    let app = TestApp::new();
    let body = json!({"customerId": "CUST-1", "features": features(10.0, 5)});
    let old = app.ok(PREDICT, body.clone()).await;
    TestBundle::clv("v1.3").with_log_mean(4.0).write(app.models.path());
    app.registry.scan(scoreline_engine::inference::registry::Patience::Now);
    let new = app.ok(PREDICT, body).await;
    assert_eq!(
        (new["metadata"]["source"].as_str(), new["metadata"]["model_version"].as_str()),
        (Some("model"), Some("v1.3"))
    );
    assert_ne!(old["prediction"]["clv_value_usd"], new["prediction"]["clv_value_usd"]);
}

#[tokio::test]
async fn a_customer_without_history_gets_the_baseline_of_their_channel() {
    let app = TestApp::new();
    let cold = json!({"features": features(0.0, 0), "acquisition_channel": "referral", "request_id": "r"});
    assert_json_snapshot!(app.ok(PREDICT, cold).await, {".metadata.inference_latency_ms" => "[latency]"});
    let organic = app.ok(PREDICT, json!({"features": features(0.0, 0), "acquisition_channel": "organic"})).await;
    assert_eq!(organic["prediction"]["clv_value_usd"], 8.0);
    // A customer without history has no recency: nothing else is needed.
    for nothing in [json!({"frequency_count": 0}), json!({"frequency_count": 0, "recency_days": null})] {
        let answer = app.ok(PREDICT, json!({"features": nothing})).await;
        assert_eq!((&answer["status"], &answer["metadata"]["source"]), (&json!("success"), &json!("cold_start")));
    }
    // A customer id nobody has features for is a new customer too.
    let unknown = app.ok(PREDICT, json!({"customerId": "CUST-NEW"})).await;
    assert_eq!(unknown["metadata"]["source"], "cold_start");
    assert_eq!(unknown["prediction"]["clv_value_usd"], 20.0);
    let carrier = app.ok(PREDICT, json!({"customerId": "CUST-NEW", "acquisition_channel": "pigeon"})).await;
    assert_eq!(carrier["metadata"]["warnings"], json!(["stored_features_loading", "acquisition_channel_unknown"]));
    assert_eq!(carrier["prediction"]["confidence_score"], 0.3, "share of the group in its tier");
}

#[tokio::test]
async fn a_model_that_gives_no_number_is_answered_from_the_ladder() {
    let app = TestApp::with(&[failing("v1.2")], |_| {});
    let ask = |segment: Option<&str>, channel: Option<&str>| {
        let mut body = json!({"customerId": "CUST-1", "features": features(10.0, 5)});
        for (key, value) in [("segment", segment), ("acquisition_channel", channel)] {
            if let Some(value) = value {
                body[key] = json!(value);
            }
        }
        body
    };
    let answer = app.ok(PREDICT, ask(Some("loyal"), Some("referral"))).await;
    assert_eq!((&answer["status"], &answer["metadata"]["source"]), (&json!("fallback"), &json!("fallback")));
    assert_eq!(answer["metadata"]["reason"], "model_error");
    assert_eq!(answer["metadata"]["baseline"]["level"], "segment");
    assert_eq!(answer["prediction"]["clv_value_usd"], 60.0);
    assert_eq!(app.ok(PREDICT, ask(None, Some("referral"))).await["prediction"]["clv_value_usd"], 30.0);
    assert_eq!(app.ok(PREDICT, ask(None, None)).await["prediction"]["clv_value_usd"], 20.0);
}

#[tokio::test]
async fn a_failing_model_is_covered_by_the_customers_last_score() {
    let app = TestApp::new();
    let good = app.ok(PREDICT, json!({"customerId": "CUST-1", "features": features(10.0, 5)})).await;
    failing("v1.3").write(app.models.path());
    app.registry.scan(scoreline_engine::inference::registry::Patience::Now);
    app.clock.advance(Duration::from_mins(10));
    let answer = app.ok(PREDICT, json!({"customerId": "CUST-1", "features": features(10.0, 6)})).await;
    assert_eq!((&answer["status"], &answer["metadata"]["source"]), (&json!("fallback"), &json!("stale_cache")));
    assert_eq!(answer["metadata"]["age_seconds"], 600);
    assert_eq!(answer["metadata"]["model_version"], "v1.2", "the version that made the score");
    assert_eq!(answer["prediction"], good["prediction"]);
}

#[tokio::test]
async fn errors_name_the_field_and_never_repeat_the_value() {
    let app = TestApp::new();
    let cases = [
        (json!({"features": {"frequency_count": 1}}), "invalid_feature", "features.recency_days"),
        (json!({"features": features(-1.0, 1)}), "invalid_feature", "features.recency_days"),
        (
            json!({"features": {"recency_days": 1, "frequency_count": 1.5}}),
            "invalid_feature",
            "features.frequency_count",
        ),
        (
            json!({"features": {"recency_days": 1, "frequency_count": 1, "sentiment_score_avg": 1.5}}),
            "invalid_feature",
            "features.sentiment_score_avg",
        ),
        (
            json!({"features": {"recency_days": "SECRET", "frequency_count": 1}}),
            "invalid_feature",
            "features.recency_days",
        ),
        (json!({"features": {"recency_days": [1], "frequency_count": 1}}), "invalid_feature", "features.recency_days"),
        (json!({"features": {"recency_dayz": 1, "frequency_count": 1}}), "invalid_feature", "features.recency_dayz"),
        (json!({"features": "SECRET"}), "invalid_field", "features"),
        (json!({"features": features(1.0, 1), "customer": "SECRET"}), "invalid_field", "customer"),
        (json!({"features": features(1.0, 1), "customerId": 123.5}), "invalid_field", "customerId"),
        (json!({"features": features(1.0, 1), "customerId": ["SECRET"]}), "invalid_field", "customerId"),
        (json!({"features": features(1.0, 1), "timestamp_utc": "SECRET"}), "invalid_field", "timestamp_utc"),
        (json!({"features": features(1.0, 1), "request_id": "has space"}), "invalid_field", "request_id"),
        (json!({"features": features(1.0, 1), "model": "other"}), "unknown_model", "model"),
        (json!({"features": features(1.0, 1), "previous_tier": "SECRET"}), "invalid_field", "previous_tier"),
        (json!({"features": features(1.0, 1), "interval_level": "SECRET"}), "invalid_field", "interval_level"),
        (json!({"features": features(1.0, 1), "interval_level": 0.7}), "invalid_field", "interval_level"),
        (json!({}), "invalid_field", "features"),
        (json!([1]), "invalid_field", "body"),
    ];
    for (body, code, field) in cases {
        let reply = app.post(PREDICT, body.to_string()).await;
        assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY, "{body} -> {}", reply.text);
        let answer = reply.json();
        assert_eq!(answer["status"], "error");
        assert_eq!(
            (answer["error"]["code"].as_str(), answer["error"]["field"].as_str()),
            (Some(code), Some(field)),
            "{body}"
        );
        let message = answer["error"]["message"].as_str().expect("a message");
        assert!(message.contains(field.rsplit('.').next().expect("a name")), "{message}");
        assert!(!reply.text.contains("SECRET"), "{}", reply.text);
        assert_eq!(reply.headers["x-request-id"].to_str().ok(), answer["metadata"]["request_id"].as_str());
    }
    let reply = app.post(PREDICT, r#"{"features": {"recency_days": 1e999, "frequency_count": 1}}"#).await;
    assert_eq!(reply.json()["error"]["field"], "features.recency_days", "{}", reply.text);
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn broken_bodies_wrong_paths_and_methods_get_json_errors() {
    let app = TestApp::new();
    let cases = [
        (app.post(PREDICT, "{\"features\": ").await, 400, "malformed_json"),
        (app.post(PREDICT, "").await, 400, "malformed_json"),
        (app.post(PREDICT, "{\"features\": {\"recency_days\": NaN}}").await, 400, "malformed_json"),
        (app.post(PREDICT, " ".repeat(65 * 1024)).await, 413, "body_too_large"),
        (app.get(PREDICT).await, 405, "method_not_allowed"),
        (app.get("/v1/nothing").await, 404, "not_found"),
        (app.get("/metrics").await, 404, "not_found"),
        (app.get("/admin/models").await, 404, "not_found"),
    ];
    for (reply, status, code) in cases {
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text);
        assert_eq!(reply.json()["error"]["code"], code);
        assert!(reply.headers.contains_key("x-request-id"));
        assert_eq!(reply.headers["content-type"], "application/json");
    }
}

#[tokio::test]
async fn a_version_that_is_not_loaded_is_answered_with_a_warning_or_refused_in_strict_mode() {
    let body = json!({"features": {"recency_days": 1, "frequency_count": 1, "sentiment_score_avg": 0, "topic_diversity": 1},
        "model_version": "v9"});
    let answer = TestApp::new().ok(PREDICT, body.clone()).await;
    assert_eq!(answer["metadata"]["model_version"], "v1.2");
    assert_eq!(answer["metadata"]["warnings"], json!(["model_version_not_loaded: answered by v1.2"]));
    let strict = TestApp::with(&[TestBundle::clv("v1.2")], |settings| settings.strict_version = true);
    let reply = strict.post(PREDICT, body.to_string()).await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.json()["error"]["code"], "model_version_not_loaded");
}

#[tokio::test]
async fn routing_turns_the_tier_into_a_skill_and_uses_the_last_score() {
    let app = TestApp::new();
    // ln(spend) = 3 + 0.5 * 4 at frequency 50, P = e/(1 + e) at recency 0: about 163 USD.
    let high = json!({"customerId": "CUST-1", "features": features(0.0, 50), "request_id": "r"});
    let answer = app.ok(ROUTE, high).await;
    assert_json_snapshot!(answer, {".metadata.inference_latency_ms" => "[latency]"});
    // The next call is routed by that score, even with other features or none.
    let again = app.ok(ROUTE, json!({"customerId": "CUST-1", "features": features(300.0, 1)})).await;
    assert_eq!(again["metadata"]["source"], "cache");
    assert_eq!(again["routing"], answer["routing"]);
    let by_id = app.ok(ROUTE, json!({"customerId": "CUST-1"})).await;
    assert_eq!(by_id["routing"]["skill_id"], "SKILL_PREMIUM_SUPPORT");
    let unknown = app.ok(ROUTE, json!({"customerId": "CUST-2"})).await;
    assert_eq!(unknown["metadata"]["source"], "cold_start");
}

#[tokio::test]
async fn a_batch_answers_row_by_row_in_either_form() {
    let app = TestApp::new();
    let rows = [
        json!({"features": features(30.0, 10), "request_id": "a"}),
        json!({"features": {"recency_days": -1, "frequency_count": 1}, "request_id": "b"}),
        json!({"features": features(0.0, 0)}),
    ];
    let array = app.ok("/v1/predict/clv/batch", json!(rows)).await;
    assert_eq!(array["metadata"]["rows"], 3);
    assert_eq!(array["metadata"]["errors"], 1);
    assert_eq!(array["results"][0]["prediction"]["clv_value_usd"], 15.06);
    assert_eq!(array["results"][1]["error"]["field"], "features.recency_days");
    assert_eq!(array["results"][1]["row"], 1);
    assert_eq!(array["results"][1]["metadata"]["request_id"], "b");
    assert_eq!(array["results"][2]["metadata"]["source"], "cold_start");

    let ndjson = rows.map(|row| row.to_string()).join("\n") + "\n{broken\n";
    let reply = app.post("/v1/predict/clv/batch", ndjson).await;
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = reply.text.lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[0]["prediction"], array["results"][0]["prediction"]);
    assert_eq!(lines[3]["error"]["code"], "malformed_json");

    let many: Vec<_> = (0..101).map(|_| features(1.0, 1)).collect();
    let reply = app.post("/v1/predict/clv/batch", json!(many).to_string()).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (413, Some("too_many_rows")));
    let empty = app.ok("/v1/predict/clv/batch", json!([])).await;
    assert_eq!(empty["results"], json!([]));
}

#[tokio::test]
async fn data_actions_send_flat_scalars_and_always_get_200() {
    let app = TestApp::new();
    let flat = json!({"customer_id": "CUST-1", "recency_days": "30", "frequency_count": 10, "sentiment_score_avg": "",
        "topic_diversity": null, "avg_handling_time_sec": "${input.avg_handling_time_sec}", "model_version": "",
        "request_id": "conv-1"});
    let answer = app.ok("/v1/genesys/clv", flat).await;
    assert_json_snapshot!(answer, {".inference_latency_ms" => "[latency]"});
    assert!(
        answer
            .as_object()
            .expect("an object")
            .values()
            .all(|value| !value.is_object() && !value.is_array() && !value.is_null())
    );

    let route = app.ok("/v1/genesys/route", json!({"customer_id": "CUST-1"})).await;
    assert_eq!((route["source"].as_str(), route["skill_id"].as_str()), (Some("cache"), Some("SKILL_PRIORITY_SUPPORT")));

    for (body, reason) in [
        (r#"{"recency_days": -1, "frequency_count": 3}"#, "invalid_feature"),
        (r#"{"recency_days": "abc", "frequency_count": 3}"#, "invalid_feature"),
        (r#"{"recency_days": [1]}"#, "invalid_field"),
        ("{broken", "malformed_json"),
        ("{}", "invalid_field"),
    ] {
        let reply = app.post("/v1/genesys/clv", body).await;
        assert_eq!(reply.status, StatusCode::OK, "{body}");
        let answer = reply.json();
        assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some("error"), Some(reason)), "{body}");
        assert_eq!(answer["clv_value_usd"], 20.0, "the neutral baseline keeps the flow going");
        assert_eq!((&answer["priority"], &answer["use_default_routing"]), (&json!(0), &json!(true)));
    }
    let reply = app.post("/v1/genesys/clv", " ".repeat(65 * 1024)).await;
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (StatusCode::OK, Some("body_too_large")));
}

#[tokio::test]
async fn a_live_call_without_room_gets_the_ladder_or_a_refusal_as_the_settings_say() {
    let bundles = [TestBundle::clv("v1.2"), TestBundle::lead("v1.0")];
    let clv = json!({"features": features(30.0, 10), "request_id": "req-1"});
    let lead = json!({"features": {"age": 40, "contact": "cellular"}, "request_id": "req-1"});
    for when in [WhenOverloaded::Fallback, WhenOverloaded::Refuse] {
        let app = TestApp::without_room(&bundles, when);
        for (path, body) in [(PREDICT, &clv), (ROUTE, &clv), ("/v1/predict/lead", &lead)] {
            let reply = app.post(path, body.to_string()).await;
            assert_eq!(reply.headers["x-request-id"], "req-1");
            let answer = reply.json();
            if when == WhenOverloaded::Fallback {
                assert_eq!((reply.status, &answer["status"]), (StatusCode::OK, &json!("fallback")), "{answer}");
                assert_eq!(answer["metadata"]["reason"], "model_overloaded");
            } else {
                assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{answer}");
                assert_eq!(reply.headers["retry-after"], "1");
                assert_eq!(answer["error"]["code"], "overloaded");
            }
        }
        let flat = json!({"recency_days": 30, "frequency_count": 10});
        let flat_lead = json!({"age": 40, "contact": "cellular"});
        let flows = [("/v1/genesys/clv", &flat), ("/v1/genesys/route", &flat), ("/v1/genesys/lead", &flat_lead)];
        for (path, body) in flows {
            let answer = app.ok(path, body.clone()).await;
            assert_eq!((&answer["status"], &answer["reason"]), (&json!("fallback"), &json!("model_overloaded")));
        }
        let batch = app.ok("/v1/predict/clv/batch", json!([clv])).await;
        assert_eq!(batch["results"][0]["status"], "success", "batches have room of their own");
        // What is wrong with a question is told before there is no room to answer it.
        let wrong = app.post(PREDICT, json!({"features": {"recency_days": -1}}).to_string()).await;
        assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", wrong.text);
    }
}

#[tokio::test]
async fn health_tells_the_truth() {
    let app = TestApp::new();
    assert_eq!(app.get("/health/live").await.status, StatusCode::OK);
    let ready = app.get("/health/ready").await;
    assert_eq!(ready.status, StatusCode::OK);
    assert_eq!(ready.json()["models"], json!([{"name": "clv", "version": "v1.2"}]));
    app.readiness.drain();
    let reply = app.get("/health/ready").await;
    assert_eq!((reply.status.as_u16(), reply.json()["status"].as_str()), (503, Some("draining")));

    let empty = TestApp::with(&[], |_| {});
    assert_eq!(empty.get("/health/live").await.status, StatusCode::OK);
    let reply = empty.get("/health/ready").await;
    assert_eq!((reply.status.as_u16(), reply.json()["status"].as_str()), (503, Some("no_model")));
    let reply = empty.post(PREDICT, json!({"features": features(1.0, 1)}).to_string()).await;
    assert_eq!((reply.status.as_u16(), reply.json()["error"]["code"].as_str()), (503, Some("no_model")));
}

#[tokio::test]
async fn a_data_action_carries_numbers_when_no_model_is_loaded() {
    let empty = TestApp::with(&[], |_| {});
    for action in ["/v1/genesys/clv", "/v1/genesys/route"] {
        for body in [json!({"customer_id": "C-1"}), json!({"recency_days": 1, "frequency_count": 1}), json!({})] {
            let answer = empty.ok(action, body.clone()).await;
            assert_eq!(
                (&answer["status"], &answer["clv_value_usd"]),
                (&json!("error"), &json!(0.0)),
                "{action} {body}"
            );
            assert_eq!(
                (&answer["clv_tier"], &answer["low_confidence"]),
                (&json!("Low_Value"), &json!(true)),
                "{answer}"
            );
            assert!(answer["skill_id"].is_string() && answer["priority"].is_u64(), "{answer}");
        }
    }
    let answer = empty.ok("/v1/genesys/lead", json!({"age": 40})).await;
    assert_eq!((&answer["status"], &answer["reason"]), (&json!("error"), &json!("no_model")));
    assert_eq!((&answer["priority_score"], &answer["conversion_probability"]), (&json!(1), &json!(0.0)));
}

#[tokio::test]
async fn admin_shows_models_and_metrics_with_real_histograms() {
    let app = TestApp::new();
    TestBundle::clv("v1.3").edit("sha256 = \"", "sha256 = \"00").write(app.models.path());
    app.registry.scan(scoreline_engine::inference::registry::Patience::Now);
    let models = app.admin("/admin/models").await.json();
    assert_eq!(models["models"][0]["state"], "serving");
    assert_eq!(models["models"][1]["state"], "refused");
    assert_eq!(models["models"][1]["code"], "checksum");
    assert!(models["models"][1]["reason"].as_str().is_some_and(|reason| reason.contains("SHA-256")));

    app.ok(PREDICT, json!({"customerId": "SECRET-ID", "features": features(1.0, 1)})).await;
    let metrics = app.admin("/metrics").await.text;
    for name in [
        "scoreline_http_request_duration_seconds_bucket{route=\"predict_clv\"",
        "scoreline_http_requests_total{route=\"predict_clv\",status=\"200\"}",
        "scoreline_predictions_total{source=\"model\"}",
        "scoreline_prediction_duration_seconds_bucket",
        "scoreline_model_state{model=\"clv\",version=\"v1.3\",state=\"refused\"} 1",
    ] {
        assert!(metrics.contains(name), "{name} is missing in\n{metrics}");
    }
    assert!(!metrics.contains("SECRET-ID"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "callers of a server are nobody's supervised tasks")]
async fn swaps_under_load_fail_nothing_and_mix_nothing() {
    let app = std::sync::Arc::new(TestApp::new());
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (app, stop) = (std::sync::Arc::clone(&app), std::sync::Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = std::collections::BTreeMap::new();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let body = json!({"customerId": format!("CUST-{caller}"), "features": features(30.0, 10)});
                    let answer = app.ok(PREDICT, body).await;
                    assert_eq!(answer["status"], "success");
                    let version = answer["metadata"]["model_version"].as_str().expect("a version").to_owned();
                    let value = answer["prediction"].clone();
                    let first = seen.entry(version).or_insert_with(|| value.clone());
                    assert_eq!(*first, value, "one version, one answer");
                    tokio::task::yield_now().await;
                }
                seen.len()
            })
        })
        .collect();
    let (registry, models) = (std::sync::Arc::clone(&app.registry), app.models.path().to_owned());
    tokio::task::spawn_blocking(move || {
        for version in 3..63 {
            // A log mean of its own for every version, so that a mixed answer could not go unseen.
            TestBundle::clv(&format!("v1.{version}")).with_log_mean(2.0 + f64::from(version) / 20.0).write(&models);
            let events = registry.scan(scoreline_engine::inference::registry::Patience::Now);
            assert_eq!(events.len(), 1, "{events:?}");
        }
    })
    .await
    .expect("every swap is published");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no caller failed") > 1, "callers saw versions change");
    }
}

#[tokio::test]
async fn names_that_callers_made_up_are_cut_and_personal_ones_are_told_by_their_place() {
    let app = TestApp::new();
    let long = "x".repeat(200);
    let phone = "4155550123";
    let known = r#""recency_days":30,"frequency_count":10"#;
    for (path, body, status, told) in [
        ("/v1/predict/clv", format!(r#"{{"features":{{{known},"{long}":1}}}}"#), 422, "xxx.."),
        ("/v1/predict/clv", format!(r#"{{"features":{{{known},"{phone}":1}}}}"#), 422, "name of field 3 in `features`"),
        (
            "/v1/predict/clv",
            format!(r#"{{"features":{{{known},"{phone}":[]}}}}"#),
            422,
            "name of field 3 in `features`",
        ),
        ("/v1/predict/clv", format!(r#"{{"{long}":1}}"#), 422, "xxx.."),
        (
            "/v1/predict/clv/batch",
            format!(r#"{{"features":{{{known},"{phone}":[]}}}}"#),
            200,
            "name of field 3 in `features`",
        ),
        ("/v1/genesys/clv", format!(r#"{{{known},"{long}":"1"}}"#), 200, "unknown: xxx"),
        ("/v1/genesys/clv", format!(r#"{{{known},"{phone}":"1"}}"#), 200, "unknown: a personal name"),
        ("/v1/genesys/clv", format!(r#"{{{known},"{phone}":[]}}"#), 200, "name of field 3 in "),
    ] {
        let reply = app.post(path, body.clone()).await;
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.text.contains(told), "{body}: {}", reply.text);
        assert!(!reply.text.contains(&long) && !reply.text.contains(phone), "{body}: {}", reply.text);
    }
}
