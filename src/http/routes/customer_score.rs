//! `GET /v1/customers/{id}/score`: the score of one customer, by id.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::customers::{Customer, identifier};
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::{RequestId, with_request_id};
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::answer::{ClvAnswer, Context};
use crate::http::wire::json::respond;
use crate::http::wire::personal::refusal;
use crate::scoring::{Ask, Prefer, Scorer};
use scoreline_domain::privacy::IdHasher;

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Customers, "customer_score", "The last score of a customer, or that of their stored features")
        .at("id", "The customer.")
        .gives::<ClvAnswer<'static>>(StatusCode::OK, "The score.")
        .refuses(&[Code::InvalidField, Code::PiiRefused, Code::NotFound, Code::NoModel, Code::UnknownModel])
}

/// The last score that was given, with its age; without one, the score of the features that are stored of the customer.
/// A baseline is nobody's score, so a customer of whom neither is known is not found.
pub(crate) async fn handle(
    State(scorer): State<Scorer>,
    State(hasher): State<IdHasher>,
    id: RequestId,
    customer: Customer,
) -> Result<Response, ApiError> {
    let customer = identifier(customer)?;
    hasher.screen().identifier(&customer).map_err(|why| refusal("customerId", why))?;
    let key = hasher.key(&customer);
    let unknown = || {
        let problem =
            "no score of this customer is known from the last 24 hours, and none can be made of what is stored of them";
        ApiError::new(Code::NotFound, problem)
    };
    let is_stored = scorer.table().find(&key).is_some();
    if !is_stored && scorer.cache().last(scorer.default_model(), key, scorer.now()).is_none() {
        return Err(unknown());
    }
    let scored = scorer.score(Ask { customer: Some(key), prefer: Prefer::LastScore, ..Ask::default() }).await?;
    if scored.baseline.is_some() {
        return Err(unknown());
    }
    let context = Context { request_id: id.as_str(), features_as_of: None };
    let response = respond(StatusCode::OK, &ClvAnswer::new(&scored, None, context));
    Ok(with_request_id(response, id.as_str()))
}
