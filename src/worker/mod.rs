//! The jobs beside the answers: history is extracted, folded into features, scored, and written back to profiles; scores of
//! leads are pushed and grow old. Questions that nobody waits for are answered, and callbacks told.
//!
//! Each job finds in the store what there is to do and leaves there what it did, so that it can be killed anywhere. A
//! failing job is shown and tried again; nothing that answers requests waits for one.
//!
//! Rows and the position they end at, a score and the wish for a profile, are one transaction each. One runner among
//! replicas holds a fenced lease; writes under a lost lease fail. All jobs share one task, so they use no more than one
//! of the threads that answer requests.

mod backoff;
mod board;
pub mod callbacks;
pub mod deliver;
pub mod expire;
pub mod extract;
pub mod feature_feed;
pub mod features;
pub mod follow_features;
mod lease;
mod position;
pub mod predictions;
mod progress;
pub mod push;
pub mod rescore;
pub mod schedule;
mod settings;
pub mod write_back;

pub use board::Board;
pub use lease::Leases;
pub use progress::JobProgress;
pub use settings::{ExtractSettings, LeadTargets, PushSettings, SinkSettings, UpkeepSettings, WriteBackSettings};

use scoreline_domain::text::with_causes;
use scoreline_genesys::GenesysError;
use scoreline_store::StoreError;

/// Tells the recorder what the jobs measure.
pub fn describe() {
    progress::describe();
    extract::describe();
    features::describe();
    rescore::describe();
    write_back::describe();
    push::describe();
    expire::describe();
    predictions::describe();
    callbacks::describe();
}

/// Why a run did not do its work. It is tried again.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Genesys(#[from] GenesysError),
    #[error("no model `{model}` is loaded")]
    NoModel { model: String },
    #[error("{failed} of {asked} customers could not be scored: the model gives no answer")]
    NotScored { failed: u64, asked: u64 },
    #[error("nothing of {updates} updates could be written: {reason}")]
    SinkDown { updates: usize, reason: String },
    #[error("{doing} panicked")]
    Panicked { doing: &'static str },
    #[error("position of `{source_name}` cannot be kept")]
    Position {
        source_name: &'static str,
        #[source]
        err: serde_json::Error,
    },
}

impl JobError {
    /// The error with its causes.
    pub fn reason(&self) -> String {
        with_causes(self)
    }
}
