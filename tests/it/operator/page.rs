//! The page as the router gives it: every part in every state, who may see it, what may be done from it.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use scoreline::monitoring::Monitoring;
use scoreline_domain::time::{Clock as _, SystemClock};
use scoreline_engine::inference::registry::Patience;
use scoreline_listener::PeerAddress;
use scoreline_store::{Settled, WriteOutcome};
use serde_json::json;

use crate::auth::key;
use crate::monitoring::{settings, watching};
use crate::support::identity::CredentialsFile;
use crate::support::test_app::{LeadPieces, Reply};
use crate::support::{TestApp, TestBundle};

const HERE: &str = "127.0.0.1:40000";
const SCRIPT: (&str, &str) = ("x-scoreline-action", "confirmed");
const SAME_SITE: (&str, &str) = ("sec-fetch-site", "same-origin");

/// Somebody on this machine.
pub async fn ask(app: &TestApp, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    ask_from(app, HERE, method, path, headers, body).await
}

async fn ask_from(app: &TestApp, peer: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
    let mut request = Request::builder().method(method).uri(path);
    if headers.iter().all(|(name, _)| *name != "host") {
        request = request.header("host", "127.0.0.1:8081");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::from(body.to_owned())).expect("a request");
    request.extensions_mut().insert(PeerAddress(peer.parse::<SocketAddr>().expect("an address")));
    app.send_admin(request).await
}

async fn page(app: &TestApp) -> String {
    let reply = ask(app, "GET", "/", &[], "").await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.text
}

/// The markup of one part.
fn part<'a>(page: &'a str, id: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("<section id=\"{id}\">")).unwrap_or_else(|| panic!("no {id} in {page}"));
    rest.split("</section>").next().expect("closed")
}

async fn predict(app: &TestApp, frequency: u32) {
    app.ok("/v1/predict/clv", json!({"features": {"recency_days": 30, "frequency_count": frequency}})).await;
}

/// Ends a second, as the supervised task does.
fn sample(app: &TestApp) {
    let loaded: Vec<_> = app.registry.all_serving().iter().map(|snapshot| *snapshot.digest()).collect();
    app.monitoring.traffic().sample(app.clock.now(), SystemClock.monotonic(), Duration::from_millis(3), &loaded);
}

#[tokio::test]
async fn a_server_that_is_well_says_so_and_shows_every_part() {
    let app = TestApp::new();
    sample(&app);
    for frequency in [1, 8, 8, 30] {
        predict(&app, frequency).await;
    }
    app.ok("/v1/predict/clv", json!({"features": {"frequency_count": 0}})).await;
    app.ok("/v1/genesys/clv", json!({"recency_days": 30, "frequency_count": 10})).await;
    sample(&app);
    let page = page(&app).await;
    assert!(page.starts_with("<!doctype html>\n<html lang=\"en\">"), "{page}");
    let status = part(&page, "status");
    assert!(status.contains("Ready.</b> 1 model serves."), "{status}");
    assert!(status.contains("0 % of the last hour's 6 answers came from a fallback."), "{status}");
    let rates = part(&page, "rates");
    assert!(rates.contains("aria-label=\"Requests:") && rates.contains("aria-label=\"Times:"), "{rates}");
    assert!(rates.contains("<th scope=\"row\">data actions</th>"), "{rates}");
    let mixes = part(&page, "mixes");
    assert!(mixes.contains("Source, last hour: model 83 %, cache 0 %, stale_cache 0 %, cold_start 17 %"), "{mixes}");
    assert!(mixes.contains("Tier, training of clv v1.2: High_Value"), "{mixes}");
    let models = part(&page, "models");
    let digest = app.registry.all_serving()[0].digest().to_string();
    for expected in
        ["<th scope=\"row\">clv <span class=\"nowrap\">v1.2</span>", "serving</b>", &digest[..8], "Roll back</button>"]
    {
        assert!(models.contains(expected), "{expected} in {models}");
    }
    let journal = part(&page, "journal");
    assert!(journal.contains("serves</b></td><td>clv v1.2</td><td></td><td>models folder"), "{journal}");
    assert!(part(&page, "candidates").contains("No version is on trial."));
    assert!(part(&page, "drift").contains("No model that serves carries a reference"));
    assert!(part(&page, "writes").contains("Nothing is written back and nothing is pushed."));
    assert!(part(&page, "slots").contains("2,500 calls a minute"), "{}", part(&page, "slots"));
    let tried = part(&page, "try");
    assert!(tried.contains("name=\"f.recency_days\"") && tried.contains("0 to 60 "), "{tried}");
}

