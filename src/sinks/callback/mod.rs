//! Answers sent to whoever asked for them: one signed POST to an address that the caller named and the operator allows.
//!
//! The signature is that of Standard Webhooks over the id of the question, the time and the body. The same question may be
//! told twice, under the same id; every attempt is signed anew. Redirects are not followed, no proxy is used, and what the
//! receiver answers is not read: its status alone counts.

mod hosts;
mod public;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::SinkFault;
use scoreline_domain::privacy::signature::{Secret, sign};
use scoreline_domain::time::{Clock, Timestamp};
use scoreline_domain::trace::{self, TRACEPARENT};

pub use hosts::{CallbackHosts, HostFault};

const CONNECT: Duration = Duration::from_secs(3);
/// Time for a whole call.
const TOTAL: Duration = Duration::from_secs(10);
/// No pause that a receiver asks for is longer.
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// Who may be told, and how it is signed.
#[derive(Clone, Debug)]
pub struct CallbackSettings {
    pub hosts: CallbackHosts,
    /// The newest first; each signs.
    pub secrets: Vec<Secret>,
}

/// Tells callbacks. Cheap to clone.
#[derive(Clone)]
pub struct Callbacks {
    client: reqwest::Client,
    hosts: CallbackHosts,
    secrets: Arc<ArcSwap<Vec<Secret>>>,
    clock: Arc<dyn Clock>,
}

/// A question and its answer, as they are told and shown.
#[derive(Serialize, ToSchema)]
pub struct QuestionReport<'a> {
    pub job: QuestionBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    /// As `POST /v1/predict/clv` would have given it, an error included.
    #[schema(value_type = Option<Object>)]
    pub answer: Option<&'a RawValue>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Question)]
pub struct QuestionBody<'a> {
    pub id: &'a str,
    /// `queued`, `done`, or `failed` when it could not be answered as asked.
    pub state: &'static str,
    #[schema(format = DateTime)]
    pub accepted_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
}

impl<'a> QuestionBody<'a> {
    /// `finished` says when, and whether the question was refused.
    pub fn new(id: &'a str, accepted_at: Timestamp, finished: Option<(Timestamp, bool)>) -> Self {
        let state = match finished {
            None => "queued",
            Some((_, false)) => "done",
            Some((_, true)) => "failed",
        };
        let finished_at = finished.map(|(at, _)| at.to_string());
        Self { id, state, accepted_at: accepted_at.to_string(), finished_at }
    }
}

impl Callbacks {
    /// # Errors
    /// When no HTTP client can be made here.
    pub fn new(settings: CallbackSettings, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let CallbackSettings { hosts, secrets } = settings;
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            // A proxy would look names up itself, and reach what must not be reached.
            .no_proxy()
            .dns_resolver(Arc::new(CheckedResolver { may_be_private: hosts.are_listed() }))
            .connect_timeout(CONNECT)
            .timeout(TOTAL)
            .user_agent(concat!("scoreline/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client, hosts, secrets: Arc::new(ArcSwap::from_pointee(secrets)), clock })
    }

    /// Signs with these from now on.
    pub fn exchange_secrets(&self, secrets: Vec<Secret>) {
        self.secrets.store(Arc::new(secrets));
    }

    /// Tells one answer, once.
    ///
    /// # Errors
    /// Why it is not known to have arrived. The reason does not repeat the address.
    pub async fn tell(&self, callback: &str, id: &str, body: Vec<u8>) -> Result<(), SinkFault> {
        // The settings may have changed since it was asked for.
        let url =
            self.hosts.check(callback).map_err(|fault| SinkFault::Dead { reason: format!("its address {fault}") })?;
        let now = self.clock.now();
        let signature = sign(&self.secrets.load(), id, now, &body);
        let call = trace::Call::begin("callback");
        let mut request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.as_second())
            .header("webhook-signature", signature)
            .body(body);
        if let Some(call) = &call {
            request = request.header(TRACEPARENT, call.parent().to_string());
        }
        let answered = request.send().await;
        if let Some(call) = call {
            call.end(answered.as_ref().map(|response| response.status().as_u16()).map_err(|_| "unreachable"));
        }
        match answered {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) if response.status() == StatusCode::GONE => {
                Err(SinkFault::Dead { reason: "it answered 410: it is gone for good".to_owned() })
            }
            Ok(response) => {
                let reason = format!("it answered {}", response.status().as_u16());
                Err(SinkFault::Retry { after: retry_after(&response), reason })
            }
            Err(err) => Err(SinkFault::Retry { after: Duration::ZERO, reason: reason(err) }),
        }
    }
}

/// What the receiver asks for, in seconds.
fn retry_after(response: &Response) -> Duration {
    let asked = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    asked.map_or(Duration::ZERO, Duration::from_secs).min(LONGEST_PAUSE)
}

/// The innermost cause says most; the library's own words hold the address.
fn reason(err: reqwest::Error) -> String {
    if err.is_timeout() {
        return format!("it did not answer within {} s", TOTAL.as_secs());
    }
    let err = err.without_url();
    let mut cause: &dyn std::error::Error = &err;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("it cannot be reached: {cause}")
}

/// Looks names up and leaves out addresses that callbacks must not reach. What it leaves is what is connected to, so a
/// name that changes its address between a check and the call gains nothing.
struct CheckedResolver {
    /// The operator has listed every host, and so knows where it is.
    may_be_private: bool,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let may_be_private = self.may_be_private;
        Box::pin(async move {
            let host = name.as_str();
            let found = tokio::net::lookup_host((host, 0)).await?;
            let allowed: Vec<_> = if host.eq_ignore_ascii_case(hosts::LOCALHOST) {
                // Plain HTTP is allowed to this name, so it must be this machine.
                found.filter(|address| address.ip().is_loopback()).collect()
            } else {
                found.filter(|address| may_be_private || public::is_public(address.ip())).collect()
            };
            if allowed.is_empty() {
                return Err(
                    "its name leads to no public address; `write_back.callbacks.hosts` lists hosts that need none"
                        .into(),
                );
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_reached_unless_hosts_are_listed() {
        let resolved = async |may_be_private, name| {
            let resolver = CheckedResolver { may_be_private };
            resolver.resolve(Name::from_str(name).expect("a name")).await.map(Iterator::count)
        };
        // An address written as a name, as some resolvers give back names that are addresses.
        assert!(resolved(false, "127.0.0.1").await.is_err());
        assert!(resolved(false, "169.254.169.254").await.is_err());
        assert_eq!(resolved(true, "127.0.0.1").await.expect("listed"), 1);
        assert!(resolved(false, "localhost").await.expect("this machine") >= 1);
    }
}
