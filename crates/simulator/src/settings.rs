//! How the simulated platform is, in every respect that a test or a person may want to choose.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::faults::FaultPlan;
use scoreline_domain::time::{Clock, SystemClock, Timestamp};

/// A simulated platform. Everything it generates follows from `seed`, `customers` and `interactions_per_customer`.
#[derive(Clone)]
pub struct SimulatorSettings {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Threads that answer.
    pub threads: usize,
    pub seed: u64,
    /// Customers with an external contact, below 2^28. 0 generates nothing.
    pub customers: u32,
    /// Mean conversations of a customer in 365 days; single customers are far from it.
    pub interactions_per_customer: f64,
    /// Whole days of history before today.
    pub days: u32,
    /// The time on the platform when it starts; what `clock` shows when `None`.
    pub now: Option<Timestamp>,
    /// What its time runs with.
    pub clock: Arc<dyn Clock>,
    pub client_id: String,
    pub client_secret: String,
    /// In front of the API's and the login's paths, as behind a gateway: empty, or `/some/prefix`.
    pub api_prefix: String,
    pub login_prefix: String,
    pub limits: PlatformLimits,
    pub jobs: JobSettings,
    /// A transcript is analysed so long after the conversation's end.
    pub analysis_delay: Duration,
    /// Columns a contact upsert does not send are emptied. What the platform does is not documented.
    pub upsert_empties_unsent: bool,
    /// A job over a list's contacts chooses them when it is sent, and changes them so much later.
    pub bulk_edit_time: Duration,
    /// Scores of the documented entity that are taken: from this one to 100.
    pub least_score: f64,
    pub faults: FaultPlan,
    /// Conversations from a file, besides the generated ones: NDJSON, each value a conversation or a page of them.
    pub recorded: Option<PathBuf>,
    /// Where the log of requests is written as NDJSON.
    pub log_file: Option<PathBuf>,
}

/// What the platform refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformLimits {
    /// Requests of a token in any window of `period`.
    pub requests: u32,
    pub period: Duration,
    /// A 429 of these says when to come back.
    pub retry_after: bool,
    /// Tokens issued in any window of `period`.
    pub tokens: u32,
    /// Life of a token.
    pub token_life: Duration,
    pub request_bytes: usize,
    pub query_page_size: usize,
    pub job_page_size: usize,
    pub query_window: Duration,
    pub job_window: Duration,
    /// Longest interval of aggregates.
    pub aggregate_window: Duration,
    /// Most groups of an aggregates answer.
    pub aggregate_groups: usize,
    /// Contacts of one upsert.
    pub contacts: usize,
    /// Contacts of a list, and characters of a value in it.
    pub list_contacts: usize,
    pub value_chars: usize,
    /// External contacts of one bulk enrich, and of one bulk update.
    pub enrich: usize,
    pub bulk_update: usize,
}

/// How jobs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobSettings {
    /// Jobs see the platform as it was so long ago, to the full hour.
    pub lag: Duration,
    /// A job is not done before so many looks at its state, and not before `time`.
    pub looks: u32,
    pub time: Duration,
    /// Results are kept for so long.
    pub life: Duration,
    /// Unfinished jobs at once.
    pub at_once: usize,
}

impl Default for SimulatorSettings {
    /// 100 customers, 90 days, limits as documented, jobs that are done at the second look.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            threads: 1,
            seed: 7,
            customers: 100,
            interactions_per_customer: 50.0,
            days: 90,
            now: None,
            clock: Arc::new(SystemClock),
            client_id: "simulated-client".to_owned(),
            client_secret: "simulated-secret".to_owned(),
            api_prefix: String::new(),
            login_prefix: String::new(),
            limits: PlatformLimits::default(),
            jobs: JobSettings::default(),
            analysis_delay: Duration::from_mins(10),
            upsert_empties_unsent: true,
            bulk_edit_time: Duration::ZERO,
            least_score: 0.0,
            faults: FaultPlan::default(),
            recorded: None,
            log_file: None,
        }
    }
}

impl Default for PlatformLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_hours(24);
        Self {
            requests: 300,
            period: Duration::from_mins(1),
            retry_after: true,
            tokens: 30,
            token_life: DAY,
            request_bytes: 512_000,
            query_page_size: 100,
            job_page_size: 1000,
            query_window: 7 * DAY,
            job_window: 31 * DAY,
            aggregate_window: 31 * DAY,
            aggregate_groups: 100_000,
            contacts: 1000,
            list_contacts: 1_000_000,
            value_chars: 512,
            enrich: 10,
            bulk_update: 50,
        }
    }
}

impl Default for JobSettings {
    fn default() -> Self {
        Self {
            lag: Duration::from_hours(6),
            looks: 2,
            time: Duration::ZERO,
            life: Duration::from_hours(24),
            at_once: 10,
        }
    }
}
