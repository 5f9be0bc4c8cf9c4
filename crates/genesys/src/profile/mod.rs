//! Scores written to customers' profiles: custom fields of external contacts, or the guides' `customer_profile_enrichment`.
//! Each request is sent once and says what became of it; only what differs is written.

mod documented;
mod platform;

use std::sync::Arc;

use secrecy::SecretString;

use super::SendFault;
use super::settings::{Api, GenesysSettings};
use super::transport::{Permits, Transport};
use scoreline_domain::privacy::seal::{SealError, Sealer};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{CustomerKey, SealedId, Tier};

/// The desired state of one customer's profile.
#[derive(Clone, Debug)]
pub struct ProfileUpdate {
    pub contact: SealedId,
    pub customer: CustomerKey,
    /// US dollars.
    pub predicted_clv_value: f64,
    pub clv_tier: Tier,
    /// 0 to 1.
    pub confidence_score: Option<f64>,
    /// 0 to 1.
    pub risk_score: Option<f64>,
    pub last_calculated_at: Timestamp,
}

/// What a profile says, beside what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenProfile {
    /// The guides' entity is written without a look.
    NotRead,
    AsItWas,
    /// Somebody else wrote a later score.
    Newer {
        calculated_at: Timestamp,
    },
    Differs {
        tier: Option<Box<str>>,
        calculated_at: Option<Timestamp>,
    },
}

/// A profile as it was read, for the write that follows at once.
pub struct ReadProfile {
    pub seen: SeenProfile,
    contact: SecretString,
    current: Option<platform::ReadContact>,
}

/// Reads and writes profiles. Cheap to clone.
#[derive(Clone)]
pub struct ProfileWriter {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    sealer: Sealer,
}

impl ProfileWriter {
    pub(super) fn new(transport: Arc<Transport>, settings: Arc<GenesysSettings>, sealer: Sealer) -> Self {
        Self { transport, settings, sealer }
    }

    /// Looks at a customer's profile.
    ///
    /// # Errors
    /// When it cannot be read, or the contact is sealed for another customer.
    pub async fn read(&self, permits: &Permits, update: &ProfileUpdate) -> Result<ReadProfile, SendFault> {
        let sealed = |err: SealError| SendFault::Refused { status: 422, reason: err.to_string() };
        let contact = self.sealer.open(&update.customer, &update.contact).map_err(sealed)?;
        match self.settings.api {
            Api::Documented => Ok(ReadProfile { seen: SeenProfile::NotRead, contact, current: None }),
            Api::Platform => {
                let read = platform::read(&self.transport, &self.settings, permits, &contact, update).await;
                read.map(|(seen, current)| ReadProfile { seen, contact, current: Some(current) })
            }
        }
    }

    /// Writes what differed when it was read. Writing an update twice is harmless: what is written is absolute.
    ///
    /// # Errors
    /// When it is not known to be written.
    pub async fn write(&self, permits: &Permits, read: &ReadProfile, update: &ProfileUpdate) -> Result<(), SendFault> {
        let (transport, settings) = (&self.transport, &self.settings);
        match &read.current {
            Some(current) => platform::write(transport, settings, permits, &read.contact, current).await,
            None => documented::write(transport, settings, permits, &read.contact, update).await,
        }
    }
}
