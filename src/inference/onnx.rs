//! Any ONNX graph through ONNX Runtime. The only file that names `ort`.
