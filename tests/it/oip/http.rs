//! Over HTTP, with tensors in JSON and raw ones behind it.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use scoreline::auth::{self, RateRecord, Scopes};
use scoreline::http::admission::WhenOverloaded;
use scoreline::scoring::feature_table::FeatureTable;
use scoreline_domain::time::Timestamp;
use scoreline_engine::inference::registry::Patience;
use serde_json::{Value, json};

use super::{INFER, PREDICT, deflate, gzip, post, raw_text};
use crate::auth::key;
use crate::support::identity::{CredentialsFile, NOW};
use crate::support::test_app::LeadPieces;
use crate::support::{TestApp, TestBundle};

async fn infer(app: &TestApp, body: Value) -> Value {
    let answered = post(app, INFER, &[], body.to_string().into_bytes()).await;
    let (answer, _) = answered.parts();
    assert_eq!(answered.status, StatusCode::OK, "{answer}");
    answer
}

/// A request that is refused: its status, code and text.
async fn refused(app: &TestApp, path: &str, body: Value) -> (u16, String, String) {
    let answered = post(app, path, &[], body.to_string().into_bytes()).await;
    let (answer, _) = answered.parts();
    let text = |name: &str| answer[name].as_str().unwrap_or_else(|| panic!("`{name}` in {answer}")).to_owned();
    assert_eq!(answered.headers["x-request-id"], text("request_id").as_str());
    (answered.status.as_u16(), text("code"), text("error"))
}

fn tensor(name: &str, datatype: &str, data: &Value) -> Value {
    let rows = data.as_array().expect("a list").len();
    json!({"name": name, "datatype": datatype, "shape": [rows, 1], "data": data})
}

fn described(name: &str, datatype: &str, shape: &Value, data: &Value) -> Value {
    json!({"name": name, "datatype": datatype, "shape": shape, "data": data})
}

/// Two customers in JSON.
fn two() -> Vec<Value> {
    vec![tensor("recency_days", "FP32", &json!([30, 12])), tensor("frequency_count", "INT64", &json!([10, 48]))]
}

fn output<'a>(answer: &'a Value, name: &str) -> &'a Value {
    let outputs = answer["outputs"].as_array().expect("a list");
    outputs.iter().find(|output| output["name"] == name).unwrap_or_else(|| panic!("`{name}` in {answer}"))
}

/// A request with raw tensors behind its JSON, as `tritonclient` writes it by default.
fn binary(inputs: &[(&str, &str, usize, Vec<u8>)], more: &Value) -> (String, Vec<u8>) {
    let described = inputs.iter().map(|(name, datatype, rows, raw)| {
        json!({"name": name, "shape": [rows, 1], "datatype": datatype,
            "parameters": {"binary_data_size": raw.len()}})
    });
    let mut json = json!({"inputs": described.collect::<Value>()});
    json.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    let mut body = json.to_string().into_bytes();
    let length = body.len().to_string();
    body.extend(inputs.iter().flat_map(|(.., raw)| raw.clone()));
    (length, body)
}

fn raw<const N: usize>(numbers: impl IntoIterator<Item = [u8; N]>) -> Vec<u8> {
    numbers.into_iter().flatten().collect()
}

/// The texts of a raw tensor.
fn texts(mut raw: &[u8]) -> Vec<&str> {
    let mut texts = Vec::new();
    while let Some((length, rest)) = raw.split_first_chunk() {
        let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(str::from_utf8(text).expect("UTF-8"));
        raw = rest;
    }
    texts
}

/// The default request of `tritonclient`: no content type, everything raw.
fn triton_default() -> (String, Vec<u8>) {
    let inputs = [
        ("recency_days", "FP32", 2, raw([30f32, 12.0].map(f32::to_le_bytes))),
        ("frequency_count", "INT64", 2, raw([10i64, 48].map(i64::to_le_bytes))),
        ("sentiment_score_avg", "FP64", 2, raw([f64::NAN, 0.65].map(f64::to_le_bytes))),
        ("acquisition_channel", "BYTES", 2, [raw_text("web"), raw_text("")].concat()),
    ];
    binary(&inputs, &json!({"parameters": {"binary_data_output": true}}))
}

