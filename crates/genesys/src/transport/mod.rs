//! One way to the platform: every request gets a token, a permit and a time limit, is tried again where that may help,
//! and is counted. Redirects are not followed, answers have a largest size, and neither bodies nor ids are logged.

pub(crate) mod decide;
mod once;
pub(crate) mod patience;
mod received;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::counter;
pub(crate) use reqwest::Method;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use secrecy::SecretString;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tracing::{debug, warn};

use super::GenesysError;
use super::error::AttemptFault;
use super::limiter::{PaceLimits, RequestPace, RequestPermit};
use super::oauth::{AccessToken, Tokens};
use super::settings::{BaseUrl, GenesysSettings};
use decide::{Attempt, Decision, TokenRenewal, decide};
pub use once::Permits;
use patience::{RetryBudget, backoff};
pub(crate) use received::{Missing, Received, count, not_let_in, receive};
use received::{limit_key, refusal};
use scoreline_domain::text::hex;
use scoreline_domain::time::{Clock, Stopwatch};
use scoreline_domain::trace;

/// Attempts of a call that reads.
pub(crate) const PATIENT: u32 = 8;
/// Attempts of a call that is repeated later by somebody who keeps what it was about.
pub(crate) const HASTY: u32 = 3;
/// One attempt: what a second one would do is not known before something else was asked.
pub(crate) const ONE: u32 = 1;
/// Refusals for the rate in one call, each with its pause.
const MOST_REFUSALS: u32 = 20;

/// What is asked of the platform, for errors, logs and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiOperation {
    Token,
    Availability,
    JobSubmit,
    JobStatus,
    JobResults,
    JobDelete,
    Query,
    Sentiments,
    Topics,
    ConversationSentiment,
    History,
    ContactRead,
    ContactWrite,
    EnrichmentWrite,
    LeadsRead,
    LeadsWrite,
    LeadsSweep,
    SweepJob,
    LeadDelete,
    LeadsSearch,
    EntityRead,
    EntityWrite,
    ListRead,
    CampaignRead,
    RuleSetRead,
    FilterRead,
    SkillRead,
    LimitsRead,
}

impl ApiOperation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Availability => "availability",
            Self::JobSubmit => "job_submit",
            Self::JobStatus => "job_status",
            Self::JobResults => "job_results",
            Self::JobDelete => "job_delete",
            Self::Query => "query",
            Self::Sentiments => "sentiments",
            Self::Topics => "topics",
            Self::ConversationSentiment => "conversation_sentiment",
            Self::History => "history",
            Self::ContactRead => "contact_read",
            Self::ContactWrite => "contact_write",
            Self::EnrichmentWrite => "enrichment_write",
            Self::LeadsRead => "leads_read",
            Self::LeadsWrite => "leads_write",
            Self::LeadsSweep => "leads_sweep",
            Self::SweepJob => "sweep_job",
            Self::LeadDelete => "lead_delete",
            Self::LeadsSearch => "leads_search",
            Self::EntityRead => "entity_read",
            Self::EntityWrite => "entity_write",
            Self::ListRead => "list_read",
            Self::CampaignRead => "campaign_read",
            Self::RuleSetRead => "rule_set_read",
            Self::FilterRead => "filter_read",
            Self::SkillRead => "skill_read",
            Self::LimitsRead => "limits_read",
        }
    }
}

impl ApiOperation {
    /// Whether it changes nothing on the platform.
    fn reads(self) -> bool {
        matches!(
            self,
            Self::LeadsRead
                | Self::EntityRead
                | Self::ListRead
                | Self::CampaignRead
                | Self::RuleSetRead
                | Self::FilterRead
                | Self::SkillRead
                | Self::LimitsRead
                | Self::SweepJob
        )
    }
}

impl fmt::Display for ApiOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One request to the API.
pub(crate) struct Request<'a> {
    pub operation: ApiOperation,
    pub method: Method,
    /// Parts of the path below `/api/v2/`.
    pub path: &'a [&'a str],
    pub query: &'a [(&'a str, &'a str)],
    /// JSON.
    pub body: Option<Vec<u8>>,
    /// Attempts before an answer is given up; refusals for the rate do not count.
    pub attempts: u32,
}

/// An answer that is what was asked for.
pub(crate) struct ApiAnswer {
    operation: ApiOperation,
    pub body: Vec<u8>,
    /// Requests it took.
    pub attempts: u32,
}

