//! Every backend answers alike, and as the library does that a model comes from.

mod backend_conformance;
mod onnx_parity;
mod onnx_runtime;
