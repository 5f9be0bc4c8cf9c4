//! Tests through the public face of the program, one module per area.

mod onnx_parity;
