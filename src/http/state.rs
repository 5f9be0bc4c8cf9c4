//! What handlers may ask for. Each takes the piece it needs with `State<Piece>`, never the whole.

use std::sync::Arc;
use std::time::Duration;

use super::health::Readiness;
use crate::auth::Authenticator;
use crate::monitoring::Monitoring;
use crate::privacy::IdHasher;
use crate::routing::TierPolicy;
use crate::scoring::Scorer;
use axum::extract::FromRef;

/// Limits of the transport.
#[derive(Clone, Copy, Debug)]
pub struct HttpSettings {
    /// Largest body of a single request, in bytes.
    pub body_limit: usize,
    /// Largest body of a batch, in bytes.
    pub batch_body_limit: usize,
    /// Most rows in a batch.
    pub batch_rows: usize,
    /// Longest time a body may take to arrive.
    pub body_timeout: Duration,
}

/// Renders metrics in the Prometheus text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// Every piece.
pub struct HttpState {
    pub scorer: Scorer,
    pub hasher: IdHasher,
    pub policy: Arc<TierPolicy>,
    pub monitoring: Monitoring,
    /// `None`: nobody is asked who they are.
    pub auth: Option<Arc<Authenticator>>,
    pub settings: HttpSettings,
    pub readiness: Readiness,
    /// Renders everything measured so far.
    pub metrics: RenderMetrics,
}

/// The state as the router holds it. A router clones its state for every request: this is one count.
#[derive(Clone)]
pub struct Shared(Arc<HttpState>);

impl Shared {
    pub fn new(state: HttpState) -> Self {
        Self(Arc::new(state))
    }
}

macro_rules! pieces {
    ($($field:ident: $piece:ty),* $(,)?) => {
        $(impl FromRef<Shared> for $piece {
            fn from_ref(shared: &Shared) -> Self {
                shared.0.$field.clone()
            }
        })*
    };
}

pieces! {
    scorer: Scorer,
    hasher: IdHasher,
    policy: Arc<TierPolicy>,
    monitoring: Monitoring,
    auth: Option<Arc<Authenticator>>,
    settings: HttpSettings,
    readiness: Readiness,
    metrics: RenderMetrics,
}
