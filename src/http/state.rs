//! What handlers may ask for. Each takes the piece it needs with `State<Piece>`, never the whole.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use metrics_exporter_prometheus::PrometheusHandle;

use super::health::Readiness;
use crate::privacy::IdHasher;
use crate::routing::TierPolicy;
use crate::scoring::Scorer;

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

#[derive(Clone, FromRef)]
pub struct HttpState {
    pub scorer: Scorer,
    pub hasher: IdHasher,
    pub policy: Arc<TierPolicy>,
    pub settings: HttpSettings,
    pub readiness: Readiness,
    pub metrics: PrometheusHandle,
}
