//! The guides' data entity: one row for each customer, replaced whole.

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{ProfileScores, ProfileUpdate, ProfileWritten, TRY_MUCH_LATER, WriteFault, fault};
use crate::settings::GenesysSettings;
use crate::transport::{ApiOperation, HASTY, Method, Request, Transport};

const ENTITY: &str = "customer_profile_enrichment";

pub(super) async fn write(
    transport: &Transport,
    settings: &GenesysSettings,
    contact: &SecretString,
    update: &ProfileUpdate,
) -> Result<ProfileWritten, WriteFault> {
    let Some(service) = &settings.data_service_id else {
        let reason = "`genesys.data_service_id` is not set: it names the data service of the entity".to_owned();
        return Err(WriteFault::Retry { after: TRY_MUCH_LATER, reason });
    };
    let request = Request {
        operation: ApiOperation::EnrichmentWrite,
        method: Method::POST,
        path: &["data", "services", service, "entities", ENTITY],
        query: &[],
        body: Some(body(contact, &update.scores).to_string().into_bytes()),
        attempts: HASTY,
    };
    transport.call(&request).await.map(|_| ProfileWritten::Changed).map_err(|err| fault(&err))
}

fn body(contact: &SecretString, scores: &ProfileScores) -> Value {
    let mut entity = Map::new();
    entity.insert("customerId".to_owned(), json!(contact.expose_secret()));
    entity.insert("predicted_clv_value".to_owned(), json!((scores.predicted_clv_value * 1e2).round() / 1e2));
    entity.insert("clv_tier".to_owned(), json!(scores.clv_tier.as_str()));
    let shares = [("confidence_score", scores.confidence_score), ("risk_score", scores.risk_score)];
    for (name, score) in shares.into_iter().filter_map(|(name, score)| Some((name, score?))) {
        entity.insert(name.to_owned(), json!((score * 1e4).round() / 1e4));
    }
    entity.insert("last_calculated_at".to_owned(), json!(format!("{:.3}", scores.last_calculated_at)));
    json!({ "entity": entity, "overwriteExisting": true })
}
