//! What each feature did to the columns of a tree ensemble.
//!
//! Scores are sums over trees and are split exactly. A transform of one score rescales its shares; a softmax depends on
//! all scores and takes from each by the path between the two rows' scores.

use smallvec::SmallVec;

use super::finish::{Aggregate, Columns};
use super::scalar::Scalar;
use super::walker::Step;
use super::{Compiled, Ensemble, Leaves, Precision};
use crate::inference::explain::interventional::{Stand, Walk};
use crate::inference::explain::path::softmax_slopes;
use crate::inference::explain::{Budget, Unexplained, settle, through};
use crate::inference::onnx_graph::transform::Transform;

/// Two rows of an ensemble's inputs and who decides each of them.
pub(in crate::inference) struct Duel<'a> {
    pub(in crate::inference) row: &'a [f64],
    pub(in crate::inference) reference: &'a [f64],
    /// The feature behind each input; any for an input both rows agree in.
    pub(in crate::inference) players: &'a [u32],
    pub(in crate::inference) features: usize,
    pub(in crate::inference) budget: &'a Budget,
}

impl Ensemble {
    /// Shares of every column's difference, columns × features. `None` for an ensemble that is no sum of its trees.
    pub(in crate::inference) fn explain(&self, duel: &Duel<'_>) -> Result<Option<Vec<f64>>, Unexplained> {
        match &self.0 {
            Precision::Single(ensemble) => ensemble.explain(duel),
            Precision::Double(ensemble) => ensemble.explain(duel),
        }
    }
}

impl<T: Scalar> Compiled<T> {
    fn explain(&self, duel: &Duel<'_>) -> Result<Option<Vec<f64>>, Unexplained> {
        let finish = &self.finish;
        let crosses = matches!((finish.columns, finish.transform), (Columns::PerTarget(2..), Transform::SoftmaxZero));
        if matches!(finish.aggregate, Aggregate::Min | Aggregate::Max) || crosses {
            return Ok(None);
        }
        let [reference, row] = [duel.reference, duel.row]
            .map(|row| -> SmallVec<[T; 64]> { row.iter().map(|&value| T::from_f64(value)).collect() });
        let (from, to) = (self.scores(&reference), self.scores(&row));
        let mut scores = vec![0.0; finish.targets() * duel.features];
        for (target, shares) in scores.chunks_exact_mut(duel.features).enumerate() {
            self.split(target as u32, (&row, &reference), duel, shares)?;
            if !settle(shares, to[target] - from[target], from[target].abs().max(to[target].abs())) {
                return Ok(None);
            }
        }
        Ok(Some(self.columns(&scores, (&from, &to), duel.features)))
    }

    /// Each target's score for a row.
    fn scores(&self, row: &[T]) -> Vec<f64> {
        let mut aggregated: SmallVec<[T; 16]> = SmallVec::from_elem(self.finish.nothing(), self.finish.targets());
        self.each_leaf(row, |leaf| match &self.leaves {
            Leaves::One(weights) => aggregated[0] = self.finish.add(aggregated[0], weights[leaf]),
            Leaves::Many { starts, weights } => {
                for &(target, weight) in &weights[starts[leaf] as usize..starts[leaf + 1] as usize] {
                    let aggregated = &mut aggregated[target as usize];
                    *aggregated = self.finish.add(*aggregated, weight);
                }
            }
        });
        let mut scores = vec![0.0; aggregated.len()];
        self.finish.scores(&aggregated, self.trees, &mut scores);
        scores
    }

    /// The shares of one target's score.
    fn split(
        &self,
        target: u32,
        (row, reference): (&[T], &[T]),
        duel: &Duel<'_>,
        shares: &mut [f64],
    ) -> Result<(), Unexplained> {
        let mut walk = Walk::new(duel.features);
        // Leaves are numbered through all trees by the walker, from a multiple of the stride on in each by the masks.
        let mut first = 0;
        for (tree, &root) in self.walker.roots().iter().enumerate() {
            duel.budget.check()?;
            let number = |leaf: usize| self.stride.map_or(leaf, |stride| tree * stride + leaf - first);
            let look = |at| match self.walker.step(at, row, reference) {
                Step::Leaf(leaf) => Stand::Leaf(self.leaves.weight(number(leaf), target)),
                Step::Split { column, row, reference } => Stand::Split { player: duel.players[column], row, reference },
            };
            walk.tree(root, look, shares, duel.budget)?;
            first += self.tree_leaves[tree] as usize;
        }
        if self.finish.aggregate == Aggregate::Average {
            for share in shares {
                *share /= self.trees as f64;
            }
        }
        Ok(())
    }

    /// From shares of the scores to shares of the columns.
    fn columns(&self, scores: &[f64], (from, to): (&[f64], &[f64]), features: usize) -> Vec<f64> {
        let transform = self.finish.transform;
        let mut columns = vec![0.0; self.finish.columns() * features];
        for (column, shares) in columns.chunks_exact_mut(features).enumerate() {
            let own = |score: usize| &scores[score * features..(score + 1) * features];
            match (self.finish.columns, transform) {
                (Columns::FromOne { positive }, _) => {
                    shares.copy_from_slice(own(0));
                    through(shares, (from[0], to[0]), |score| transform.apply_pair(score, positive)[column]);
                }
                (Columns::PerTarget(1), _) => {
                    shares.copy_from_slice(own(0));
                    through(shares, (from[0], to[0]), |score| transform.apply_single(score));
                }
                (Columns::PerTarget(_), Transform::Softmax | Transform::SoftmaxZero) => {
                    for (score, slope) in softmax_slopes(from, to, column).into_iter().enumerate() {
                        for (share, part) in shares.iter_mut().zip(own(score)) {
                            *share += slope * part;
                        }
                    }
                }
                (Columns::PerTarget(_), Transform::None | Transform::Logistic | Transform::Probit) => {
                    shares.copy_from_slice(own(column));
                    through(shares, (from[column], to[column]), |score| {
                        let mut score = [score];
                        transform.apply(&mut score);
                        score[0]
                    });
                }
            }
        }
        columns
    }
}

impl<T: Scalar> Leaves<T> {
    fn weight(&self, leaf: usize, target: u32) -> f64 {
        match self {
            Self::One(weights) => weights[leaf].to_f64(),
            Self::Many { starts, weights } => {
                let own = &weights[starts[leaf] as usize..starts[leaf + 1] as usize];
                own.iter().filter(|(scored, _)| *scored == target).map(|(_, weight)| weight.to_f64()).sum()
            }
        }
    }
}
