//! Tests through the public face of the program, one module per area.

mod always_answer;
mod backend_conformance;
mod breaker;
mod candidates;
mod config;
mod explanations;
mod fuzz;
mod http_api;
mod lead_api;
mod listener;
mod model_swap;
mod monitoring;
mod onnx_parity;
mod onnx_runtime;
mod process;
mod score_files;
mod soak;
mod support;
mod tidy;
mod tls;
