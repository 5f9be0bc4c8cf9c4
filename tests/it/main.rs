//! Tests through the public face of the program, one module per area.

mod config;
mod http_api;
mod model_swap;
mod onnx_parity;
mod process;
mod score_files;
mod support;
mod tidy;
