//! An ONNX graph in plain types: what `proto.rs` decodes and the rest of `inference` reads.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::inference::BackendError;

/// How ONNX computes with a tensor. Values are kept as `f64` everywhere; a `Single` one is always exactly an `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inference) enum Number {
    Single,
    Double,
    Whole,
    /// Text and the number types no supported model uses.
    Other,
}

impl Number {
    /// The nearest number of this kind.
    pub(in crate::inference) fn round(self, value: f64) -> f64 {
        match self {
            Self::Single => f64::from(value as f32),
            Self::Double | Self::Other => value,
            Self::Whole => value.trunc(),
        }
    }
}

/// A constant tensor.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::inference) struct Tensor {
    pub(in crate::inference) dims: Vec<usize>,
    pub(in crate::inference) number: Number,
    /// Row-major; as many as `dims` says.
    pub(in crate::inference) values: Vec<f64>,
}

impl Tensor {
    /// The values as whole numbers; the fraction is lost.
    pub(in crate::inference) fn whole(&self) -> Vec<i64> {
        self.values.iter().map(|&value| value as i64).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::inference) enum Attribute {
    Float(f32),
    Int(i64),
    Text(Bytes),
    Tensor(Tensor),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Texts(Vec<Bytes>),
}

/// A graph input as the file declares it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::inference) struct Declared {
    pub(in crate::inference) name: String,
    pub(in crate::inference) rank: usize,
    /// Numbers in a row; `None` when the file leaves it open.
    pub(in crate::inference) width: Option<usize>,
    pub(in crate::inference) number: Number,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::inference) struct Node {
    pub(in crate::inference) operator: String,
    pub(in crate::inference) domain: String,
    /// An empty name is an optional input left out.
    pub(in crate::inference) inputs: Vec<String>,
    pub(in crate::inference) outputs: Vec<String>,
    pub(in crate::inference) attributes: BTreeMap<String, Attribute>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::inference) struct Graph {
    /// In an order in which every node comes after those it reads.
    pub(in crate::inference) nodes: Vec<Node>,
    pub(in crate::inference) initializers: BTreeMap<String, Tensor>,
    pub(in crate::inference) inputs: Vec<Declared>,
    pub(in crate::inference) outputs: Vec<String>,
    /// Domain and version of each operator set the model uses.
    pub(in crate::inference) opsets: Vec<(String, i64)>,
}

/// Whether a node belongs to the two domains the ONNX project itself defines.
pub(in crate::inference) fn standard(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx" | "ai.onnx.ml")
}

impl Node {
    /// What is wrong with this node, as an error.
    pub(in crate::inference) fn malformed(&self, reason: impl std::fmt::Display) -> BackendError {
        malformed(format!("operator `{}`: {reason}", self.operator))
    }

    pub(in crate::inference) fn float(&self, name: &str) -> Option<f32> {
        match self.attributes.get(name) {
            Some(&Attribute::Float(value)) => Some(value),
            _ => None,
        }
    }

    pub(in crate::inference) fn int(&self, name: &str) -> Option<i64> {
        match self.attributes.get(name) {
            Some(&Attribute::Int(value)) => Some(value),
            _ => None,
        }
    }

    pub(in crate::inference) fn text(&self, name: &str) -> Option<&[u8]> {
        match self.attributes.get(name) {
            Some(Attribute::Text(value)) => Some(value),
            _ => None,
        }
    }

    pub(in crate::inference) fn floats(&self, name: &str) -> &[f32] {
        match self.attributes.get(name) {
            Some(Attribute::Floats(values)) => values,
            _ => &[],
        }
    }

    pub(in crate::inference) fn doubles(&self, name: &str) -> Vec<f64> {
        self.floats(name).iter().map(|&value| f64::from(value)).collect()
    }

    pub(in crate::inference) fn ints(&self, name: &str) -> &[i64] {
        match self.attributes.get(name) {
            Some(Attribute::Ints(values)) => values,
            _ => &[],
        }
    }

    pub(in crate::inference) fn texts(&self, name: &str) -> &[Bytes] {
        match self.attributes.get(name) {
            Some(Attribute::Texts(values)) => values,
            _ => &[],
        }
    }

    pub(in crate::inference) fn tensor(&self, name: &str) -> Option<&Tensor> {
        match self.attributes.get(name) {
            Some(Attribute::Tensor(value)) => Some(value),
            _ => None,
        }
    }
}

pub(in crate::inference) fn malformed(reason: impl Into<String>) -> BackendError {
    BackendError::Malformed { format: "ONNX", reason: reason.into() }
}
