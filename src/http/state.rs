//! What handlers may ask for. Most take the piece they need with `State<Piece>`; live calls are lent the whole, because
//! every piece they took would be one more count to share between cores.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::FromRef;

use super::admission::Admission;
use super::documents::Documents;
use super::operator_desk::OperatorDesk;
use crate::auth::Authenticator;
use crate::conversations::{ConversationBook, ConversationKey};
use crate::leads::LeadDesk;
use crate::monitoring::Monitoring;
use crate::routing::TierPolicy;
use crate::scoring::Scorer;
use crate::scoring::feature_table::FeatureTable;
use crate::sinks::CallbackHosts;
use crate::telemetry::MetricsHandle;
use scoreline_domain::privacy::signature::Verifier;
use scoreline_domain::privacy::{Eraser, IdHasher, LinkSigner};
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_domain::trace::Tracer;
use scoreline_domain::{CustomerKey, JobName, JobStatus};
use scoreline_store::Store;

/// Limits of the transport.
#[derive(Clone, Copy, Debug)]
pub struct HttpSettings {
    /// Largest body of a single request, in bytes.
    pub body_limit: usize,
    /// Largest body of a batch, in bytes.
    pub batch_body_limit: usize,
    /// Most rows in a batch.
    pub batch_rows: usize,
    /// Longest time of a batch: rows that are not begun by then are answered from the ladder.
    pub batch_deadline: Duration,
    /// Longest time a body may take to arrive.
    pub body_timeout: Duration,
}

/// Whether this process wants traffic, flipped first when it is asked to stop, and whether it can do all of its work.
#[derive(Clone, Default)]
pub struct Readiness {
    draining: Arc<AtomicBool>,
    /// `None` for a process without a store.
    store: Option<Arc<OnceLock<Store>>>,
    /// `None` for a process that knows no customers.
    loading: Option<Loading>,
}

/// Customers whose features are being read for the first time: until that is done they would be answered as strangers.
#[derive(Clone)]
struct Loading {
    table: FeatureTable,
    since: Stopwatch,
    at_most: Duration,
}

/// Why nothing of customers is kept, and nothing new of them is found. Predictions are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreTrouble {
    /// It is not open yet.
    NotOpen,
    /// It was, and fails for this reason, which may name files of this machine.
    Failing(String),
}

impl Readiness {
    /// Of a process whose store opens sooner or later, and whose table is filled from it within `at_most` or waited for
    /// no longer.
    pub fn with(store: Arc<OnceLock<Store>>, table: FeatureTable, at_most: Duration) -> Self {
        let loading = Loading { table, since: Stopwatch::start(), at_most };
        Self { store: Some(store), loading: Some(loading), ..Self::default() }
    }

    /// Whether features of known customers are still being read. A store that fails meanwhile is not waited for.
    pub fn is_loading(&self) -> bool {
        let waits = |loading: &Loading| !loading.table.is_complete() && loading.since.elapsed() < loading.at_most;
        self.loading.as_ref().is_some_and(waits) && !matches!(self.store_trouble(), Some(StoreTrouble::Failing(_)))
    }

    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// What is wrong with the store at the moment.
    pub fn store_trouble(&self) -> Option<StoreTrouble> {
        match self.store.as_ref()?.get() {
            Some(store) => store.trouble().map(StoreTrouble::Failing),
            None => Some(StoreTrouble::NotOpen),
        }
    }
}

impl StoreTrouble {
    /// A stable word.
    pub(crate) fn as_str(&self) -> &'static str {
        match self {
            Self::NotOpen => "not_open",
            Self::Failing(_) => "failing",
        }
    }

    /// For people with access to the machine.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::NotOpen => "the store is not open; the log says what it waits for".to_owned(),
            Self::Failing(reason) => reason,
        }
    }
}

/// The jobs, as whoever runs them shows them.
#[derive(Clone)]
pub struct Jobs {
    pub statuses: Arc<dyn Fn() -> Vec<(JobName, JobStatus)> + Send + Sync>,
    /// Asks for a run; false when there is no such job here.
    pub nudge: Arc<dyn Fn(JobName) -> bool + Send + Sync>,
    pub questions: QuestionDesk,
}

/// Where questions are kept that are answered later.
#[derive(Clone, Default)]
pub struct QuestionDesk {
    /// Set once it is open.
    pub store: Arc<OnceLock<Store>>,
    /// Where callbacks may go; `None` when there is nothing to sign them with.
    pub callbacks: Option<CallbackHosts>,
}

