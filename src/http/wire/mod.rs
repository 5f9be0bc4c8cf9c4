//! What stands on the wire: requests as they are read, answers as they are written. Nothing here asks a model.

pub(super) mod answer;
mod explanation;
mod fault;
pub(super) mod flat;
pub(super) mod json;
pub(super) mod lead;
pub(super) mod lead_event;
pub(super) mod oip;
pub(super) mod personal;
pub(super) mod raw_object;
pub(super) mod request;
pub(super) mod response;
pub(super) mod rows;
pub(super) mod values;

pub(super) use explanation::{Explain, Explained};