impl ApiAnswer {
    /// The answer's body.
    ///
    /// # Errors
    /// Where it is not as expected. The values are not repeated.
    pub(crate) fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T, GenesysError> {
        match serde_json::from_slice(&self.body) {
            Ok(read) => Ok(read),
            Err(_) => Err(self.unreadable::<T>()),
        }
    }

    /// Reads again to say where it fails: following the path costs time that good answers need not pay.
    fn unreadable<'a, T: Deserialize<'a>>(&'a self) -> GenesysError {
        let mut deserializer = serde_json::Deserializer::from_slice(&self.body);
        let (path, line, column) = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Ok(_) => ("the end".to_owned(), 0, 0),
            Err(err) => (err.path().to_string(), err.inner().line(), err.inner().column()),
        };
        GenesysError::Unreadable { operation: self.operation, path, line, column }
    }
}

/// Everything a request needs on its way.
pub(crate) struct Transport {
    client: reqwest::Client,
    api: BaseUrl,
    tokens: Tokens,
    pub(crate) pace: RequestPace,
    budget: RetryBudget,
    clock: Arc<dyn Clock>,
    max_response: usize,
    /// By how many milliseconds our clock was ahead of the platform's at its last answer. Locked for a moment.
    clock_ahead: Mutex<Option<i64>>,
    /// How long one request may take.
    pub(crate) timeout: Duration,
}

/// An answer of whatever status, and the pause that it asked for when it refused the request for its rate.
struct Reply {
    received: Result<Received, Missing>,
    pause: Option<Duration>,
}

impl Transport {
    pub(crate) fn new(settings: &GenesysSettings, clock: Arc<dyn Clock>) -> Result<Self, GenesysError> {
        let client = client(settings)?;
        let limits = PaceLimits {
            most: settings.requests_per_minute,
            period: settings.period,
            longest: once::LEASE + settings.timeout,
        };
        let tokens = Tokens::new(client.clone(), settings, Arc::clone(&clock));
        Ok(Self {
            client,
            api: settings.endpoints.api.clone(),
            tokens,
            pace: RequestPace::new(bucket(settings), limits, Arc::clone(&clock)),
            budget: RetryBudget::new(),
            clock,
            max_response: settings.max_response,
            clock_ahead: Mutex::default(),
            timeout: settings.timeout,
        })
    }

