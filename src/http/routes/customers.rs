//! `DELETE /v1/customers/{id}`: erases a customer everywhere, for good.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::edge::deadline::kept_in_time;
use crate::http::edge::error::{ApiError, Code};
use crate::http::edge::request_id::{RequestId, RequestMetadata, with_request_id};
use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::respond;
use scoreline_domain::privacy::audit::{self, Actor, AuditAction, AuditOutcome};
use scoreline_domain::privacy::erasure::ErasureFault;
use scoreline_domain::privacy::{Eraser, IdHasher};

/// Longest identifier, in bytes, as in a body.
const LONGEST_ID: usize = 256;

/// The customer in a path.
pub(crate) type Customer = Result<Path<String>, PathRejection>;

#[derive(Serialize, ToSchema)]
struct ErasedAnswer<'a> {
    status: &'static str,
    /// Whether anything was known of the customer. An identifier written in another way is another customer.
    found: bool,
    /// Entries by place; all 0 for a customer nothing was known of.
    erased: BTreeMap<&'static str, u64>,
    /// `kept`, or `until_restart` where nothing outlasts the process.
    tombstone: &'static str,
    metadata: RequestMetadata<'a>,
}

pub(crate) fn describe() -> Operation {
    erasure("erase_customer", "Erases a customer everywhere, for good").at("id", "The customer.")
}

pub(crate) fn describe_lead() -> Operation {
    erasure("erase_lead", "Erases a lead everywhere, for good").at("id", "The lead.")
}

fn erasure(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(Tag::Facts, id, summary)
        .gives::<ErasedAnswer<'static>>(StatusCode::OK, "What was erased where; nothing of somebody who was not known.")
        .refuses(&[Code::InvalidField, Code::ErasureIncomplete])
}

/// Any identifier can be erased, also one that would be refused today.
pub(crate) async fn handle(
    State(eraser): State<Eraser>,
    State(hasher): State<IdHasher>,
    actor: Option<Extension<Actor>>,
    id: RequestId,
    customer: Customer,
) -> Result<Response, ApiError> {
    let Extension(actor) = actor.unwrap_or_default();
    let keys = hasher.keys(&identifier(customer)?);
    let lasts = eraser.lasts();
    let request_id = id.as_str().to_owned();
    // On a thread that may wait for the disk, and to its end even when the caller hangs up.
    let erasing = tokio::task::spawn_blocking(move || {
        let erased = eraser.erase(&keys);
        let outcome = if erased.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
        audit::record(&actor, AuditAction::EraseCustomer, "customer", outcome, &request_id);
        erased
    });
    let late = |_| incomplete("the store gave no answer in time");
    let erased = kept_in_time(Code::ErasureIncomplete, erasing).await.map_err(late)?;
    let erased = erased.map_err(|_| incomplete("it broke off"))??;
    let answer = ErasedAnswer {
        status: "success",
        found: erased.iter().any(|(_, entries)| *entries > 0),
        erased: erased.into_iter().collect(),
        tombstone: if lasts { "kept" } else { "until_restart" },
        metadata: RequestMetadata { request_id: id.as_str() },
    };
    Ok(with_request_id(respond(StatusCode::OK, &answer), id.as_str()))
}

/// The identifier in a path, without outer blanks as everywhere.
///
/// # Errors
/// Names what an identifier may be.
pub(crate) fn identifier(customer: Customer) -> Result<String, ApiError> {
    let problem = || {
        let problem = format!("the customer's id must be 1 to {LONGEST_ID} bytes of UTF-8");
        ApiError::field(Code::InvalidField, "customerId", problem)
    };
    let Path(customer) = customer.map_err(|_| problem())?;
    let customer = customer.trim();
    if customer.is_empty() || customer.len() > LONGEST_ID { Err(problem()) } else { Ok(customer.to_owned()) }
}

fn incomplete(why: &str) -> ApiError {
    let message = format!(
        "the erasure is not complete: {why}; it is tried again and nothing new is kept of the customer until the server is \
         stopped; ask again"
    );
    ApiError::new(Code::ErasureIncomplete, message)
}

impl From<ErasureFault> for ApiError {
    fn from(fault: ErasureFault) -> Self {
        // The cause names files of this machine: it is in the log.
        incomplete(&fault.to_string())
    }
}
