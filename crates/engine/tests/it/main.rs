//! Every backend answers alike, and as the library does that a model comes from.

#![expect(unreachable_pub, reason = "nothing is outside of a test")]

mod backend_conformance;
mod boosters;
mod onnx_parity;
mod onnx_runtime;
