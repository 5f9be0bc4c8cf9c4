//! Around every request, whatever it asks for: its id, who asks, how long they wait, its body, and how an error goes out.

pub mod auth;
pub mod body;
pub mod deadline;
pub mod error;
pub mod head;
pub mod headers;
pub mod observe;
pub mod request_id;