#[tokio::test]
async fn a_page_may_load_its_own_script_and_nothing_else() {
    let app = TestApp::new();
    let reply = ask(&app, "GET", "/", &[], "").await;
    let header = |name: &str| reply.headers[name].to_str().expect("text").to_owned();
    let policy = header("content-security-policy");
    for rule in [
        "default-src 'none'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{rule} in {policy}");
    }
    assert_eq!((header("x-frame-options"), header("cache-control")), ("DENY".to_owned(), "no-store".to_owned()));
    // A form says where it comes from only to those who do not forbid it.
    assert_eq!(header("referrer-policy"), "same-origin");
    assert!(!reply.text.contains(" style=") && !reply.text.contains(" onclick="), "{}", reply.text);
    let script = ask(&app, "GET", "/operator/page.js", &[], "").await;
    assert_eq!(
        (script.status.as_u16(), script.headers["content-type"].to_str().ok()),
        (200, Some("text/javascript; charset=utf-8"))
    );
    assert!(script.text.lines().count() < 100 && script.text.contains("EventSource"));
}

#[tokio::test]
async fn a_refused_model_comes_first_and_what_it_says_stays_text() {
    let hostile = "</td><script>alert(1)</script>\"'&";
    let described = TestBundle::clv("v1.2")
        .edit("bundle_version = 1\n", &format!("bundle_version = 1\ndescription = '''{hostile}'''\n"));
    let app = TestApp::with(&[described], |_| {});
    TestBundle::clv("v1.3").edit("sha256 = \"", "sha256 = \"00").write(app.models.path());
    let bad = TestBundle::clv("v1.4")
        .edit("bundle_version = 1\n", &format!("bundle_version = 1\n'{}' = 1\n", hostile.replace('\'', "")));
    bad.write(app.models.path());
    app.registry.scan(Patience::Now);
    app.clock.advance(Duration::from_mins(12));
    let page = page(&app).await;
    let status = part(&page, "status");
    assert!(status.contains("Needs a look.</b> 2 things are wrong. 1 model serves."), "{status}");
    assert!(status.contains("<b>12 min</b> Model clv v1.3 is refused ("), "{status}");
    assert!(status.contains("operate.md#a-model-is-refused"), "{status}");
    let models = part(&page, "models");
    assert!(models.contains("refused</b>") && !models.contains("Promote clv v1.3"), "{models}");
    assert!(part(&page, "journal").contains("refused</b></td><td>clv v1.3</td><td>"));
    assert!(
        page.contains("&lt;/td&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;"),
        "the description is shown as text"
    );
    assert_eq!(page.matches("<script").count(), 1, "the page's own: {page}");
}

#[tokio::test]
async fn a_drift_alarm_names_its_column() {
    let app = watching("operator-drift", Monitoring::start(&settings(None)));
    let first = page(&app).await;
    assert!(part(&first, "drift").contains("The first window is open: it ends after 24 h with 400 rows"), "{first}");
    for _ in 0..2 {
        app.day(&[30]).await;
    }
    let page = page(&app).await;
    let status = part(&page, "status");
    assert!(
        status.contains("Drift of operator-drift v1.2: frequency_count, score no longer as in training."),
        "{status}"
    );
    let drift = part(&page, "drift");
    assert!(
        drift.contains("frequency_count <b class=\"bad\">alarm</b>") && drift.contains("class=\"over\""),
        "{drift}"
    );
    assert!(drift.contains("up to 5: 0 %, in training 25 %"), "{drift}");
    assert!(part(&page, "models").contains("alarm</b>"));
    assert!(part(&page, "writes").contains("No jobs run here."));
}

