//! The OpenAPI document of each listener: it has every route and no other, names what the models that serve take, and is a
//! contract. Every other test's replies are held against it, see `support::contract`.

mod schemathesis;

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use insta::assert_json_snapshot;
use scoreline::http::{Access, ListenerName, ROUTES};
use scoreline::scoring::feature_table::FeatureTable;
use scoreline_engine::inference::registry::Patience;
use serde_json::{Value, json};

use crate::support::contract::Contract;
use crate::support::identity::CredentialsFile;
use crate::support::{TestApp, TestBundle};

async fn document(app: &TestApp, listener: ListenerName) -> Value {
    let reply = match listener {
        ListenerName::Public => app.get("/openapi.json").await,
        ListenerName::Admin => app.admin("/openapi.json").await,
    };
    assert_eq!(
        (reply.status, &reply.headers["content-type"]),
        (StatusCode::OK, &"application/json".parse().expect("a value"))
    );
    reply.json()
}

fn shipped() -> TestApp {
    TestApp::shipped(&FeatureTable::new(std::time::Duration::from_hours(36)))
}

/// Method and path of every operation.
fn operations(document: &Value) -> BTreeMap<(String, String), &Value> {
    let paths = document["paths"].as_object().expect("paths").iter();
    let of_path = |(path, methods): (&String, _)| {
        let methods: &serde_json::Map<String, Value> = Value::as_object(methods).expect("methods");
        methods.iter().map(|(method, operation)| ((method.to_uppercase(), path.clone()), operation)).collect::<Vec<_>>()
    };
    paths.flat_map(of_path).collect()
}

