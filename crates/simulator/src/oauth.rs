//! The login side: tokens by client credentials, and who a request is from.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use super::answer::{Answer, ReceivedCall, Refusal};
use super::draw::pair;
use super::faults::FaultKind;
use super::limiter::{Limiter, RateVerdict};
use super::world::World;
use scoreline_domain::time::Clock as _;

/// Tokens that were issued. Locked for a moment, never across an await.
pub(super) struct IssuedTokens {
    inner: Mutex<TokensState>,
}

struct TokensState {
    issued: u32,
    /// Number and end, on the monotonic clock.
    valid: HashMap<String, (u32, Duration)>,
    limiter: Limiter<()>,
}

#[derive(Serialize)]
struct Issued<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
}

/// The login's errors have a shape of their own.
#[derive(Serialize)]
struct LoginError {
    error: &'static str,
    description: &'static str,
    error_description: &'static str,
}

const RATE_LIMITED: &str = "invalid_request (rate limit exceeded; please retry later)";

impl IssuedTokens {
    pub(super) fn new(a_period: u32, period: Duration) -> Self {
        let limiter = Limiter::new(a_period, period);
        Self { inner: Mutex::new(TokensState { issued: 0, valid: HashMap::new(), limiter }) }
    }

    fn locked(&self) -> MutexGuard<'_, TokensState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of a valid token, from `Authorization: bearer …`.
    pub(super) fn number(&self, authorization: Option<&str>, now: Duration) -> Option<u32> {
        let (scheme, token) = authorization?.split_once(' ')?;
        let (number, end) = *self.locked().valid.get(token)?;
        (scheme.eq_ignore_ascii_case("bearer") && now < end).then_some(number)
    }

    /// Ends one token, or all of them.
    pub(super) fn revoke(&self, number: Option<u32>) {
        self.locked().valid.retain(|_, (own, _)| number.is_some_and(|number| number != *own));
    }
}

/// `POST /oauth/token`.
#[expect(clippy::unnecessary_wraps, reason = "every endpoint has this form")]
pub(super) fn token(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    if matches!(call.fault, Some(FaultKind::TokenRateLimit)) {
        return Ok(error(StatusCode::BAD_REQUEST, "invalid_request", RATE_LIMITED));
    }
    let settings = &world.settings;
    let known = STANDARD.encode(format!("{}:{}", settings.client_id, settings.client_secret));
    let given = call.authorization.and_then(|header| header.strip_prefix("Basic "));
    if given != Some(known.as_str()) {
        return Ok(error(StatusCode::UNAUTHORIZED, "invalid_client", "client not found or client secret is invalid"));
    }
    let grant =
        str::from_utf8(call.body).unwrap_or_default().split('&').any(|part| part == "grant_type=client_credentials");
    if !grant {
        return Ok(error(StatusCode::BAD_REQUEST, "unsupported_grant_type", "grant_type must be client_credentials"));
    }
    let now = world.clock.monotonic();
    let mut tokens = world.tokens.locked();
    if let RateVerdict::Refused(_) = tokens.limiter.ask((), now) {
        return Ok(error(StatusCode::BAD_REQUEST, "invalid_request", RATE_LIMITED));
    }
    tokens.issued += 1;
    let number = tokens.issued;
    let token = format!("simulated-{number}-{:016x}", pair(settings.seed ^ 0x70_6B_65_6E, u64::from(number)));
    let life = settings.limits.token_life;
    tokens.valid.retain(|_, (_, end)| now < *end);
    let answer = Issued { access_token: &token, token_type: "bearer", expires_in: life.as_secs() };
    let answer = Answer::json(&answer);
    tokens.valid.insert(token, (number, now + life));
    Ok(answer)
}

fn error(status: StatusCode, error: &'static str, description: &'static str) -> Answer {
    Answer::with(status, &LoginError { error, description, error_description: description })
}
