//! Around every request, whatever it asks for: its id, who asks, how long they wait, its body, and how an error goes out.

pub(super) mod auth;
pub(super) mod body;
pub(super) mod deadline;
pub(super) mod error;
pub(super) mod grpc;
pub(super) mod head;
pub(super) mod headers;
pub(super) mod observe;
pub(super) mod origin;
pub(super) mod refusal;
pub(super) mod request_id;