#[tokio::test]
async fn every_route_is_an_operation_and_every_operation_a_route() {
    let app = TestApp::guarded(&CredentialsFile::new("").settings());
    for listener in [ListenerName::Public, ListenerName::Admin] {
        let document = document(&app, listener).await;
        let mut operations = operations(&document);
        let mut ids = BTreeSet::new();
        // Calls of gRPC are described by the messages of their protocol.
        for row in ROUTES.iter().filter(|row| row.listener == listener && !row.is_call()) {
            let operation = operations.remove(&(row.method.to_string(), row.path.to_owned()));
            let operation = operation.unwrap_or_else(|| panic!("{} {} has no operation", row.method, row.path));
            let id = operation["operationId"].as_str().expect("an id");
            assert!(ids.insert(id.to_owned()), "{}: another route is called {id}, too", row.path);
            let scopes: BTreeSet<_> = operation["security"]
                .as_array()
                .expect("a list")
                .iter()
                .flat_map(|any| any.as_object().expect("an object").values())
                .flat_map(|scopes| scopes.as_array().expect("a list"))
                .filter_map(Value::as_str)
                .collect();
            let expected = match row.access {
                Access::Open => BTreeSet::new(),
                Access::Scoped(scope) | Access::SignedOr(scope) => BTreeSet::from([scope.as_str()]),
                Access::Scoring => BTreeSet::from(["leads", "predict"]),
            };
            assert_eq!(scopes, expected, "{}", row.path);
            let named: BTreeSet<_> = operation["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|parameter| parameter["in"] == "path")
                .filter_map(|parameter| parameter["name"].as_str())
                .collect();
            let parts = row.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
            assert_eq!(named, parts.collect(), "the placeholders of {}", row.path);
        }
        assert!(operations.is_empty(), "operations that no route has: {:?}", operations.keys());
    }
}

/// The contract, as the bundles of `models/` make it. A line that goes away is a caller that breaks.
#[tokio::test]
async fn the_documents_of_the_shipped_models_are_these() {
    let app = shipped();
    for (listener, name) in [(ListenerName::Public, "openapi_public"), (ListenerName::Admin, "openapi_admin")] {
        let document = document(&app, listener).await;
        assert_json_snapshot!(name, document, {".info.version" => "[version]", ".info[\"x-models\"][].digest" => "[digest]"});
    }
}

#[tokio::test]
async fn references_lead_somewhere_and_every_schema_is_used() {
    let app = shipped();
    for listener in [ListenerName::Public, ListenerName::Admin] {
        let document = document(&app, listener).await;
        let text = document.to_string();
        let mut used = BTreeSet::new();
        for part in text.split("\"$ref\":\"#").skip(1) {
            let pointer = part.split('"').next().expect("a pointer");
            assert!(document.pointer(pointer).is_some(), "{pointer}");
            used.extend(pointer.strip_prefix("/components/schemas/").map(str::to_owned));
        }
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let unused: Vec<_> = schemas.keys().filter(|name| !used.contains(*name)).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }
}

#[tokio::test]
async fn what_serves_now_says_what_is_taken() {
    let app = TestApp::new();
    let features = async || {
        let document = document(&app, ListenerName::Public).await;
        (document["info"]["x-models"].clone(), document["components"]["schemas"]["ClvFeatures"].clone())
    };
    let (models, before) = features().await;
    assert_eq!((&models[0]["name"], &models[0]["version"]), (&json!("clv"), &json!("v1.2")));
    assert_eq!(before["anyOf"][0]["required"], json!(["frequency_count", "recency_days"]));
    assert_eq!(before["properties"]["frequency_count"]["type"], json!(["integer", "null"]));
    assert_eq!(before["properties"]["sentiment_score_avg"]["minimum"], -1.0, "what is possible");
    assert!(before["properties"]["recency_days"].get("maximum").is_none(), "not what training saw");

    TestBundle::clv("v1.3")
        .edit("name = \"topic_diversity\"\nunit = \"count\"", "name = \"loyalty\"\nunit = \"points\"\nhighest = 9.5")
        .write(app.models.path());
    app.registry.scan(Patience::Now);
    let (models, after) = features().await;
    assert_eq!(models[0]["version"], "v1.3");
    assert_eq!(
        after["properties"]["loyalty"],
        json!({"type": ["number", "null"], "maximum": 9.5, "description": "loyalty (points)"})
    );
    let passed_over = after["properties"]["topic_diversity"]["description"].as_str().expect("text");
    assert!(passed_over.starts_with("Not read by this model: "), "{passed_over}");
}

#[tokio::test]
async fn documented_requests_are_answered_and_fit_their_schemas() {
    let app = shipped();
    let contract = Contract::new(document(&app, ListenerName::Public).await);
    let mut asked = 0;
    for ((method, path), operation) in operations(&contract.document) {
        let Some(content) = operation["requestBody"]["content"].get("application/json") else { continue };
        let example = &content["example"];
        let validator = contract.validator(&content["schema"]);
        assert!(validator.is_valid(example), "{path}: {example}");
        // Those that need a store say that there is none.
        let path = path.replace("{model}", "clv").replace("{version}", "v1.2");
        let request = Request::builder().method(method.as_str()).uri(path.as_str());
        let reply = app.send(request.body(Body::from(example.to_string())).expect("a request")).await;
        let is_there = ![503, 409].contains(&reply.status.as_u16());
        assert!(reply.status.is_success() || !is_there, "{path}: {}", reply.text);
        asked += u32::from(is_there);
    }
    assert!(asked > 5, "{asked} were answered");
}

#[tokio::test]
async fn features_of_another_model_are_told_apart() {
    let app = shipped();
    let contract = Contract::new(document(&app, ListenerName::Public).await);
    let schema = json!({"$ref": "#/components/schemas/PredictRequest"});
    let validator = contract.validator(&schema);
    let interactions = json!({"recency_days": 12, "frequency_count": 48});
    let purchases = json!({"recency_days": 12, "purchase_count": 5, "tenure_days": 300, "monetary_avg": 40});
    for (body, is_taken) in [
        (json!({"features": interactions}), true),
        (json!({"features": {"recency_days": 12}}), false),
        (json!({"features": {"frequency_count": 0}}), true),
        (json!({"features": {"purchase_count": 5, "frequency_count": 3}}), false),
        (json!({"features": purchases}), true),
        (json!({"model": "clv", "features": interactions}), true),
        (json!({"model": "clv-purchases", "features": purchases}), true),
        (json!({"model": "clv-purchases", "features": interactions}), false),
        (json!({"model": "lead", "features": interactions}), false),
        (json!({"customerId": "CUST-000042"}), true),
        (json!({}), false),
        (json!({"features": {"recency_days": -1, "frequency_count": 48}}), false),
        (json!({"features": {"recency_days": 12, "frequency_count": 48.5}}), false),
        (json!({"features": {"recency_days": 12, "frequency_count": 48, "colour": 1}}), false),
        (json!({"features": interactions, "colour": "red"}), false),
    ] {
        assert_eq!(validator.is_valid(&body), is_taken, "{body}");
        let reply = app.post("/v1/predict/clv", body.to_string()).await;
        assert_eq!(reply.status.is_success(), is_taken, "{body}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_document_is_sent_again_only_when_it_has_changed() {
    let app = TestApp::new();
    let asked = async |tag: &str| {
        let request = Request::get("/openapi.json").header("if-none-match", tag).body(Body::empty());
        app.send(request.expect("a request")).await
    };
    let etag = app.get("/openapi.json").await.headers["etag"].to_str().expect("text").to_owned();
    let known = asked(&etag).await;
    assert_eq!((known.status, known.text.as_str()), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(known.headers["etag"], etag.as_str());
    TestBundle::clv("v1.3").write(app.models.path());
    app.registry.scan(Patience::Now);
    let changed = asked(&etag).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_ne!(changed.headers["etag"], etag.as_str());
}

#[tokio::test]
async fn the_page_loads_from_this_server_alone() {
    let app = TestApp::guarded(&CredentialsFile::new("").settings());
    let page = app.get("/docs").await;
    assert_eq!(
        (page.status, page.headers["content-type"].to_str().expect("text")),
        (StatusCode::OK, "text/html; charset=utf-8")
    );
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
    assert!(!page.text.contains("//") && !page.text.contains("<script>"), "{}", page.text);
    let files: Vec<_> = page.text.split('"').filter(|text| text.starts_with("docs/")).collect();
    assert_eq!(files, ["docs/swagger-ui.css", "docs/swagger-ui-bundle.js", "docs/begin.js"]);
    for file in files {
        let reply = app.get(&format!("/{file}")).await;
        let content = reply.headers["content-type"].to_str().expect("text");
        let expected = if file.contains(".css") { "text/css; charset=utf-8" } else { "text/javascript; charset=utf-8" };
        assert_eq!((reply.status, content), (StatusCode::OK, expected), "{file}");
        assert!(reply.text.len() > 100, "{file}");
        assert_eq!(app.admin(&format!("/{file}")).await.text, reply.text);
    }
    assert_eq!(app.get("/docs/index.html").await.status, StatusCode::NOT_FOUND);
}
