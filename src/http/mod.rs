//! HTTP transport only: unpack, call one service, wrap. One endpoint, one file; wire structs never leave this module.
//!
//! Its rooms, each of which may only look at those before it: `state` (what there is to ask), `edge` (around every
//! request), `openapi` (what routes say of themselves), `wire` (what stands on the wire), `page` (what people look at), `routes` and `admin` (one endpoint a file),
//! `router` (the table of them), `service` (the doors of a listener).

mod admin;
pub mod admission;
mod documents;
mod edge;
mod openapi;
mod operator_desk;
mod page;
mod router;
mod routes;
mod service;
mod state;
mod wire;

pub use admin::operator::keep_live;
pub(crate) use admin::push::{PushBody, look};
pub use documents::Documents;
pub use edge::auth::Access;
pub use operator_desk::OperatorDesk;
pub use router::{ListenerName, ROUTES, Route};
pub(crate) use routes::lead_scores::{LeadIntake, LeadTally};
pub(crate) use routes::leads::LeadReport;
pub use routes::predict_later::answer_later;
pub use service::Endpoints;
pub use state::{
    EventKeys, HttpSettings, HttpState, Jobs, QuestionDesk, Readiness, SharedState, StoreTrouble, WidgetAccess,
    WidgetDesk, WidgetSettings, WriteBackDesk,
};
