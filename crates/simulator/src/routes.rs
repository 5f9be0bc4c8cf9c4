//! Every endpoint: the table of contents of the simulated platform.

use super::answer::{Answer, ReceivedCall, Refusal};
use super::world::World;
use super::{contacts, details, documented, limits, oauth, outbound, transcripts};

/// The limit of requests of a token.
pub(super) const TOKEN_LIMIT: &str = "client.credentials.token.rate.per.minute";

type Handler = fn(&World, &ReceivedCall<'_>) -> Result<Answer, Refusal>;

pub(super) struct EndpointRoute {
    pub(super) method: &'static str,
    pub(super) template: &'static str,
    /// Answered without a token, and not counted.
    pub(super) open: bool,
    pub(super) handler: Handler,
}

const fn route(method: &'static str, template: &'static str, handler: Handler) -> EndpointRoute {
    EndpointRoute { method, template, open: false, handler }
}

/// A path's fixed segments come before parameters in the same place.
const ROUTES: &[EndpointRoute] = &[
    EndpointRoute { method: "POST", template: "/oauth/token", open: true, handler: oauth::token },
    route("POST", "/api/v2/analytics/conversations/details/query", details::query),
    route("POST", "/api/v2/analytics/conversations/details/jobs", details::start),
    route("GET", "/api/v2/analytics/conversations/details/jobs/availability", details::availability),
    route("GET", "/api/v2/analytics/conversations/details/jobs/{jobId}", details::status),
    route("DELETE", "/api/v2/analytics/conversations/details/jobs/{jobId}", details::delete),
    route("GET", "/api/v2/analytics/conversations/details/jobs/{jobId}/results", details::results),
    route("GET", "/api/v2/analytics/conversations/details", details::by_ids),
    route("GET", "/api/v2/analytics/conversations/{conversationId}/details", details::by_id),
    route("POST", "/api/v2/analytics/transcripts/aggregates/query", transcripts::aggregates),
    route("GET", "/api/v2/speechandtextanalytics/conversations/{conversationId}", transcripts::conversation),
    route("GET", "/api/v2/externalcontacts/contacts/{contactId}", contacts::get),
    route("PUT", "/api/v2/externalcontacts/contacts/{contactId}", contacts::put),
    route("PATCH", "/api/v2/externalcontacts/contacts/{contactId}", contacts::patch),
    route("POST", "/api/v2/externalcontacts/contacts/enrich", contacts::enrich),
    route("POST", "/api/v2/externalcontacts/bulk/contacts/enrich", contacts::bulk_enrich),
    route("POST", "/api/v2/externalcontacts/bulk/contacts/update", contacts::bulk_update),
    route("POST", "/api/v2/externalcontacts/identifierlookup/contacts", contacts::lookup),
    route("GET", "/api/v2/organizations/limits/namespaces/{namespaceName}", limits::namespace),
    route("GET", "/api/v2/organizations/limits/namespaces/{namespaceName}/defaults", limits::namespace),
    route("GET", "/api/v2/outbound/contactlists/{contactListId}", outbound::contact_list),
    route("POST", "/api/v2/outbound/contactlists/{contactListId}/contacts", outbound::upsert),
    route("POST", "/api/v2/outbound/contactlists/{contactListId}/contacts/bulk", outbound::many),
    route("POST", "/api/v2/outbound/contactlists/{contactListId}/contacts/bulk/update", outbound::update),
    route("GET", "/api/v2/outbound/contactlists/{contactListId}/contacts/bulk/jobs/{jobId}", outbound::job),
    route("POST", "/api/v2/outbound/contactlists/{contactListId}/contacts/search", outbound::search),
    route("GET", "/api/v2/outbound/contactlists/{contactListId}/contacts/{contactId}", outbound::get),
    route("PUT", "/api/v2/outbound/contactlists/{contactListId}/contacts/{contactId}", outbound::put),
    route("DELETE", "/api/v2/outbound/contactlists/{contactListId}/contacts/{contactId}", outbound::delete),
    route("GET", "/api/v2/outbound/campaigns/{campaignId}", outbound::campaign),
    route("GET", "/api/v2/outbound/rulesets/{ruleSetId}", outbound::rule_set),
    route("GET", "/api/v2/outbound/contactlistfilters/{contactListFilterId}", outbound::contact_list_filter),
    route("GET", "/api/v2/routing/skills/{skillId}", outbound::skill),
    route("GET", "/api/v2/analytics/interactionhistory", documented::history),
    route("POST", "/api/v2/data/services/{serviceId}/entities/{entity}", documented::write),
    route("GET", "/api/v2/data/services/{serviceId}/entities/{entity}/{key}", documented::read),
];

/// What a path leads to.
pub(super) enum RouteMatch {
    Route(&'static EndpointRoute, Vec<String>),
    /// There is such a path, with other methods.
    OtherMethod(&'static str),
    Nothing,
}

/// Method and template of every endpoint.
pub(super) fn templates() -> impl Iterator<Item = (&'static str, &'static str)> {
    ROUTES.iter().map(|route| (route.method, route.template))
}

/// Finds the endpoint of a path (without its query).
pub(super) fn find(method: &str, path: &str) -> RouteMatch {
    let mut other = RouteMatch::Nothing;
    for route in ROUTES {
        let Some(parameters) = parameters(route.template, path) else { continue };
        if route.method == method {
            return RouteMatch::Route(route, parameters);
        }
        other = RouteMatch::OtherMethod(route.template);
    }
    other
}

fn parameters(template: &str, path: &str) -> Option<Vec<String>> {
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut parameters = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parameters),
            (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {
                parameters.push(decoded(given));
            }
            (Some(wanted), Some(given)) if wanted == given => {}
            (Some(_) | None, Some(_) | None) => return None,
        }
    }
}

/// Name and value of every part of a query string.
pub(super) fn query(text: &str) -> Vec<(String, String)> {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| part.split_once('=').unwrap_or((part, "")))
        .map(|(key, value)| (decoded(key), decoded(value)))
        .collect()
}

/// Without percent signs and plus signs; what is not well formed stays.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after
            .get(..2)
            .and_then(|pair| str::from_utf8(pair).ok())
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                out.push(b' ');
                rest = after;
            }
            (&byte, _) => {
                out.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_endpoints() {
        let template = |method: &str, path: &str| match find(method, path) {
            RouteMatch::Route(route, parameters) => (route.template, parameters),
            RouteMatch::OtherMethod(template) => ("other", vec![template.to_owned()]),
            RouteMatch::Nothing => ("nothing", Vec::new()),
        };
        let jobs = "/api/v2/analytics/conversations/details/jobs";
        assert_eq!(template("GET", &format!("{jobs}/availability")).0, format!("{jobs}/availability"));
        assert_eq!(template("GET", &format!("{jobs}/a%20b")).1, ["a b"]);
        assert_eq!(template("PATCH", jobs), ("other", vec![jobs.to_owned()]));
        assert_eq!(template("GET", "/api/v2/analytics/conversations/details/jobs/").0, "nothing");
        assert_eq!(
            query("a=1&b=x%2Fy+z&c"),
            [("a", "1"), ("b", "x/y z"), ("c", "")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
    }
}
