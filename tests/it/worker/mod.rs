//! The jobs end to end: from the simulated platform into the store, through features and scores, and back to profiles.

mod end_to_end;
mod files;
mod hundred_thousand;
mod killed;
mod line;
mod replicas;
mod reveal;
pub mod served;
