//! Where scores are written to: the platform's customer profiles and contact lists, a file, or whoever waits for an answer.
//! One file of code a sink.

pub mod callback;
pub mod file;
pub mod leads;
pub mod profile;

use std::time::Duration;

use scoreline_domain::time::Timestamp;
use scoreline_genesys::{Permits, SendFault};
use scoreline_store::Claim;

pub use callback::{CallbackHosts, CallbackSettings, Callbacks};
pub use file::{FileFormat, FileSettings, FileSink};
pub use leads::LeadSink;
pub use profile::{ProfilePlace, ProfileSink};

/// Why one callback was not told, for people: a reason names no customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkFault {
    /// It is worth another try after a while.
    Retry { after: Duration, reason: String },
    /// It will never be taken as it is.
    Dead { reason: String },
}

/// How what a target says stands to what it should say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The target has no such subject, and none is made.
    Missing,
    /// It says so already.
    AsItWas,
    /// Somebody else wrote a later score, which stays.
    Newer { says: Box<str>, calculated_at: Timestamp },
    /// It is to be written.
    Differs {
        /// What it says, for the log; empty when that is nothing, or was not looked at.
        previous: String,
        /// Whether somebody else wrote it.
        is_foreign: bool,
    },
}

/// A row as it was read.
pub struct ReadRow<R> {
    pub standing: Standing,
    /// What the write needs of it.
    pub read: R,
}

/// What became of each row.
pub type EachRow<T> = Vec<Result<T, SendFault>>;

/// Takes scores: reads what is there, then writes. Each request is made once, nothing is waited for, and what became of it is
/// said; whoever delivers decides what follows. Writing the same twice is harmless.
pub trait Sink: Send + Sync + 'static {
    type Read: Send + Sync;

    /// What the store files its wishes under. Stable: another name is another place with nothing in it.
    fn target(&self) -> &str;

    /// Rows that are worth claiming at a time.
    fn portion(&self) -> usize;

    /// Whether what is there can be read.
    fn reads(&self) -> bool;

    /// Whether one request writes many rows, so that one of them may be why all are refused.
    fn is_batched(&self) -> bool;

    /// How long a request may take until nobody knows what became of it.
    fn patience(&self) -> Duration;

    /// Waits until the requests for so many rows may be sent; `None` where none are needed.
    fn reserve(&self, rows: usize) -> impl Future<Output = Result<Option<Permits>, SendFault>> + Send;

    /// Reads each row. One result for each, in their order.
    ///
    /// # Errors
    /// When none of them could be read.
    fn read(
        &self,
        permits: Option<&Permits>,
        claims: &[Claim],
    ) -> impl Future<Output = Result<EachRow<ReadRow<Self::Read>>, SendFault>> + Send;

    /// Writes rows that were just read. One result for each, in their order.
    ///
    /// # Errors
    /// When nothing was sent for any of them.
    fn write(
        &self,
        permits: Option<&Permits>,
        rows: &[(&Claim, &Self::Read)],
    ) -> impl Future<Output = Result<EachRow<()>, SendFault>> + Send;
}
