//! Genesys Cloud: what happened is read from it, scores are written to it. Owns the token, the pace, every request and
//! what is done when one fails; customers leave it as keyed hashes and sealed ids.
//!
//! Two APIs behind one trait: `platform` speaks what the platform serves, `documented` what the guides describe.

pub mod data_action;
pub mod doctor;
mod documented;
mod error;
mod fault;
mod identity;
mod limiter;
mod oauth;
pub mod outbound;
mod platform;
pub mod profile;
pub mod settings;
pub mod source;
mod terraform;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};

pub use error::{AttemptFault, Correlation, GenesysError, PlatformCode};
pub use fault::SendFault;
pub use limiter::{MemoryLedger, PaceChange, PaceLedger};
pub use settings::GenesysSettings;
pub use source::HistorySource;
pub use transport::{ApiOperation, Permits};

use doctor::Doctor;
use documented::DocumentedHistory;
use identity::Identity;
use outbound::LeadTarget;
use platform::PlatformHistory;
use profile::ProfileWriter;
use scoreline_domain::privacy::IdHasher;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::time::Clock;
use secrecy::SecretString;
use settings::Api;
use transport::Transport;

/// A connection to the platform: one token and one pace for everything that is asked of it. Cheap to clone.
#[derive(Clone)]
pub struct Genesys {
    transport: Arc<Transport>,
    settings: Arc<GenesysSettings>,
    identity: Identity,
    sealer: Sealer,
    clock: Arc<dyn Clock>,
}

impl Genesys {
    /// Sends nothing yet: the first request fetches a token.
    ///
    /// # Errors
    /// When no HTTP client can be made of the settings.
    pub fn new(
        settings: GenesysSettings,
        hasher: IdHasher,
        sealer: Sealer,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, GenesysError> {
        describe();
        let transport = Arc::new(Transport::new(&settings, Arc::clone(&clock))?);
        let identity = Identity::new(hasher, sealer.clone());
        Ok(Self { transport, settings: Arc::new(settings), identity, sealer, clock })
    }

    /// Interactions, step by step.
    pub fn history(&self) -> Arc<dyn HistorySource> {
        let (transport, settings) = (Arc::clone(&self.transport), Arc::clone(&self.settings));
        let (identity, clock) = (self.identity.clone(), Arc::clone(&self.clock));
        match self.settings.api {
            Api::Platform => Arc::new(PlatformHistory::new(transport, settings, identity, clock)),
            Api::Documented => Arc::new(DocumentedHistory::new(transport, settings, identity, clock)),
        }
    }

    /// Scores of customers, on their profiles.
    pub fn profiles(&self) -> ProfileWriter {
        ProfileWriter::new(Arc::clone(&self.transport), Arc::clone(&self.settings), self.sealer.clone())
    }

    /// Logs in with this secret from now on. Waits for a login that is under way.
    pub async fn exchange_secret(&self, client_secret: SecretString) {
        self.transport.exchange_secret(client_secret).await;
    }

    /// Keeps the pace in a ledger that all who use the same token share, before the first request. Without one it is kept in
    /// this process alone.
    pub fn keep_pace_in(&self, ledger: Arc<dyn PaceLedger>) {
        self.transport.pace.keep_in(ledger);
    }

    /// Requests of the last minute that counted when one was last asked for, and how many may.
    pub fn rate(&self) -> (u32, u32) {
        self.transport.pace.seen()
    }

    /// Scores of leads: each contact list that is named, or the guides' entity.
    pub fn lead_targets(&self) -> Vec<Arc<dyn LeadTarget>> {
        outbound::targets(&self.transport, &self.settings, &self.clock)
    }

    /// Whoever says what will not work with the organisation. It speaks of what `Api::Platform` has.
    pub fn doctor(&self) -> Doctor {
        Doctor::new(Arc::clone(&self.transport), Arc::clone(&self.settings), Arc::clone(&self.clock))
    }

    /// Waits until so many requests may be sent, before the work that they are about is claimed.
    ///
    /// # Errors
    /// When there is no token. Nothing is sent.
    pub async fn reserve(&self, requests: u32) -> Result<Permits, SendFault> {
        Permits::reserve(&self.transport, requests).await
    }

    /// How long one request may take.
    pub fn patience(&self) -> Duration {
        self.transport.timeout
    }
}

fn describe() {
    describe_counter!("scoreline_genesys_requests_total", "Requests to the platform, by operation and outcome.");
    describe_histogram!("scoreline_genesys_request_seconds", "Time until a request to the platform was answered.");
    describe_counter!("scoreline_genesys_rate_limited_total", "Refusals for the rate, by the limit that was reached.");
    describe_counter!("scoreline_genesys_throttle_seconds_total", "Time that requests waited for the rate limit here.");
    describe_gauge!(
        "scoreline_genesys_requests_used",
        "Requests of the last minute, as all who use the token count them."
    );
    describe_counter!("scoreline_push_recreated_total", "Contacts that were taken out while they were written.");
    describe_gauge!("scoreline_genesys_requests_allowed", "Requests a minute at the moment: fewer after a refusal.");
}
