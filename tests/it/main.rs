//! Tests through the public face of the program, one module per area.

mod backend_conformance;
mod candidates;
mod config;
mod explanations;
mod http_api;
mod lead_api;
mod model_swap;
mod monitoring;
mod onnx_parity;
mod onnx_runtime;
mod process;
mod score_files;
mod support;
mod tidy;
