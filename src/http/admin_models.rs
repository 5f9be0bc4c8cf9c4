//! `/admin/models`: every version on disk with its state, and why a refused one was refused.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::admin_comparison::ComparisonBody;
use super::answer::round;
use super::json::respond;
use crate::inference::registry::{State as ModelState, VersionStatus};
use crate::monitoring::Monitoring;
use crate::monitoring::drift::{ColumnStatus, DriftStatus};
use crate::scoring::Scorer;

#[derive(Serialize)]
struct Models {
    models: Vec<ModelBody>,
}

#[derive(Serialize)]
struct ModelBody {
    name: String,
    version: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(flatten)]
    loaded: Option<LoadedBody>,
    /// Of the version that serves, when its bundle carries a reference.
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<DriftBody>,
    /// Of a candidate: how it differs from the version that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison: Option<ComparisonBody>,
}

#[derive(Serialize)]
struct LoadedBody {
    digest: String,
    task: &'static str,
    backend: &'static str,
    trained_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    horizon_days: Option<u32>,
    description: String,
    synthetic: String,
    features: Vec<String>,
    metrics: std::collections::BTreeMap<String, f64>,
}

#[derive(Serialize)]
struct DriftBody {
    /// When the open window began, and its rows so far.
    window_opened_at: String,
    window_rows: u64,
    /// Columns with a raised alarm.
    alarms: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_window: Option<WindowBody>,
}

#[derive(Serialize)]
struct WindowBody {
    from: String,
    to: String,
    rows: u64,
    columns: Vec<ColumnBody>,
}

#[derive(Serialize)]
struct ColumnBody {
    /// A feature, or `score`.
    column: String,
    psi: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<f64>,
    alarm: bool,
    /// The values whose share changed most, and that share at training and in the window.
    most_moved: String,
    share_at_training: f64,
    share_now: f64,
}

pub async fn handle(State(scorer): State<Scorer>, State(monitoring): State<Monitoring>) -> Response {
    let (drift, trials) = (monitoring.drift().status(), monitoring.trials().status());
    let with_drift = |status: VersionStatus| {
        let comparison = ComparisonBody::of(&status, &trials);
        let watched = drift.iter().find(|it| it.model == status.model && it.version == status.version);
        let drift = watched.filter(|_| status.snapshot.is_some()).map(DriftBody::from);
        ModelBody { drift, comparison, ..ModelBody::from(status) }
    };
    let models = scorer.registry().status().into_iter().map(with_drift).collect();
    respond(StatusCode::OK, &Models { models })
}

impl From<VersionStatus> for ModelBody {
    fn from(status: VersionStatus) -> Self {
        let (code, reason) = match &status.state {
            ModelState::Refused { code, reason } => (Some(*code), Some(reason.clone())),
            ModelState::Serving | ModelState::Candidate | ModelState::Available => (None, None),
        };
        let loaded = status.snapshot.as_deref().map(|snapshot| {
            let manifest = snapshot.manifest();
            LoadedBody {
                digest: snapshot.digest().to_string(),
                task: manifest.task.as_str(),
                backend: manifest.backend.as_str(),
                trained_at: manifest.trained_at.to_string(),
                horizon_days: manifest.horizon_days,
                description: manifest.description.clone(),
                synthetic: manifest.training.synthetic.clone(),
                features: manifest.features.iter().map(|rule| rule.name.clone()).collect(),
                metrics: manifest.training.metrics.clone(),
            }
        });
        Self {
            name: status.model.to_string(),
            version: status.version.to_string(),
            state: status.state.as_str(),
            code,
            reason,
            loaded,
            drift: None,
            comparison: None,
        }
    }
}

impl From<&DriftStatus> for DriftBody {
    fn from(status: &DriftStatus) -> Self {
        let columns = status.closed.iter().flat_map(|window| &window.columns);
        Self {
            window_opened_at: status.opened_at.to_string(),
            window_rows: status.open_rows,
            alarms: columns.filter(|column| column.alarm).map(|column| column.subject.as_str().to_owned()).collect(),
            last_window: status.closed.as_ref().map(|window| WindowBody {
                from: window.from.to_string(),
                to: window.to.to_string(),
                rows: window.rows,
                columns: window.columns.iter().map(ColumnBody::from).collect(),
            }),
        }
    }
}

impl From<&ColumnStatus> for ColumnBody {
    fn from(status: &ColumnStatus) -> Self {
        let ColumnStatus { subject, psi, worst, worst_trained, alarm } = status;
        Self {
            column: subject.as_str().to_owned(),
            psi: round(psi.value, 1e4),
            limit: psi.limit.is_finite().then(|| round(psi.limit, 1e4)),
            alarm: *alarm,
            most_moved: worst.clone(),
            share_at_training: round(*worst_trained, 1e4),
            share_now: round(psi.worst_share, 1e4),
        }
    }
}
