//! What will not work on a live organisation, in plain words and with a fix each: lists, campaigns, rules, rights and limits
//! are read and compared with what scores need. Changes nothing, except for the contact of a probe that was asked for.

mod campaign;
mod finding;
mod list;
mod probe;

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use finding::{Finding, Verdict};

use super::GenesysError;
use super::settings::{Api, GenesysSettings};
use super::transport::{ApiAnswer, ApiOperation, HASTY, Method, Request, Transport};
use scoreline_domain::time::Clock;

/// The limit that everything here keeps to, by the platform's own name.
const TOKEN_LIMIT: &str = "client.credentials.token.rate.per.minute";

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    pub campaign: Option<String>,
    /// Whether a contact may be made, written to and taken out again in each list.
    pub probe: bool,
}

/// Examines an organisation.
pub(super) struct Doctor {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    clock: Arc<dyn Clock>,
    findings: Vec<Finding>,
}

#[derive(Deserialize)]
struct Limits {
    #[serde(default)]
    entities: Vec<LimitShape>,
}

#[derive(Deserialize)]
struct LimitShape {
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: u64,
}

impl Doctor {
    pub(super) fn new(transport: Arc<Transport>, settings: Arc<GenesysSettings>, clock: Arc<dyn Clock>) -> Self {
        Self { transport, settings, clock, findings: Vec::new() }
    }

    /// Looks at everything, one after the other; what could not be looked at is a finding too.
    pub(super) async fn examine(mut self, wanted: &Examination) -> Vec<Finding> {
        if self.settings.api == Api::Documented {
            let says = "`genesys.api` is `documented`: the guides' endpoints say nothing of lists and campaigns";
            let fix = "set `genesys.api = \"platform\"` to examine an organisation";
            self.found(Finding::new("access", Verdict::Unknown, says).fix(fix));
            return self.findings;
        }
        if !self.has_access().await {
            return self.findings;
        }
        if self.settings.outbound.contact_lists.is_empty() {
            let says = "no contact list is named, so no score of a lead is written";
            let fix =
                "name it in `genesys.outbound.contact_lists`; `scoreline genesys export campaign` writes a new one";
            self.found(Finding::new("lists", Verdict::Wrong, says).fix(fix));
        }
        for list in self.settings.outbound.contact_lists.clone() {
            if self.list(&list).await && wanted.probe {
                self.probe(&list).await;
            }
        }
        if let Some(campaign) = &wanted.campaign {
            self.campaign(campaign).await;
        }
        self.findings
    }

    /// The first request: whether the client is let in, and what it may ask.
    async fn has_access(&mut self) -> bool {
        let path = ["organizations", "limits", "namespaces", "platform.api"];
        match self.get::<Limits>(ApiOperation::LimitsRead, &path, &[]).await {
            Ok(limits) => {
                self.found(Finding::fine("access", "the client is let in"));
                self.limits(&limits);
                true
            }
            Err(GenesysError::NotLetIn { status: 403, .. } | GenesysError::Refused { .. }) => {
                self.found(Finding::fine("access", "the client is let in"));
                let says = "the organisation's limits may not be read, so `genesys.requests_per_minute` is not checked";
                self.found(Finding::new("limits", Verdict::Unknown, says));
                true
            }
            Err(err) => {
                let fix =
                    "check `genesys.region`, `genesys.client_id` and the secret; the grant must be Client Credentials";
                self.found(Finding::new("access", Verdict::Wrong, err.to_string()).fix(fix));
                false
            }
        }
    }

    fn limits(&mut self, limits: &Limits) {
        let ours = u64::from(self.settings.requests_per_minute);
        let named = limits.entities.iter().find(|limit| limit.key == TOKEN_LIMIT && limit.value > 0);
        let finding = match named.map(|limit| limit.value) {
            None => Finding::new("limits", Verdict::Unknown, format!("the organisation does not tell `{TOKEN_LIMIT}`")),
            Some(allowed) if allowed < ours => {
                let says = format!(
                    "the organisation allows {allowed} requests a minute, `genesys.requests_per_minute` is {ours}"
                );
                Finding::new("limits", Verdict::Wrong, says)
                    .fix(format!("set `genesys.requests_per_minute = {allowed}`"))
            }
            Some(allowed) => {
                let says = format!(
                    "the organisation allows {allowed} requests a minute, `genesys.requests_per_minute` is {ours}"
                );
                Finding::fine("limits", says)
            }
        };
        self.found(finding);
    }

    fn found(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// What could not be read, as a finding: a right that lacks, an id that is not there, or an outage.
    fn unread(&mut self, about: &str, what: &str, err: &GenesysError, permission: &str) {
        let finding = match err {
            GenesysError::NotLetIn { status: 403, .. } => {
                let fix = format!("give a role of the OAuth client the permission {permission}");
                Finding::new(about, Verdict::Wrong, format!("{what} may not be read")).fix(fix)
            }
            GenesysError::Refused { status: 404, .. } => {
                let fix = "check the id, and that the client's role is valid for its division";
                Finding::new(about, Verdict::Wrong, format!("{what} is not there")).fix(fix)
            }
            GenesysError::Refused { .. }
            | GenesysError::Unavailable { .. }
            | GenesysError::NotLetIn { .. }
            | GenesysError::TooLarge { .. }
            | GenesysError::Unreadable { .. }
            | GenesysError::JobFailed { .. }
            | GenesysError::ForeignPosition { .. }
            | GenesysError::Settings { .. } => {
                Finding::new(about, Verdict::Unknown, format!("{what} could not be read: {err}"))
            }
        };
        self.found(finding);
    }

    async fn get<T: DeserializeOwned>(
        &self,
        operation: ApiOperation,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, GenesysError> {
        self.send(operation, Method::GET, path, query, None, HASTY).await?.json()
    }

    async fn send(
        &self,
        operation: ApiOperation,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Vec<u8>>,
        attempts: u32,
    ) -> Result<ApiAnswer, GenesysError> {
        self.transport.call(&Request { operation, method, path, query, body, attempts }).await
    }
}
