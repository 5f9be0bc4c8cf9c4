//! The settings of modules that do not hold their own yet: plain values, already checked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::http::admission::AdmissionSettings;
use crate::scoring::explanation::ExplainSettings;
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::inference::registry::CandidateSettings;

#[derive(Clone, Debug)]
pub struct ServerSettings {
    pub listen: SocketAddr,
    pub admin_listen: SocketAddr,
    /// Bytes.
    pub body_limit: usize,
    /// Bytes.
    pub batch_body_limit: usize,
    pub batch_rows: usize,
    /// Time for a whole batch; rows that come later are answered from the ladder.
    pub batch_deadline: Duration,
    pub header_read_timeout: Duration,
    pub ready_wait: Duration,
    pub drain_delay: Duration,
    pub drain_timeout: Duration,
    /// Threads that answer requests; none set means one per core.
    pub threads: Option<usize>,
    pub admission: AdmissionSettings,
    pub allow_public_without_auth: bool,
}

#[derive(Clone, Debug)]
pub struct ModelSettings {
    pub dir: PathBuf,
    pub clv_model: ModelName,
    pub lead_model: ModelName,
    /// The version that serves, for models that do not serve their newest one.
    pub pins: BTreeMap<ModelName, ModelVersion>,
    /// Versions tried beside the one that serves.
    pub candidates: BTreeMap<ModelName, CandidateSettings>,
    /// Refuse a request for a version that is not loaded.
    pub strict_version: bool,
}

#[derive(Clone, Debug)]
pub struct InferenceSettings {
    pub onnxruntime_path: Option<PathBuf>,
    pub onnx_threads: usize,
    pub onnx_queue: usize,
}

#[derive(Clone, Debug)]
pub struct ScoringSettings {
    pub deadline: Duration,
    pub cache_ttl: Duration,
    /// Bytes.
    pub cache_size: u64,
    pub explain: ExplainSettings,
    /// Time between two self-probes.
    pub self_probe: Duration,
    /// Age from which stored features are said to be stale.
    pub features_stale_after: Duration,
}
