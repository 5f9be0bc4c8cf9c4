//! Why a bundle is refused: the reason in words for the operator, and a short stable code for everything else.

use std::path::PathBuf;

use crate::features::FeatureFault;
use crate::inference::backend::BackendError;
use crate::inference::onnx_graph::Unfit;

/// Why a bundle is refused. The text is the reason shown to the operator.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("{} cannot be read: {err}", path.display())]
    File { path: PathBuf, err: std::io::Error },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// A link leads out of the models folder.
    #[error("{} leads to {}, outside the models folder", path.display(), target.display())]
    Outside { path: PathBuf, target: PathBuf },
    #[error("{} has {names} names (hard links): copy it instead", path.display())]
    HardLink { path: PathBuf, names: u64 },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}: {reason}", path.display())]
    Text { path: PathBuf, reason: String },
    #[error("{file} has SHA-256 {actual}, the manifest says {expected}")]
    Checksum { file: String, expected: String, actual: String },
    #[error("manifest key `{key}` {problem}")]
    Field { key: &'static str, problem: String },
    #[error("manifest: {0}")]
    Feature(#[from] FeatureFault),
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The ONNX file holds something that is never given to a runtime.
    #[error("model file {0}")]
    Unfit(#[from] Unfit),
    /// A lone model file without a manifest, and nothing serves that it could take one from.
    #[error(
        "the file carries no manifest and no other version of the model serves to take it from: `scoreline models pack` makes \
         a bundle of it"
    )]
    NoManifest,
    #[error("needs about {needed} bytes while the serving version stays loaded, {available} are available")]
    Memory { needed: u64, available: u64 },
    /// No row inside the training range gets an answer that can be served.
    #[error("gives no finite answer to any row tried inside the training range, such as `{output}` = {value}")]
    Output { output: String, value: f64 },
    /// An output that is read as a probability is none for a row inside the training range.
    #[error("output `{output}` is read as a probability and is {value} for a row inside the training range")]
    NoProbability { output: String, value: f64 },
    #[error("probe: {reason}")]
    Probe { fault: ProbeFault, reason: String },
    /// A bug of ours, and never a reason to stop serving.
    #[error("loading panicked: {reason}")]
    Panicked { reason: String },
    /// A golden row's answer differs from what the bundle promises.
    #[error("golden row {row}: {problem}")]
    Golden { row: usize, problem: String },
    /// The folder's names and the manifest's do not agree.
    #[error("manifest says `{manifest}` but the folder is `{folder}`")]
    Misplaced { manifest: String, folder: String },
}

/// How a probe in a child process failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeFault {
    /// No child could be started or talked to.
    Unavailable,
    Crashed,
    Timeout,
    Memory,
    /// The child refused the bundle, with this code.
    Refused(&'static str),
}

impl BundleError {
    /// A short stable word for metrics and `models list`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { .. } | Self::NotAFile { .. } => "unreadable",
            Self::Outside { .. } => "outside",
            Self::HardLink { .. } => "hard_link",
            Self::TooLarge { .. } => "too_large",
            Self::Text { .. } => "malformed_text",
            Self::Checksum { .. } => "checksum",
            Self::Field { .. } | Self::Feature(_) => "manifest",
            Self::Misplaced { .. } => "misplaced",
            Self::NoManifest => "no_manifest",
            Self::Golden { .. } => "golden",
            Self::Unfit(unfit) => unfit.code(),
            Self::Memory { .. } => "memory",
            Self::Output { .. } => "probe_output",
            Self::NoProbability { .. } => "not_a_probability",
            Self::Panicked { .. } => "panicked",
            Self::Probe { fault: ProbeFault::Unavailable, .. } => "probe_unavailable",
            Self::Probe { fault: ProbeFault::Crashed, .. } => "probe_crashed",
            Self::Probe { fault: ProbeFault::Timeout, .. } => "probe_timeout",
            Self::Probe { fault: ProbeFault::Memory, .. } => "probe_memory",
            Self::Probe { fault: ProbeFault::Refused(code), .. } => code,
            Self::Backend(BackendError::Malformed { .. }) => "malformed_model",
            Self::Backend(BackendError::Unsupported { .. }) => "unsupported_model",
            Self::Backend(BackendError::Inputs { .. }) => "inputs",
            Self::Backend(BackendError::RuntimeMissing { .. }) => "runtime_missing",
            Self::Backend(
                BackendError::Run { .. } | BackendError::Overloaded | BackendError::NoTurn | BackendError::Deadline,
            ) => "run",
        }
    }

    /// Whether the reason lies in what is around the files, and may be gone a minute later.
    pub fn is_passing(&self) -> bool {
        ["memory", "no_manifest", "probe_unavailable", "runtime_missing"].contains(&self.code())
    }
}

/// Codes that a child process may report: the stages it runs.
pub const CHILD_CODES: [&str; 18] = [
    "malformed_text",
    "checksum",
    "manifest",
    "golden",
    "malformed_model",
    "unsupported_model",
    "inputs",
    "runtime_missing",
    "run",
    "probe_output",
    "not_a_probability",
    "lost_step",
    "external_data",
    "operator",
    "tensor_size",
    "not_a_number",
    "nesting",
    "panicked",
];
