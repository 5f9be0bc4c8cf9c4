//! Scores written to the customer's profile on the platform, in whichever shape its client speaks.

use futures_util::future::BoxFuture;

use super::{ScoreSink, ScoreUpdate, SinkFault, WrittenOver};
use scoreline_genesys::Genesys;
use scoreline_genesys::profile::{ProfileUpdate, ProfileWriter, ProfileWritten, WriteFault};
use scoreline_genesys::settings::Api;

/// What became of so many is synced together; an update takes two requests.
const PORTION: usize = 6;

/// Writes custom fields of external contacts, or the guides' `customer_profile_enrichment`.
pub struct ProfileSink {
    writer: ProfileWriter,
    api: Api,
}

impl ProfileSink {
    pub fn new(platform: &Genesys, api: Api) -> Self {
        Self { writer: platform.profiles(), api }
    }

    /// The target of an API: profiles of the one are none of the other's.
    pub fn target_of(api: Api) -> &'static str {
        match api {
            Api::Platform => "profile",
            Api::Documented => "documented_profile",
        }
    }
}

impl ScoreSink for ProfileSink {
    fn target(&self) -> &'static str {
        Self::target_of(self.api)
    }

    fn portion(&self) -> usize {
        PORTION
    }

    fn write<'a>(&'a self, updates: &'a [ScoreUpdate]) -> BoxFuture<'a, Vec<Result<WrittenOver, SinkFault>>> {
        Box::pin(async move {
            let mut results = Vec::with_capacity(updates.len());
            for update in updates {
                let written = match profile(update) {
                    Some(profile) => self.writer.write(&[profile]).await.pop(),
                    None => {
                        Some(Err(WriteFault::Dead { reason: "the customer has no contact on the platform".into() }))
                    }
                };
                // One result for each update: none at all would be a failure of the writer's.
                let nothing = || Err(WriteFault::Dead { reason: "the client gave no result".into() });
                results.push(written.unwrap_or_else(nothing).map(WrittenOver::from).map_err(SinkFault::from));
            }
            results
        })
    }
}

fn profile(update: &ScoreUpdate) -> Option<ProfileUpdate> {
    let ScoreUpdate { customer, contact, scores, last } = update;
    Some(ProfileUpdate { contact: contact.clone()?, customer: *customer, scores: *scores, last: *last })
}

impl From<ProfileWritten> for WrittenOver {
    fn from(written: ProfileWritten) -> Self {
        match written {
            ProfileWritten::ChangedOverEdit => Self::Edit,
            ProfileWritten::Changed | ProfileWritten::AsItWas => Self::Own,
        }
    }
}

impl From<WriteFault> for SinkFault {
    fn from(fault: WriteFault) -> Self {
        match fault {
            WriteFault::Retry { after, reason } => Self::Retry { after, reason },
            WriteFault::Dead { reason } => Self::Dead { reason },
        }
    }
}
