//! The organisation's limits, as the platform lists them.

use std::collections::BTreeMap;

use super::answer::{Answer, Limit, ReceivedCall, Refusal};
use super::routes::TOKEN_LIMIT;
use super::world::World;

/// `GET /api/v2/organizations/limits/namespaces/{namespaceName}`, and its defaults.
pub(super) fn namespace(world: &World, call: &ReceivedCall<'_>) -> Result<Answer, Refusal> {
    let limits = &world.settings.limits;
    let requests = u64::from(limits.requests);
    let (namespace, own): (&'static str, Vec<(&str, u64)>) = match call.parameter(0) {
        "platform.api" => (
            "platform.api",
            vec![
                (TOKEN_LIMIT, requests),
                ("token.rate.per.minute", requests),
                ("org.app.user.rate.per.minute", 10 * requests),
                ("request.bytes.max", limits.request_bytes as u64),
            ],
        ),
        "analytics" => ("analytics", vec![("details.jobs.concurrent.access.max", world.settings.jobs.at_once as u64)]),
        "outbound" => ("outbound", vec![("contacts.per.request.max", limits.contacts as u64)]),
        "external.contacts" => ("external.contacts", vec![("bulk.enrich.max", limits.enrich as u64)]),
        "dataactions" => ("dataactions", vec![("concurrent.executions.max", 50)]),
        "datatables" => ("datatables", vec![("datatable.rows.max", 5000)]),
        "speech.and.text.analytics" => ("speech.and.text.analytics", Vec::new()),
        _ => return Err(Refusal::not_found("namespace")),
    };
    let entities: Vec<Limit> =
        own.into_iter().map(|(key, value)| Limit { key: key.to_owned(), namespace, value }).collect();
    Ok(Answer::json(&BTreeMap::from([("entities", entities)])))
}
