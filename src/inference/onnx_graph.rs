//! Reads ONNX files and runs the short list of operators around tree and linear models.
