//! What the simulator holds to be true is what stands in what it serves, read by somebody who knows only the records.

use std::collections::{BTreeMap, BTreeSet};

use scoreline_domain::interaction::Sentiment;
use scoreline_simulator::{Expected, Party, SimulatorSettings};
use serde_json::{Value, json};
use uuid::Uuid;

use super::visitor::{AGGREGATES, Visitor, settings};

/// An interaction as read from a record: contact or address, start, end, channel, handle time, queue, wrap-ups.
#[derive(Debug, PartialEq)]
struct Seen {
    contact: Option<String>,
    address: Option<String>,
    start: String,
    end: Option<String>,
    channel: &'static str,
    handle_ms: Option<u64>,
    queue: Option<String>,
    wrap_ups: BTreeSet<String>,
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn read(conversation: &Value) -> Option<Seen> {
    let participants = || list(&conversation["participants"]);
    let customer =
        participants().find(|one| ["customer", "external"].contains(&one["purpose"].as_str().unwrap_or("")))?;
    let media: Vec<&str> = list(&customer["sessions"]).filter_map(|session| session["mediaType"].as_str()).collect();
    let channel = match media.last().copied() {
        Some("voice" | "callback") => "voice",
        Some("chat") => "chat",
        Some("message") => "message",
        Some("email") => "email",
        other => panic!("{other:?}"),
    };
    let first = list(&customer["sessions"]).next().expect("a session");
    let sessions = || participants().flat_map(|one| list(&one["sessions"]));
    let handles: Vec<u64> = sessions()
        .flat_map(|session| list(&session["metrics"]))
        .filter(|metric| metric["name"] == "tHandle")
        .filter_map(|metric| metric["value"].as_u64())
        .collect();
    let segments = || sessions().flat_map(|session| list(&session["segments"]));
    let staffed = participants().filter(|one| ["acd", "agent"].contains(&one["purpose"].as_str().unwrap_or("")));
    let queue = staffed
        .flat_map(|one| list(&one["sessions"]))
        .flat_map(|session| list(&session["segments"]))
        .filter_map(|segment| Some((segment["segmentStart"].as_str()?, text(&segment["queueId"])?)))
        .max_by(|a, b| a.0.cmp(b.0))
        .map(|(_, queue)| queue);
    Some(Seen {
        contact: text(&customer["externalContactId"]),
        address: text(&first["ani"]).or_else(|| text(&first["addressFrom"])),
        start: text(&conversation["conversationStart"]).expect("a start"),
        end: text(&conversation["conversationEnd"]),
        channel,
        handle_ms: (!handles.is_empty()).then(|| handles.iter().sum()),
        queue,
        wrap_ups: segments().filter_map(|segment| text(&segment["wrapUpCode"])).collect(),
    })
}

fn told(expected: &Expected) -> Seen {
    let (contact, address) = match &expected.party {
        Party::Contact { id, .. } => (Some(id.clone()), None),
        Party::Address(address) => (None, Some(address.clone())),
    };
    Seen {
        contact,
        address,
        start: format!("{:.3}", expected.start),
        end: expected.end.map(|end| format!("{end:.3}")),
        channel: expected.channel.as_str(),
        handle_ms: expected.handle_ms.map(u64::from),
        queue: expected.queue.as_deref().map(str::to_owned),
        wrap_ups: expected.wrap_ups.iter().map(ToString::to_string).collect(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_truth_is_what_stands_in_the_records() {
    let mut shapes = BTreeMap::new();
    for seed in 0..6 {
        let visitor = Visitor::new(SimulatorSettings { seed, customers: 60, ..settings() }).await;
        let truth: BTreeMap<String, Expected> = visitor
            .simulator
            .truth()
            .interactions()
            .map(|expected| (Uuid::from_bytes(expected.id.0).to_string(), expected))
            .collect();
        let mut found = 0;
        for conversation in visitor.job(&visitor.everything(), 137).await {
            let id = conversation["conversationId"].as_str().expect("an id");
            let Some(mut seen) = read(&conversation) else {
                assert!(!truth.contains_key(id), "nobody's conversation is no interaction");
                *shapes.entry("nobody").or_insert(0) += 1;
                continue;
            };
            let expected = truth.get(id).unwrap_or_else(|| panic!("{conversation}"));
            if seen.contact.is_some() {
                seen.address = None;
            }
            found += 1;
            let transferred = conversation.to_string().matches("\"tHandle\"").count() > 1;
            for (shape, is_so) in [
                ("open", seen.end.is_none()),
                ("anonymous", seen.contact.is_none()),
                ("not handled", seen.end.is_some() && seen.handle_ms.is_none()),
                ("transferred", transferred),
                ("not scored", expected.end.is_some() && expected.sentiment.is_none()),
                ("merged", matches!(&expected.party, Party::Contact { id, canonical } if id != canonical)),
            ] {
                *shapes.entry(shape).or_insert(0) += usize::from(is_so);
            }
            if seen.end.is_some() {
                assert_eq!(seen, told(expected), "{conversation}");
            } else {
                assert_eq!((expected.end, expected.handle_ms, expected.sentiment), (None, None, None));
            }
        }
        assert_eq!(found, truth.len(), "seed {seed}: every interaction is served once");
        sentiment_and_topics(&visitor, &truth).await;
    }
    println!("shapes: {shapes:?}");
    for shape in ["open", "anonymous", "not handled", "transferred", "not scored", "merged", "nobody"] {
        assert!(shapes.get(shape).is_some_and(|count| *count > 0), "{shape}: {shapes:?}");
    }
}

async fn sentiment_and_topics(visitor: &Visitor, truth: &BTreeMap<String, Expected>) {
    let ask = |by: &[&str], metric: &str| {
        json!({ "interval": visitor.everything(), "groupBy": by, "metrics": [metric],
            "filter": { "type": "and", "predicates": [{ "dimension": "resultsBy", "value": "communication" }] } })
    };
    let scored = visitor.ok("POST", AGGREGATES, Some(&ask(&["conversationId"], "oSentimentScore"))).await;
    let mut scores = BTreeMap::new();
    for group in list(&scored["results"]) {
        let stats = &group["data"][0]["metrics"][0]["stats"];
        let mean = stats["sum"].as_f64().expect("a sum") / stats["count"].as_f64().expect("a count");
        scores.insert(text(&group["group"]["conversationId"]).expect("an id"), (mean * 1e6).round() as i32);
    }
    let named =
        visitor.ok("POST", AGGREGATES, Some(&ask(&["conversationId", "topicId"], "nTopicCommunications"))).await;
    let mut topics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for group in list(&named["results"]) {
        let id = text(&group["group"]["conversationId"]).expect("an id");
        topics.entry(id).or_default().insert(text(&group["group"]["topicId"]).expect("a topic"));
    }
    for (id, expected) in truth {
        assert_eq!(scores.get(id).copied(), expected.sentiment.map(Sentiment::millionths), "{id}");
        let own: BTreeSet<String> = expected.topics.iter().map(ToString::to_string).collect();
        assert_eq!(topics.get(id).cloned().unwrap_or_default(), own, "{id}");
    }
    let (id, expected) = truth.iter().find(|(_, expected)| expected.sentiment.is_some()).expect("a scored one");
    let one = visitor.ok("GET", &format!("/api/v2/speechandtextanalytics/conversations/{id}"), None).await;
    assert_eq!(one["sentimentScore"].as_f64(), expected.sentiment.map(Sentiment::score));
    let (id, _) =
        truth.iter().find(|(_, one)| one.sentiment.is_none() && one.topics.is_empty()).expect("one that was not");
    assert_eq!(visitor.get(&format!("/api/v2/speechandtextanalytics/conversations/{id}")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_seed_is_the_same_world() {
    let pages = async |seed| {
        let visitor = Visitor::new(SimulatorSettings { seed, ..settings() }).await;
        let pages = visitor.job(&visitor.everything(), 100).await;
        (pages, visitor.simulator.truth().interactions().collect::<Vec<_>>())
    };
    let first = pages(3).await;
    assert_eq!(first, pages(3).await);
    assert_ne!(first.1, pages(4).await.1);
    let text = first.0.iter().map(Value::to_string).collect::<String>();
    for canary in ["NAME", "AGENT", "SUBJECT", "NOTE", "SAID", "MAIL", "ADDRESS", "REMOTE"] {
        assert!(text.contains(&format!("CANARY-{canary}-")), "{canary}");
    }
    assert!(text.contains("tel:+1555CANARY"));
}
