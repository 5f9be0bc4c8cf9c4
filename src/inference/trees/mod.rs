//! The `trees` backend: tree ensembles read from ONNX and compiled to flat arrays.
//!
//! `read.rs` understands the operators, `forest.rs` brings all their branch modes to one form, `prefix.rs` and
//! `walker.rs` are two ways to find the leaves a row ends in, `finish.rs` makes columns of them. What surrounds the
//! ensembles in a graph is run by `onnx_graph`.

mod finish;
mod forest;
mod prefix;
mod read;
mod scalar;
mod walker;

use smallvec::SmallVec;

use self::finish::Finish;
use self::forest::Forest;
use self::prefix::{Mask, Prefix};
use self::scalar::Scalar;
use self::walker::Walker;
use crate::inference::onnx_graph::graph::{Node, Number};
use crate::inference::onnx_graph::{self, GraphKind, OnnxModel};
use crate::inference::{Backend, BackendError};

/// Loads a graph around tree ensembles as a backend; `features` are the bundle's, in column order.
///
/// A graph with one input reads all features in that order, one with several reads each by its name.
pub fn load(model: &OnnxModel, features: &[&str]) -> Result<Box<dyn Backend>, BackendError> {
    if model.kind() == GraphKind::Trees {
        onnx_graph::load(model, features, "trees")
    } else {
        Err(BackendError::Unsupported { backend: "trees", what: "a graph without a tree ensemble".to_owned() })
    }
}

/// Whether this is one of the operators [`Ensemble`] is made of.
pub(super) fn is_ensemble(operator: &str) -> bool {
    matches!(operator, "TreeEnsembleRegressor" | "TreeEnsembleClassifier" | "TreeEnsemble")
}

/// One tree ensemble operator, ready to run.
pub(super) struct Ensemble(Precision);

enum Precision {
    Single(Compiled<f32>),
    Double(Compiled<f64>),
}

impl Ensemble {
    /// `input` is what the operator's input holds, `width` numbers a row: ensembles over doubles compare and add in
    /// `f64`, all others in `f32`.
    pub(super) fn read(node: &Node, input: Number, width: usize) -> Result<Self, BackendError> {
        Ok(Self(match input {
            Number::Double => Precision::Double(Compiled::read(node, width)?),
            Number::Single | Number::Whole | Number::Other => Precision::Single(Compiled::read(node, width)?),
        }))
    }

    /// Number of columns it writes.
    pub(super) fn outputs(&self) -> usize {
        match &self.0 {
            Precision::Single(ensemble) => ensemble.finish.columns(),
            Precision::Double(ensemble) => ensemble.finish.columns(),
        }
    }

    /// Scores one row.
    pub(super) fn run(&self, row: &[f64], out: &mut [f64]) {
        match &self.0 {
            Precision::Single(ensemble) => ensemble.run(row, out),
            Precision::Double(ensemble) => ensemble.run(row, out),
        }
    }
}

struct Compiled<T> {
    form: Form<T>,
    leaves: Leaves<T>,
    finish: Finish<T>,
    trees: usize,
}

/// How the leaves a row ends in are found; the fastest form the forest fits.
enum Form<T> {
    Masks32(Prefix<T, u32, 32>),
    Masks64(Prefix<T, u64, 16>),
    Nodes(Walker<T>),
}

/// What a leaf adds, by the leaf's number in the form.
enum Leaves<T> {
    /// To the only target.
    One(Vec<T>),
    /// To any target: weights `starts[leaf]..starts[leaf + 1]`.
    Many { starts: Vec<u32>, weights: Vec<(u32, T)> },
}

impl<T: Scalar> Compiled<T> {
    fn read(node: &Node, width: usize) -> Result<Self, BackendError> {
        let (forest, finish) = match node.operator.as_str() {
            "TreeEnsembleRegressor" => read::regressor(node)?,
            "TreeEnsembleClassifier" => read::classifier(node)?,
            _ => read::ensemble(node)?,
        };
        if forest.width() > width {
            return Err(node.malformed(format!("a tree reads column {} of {width}", forest.width() - 1)));
        }
        let form = if let Some(masks) = Prefix::build(&forest) {
            Form::Masks32(masks)
        } else if let Some(masks) = Prefix::build(&forest) {
            Form::Masks64(masks)
        } else {
            Form::Nodes(Walker::build(&forest))
        };
        Ok(Self::new(&forest, finish, form))
    }

    fn new(forest: &Forest<T>, finish: Finish<T>, form: Form<T>) -> Self {
        let stride = match form {
            Form::Masks32(_) => Some(<u32 as Mask>::LEAVES),
            Form::Masks64(_) => Some(<u64 as Mask>::LEAVES),
            Form::Nodes(_) => None,
        };
        let leaves = Leaves::number(forest, stride, finish.targets() == 1, finish.nothing());
        Self { form, leaves, finish, trees: forest.trees.len() }
    }

    fn run(&self, row: &[f64], out: &mut [f64]) {
        let row: SmallVec<[T; 64]> = row.iter().map(|&value| T::from_f64(value)).collect();
        match &self.leaves {
            Leaves::One(weights) => {
                // In the order of the trees, one after the other: that is what ONNX Runtime's sum is.
                let mut aggregated = self.finish.nothing();
                self.each_leaf(&row, |leaf| aggregated = self.finish.add(aggregated, weights[leaf]));
                self.finish.write(&[aggregated], self.trees, out);
            }
            Leaves::Many { starts, weights } => {
                let mut aggregated: SmallVec<[T; 16]> =
                    SmallVec::from_elem(self.finish.nothing(), self.finish.targets());
                self.each_leaf(&row, |leaf| {
                    for &(target, weight) in &weights[starts[leaf] as usize..starts[leaf + 1] as usize] {
                        let aggregated = &mut aggregated[target as usize];
                        *aggregated = self.finish.add(*aggregated, weight);
                    }
                });
                self.finish.write(&aggregated, self.trees, out);
            }
        }
    }

    #[inline]
    fn each_leaf(&self, row: &[T], visit: impl FnMut(usize)) {
        match &self.form {
            Form::Masks32(masks) => masks.each_leaf(row, visit),
            Form::Masks64(masks) => masks.each_leaf(row, visit),
            Form::Nodes(nodes) => nodes.each_leaf(row, visit),
        }
    }
}

impl<T: Scalar> Leaves<T> {
    /// Leaves in order, each tree starting at a multiple of `stride` if there is one.
    fn number(forest: &Forest<T>, stride: Option<usize>, single: bool, nothing: T) -> Self {
        let mut weights = Vec::new();
        let mut starts = vec![0];
        for tree in &forest.trees {
            for leaf in 0..stride.unwrap_or(tree.leaves.len()) {
                if let Some(range) = tree.leaves.get(leaf) {
                    weights.extend_from_slice(&forest.weights[range.clone()]);
                }
                if single && weights.len() < starts.len() {
                    weights.push((0, nothing));
                }
                starts.push(weights.len() as u32);
            }
        }
        if single {
            Self::One(weights.into_iter().map(|(_, weight)| weight).collect())
        } else {
            Self::Many { starts, weights }
        }
    }
}
