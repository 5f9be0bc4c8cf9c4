//! A contact list: many contacts are read at once, compared elsewhere, and written at once.
//!
//! The platform's write makes contacts that are not there, keeps no version and may empty columns that are not sent. So only
//! contacts that were just read are written, with all their columns, and never anything but `id` and `data`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use metrics::counter;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tracing::warn;

use super::list_state::{self, of_list};
use super::{ContactRest, LeadTarget, LeadWrite, ReadLead, SeenScore, SweepState, body, seen, sweep};
use crate::SendFault;
use crate::settings::OutboundSettings;
use crate::transport::{ApiOperation, Method, ONE, Permits, Request, Transport};
use scoreline_domain::time::{Clock, Timestamp};

/// A list that was found to be all right is not looked at again so soon: batches are cut in halves around bad contacts.
const LOOKED_AT: Duration = Duration::from_mins(1);

/// `LeadTarget` of the platform.
pub(super) struct ContactList {
    transport: Arc<Transport>,
    settings: OutboundSettings,
    id: String,
    target: String,
    clock: Arc<dyn Clock>,
    /// When the list itself was last found to be all right. Locked for a moment, never across an await.
    all_right_at: Mutex<Option<Duration>>,
}

/// What is looked at of a contact; its numbers, states and calls are not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundContact {
    id: String,
    #[serde(default)]
    data: HashMap<String, Value>,
    #[serde(default)]
    date_created: Option<String>,
}

/// What a list is called among targets.
pub(super) fn target_of(id: &str) -> String {
    format!("contact_list:{id}")
}

impl ContactList {
    pub(super) fn new(transport: Arc<Transport>, settings: OutboundSettings, id: &str, clock: Arc<dyn Clock>) -> Self {
        let target = target_of(id);
        Self { transport, settings, id: id.to_owned(), target, clock, all_right_at: Mutex::default() }
    }

