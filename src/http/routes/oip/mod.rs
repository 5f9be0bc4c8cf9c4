//! The Open Inference Protocol, version 2: what clients of model servers ask, answered by the functions that answer `/v1`.
//!
//! A version answers while it serves, and no other one does: so a request that names a version gets it or a 404. Models
//! are files, so nothing is loaded or unloaded from here.

pub(in crate::http) mod grpc;
pub(in crate::http) mod infer;
pub(in crate::http) mod model;
pub(in crate::http) mod repository;
pub(in crate::http) mod server;
pub(in crate::http) mod statistics;

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use serde::Deserialize;

use crate::auth::Scope;
use crate::http::edge::auth::Asker;
use crate::http::edge::error::{ApiError, Code};
use crate::http::state::HttpState;
use scoreline_domain::ModelName;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;
use scoreline_engine::inference::registry::Registry;

/// What the placeholders of paths are.
const MODEL: &str = "Name of a model that serves.";
const VERSION: &str = "Name of the version that serves.";

/// A model, and perhaps a version of it, as a path names them.
#[derive(Deserialize)]
pub(crate) struct NamedModel {
    model: String,
    #[serde(default)]
    version: Option<String>,
}

type ModelPath = Result<Path<NamedModel>, PathRejection>;

impl NamedModel {
    fn of(path: ModelPath) -> Result<Self, ApiError> {
        path.map(|Path(named)| named).map_err(|_| ApiError::new(Code::NotFound, "the path must be UTF-8"))
    }

    /// The snapshot that answers somebody who may ask it.
    ///
    /// # Errors
    /// As `serving`, and when the caller is not let in.
    fn asked(&self, app: &HttpState, asker: &Asker) -> axum::response::Result<Arc<ModelSnapshot>> {
        let serving = self.serving(app.scorer.registry());
        asker.admit(serving.as_ref().ok().map(|snapshot| scope_of(snapshot)))?;
        Ok(serving?)
    }

    /// The snapshot that answers.
    ///
    /// # Errors
    /// When the model does not serve, or this version of it does not.
    fn serving(&self, registry: &Registry) -> Result<Arc<ModelSnapshot>, ApiError> {
        let name = ModelName::parse(&self.model).ok();
        let Some(snapshot) = name.as_ref().and_then(|name| registry.serving(name)) else {
            if let Some(name) = name.filter(|name| registry.status().iter().any(|status| status.model == *name)) {
                return Err(ApiError::new(Code::NoModel, format!("no version of model `{name}` serves")));
            }
            let problem = format!("there is no such model; serving are {}", registry.serving_names());
            return Err(ApiError::new(Code::NotFound, problem));
        };
        match &self.version {
            Some(version) if version != snapshot.version().as_str() => {
                let (name, serving) = (snapshot.name(), snapshot.version());
                let problem = format!("this version of model `{name}` does not serve; `{serving}` does");
                Err(ApiError::new(Code::NotFound, problem))
            }
            Some(_) | None => Ok(snapshot),
        }
    }
}

/// The scope that is needed to ask a model.
fn scope_of(snapshot: &ModelSnapshot) -> Scope {
    match snapshot.task() {
        Task::Clv => Scope::Predict,
        Task::Lead => Scope::Leads,
    }
}
