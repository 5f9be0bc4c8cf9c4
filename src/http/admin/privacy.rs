//! `/admin/privacy`: under which pepper customers are kept, and what is refused. Never a pepper.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::openapi::{Operation, Tag};
use crate::http::wire::json::respond;
use scoreline_domain::privacy::{Eraser, IdHasher, Screen};

#[derive(Serialize, ToSchema)]
#[schema(as = Privacy)]
struct PrivacyBody {
    /// Tells peppers apart and says nothing about them.
    pepper_id: String,
    /// Whether a customer has the same key after a restart.
    pepper_lasts: bool,
    previous_pepper_ids: Vec<String>,
    /// Whether the previous ones are tried at the moment.
    rotating: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    previous_until: Option<String>,
    identifiers: &'static str,
    numeric_ids: &'static str,
    refuse_pii: bool,
    tombstones: usize,
    /// `for_good`, or `until_restart` where nothing outlasts the process or an erasure waits for the store.
    tombstones_hold: &'static str,
}

pub(crate) fn describe() -> Operation {
    Operation::new(Tag::Administration, "privacy", "Under which pepper customers are kept, and what is refused")
        .gives::<PrivacyBody>(StatusCode::OK, "Never a pepper.")
}

pub(crate) async fn handle(State(hasher): State<IdHasher>, State(eraser): State<Eraser>) -> Response {
    let mut peppers = hasher.pepper_ids().into_iter().map(|id| id.to_string());
    let Screen { identifiers, numeric_ids, refuse_pii } = hasher.screen();
    let body = PrivacyBody {
        pepper_id: peppers.next().unwrap_or_default(),
        pepper_lasts: eraser.lasts(),
        previous_pepper_ids: peppers.collect(),
        rotating: hasher.is_rotating(),
        previous_until: hasher.previous_until().map(|until| until.to_string()),
        identifiers: identifiers.as_str(),
        numeric_ids: numeric_ids.as_str(),
        refuse_pii,
        tombstones: eraser.tombstones().len(),
        tombstones_hold: if eraser.lasts() && !eraser.is_waiting() { "for_good" } else { "until_restart" },
    };
    respond(StatusCode::OK, &body)
}
