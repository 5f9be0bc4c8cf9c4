//! `/admin/models`: every version on disk with its state, and why a refused one was refused.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::json::respond;
use crate::inference::registry::{State as ModelState, VersionStatus};
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

pub async fn handle(State(scorer): State<Scorer>) -> Response {
    let models = scorer.registry().status().into_iter().map(ModelBody::from).collect();
    respond(StatusCode::OK, &Models { models })
}

impl From<VersionStatus> for ModelBody {
    fn from(status: VersionStatus) -> Self {
        let (code, reason) = match &status.state {
            ModelState::Refused { code, reason } => (Some(*code), Some(reason.clone())),
            ModelState::Serving | ModelState::Available => (None, None),
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
        }
    }
}
