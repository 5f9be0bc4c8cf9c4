//! The agent's page in a real Chromium, with axe: every state in every language, light and dark, in frames and out of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::extract::Path as PathParameter;
use axum::response::Html;
use axum::routing::get;
use scoreline::conversations::{ConversationKey, GivenAnswer, GivenBaseline, GivenScore};
use scoreline::http::{WidgetAccess, WidgetSettings};
use scoreline_domain::privacy::{IdHasher, LinkSigner};
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_domain::words::Language;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Source, Tier};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{CLV, address, question, table};
use crate::support::TestApp;
use crate::support::test_app::{WidgetPieces, privacy};

/// Where Chromium may be; the test is skipped without.
const CHROMIUM: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
/// Requests behind each figure.
const TIMED: u32 = 200;

/// A page of a state.
struct State {
    name: &'static str,
    address: String,
}

fn baseline(level: &str, name: &str) -> GivenBaseline {
    GivenBaseline { level: level.to_owned(), name: name.to_owned() }
}

/// Answers by state, as the shipped models could give them.
fn answers(now: Timestamp) -> Vec<(&'static str, GivenAnswer)> {
    let before = |time: Duration| now.checked_sub(time).expect("in range");
    let clv = |value, high, tier, tier_probability, low_confidence| GivenScore::Clv {
        value,
        interval: Some((0.0, high, 0.9)),
        tier,
        tier_probability: Some(tier_probability),
        low_confidence,
        horizon_days: Some(273),
        limits: Some((29.91, 93.32)),
    };
    let sure = GivenAnswer {
        score: clv(101.9, 351.2, Tier::High, 0.83, false),
        source: Source::Model,
        model: ModelName::parse("clv").expect("a name"),
        version: ModelVersion::parse("v1.2").expect("a version"),
        scored_at: before(Duration::from_mins(3)),
        features_as_of: Some(before(Duration::from_hours(20))),
        is_old_history: false,
        baseline: None,
        row: None,
    };
    let unsure = GivenAnswer { score: clv(101.9, 351.2, Tier::High, 0.28, true), ..sure.clone() };
    vec![
        ("sure", sure.clone()),
        ("low_confidence", unsure.clone()),
        (
            "cold_start",
            GivenAnswer {
                score: clv(38.5, 104.4, Tier::Low, 0.5, true),
                source: Source::ColdStart,
                baseline: Some(baseline("channel", "web_search")),
                features_as_of: None,
                ..sure.clone()
            },
        ),
        (
            "stale",
            GivenAnswer {
                score: clv(61.2, 190.0, Tier::Medium, 0.81, false),
                source: Source::StaleCache,
                scored_at: before(Duration::from_hours(19)),
                ..sure.clone()
            },
        ),
        (
            "old_history",
            GivenAnswer { is_old_history: true, features_as_of: Some(before(Duration::from_hours(72))), ..unsure },
        ),
        (
            "fallback",
            GivenAnswer {
                source: Source::Fallback,
                baseline: Some(baseline("segment", "retail")),
                features_as_of: None,
                ..sure.clone()
            },
        ),
        ("lead", GivenAnswer { score: GivenScore::Lead { priority: 94, probability: 0.31 }, ..sure.clone() }),
        ("nothing_known", GivenAnswer { source: Source::ColdStart, baseline: Some(baseline("neutral", "")), ..sure }),
    ]
}

/// Every state, with the address of its page.
async fn states(app: &TestApp, url: &str) -> Vec<State> {
    let hasher = IdHasher::new(&privacy("test pepper", &[]));
    let signer = |lasts| LinkSigner::new(&[], &privacy("test pepper", &[]), lasts);
    let now = app.scorer.now();
    let link = |signer: &LinkSigner, conversation: &ConversationKey, customer: Option<&CustomerKey>| {
        format!("{url}/widget?t={}", signer.sign(conversation.as_bytes(), customer, now))
    };
    let usual = signer(Duration::from_hours(4));
    let book = app.conversations.clone().expect("a page");
    let answer = app.ok_text(CLV, &question("CUST-1")).await;
    let mut states = vec![State { name: "fresh", address: format!("{url}{}", address(&answer)) }];
    for (name, answer) in answers(now) {
        let conversation = ConversationKey::of(&hasher, name);
        book.note(conversation, None, answer);
        states.push(State { name, address: link(&usual, &conversation, None) });
    }
    let (conversation, erased) = (ConversationKey::of(&hasher, "erased"), hasher.key("CUST-9"));
    app.eraser.tombstones().lay(&[erased]);
    states.push(State { name: "erased", address: link(&usual, &conversation, Some(&erased)) });
    states.push(State { name: "unknown", address: link(&usual, &ConversationKey::of(&hasher, "unknown"), None) });
    states.push(State { name: "expired", address: link(&signer(Duration::ZERO), &conversation, None) });
    states
}

/// Serves a router on a free port of this machine.
#[expect(clippy::disallowed_methods, reason = "a test has no process that would stop its tasks")]
async fn serve(router: Router) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    drop(tokio::spawn(async move { axum::serve(listener, router).await }));
    port
}

