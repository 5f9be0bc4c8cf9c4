//! Tests through the public face of the program, one module per area.

mod always_answer;
mod auth;
mod auth_cli;
mod auth_issuers;
mod auth_tokens;
mod backend_conformance;
mod breaker;
mod config;
mod explanations;
mod fuzz;
mod http_api;
mod lead_api;
mod leaks;
mod listener;
mod model_swap;
mod monitoring;
mod onnx_parity;
mod onnx_runtime;
mod privacy;
mod process;
mod score_files;
mod scrub;
mod soak;
mod support;
mod tidy;
mod tls;
