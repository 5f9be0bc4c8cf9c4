//! What happens to models, told once: a metric by outcome and one log line.

use scoreline_domain::{ModelName, ModelVersion};

/// What a look at the models folder, or a person, brought about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryEvent {
    Published {
        model: ModelName,
        version: ModelVersion,
        digest: String,
    },
    /// Loaded as the candidate.
    Trial {
        model: ModelName,
        version: ModelVersion,
        digest: String,
        mode: &'static str,
    },
    Refused {
        model: ModelName,
        version: ModelVersion,
        code: &'static str,
        reason: String,
    },
    /// Answers too differently to take over by itself.
    Held {
        model: ModelName,
        version: ModelVersion,
        reason: String,
    },
    /// Arrived and does not take over.
    Behind {
        model: ModelName,
        version: ModelVersion,
        reason: String,
    },
    /// A choice names a version that is not there.
    Missing {
        model: ModelName,
        version: ModelVersion,
        /// The setting or call that names it.
        key: String,
        /// The versions that are there.
        known: String,
    },
}

impl RegistryEvent {
    pub(super) fn report(&self) {
        let outcome = match self {
            Self::Published { .. } => "published",
            Self::Trial { .. } => "candidate",
            Self::Refused { code, .. } => code,
            Self::Held { .. } => "held",
            Self::Behind { .. } | Self::Missing { .. } => "not_serving",
        };
        metrics::counter!("scoreline_model_loads_total", "outcome" => outcome).increment(1);
        match self {
            Self::Published { model, version, digest } => tracing::info!(%model, %version, digest, "model serves"),
            Self::Trial { model, version, digest, mode } => {
                tracing::info!(%model, %version, digest, mode, "model is tried beside the serving one");
            }
            Self::Refused { model, version, code, reason } => {
                tracing::error!(%model, %version, code, reason, "model refused; what served before keeps serving");
            }
            Self::Held { model, version, reason } => {
                tracing::warn!(%model, %version, reason, "model held as a shadow; promote it to let it serve");
            }
            Self::Behind { model, version, reason } => {
                tracing::info!(%model, %version, reason, "model does not take over; promote it to let it serve");
            }
            Self::Missing { model, version, key, known } => {
                tracing::warn!(%model, %version, key, known, "model version is named and not there");
            }
        }
    }
}