/// A page with another one in a frame of this sandbox.
fn desk(source: &str, sandbox: Option<&str>) -> String {
    let sandbox = sandbox.map_or_else(String::new, |flags| format!(" sandbox=\"{flags}\""));
    let source = source.replace('&', "&amp;");
    format!("<!doctype html><title>desk</title><iframe width=340 height=520{sandbox} src=\"{source}\"></iframe>")
}

/// What the script needs beside this package, in `target/`; `None` with the reason when it cannot be had.
fn tools() -> Result<(PathBuf, &'static str), String> {
    let chromium = CHROMIUM.into_iter().find(|path| Path::new(path).exists());
    let chromium = chromium.ok_or("there is no Chromium (`apt-get install chromium`)")?;
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = here.join("target/widget");
    fs::create_dir_all(&folder).map_err(|err| err.to_string())?;
    for file in ["package.json", "package-lock.json", "look.mjs"] {
        fs::copy(here.join("tests/widget").join(file), folder.join(file)).map_err(|err| format!("{file}: {err}"))?;
    }
    if !folder.join("node_modules/axe-core").exists() {
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).output();
        let installed = installed.map_err(|err| format!("npm: {err}"))?;
        if !installed.status.success() {
            return Err(format!("npm ci: {}", String::from_utf8_lossy(&installed.stderr)));
        }
    }
    Ok((folder, chromium))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and npm"]
async fn a_real_browser_finds_nothing_wrong() {
    let (folder, chromium) = match tools() {
        Ok(tools) => tools,
        Err(missing) => return eprintln!("skipped: {missing}"),
    };
    let desks: Arc<OnceLock<Vec<String>>> = Arc::default();
    let shown = Arc::clone(&desks);
    let page = |PathParameter(number): PathParameter<usize>| async move {
        Html(shown.get().and_then(|desks| desks.get(number).cloned()).unwrap_or_default())
    };
    let desk_port = serve(Router::new().route("/desk/{number}", get(page))).await;
    let ancestors = format!("http://localhost:{desk_port}");
    let settings = WidgetSettings {
        url: "https://score.example.com".to_owned(),
        access: WidgetAccess::Signed,
        framed_by: ancestors.clone(),
        open_in_tab: true,
    };
    let app = Arc::new(TestApp::paged(&table(), &WidgetPieces { settings, ..WidgetPieces::default() }));
    let port = serve(app.public.router().clone()).await;
    let url = format!("http://127.0.0.1:{port}");
    let states = states(&app, &url).await;

    println!("state            bytes   ms (mean of {TIMED}, unoptimised)");
    for state in &states {
        let path = state.address.strip_prefix(&url).expect("an address of this server");
        let watch = Stopwatch::start();
        let mut bytes = 0;
        for _ in 0..TIMED {
            bytes = app.get(path).await.text.len();
        }
        println!("{:<14} {bytes:>7}   {:.3}", state.name, watch.elapsed_ms() / f64::from(TIMED));
    }

    let pages: Vec<Value> = Language::ALL
        .iter()
        .flat_map(|language| {
            let page = |state: &State| {
                let url = format!("{}&lang={}", state.address, language.tag());
                json!({"name": state.name, "lang": language.tag(), "url": url})
            };
            states.iter().map(page).collect::<Vec<_>>()
        })
        .collect();
    let fresh = format!("{}&lang=en", states[0].address);
    let at = |host: &str, number: usize| format!("http://{host}:{desk_port}/desk/{number}");
    let (good, strange) = ("localhost", "127.0.0.1");
    let pages_with_frames = vec![
        desk(&fresh, None),
        desk(&fresh, Some("")),
        desk(&fresh, Some("allow-forms")),
        desk(&fresh, Some("allow-scripts allow-same-origin")),
        desk(&at(good, 0), None),
    ];
    desks.set(pages_with_frames).expect("set once");
    let frames = json!([
        {"name": "in a frame without a sandbox", "url": at(good, 0), "shown": true},
        {"name": "in a sandbox that allows nothing", "url": at(good, 1), "shown": true},
        {"name": "in a sandbox that allows forms", "url": at(good, 2), "shown": true},
        {"name": "in a sandbox that allows scripts", "url": at(good, 3), "shown": true},
        {"name": "in a frame of a strange host", "url": at(strange, 0), "shown": false},
        {"name": "below a strange host", "url": at(strange, 4), "shown": false},
    ]);
    let out = folder.join("shots");
    let plan = json!({"chromium": chromium, "out": out, "pages": pages, "frames": frames, "words": "High value"});
    let plan_file = folder.join("plan.json");
    fs::write(&plan_file, plan.to_string()).expect("written");
    let looking = tokio::task::spawn_blocking(move || {
        Command::new("node").arg("look.mjs").arg(plan_file).current_dir(folder).output().expect("node runs")
    });
    let looked = looking.await.expect("it ends");
    let (said, complained) = (String::from_utf8_lossy(&looked.stdout), String::from_utf8_lossy(&looked.stderr));
    println!("{said}screenshots: {}", out.display());
    assert!(looked.status.success(), "{said}\n{complained}");
    let found: Value = serde_json::from_str(&said).expect("one JSON object");
    assert_eq!(found["pages"], states.len() * Language::ALL.len() * 2);
    assert_eq!(
        (&found["violations"], &found["frames_shown"], &found["frames_blocked"]),
        (&json!(0), &json!(4), &json!(2))
    );
}