#[tokio::test]
async fn the_default_request_of_a_client_is_answered_in_its_form_and_as_v1_answers() {
    let app = TestApp::new();
    let (length, body) = triton_default();
    let answered = post(&app, INFER, &[("inference-header-content-length", &length)], body).await;
    assert_eq!(answered.status, StatusCode::OK, "{}", answered.body.escape_ascii());
    assert_eq!(answered.headers["content-type"], "application/octet-stream");
    let (json, mut rest) = answered.parts();
    assert_eq!((&json["model_name"], &json["model_version"]), (&json!("clv"), &json!("v1.2")));
    assert!(json.get("id").is_none(), "{json}");
    let mut outputs = Vec::new();
    for output in json["outputs"].as_array().expect("a list") {
        assert_eq!((&output["shape"], output.get("data")), (&json!([2, 1]), None));
        let size = usize::try_from(output["parameters"]["binary_data_size"].as_u64().expect("a size")).expect("small");
        let (own, others) = rest.split_at(size);
        rest = others;
        outputs.push((output["name"].as_str().expect("a name").to_owned(), output["datatype"].clone(), own));
    }
    assert!(rest.is_empty());
    let names: Vec<_> = outputs.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "clv_value_usd",
            "confidence_interval_low",
            "confidence_interval_high",
            "risk_score",
            "confidence_score",
            "clv_tier",
            "source"
        ]
    );
    for (row, features) in [
        json!({"recency_days": 30, "frequency_count": 10}),
        json!({"recency_days": 12, "frequency_count": 48, "sentiment_score_avg": 0.65}),
    ]
    .iter()
    .enumerate()
    {
        let expected = app.ok(PREDICT, json!({"features": features})).await;
        for (name, datatype, own) in &outputs {
            let expected = if name == "source" { &expected["metadata"] } else { &expected["prediction"] };
            if *datatype == "BYTES" {
                assert_eq!(texts(own)[row], expected[name].as_str().expect("a text"), "{name}");
                continue;
            }
            let (numbers, _) = own.as_chunks::<8>();
            let number = f64::from_le_bytes(numbers[row]);
            assert!(number.is_nan() || Some(number) == expected[name].as_f64(), "{name}: {number}, {expected}");
            assert_eq!(number.is_nan(), expected[name].is_null(), "{name}");
        }
    }
}

#[tokio::test]
async fn json_is_answered_as_json_with_the_id_and_the_outputs_that_were_asked_for() {
    let app = TestApp::new();
    // As `tritonclient` and `kserve` write it, with what neither the protocol nor we know.
    let body = json!({"model_name": "clv", "id": "r1", "inputs": two(),
        "outputs": [{"name": "clv_tier", "parameters": {"binary_data": false}}, {"name": "clv_value_usd"}],
        "parameters": {"priority": 1, "timeout": 5_000_000, "x": "y"}});
    let answered = post(&app, INFER, &[("content-type", "application/json")], body.to_string().into_bytes()).await;
    assert_eq!(answered.headers["x-request-id"], "r1");
    assert_eq!(answered.headers["content-type"], "application/json");
    let (answer, rest) = answered.parts();
    assert!(rest.is_empty());
    assert_eq!(answer["id"], "r1");
    let first = app.ok(PREDICT, json!({"features": {"recency_days": 30, "frequency_count": 10}})).await;
    let second = app.ok(PREDICT, json!({"features": {"recency_days": 12, "frequency_count": 48}})).await;
    let expected = |name: &str| json!([first["prediction"][name], second["prediction"][name]]);
    assert_eq!(
        answer["outputs"],
        json!([
            {"name": "clv_tier", "datatype": "BYTES", "shape": [2, 1], "data": expected("clv_tier")},
            {"name": "clv_value_usd", "datatype": "FP64", "shape": [2, 1], "data": expected("clv_value_usd")},
        ])
    );
    let parameters = &answer["parameters"];
    assert_eq!(parameters["interval_level"], 0.9);
    assert_eq!(parameters["scored_at"], first["metadata"]["scored_at"]);
    assert_eq!(parameters["warnings"], "imputed: sentiment_score_avg; imputed: topic_diversity");
    assert_eq!(parameters["model_digest"].as_str().expect("a digest").len(), 64);
}