/// An app with leads on their way to one target, the first of which is given up.
async fn with_a_dead_lead(folder: &tempfile::TempDir) -> TestApp {
    let store = crate::leads::store(folder).await;
    let leads = LeadPieces { store: store.clone(), targets: vec!["list".to_owned()], ..LeadPieces::default() };
    let app = TestApp::of_leads(&leads, None);
    for lead in ["LEAD-SECRET-1", "LEAD-SECRET-2"] {
        let told = app.post("/v1/leads/score", json!({"leadId": lead, "features": {"age": 35}}).to_string()).await;
        assert_eq!(told.status, 202, "{}", told.text);
    }
    let store = store.get().expect("open");
    let claims = store.claim_writes("list", "test", 1, app.clock.now(), Duration::from_mins(1)).await.expect("claimed");
    let reason = "400 of the platform: <b>no such column</b>";
    let settled: Vec<_> =
        claims.iter().map(|claim| Settled { claim, outcome: WriteOutcome::Dead { reason: reason.into() } }).collect();
    store.settle_writes("list", "test", &settled, app.clock.now()).await.expect("settled");
    app
}

#[tokio::test]
async fn a_dead_letter_is_counted_with_its_reason_and_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = with_a_dead_lead(&folder).await;
    app.clock.advance(Duration::from_hours(3));
    let before = page(&app).await;
    let status = part(&before, "status");
    assert!(status.contains("1 scores of leads could not be written to list and were given up."), "{status}");
    assert!(status.contains("1 scores of leads wait for list, the oldest for 3 h."), "{status}");
    let writes = part(&before, "writes");
    assert!(writes.contains("1 × 400 of the platform: &lt;b&gt;no such column&lt;/b&gt; (given up)"), "{writes}");
    assert!(writes.contains("2 leads have a score that counts, 0 one that is too old."), "{writes}");
    assert!(writes.contains("Retry leads") && writes.contains("operate.md#scores-cannot-be-written"), "{writes}");

    let refused = ask(&app, "POST", "/operator/act", &[], "action=retry_push").await;
    assert_eq!((refused.status.as_u16(), refused.json()["error"]["code"].as_str()), (403, Some("cross_site")));
    let done = ask(&app, "POST", "/operator/act", &[SCRIPT, SAME_SITE], "action=retry_push").await;
    assert_eq!((done.status.as_u16(), done.json()["message"].as_str()), (200, Some("1 are tried again.")));
    let after = page(&app).await;
    assert!(!part(&after, "status").contains("given up"), "{after}");
    assert!(
        part(&after, "journal").contains("push.retry</b> done</td><td>push</td><td></td><td>local</td>"),
        "{after}"
    );
}

#[tokio::test]
async fn answers_from_the_ladder_are_said_with_their_reason() {
    let app = TestApp::without_room(&[TestBundle::clv("v1.2")], scoreline::http::admission::WhenOverloaded::Fallback);
    sample(&app);
    for _ in 0..30 {
        predict(&app, 10).await;
    }
    sample(&app);
    let page = page(&app).await;
    let status = part(&page, "status");
    assert!(
        status.contains("100 % of the answers of the last ten minutes came from a fallback (model_overloaded)."),
        "{status}"
    );
    assert!(status.contains("operate.md#answers-come-from-fallbacks"), "{status}");
    assert!(part(&page, "mixes").contains("fallback 100 %"));
}

#[tokio::test]
async fn without_a_model_it_is_not_ready() {
    let app = TestApp::with(&[], |_| {});
    let page = page(&app).await;
    assert!(part(&page, "status").contains("Not ready.</b> 0 models serve."), "{page}");
    assert!(part(&page, "models").contains("No model is in the folder."));
    app.readiness.drain();
    assert!(self::page(&app).await.contains("Leaving.</b>"));
}

#[tokio::test]
async fn a_candidate_is_shown_with_how_far_it_is_apart() {
    let mode = scoreline_engine::inference::registry::CandidateMode::Canary { share: 1.0 };
    let version = scoreline_domain::ModelVersion::parse("v1.9").expect("a version");
    let settings = scoreline_engine::inference::registry::CandidateSettings { version, mode };
    let bundles = [TestBundle::clv("v1.2"), TestBundle::clv("v1.9").with_log_mean(3.5)];
    let app = TestApp::trying(&bundles, &[("clv", settings)]);
    predict(&app, 10).await;
    let page = page(&app).await;
    let candidates = part(&page, "candidates");
    assert!(candidates.contains("clv v1.9</th><td>v1.2</td><td>canary"), "{candidates}");
    assert!(candidates.contains("rows more"), "{candidates}");
    assert!(part(&page, "models").contains("candidate</b>"));
}

