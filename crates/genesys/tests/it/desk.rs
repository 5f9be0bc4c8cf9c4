//! A simulated platform, and a client of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use scoreline_domain::InteractionId;
use scoreline_domain::privacy::seal::Sealer;
use scoreline_domain::privacy::{IdHasher, PrivacySettings};
use scoreline_domain::time::{Clock, SystemClock, Timestamp};
use scoreline_genesys::settings::{Api, BaseUrl, PlainHttp, PlatformEndpoints};

use scoreline_genesys::{Genesys, GenesysSettings, MemoryLedger, PaceLedger};
use scoreline_simulator::{Expected, Party, PlatformLimits, Simulator, SimulatorSettings};
use secrecy::SecretString;

/// The calendar stands still, durations pass: nothing on the platform ends while a test looks.
struct StillCalendar;

impl Clock for StillCalendar {
    fn now(&self) -> Timestamp {
        "2026-11-21T10:00:00Z".parse().expect("a time")
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

pub struct Desk {
    pub simulator: Simulator,
    pub settings: GenesysSettings,
    privacy: PrivacySettings,
    /// What all clients of this desk keep to, however many there are one after the other.
    ledger: Arc<MemoryLedger>,
}

/// A small contact centre: some hundred conversations of two months.
pub fn small() -> SimulatorSettings {
    SimulatorSettings {
        customers: 30,
        interactions_per_customer: 60.0,
        days: 40,
        // Every new client logs in.
        limits: PlatformLimits { tokens: 100_000, ..PlatformLimits::default() },
        clock: Arc::new(StillCalendar),
        ..SimulatorSettings::default()
    }
}

impl Desk {
    pub fn open(settings: SimulatorSettings) -> Self {
        let simulator = Simulator::start(settings).expect("a simulator");
        let base = |url: String| BaseUrl::parse(&url, PlainHttp::Loopback).expect("this machine");
        let endpoints = PlatformEndpoints { api: base(simulator.api_url()), login: base(simulator.login_url()) };
        let client_id = simulator.settings().client_id.clone();
        let client_secret = SecretString::from(simulator.settings().client_secret.as_str());
        let settings = GenesysSettings::new(Api::Platform, endpoints, client_id, client_secret);
        let pepper = Some(SecretString::from("pepper of the client tests"));
        let ledger = Arc::new(MemoryLedger::new(Arc::new(simulator.clock())));
        Self { simulator, settings, privacy: PrivacySettings { pepper, ..PrivacySettings::default() }, ledger }
    }

    /// A client of a process that has just been started.
    pub fn client(&self) -> Genesys {
        self.client_with(self.settings.clone())
    }

    pub fn client_with(&self, settings: GenesysSettings) -> Genesys {
        let clock = Arc::new(self.simulator.clock());
        let ledger: Arc<dyn PaceLedger> = Arc::<MemoryLedger>::clone(&self.ledger);
        let client = Genesys::new(settings, self.hasher(), self.sealer(), clock).expect("a client");
        client.keep_pace_in(ledger);
        client
    }

    pub fn hasher(&self) -> IdHasher {
        IdHasher::new(&self.privacy)
    }

    pub fn sealer(&self) -> Sealer {
        Sealer::new(&self.privacy)
    }

    /// What should be in a store now.
    pub fn truth(&self) -> BTreeMap<InteractionId, Expected> {
        let truth = self.simulator.truth();
        let closed = truth.closed();
        closed.filter(|expected| matches!(expected.party, Party::Contact { .. })).map(|one| (one.id, one)).collect()
    }
}
