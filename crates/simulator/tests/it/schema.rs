//! Every answer is what the platform's schema says, and has no field that the platform has not.

use std::collections::BTreeSet;

use jsonschema::Validator;
use scoreline_simulator::{FaultKind, FaultPlan, FaultRule, RetryAfter};
use serde_json::{Value, json};

use super::visitor::{AGGREGATES, JOBS, QUERY, Reply, Visitor, settings};

struct Schemas(Value);

impl Schemas {
    fn read() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/openapi-subset.json");
        let text = std::fs::read_to_string(path).expect("the fixture");
        Self(serde_json::from_str(&text).expect("JSON"))
    }

    /// The schema of an answer; errors all have the same.
    fn of(&self, method: &str, template: &str, status: u16) -> Value {
        let response = &self.0["paths"][template][method.to_lowercase()]["responses"][status.to_string()];
        let schema = &response["content"]["application/json"]["schema"];
        match schema {
            Value::Null if status >= 400 => json!({ "$ref": "#/components/schemas/ErrorBody" }),
            Value::Null => json!({}),
            known @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_)) => {
                known.clone()
            }
        }
    }

    fn check(&self, method: &str, template: &str, reply: &Reply) {
        let what = format!("{method} {template} {}", reply.status);
        assert!(reply.header("inin-correlation-id").is_some_and(|id| id.len() == 36), "{what}");
        if reply.status == 204 {
            assert!(reply.text.is_empty());
            return;
        }
        assert_eq!(reply.header("content-type"), Some("application/json"), "{what}");
        let schema = self.of(method, template, reply.status);
        let answer = reply.json();
        let validator = self.validator(&schema);
        let errors: Vec<String> =
            validator.iter_errors(&answer).map(|err| format!("{} at {}", err, err.instance_path())).collect();
        assert!(errors.is_empty(), "{what}: {errors:?}\n{}", reply.text);
        let mut unknown = BTreeSet::new();
        self.unknown_fields(&schema, &answer, "", &mut unknown);
        assert!(unknown.is_empty(), "{what}: fields the platform does not have: {unknown:?}");
    }

    fn validator(&self, schema: &Value) -> Validator {
        let mut root = schema.clone();
        root["components"] = self.0["components"].clone();
        let options = jsonschema::options().with_draft(jsonschema::Draft::Draft202012).should_validate_formats(true);
        options.build(&root).expect("a schema")
    }

    fn unknown_fields(&self, schema: &Value, value: &Value, path: &str, unknown: &mut BTreeSet<String>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.0.pointer(reference.trim_start_matches('#')).expect("a schema");
            return self.unknown_fields(target, value, path, unknown);
        }
        match value {
            Value::Array(values) => {
                for value in values {
                    self.unknown_fields(&schema["items"], value, path, unknown);
                }
            }
            Value::Object(fields) => {
                let Some(properties) = schema["properties"].as_object() else { return };
                let omitted = schema["x-omitted-from-subset"].as_array();
                for (name, value) in fields {
                    let own = format!("{path}/{name}");
                    match properties.get(name) {
                        Some(schema) => self.unknown_fields(schema, value, &own, unknown),
                        None if omitted.is_some_and(|omitted| omitted.contains(&json!(name))) => {}
                        None => drop(unknown.insert(own)),
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Everything there is to ask, with its template: conversations, then what belongs to customers and lists.
#[expect(clippy::too_many_lines, reason = "a list of questions")]
async fn questions(visitor: &Visitor) -> Vec<(&'static str, String, String, Option<Value>)> {
    let interval = "2026-11-15T00:00:00Z/2026-11-21T12:00:00Z";
    let query = json!({ "interval": interval, "paging": { "pageSize": 100, "pageNumber": 1 } });
    let found = visitor.ok("POST", QUERY, Some(&query)).await;
    let id = found["conversations"][0]["conversationId"].as_str().expect("a conversation").to_owned();
    let job = visitor.post(JOBS, &json!({ "interval": visitor.everything() })).await.json();
    let job = job["jobId"].as_str().expect("a job").to_owned();
    visitor.get(&format!("{JOBS}/{job}")).await;
    let aggregates = |by: &[&str], metric: &str| json!({ "interval": interval, "groupBy": by, "metrics": [metric] });
    let analysed = visitor
        .ok("POST", AGGREGATES, Some(&aggregates(&["conversationId"], "oSentimentScore")))
        .await["results"][0]["group"]["conversationId"]
        .as_str()
        .expect("an analysed conversation")
        .to_owned();
    let contact = visitor.simulator.contact(3).to_string();
    let list = visitor.simulator.contact_list().to_string();
    let contacts = "/api/v2/externalcontacts";
    let lists = "/api/v2/outbound/contactlists";
    let fields = json!({ "customFields": { "predicted_clv_value_number": 12.5, "clv_tier_text": "High_Value" } });
    let identifier = json!({ "type": "ExternalId", "value": "CUST-3" });
    let enrich = json!({ "matchingIdentifiers": [identifier], "action": "Upsert", "contact": fields });
    let lead = json!({ "id": "L1", "contactListId": list, "data": { "leadId": "L1", "ml_score": "87" } });
    let sweep = json!({ "contactIds": ["L1"], "contact": { "contactListId": list, "data": { "ml_score": "0" } } });
    let updated = visitor.ok("POST", &format!("{lists}/{list}/contacts"), Some(&json!([lead]))).await;
    assert_eq!(updated[0]["data"]["ml_score"], "87");
    let swept = visitor.ok("POST", &format!("{lists}/{list}/contacts/bulk/update"), Some(&sweep)).await;
    let at = |base: &str, rest: &str| format!("{base}{rest}");
    let details = "/api/v2/analytics/conversations";
    let patch = json!({ "changes": [
        { "field": "$.customFields.risk_score_number", "value": 0.25, "action": "Update" },
        { "field": "$.schema", "value": { "id": "6a1f0d2e-0000-4000-8000-000000000001", "version": 2 }, "action": "Update" },
    ] });
    let limits = "/api/v2/organizations/limits/namespaces";
    vec![
        ("POST", QUERY.to_owned(), QUERY.to_owned(), Some(query)),
        ("POST", JOBS.to_owned(), JOBS.to_owned(), Some(json!({ "interval": interval }))),
        ("GET", at(JOBS, "/availability"), at(JOBS, "/availability"), None),
        ("GET", at(JOBS, "/{jobId}"), format!("{JOBS}/{job}"), None),
        ("GET", at(JOBS, "/{jobId}/results"), format!("{JOBS}/{job}/results"), None),
        ("GET", at(details, "/details"), format!("{details}/details?id={id}"), None),
        ("GET", at(details, "/{conversationId}/details"), format!("{details}/{id}/details"), None),
        ("POST", AGGREGATES.to_owned(), AGGREGATES.to_owned(), Some(aggregates(&["queueId"], "oSentimentScore"))),
        (
            "POST",
            AGGREGATES.to_owned(),
            AGGREGATES.to_owned(),
            Some(aggregates(&["conversationId", "topicId"], "nTopicCommunications")),
        ),
        (
            "GET",
            "/api/v2/speechandtextanalytics/conversations/{conversationId}".to_owned(),
            format!("/api/v2/speechandtextanalytics/conversations/{analysed}"),
            None,
        ),
        ("GET", at(contacts, "/contacts/{contactId}"), format!("{contacts}/contacts/{contact}"), None),
        ("PUT", at(contacts, "/contacts/{contactId}"), format!("{contacts}/contacts/{contact}"), Some(fields.clone())),
        ("PATCH", at(contacts, "/contacts/{contactId}"), format!("{contacts}/contacts/{contact}"), Some(patch)),
        ("POST", at(contacts, "/contacts/enrich"), at(contacts, "/contacts/enrich"), Some(enrich.clone())),
        (
            "POST",
            at(contacts, "/bulk/contacts/enrich"),
            at(contacts, "/bulk/contacts/enrich"),
            Some(json!({ "entities": [enrich] })),
        ),
        (
            "POST",
            at(contacts, "/bulk/contacts/update"),
            at(contacts, "/bulk/contacts/update"),
            Some(
                json!({ "entities": [{ "id": contact, "customFields": fields["customFields"] }, { "id": "nobody" }] }),
            ),
        ),
        (
            "POST",
            at(contacts, "/identifierlookup/contacts"),
            at(contacts, "/identifierlookup/contacts"),
            Some(json!({ "type": "ExternalId", "value": "CUST-3" })),
        ),
        ("GET", at(limits, "/{namespaceName}"), at(limits, "/platform.api"), None),
        ("GET", at(limits, "/{namespaceName}/defaults"), at(limits, "/analytics/defaults"), None),
        ("GET", at(lists, "/{contactListId}"), format!("{lists}/{list}"), None),
        ("POST", at(lists, "/{contactListId}/contacts"), format!("{lists}/{list}/contacts"), Some(json!([lead]))),
        (
            "POST",
            at(lists, "/{contactListId}/contacts/bulk"),
            format!("{lists}/{list}/contacts/bulk"),
            Some(json!(["L1", "L2"])),
        ),
        (
            "POST",
            at(lists, "/{contactListId}/contacts/bulk/update"),
            format!("{lists}/{list}/contacts/bulk/update"),
            Some(sweep),
        ),
        (
            "GET",
            at(lists, "/{contactListId}/contacts/bulk/jobs/{jobId}"),
            format!("{lists}/{list}/contacts/bulk/jobs/{}", swept["id"].as_str().expect("a job")),
            None,
        ),
        (
            "POST",
            at(lists, "/{contactListId}/contacts/search"),
            format!("{lists}/{list}/contacts/search"),
            Some(
                json!({ "pageNumber": 1, "pageSize": 10, "contactSorts": [{ "fieldName": "ml_score", "numeric": true }] }),
            ),
        ),
        ("GET", at(lists, "/{contactListId}/contacts/{contactId}"), format!("{lists}/{list}/contacts/L1"), None),
        ("PUT", at(lists, "/{contactListId}/contacts/{contactId}"), format!("{lists}/{list}/contacts/L1"), Some(lead)),
        (
            "GET",
            "/api/v2/outbound/campaigns/{campaignId}".to_owned(),
            format!("/api/v2/outbound/campaigns/{}", visitor.simulator.campaign()),
            None,
        ),
        ("DELETE", at(JOBS, "/{jobId}"), format!("{JOBS}/{job}"), None),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_is_valid_whatever_the_seed() {
    let schemas = Schemas::read();
    for seed in 0..4 {
        let visitor = Visitor::new(scoreline_simulator::SimulatorSettings { seed, ..settings() }).await;
        schemas.check("POST", "/oauth/token", &visitor.ask_token("client_credentials").await);
        for (method, template, path, body) in questions(&visitor).await {
            let reply = visitor.send(method, &path, body.as_ref()).await;
            assert!(reply.status < 300, "{method} {path}: {}", reply.text);
            schemas.check(method, &template, &reply);
        }
    }
}

/// Several seeds' worth of conversations, each for itself: what a page's check would not name.
#[tokio::test(flavor = "multi_thread")]
async fn every_conversation_is_valid() {
    let schemas = Schemas::read();
    let validator = schemas.validator(&json!({ "$ref": "#/components/schemas/AnalyticsConversation" }));
    let mut checked = 0;
    for seed in 10..14 {
        let visitor = Visitor::new(scoreline_simulator::SimulatorSettings { seed, ..settings() }).await;
        for conversation in visitor.job(&visitor.everything(), 500).await {
            let errors: Vec<String> = validator.iter_errors(&conversation).map(|err| err.to_string()).collect();
            assert!(errors.is_empty(), "{errors:?} {conversation}");
            checked += 1;
        }
    }
    println!("{checked} conversations of 4 seeds are valid");
    assert!(checked > 200, "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_valid() {
    let schemas = Schemas::read();
    let mut visitor = Visitor::new(settings()).await;
    let questions = questions(&visitor).await;
    let limit_key = "details.jobs.rate.per.second".to_owned();
    let kinds = [
        FaultKind::TooManyRequests { retry_after: RetryAfter::Seconds(2), limit_key: limit_key.clone() },
        FaultKind::TooManyRequests { retry_after: RetryAfter::Missing, limit_key },
        FaultKind::Status(503),
        FaultKind::Status(504),
        FaultKind::Status(500),
    ];
    for kind in kinds {
        let rule = FaultRule::at("/api/**", kind);
        visitor.simulator.set_faults(FaultPlan { rules: vec![rule] });
        for (method, template, path, body) in &questions {
            let reply = visitor.send(method, path, body.as_ref()).await;
            assert!(reply.status >= 429, "{}", reply.text);
            schemas.check(method, template, &reply);
        }
    }
    visitor.simulator.set_faults(FaultPlan::default());
    let nonsense = json!({ "interval": "never", "entities": 1 });
    for (method, template, path, body) in &questions {
        if body.is_some() {
            let reply = visitor.send(method, path, Some(&nonsense)).await;
            assert_eq!(reply.status, 400, "{method} {path}: {}", reply.text);
            schemas.check(method, template, &reply);
        }
        if template.contains('{') {
            let nowhere: String = template
                .split('/')
                .map(|part| if part.starts_with('{') { "nowhere" } else { part })
                .collect::<Vec<_>>()
                .join("/");
            let reply = visitor.send(method, &nowhere, body.as_ref()).await;
            assert!([400, 404].contains(&reply.status), "{method} {nowhere}: {}", reply.text);
            schemas.check(method, template, &reply);
        }
        let reply = visitor.send("OPTIONS", path, None).await;
        assert_eq!(reply.status, 405);
        schemas.check(method, template, &reply);
    }
    let unknown = visitor.get("/api/v2/analytics/nothing").await;
    assert_eq!(unknown.status, 404);
    schemas.check("GET", "/", &unknown);
    visitor.token = "another".to_owned();
    for (method, template, path, body) in &questions {
        let reply = visitor.send(method, path, body.as_ref()).await;
        assert_eq!(reply.status, 401);
        schemas.check(method, template, &reply);
    }
}
