//! Tests through the public face of the program, one module per area.

mod backend_conformance;
mod http_api;
mod onnx_runtime;
mod support;
