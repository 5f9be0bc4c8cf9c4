//! `GET /v2/models/{model}`: what a model reads and answers, and whether it does.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::{MODEL, ModelPath, NamedModel, VERSION};
use crate::http::edge::auth::Asker;
use crate::http::edge::error::{ApiError, Code};
use crate::http::openapi::{Operation, Tag};
use crate::http::state::{HttpState, SharedState};
use crate::http::wire::json::respond;
use crate::http::wire::oip::{Datatype, TaskOutputs};
use scoreline_domain::{Estimate, LeadScore};
use scoreline_engine::features::schema::FeatureRule;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::sha256_hex;
use scoreline_engine::inference::manifest::Task;

#[derive(Serialize, ToSchema)]
struct ModelMetadata<'a> {
    name: &'a str,
    versions: [&'a str; 1],
    platform: String,
    inputs: Vec<TensorMetadata<'a>>,
    outputs: Vec<TensorMetadata<'a>>,
    properties: BTreeMap<&'static str, String>,
}

/// An input or output. There are as many rows as are asked about.
#[derive(Clone, Copy, Serialize, ToSchema)]
pub(super) struct TensorMetadata<'a> {
    pub name: &'a str,
    #[schema(value_type = String)]
    pub datatype: Datatype,
    pub shape: [i64; 2],
}

#[derive(Serialize, ToSchema)]
struct ModelReady<'a> {
    name: &'a str,
    ready: bool,
}

pub(crate) fn describe() -> Operation {
    described("v2_model")
}

pub(crate) fn describe_of_version() -> Operation {
    described("v2_model_version").at("version", VERSION)
}

fn described(id: &'static str) -> Operation {
    Operation::new(Tag::Inference, id, "What a model reads and answers")
        .at("model", MODEL)
        .gives::<ModelMetadata<'static>>(StatusCode::OK, "A tensor for each feature and output.")
        .refuses_inference(&[Code::NotFound, Code::NoModel])
}

pub(crate) fn describe_ready() -> Operation {
    described_ready("v2_model_ready")
}

pub(crate) fn describe_ready_of_version() -> Operation {
    described_ready("v2_model_version_ready").at("version", VERSION)
}

fn described_ready(id: &'static str) -> Operation {
    Operation::new(Tag::Inference, id, "Whether a model answers")
        .at("model", MODEL)
        .gives::<ModelReady<'static>>(StatusCode::OK, "It does.")
        .refuses_inference(&[Code::NotFound, Code::NoModel])
}

pub(crate) async fn metadata(
    State(app): State<SharedState>,
    asker: Asker,
    path: ModelPath,
) -> axum::response::Result<Response> {
    let snapshot = NamedModel::of(path)?.asked(&app, &asker)?;
    let metadata = ModelMetadata {
        name: snapshot.name().as_str(),
        versions: [snapshot.version().as_str()],
        platform: platform(&snapshot),
        inputs: inputs(&snapshot).collect(),
        outputs: outputs(&snapshot).collect(),
        properties: properties(&snapshot),
    };
    Ok(respond(StatusCode::OK, &metadata))
}

pub(crate) async fn ready(State(app): State<SharedState>, path: ModelPath) -> Result<Response, ApiError> {
    let snapshot = NamedModel::of(path)?.ready(&app)?;
    Ok(respond(StatusCode::OK, &ModelReady { name: snapshot.name().as_str(), ready: true }))
}

impl NamedModel {
    /// The snapshot that answers, while the server wants traffic.
    ///
    /// # Errors
    /// As `serving`, and when the server is about to stop.
    pub(super) fn ready(&self, app: &HttpState) -> Result<Arc<ModelSnapshot>, ApiError> {
        let snapshot = self.serving(app.scorer.registry())?;
        if app.readiness.is_draining() {
            return Err(ApiError::new(Code::NoModel, "the server is about to stop"));
        }
        Ok(snapshot)
    }
}

/// How the model is run.
pub(super) fn platform(snapshot: &ModelSnapshot) -> String {
    format!("{}_{}", super::server::NAME, snapshot.manifest().backend.as_str())
}

/// One tensor for each feature, in the order of the bundle.
pub(super) fn inputs(snapshot: &ModelSnapshot) -> impl Iterator<Item = TensorMetadata<'_>> {
    let datatype = |rule: &FeatureRule| if rule.categories.is_empty() { Datatype::Fp32 } else { Datatype::Bytes };
    let rules = snapshot.schema().rules().iter();
    rules.map(move |rule| TensorMetadata { name: &rule.name, datatype: datatype(rule), shape: [-1, 1] })
}

pub(super) fn outputs(snapshot: &ModelSnapshot) -> impl Iterator<Item = TensorMetadata<'static>> {
    let outputs = match snapshot.task() {
        Task::Clv => Estimate::OUTPUTS,
        Task::Lead => LeadScore::OUTPUTS,
    };
    outputs.iter().map(|(name, datatype)| TensorMetadata { name, datatype: *datatype, shape: [-1, 1] })
}

/// What the protocol has no words for.
fn properties(snapshot: &ModelSnapshot) -> BTreeMap<&'static str, String> {
    let (manifest, rules) = (snapshot.manifest(), snapshot.schema().rules());
    let required: Vec<_> = rules.iter().filter(|rule| rule.required).map(|rule| rule.name.as_str()).collect();
    let units = rules.iter().filter(|rule| !rule.unit.is_empty());
    let units: Vec<_> = units.map(|rule| format!("{}={}", rule.name, rule.unit)).collect();
    let mut inputs = String::new();
    for TensorMetadata { name, datatype, .. } in self::inputs(snapshot) {
        inputs.extend([name, "=", datatype.as_str(), "\n"]);
    }
    let mut properties = BTreeMap::from([
        ("digest", snapshot.digest().to_string()),
        ("task", manifest.task.as_str().to_owned()),
        ("required", required.join(",")),
        ("units", units.join(",")),
        // Changes with a name, a type or the order of the inputs.
        ("schema_sha256", sha256_hex(inputs.as_bytes())),
    ]);
    properties.extend(manifest.horizon_days.map(|days| ("horizon_days", days.to_string())));
    properties
}
