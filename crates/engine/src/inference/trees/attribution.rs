//! What each feature did to the columns of a tree ensemble.
//!
//! Scores are sums over trees and are split exactly. A transform of one score rescales its shares; a softmax depends on
//! all scores and takes from each by the path between the two rows' scores.

use smallvec::SmallVec;

use super::finish::{Aggregate, Columns};
use super::scalar::Scalar;
use super::walker::NodeStep;
use super::{CompiledForest, Ensemble, Leaves, Precision};
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

impl<T: Scalar> CompiledForest<T> {
    fn explain(&self, duel: &Duel<'_>) -> Result<Option<Vec<f64>>, Unexplained> {
        let finish = &self.finish;
        let crosses = matches!((finish.columns, finish.transform), (Columns::PerTarget(2..), Transform::SoftmaxZero));
        if matches!(finish.aggregate, Aggregate::Min | Aggregate::Max) || crosses {
            return Ok(None);
        }
        let from = self.scores(duel.reference);
        let to = self.scores(duel.row);
        let [reference, row] = [duel.reference, duel.row]
            .map(|row| -> SmallVec<[T; 64]> { row.iter().map(|&value| T::from_f64(value)).collect() });
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
    fn scores(&self, row: &[f64]) -> Vec<f64> {
        let aggregated = self.aggregated(row);
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
                NodeStep::Leaf(leaf) => Stand::Leaf(self.leaves.weight(number(leaf), target)),
                NodeStep::Split { column, row, reference } => {
                    Stand::Split { player: duel.players[column], row, reference }
                }
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::LeafForm;
    use super::super::finish::Finish;
    use super::super::forest::{Forest, Listed};
    use super::super::instructions::Instructions;
    use super::super::prefix::Prefix;
    use super::super::tests::{Meant, any_question, follow, grow, ordered, trees, value};
    use super::*;

    const FEATURES: usize = 8;
    type Row = [f32; FEATURES];

    fn row() -> impl Strategy<Value = Row> {
        prop::array::uniform8(prop_oneof![5 => value(), 1 => Just(f32::NAN), 1 => any::<f32>()])
    }

    fn finish(aggregate: Aggregate) -> Finish<f32> {
        Finish { aggregate, base: Vec::new(), transform: Transform::None, columns: Columns::PerTarget(1) }
    }

    fn explain(ensemble: &CompiledForest<f32>, row: &Row, reference: &Row) -> Vec<f64> {
        let players: Vec<u32> = (0..FEATURES as u32).collect();
        let [row, reference] = [row, reference].map(|row| row.map(f64::from));
        let budget = Budget::of(Duration::from_mins(1));
        let duel = Duel { row: &row, reference: &reference, players: &players, features: FEATURES, budget: &budget };
        ensemble.explain(&duel).expect("in time").expect("a sum")
    }

    /// Shapley's formula over every subset, each answered by following the trees as they are listed.
    fn by_definition(listed: &[Listed<f32>], roots: &[usize], row: &Row, reference: &Row) -> Vec<f64> {
        let answer = |subset: usize| -> f64 {
            let mixed: Row = std::array::from_fn(|at| if subset >> at & 1 == 1 { row[at] } else { reference[at] });
            roots.iter().map(|&root| follow(listed, root, &mixed) as f64).sum()
        };
        let answers: Vec<f64> = (0..1 << FEATURES).map(answer).collect();
        let factorial = |number: usize| (1..=number).map(|factor| factor as f64).product::<f64>();
        let share = |player: usize| -> f64 {
            let without = (0..answers.len()).filter(|subset| subset >> player & 1 == 0);
            let gains = without.map(|subset| {
                let size = subset.count_ones() as usize;
                let weight = factorial(size) * factorial(FEATURES - size - 1) / factorial(FEATURES);
                weight * (answers[subset | 1 << player] - answers[subset])
            });
            gains.sum()
        };
        (0..FEATURES).map(share).collect()
    }

    /// Every form a forest fits.
    fn forms(forest: &Forest<f32>) -> Vec<LeafForm<f32>> {
        let best = Instructions::best();
        let masks =
            [Prefix::build(forest, best).map(LeafForm::Masks32), Prefix::build(forest, best).map(LeafForm::Masks64)];
        masks.into_iter().flatten().chain([LeafForm::Nodes]).collect()
    }

    fn agree(meant: &[Meant], row: &Row, reference: &Row) -> Result<(), TestCaseError> {
        let (listed, roots, forest) = grow(meant);
        let expected = by_definition(&listed, &roots, row, reference);
        let scale = listed.len() as f64 * roots.len() as f64;
        for form in forms(&forest) {
            let shares = explain(&CompiledForest::new(&forest, finish(Aggregate::Sum), form), row, reference);
            for (share, expected) in shares.iter().zip(&expected) {
                prop_assert!((share - expected).abs() <= 1e-9 * scale.max(1.0), "{shares:?} is not {expected:?}");
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        #[test]
        fn shares_are_shapley_values_whatever_is_asked(
            trees in trees(FEATURES as u32, any_question()), row in row(), reference in row(),
        ) {
            agree(&trees, &row, &reference)?;
        }

        #[test]
        fn shares_are_shapley_values_in_every_form(
            trees in trees(FEATURES as u32, ordered()), row in row(), reference in row(),
        ) {
            agree(&trees, &row, &reference)?;
        }

        #[test]
        fn a_feature_asked_again_and_again_is_one_player(
            trees in trees(2, any_question()), row in row(), reference in row(),
        ) {
            agree(&trees, &row, &reference)?;
        }
    }

    fn stump() -> Forest<f32> {
        // x0 <= 0.5 ? (1, 10) : (3, 20), targets 0 and 1.
        let listed = [
            Listed::Branch {
                feature: 0,
                question: super::super::forest::SplitQuestion::AtMost(0.5),
                yes: 1,
                no: 2,
                missing_yes: false,
            },
            Listed::Leaf(0..2),
            Listed::Leaf(2..4),
        ];
        Forest::grow(&listed, std::iter::once(0), vec![(0, 1.0), (1, 10.0), (0, 3.0), (1, 20.0)]).expect("a tree")
    }

    #[test]
    fn every_target_and_transform_gets_its_own_difference() {
        let zero = [0.0; FEATURES];
        let one = [1.0; FEATURES];
        for transform in [Transform::None, Transform::Logistic, Transform::Softmax] {
            let finish = Finish {
                aggregate: Aggregate::Average,
                base: vec![0.5, -19.0],
                transform,
                columns: Columns::PerTarget(2),
            };
            let ensemble = CompiledForest::new(&stump(), finish, LeafForm::Nodes);
            let answer = |row: &Row| {
                let mut out = [0.0; 2];
                ensemble.run(&row.map(f64::from), &mut out);
                out
            };
            let shares = explain(&ensemble, &one, &zero);
            let from = answer(&zero);
            let to = answer(&one);
            for column in 0..2 {
                let difference = to[column] - from[column];
                assert!(difference.abs() > 1e-3, "{transform:?}: {from:?} to {to:?}");
                assert!((shares[column * FEATURES] - difference).abs() < 1e-6, "{transform:?}: {shares:?}");
            }
        }
    }

    #[test]
    fn a_minimum_over_trees_is_no_sum_and_time_is_kept() {
        let players = [0; FEATURES];
        let row = [1.0; FEATURES];
        let reference = [0.0; FEATURES];
        let refused = |aggregate, limit| {
            let finish =
                Finish { aggregate, base: Vec::new(), transform: Transform::None, columns: Columns::PerTarget(2) };
            let budget = Budget::of(limit);
            let duel =
                Duel { row: &row, reference: &reference, players: &players, features: FEATURES, budget: &budget };
            CompiledForest::new(&stump(), finish, LeafForm::Nodes).explain(&duel)
        };
        assert!(matches!(refused(Aggregate::Min, Duration::from_mins(1)), Ok(None)));
        assert!(matches!(refused(Aggregate::Sum, Duration::ZERO), Err(Unexplained::OutOfTime)));
    }

    #[test]
    fn a_very_deep_tree_is_explained() {
        let depth = 200_000;
        let branch = |yes, no, feature| Listed::Branch {
            feature,
            question: super::super::forest::SplitQuestion::AtMost(0.5),
            yes,
            no,
            missing_yes: false,
        };
        let mut listed: Vec<_> = (0..depth).map(|at| branch(depth, at + 1, (at % FEATURES) as u32)).collect();
        listed.push(Listed::Leaf(0..1));
        let forest = Forest::grow(&listed, std::iter::once(0), vec![(0, 1.0)]).expect("no cycle");
        let ensemble = CompiledForest::new(&forest, finish(Aggregate::Sum), LeafForm::Nodes);
        let shares = explain(&ensemble, &[1.0; FEATURES], &[0.0; FEATURES]);
        assert!(shares.iter().all(|share| share.abs() < 1e-12), "one leaf: {shares:?}");
    }
}