#[tokio::test]
async fn every_way_to_write_a_number_and_a_shape_says_the_same() {
    let app = TestApp::new();
    let expected = infer(&app, json!({"inputs": two()})).await;
    let frequency = |datatype: &str, shape: Value, data: Value| {
        json!({"inputs": [
            {"name": "frequency_count", "datatype": datatype, "shape": shape, "data": data},
            {"name": "recency_days", "datatype": "FP64", "shape": [2], "data": [30, 12]},
        ]})
    };
    for datatype in ["UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64"] {
        for (shape, data) in [(json!([2]), json!([10, 48])), (json!([2, 1]), json!([[10], [48]]))] {
            let answer = infer(&app, frequency(datatype, shape, data)).await;
            assert_eq!(answer["outputs"], expected["outputs"], "{datatype}");
        }
    }
    let raw_forms = [
        ("UINT8", vec![10, 48]),
        ("INT16", raw([10i16, 48].map(i16::to_le_bytes))),
        ("UINT32", raw([10u32, 48].map(u32::to_le_bytes))),
        ("FP32", raw([10f32, 48.0].map(f32::to_le_bytes))),
    ];
    for (datatype, own) in raw_forms {
        let recency = raw([30f64, 12.0].map(f64::to_le_bytes));
        let (length, body) =
            binary(&[("recency_days", "FP64", 2, recency), ("frequency_count", datatype, 2, own)], &json!({}));
        let answered = post(&app, INFER, &[("inference-header-content-length", &length)], body).await;
        assert_eq!(answered.parts().0["outputs"], expected["outputs"], "{datatype}");
    }
    // All features in one tensor, in the order of the metadata.
    let all = json!({"name": "features", "datatype": "FP64", "shape": [2, 4],
        "data": [[30, 10, null, null], [12, 48, null, null]]});
    assert_eq!(infer(&app, json!({"inputs": [all]})).await["outputs"], expected["outputs"]);
}

#[tokio::test]
async fn packed_bodies_are_unpacked_and_never_beyond_the_limit() {
    let app = TestApp::new();
    let (length, body) = triton_default();
    let header = ("inference-header-content-length", length.as_str());
    let plain = post(&app, INFER, &[header], body.clone()).await;
    for (coding, packed) in [("gzip", gzip(&body)), ("deflate", deflate(&body)), ("identity", body.clone())] {
        let answered = post(&app, INFER, &[header, ("content-encoding", coding)], packed).await;
        assert_eq!(answered.status, StatusCode::OK, "{coding}: {}", answered.body.escape_ascii());
        assert_eq!(answered.parts().0["outputs"], plain.parts().0["outputs"]);
        assert_eq!(answered.parts().1, plain.parts().1, "{coding}");
    }
    let bomb = gzip(&vec![b' '; 50 << 20]);
    assert!(bomb.len() < 256 * 1024);
    for (coding, body, status, code) in [
        ("gzip", bomb, 413, "body_too_large"),
        ("gzip", body.clone(), 400, "body_unreadable"),
        ("br", body, 415, "unknown_content_encoding"),
    ] {
        let answered = post(&app, INFER, &[header, ("content-encoding", coding)], body).await;
        let (error, _) = answered.parts();
        assert_eq!((answered.status.as_u16(), error["code"].as_str()), (status, Some(code)), "{error}");
    }
}

