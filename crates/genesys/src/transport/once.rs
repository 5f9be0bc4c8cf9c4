//! One attempt, for whoever keeps what it was about: nothing is waited for, and what became of it is said.
//!
//! Permits are taken before the work is claimed, so nothing stands between a claim and its requests. Whoever was stopped
//! in between and wakes up late sends nothing: the work may be somebody else's by then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::decide::{Decision, TokenRenewal, decide};
use super::{ApiAnswer, Missing, Request, Transport, refusal};
use crate::error::{AttemptFault, GenesysError};
use crate::fault::SendFault;
use crate::limiter::RequestPermit;

/// How long reserved permits are good for: as long as work is claimed.
pub(crate) const LEASE: Duration = Duration::from_secs(15);

/// The right to send some requests, taken before the work that they are about is claimed. What is not used is given back.
pub struct Permits {
    transport: Arc<Transport>,
    id: u64,
    left: AtomicU32,
    /// Monotonic milliseconds; no request is begun from then on.
    until: AtomicU64,
}

impl Permits {
    /// Logs in if that is due, then waits until so many requests may be sent.
    pub(crate) async fn reserve(transport: &Arc<Transport>, count: u32) -> Result<Self, SendFault> {
        transport.tokens.get().await.map_err(|err| not_sent(&err))?;
        let (id, asked) = transport.pace.reserve(count).await;
        let permits =
            Self { transport: Arc::clone(transport), id, left: AtomicU32::new(count), until: AtomicU64::new(u64::MAX) };
        permits.until(asked + LEASE);
        Ok(permits)
    }

    /// No request is begun from this monotonic moment on. Without it: 15 s after the permits were asked for.
    pub fn until(&self, moment: Duration) {
        self.until.store(u64::try_from(moment.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// How long requests may still be begun.
    fn time_left(&self) -> Option<Duration> {
        let until = Duration::from_millis(self.until.load(Ordering::Acquire));
        until.checked_sub(self.transport.clock.monotonic()).filter(|left| !left.is_zero())
    }

    /// One of them, or one more if it is free at this moment.
    async fn spend(&self) -> Result<RequestPermit<'_>, SendFault> {
        let spent = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        if spent.is_ok() {
            return Ok(self.transport.pace.reserved(self.id));
        }
        self.transport.pace.try_enter().await.map_err(|wait| SendFault::NotSent {
            until: Some(wait),
            reason: "the rate limit leaves no more requests at the moment".to_owned(),
        })
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.transport.pace.give_back(self.id, self.left.load(Ordering::Acquire));
    }
}

impl Transport {
    /// Sends a request once; once more when the token was not valid any more, because then nothing was done.
    pub(crate) async fn once(&self, request: &Request<'_>, permits: &Permits) -> Result<ApiAnswer, SendFault> {
        let operation = request.operation;
        let url = self.url(request);
        let mut token_is = TokenRenewal::AsItWas;
        let mut attempts = 0;
        loop {
            let late = || SendFault::NotSent { until: None, reason: "the time for it was over".to_owned() };
            let time_left = permits.time_left().ok_or_else(late)?;
            let token = tokio::time::timeout(time_left, self.tokens.get()).await.map_err(|_| late())?;
            let token = token.map_err(|err| not_sent(&err))?;
            let permit = permits.spend().await?;
            if permits.time_left().is_none() {
                return Err(late());
            }
            attempts += 1;
            let reply = self.attempt(request, &url, &token, permit).await;
            let failed = |reason| GenesysError::Unavailable {
                operation,
                attempts,
                reason,
                correlation: crate::Correlation::default(),
            };
            let (attempt, received) = match reply.received {
                Ok(received) => (received.attempt(), received),
                Err(Missing::Failed(reason)) => return Err(SendFault::from(&failed(reason))),
                Err(Missing::TooLarge) => {
                    return Err(too_large(&GenesysError::TooLarge { operation, limit: self.max_response }, request));
                }
                Err(Missing::Unsendable) => {
                    let reason = format!("`{operation}` cannot be written");
                    return Err(SendFault::from(&GenesysError::Settings { reason }));
                }
            };
            let correlation = received.correlation.clone();
            let unavailable = |reason| GenesysError::Unavailable { operation, attempts, reason, correlation };
            return Err(match decide(attempt, token_is) {
                Decision::Take => {
                    self.pace.answered();
                    return Ok(ApiAnswer { operation, body: received.body, attempts });
                }
                Decision::Reauthorise => {
                    token_is = TokenRenewal::Renewed;
                    self.tokens.reject(&token).await;
                    continue;
                }
                Decision::Wait => {
                    let reason = unavailable(AttemptFault::RateLimited).to_string();
                    SendFault::NotSent { until: reply.pause, reason }
                }
                Decision::Retry(reason) => SendFault::from(&unavailable(reason)),
                Decision::GiveUp => SendFault::from(&refusal(operation, &received)),
            });
        }
    }
}

/// Of a read that is too large, a smaller one may be answered; what a write has done is not known.
fn too_large(err: &GenesysError, request: &Request<'_>) -> SendFault {
    if request.operation.reads() {
        return SendFault::Refused { status: 413, reason: err.to_string() };
    }
    SendFault::from(err)
}

/// No token, so nothing was sent.
fn not_sent(err: &GenesysError) -> SendFault {
    if err.passes() {
        return SendFault::NotSent { until: None, reason: err.to_string() };
    }
    SendFault::Down { reason: err.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Correlation;
    use crate::transport::ApiOperation;

    fn unavailable(reason: AttemptFault) -> SendFault {
        let (operation, correlation) = (ApiOperation::LeadsWrite, Correlation::default());
        SendFault::from(&GenesysError::Unavailable { operation, attempts: 1, reason, correlation })
    }

    #[test]
    fn only_what_certainly_did_nothing_counts_as_not_sent() {
        for reason in [AttemptFault::RateLimited, AttemptFault::Connect] {
            assert!(matches!(unavailable(reason), SendFault::NotSent { .. }), "{reason}");
        }
        let unknown = [
            AttemptFault::Timeout,
            AttemptFault::Cut,
            AttemptFault::NotJson,
            AttemptFault::Status(408),
            AttemptFault::Status(503),
        ];
        for reason in unknown {
            assert!(matches!(unavailable(reason), SendFault::Unknown { .. }), "{reason}");
        }
    }
}
