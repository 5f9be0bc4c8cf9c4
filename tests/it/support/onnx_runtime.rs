//! ONNX Runtime as the engine's own tests find it, and the graphs that they run on it.

use std::fs;
use std::path::Path;

use scoreline_engine::inference::runtime_search::RuntimeSearch;

/// The search of a server without `inference.onnxruntime_path`, with telemetry off as the test command must set it.
#[expect(clippy::disallowed_methods, reason = "tests look for the installed library themselves")]
pub fn search() -> RuntimeSearch {
    RuntimeSearch::new(None, |name| std::env::var_os(name))
}

pub fn fixture(name: &str) -> Vec<u8> {
    let folder = "crates/engine/tests/fixtures/onnx_runtime";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    fs::read(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}