#[tokio::test]
async fn what_is_known_beside_the_features_holds_for_all_rows_or_comes_row_by_row() {
    let app = TestApp::new();
    let by_channel = async |channel: &str| {
        let body = json!({"features": {"recency_days": 0, "frequency_count": 0}, "acquisition_channel": channel});
        app.ok(PREDICT, body).await["prediction"]["clv_value_usd"].clone()
    };
    let (referral, organic) = (by_channel("referral").await, by_channel("organic").await);
    assert_ne!(referral, organic);
    let cold =
        || vec![tensor("recency_days", "FP32", &json!([0, 0])), tensor("frequency_count", "FP32", &json!([0, 0]))];
    let for_all = infer(&app, json!({"inputs": cold(), "parameters": {"acquisition_channel": "referral"}})).await;
    assert_eq!(output(&for_all, "clv_value_usd")["data"], json!([referral, referral]));
    assert_eq!(output(&for_all, "source")["data"], json!(["cold_start", "cold_start"]));
    let mut inputs = cold();
    inputs.push(tensor("acquisition_channel", "BYTES", &json!(["organic", "referral"])));
    let each = infer(&app, json!({"inputs": inputs})).await;
    assert_eq!(output(&each, "clv_value_usd")["data"], json!([organic, referral]));

    // The customer's id is what the cache knows them by, as on `/v1`.
    let body = json!({"inputs": two(), "parameters": {"interval_level": 0.8}});
    let mut named = body.clone();
    named["inputs"].as_array_mut().expect("a list").push(tensor("customer_id", "BYTES", &json!(["C-1", "C-2"])));
    assert_eq!(output(&infer(&app, named.clone()).await, "source")["data"], json!(["model", "model"]));
    assert_eq!(output(&infer(&app, named).await, "source")["data"], json!(["cache", "cache"]));
    let question = json!({"features": {"recency_days": 12, "frequency_count": 48}, "customerId": "C-2",
        "interval_level": 0.8});
    assert_eq!(app.ok(PREDICT, question).await["metadata"]["source"], "cache");
    let level = infer(&app, body).await;
    assert_eq!(level["parameters"]["interval_level"], 0.8);

    // Only an id: nothing is stored of them here.
    let by_id = infer(&app, json!({"inputs": [], "parameters": {"customer_id": "C-9"}})).await;
    assert_eq!(output(&by_id, "source")["data"], json!(["cold_start"]));
    assert_eq!(by_id["parameters"]["warnings"], "stored_features_loading");
}

#[tokio::test]
async fn reasons_come_as_one_more_output_when_they_are_asked_for() {
    let app = TestApp::new();
    let answer = infer(&app, json!({"inputs": two(), "parameters": {"explain": true}})).await;
    let explanations = output(&answer, "explanation");
    assert_eq!(explanations["datatype"], "BYTES");
    let body = json!({"features": {"recency_days": 12, "frequency_count": 48}, "explain": true});
    let expected = app.ok(PREDICT, body).await["explanation"].clone();
    let second: Value = serde_json::from_str(explanations["data"][1].as_str().expect("a text")).expect("JSON");
    assert_eq!(second, expected);
    let without = infer(&app, json!({"inputs": two()})).await;
    assert!(!without.to_string().contains("explanation"), "{without}");
}

