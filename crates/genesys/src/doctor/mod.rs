//! What will not work on a live organisation, in plain words and with a fix each: lists, campaigns, rules, rights and limits
//! are read and compared with what scores need. Changes nothing, except for the contact of a probe that was asked for.

mod campaign;
mod finding;
mod list;
mod probe;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use finding::{Finding, Verdict};

use super::GenesysError;
use super::settings::GenesysSettings;
use super::transport::{ApiAnswer, ApiOperation, HASTY, Method, Request, Transport};
use scoreline_domain::time::Clock;

/// The limit that everything here keeps to, by the platform's own name.
const TOKEN_LIMIT: &str = "client.credentials.token.rate.per.minute";

/// A clock that differs from the platform's by more makes scores fresh or stale too early.
const CLOCK_OFF: Duration = Duration::from_mins(1);

/// What is to be looked at.
#[derive(Clone, Debug, Default)]
pub struct Examination {
    pub campaign: Option<String>,
    /// Whether a contact may be made, written to and taken out again in each list.
    pub probe: bool,
}

/// Examines an organisation.
pub struct Doctor {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    clock: Arc<dyn Clock>,
    findings: Vec<Finding>,
    /// List and id of a probe's contact that may be there.
    probed: Option<(String, String)>,
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
        Self { transport, settings, clock, findings: Vec::new(), probed: None }
    }

    /// What was found so far, in the order in which it was looked at.
    pub fn findings(self) -> Vec<Finding> {
        self.findings
    }

    /// Looks at everything, one after the other; what could not be looked at is a finding too. Whoever stops it in the middle
    /// calls `leave`.
    pub async fn examine(&mut self, wanted: &Examination) {
        if !self.has_access().await {
            return;
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
        } else {
            let says = "none was looked at: whether the best lead is called first is not known";
            self.found(Finding::new("campaigns", Verdict::Unknown, says).fix("name one: `--campaign ID`"));
        }
    }

    /// Takes out the contact of a probe that was stopped in the middle.
    pub async fn leave(&mut self) {
        self.take_out().await;
    }

    /// The first request: whether the client is let in, what it may ask, and what the platform's clock says.
    async fn has_access(&mut self) -> bool {
        let path = ["organizations", "limits", "namespaces", "platform.api"];
        let asked = self.get::<Limits>(ApiOperation::LimitsRead, &path, &[]).await;
        let finding = match &asked {
            Ok(_) => Finding::fine("access", "the client is let in"),
            // The login itself is not a limit that may not be read.
            Err(err) if err.operation() == Some(ApiOperation::Token) => not_let_in(err),
            Err(GenesysError::NotLetIn { status: 403, .. } | GenesysError::Refused { .. }) => {
                Finding::fine("access", "the client is let in")
            }
            Err(err) => not_let_in(err),
        };
        let is_let_in = finding.verdict == Verdict::Fine;
        self.found(finding);
        if !is_let_in {
            return false;
        }
        self.clocks();
        if let Ok(limits) = asked {
            self.limits(&limits);
        } else {
            let says = "the organisation's limits may not be read, so `genesys.requests_per_minute` is not checked";
            self.found(Finding::new("limits", Verdict::Unknown, says));
        }
        true
    }

    fn clocks(&mut self) {
        let Some(ahead) = self.transport.clock_ahead() else { return };
        let by = ahead.unsigned_abs() / 1000;
        if ahead.unsigned_abs() <= CLOCK_OFF.as_millis() as u64 {
            self.found(Finding::fine("clock", "this machine and the platform agree on the time"));
            return;
        }
        let (way, seem) = if ahead > 0 { ("ahead of", "fresher") } else { ("behind", "older") };
        let says = format!("this machine's clock is {by} s {way} the platform's: scores seem {seem} than they are");
        self.found(Finding::new("clock", Verdict::Wrong, says).fix("let a time service such as NTP set it"));
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

    /// What could not be done, as a finding: a right that lacks, an id that is not there, or an outage.
    fn missed(&mut self, about: &str, what: &str, err: &GenesysError) {
        let right = RIGHTS.iter().find(|(operation, ..)| err.operation() == Some(*operation));
        let finding = match (err, right) {
            (GenesysError::NotLetIn { status: 403, .. }, Some((_, action, permission))) => {
                let fix = format!("give a role of the OAuth client the permission {permission}");
                Finding::new(about, Verdict::Wrong, format!("the client may not {action}")).fix(fix)
            }
            (GenesysError::Refused { status: 404, .. }, _) => {
                let fix = "check the id, and that the client's role is valid for its division";
                Finding::new(about, Verdict::Wrong, format!("{what} is not there")).fix(fix)
            }
            _ => Finding::new(about, Verdict::Unknown, format!("{what} could not be looked at: {err}")),
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

fn not_let_in(err: &GenesysError) -> Finding {
    let fix = "check `genesys.region`, `genesys.client_id` and the secret; the grant must be Client Credentials";
    Finding::new("access", Verdict::Wrong, err.to_string()).fix(fix)
}

/// What requests do, and the permission that each needs.
const RIGHTS: [(ApiOperation, &str, &str); 11] = [
    (ApiOperation::ListRead, "read contact lists", "outbound:contactList:view"),
    (ApiOperation::SweepJob, "look at jobs of a contact list", "outbound:contactList:view"),
    (ApiOperation::LeadsRead, "read contacts", "outbound:contact:view"),
    (ApiOperation::LeadsSearch, "search contacts", "outbound:contact:view"),
    (ApiOperation::LeadsWrite, "write contacts", "outbound:contact:add"),
    (ApiOperation::LeadsSweep, "change contacts by a job", "outbound:contact:edit"),
    (ApiOperation::LeadDelete, "take contacts out", "outbound:contact:delete"),
    (ApiOperation::CampaignRead, "read campaigns", "outbound:campaign:view"),
    (ApiOperation::RuleSetRead, "read rule sets", "outbound:ruleSet:view"),
    (ApiOperation::FilterRead, "read contact list filters", "outbound:contactListFilter:view"),
    (ApiOperation::SkillRead, "read skills", "routing:skill:view"),
];
