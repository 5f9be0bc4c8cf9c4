//! Where scores are written to: the platform's customer profiles, a file, or whoever waits for an answer. One file of code
//! a sink.

pub mod callback;
pub mod file;
pub mod profile;

use std::time::Duration;

use futures_util::future::BoxFuture;

use scoreline_domain::{CustomerKey, SealedId};
pub use scoreline_genesys::profile::ProfileScores;

pub use callback::{CallbackHosts, CallbackSettings, Callbacks};
pub use file::{FileFormat, FileSettings, FileSink};
pub use profile::ProfileSink;

/// What a customer's profile is to say.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreUpdate {
    pub customer: CustomerKey,
    /// What the customer is called where profiles are; a file needs none.
    pub contact: Option<SealedId>,
    pub scores: ProfileScores,
    /// What was written before, where that is known.
    pub last: Option<ProfileScores>,
}

/// What an update was written over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrittenOver {
    /// Nothing, or what was written before, as far as can be seen.
    Own,
    /// Something that somebody else made of it.
    Edit,
}

/// Why one update was not written, for people: a reason names no customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkFault {
    /// It is worth another try after a while.
    Retry { after: Duration, reason: String },
    /// It will never be taken as it is.
    Dead { reason: String },
}

/// Takes scores. Writing the same update twice is harmless.
pub trait ScoreSink: Send + Sync {
    /// What the store files its wishes under. Stable: another name is another place with nothing in it.
    fn target(&self) -> &'static str;

    /// How many updates are worth writing between two syncs of what became of them.
    fn portion(&self) -> usize;

    /// Writes updates; one result for each, in their order. What is `Ok` is there to stay.
    fn write<'a>(&'a self, updates: &'a [ScoreUpdate]) -> BoxFuture<'a, Vec<Result<WrittenOver, SinkFault>>>;
}