#[tokio::test]
async fn leads_are_placed_as_v1_places_them() {
    let rows = [
        json!({"age": 40, "campaign": 1, "contact": "cellular", "job": "admin.", "emp.var.rate": 1.1,
            "euribor3m": 4.858, "nr.employed": 5191, "cons.conf.idx": -36.4, "cons.price.idx": 93.994}),
        json!({"age": 60, "contact": "telephone", "poutcome": "success", "emp.var.rate": -1.8, "euribor3m": 1.3,
            "nr.employed": 5099.1, "cons.conf.idx": -36.4, "cons.price.idx": 93.9}),
    ];
    // Places depend on the leads before, so each way in asks a server of its own.
    let fresh = || TestApp::shipped(&FeatureTable::new(Duration::from_hours(36)));
    let app = fresh();
    let metadata = app.get("/v2/models/lead").await.json();
    let column = |input: &Value| {
        let name = input["name"].as_str().expect("a name");
        let values: Vec<_> = rows.iter().map(|row| row.get(name).cloned().unwrap_or_default()).collect();
        let given = values.iter().any(|value| !value.is_null());
        given.then(|| tensor(name, input["datatype"].as_str().expect("a type"), &Value::Array(values)))
    };
    let inputs: Vec<_> = metadata["inputs"].as_array().expect("a list").iter().filter_map(column).collect();
    assert!(inputs.iter().any(|input| input["datatype"] == "BYTES"), "{inputs:?}");
    let body = json!({"inputs": inputs, "parameters": {"lead_source": "referral"}});
    let answer = app.ok("/v2/models/lead/infer", body).await;
    let expected = rows.iter().map(|row| json!({"features": row, "lead_source": "referral"})).collect::<Value>();
    let expected = fresh().ok("/v1/predict/lead/batch", expected).await;
    for (row, expected) in expected["results"].as_array().expect("a list").iter().enumerate() {
        for name in ["priority_score", "conversion_probability"] {
            let told = output(&answer, name)["data"][row].as_f64();
            assert_eq!(told, expected["prediction"][name].as_f64(), "{name} of {row}: {answer}");
        }
        assert_eq!(output(&answer, "source")["data"][row], expected["metadata"]["source"]);
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_answered_as_asked_is_refused_in_words() {
    let app = TestApp::new();
    let inputs = |recency: Value| json!({"inputs": [recency, tensor("frequency_count", "FP32", &json!([10, 48]))]});
    let recency = |datatype, shape, data| described("recency_days", datatype, &shape, &data);
    let good = json!([30, 12]);
    for (body, code, said) in [
        (inputs(tensor("no_such", "FP32", &good)), "invalid_feature", "row 0: feature `no_such` is not known"),
        (inputs(recency("FP32", json!([3, 1]), good.clone())), "invalid_field", "with the same n as the other inputs"),
        (inputs(recency("FP32", json!([2, 2]), good.clone())), "invalid_field", "must have the shape [n] or [n, 1]"),
        (inputs(recency("FP32", json!([2]), json!([30]))), "invalid_field", "as many elements of FP32"),
        (inputs(recency("FP16", json!([2]), good.clone())), "invalid_field", "`inputs[0].datatype` must be one of"),
        (inputs(recency("BYTES", json!([2]), good.clone())), "invalid_field", "as many elements of BYTES"),
        (inputs(recency("BYTES", json!([2]), json!(["a", "b"]))), "invalid_feature", "must be a number"),
        (inputs(recency("FP32", json!([2]), json!([30, -1]))), "invalid_feature", "row 1: feature `recency_days`"),
        (inputs(recency("FP32", json!([2]), json!([30, {}]))), "invalid_field", "`inputs[0].data[1]` must be a number"),
        (inputs(recency("FP32", json!([2]), Value::Null)), "invalid_field", "must hold `data`"),
        (inputs(tensor("frequency_count", "FP32", &good)), "invalid_field", "is given twice"),
        (json!({"inputs": [tensor("frequency_count", "FP32", &json!([1]))]}), "invalid_feature", "is required"),
        (json!({"inputs": []}), "invalid_field", "either `features` or an id is required"),
        (json!([1]), "invalid_field", "`body` must be a JSON object"),
        (json!({"inputs": two(), "outputs": [{"name": "no_such"}]}), "invalid_field", "output `no_such` cannot be had"),
        (json!({"inputs": two(), "outputs": [{"name": "explanation"}]}), "invalid_field", "cannot be had"),
        (
            json!({"inputs": two(), "outputs": [{"name": "source", "parameters": {"classification": 2}}]}),
            "invalid_field",
            "`classification` of an output is not supported",
        ),
        (json!({"inputs": two(), "parameters": {"interval_level": 0.42}}), "invalid_field", "`interval_level` must be"),
        (json!({"inputs": two(), "parameters": {"timeout": -1}}), "invalid_field", "`parameters.timeout` must be"),
        (json!({"inputs": two(), "id": "a b"}), "invalid_field", "`id` must be 1 to 128 visible ASCII characters"),
    ] {
        let (status, found, text) = refused(&app, INFER, body.clone()).await;
        assert_eq!((status, found.as_str()), (400, code), "{body}: {text}");
        assert!(text.contains(said), "{body}: {text}");
    }
    let rows = json!({"inputs": [tensor("frequency_count", "FP32", &Value::Array(vec![json!(1); 101]))]});
    let (status, code, text) = refused(&app, INFER, rows).await;
    assert_eq!((status, code.as_str()), (413, "too_many_rows"), "{text}");
    assert_eq!(text, "a request must hold at most 100 rows");

    for (path, status, code) in [
        ("/v2/models/nobody/infer", 404, "not_found"),
        ("/v2/models/clv/versions/v9.9/infer", 404, "not_found"),
        ("/v2/models/clv/explain", 404, "not_found"),
        ("/v2/nowhere", 404, "not_found"),
        ("/v2/models/clv/config", 404, "not_found"),
        ("/v2/models/clv", 405, "method_not_allowed"),
    ] {
        let (found, told, text) = refused(&app, path, json!({"inputs": two()})).await;
        assert_eq!((found, told.as_str()), (status, code), "{path}: {text}");
    }
    let pinned = app.ok("/v2/models/clv/versions/v1.2/infer", json!({"inputs": two()})).await;
    assert_eq!(pinned["model_version"], "v1.2");
}

#[tokio::test]
async fn raw_tensors_must_be_what_the_json_says() {
    let app = TestApp::new();
    let (length, whole) = triton_default();
    let wrong_text = binary(
        &[("acquisition_channel", "BYTES", 1, vec![3, 0, 0, 0, 0xff, 0xff, 0xff])],
        &json!({"parameters": {"customer_id": "C-1"}}),
    );
    let far = usize::to_string(&(whole.len() + 1));
    for (length, body) in [
        (length.as_str(), whole[..whole.len() - 3].to_vec()),
        (length.as_str(), [whole.clone(), vec![0]].concat()),
        ("0", whole.clone()),
        (far.as_str(), whole.clone()),
        ("-1", whole.clone()),
        (wrong_text.0.as_str(), wrong_text.1),
    ] {
        let answered = post(&app, INFER, &[("inference-header-content-length", length)], body).await;
        let (error, _) = answered.parts();
        assert_eq!(answered.status, StatusCode::BAD_REQUEST, "{length}: {error}");
        assert!(error["error"].is_string() && error["code"].is_string(), "{error}");
    }
}

#[tokio::test]
async fn personal_data_is_refused_as_on_v1_and_never_repeated() {
    let app = TestApp::new();
    for body in [
        json!({"inputs": two(), "parameters": {"customer_id": "+49 151 23456789"}}),
        json!({"inputs": [tensor("customer_id", "BYTES", &json!(["+49 151 23456789"]))]}),
        json!({"inputs": [tensor("+4915123456789", "FP32", &json!([1]))]}),
        json!({"inputs": [tensor("anna@example.com", "FP32", &json!([1]))]}),
        json!({"inputs": two(), "id": "+4915123456789"}),
        json!({"inputs": two(), "parameters": {"segment": "anna@example.com"}}),
    ] {
        let (status, code, text) = refused(&app, INFER, body.clone()).await;
        assert_eq!((status, code.as_str()), (400, "pii_refused"), "{body}: {text}");
        assert!(!text.contains("151") && !text.contains("anna"), "{text}");
    }
    let wanted = json!({"inputs": two(), "outputs": [{"name": "anna@example.com"}]});
    let (.., text) = refused(&app, INFER, wanted).await;
    assert!(!text.contains("anna"), "{text}");
}

#[tokio::test]
async fn metadata_readiness_and_the_index_tell_how_models_stand() {
    let app = TestApp::new();
    let server = app.get("/v2").await.json();
    assert_eq!(server["name"], "scoreline");
    assert_eq!(server["extensions"], json!(["binary_tensor_data", "model_repository", "statistics"]));
    assert_eq!(app.get("/v2/health/live").await.json(), json!({"live": true}));
    assert_eq!(app.get("/v2/health/ready").await.json(), json!({"live": true, "ready": true}));
    for path in ["/v2/models/clv", "/v2/models/clv/versions/v1.2"] {
        let metadata = app.get(path).await.json();
        assert_eq!((&metadata["name"], &metadata["versions"]), (&json!("clv"), &json!(["v1.2"])));
        assert_eq!(metadata["platform"], "scoreline_linear");
        let input = |name: &str| json!({"name": name, "datatype": "FP32", "shape": [-1, 1]});
        let names = ["recency_days", "frequency_count", "sentiment_score_avg", "topic_diversity"];
        assert_eq!(metadata["inputs"], json!(names.map(input)));
        assert_eq!(metadata["outputs"][0], json!({"name": "clv_value_usd", "datatype": "FP64", "shape": [-1, 1]}));
        let properties = &metadata["properties"];
        assert_eq!((&properties["task"], &properties["horizon_days"]), (&json!("clv"), &json!("273")));
        assert_eq!(properties["required"], "recency_days,frequency_count");
        assert!(properties["units"].as_str().expect("a text").contains("recency_days=days"), "{properties}");
        let ready = app.get(&format!("{path}/ready")).await;
        assert_eq!(ready.json(), json!({"name": "clv", "ready": true}));
    }
    for path in ["/v2/models/nobody", "/v2/models/nobody/ready", "/v2/models/clv/versions/v9/ready"] {
        let reply = app.get(path).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (404, &json!("not_found")), "{path}");
    }
    // A version that is refused is told with its reason, and what served goes on.
    TestBundle::clv("v1.3").edit("sha256 = \"", "sha256 = \"0").write(app.models.path());
    TestBundle { name: "other".to_owned(), ..TestBundle::clv("v1.0") }
        .edit("sha256 = \"", "sha256 = \"0")
        .write(app.models.path());
    app.registry.scan(Patience::Now);
    let index = app.post("/v2/repository/index", "").await.json();
    let states: Vec<_> = index.as_array().expect("a list").iter().map(|it| (&it["version"], &it["state"])).collect();
    assert_eq!(states.len(), 3, "{index}");
    assert_eq!(index[0], json!({"name": "clv", "version": "v1.2", "state": "READY", "reason": ""}));
    assert_eq!(states[1], (&json!("v1.3"), &json!("UNAVAILABLE")));
    assert!(index[1]["reason"].as_str().expect("a text").starts_with("checksum: "), "{index}");
    let ready = app.ok("/v2/repository/index", json!({"ready": true})).await;
    assert_eq!(ready.as_array().map(Vec::len), Some(1), "{ready}");
    let unloaded = app.get("/v2/models/other/ready").await;
    assert_eq!((unloaded.status.as_u16(), &unloaded.json()["code"]), (503, &json!("no_model")));
    for call in ["load", "unload"] {
        let path = format!("/v2/repository/models/clv/{call}");
        let (status, code, text) = refused(&app, &path, json!({})).await;
        assert_eq!((status, code.as_str()), (403, "forbidden"), "{text}");
        assert!(text.contains("models are files"), "{text}");
    }
    app.readiness.drain();
    for path in ["/v2/health/ready", "/v2/models/clv/ready"] {
        let reply = app.get(path).await;
        assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(reply.json()["error"].is_string(), "{}", reply.text);
    }
}

#[tokio::test]
async fn statistics_count_rows_whichever_way_they_were_asked() {
    let app = TestApp::new();
    let count = async |path: &str| {
        let stats = app.get(path).await.json()["model_stats"][0].clone();
        assert_eq!((&stats["name"], &stats["version"]), (&json!("clv"), &json!("v1.2")), "{stats}");
        let success = &stats["inference_stats"]["success"];
        assert_eq!(success["count"], stats["inference_count"]);
        (stats["inference_count"].as_u64().expect("a count"), success["ns"].as_u64().expect("a time"))
    };
    assert_eq!(count("/v2/models/clv/stats").await, (0, 0));
    infer(&app, json!({"inputs": two()})).await;
    app.ok(PREDICT, json!({"features": {"recency_days": 12, "frequency_count": 48}})).await;
    for path in ["/v2/models/clv/stats", "/v2/models/clv/versions/v1.2/stats", "/v2/models/stats"] {
        let (rows, nanos) = count(path).await;
        assert!(rows == 3 && nanos > 500, "{path}: {rows} {nanos}");
    }
}

#[tokio::test]
async fn one_row_is_a_live_call_and_more_are_a_batch() {
    let one = json!({"inputs": [tensor("recency_days", "FP32", &json!([30])), tensor("frequency_count", "FP32", &json!([10]))]});
    let app = TestApp::without_room(&[TestBundle::clv("v1.2")], WhenOverloaded::Fallback);
    let answer = infer(&app, one.clone()).await;
    assert_eq!(output(&answer, "source")["data"], json!(["fallback"]));
    assert_eq!(answer["parameters"]["reason"], "model_overloaded");
    assert_eq!(output(&infer(&app, json!({"inputs": two()})).await, "source")["data"], json!(["model", "model"]));
    let app = TestApp::without_room(&[TestBundle::clv("v1.2")], WhenOverloaded::Refuse);
    let answered = post(&app, INFER, &[], one.to_string().into_bytes()).await;
    assert_eq!((answered.status.as_u16(), &answered.headers["retry-after"]), (503, &"1".parse().expect("a value")));
    assert_eq!(answered.parts().0["code"], "overloaded");
}

#[tokio::test]
async fn a_model_is_asked_with_the_scope_of_its_task() {
    let file = CredentialsFile::new("");
    let (predict, leads) = (key(&file, "predict"), key(&file, "leads"));
    let app = TestApp::guarded(&file.settings());
    let body = json!({"inputs": two()}).to_string().into_bytes();
    let status = async |path: &str, authorization: &str| {
        let answered = post(&app, path, &[("authorization", authorization)], body.clone()).await;
        (answered.status.as_u16(), answered.parts().0)
    };
    assert_eq!(status(INFER, &predict).await.0, 200);
    let (code, error) = status(INFER, &leads).await;
    assert_eq!(
        (code, &error["code"], &error["error"]),
        (403, &json!("forbidden"), &json!("the scope `predict` is required"))
    );
    assert_eq!(status("/v2/models/nobody/infer", &leads).await.0, 404);
    let nobody = post(&app, INFER, &[], body.clone()).await;
    assert_eq!((nobody.status.as_u16(), &nobody.parts().0["code"]), (401, &json!("unauthenticated")));
    assert_eq!(nobody.headers["www-authenticate"], "Bearer");
}

#[tokio::test]
async fn a_caller_has_the_rates_of_v1_and_a_lead_is_asked_about_with_its_own_scope() {
    let file = CredentialsFile::new("");
    let rates = RateRecord { predict_per_second: Some(1), predict_burst: Some(3), ..RateRecord::default() };
    let scopes = Scopes::parse(["predict", "leads"]).expect("scopes");
    let now = Timestamp::from_second(NOW).expect("a time");
    let both = auth::add_key(&file.path(), "both", scopes, rates, now).expect("made");
    let both = format!("Bearer {}", both.secret.as_str());
    let predict = key(&file, "predict");
    let app = TestApp::of_leads(&LeadPieces::default(), Some(&file.settings()));
    let body = json!({"inputs": two()}).to_string().into_bytes();
    let status = async |path: &str, authorization: &str| {
        let answered = post(&app, path, &[("authorization", authorization)], body.clone()).await;
        (answered.status.as_u16(), answered.parts().0)
    };
    assert_eq!(status(INFER, &both).await.0, 200);
    assert_eq!(status("/v2/models/nobody/infer", &both).await.0, 404, "it counts as well");
    assert_eq!(status(PREDICT, &both).await.0, 422, "of the same bucket");
    let (code, error) = status(INFER, &both).await;
    assert_eq!((code, &error["code"]), (429, &json!("rate_limited")), "{error}");
    // Another scope, another bucket; whoever has not got it is not told what the model reads.
    assert_eq!(status("/v2/models/lead/infer", &both).await.0, 400);
    for path in ["/v2/models/lead/infer", "/v2/models/lead/versions/v1.0/infer"] {
        let (code, error) = status(path, &predict).await;
        assert_eq!((code, &error["error"]), (403, &json!("the scope `leads` is required")), "{path}");
    }
    let metadata = Request::get("/v2/models/lead").header("authorization", &predict);
    let metadata = app.send_raw(metadata.body(Body::empty()).expect("a request")).await;
    assert_eq!(metadata.status, StatusCode::FORBIDDEN);
}
