//! A plain HTTP client with a token, and a simulator whose clock only tests move.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderMap;
use reqwest::{Client, Method};
use scoreline_domain::time::{ManualClock, Timestamp};
use serde_json::{Value, json};

use scoreline_simulator::{JobSettings, PlatformLimits, Simulator, SimulatorSettings};

pub const NOW: &str = "2026-11-21T12:00:00Z";
pub const JOBS: &str = "/api/v2/analytics/conversations/details/jobs";
pub const QUERY: &str = "/api/v2/analytics/conversations/details/query";
pub const AGGREGATES: &str = "/api/v2/analytics/transcripts/aggregates/query";

pub struct Visitor {
    pub simulator: Simulator,
    pub client: Client,
    pub token: String,
}

pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// 40 customers over 20 days; the clock stands still at noon; jobs see everything and are done at once; a limit nobody meets.
pub fn settings() -> SimulatorSettings {
    let now: Timestamp = NOW.parse().expect("a date");
    SimulatorSettings {
        customers: 40,
        days: 20,
        clock: Arc::new(ManualClock::at(now)),
        limits: PlatformLimits { requests: 1_000_000, tokens: 1000, ..PlatformLimits::default() },
        jobs: JobSettings { lag: Duration::ZERO, looks: 1, ..JobSettings::default() },
        ..SimulatorSettings::default()
    }
}

impl Visitor {
    pub async fn new(settings: SimulatorSettings) -> Self {
        let simulator = Simulator::start(settings).expect("a simulator");
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().expect("a client");
        let mut visitor = Self { simulator, client, token: String::new() };
        visitor.log_in().await;
        visitor
    }

    pub async fn log_in(&mut self) {
        let reply = self.ask_token("client_credentials").await;
        if reply.status == 200 {
            reply.json()["access_token"].as_str().expect("a token").clone_into(&mut self.token);
        }
    }

    pub async fn ask_token(&self, grant: &str) -> Reply {
        let SimulatorSettings { client_id, client_secret, .. } = self.simulator.settings();
        let request = self
            .client
            .post(format!("{}/oauth/token", self.simulator.login_url()))
            .header("authorization", format!("Basic {}", STANDARD.encode(format!("{client_id}:{client_secret}"))))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type={grant}"));
        read(request.send().await.expect("an answer")).await.expect("a body")
    }

    /// A request that may fail on its way.
    pub async fn try_send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, reqwest::Error> {
        let url = format!("{}{path}", self.simulator.api_url());
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = self.client.request(method, url).header("authorization", format!("Bearer {}", self.token));
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        read(request.send().await?).await
    }

    pub async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.try_send(method, path, body).await.unwrap_or_else(|err| panic!("{method} {path}: {err}"))
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body)).await
    }

    /// 200, or the test ends.
    pub async fn ok(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let reply = self.send(method, path, body).await;
        assert_eq!(reply.status, 200, "{method} {path}: {}", reply.text);
        reply.json()
    }

    /// All conversations of a job over an interval, page by page.
    pub async fn job(&self, interval: &str, page_size: usize) -> Vec<Value> {
        let reply = self.post(JOBS, &json!({ "interval": interval, "order": "asc" })).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        let job = format!("{JOBS}/{}", reply.json()["jobId"].as_str().expect("an id"));
        let status = self.ok("GET", &job, None).await;
        assert_eq!(status["state"], "FULFILLED");
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.ok("GET", &format!("{job}/results?pageSize={page_size}{cursor}"), None).await;
            found.extend(page["conversations"].as_array().expect("conversations").iter().cloned());
            match page["cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    }

    /// The interval of everything there is, as jobs take it.
    pub fn everything(&self) -> String {
        format!("{:.3}/{NOW}", self.simulator.first_day())
    }
}

async fn read(response: reqwest::Response) -> Result<Reply, reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, text: response.text().await? })
}
