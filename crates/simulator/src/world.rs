//! Everything the endpoints share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use super::SimulatorError;
use super::answer::{ReceivedCall, Refusal};
use super::book::ConversationBook;
use super::clock::PlatformClock;
use super::contacts::Contacts;
use super::details::DetailsJobs;
use super::documented::Entities;
use super::faults::{FaultPlan, Faults, Strike};
use super::hand::PlatformWrite;
use super::limiter::{Limiter, RateVerdict};
use super::log::Log;
use super::moment::Moment;
use super::oauth::IssuedTokens;
use super::outbound::Outbound;
use super::population::Population;
use super::recorded;
use super::routes::TOKEN_LIMIT;
use super::settings::SimulatorSettings;
use scoreline_domain::time::Clock as _;

/// Writes kept in memory; the oldest go first.
const WRITES_KEPT: usize = 1_000_000;

pub(super) struct World {
    pub(super) settings: SimulatorSettings,
    pub(super) clock: PlatformClock,
    pub(super) book: ConversationBook,
    pub(super) jobs: DetailsJobs,
    pub(super) tokens: IssuedTokens,
    pub(super) log: Log,
    pub(super) contacts: Contacts,
    pub(super) outbound: Outbound,
    pub(super) entities: Entities,
    /// Locked for a moment, never across an await.
    writes: Mutex<VecDeque<PlatformWrite>>,
    limiter: Mutex<Limiter<u32>>,
    faults: Mutex<Faults>,
    visits: AtomicU64,
}

impl World {
    pub(super) fn new(settings: SimulatorSettings) -> Result<Self, SimulatorError> {
        let clock = PlatformClock::new(settings.clock.clone(), settings.now);
        let first_day = Moment(clock.now_ms()).day() - i64::from(settings.days);
        let population = Population::new(settings.seed, settings.customers, settings.interactions_per_customer);
        let recorded = settings.recorded.as_deref().map_or(Ok(Vec::new()), recorded::read)?;
        let file = settings.log_file.as_ref().map(|path| {
            std::fs::File::create(path).map_err(|source| SimulatorError::LogFile { path: path.clone(), source })
        });
        let limits = &settings.limits;
        Ok(Self {
            clock,
            book: ConversationBook::new(settings.seed, population, first_day, recorded),
            jobs: DetailsJobs::default(),
            tokens: IssuedTokens::new(limits.tokens, limits.period),
            log: Log::to_file(file.transpose()?),
            contacts: Contacts::default(),
            outbound: Outbound::new(settings.seed),
            entities: Entities::default(),
            writes: Mutex::default(),
            limiter: Mutex::new(Limiter::new(limits.requests, limits.period)),
            faults: Mutex::new(Faults::new(settings.faults.clone(), settings.seed)),
            visits: AtomicU64::new(0),
            settings,
        })
    }

    pub(super) fn ask_limiter(&self, token: u32, at: Duration) -> RateVerdict {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner).ask(token, at)
    }

    pub(super) fn strike(&self, method: &str, template: &str) -> Option<Strike> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).strike(method, template)
    }

    /// Another plan, which counts from here.
    pub(super) fn plan(&self, plan: FaultPlan) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = Faults::new(plan, self.settings.seed);
    }

    /// 429 by the limit of requests.
    pub(super) fn over_limit(&self, free_in: Duration) -> Refusal {
        let limits = &self.settings.limits;
        let mut refusal = Refusal::too_many(TOKEN_LIMIT, "platform.api", u64::from(limits.requests));
        let seconds = (free_in.as_millis().div_ceil(1000)).max(1);
        if limits.retry_after {
            refusal.message =
                format!("Rate limit exceeded the maximum. Retry the request in [{seconds}] seconds").into();
            refusal.code = "too.many.requests.retry.after";
            refusal.headers.push(("retry-after", seconds.to_string()));
        }
        let reset = ("inin-ratelimit-reset", seconds.to_string());
        let count = ("inin-ratelimit-count", (limits.requests + 1).to_string());
        refusal.headers.extend([reset, count, ("inin-ratelimit-allowed", limits.requests.to_string())]);
        refusal
    }

    /// Remembers that something was written.
    pub(super) fn written(&self, call: &ReceivedCall<'_>, kind: &str, id: String, value: Value) {
        let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        if writes.len() == WRITES_KEPT {
            writes.pop_front();
        }
        writes.push_back(PlatformWrite { time: Moment(call.now).timestamp(), kind: kind.to_owned(), id, value });
    }

    pub(super) fn writes(&self) -> Vec<PlatformWrite> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Counts requests, to tell their correlation ids apart.
    pub(super) fn next_visit(&self) -> u64 {
        self.visits.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }
}