    /// By how many milliseconds our clock is ahead of the platform's, to a second; `None` before it has said.
    pub(crate) fn clock_ahead(&self) -> Option<i64> {
        *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The secret of the next login.
    pub(crate) async fn exchange_secret(&self, client_secret: SecretString) {
        self.tokens.exchange_secret(client_secret).await;
    }

    /// Sends a request until it is answered, refused for good, or not worth another attempt.
    pub(crate) async fn call(&self, request: &Request<'_>) -> Result<ApiAnswer, GenesysError> {
        let operation = request.operation;
        let url = self.url(request);
        let mut token_is = TokenRenewal::AsItWas;
        let mut attempts = 0;
        let mut failures = 0;
        let mut refusals = 0;
        let mut too_large = 0;
        self.budget.first_attempt(self.clock.monotonic());
        loop {
            let token = self.tokens.get().await?;
            attempts += 1;
            let permit = self.pace.enter().await;
            let (attempt, received) = match self.attempt(request, &url, &token, permit).await.received {
                Ok(received) => (received.attempt(), Some(received)),
                Err(Missing::Failed(reason)) => (Attempt::Failed(reason), None),
                // Once may be a mistake; the same again is its size.
                Err(Missing::TooLarge) if too_large == 0 => {
                    too_large += 1;
                    (Attempt::Failed(AttemptFault::TooLarge), None)
                }
                Err(Missing::TooLarge) => return Err(GenesysError::TooLarge { operation, limit: self.max_response }),
                Err(Missing::Unsendable) => {
                    return Err(GenesysError::Settings { reason: format!("`{operation}` cannot be written") });
                }
            };
            let decision = decide(attempt, token_is);
            let correlation = received.as_ref().map(|received| received.correlation.clone()).unwrap_or_default();
            if decision != Decision::Take {
                debug!(
                    operation = operation.as_str(),
                    ?attempt,
                    ?decision,
                    attempts,
                    correlation.id = correlation.as_str(),
                    "platform request"
                );
            }
            let reason = match (decision, received) {
                (Decision::Take, Some(received)) => {
                    self.pace.answered();
                    return Ok(ApiAnswer { operation, body: received.body, attempts });
                }
                (Decision::Reauthorise, _) => {
                    token_is = TokenRenewal::Renewed;
                    self.tokens.reject(&token).await;
                    continue;
                }
                (Decision::GiveUp, Some(received)) => return Err(refusal(operation, &received)),
                (Decision::Wait, _) => {
                    refusals += 1;
                    AttemptFault::RateLimited
                }
                (Decision::Retry(reason), _) => {
                    failures += 1;
                    reason
                }
                // Only answers are taken or given up on.
                (Decision::Take | Decision::GiveUp, None) => AttemptFault::Cut,
            };
            if failures >= request.attempts || refusals >= MOST_REFUSALS {
                return Err(GenesysError::Unavailable { operation, attempts, reason, correlation });
            }
            warn!(
                operation = operation.as_str(),
                reason = reason.label(),
                attempts,
                correlation.id = correlation.as_str(),
                trace_id = trace::current().map(tracing::field::display),
                "the platform is asked again"
            );
            if reason != AttemptFault::RateLimited {
                let pause = backoff(failures, fastrand::f64()) + self.budget.retry(self.clock.monotonic());
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// One request, counted, within a permit.
    async fn attempt(&self, request: &Request<'_>, url: &Url, token: &AccessToken, permit: RequestPermit<'_>) -> Reply {
        let taken = Stopwatch::start();
        let mut builder = self.client.request(request.method.clone(), url.clone()).bearer_auth(token.expose());
        if let Some(body) = &request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let received = receive(request.operation, builder, self.max_response, &*self.clock).await;
        count(request.operation, &received, taken);
        let mut refused = None;
        if let Ok(Received { status, retry_after, body, hints, clock_ahead, .. }) = &received {
            if clock_ahead.is_some() {
                *self.clock_ahead.lock().unwrap_or_else(PoisonError::into_inner) = *clock_ahead;
            }
            self.pace.hinted(hints.allowed, hints.remaining);
            // Before the permit goes: nobody slips in between.
            match (status, retry_after) {
                (429, _) => {
                    let key = limit_key(body);
                    counter!("scoreline_genesys_rate_limited_total", "limit_key" => key).increment(1);
                    let pause = self.pace.refused(*retry_after).await;
                    refused = Some(pause);
                    warn!(
                        operation = request.operation.as_str(),
                        limit.key = key,
                        pause_ms = pause.as_millis() as u64,
                        "the platform's rate limit is reached"
                    );
                }
                (500.., Some(pause)) => self.pace.hold(*pause).await,
                _ => {}
            }
        }
        drop(permit);
        Reply { received, pause: refused }
    }

    fn url(&self, request: &Request<'_>) -> Url {
        let mut url = self.api.join(["api", "v2"].into_iter().chain(request.path.iter().copied()));
        if !request.query.is_empty() {
            url.query_pairs_mut().extend_pairs(request.query);
        }
        url
    }
}

/// Whose pace it is: the platform counts by token, and a client has one.
fn bucket(settings: &GenesysSettings) -> String {
    let text = format!("{}\n{}", settings.endpoints.api.as_str(), settings.client_id);
    let digest = Sha256::digest(text.as_bytes());
    hex(&digest[..16])
}

/// The client that everything is sent with.
fn client(settings: &GenesysSettings) -> Result<reqwest::Client, GenesysError> {
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(settings.connect_timeout)
        .timeout(settings.timeout)
        .user_agent(concat!("scoreline/", env!("CARGO_PKG_VERSION")));
    let endpoints = &settings.endpoints;
    let builder = match (endpoints.api.is_plain(), endpoints.login.is_plain()) {
        (false, false) => builder.https_only(true),
        // To this machine no certificate is needed, and no proxy.
        (true, true) => builder.no_proxy().tls_certs_only([]),
        (true, false) | (false, true) => builder.no_proxy(),
    };
    builder.build().map_err(|err| GenesysError::Settings { reason: err.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> ApiAnswer {
        ApiAnswer { operation: ApiOperation::Query, body: body.as_bytes().to_vec(), attempts: 1 }
    }

    #[test]
    fn an_unreadable_answer_is_named_by_its_path_and_not_repeated() {
        #[derive(Debug, Deserialize)]
        struct Page {
            #[expect(dead_code, reason = "only read")]
            rows: Vec<u32>,
        }
        let err = answer(r#"{"rows":[1,"canary@example.com"]}"#).json::<Page>().expect_err("text for a number");
        let shown = format!("{err} {err:?}");
        assert!(shown.contains("rows[1]") && !shown.contains("canary"), "{shown}");
        assert!(answer(r#"{"rows":[1],"#).json::<Page>().is_err());
        assert!(answer(r#"{"rows":[1,2],"other":{}}"#).json::<Page>().is_ok());
    }
}