    fn request<'a>(
        operation: ApiOperation,
        path: &'a [&'a str],
        query: &'a [(&'a str, &'a str)],
        body: Vec<u8>,
    ) -> Request<'a> {
        Request { operation, method: Method::POST, path, query, body: Some(body), attempts: ONE }
    }

    async fn read_all(&self, permits: &Permits, leads: &[SecretString]) -> Result<Vec<ReadLead>, SendFault> {
        let ids: Vec<&str> = leads.iter().map(ExposeSecret::expose_secret).collect();
        // Texts alone can always be written.
        let body = serde_json::to_vec(&ids).unwrap_or_default();
        let path = ["outbound", "contactlists", &self.id, "contacts", "bulk"];
        let request = Self::request(ApiOperation::LeadsRead, &path, &[], body);
        let answer = self.transport.once(&request, permits).await.map_err(of_list)?;
        let found: Vec<FoundContact> = answer.json().map_err(|err| SendFault::from(&err))?;
        let mut by_id: HashMap<String, FoundContact> =
            found.into_iter().map(|contact| (contact.id.clone(), contact)).collect();
        Ok(leads.iter().map(|lead| self.as_read(lead, by_id.remove(lead.expose_secret()))).collect())
    }

    fn as_read(&self, lead: &SecretString, found: Option<FoundContact>) -> ReadLead {
        let Some(found) = found else {
            return ReadLead { lead: lead.clone(), seen: SeenScore::Missing, rest: ContactRest::default() };
        };
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Null => None,
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(other.to_string()),
        };
        let columns = found.data.into_iter().filter_map(|(name, value)| Some((name, text(value)?))).collect();
        let rest = ContactRest { columns, created: found.date_created };
        let column = |name: &String| rest.columns.get(name).map(String::as_str);
        let seen = seen::score(column(&self.settings.score_column), column(&self.settings.time_column));
        ReadLead { lead: lead.clone(), seen, rest }
    }

    async fn write_all(
        &self,
        permits: &Permits,
        rows: &[LeadWrite<'_>],
    ) -> Result<Vec<Result<(), SendFault>>, SendFault> {
        // Nobody is made: who was not there is left out, whatever the caller thinks.
        let known = |row: &LeadWrite<'_>| row.read.seen != SeenScore::Missing;
        let contact = |row| body::contact(&self.id, &self.settings, row);
        let there: Vec<usize> = (0..rows.len()).filter(|place| known(&rows[*place])).collect();
        let contacts: Vec<Vec<u8>> = there.iter().map(|place| contact(&rows[*place])).collect();
        let absent = SendFault::Refused { status: 404, reason: "the list has no such contact".to_owned() };
        let mut results: Vec<Result<(), SendFault>> = vec![Err(absent); rows.len()];
        let mut stopped: Option<SendFault> = None;
        let mut has_sent = false;
        for request in body::requests(&contacts) {
            match request {
                Err(place) => {
                    let reason = "`too_large`: the contact alone is larger than a request may be".to_owned();
                    results[there[place]] = Err(SendFault::Refused { status: 413, reason });
                }
                Ok(range) => {
                    let sent = match &stopped {
                        Some(fault) => Err(fault.clone()),
                        None => self.send(permits, body::array(&contacts[range.clone()]), rows).await,
                    };
                    if let Err(fault @ (SendFault::NotSent { .. } | SendFault::Down { .. })) = &sent {
                        stopped = Some(fault.clone());
                    }
                    has_sent |= !matches!(sent, Err(SendFault::NotSent { .. } | SendFault::Down { .. }));
                    range.for_each(|place| results[there[place]].clone_from(&sent));
                }
            }
        }
        match stopped {
            Some(fault) if !has_sent => Err(fault),
            Some(_) | None => Ok(results),
        }
    }

    async fn send(&self, permits: &Permits, body: Vec<u8>, rows: &[LeadWrite<'_>]) -> Result<(), SendFault> {
        let path = ["outbound", "contactlists", &self.id, "contacts"];
        // Without the first, who was called already is called again; with the second, attempts and states are forgotten.
        let query = [("doNotQueue", "true"), ("clearSystemData", "false")];
        let request = Self::request(ApiOperation::LeadsWrite, &path, &query, body);
        match self.transport.once(&request, permits).await {
            Ok(answer) => {
                // An answer that cannot be read is of a write that was made all the same.
                if let Ok(written) = answer.json::<Vec<FoundContact>>() {
                    notice_recreated(&written, rows);
                }
                Ok(())
            }
            Err(fault @ SendFault::Refused { status: 400, .. }) => Err(self.look(permits).await.unwrap_or(fault)),
            Err(fault) => Err(of_list(fault)),
        }
    }

    /// What is wrong with the list itself, when a write was refused as a bad one.
    async fn look(&self, permits: &Permits) -> Option<SendFault> {
        let now = self.clock.monotonic();
        let is_fresh = |at: Duration| now < at + LOOKED_AT;
        if self.all_right_at.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(is_fresh) {
            return None;
        }
        match list_state::fault(&self.transport, &self.settings, &self.id, permits).await {
            Ok(Some(fault)) | Err(fault @ SendFault::Down { .. }) => Some(fault),
            Ok(None) => {
                *self.all_right_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                None
            }
            // Not known: rather later again than a lead given up for what its list has.
            Err(fault) => Some(SendFault::NotSent { until: None, reason: fault.to_string() }),
        }
    }
}

/// A contact that was taken out between our read and our write is made anew by the write. That cannot be prevented, so it is
/// said.
fn notice_recreated(written: &[FoundContact], rows: &[LeadWrite<'_>]) {
    let created =
        |row: &LeadWrite<'_>| Some((row.read.lead.expose_secret().to_owned(), row.read.rest.created.clone()?));
    let before: HashMap<String, String> = rows.iter().filter_map(created).collect();
    let is_new = |contact: &&FoundContact| {
        let then = before.get(&contact.id).zip(contact.date_created.as_ref());
        then.is_some_and(|(then, now)| then != now)
    };
    let recreated = written.iter().filter(is_new).count();
    if recreated > 0 {
        counter!("scoreline_push_recreated_total").increment(recreated as u64);
        warn!(contacts = recreated, "contacts were taken out of the list while they were written, and are there again");
    }
}

impl LeadTarget for ContactList {
    fn target(&self) -> &str {
        &self.target
    }

    fn most(&self) -> usize {
        body::MOST
    }

    fn read<'a>(
        &'a self,
        permits: &'a Permits,
        leads: &'a [SecretString],
    ) -> BoxFuture<'a, Result<Vec<ReadLead>, SendFault>> {
        self.read_all(permits, leads).boxed()
    }

    fn write<'a>(
        &'a self,
        permits: &'a Permits,
        rows: &'a [LeadWrite<'a>],
    ) -> BoxFuture<'a, Result<Vec<Result<(), SendFault>>, SendFault>> {
        self.write_all(permits, rows).boxed()
    }

    fn start_sweep<'a>(
        &'a self,
        permits: &'a Permits,
        cutoff: Timestamp,
        value: u8,
    ) -> BoxFuture<'a, Result<Option<String>, SendFault>> {
        let now = self.clock.now();
        let body = sweep::body(&self.id, &self.settings, now, cutoff, value);
        sweep::start(&self.transport, &self.id, permits, body).boxed()
    }

    fn poll_sweep<'a>(&'a self, permits: &'a Permits, job: &'a str) -> BoxFuture<'a, Result<SweepState, SendFault>> {
        sweep::poll(&self.transport, &self.id, permits, job).boxed()
    }
}
