//! Predictions that nobody waits for: accepted, answered, told to a signed callback, through kills.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use scoreline_domain::privacy::signature::{Headers, Secret, TOLERANCE, Verifier};
use scoreline_domain::time::{Clock as _, Stopwatch, SystemClock};
use serde_json::{Value, json};

use crate::process::{Server, ask, get, models, post};
use crate::support::TestApp;
use crate::support::receiver::{Receiver, Told};
use crate::worker::served::{body, wait_for};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ASYNC: &str = "/v1/predict/clv/async";

/// What was told, after its signature was verified.
fn verified(told: &Told) -> Value {
    let header = |name| told.headers.get(name).map(String::as_str);
    let headers = Headers {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
    };
    let verifier = Verifier::new(vec![Secret::parse(SECRET).expect("a secret")], TOLERANCE, 1 << 20);
    let verified = verifier.verify(headers, &told.body, SystemClock.now());
    let said: Value = serde_json::from_slice(&told.body).expect("JSON");
    assert_eq!(verified.expect("signed").id, said["job"]["id"].as_str().expect("an id"));
    assert_eq!(header("content-type"), Some("application/json"));
    said
}

/// A server that may tell `receiver`, with its store in `folder`.
fn serve_telling(models: &Path, folder: &Path, receiver: &Receiver) -> Server {
    serve_telling_with(models, folder, receiver, &[])
}

pub fn serve_telling_with(models: &Path, folder: &Path, receiver: &Receiver, more: &[(&str, &str)]) -> Server {
    let secrets = folder.join("callbacks");
    std::fs::write(&secrets, format!("{SECRET}\n")).expect("written");
    let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
    std::fs::set_permissions(&secrets, private).expect("changed");
    let store = folder.join("scoreline.db");
    let environment = [
        ("SCORELINE__WRITE_BACK__CALLBACKS__SECRET_FILE", secrets.to_str().expect("text")),
        ("SCORELINE__WRITE_BACK__CALLBACKS__HOSTS", receiver.address.as_str()),
        ("SCORELINE__STORE__PATH", store.to_str().expect("text")),
    ];
    Server::start_with(models, &[&environment[..], more].concat())
}

fn accepted(reply: &str) -> String {
    assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
    let answer = body(reply);
    assert_eq!((&answer["status"], &answer["job"]["state"]), (&json!("accepted"), &json!("queued")), "{answer}");
    let id = answer["job"]["id"].as_str().expect("an id").to_owned();
    assert!(reply.to_lowercase().contains(&format!("location: /v1/jobs/{id}")), "{reply}");
    id
}

fn job(server: &Server, id: &str) -> Value {
    body(&get(&server.listen, &format!("/v1/jobs/{id}")))
}

fn finished(server: &Server, id: &str) -> Value {
    wait_for("the answer", || job(server, id)["job"]["state"] != "queued");
    job(server, id)
}

/// Without what differs between two runs.
fn settled(mut answer: Value) -> Value {
    for name in ["inference_latency_ms", "scored_at", "age_seconds", "source"] {
        answer["metadata"].as_object_mut().expect("an object").remove(name);
    }
    answer
}

#[test]
fn a_question_is_answered_later_as_it_would_be_at_once_and_told_until_it_is_taken() {
    let (models, folder) = (models(), tempfile::tempdir().expect("a folder"));
    let receiver = Receiver::start(&[500, 302, 200]);
    let server = serve_telling(models.path(), folder.path(), &receiver);
    let question = json!({"customerId": "CUST-LATER-77", "conversationId": "c-1", "request_id": "req-later", "explain": true,
        "model_version": "v1.1", "features": {"recency_days": 30, "frequency_count": 10, "sentiment_score_avg": 0.25}});
    let mut asked = question.clone();
    asked["callback_url"] = json!(receiver.url("/told?token=t"));
    let id = accepted(&post(&server.listen, ASYNC, &asked.to_string()));
    let answered = finished(&server, &id);
    assert_eq!((&answered["status"], &answered["job"]["state"]), (&json!("success"), &json!("done")), "{answered}");
    let at_once = body(&post(&server.listen, "/v1/predict/clv", &question.to_string()));
    assert_eq!(settled(answered["answer"].clone()), settled(at_once), "the same answer");
    assert_eq!(answered["answer"]["metadata"]["request_id"], "req-later");

    wait_for("the callback", || job(&server, &id)["callback"]["state"] == "told");
    let told = receiver.told();
    assert_eq!(told.len(), 3, "a failure, a redirect that is not followed, a success");
    for one in &told {
        let one = verified(one);
        assert_eq!((&one["job"], &one["answer"]), (&answered["job"], &answered["answer"]));
    }
    let over = job(&server, &id);
    assert_eq!(over["callback"]["attempts"], 3, "{over}");
    assert!(!over.to_string().contains("token=t"), "{over}");

    // Neither the identifier nor, once it is answered, the question is in the store.
    let files =
        ["scoreline.db", "scoreline.db-wal"].map(|name| std::fs::read(folder.path().join(name)).unwrap_or_default());
    let holds = |text: &str| files.iter().any(|file| file.windows(text.len()).any(|part| part == text.as_bytes()));
    assert!(holds(&id) && !holds("CUST-LATER-77"));

    let erased = "DELETE /v1/customers/CUST-LATER-77 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(ask(&server.listen, erased).starts_with("HTTP/1.1 200"));
    assert_eq!(job(&server, &id)["error"]["code"], "not_found");
    let again = post(&server.listen, ASYNC, &question.to_string());
    assert!(again.starts_with("HTTP/1.1 410") && again.contains("customer_erased"), "{again}");
    let metrics = get(&server.admin, "/metrics");
    assert!(metrics.contains("scoreline_callbacks_total{result=\"told\"} 1"), "{metrics}");
    server.signal("TERM");
    assert_eq!(server.wait(), 0);
}

