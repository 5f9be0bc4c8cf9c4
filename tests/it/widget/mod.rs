//! The agent's page: who sees it, what it shows in each state and language, its headers, and that nothing leaks.

mod browser;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use scoreline::http::{WidgetAccess, WidgetSettings};
use scoreline::monitoring::book::PredictionLimits;
use scoreline::monitoring::{MonitoringSettings, WindowSettings};
use scoreline::scoring::feature_table::FeatureTable;
use scoreline_domain::CustomerKey;
use scoreline_domain::privacy::{IdHasher, LinkSigner};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::leaks::{CANARY, Server, ask, folder};
use crate::support::test_app::{Kept, Reply, WidgetPieces, privacy};
use crate::support::{TestApp, TestBundle};

const CLV: &str = "/v1/genesys/clv";
const CONVERSATION: &str = "11111111-2222-4333-8444-555555555555";
/// Of the documented request.
const FEATURES: &str = r#""recency_days":12,"frequency_count":48,"avg_handling_time_sec":245,"sentiment_score_avg":0.65,"topic_diversity":7"#;

fn table() -> FeatureTable {
    FeatureTable::new(Duration::from_hours(36))
}

fn shipped(widget: &WidgetPieces) -> TestApp {
    TestApp::paged(&table(), widget)
}

