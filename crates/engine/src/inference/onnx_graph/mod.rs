//! Reads ONNX files and runs the short list of operators around tree and linear models.
//!
//! `proto.rs` decodes the file, `graph.rs` holds it in plain types, `compile.rs` (with `rearrange.rs`, `arithmetic.rs`
//! and `shape.rs`) turns it into the steps of `program.rs`, `attribution.rs` follows what a feature does through them,
//! `screen.rs` looks through a file before anything else does (`operators.rs` is what it may use, `wire.rs` how it is
//! written), `lost_steps.rs` tells exports that lost a step, `carried.rs` keeps texts in it, `transform.rs` is arithmetic the tree and linear operators share. A graph with any other operator is refused by name:
//! such a model is run by ONNX Runtime instead.

mod arithmetic;
mod attribution;
mod carried;
mod compile;
pub(super) mod graph;
mod lost_steps;
mod operators;
mod program;
mod proto;
mod rearrange;
mod screen;
mod shape;
pub(super) mod transform;
mod wire;

use std::collections::BTreeMap;

use self::graph::{Graph, Number, malformed};
use super::manifest::BackendKind;
use super::{Backend, BackendError, trees};

pub use carried::{Carried, carried, with_metadata};
pub(super) use program::{LastStep, around};
pub use screen::{Unfit, screen, screen_all};

/// A parsed ONNX file.
pub struct OnnxModel {
    graph: Graph,
    metadata: BTreeMap<String, String>,
}

/// What kind of model a graph is, and so which backend runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphKind {
    /// Around tree ensembles.
    Trees,
    /// One linear model with what prepares its inputs and transforms its result.
    Linear,
    /// Anything else.
    Other,
}

/// An input a graph declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphInput {
    pub name: String,
    /// Numbers in a row; `None` when the file leaves it open.
    pub width: Option<usize>,
    /// Whether it holds numbers.
    pub numeric: bool,
}

impl OnnxModel {
    /// Decodes a file. It is [`BackendError::Malformed`] when it is not ONNX, keeps numbers in another file, is larger
    /// than 512 MiB or contradicts itself; whether its operators are supported is decided when it is loaded.
    pub fn parse(bytes: &[u8]) -> Result<Self, BackendError> {
        let proto::Decoded { graph, metadata } = proto::decode(bytes).map_err(malformed)?;
        Ok(Self { graph, metadata })
    }

    pub fn kind(&self) -> GraphKind {
        let mut linear = 0;
        let mut other = false;
        for node in &self.graph.nodes {
            match node.operator.as_str() {
                operator if trees::is_ensemble(operator) => return GraphKind::Trees,
                "LinearRegressor" | "LinearClassifier" | "MatMul" | "Gemm" => linear += 1,
                operator => other |= !compile::is_supported(operator, &node.domain),
            }
        }
        // Matrix products one after the other are the layers of a network.
        if linear == 1 && !other { GraphKind::Linear } else { GraphKind::Other }
    }

    /// Which of our own engines runs this graph on these columns, if one does.
    pub fn runs_natively(&self, features: &[&str]) -> Option<BackendKind> {
        match self.kind() {
            GraphKind::Trees => trees::load(self, features).ok().map(|_| BackendKind::Trees),
            GraphKind::Linear => load_linear(self, features).ok().map(|_| BackendKind::Linear),
            GraphKind::Other => None,
        }
    }

    /// The file's key-value pairs; a lone file may carry its manifest here.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What a caller gives, in declared order.
    pub fn inputs(&self) -> Vec<GraphInput> {
        let input = |declared: &graph::Declared| GraphInput {
            name: declared.name.clone(),
            width: declared.width,
            numeric: declared.number != Number::Other,
        };
        self.graph.inputs.iter().map(input).collect()
    }

    /// Names of the graph's outputs, in declared order; class labels included, which no backend writes.
    pub fn outputs(&self) -> &[String] {
        &self.graph.outputs
    }
}

/// Loads a linear graph as a backend; `features` are the bundle's, in column order.
///
/// A graph with one input reads all features in that order, one with several reads each by its name.
pub fn load_linear(model: &OnnxModel, features: &[&str]) -> Result<Box<dyn Backend>, BackendError> {
    if model.kind() == GraphKind::Linear {
        load(model, features, "linear")
    } else {
        Err(BackendError::Unsupported { backend: "linear", what: "a graph that is not one linear model".to_owned() })
    }
}

/// Loads any graph of supported operators; errors name `backend`.
pub(super) fn load(
    model: &OnnxModel,
    features: &[&str],
    backend: &'static str,
) -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(compile::compile(&model.graph, features, backend)?))
}