#[tokio::test]
async fn only_this_machine_sees_it_where_nobody_is_asked_for_a_key() {
    let app = TestApp::new();
    for path in ["/", "/operator/live", "/operator/confirm?action=retry_push"] {
        assert_eq!(ask(&app, "GET", path, &[("host", "localhost:8081")], "").await.status, 200, "{path}");
        for (peer, host) in
            [("192.0.2.7:4", "192.0.2.1:8081"), (HERE, "scoreline.example.com"), ("192.0.2.7:4", "localhost")]
        {
            let refused = ask_from(&app, peer, "GET", path, &[("host", host)], "").await;
            assert_eq!(refused.status, 403, "{path} from {peer} to {host}: {}", refused.text);
            assert!(
                refused.json()["error"]["message"].as_str().is_some_and(|said| said.contains("auth.credentials_file"))
            );
        }
    }
    let act = "action=promote&model=clv&version=v1.2";
    assert_eq!(ask_from(&app, "192.0.2.7:4", "POST", "/operator/act", &[SCRIPT], act).await.status, 403);
}

#[tokio::test]
async fn where_keys_are_asked_for_it_asks_for_one_and_only_admin_sees_it() {
    let file = CredentialsFile::new("");
    let (admin, predicts) = (key(&file, "admin"), key(&file, "predict"));
    let app = TestApp::guarded(&file.settings());
    // From anywhere.
    let asked = ask_from(&app, "192.0.2.7:4", "GET", "/", &[("host", "scoreline.example.com")], "").await;
    assert_eq!(asked.status, 200);
    assert!(asked.text.contains("type=\"password\"") && !asked.text.contains("clv"), "{}", asked.text);
    for (given, status) in [("Bearer sk_nobody", 401), (predicts.as_str(), 403)] {
        let refused = ask(&app, "GET", "/", &[("authorization", given)], "").await;
        assert_eq!(refused.status, status, "{}", refused.text);
        let act = ask(&app, "POST", "/operator/act", &[("authorization", given), SCRIPT], "action=retry_push").await;
        assert_eq!(act.status, status, "{}", act.text);
    }
    for path in ["/operator/live", "/operator/confirm?action=retry_push"] {
        assert_eq!(ask(&app, "GET", path, &[], "").await.status, 401, "{path}");
    }
    let seen = ask(&app, "GET", "/", &[("authorization", &admin)], "").await;
    assert!(seen.status == 200 && seen.text.contains("1 model serves"), "{}", seen.text);
    assert!(!seen.text.contains(admin.trim_start_matches("Bearer ")));
    let act = "action=rollback&model=clv";
    let done = ask(&app, "POST", "/operator/act", &[("authorization", &admin)], act).await;
    assert_eq!(done.json()["error"]["code"], "model_not_changed", "{}", done.text);
    let seen = ask(&app, "GET", "/", &[("authorization", &admin)], "").await.text;
    assert!(
        part(&seen, "journal").contains("model.rollback</b> refused</td><td>clv</td><td></td><td>test key</td>"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_version_is_promoted_and_rolled_back_from_the_page() {
    let app = TestApp::with(&[TestBundle::clv("v1.2"), TestBundle::clv("v1.3").with_log_mean(3.5)], |_| {});
    let serving = || app.registry.all_serving()[0].version().to_string();
    assert_eq!(serving(), "v1.3");
    // Files that stand still.
    app.registry.scan(Patience::WhenStable);
    app.registry.scan(Patience::WhenStable);
    let promote = "action=promote&model=clv&version=v1.2";
    let elsewhere = [("sec-fetch-site", "cross-site"), SCRIPT];
    for headers in
        [&[][..], &elsewhere[..], &[("origin", "https://example.com")][..], &[("origin", "null"), SCRIPT][..]]
    {
        let refused = ask(&app, "POST", "/operator/act", headers, promote).await;
        assert_eq!(refused.json()["error"]["code"], "cross_site", "{headers:?}: {}", refused.text);
    }
    // As for whoever types it: a browser can be made to send that, too.
    let post = ask(&app, "POST", "/admin/models/clv/v1.2/promote", &[("origin", "https://example.com")], "").await;
    assert_eq!(post.status, 403, "{}", post.text);
    assert_eq!(serving(), "v1.3");

    // Without a script: a question, and the form behind it.
    let question = ask(&app, "GET", &format!("/operator/confirm?{promote}"), &[], "").await.text;
    assert!(question.contains("Let clv v1.2 serve, and keep it until somebody chooses another?"), "{question}");
    assert!(
        question.contains("<form method=\"post\" action=\"/operator/act\">") && !question.contains("<script"),
        "{question}"
    );
    let done = ask(&app, "POST", "/operator/act", &[SAME_SITE, ("origin", "null")], promote).await;
    assert_eq!(done.status, 303, "{}", done.text);
    assert_eq!(done.headers["location"], "/");
    assert_eq!(serving(), "v1.2");
    let page = page(&app).await;
    let journal = part(&page, "journal");
    assert!(journal.contains("model.promote</b> done</td><td>clv/v1.2</td><td></td><td>local</td>"), "{journal}");
    assert!(journal.contains("serves</b></td><td>clv v1.2</td><td></td><td>local</td>"), "under their name: {journal}");
    assert!(part(&page, "models").contains("promoted") && part(&page, "models").contains("Follow latest</button>"));

    let back = ask(&app, "POST", "/operator/act", &[SCRIPT], "action=latest&model=clv").await;
    assert_eq!(back.json()["message"], "clv v1.3 serves.", "{}", back.text);
    let unknown = ask(&app, "POST", "/operator/act", &[SCRIPT], "action=promote&model=clv&version=v9").await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    let told = ask(&app, "POST", "/operator/act", &[SAME_SITE], "action=promote&model=clv&version=%3Cscript%3E").await;
    assert!(
        told.status == 404 && told.text.contains("&lt;script&gt;") && !told.text.contains("<script>"),
        "{}",
        told.text
    );
}

#[tokio::test]
async fn a_question_is_tried_and_answered_as_everywhere() {
    let app = TestApp::new();
    let form = "model=clv&f.recency_days=30&f.frequency_count=10&f.sentiment_score_avg=&channel=";
    let refused = ask(&app, "POST", "/operator/try", &[], form).await;
    assert_eq!(refused.status, 403);
    let answer = ask(&app, "POST", "/operator/try", &[SCRIPT], form).await;
    let asked = json!({"features": {"recency_days": 30, "frequency_count": 10}});
    let same = app.ok("/v1/predict/clv", asked).await;
    let value = &same["prediction"]["clv_value_usd"];
    assert!(answer.text.contains(&format!("clv_value_usd</th><td>{value}</td>")), "{value}: {}", answer.text);
    assert!(answer.text.contains("Why, from the typical"), "{}", answer.text);
    let body = "{&quot;explain&quot;:true,&quot;features&quot;:{&quot;frequency_count&quot;:10,&quot;recency_days&quot;:30},&quot;model&quot;:&quot;clv&quot;}";
    assert!(answer.text.contains(&format!("/v1/predict/clv -d '{body}'")), "{}", answer.text);
    let whole = ask(&app, "POST", "/operator/try", &[SAME_SITE], form).await.text;
    assert!(part(&whole, "try").contains("clv_value_usd"), "without a script, on the page: {whole}");
    for (form, said) in [
        ("model=clv&f.frequency_count=many", "frequency_count"),
        ("model=%3Cb%3E&f.frequency_count=1", "is not loaded"),
        ("", "is not loaded"),
    ] {
        let told = ask(&app, "POST", "/operator/try", &[SCRIPT], form).await;
        assert!(told.text.contains("class=\"flag bad\"") && told.text.contains(said), "{form}: {}", told.text);
        assert!(!told.text.contains("<b>"), "{}", told.text);
    }
}

#[tokio::test]
async fn nobody_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let app = with_a_dead_lead(&folder).await;
    let ask_of = json!({"customerId": "CUSTOMER-SECRET", "features": {"recency_days": 31.5, "frequency_count": 7}});
    app.ok("/v1/predict/clv", ask_of).await;
    let failure = &app.admin("/admin/push").await.json()["targets"][0]["failures"][0];
    let key = failure["key"].as_str().expect("its first digits").to_owned();
    let page = page(&app).await;
    let live = ask(&app, "GET", "/operator/live", &[], "").await;
    assert_eq!(live.headers["content-type"], "text/event-stream");
    assert!(live.text.starts_with("retry: 2000\n\nevent: part\ndata: <section id=\"status\">"), "{}", live.text);
    assert_eq!(live.text.matches("event: part\n").count(), 9);
    for text in [&page, &live.text] {
        for secret in ["SECRET", "test pepper", "31.5", key.trim_end_matches('.')] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    eprintln!("the page is {} bytes, its events {} bytes", page.len(), live.text.len());
}
