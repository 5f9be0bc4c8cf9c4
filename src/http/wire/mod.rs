//! What stands on the wire: requests as they are read, answers as they are written. Nothing here asks a model.

pub mod answer;
mod explanation;
mod fault;
pub mod flat;
pub mod json;
pub mod lead;
pub mod personal;
pub mod request;
pub mod response;
pub mod rows;
pub mod values;

pub use explanation::Explained;