#[test]
fn what_is_wrong_with_a_question_is_said_at_once_and_nothing_is_kept() {
    let (models, folder) = (models(), tempfile::tempdir().expect("a folder"));
    let receiver = Receiver::start(&[200]);
    let server = serve_telling(models.path(), folder.path(), &receiver);
    let good = json!({"recency_days": 30, "frequency_count": 10});
    for (question, status, field) in [
        (json!({}), 422, "features"),
        (json!({"features": {"recency_days": -1}}), 422, "features.recency_days"),
        (json!({"features": good, "colour": "red"}), 422, "colour"),
        (json!({"features": good, "model": "nobody"}), 422, "model"),
        (json!({"features": good, "interval_level": 0.42}), 422, "interval_level"),
        (json!({"features": good, "customerId": "mail@example.com"}), 422, "customerId"),
        (json!({"features": good, "callback_url": 7}), 422, "callback_url"),
        (json!({"features": good, "callback_url": "hooks.example.com"}), 422, "callback_url"),
        (json!({"features": good, "callback_url": "http://hooks.example.com/"}), 422, "callback_url"),
        (json!({"features": good, "callback_url": "https://hooks.example.com/"}), 422, "callback_url"),
        (
            json!({"features": good, "callback_url": format!("http://{}/admin/models/clv/rollback", server.admin)}),
            422,
            "callback_url",
        ),
        (json!({"features": good, "callback_url": "https://169.254.169.254/latest"}), 422, "callback_url"),
        (json!([]), 422, "body"),
    ] {
        let reply = post(&server.listen, ASYNC, &question.to_string());
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{question}: {reply}");
        assert_eq!(body(&reply)["error"]["field"], field, "{question}: {reply}");
    }
    for (broken, status) in [("{", 400), ("", 400)] {
        assert!(post(&server.listen, ASYNC, broken).starts_with(&format!("HTTP/1.1 {status}")), "{broken}");
    }
    let twice = r#"{"features":{"recency_days":1,"frequency_count":1},"features":{}}"#;
    let reply = post(&server.listen, ASYNC, twice);
    assert!(reply.starts_with("HTTP/1.1 422") || reply.starts_with("HTTP/1.1 400"), "{reply}");
    for unknown in ["nobody", "00000000-0000-4000-8000-000000000000", "%00"] {
        assert!(get(&server.listen, &format!("/v1/jobs/{unknown}")).starts_with("HTTP/1.1 404"), "{unknown}");
    }
    // By id: nothing is stored of the customer, which is an answer.
    let id = accepted(&post(&server.listen, ASYNC, &json!({"customerId": "C-1"}).to_string()));
    let answered = finished(&server, &id);
    assert_eq!(answered["answer"]["metadata"]["source"], "cold_start", "{answered}");
    assert_eq!(answered.get("callback"), None);
    assert!(get(&server.admin, "/metrics").contains("scoreline_questions_kept{stage=\"over\"} 1"));
    assert!(receiver.told().is_empty());
}

#[tokio::test]
async fn without_secrets_nobody_is_told_and_without_a_store_nothing_is_accepted() {
    let app = TestApp::new();
    let features = json!({"recency_days": 30, "frequency_count": 10});
    let reply =
        app.post(ASYNC, json!({"features": features, "callback_url": "https://example.com/"}).to_string()).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["field"]), (422, &json!("callback_url")));
    assert!(reply.text.contains("write_back.callbacks.secret_file"), "{}", reply.text);
    let reply = app.post(ASYNC, json!({"features": features}).to_string()).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["error"]["code"]), (503, &json!("store_unavailable")));
}

#[test]
fn what_was_accepted_is_answered_and_told_through_kills() {
    let (models, folder) = (models(), tempfile::tempdir().expect("a folder"));
    let receiver = Receiver::start(&[503]);
    let mut asked = BTreeMap::new();
    let watch = Stopwatch::start();
    for round in 0..4_u32 {
        let mut server = serve_telling(models.path(), folder.path(), &receiver);
        for number in 0..25_u32 {
            let features = json!({"recency_days": number, "frequency_count": 1 + round});
            let request = json!({"customerId": format!("K-{round}-{number}"), "features": features,
                "request_id": format!("r-{round}-{number}"), "callback_url": receiver.url("/")});
            let id = accepted(&post(&server.listen, ASYNC, &request.to_string()));
            asked.insert(id, format!("r-{round}-{number}"));
        }
        // SIGKILL, at another place each time.
        std::thread::sleep(Duration::from_millis(u64::from(round) * 7));
        server.child.kill().expect("killed");
        server.child.wait().expect("ended");
    }
    receiver.answers_from_now_on(200);
    let before = receiver.told().len();
    let server = serve_telling(models.path(), folder.path(), &receiver);
    let told = || -> BTreeSet<String> {
        receiver.told()[before..].iter().map(|told| told.headers["webhook-id"].clone()).collect()
    };
    wait_for("every callback", || told().len() == asked.len());
    for one in &receiver.told()[before..] {
        let one = verified(one);
        let id = one["job"]["id"].as_str().expect("an id");
        assert_eq!(one["answer"]["metadata"]["request_id"].as_str(), asked.get(id).map(String::as_str), "{one}");
    }
    for id in asked.keys() {
        let over = finished(&server, id);
        assert_eq!(over["job"]["state"], "done", "{over}");
    }
    wait_for("the last one to be settled", || asked.keys().all(|id| job(&server, id)["callback"]["state"] == "told"));
    println!("{} questions, 4 kills, {} calls, {:?}", asked.len(), receiver.told().len(), watch.elapsed());
}
