//! Who answers for a model: the version that serves and, beside it, the one that is being tried.

use std::sync::Arc;

use crate::inference::bundle::ModelSnapshot;
use crate::inference::engine::Engine;
use scoreline_domain::ModelVersion;

/// What one model's requests see. Published whole, so that a request never mixes a serving version with a candidate
/// that belongs to another moment.
#[derive(Clone, Debug)]
pub struct ModelRoute {
    /// The version that answers.
    pub serving: Arc<ModelSnapshot>,
    /// A version on trial, never the one that serves.
    pub candidate: Option<Candidate>,
}

impl ModelRoute {
    /// Whether nobody who answers has threads of its own. A shadow answers nobody.
    pub fn is_inline(&self) -> bool {
        let canary = self.candidate.as_ref().filter(|candidate| matches!(candidate.mode, CandidateMode::Canary { .. }));
        let all = [Some(&self.serving), canary.map(|candidate| &candidate.snapshot)];
        all.into_iter().flatten().all(|snapshot| matches!(snapshot.engine(), Engine::Inline(_)))
    }
}

/// A version on trial. It went through the same stages as the one that serves.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub snapshot: Arc<ModelSnapshot>,
    pub mode: CandidateMode,
}

/// How a candidate takes part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CandidateMode {
    /// Scores the same requests for comparison; its answers reach nobody.
    Shadow,
    /// Answers this share of the customers, above 0 and at most 1; the others are answered by the serving version.
    Canary { share: f64 },
}

impl CandidateMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Canary { .. } => "canary",
        }
    }
}

/// The candidate that the settings ask for.
#[derive(Clone, Debug, PartialEq)]
pub struct CandidateSettings {
    pub version: ModelVersion,
    pub mode: CandidateMode,
}
