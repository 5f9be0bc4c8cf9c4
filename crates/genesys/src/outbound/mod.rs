//! Scores of leads where the dialer reads them: columns of contact lists, or the guides' entity `LeadScore`.
//!
//! Each request is sent once and says what became of it. Nothing of a contact but our columns leaves this folder; the rest
//! of one that was read is written back as it was, or dropped. No contact is made here: only those that were read are written.

mod body;
pub mod campaign;
mod contact_list;
mod entity;
mod list_state;
mod seen;
mod sweep;

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::SendFault;
use super::settings::{Api, GenesysSettings};
use super::transport::{Permits, Transport};
use contact_list::ContactList;
use entity::LeadEntity;
pub(crate) use list_state::ListShape;
use scoreline_domain::time::{Clock, Timestamp};
pub(crate) use seen::score as read_score;

/// What a target says of one lead's score.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenScore {
    /// The target has no such lead, and none is made.
    Missing,
    /// It has the lead, without a score.
    Never,
    At {
        score: u8,
        /// Absent when there is none or none that can be read.
        calculated_at: Option<Timestamp>,
    },
    /// Somebody else wrote something that is no score. At most 40 characters of it.
    Foreign { value: Box<str> },
}

/// One lead as it was read, for the write that follows at once.
pub struct ReadLead {
    /// The contact's id: the lead's.
    pub lead: SecretString,
    pub seen: SeenScore,
    rest: ContactRest,
}

/// What of a contact is written back; dropped with its batch.
#[derive(Default)]
struct ContactRest {
    columns: BTreeMap<String, String>,
    /// When the contact was made, to notice that a write has made it anew.
    created: Option<String>,
}

/// A score to be written over what was read.
pub struct LeadWrite<'a> {
    pub read: &'a ReadLead,
    /// 0 to 100; 0 is a stale one.
    pub score: u8,
    pub calculated_at: Timestamp,
    /// For the band's column, where there is one.
    pub band: Option<&'static str>,
    /// For the reason's column, where there is one.
    pub reason: Option<&'a str>,
}

/// A sweep at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SweepState {
    Running,
    Done {
        changed: u64,
    },
    /// It has ended without doing all of it.
    Failed,
}

/// Somewhere that scores of leads are written to.
pub trait LeadTarget: Send + Sync {
    /// `contact_list:<id>` or `lead_entity`.
    fn target(&self) -> &str;

    /// Leads that a read or a write takes at most.
    fn most(&self) -> usize;

    /// What the target says of each lead, in their order.
    ///
    /// # Errors
    /// When it cannot be read: nothing is changed by asking.
    fn read<'a>(
        &'a self,
        permits: &'a Permits,
        leads: &'a [SecretString],
    ) -> BoxFuture<'a, Result<Vec<ReadLead>, SendFault>>;

    /// Writes scores of leads that were just read and are not missing. One result for each, in their order; what does not fit
    /// into one request goes into several.
    ///
    /// # Errors
    /// When nothing was sent for any of them.
    fn write<'a>(
        &'a self,
        permits: &'a Permits,
        rows: &'a [LeadWrite<'a>],
    ) -> BoxFuture<'a, Result<Vec<Result<(), SendFault>>, SendFault>>;

    /// Lets the target give `value` to every score older than `cutoff`, in a job of its own; its id. `None` where the
    /// target has no such job.
    ///
    /// # Errors
    /// When it is not known to run.
    fn start_sweep<'a>(
        &'a self,
        permits: &'a Permits,
        cutoff: Timestamp,
        value: u8,
    ) -> BoxFuture<'a, Result<Option<String>, SendFault>>;

    /// How far a sweep has come.
    ///
    /// # Errors
    /// When that is not known.
    fn poll_sweep<'a>(&'a self, permits: &'a Permits, job: &'a str) -> BoxFuture<'a, Result<SweepState, SendFault>>;
}

/// The names of the places that the settings name, as their targets have them.
pub fn target_names(settings: &GenesysSettings) -> Vec<String> {
    match settings.api {
        Api::Platform => settings.outbound.contact_lists.iter().map(|id| contact_list::target_of(id)).collect(),
        Api::Documented => settings.data_service_id.iter().map(|_| entity::TARGET.to_owned()).collect(),
    }
}

/// Every place that the settings name.
pub(super) fn targets(
    transport: &Arc<Transport>,
    settings: &Arc<GenesysSettings>,
    clock: &Arc<dyn Clock>,
) -> Vec<Arc<dyn LeadTarget>> {
    match settings.api {
        Api::Platform => {
            let list = |id: &String| -> Arc<dyn LeadTarget> {
                Arc::new(ContactList::new(Arc::clone(transport), settings.outbound.clone(), id, Arc::clone(clock)))
            };
            settings.outbound.contact_lists.iter().map(list).collect()
        }
        Api::Documented => {
            let service = settings.data_service_id.iter();
            service.map(|id| -> Arc<dyn LeadTarget> { Arc::new(LeadEntity::new(Arc::clone(transport), id)) }).collect()
        }
    }
}