/// A question of a data action about the documented customer.
fn question(customer: &str) -> String {
    format!(r#"{{"customer_id":"{customer}","conversation_id":"{CONVERSATION}",{FEATURES}}}"#)
}

/// The address of the page that an answer names, without its host.
fn address(answer: &Value) -> String {
    let url = answer["widget_url"].as_str().unwrap_or_else(|| panic!("a page: {answer}"));
    url.strip_prefix("https://score.example.com").expect("the address of the settings").to_owned()
}

/// Without the styles.
fn content(reply: &Reply) -> String {
    let (head, rest) = reply.text.split_once("<style").expect("styles");
    let (_, body) = rest.split_once("</style>").expect("the end of the styles");
    format!("{head}{body}")
}

async fn open(app: &TestApp, address: &str, headers: &[(&str, &str)]) -> Reply {
    let request = headers.iter().fold(Request::get(address), |request, (name, value)| request.header(*name, *value));
    app.send(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test]
async fn a_data_action_answers_the_address_of_a_page_that_says_the_same() {
    let app = shipped(&WidgetPieces::default());
    let answer = app.ok_text(CLV, &question("CUST-1")).await;
    let reply = open(&app, &address(&answer), &[("sec-fetch-dest", "iframe")]).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let amount = |field: &str| format!("${:.0}", answer[field].as_f64().expect("an amount").round());
    let (low, high) = (amount("confidence_interval_low"), amount("confidence_interval_high"));
    let tier = answer["clv_tier"].as_str().expect("a tier").replace("_Value", " value");
    for told in [
        format!("<p class=\"tier\">{tier}</p><p class=\"value\">{}</p>", amount("clv_value_usd")),
        format!("90 in 100 such customers spend between {low} and {high}</p>"),
        "<h2>What moved it</h2>".to_owned(),
        "<p>calculated just now</p>".to_owned(),
    ] {
        assert!(reply.text.contains(&told), "{told} in {}", content(&reply));
    }
    // The limits are those that this customer was judged by, of whom no purchases are known.
    let (_, limits) = reply.text.split_once("medium from $").expect("limits");
    let (medium, rest) = limits.split_once(" · high from $").expect("two limits");
    let (high, _) = rest.split_once('<').expect("the end of the line");
    let value = answer["clv_value_usd"].as_f64().expect("an amount");
    let from = |limit: &str| limit.parse::<f64>().expect("dollars") - 0.5;
    let told = if value >= from(high) {
        "High value"
    } else if value >= from(medium) {
        "Medium value"
    } else {
        "Low value"
    };
    assert_eq!(told, tier, "{value} of {medium} and {high}");
    // Without a conversation there is nothing to look at, and without an address for pages nothing changes.
    let bare = app.ok_text(CLV, &format!("{{{FEATURES}}}")).await;
    assert!(bare.get("widget_url").is_none(), "{bare}");
    let off = TestApp::shipped(&table());
    let answer = off.ok_text(CLV, &question("CUST-1")).await;
    assert!(answer.get("widget_url").is_none(), "{answer}");
    assert_eq!(off.get("/widget?t=x").await.status, 404);
}

#[tokio::test]
async fn a_page_is_in_the_language_that_is_asked_for() {
    let app = shipped(&WidgetPieces::default());
    let new =
        format!(r#"{{"conversation_id":"{CONVERSATION}","acquisition_channel":"paid_search","frequency_count":0}}"#);
    let page = address(&app.ok_text(CLV, &new).await);
    for (suffix, accepted, lang) in [
        ("&lang=es", "de", "es"),
        ("&lang=fr-CA", "de", "fr"),
        ("", "it, de-CH;q=0.9", "de"),
        ("&lang=it", "*", "en"),
        ("", "", "en"),
    ] {
        let reply = open(&app, &format!("{page}{suffix}"), &[("accept-language", accepted)]).await;
        assert!(reply.text.contains(&format!("<html lang=\"{lang}\">")), "{suffix} {accepted}: {}", reply.text);
    }
    let spanish = open(&app, &format!("{page}&lang=es"), &[]).await;
    for told in ["Cliente nuevo: estimación a partir de quienes llegaron por «paid search»", "calculado ahora mismo"]
    {
        assert!(spanish.text.contains(told), "{told} in {}", content(&spanish));
    }
}

#[tokio::test]
async fn a_lead_has_a_page_of_its_own() {
    let app = shipped(&WidgetPieces::default());
    let lead = format!(
        r#"{{"lead_id":"LEAD-1","conversation_id":"{CONVERSATION}","age":40,"contact":"cellular","cons_conf_idx":-36.4,"cons_price_idx":93.994,"emp_var_rate":1.1,"euribor3m":4.858,"nr_employed":5191}}"#
    );
    let page = address(&app.ok_text("/v1/genesys/lead", &lead).await);
    let reply = open(&app, &format!("{page}&lang=fr"), &[]).await;
    // Whatever the model that is shipped says of this lead.
    for told in [
        "<html lang=\"fr\">",
        "<h1 id=\"t\">Priorité du prospect</h1><p class=\"tier\">Appeler ",
        "comparable",
        "calculé à l’instant",
        "La valeur décide quand on appelle, pas comment.",
    ] {
        assert!(reply.text.contains(told), "{told} in {}", content(&reply));
    }
    let refused = app.post("/v1/genesys/lead", r#"{"lead_id":"LEAD-1","conversation_id":"two words"}"#).await.json();
    assert_eq!((&refused["reason"], &refused["field"]), (&json!("invalid_field"), &json!("conversation_id")));
}

#[tokio::test]
async fn every_endpoint_that_answers_about_a_conversation_shows_it() {
    let settings = WidgetSettings { access: WidgetAccess::Conversation, ..WidgetPieces::default().settings };
    let bundles = [TestBundle::clv("v1.2"), TestBundle::lead("v1.0")];
    let app = TestApp::paged_with(&bundles, &WidgetPieces { settings, ..WidgetPieces::default() });
    let clv = json!({"recency_days": 30, "frequency_count": 10});
    let lead = json!({"age": 40, "contact": "cellular"});
    for (path, features) in [
        ("/v1/predict/clv", &clv),
        ("/v1/route/tier", &clv),
        ("/v1/genesys/clv", &clv),
        ("/v1/genesys/route", &clv),
        ("/v1/predict/lead", &lead),
        ("/v1/genesys/lead", &lead),
    ] {
        let id = path.replace('/', "-");
        let mut body = if path.contains("genesys") { features.clone() } else { json!({ "features": features }) };
        body["conversationId"] = json!(id);
        let before = app.get(&format!("/widget?conversation={id}")).await.text;
        assert!(before.contains("No score for this conversation yet."), "{path} {before}");
        app.ok(path, body).await;
        let after = app.get(&format!("/widget?conversation={id}")).await.text;
        assert!(after.contains("class=\"tier\"") && after.contains("calculated"), "{path} {after}");
    }
}

/// Links that are not what they were signed as, or not any more.
#[tokio::test]
async fn a_link_shows_its_own_conversation_with_its_own_customer_for_four_hours() {
    let app = shipped(&WidgetPieces::default());
    let page = address(&app.ok_text(CLV, &question("CUST-1")).await);
    let token = page.strip_prefix("/widget?t=").expect("a token");
    let seen = async |address: &str| {
        let reply = open(&app, address, &[("sec-fetch-dest", "iframe")]).await;
        (
            reply.status.as_u16(),
            reply.text.contains("High value")
                || reply.text.contains("Medium value")
                || reply.text.contains("Low value"),
        )
    };
    assert_eq!(seen(&page).await, (200, true));
    let signer = |pepper: &str| LinkSigner::new(&[], &privacy(pepper, &[]), Duration::from_hours(4));
    let hasher = IdHasher::new(&privacy("test pepper", &[]));
    let conversation = *hasher.lasting_key(&format!("conversation {CONVERSATION}")).as_bytes();
    let now = app.scorer.now();
    let signed = |pepper: &str, conversation: &[u8; 32], customer: Option<&CustomerKey>| {
        format!("/widget?t={}", signer(pepper).sign(conversation, customer, now))
    };
    let own = hasher.key("CUST-1");
    assert_eq!(seen(&signed("test pepper", &conversation, Some(&own))).await, (200, true), "signed alike");
    let changed = format!("{}{}", &token[..60], if &token[60..61] == "A" { "B" } else { "A" }) + &token[61..];
    for (address, shown, why) in [
        (signed("another pepper", &conversation, Some(&own)), (403, false), "another key"),
        (signed("test pepper", &[7; 32], Some(&own)), (200, false), "another conversation"),
        (signed("test pepper", &conversation, Some(&hasher.key("CUST-2"))), (403, false), "another customer"),
        (signed("test pepper", &conversation, None), (403, false), "nobody"),
        (format!("/widget?t={changed}"), (403, false), "changed"),
        (format!("/widget?t={}", &token[1..]), (403, false), "cut"),
        ("/widget?t=".to_owned(), (403, false), "empty"),
        ("/widget".to_owned(), (403, false), "no link"),
        (format!("/widget?conversation={CONVERSATION}"), (403, false), "an id where links are asked for"),
        ("/widget?t=%ff%fe&t=2".to_owned(), (403, false), "no query"),
    ] {
        assert_eq!(seen(&address).await, shown, "{why}");
    }
    // The conversation turns out to be with somebody else.
    app.ok_text(CLV, &question("CUST-2")).await;
    assert_eq!(seen(&page).await, (403, false));
    app.ok_text(CLV, &question("CUST-1")).await;
    app.clock.advance(Duration::from_hours(4) - Duration::from_secs(1));
    assert_eq!(seen(&page).await, (200, true));
    app.clock.advance(Duration::from_secs(1));
    assert_eq!(seen(&page).await, (403, false));
    let text = open(&app, &page, &[]).await.text;
    assert!(text.contains("This view has expired. Reopen the conversation."), "{text}");
}

#[tokio::test]
async fn the_key_before_is_taken_so_that_a_change_ends_no_link() {
    let secret = |text: &str| SecretString::from(text.to_owned());
    let app = |keys: &[&str]| {
        shipped(&WidgetPieces { keys: keys.iter().map(|key| secret(key)).collect(), ..WidgetPieces::default() })
    };
    let (old, new, newest) = ("the first key of this test, long enough", "the second key", "the third key");
    let before = app(&[old]);
    let page = address(&before.ok_text(CLV, &question("CUST-1")).await);
    assert_eq!(before.get(&page).await.status, 200);
    assert_eq!(app(&[new, old]).get(&page).await.status, 200, "unknown here, but a link of ours");
    assert_eq!(app(&[newest, new]).get(&page).await.status, 403);
}

#[tokio::test]
async fn after_an_erasure_a_link_says_so_and_shows_nothing() {
    let app = shipped(&WidgetPieces::default());
    let page = address(&app.ok_text(CLV, &question("CUST-1")).await);
    let erased = app.delete("/v1/customers/CUST-1").await.json();
    assert_eq!(erased["erased"]["conversations"], 1, "{erased}");
    let reply = open(&app, &format!("{page}&lang=de"), &[]).await;
    assert_eq!(reply.status, 200);
    insta::assert_snapshot!("widget_erased_de", content(&reply));
    // Answered again, nothing of them is kept; and the link of that answer says the same.
    let again = address(&app.ok_text(CLV, &question("CUST-1")).await);
    for page in [page, again] {
        let text = open(&app, &page, &[]).await.text;
        assert!(text.contains("Data of this customer was erased on request. No score."), "{text}");
    }
    assert!(app.conversations.expect("a page").is_empty());
}

#[tokio::test]
async fn the_id_of_a_conversation_is_enough_only_where_the_settings_say_so() {
    let settings = WidgetSettings { access: WidgetAccess::Conversation, ..WidgetPieces::default().settings };
    let app = shipped(&WidgetPieces { settings, ..WidgetPieces::default() });
    let of = |id: &str| format!("/widget?conversation={id}&lang=en-US");
    let unknown = open(&app, &of(CONVERSATION), &[]).await;
    assert!(unknown.text.contains("No score for this conversation yet."), "{}", unknown.text);
    let again = format!("href=\"?conversation={CONVERSATION}&amp;lang=en\"");
    assert!(unknown.text.contains(&again), "{}", unknown.text);
    let page = address(&app.ok_text(CLV, &question("CUST-1")).await);
    for address in [of(CONVERSATION), page] {
        let shown = open(&app, &address, &[]).await;
        assert!(shown.status == 200 && shown.text.contains("Customer value"), "{}", shown.text);
        assert!(shown.text.contains("class=\"tier\""), "{}", shown.text);
    }
    // What the platform did not fill in names nothing.
    assert_eq!(open(&app, &of("%7B%7BgcConversationId%7D%7D"), &[]).await.status, 403);
    assert_eq!(open(&app, &of("two%20words"), &[]).await.status, 403);
    app.clock.advance(Duration::from_hours(8) + Duration::from_secs(1));
    assert!(open(&app, &of(CONVERSATION), &[]).await.text.contains("No score for this conversation yet."));
}

#[tokio::test]
async fn a_page_stands_in_frames_of_the_desktop_alone_and_nothing_keeps_it() {
    let app = shipped(&WidgetPieces::default());
    let page = address(&app.ok_text(CLV, &question("CUST-1")).await);
    let reply = open(&app, &page, &[("sec-fetch-dest", "iframe")]).await;
    let header = |name: &str| reply.headers[name].to_str().expect("text").to_owned();
    let policy = header("content-security-policy");
    let (before, rest) = policy.split_once("'nonce-").expect("a nonce");
    let (nonce, after) = rest.split_once('\'').expect("its end");
    assert_eq!(before, "default-src 'none'; style-src ");
    assert_eq!(
        after,
        "; form-action 'self'; base-uri 'none'; frame-ancestors https://apps.mypurecloud.de https://*.mypurecloud.de"
    );
    assert!(reply.text.contains(&format!("<style nonce=\"{nonce}\">")) && nonce.len() == 32, "{nonce}");
    assert_eq!(header("referrer-policy"), "no-referrer");
    assert_eq!(header("cache-control"), "no-store");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-type"), "text/html; charset=utf-8");
    for absent in ["set-cookie", "x-frame-options", "access-control-allow-origin"] {
        assert!(!reply.headers.contains_key(absent), "{absent}");
    }
    assert!(!reply.text.contains("<script") && !reply.text.contains("style=\""), "{}", reply.text);
    for (destination, status) in [("iframe", 200), ("document", 403), ("frame", 403), ("object", 403), ("empty", 403)] {
        let reply = open(&app, &page, &[("sec-fetch-dest", destination)]).await;
        assert_eq!(reply.status, status, "{destination}");
        assert_eq!(reply.text.contains("class=\"tier\""), status == 200, "{destination}");
    }
    let settings = WidgetSettings { open_in_tab: true, ..WidgetPieces::default().settings };
    let app = shipped(&WidgetPieces { settings, ..WidgetPieces::default() });
    let page = address(&app.ok_text(CLV, &question("CUST-1")).await);
    assert_eq!(open(&app, &page, &[("sec-fetch-dest", "document")]).await.status, 200);
    assert_eq!(open(&app, &page, &[("sec-fetch-dest", "object")]).await.status, 403);
}

/// What a page may not hold: an identifier, or a hash of one.
#[tokio::test]
async fn a_page_holds_no_identifier_and_text_of_a_caller_stays_text() {
    let app = TestApp::paged_with(&[TestBundle::clv("v1.2")], &WidgetPieces::default());
    let asked = json!({
        "customer_id": CANARY, "conversation_id": CONVERSATION, "request_id": "req-of-the-caller",
        "recency_days": 30, "frequency_count": 10,
    });
    let answer = app.ok_text(CLV, &asked.to_string()).await;
    let page = address(&answer);
    let reply = open(&app, &page, &[]).await;
    let hasher = IdHasher::new(&privacy("test pepper", &[]));
    let hex = |key: CustomerKey| scoreline_domain::text::hex(key.as_bytes());
    let token = page.strip_prefix("/widget?t=").expect("a token");
    for text in [
        CANARY,
        CONVERSATION,
        "req-of-the-caller",
        &hex(hasher.key(CANARY)),
        &hex(hasher.lasting_key(&format!("conversation {CONVERSATION}"))),
        token,
    ] {
        assert!(!reply.text.contains(text), "{text} in {}", reply.text);
        assert!(text == token || !page.contains(text), "{text} in {page}");
    }
    let odd = open(&app, "/widget?t=%22%3E%3Cscript%3E&lang=%3Cb%3E", &[]).await;
    assert!(odd.status == 403 && !odd.text.contains("<script") && !odd.text.contains("<b>"), "{}", odd.text);
}

fn kept_settings() -> MonitoringSettings {
    let windows = WindowSettings { length: Duration::from_hours(24), least_rows: 100, most_rows: 1000 };
    let limits = PredictionLimits { predictions: 10, outcomes: 100, window: 100, sample_every: 0 };
    MonitoringSettings { windows, ledger: Some(limits), replay: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_shows_what_another_one_answered_as_long_as_the_store_has_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = Kept::open(folder.path(), &kept_settings()).await;
    let pieces = WidgetPieces { store: Arc::new(OnceLock::from(kept.store.clone())), ..WidgetPieces::default() };
    let (one, other) = (shipped(&pieces), shipped(&pieces));
    let page = address(&one.ok_text(CLV, &question("CUST-1")).await);
    assert!(other.get(&page).await.text.contains("No score for this conversation yet."));
    one.conversations.clone().expect("a page").keep(kept.store.clone(), async {}).await;
    let shown = other.get(&page).await;
    assert_eq!(content(&shown), content(&one.get(&page).await));
    assert!(shown.text.contains("class=\"tier\""), "{}", shown.text);
    // The other one answers later: its answer is the last one, here too.
    one.clock.advance(Duration::from_mins(1));
    other.clock.advance(Duration::from_mins(2));
    other.ok_text(CLV, &question("CUST-1").replace("48", "2")).await;
    other.conversations.clone().expect("a page").keep(kept.store.clone(), async {}).await;
    assert_ne!(content(&one.get(&page).await), content(&shown));
    kept.store.erase_customers(&[IdHasher::new(&privacy("test pepper", &[])).key("CUST-1")]).await.expect("erased");
    assert!(shipped(&pieces).get(&page).await.text.contains("No score for this conversation yet."));
    kept.close().await;
}

#[test]
fn the_log_of_a_server_says_nothing_of_a_pages_address() {
    let folder = folder();
    let server = Server::start(
        folder.path(),
        &[
            ("SCORELINE__PRIVACY__PEPPER", "a pepper of these tests, long enough"),
            ("SCORELINE__LOG__FILTER", "trace"),
            ("SCORELINE__WIDGET__URL", "http://127.0.0.1:8080"),
            ("SCORELINE__WIDGET__FRAME_ANCESTORS", "http://127.0.0.1:9000"),
        ],
    );
    let body = format!(
        r#"{{"customer_id":"{CANARY}","conversation_id":"{CANARY}-talk","recency_days":30,"frequency_count":10}}"#
    );
    let answer = ask(&server.listen, "POST", CLV, "", &body);
    let (_, rest) = answer.split_once("/widget?t=").expect("a page");
    let token = rest.split('"').next().expect("its end").to_owned();
    for query in [format!("t={token}"), format!("t={CANARY}"), format!("conversation={CANARY}&lang={CANARY}")] {
        let reply = ask(&server.listen, "GET", &format!("/widget?{query}"), "", "");
        assert!(reply.contains("<html lang=\"en\">") && !reply.contains(CANARY), "{reply}");
    }
    let log = server.stop("TERM");
    assert!(log.contains("\"route\":\"/widget\""), "{log}");
    for text in [CANARY, &token, "widget?"] {
        assert!(!log.contains(text), "{text}");
    }
}
