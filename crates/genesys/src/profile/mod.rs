//! Scores written to customers' profiles: custom fields of external contacts, or the guides' `customer_profile_enrichment`.
//! Only what differs is written, and every update has its own result.

mod documented;
mod platform;

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::SecretString;

use super::GenesysError;
use super::settings::{Api, GenesysSettings};
use super::transport::Transport;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, SealedId, Tier};

/// After how long a failure without a time of its own is tried again.
const TRY_AGAIN: Duration = Duration::from_mins(1);
/// And when the client itself is not let in: somebody has to act first.
const TRY_MUCH_LATER: Duration = Duration::from_mins(10);

/// What a profile says of a customer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProfileScores {
    /// US dollars.
    pub predicted_clv_value: f64,
    pub clv_tier: Tier,
    /// 0 to 1.
    pub confidence_score: Option<f64>,
    /// 0 to 1.
    pub risk_score: Option<f64>,
    pub last_calculated_at: Timestamp,
}

/// The desired state of one customer's profile.
#[derive(Clone, Debug)]
pub struct ProfileUpdate {
    pub contact: SealedId,
    pub customer: CustomerKey,
    pub scores: ProfileScores,
    /// What was written to it before, where that is known.
    pub last: Option<ProfileScores>,
}

/// What was done for an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileWritten {
    Changed,
    /// As `Changed`, and somebody else had changed what was written before.
    ChangedOverEdit,
    /// The profile said so already.
    AsItWas,
}

/// Why a profile was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFault {
    /// May succeed later; the same update can be sent again.
    #[error("not written yet: {reason}")]
    Retry { after: Duration, reason: String },
    /// Will not succeed as it is.
    #[error("cannot be written: {reason}")]
    Dead { reason: String },
}

/// Writes profiles. Cheap to clone.
#[derive(Clone)]
pub struct ProfileWriter {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    sealer: Sealer,
    shared: SharedContacts,
}

/// Contacts that others were merged into, as far as was seen: their profiles are written for several customers, and what
/// one customer finds there is no edit. Held by hashes, for as long as the process runs.
#[derive(Clone, Default)]
struct SharedContacts {
    hasher: RandomState,
    /// Locked for a moment, never across an await.
    seen: Arc<Mutex<HashSet<u64>>>,
}

impl SharedContacts {
    /// Whether a contact shares its profile: it was merged into `canonical`, or another one was into it.
    fn look(&self, contact: &str, canonical: Option<&str>) -> bool {
        let hash = |id: &str| self.hasher.hash_one(id.to_ascii_lowercase());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = canonical.filter(|canonical| !canonical.eq_ignore_ascii_case(contact));
        seen.extend(merged.map(hash));
        merged.is_some() || seen.contains(&hash(contact))
    }
}

impl ProfileWriter {
    pub(super) fn new(transport: Arc<Transport>, settings: Arc<GenesysSettings>, sealer: Sealer) -> Self {
        Self { transport, settings, sealer, shared: SharedContacts::default() }
    }

    /// One result for each update, in their order. Repeating an update is harmless: what is written is absolute.
    pub async fn write(&self, updates: &[ProfileUpdate]) -> Vec<Result<ProfileWritten, WriteFault>> {
        let mut results = Vec::with_capacity(updates.len());
        // One after the other: the limit is per minute, so more at once would only wait at it.
        for update in updates {
            results.push(self.write_one(update).await);
        }
        results
    }

    async fn write_one(&self, update: &ProfileUpdate) -> Result<ProfileWritten, WriteFault> {
        let contact: SecretString = self
            .sealer
            .open(&update.customer, &update.contact)
            .map_err(|err| WriteFault::Dead { reason: err.to_string() })?;
        match self.settings.api {
            Api::Platform => platform::write(&self.transport, &self.settings, &self.shared, &contact, update).await,
            Api::Documented => documented::write(&self.transport, &self.settings, &contact, update).await,
        }
    }
}

/// What a failed request means for its update.
fn fault(err: &GenesysError) -> WriteFault {
    let reason = err.to_string();
    match err {
        GenesysError::NotLetIn { .. } => WriteFault::Retry { after: TRY_MUCH_LATER, reason },
        // Another writer came in between, twice.
        GenesysError::Refused { status: 409, .. } | GenesysError::Unavailable { .. } => {
            WriteFault::Retry { after: TRY_AGAIN, reason }
        }
        GenesysError::Refused { .. }
        | GenesysError::TooLarge { .. }
        | GenesysError::Unreadable { .. }
        | GenesysError::JobFailed { .. }
        | GenesysError::ForeignPosition { .. }
        | GenesysError::Settings { .. } => WriteFault::Dead { reason },
    }
}
