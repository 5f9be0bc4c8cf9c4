//! The access token: fetched by client credentials, kept for 90 % of its life, fetched once however many ask for it.
//!
//! The token endpoint has a rate limit of its own, which it announces as a 400 with a text. So nothing here asks for a
//! token more often than it must.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::{debug, warn};

use super::GenesysError;
use super::error::AttemptFault;
use super::settings::{BaseUrl, GenesysSettings};
use super::transport::decide::{Attempt, Decision, TokenRenewal, decide};
use super::transport::patience::backoff;
use super::transport::{ApiOperation, Missing, Received, count, not_let_in, receive};
use scoreline_domain::time::{Clock, Stopwatch};
use scoreline_domain::trace;

/// Share of a token's life after which another one is fetched.
const USED: f64 = 0.9;
const ATTEMPTS: u32 = 8;
/// A token is some hundred bytes.
const LARGEST: usize = 64 * 1024;
/// No pause of the token endpoint is longer.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// The body of a login; id and secret go by HTTP Basic.
const GRANT: &str = "grant_type=client_credentials";
/// What the platform says with a 400 when there were too many logins.
const LIMITED: &[u8] = b"rate limit exceeded";

/// Shared by all requests of one client.
pub(crate) struct Tokens {
    client: reqwest::Client,
    login: BaseUrl,
    client_id: String,
    clock: Arc<dyn Clock>,
    /// Locked while a token is fetched: that is what makes the others wait for the same one.
    held: Mutex<Held>,
}

struct Held {
    client_secret: SecretString,
    token: Option<AccessToken>,
    refresh_at: Duration,
    fetched: u64,
}

#[derive(Clone)]
pub(crate) struct AccessToken {
    secret: Arc<SecretString>,
    number: u64,
}

impl AccessToken {
    pub(crate) fn expose(&self) -> &str {
        self.secret.expose_secret()
    }
}

#[derive(Deserialize)]
struct Granted {
    access_token: SecretString,
    /// Seconds.
    expires_in: u64,
}

impl Tokens {
    pub(crate) fn new(client: reqwest::Client, settings: &GenesysSettings, clock: Arc<dyn Clock>) -> Self {
        Self {
            client,
            login: settings.endpoints.login.clone(),
            client_id: settings.client_id.clone(),
            clock,
            held: Mutex::new(Held {
                client_secret: settings.client_secret.clone(),
                token: None,
                refresh_at: Duration::ZERO,
                fetched: 0,
            }),
        }
    }

    /// A token that is good as far as is known.
    pub(crate) async fn get(&self) -> Result<AccessToken, GenesysError> {
        let mut held = self.held.lock().await;
        if let Some(token) = &held.token
            && self.clock.monotonic() < held.refresh_at
        {
            return Ok(token.clone());
        }
        let asked = self.clock.monotonic();
        let granted = self.fetch(&held.client_secret).await?;
        held.fetched += 1;
        // Counted from before it was asked for: it may have been made right then.
        held.refresh_at = asked + Duration::from_secs(granted.expires_in.min(1 << 20)).mul_f64(USED);
        let token = AccessToken { secret: Arc::new(granted.access_token), number: held.fetched };
        held.token = Some(token.clone());
        debug!(expires_in_s = granted.expires_in, "access token renewed");
        Ok(token)
    }

    /// The platform did not take this token; unless another one was fetched since, it is not used any more.
    pub(crate) async fn reject(&self, rejected: &AccessToken) {
        let mut held = self.held.lock().await;
        if held.token.as_ref().is_some_and(|token| token.number == rejected.number) {
            held.token = None;
        }
    }

    /// The next login is with this secret. A token that was fetched with the one before stays in use.
    pub(crate) async fn exchange_secret(&self, client_secret: SecretString) {
        self.held.lock().await.client_secret = client_secret;
    }

    async fn fetch(&self, client_secret: &SecretString) -> Result<Granted, GenesysError> {
        let operation = ApiOperation::Token;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let taken = Stopwatch::start();
            let request = self
                .client
                .post(self.login.join(["oauth", "token"]))
                .basic_auth(&self.client_id, Some(client_secret.expose_secret()))
                .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(GRANT);
            let received = receive(operation, request, LARGEST, &*self.clock).await;
            count(operation, &received, taken);
            let attempt = match &received {
                Ok(received) if received.status == 400 && says_limited(&received.body) => Attempt::LoginLimited,
                Ok(received) => received.attempt(),
                Err(Missing::Failed(reason)) => Attempt::Failed(*reason),
                Err(Missing::TooLarge) => return Err(GenesysError::TooLarge { operation, limit: LARGEST }),
                Err(Missing::Unsendable) => {
                    return Err(GenesysError::Settings { reason: "the login cannot be written".to_owned() });
                }
            };
            // There is no token to renew, so a 401 is final; a login that is refused needs a person, whatever the status.
            let (reason, asked) = match (decide(attempt, TokenRenewal::Renewed), &received) {
                (Decision::Take, Ok(received)) => return read(received),
                (Decision::GiveUp | Decision::Reauthorise, Ok(received)) => {
                    return Err(not_let_in(operation, received));
                }
                (Decision::Wait, Ok(received)) => (AttemptFault::RateLimited, received.retry_after),
                (Decision::Retry(reason), Ok(received)) => (reason, received.retry_after),
                (Decision::Retry(reason), Err(_)) => (reason, None),
                // Only answers are taken, given up on or waited for.
                (Decision::Take | Decision::GiveUp | Decision::Reauthorise | Decision::Wait, Err(_)) => {
                    (AttemptFault::Cut, None)
                }
            };
            let correlation = received.map(|received| received.correlation).unwrap_or_default();
            if attempts >= ATTEMPTS {
                return Err(GenesysError::Unavailable { operation, attempts, reason, correlation });
            }
            warn!(
                reason = reason.label(),
                attempts,
                correlation.id = correlation.as_str(),
                trace_id = trace::current().map(tracing::field::display),
                "the login is tried again"
            );
            // At least half of the longest pause: a login limit is per minute, and nobody else gets a token meanwhile.
            let own = backoff(attempts, 0.5 + fastrand::f64() / 2.0);
            tokio::time::sleep(asked.map_or(own, |asked| asked.min(LONGEST_PAUSE) + own / 2)).await;
        }
    }
}

fn says_limited(body: &[u8]) -> bool {
    body.windows(LIMITED.len()).any(|part| part.eq_ignore_ascii_case(LIMITED))
}

fn read(received: &Received) -> Result<Granted, GenesysError> {
    serde_json::from_slice(&received.body).map_err(|err| GenesysError::Unreadable {
        operation: ApiOperation::Token,
        path: "access_token, expires_in".to_owned(),
        line: err.line(),
        column: err.column(),
    })
}
