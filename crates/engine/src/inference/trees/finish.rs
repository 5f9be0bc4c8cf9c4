//! From the weights of the leaves a row reaches to the columns an ensemble writes.

use super::scalar::Scalar;
use crate::inference::onnx_graph::transform::Transform;

/// How the trees' weights for one target become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// Which columns are made of the scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// As many as there are targets or classes.
    PerTarget(usize),
    /// Two classes scored by one number: the second class's score and its counterpart. `positive` when no weight is
    /// below zero, so that an untransformed score counts as a probability.
    FromOne { positive: bool },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finish<T> {
    pub(super) aggregate: Aggregate,
    /// One per target, or none.
    pub(super) base: Vec<T>,
    pub(super) transform: Transform,
    pub(super) columns: Columns,
}

impl<T: Scalar> Finish<T> {
    /// Number of columns written.
    pub(super) fn columns(&self) -> usize {
        match self.columns {
            Columns::PerTarget(targets) => targets,
            Columns::FromOne { .. } => 2,
        }
    }

    /// Number of sums the weights go to.
    pub(super) fn targets(&self) -> usize {
        match self.columns {
            Columns::PerTarget(targets) => targets,
            Columns::FromOne { .. } => 1,
        }
    }

    /// What a target's aggregate is before the first weight.
    pub(super) fn nothing(&self) -> T {
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => T::ZERO,
            Aggregate::Min => T::INFINITY,
            Aggregate::Max => T::NEG_INFINITY,
        }
    }

    /// One more weight for a target.
    #[inline]
    pub(super) fn add(&self, aggregated: T, weight: T) -> T {
        match self.aggregate {
            Aggregate::Sum | Aggregate::Average => aggregated + weight,
            Aggregate::Min => {
                if weight < aggregated {
                    weight
                } else {
                    aggregated
                }
            }
            Aggregate::Max => {
                if weight > aggregated {
                    weight
                } else {
                    aggregated
                }
            }
        }
    }

    /// Writes the columns from the aggregate of each target.
    #[inline]
    pub(super) fn write(&self, aggregated: &[T], trees: usize, out: &mut [f64]) {
        self.scores(aggregated, trees, out);
        match (self.columns, out) {
            (Columns::PerTarget(1), scores) => scores[0] = self.transform.apply_single(scores[0]),
            (Columns::PerTarget(_), scores) => self.transform.apply(scores),
            (Columns::FromOne { positive }, scores) => {
                scores.copy_from_slice(&self.transform.apply_pair(scores[0], positive));
            }
        }
    }

    /// Writes the score of each target, before any transform.
    #[inline]
    pub(super) fn scores(&self, aggregated: &[T], trees: usize, out: &mut [f64]) {
        for (target, (out, &aggregated)) in out.iter_mut().zip(aggregated).enumerate() {
            let score = match self.aggregate {
                Aggregate::Average => aggregated / T::from_f64(trees as f64),
                // No leaf had a weight for this target.
                Aggregate::Min | Aggregate::Max if aggregated == self.nothing() => T::ZERO,
                Aggregate::Sum | Aggregate::Min | Aggregate::Max => aggregated,
            };
            *out = self.base.get(target).map_or(score, |&base| score + base).to_f64();
        }
    }
}
