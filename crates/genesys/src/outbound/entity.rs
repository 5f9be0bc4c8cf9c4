//! The guides' entity `LeadScore`: a row for each lead, replaced whole. The platform has no such thing; something in front of
//! it may.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::seen::{self, written};
use super::{ContactRest, LeadTarget, LeadWrite, ReadLead, SeenScore, SweepState};
use crate::SendFault;
use crate::transport::{ApiOperation, Method, ONE, Permits, Request, Transport};
use scoreline_domain::time::Timestamp;

const ENTITY: &str = "LeadScore";
/// What the entity is called among targets.
pub(super) const TARGET: &str = "lead_entity";

/// `LeadTarget` of the guides.
pub(super) struct LeadEntity {
    transport: Arc<Transport>,
    service: String,
}

/// The guide's body, to the letter.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    entity: WrittenEntity<'a>,
    overwrite_existing: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenEntity<'a> {
    lead_id: &'a str,
    priority_score: u8,
    last_calculated_at: String,
}

/// A row, alone or inside `entity`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct FoundRow {
    entity: Option<Box<FoundRow>>,
    priority_score: Option<Value>,
    last_calculated_at: Option<String>,
}

impl FoundRow {
    fn seen(self) -> SeenScore {
        let row = self.entity.map_or((self.priority_score, self.last_calculated_at), |inner| {
            (inner.priority_score, inner.last_calculated_at)
        });
        let score = row.0.map(|score| match score {
            Value::String(text) => text,
            Value::Null => String::new(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
        });
        seen::score(score.as_deref(), row.1.as_deref())
    }
}

fn body(row: &LeadWrite<'_>) -> Vec<u8> {
    let entity = WrittenEntity {
        lead_id: row.read.lead.expose_secret(),
        priority_score: row.score,
        last_calculated_at: written(row.calculated_at),
    };
    // Texts and a number: there is nothing in it that cannot be written.
    serde_json::to_vec(&Written { entity, overwrite_existing: true }).unwrap_or_default()
}

impl LeadEntity {
    pub(super) fn new(transport: Arc<Transport>, service: &str) -> Self {
        Self { transport, service: service.to_owned() }
    }

    async fn read_each(&self, permits: &Permits, leads: &[SecretString]) -> Result<Vec<ReadLead>, SendFault> {
        let mut read = Vec::with_capacity(leads.len());
        for lead in leads {
            let request = Request {
                operation: ApiOperation::EntityRead,
                method: Method::GET,
                path: &["data", "services", &self.service, "entities", ENTITY, lead.expose_secret()],
                query: &[],
                body: None,
                attempts: ONE,
            };
            let seen = match self.transport.once(&request, permits).await {
                Ok(answer) => answer.json::<FoundRow>().map_err(|err| SendFault::from(&err))?.seen(),
                // A row that is not there yet is made by the write: that is what it is for.
                Err(SendFault::Refused { status: 404, .. }) => SeenScore::Never,
                Err(fault) => return Err(fault),
            };
            read.push(ReadLead { lead: lead.clone(), seen, rest: ContactRest::default() });
        }
        Ok(read)
    }

    async fn write_each(
        &self,
        permits: &Permits,
        rows: &[LeadWrite<'_>],
    ) -> Result<Vec<Result<(), SendFault>>, SendFault> {
        let mut results = Vec::with_capacity(rows.len());
        for row in rows {
            let request = Request {
                operation: ApiOperation::EntityWrite,
                method: Method::POST,
                path: &["data", "services", &self.service, "entities", ENTITY],
                query: &[],
                body: Some(body(row)),
                attempts: ONE,
            };
            results.push(match self.transport.once(&request, permits).await {
                Ok(_) => Ok(()),
                Err(SendFault::Refused { status: 404 | 405, reason }) => {
                    return Err(SendFault::Down {
                        reason: format!("`genesys.data_service_id` is not there: {reason}"),
                    });
                }
                Err(fault) => Err(fault),
            });
        }
        Ok(results)
    }
}

impl LeadTarget for LeadEntity {
    fn target(&self) -> &'static str {
        TARGET
    }

    fn most(&self) -> usize {
        1
    }

    fn read<'a>(
        &'a self,
        permits: &'a Permits,
        leads: &'a [SecretString],
    ) -> BoxFuture<'a, Result<Vec<ReadLead>, SendFault>> {
        self.read_each(permits, leads).boxed()
    }

    fn write<'a>(
        &'a self,
        permits: &'a Permits,
        rows: &'a [LeadWrite<'a>],
    ) -> BoxFuture<'a, Result<Vec<Result<(), SendFault>>, SendFault>> {
        self.write_each(permits, rows).boxed()
    }

    fn start_sweep<'a>(
        &'a self,
        _: &'a Permits,
        _: Timestamp,
        _: u8,
    ) -> BoxFuture<'a, Result<Option<String>, SendFault>> {
        std::future::ready(Ok(None)).boxed()
    }

    fn poll_sweep<'a>(&'a self, _: &'a Permits, _: &'a str) -> BoxFuture<'a, Result<SweepState, SendFault>> {
        std::future::ready(Ok(SweepState::Failed)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_guides() {
        let read =
            ReadLead { lead: SecretString::from("10000045"), seen: SeenScore::Never, rest: ContactRest::default() };
        let calculated_at = "2023-10-27T14:30:00Z".parse().expect("a time");
        let row = LeadWrite { read: &read, score: 87, calculated_at, band: Some("A"), reason: Some("unused") };
        let text = String::from_utf8(body(&row)).expect("text");
        assert_eq!(
            text,
            r#"{"entity":{"leadId":"10000045","priorityScore":87,"lastCalculatedAt":"2023-10-27T14:30:00.000Z"},"overwriteExisting":true}"#
        );
    }

    #[test]
    fn a_row_is_read_alone_or_inside() {
        for text in [
            r#"{"entity":{"priorityScore":87,"lastCalculatedAt":"2023-10-27T14:30:00Z"}}"#,
            r#"{"leadId":"1","priorityScore":"87.0","lastCalculatedAt":"2023-10-27T14:30:00Z"}"#,
        ] {
            let row: FoundRow = serde_json::from_str(text).expect("JSON");
            assert!(matches!(row.seen(), SeenScore::At { score: 87, calculated_at: Some(_) }), "{text}");
        }
        assert_eq!(serde_json::from_str::<FoundRow>("{}").expect("JSON").seen(), SeenScore::Never);
    }
}
