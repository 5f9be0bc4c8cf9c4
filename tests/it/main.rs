//! Tests through the public face of the program, one module per area.

mod always_answer;
mod backend_conformance;
mod breaker;
mod config;
mod explanations;
mod http_api;
mod lead_api;
mod listener;
mod model_files;
mod model_probe;
mod model_storm;
mod model_swap;
mod monitoring;
mod onnx_parity;
mod onnx_runtime;
mod process;
mod score_files;
mod support;
mod tidy;
