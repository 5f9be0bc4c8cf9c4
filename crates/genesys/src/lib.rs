//! Genesys Cloud: what happened is read from it, scores are written to it. Owns the token, the pace, every request and
//! what is done when one fails; customers leave it as keyed hashes and sealed ids.
//!
//! Two APIs behind one trait: `platform` speaks what the platform serves, `documented` what the guides describe.

mod documented;
mod error;
mod identity;
mod limiter;
mod oauth;
mod platform;
pub mod profile;
pub mod settings;
pub mod source;
mod transport;

use std::sync::Arc;

use metrics::{describe_counter, describe_gauge, describe_histogram};

pub use error::{AttemptFault, Correlation, GenesysError, PlatformCode};
pub use limiter::Spent;
pub use settings::GenesysSettings;
pub use source::HistorySource;
pub use transport::ApiOperation;

use documented::DocumentedHistory;
use identity::Identity;
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

    /// Requests of the last minute, to be kept for the next process; positions of an extraction carry them too.
    pub fn spent(&self) -> Spent {
        self.transport.spent()
    }

    /// Counts what the process before has sent, so that both together keep to the limit. The first call counts.
    pub fn resume(&self, spent: &Spent) {
        self.transport.resume(spent);
    }
}

fn describe() {
    describe_counter!("scoreline_genesys_requests_total", "Requests to the platform, by operation and outcome.");
    describe_histogram!("scoreline_genesys_request_seconds", "Time until a request to the platform was answered.");
    describe_counter!("scoreline_genesys_rate_limited_total", "Refusals for the rate, by the limit that was reached.");
    describe_counter!("scoreline_genesys_throttle_seconds_total", "Time that requests waited for the rate limit here.");
    describe_gauge!("scoreline_genesys_requests_allowed", "Requests a minute at the moment: fewer after a refusal.");
}
