//! Models: reading bundles, running them behind one trait, holding what is served.
//!
//! Numbers cross this module's border as slices; no type of `ort`, `ndarray` or `smartcore` leaves its file.

pub mod additive;
pub mod backend;
pub mod bundle;
pub mod engine;
pub mod explain;
pub mod guard;
pub mod linear;
pub mod manifest;
pub mod memory;
pub mod onnx;
pub mod onnx_graph;
pub mod pool;
pub mod probe;
pub mod registry;
pub mod runtime_search;
pub mod smartcore;
pub mod trees;
pub mod warm;

pub use backend::{Backend, BackendError, FeatureMatrix};
pub use bundle::{BundleError, ModelSnapshot};