/// A server that only predicts has none.
impl Default for Jobs {
    fn default() -> Self {
        Self { statuses: Arc::new(Vec::new), nudge: Arc::new(|_| false), questions: QuestionDesk::default() }
    }
}

/// What events are signed with; without a secret their senders need a token.
#[derive(Clone, Default)]
pub struct EventKeys {
    pub verifier: Option<Arc<Verifier>>,
}

/// The store, once it is open, and where profiles are written to.
#[derive(Clone, Default)]
pub struct WriteBackDesk {
    pub store: Arc<OnceLock<Store>>,
    pub target: Option<&'static str>,
}

/// Who may look at the agent's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WidgetAccess {
    /// Who has the signed link of a conversation.
    Signed,
    /// Also who knows the id of one that was asked about.
    Conversation,
}

/// How the agent's page is reached and shown.
#[derive(Clone, Debug)]
pub struct WidgetSettings {
    /// Where browsers reach this server, without a slash at the end.
    pub url: String,
    pub access: WidgetAccess,
    /// Whose pages may show it in a frame, as `frame-ancestors` has them.
    pub framed_by: String,
    /// Whether it may also be opened by itself.
    pub open_in_tab: bool,
}

/// The agent's page: what it shows, and who may see it. Cheap to clone.
#[derive(Clone)]
pub struct WidgetDesk {
    pub settings: Arc<WidgetSettings>,
    pub signer: LinkSigner,
    pub book: ConversationBook,
}

impl WidgetDesk {
    pub fn new(settings: WidgetSettings, signer: LinkSigner, book: ConversationBook) -> Self {
        metrics::describe_counter!("scoreline_widget_pages_total", "Pages shown to agents, by what they said.");
        metrics::describe_counter!(
            "scoreline_widget_links_refused_total",
            "Links of agents' pages not taken, by reason."
        );
        Self { settings: Arc::new(settings), signer, book }
    }

    /// The address of a conversation's page.
    pub(crate) fn link(
        &self,
        conversation: &ConversationKey,
        customer: Option<&CustomerKey>,
        now: Timestamp,
    ) -> String {
        format!("{}/widget?t={}", self.settings.url, self.signer.sign(conversation.as_bytes(), customer, now))
    }
}

/// Every piece.
pub struct HttpState {
    pub scorer: Scorer,
    pub hasher: IdHasher,
    pub eraser: Eraser,
    pub policy: Arc<TierPolicy>,
    pub monitoring: Monitoring,
    /// `None`: nobody is asked who they are.
    pub auth: Option<Arc<Authenticator>>,
    pub settings: HttpSettings,
    pub readiness: Readiness,
    pub admission: Admission,
    /// What runs beside the answers.
    pub jobs: Jobs,
    pub write_back: WriteBackDesk,
    /// Scores of leads.
    pub leads: LeadDesk,
    pub event_keys: EventKeys,
    pub operator: OperatorDesk,
    /// `None`: there is no agent's page.
    pub widget: Option<WidgetDesk>,
    /// What the routes take and give.
    pub documents: Documents,
    /// Renders everything measured so far.
    pub metrics: MetricsHandle,
    /// Decides which requests are followed.
    pub tracer: Tracer,
}

/// The state as the router holds it. A router clones its state for every request: this is one count.
#[derive(Clone)]
pub struct SharedState(Arc<HttpState>);

impl std::ops::Deref for SharedState {
    type Target = HttpState;

    fn deref(&self) -> &HttpState {
        &self.0
    }
}

impl SharedState {
    pub fn new(state: HttpState) -> Self {
        Self(Arc::new(state))
    }
}

macro_rules! pieces {
    ($($field:ident: $piece:ty),* $(,)?) => {
        $(impl FromRef<SharedState> for $piece {
            fn from_ref(shared: &SharedState) -> Self {
                shared.0.$field.clone()
            }
        })*
    };
}

pieces! {
    scorer: Scorer,
    hasher: IdHasher,
    eraser: Eraser,
    policy: Arc<TierPolicy>,
    monitoring: Monitoring,
    auth: Option<Arc<Authenticator>>,
    settings: HttpSettings,
    readiness: Readiness,
    admission: Admission,
    jobs: Jobs,
    write_back: WriteBackDesk,
    leads: LeadDesk,
    event_keys: EventKeys,
    operator: OperatorDesk,
    metrics: MetricsHandle,
}
