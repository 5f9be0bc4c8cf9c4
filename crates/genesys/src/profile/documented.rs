//! The guides' data entity: one row for each customer, replaced whole.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::ProfileUpdate;
use crate::SendFault;
use crate::settings::GenesysSettings;
use crate::transport::{ApiOperation, Method, ONE, Permits, Request, Transport};

const ENTITY: &str = "customer_profile_enrichment";

pub(super) async fn write(
    transport: &Transport,
    settings: &GenesysSettings,
    permits: &Permits,
    contact: &SecretString,
    update: &ProfileUpdate,
) -> Result<(), SendFault> {
    let Some(service) = &settings.data_service_id else {
        let reason = "`genesys.data_service_id` is not set: it names the data service of the entity".to_owned();
        return Err(SendFault::Down { reason });
    };
    let request = Request {
        operation: ApiOperation::EnrichmentWrite,
        method: Method::POST,
        path: &["data", "services", service, "entities", ENTITY],
        query: &[],
        body: Some(body(contact, update).to_string().into_bytes()),
        attempts: ONE,
    };
    transport.once(&request, permits).await.map(drop)
}

fn body(contact: &SecretString, update: &ProfileUpdate) -> Value {
    let mut entity = Map::new();
    entity.insert("customerId".to_owned(), json!(contact.expose_secret()));
    entity.insert("predicted_clv_value".to_owned(), json!((update.predicted_clv_value * 1e2).round() / 1e2));
    entity.insert("clv_tier".to_owned(), json!(update.clv_tier.as_str()));
    let scores = [("confidence_score", update.confidence_score), ("risk_score", update.risk_score)];
    for (name, score) in scores.into_iter().filter_map(|(name, score)| Some((name, score?))) {
        entity.insert(name.to_owned(), json!((score * 1e4).round() / 1e4));
    }
    entity.insert("last_calculated_at".to_owned(), json!(format!("{:.3}", update.last_calculated_at)));
    json!({ "entity": entity, "overwriteExisting": true })
}
