//! What tests share: a small bundle on disk, and the real router driven without sockets.

pub mod bundle;
pub mod contract;
pub mod identity;
pub mod lead_bundle;
pub mod onnx_file;
pub mod onnx_runtime;
pub mod receiver;
pub mod test_app;

pub use bundle::TestBundle;
pub use test_app::TestApp;
