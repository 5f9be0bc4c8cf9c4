//! The `trees` backend: tree ensembles read from ONNX or from a boosting library's own file, compiled to flat arrays.
//!
//! `read.rs` understands ONNX's operators, `booster.rs` (with `lightgbm.rs` and `xgboost.rs`) the files of libraries, `forest.rs` brings all their branch modes to one form, `prefix.rs` and
//! `walker.rs` are two ways to find the leaves a row ends in (`instructions.rs` picks the first one's), `finish.rs` makes columns of them, `attribution.rs` says
//! what each feature did to a column. What surrounds the ensembles in a graph is run by `onnx_graph`.

mod attribution;
mod booster;
mod finish;
mod forest;
mod instructions;
mod lightgbm;
mod prefix;
mod read;
mod scalar;
mod walker;
mod xgboost;

use smallvec::{SmallVec, smallvec};

pub(super) use self::attribution::Duel;
pub use self::booster::{booster_columns, is_booster, load_booster};
use self::finish::{Aggregate, Finish};
use self::forest::Forest;
use self::instructions::Instructions;
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

/// The vector instructions that rows are scored with on this machine by forests in the form of masks.
pub fn instruction_set() -> &'static str {
    Instructions::best().name()
}

/// Whether this is one of the operators [`Ensemble`] is made of.
pub(super) fn is_ensemble(operator: &str) -> bool {
    matches!(operator, "TreeEnsembleRegressor" | "TreeEnsembleClassifier" | "TreeEnsemble")
}

/// One tree ensemble operator, ready to run.
pub(super) struct Ensemble(Precision);

enum Precision {
    Single(CompiledForest<f32>),
    Double(CompiledForest<f64>),
}

impl From<CompiledForest<f32>> for Precision {
    fn from(forest: CompiledForest<f32>) -> Self {
        Self::Single(forest)
    }
}

impl From<CompiledForest<f64>> for Precision {
    fn from(forest: CompiledForest<f64>) -> Self {
        Self::Double(forest)
    }
}

impl Ensemble {
    /// `input` is what the operator's input holds, `width` numbers a row: ensembles over doubles compare and add in
    /// `f64`, all others in `f32`.
    pub(super) fn read(node: &Node, input: Number, width: usize) -> Result<Self, BackendError> {
        Ok(Self(match input {
            Number::Double => Precision::Double(CompiledForest::read(node, width)?),
            Number::Single | Number::Whole | Number::Other => Precision::Single(CompiledForest::read(node, width)?),
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

struct CompiledForest<T> {
    form: LeafForm<T>,
    /// All forests can be walked: those that have masks are walked to be explained.
    walker: Walker<T>,
    leaves: Leaves<T>,
    /// How far the numbers of one tree's leaves are from the next one's, where that is the same for all trees.
    stride: Option<usize>,
    /// How many leaves each tree has.
    tree_leaves: Vec<u32>,
    finish: Finish<T>,
    trees: usize,
}

/// How the leaves a row ends in are found; the fastest form the forest fits.
enum LeafForm<T> {
    Masks32(Prefix<T, u32>),
    Masks64(Prefix<T, u64>),
    Nodes,
}

/// What a leaf adds, by the leaf's number in the form.
enum Leaves<T> {
    /// To the only target.
    One(Vec<T>),
    /// To any target: weights `starts[leaf]..starts[leaf + 1]`.
    Many { starts: Vec<u32>, weights: Vec<(u32, T)> },
}

impl<T: Scalar> CompiledForest<T> {
    fn read(node: &Node, width: usize) -> Result<Self, BackendError> {
        let (forest, finish) = match node.operator.as_str() {
            "TreeEnsembleRegressor" => read::regressor(node)?,
            "TreeEnsembleClassifier" => read::classifier(node)?,
            _ => read::ensemble(node)?,
        };
        if forest.width() > width {
            return Err(node.malformed(format!("a tree reads column {} of {width}", forest.width() - 1)));
        }
        Ok(Self::compile(&forest, finish))
    }

    /// In the fastest form the forest fits.
    fn compile(forest: &Forest<T>, finish: Finish<T>) -> Self {
        let form = LeafForm::fastest(forest, Instructions::best());
        tracing::debug!(
            trees = forest.trees.len(),
            form = form.name(),
            instructions = instruction_set(),
            "forest compiled"
        );
        Self::new(forest, finish, form)
    }

    fn new(forest: &Forest<T>, finish: Finish<T>, form: LeafForm<T>) -> Self {
        let stride = match form {
            LeafForm::Masks32(_) => Some(<u32 as Mask>::LEAVES),
            LeafForm::Masks64(_) => Some(<u64 as Mask>::LEAVES),
            LeafForm::Nodes => None,
        };
        let leaves = Leaves::number(forest, stride, finish.targets() == 1, finish.nothing());
        let tree_leaves = forest.trees.iter().map(|tree| tree.leaves.len() as u32).collect();
        Self { form, walker: Walker::build(forest), leaves, stride, tree_leaves, finish, trees: forest.trees.len() }
    }

    fn run(&self, row: &[f64], out: &mut [f64]) {
        self.finish.write(&self.aggregated(row), self.trees, out);
    }

    /// What the weights of the leaves a row ends in come to, for each target.
    #[inline]
    fn aggregated(&self, row: &[f64]) -> SmallVec<[T; 16]> {
        match &self.leaves {
            Leaves::One(weights) => smallvec![self.aggregate(weights, row)],
            Leaves::Many { starts, weights } => {
                let mut aggregated = SmallVec::from_elem(self.finish.nothing(), self.finish.targets());
                self.fold(row, (), |(), leaf| {
                    for &(target, weight) in &weights[starts[leaf] as usize..starts[leaf + 1] as usize] {
                        let aggregated = &mut aggregated[target as usize];
                        *aggregated = self.finish.add(*aggregated, weight);
                    }
                });
                aggregated
            }
        }
    }

    /// Of the leaves' weights for the only target, in the order of the trees, one after the other: that is what ONNX
    /// Runtime's sum is.
    #[inline]
    fn aggregate(&self, weights: &[T], row: &[f64]) -> T {
        let nothing = self.finish.nothing();
        match self.finish.aggregate {
            Aggregate::Sum | Aggregate::Average => self.fold(row, nothing, |sum, leaf| sum + weights[leaf]),
            Aggregate::Min | Aggregate::Max => {
                self.fold(row, nothing, |extreme, leaf| self.finish.add(extreme, weights[leaf]))
            }
        }
    }

    /// Carries a state through the leaves a row ends in, tree by tree.
    #[inline]
    fn fold<A>(&self, row: &[f64], state: A, step: impl FnMut(A, usize) -> A) -> A {
        match &self.form {
            LeafForm::Masks32(masks) => masks.fold(row, state, step),
            LeafForm::Masks64(masks) => masks.fold(row, state, step),
            LeafForm::Nodes => self.walker.fold(row, state, step),
        }
    }
}

impl<T: Scalar> LeafForm<T> {
    fn fastest(forest: &Forest<T>, instructions: Instructions) -> Self {
        let wide = || Prefix::build(forest, instructions).map(Self::Masks64);
        Prefix::build(forest, instructions).map(Self::Masks32).or_else(wide).unwrap_or(Self::Nodes)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Masks32(_) => "masks of 32 leaves",
            Self::Masks64(_) => "masks of 64 leaves",
            Self::Nodes => "walker",
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::forest::{Listed, SplitQuestion};
    use super::*;

    const FEATURES: u32 = 3;

    /// A tree as it is meant; leaves are numbered as they are listed.
    #[derive(Clone, Debug)]
    pub(super) enum Meant {
        Leaf,
        Branch { feature: u32, question: SplitQuestion<f32>, missing_yes: bool, yes: Box<Meant>, no: Box<Meant> },
    }

    pub(super) fn value() -> impl Strategy<Value = f32> {
        let grid = [f32::NEG_INFINITY, -2.0, -1e-40, -0.0, 0.0, 1.0, 1.0 + f32::EPSILON, 2.0, 3.0, f32::INFINITY];
        prop::sample::select(grid.to_vec())
    }

    pub(super) fn ordered() -> BoxedStrategy<SplitQuestion<f32>> {
        (value(), 0..4)
            .prop_map(|(value, mode)| match mode {
                0 => SplitQuestion::AtMost(value),
                1 => SplitQuestion::Below(value),
                2 => SplitQuestion::AtLeast(value),
                _ => SplitQuestion::Above(value),
            })
            .boxed()
    }

    pub(super) fn any_question() -> BoxedStrategy<SplitQuestion<f32>> {
        prop_oneof![
            4 => ordered(),
            1 => value().prop_map(SplitQuestion::Equals),
            1 => value().prop_map(SplitQuestion::Differs),
            1 => prop::collection::vec(value(), 0..4).prop_map(SplitQuestion::OneOf),
            1 => prop::collection::vec((value(), value()), 0..3).prop_map(SplitQuestion::InAny),
        ]
        .boxed()
    }

    pub(super) fn trees(
        features: u32,
        question: BoxedStrategy<SplitQuestion<f32>>,
    ) -> impl Strategy<Value = Vec<Meant>> {
        let tree = Just(Meant::Leaf).prop_recursive(9, 90, 2, move |below| {
            (0..features, question.clone(), any::<bool>(), below.clone(), below).prop_map(
                |(feature, question, missing_yes, yes, no)| Meant::Branch {
                    feature,
                    question,
                    missing_yes,
                    yes: Box::new(yes),
                    no: Box::new(no),
                },
            )
        });
        prop::collection::vec(tree, 1..40)
    }

    fn rows() -> impl Strategy<Value = Vec<[f32; FEATURES as usize]>> {
        let number = prop_oneof![6 => value(), 1 => Just(f32::NAN), 1 => any::<f32>()];
        prop::collection::vec(prop::array::uniform3(number), 1..8)
    }

    /// Lists a tree and everything below it; returns its position.
    fn list(tree: &Meant, listed: &mut Vec<Listed<f32>>) -> usize {
        let node = match tree {
            Meant::Leaf => Listed::Leaf(listed.len()..listed.len() + 1),
            Meant::Branch { feature, question, missing_yes, yes, no } => {
                let (yes, no) = (list(yes, listed), list(no, listed));
                Listed::Branch { feature: *feature, question: question.clone(), yes, no, missing_yes: *missing_yes }
            }
        };
        listed.push(node);
        listed.len() - 1
    }

    pub(super) fn grow(trees: &[Meant]) -> (Vec<Listed<f32>>, Vec<usize>, Forest<f32>) {
        let mut listed = Vec::new();
        let roots: Vec<usize> = trees.iter().map(|tree| list(tree, &mut listed)).collect();
        // A leaf's only weight is its position.
        let weights = (0..listed.len()).map(|at| (0, at as f32)).collect();
        let forest = Forest::grow(&listed, roots.iter().copied(), weights).expect("trees");
        (listed, roots, forest)
    }

    /// The leaf a row ends in, straight from the definition of the questions.
    pub(super) fn follow(listed: &[Listed<f32>], mut at: usize, row: &[f32]) -> usize {
        while let Listed::Branch { feature, question, yes, no, missing_yes } = &listed[at] {
            let value = row[*feature as usize];
            let answer = match question {
                SplitQuestion::AtMost(threshold) => value <= *threshold,
                SplitQuestion::Below(threshold) => value < *threshold,
                SplitQuestion::AtLeast(threshold) => value >= *threshold,
                SplitQuestion::Above(threshold) => value > *threshold,
                SplitQuestion::Equals(threshold) => value == *threshold,
                SplitQuestion::Differs(threshold) => value != *threshold,
                SplitQuestion::OneOf(members) => members.contains(&value),
                SplitQuestion::InAny(ranges) => ranges.iter().any(|(low, high)| (low..=high).contains(&&value)),
            };
            at = if answer || (value.is_nan() && *missing_yes) { *yes } else { *no };
        }
        at
    }

    fn wide(row: &[f32]) -> Vec<f64> {
        row.iter().map(|&value| value.into()).collect()
    }

    fn masked<M: Mask>(forest: &Forest<f32>, row: &[f32], instructions: Instructions) -> Option<Vec<usize>> {
        let mut reached = Vec::new();
        Prefix::<f32, M>::build(forest, instructions)?.fold(&wide(row), (), |(), leaf| {
            reached.push(forest.trees[leaf / M::LEAVES].leaves[leaf % M::LEAVES].start);
        });
        Some(reached)
    }

    fn walked(forest: &Forest<f32>, row: &[f32]) -> Vec<usize> {
        let leaves: Vec<usize> = forest.trees.iter().flat_map(|tree| &tree.leaves).map(|leaf| leaf.start).collect();
        let mut reached = Vec::new();
        Walker::build(forest).fold(&wide(row), (), |(), leaf| reached.push(leaves[leaf]));
        reached
    }

    proptest! {
        #[test]
        fn the_walker_follows_every_question(trees in trees(FEATURES, any_question()), rows in rows()) {
            let (listed, roots, forest) = grow(&trees);
            for row in rows {
                let meant: Vec<usize> = roots.iter().map(|&root| follow(&listed, root, &row)).collect();
                prop_assert_eq!(walked(&forest, &row), meant);
            }
        }

        #[test]
        fn masks_agree_with_the_walker(trees in trees(FEATURES, ordered()), rows in rows()) {
            let (_, _, forest) = grow(&trees);
            let most = forest.trees.iter().map(|tree| tree.leaves.len()).max().unwrap_or(0);
            // A question no value but a missing one says yes to has no mask.
            let never = forest.trees.iter().flat_map(|tree| &tree.splits).any(|split| split.low > split.high);
            for row in rows {
                let walked = walked(&forest, &row);
                for instructions in Instructions::available() {
                    let masked32 = masked::<u32>(&forest, &row, instructions);
                    prop_assert_eq!(masked32, (most <= 32 && !never).then(|| walked.clone()));
                    let masked64 = masked::<u64>(&forest, &row, instructions);
                    prop_assert_eq!(masked64, (most <= 64 && !never).then(|| walked.clone()));
                }
            }
        }
    }

    /// Every form with every instruction set there is.
    fn forms(forest: &Forest<f32>) -> Vec<LeafForm<f32>> {
        let masks = |instructions| {
            [
                Prefix::build(forest, instructions).map(LeafForm::Masks32),
                Prefix::build(forest, instructions).map(LeafForm::Masks64),
            ]
        };
        Instructions::available().flat_map(masks).flatten().chain([LeafForm::Nodes]).collect()
    }

    #[test]
    fn the_best_instructions_are_named() {
        assert_eq!(Instructions::available().next().map(Instructions::name), Some("portable"));
        assert_eq!(Instructions::available().last().map(Instructions::name), Some(instruction_set()));
        #[cfg(target_arch = "x86_64")]
        assert!(instruction_set() != "avx2" || std::arch::is_x86_feature_detected!("avx2"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// Rows get the same bits in every form and from every instruction set: weights of very different size, whose sum
        /// depends on its order.
        #[test]
        fn forms_and_instruction_sets_agree_bit_for_bit(
            trees in trees(FEATURES, ordered()),
            rows in prop::collection::vec(prop::array::uniform3(prop_oneof![6 => value(), 1 => Just(f32::NAN)]), 1..20),
            aggregate in prop::sample::select(vec![Aggregate::Sum, Aggregate::Average, Aggregate::Min, Aggregate::Max]),
        ) {
            let (_, _, mut forest) = grow(&trees);
            for (at, (_, weight)) in forest.weights.iter_mut().enumerate() {
                *weight = (at as f32 * 0.7).sin() * [1e-4, 1.0, 1e4, 0.1, 30.0][at % 5];
            }
            let finish = || Finish {
                aggregate,
                base: vec![0.25],
                transform: crate::inference::onnx_graph::transform::Transform::None,
                columns: finish::Columns::PerTarget(1),
            };
            let mut expected: Option<Vec<u64>> = None;
            for form in forms(&forest) {
                let name = form.name();
                let ensemble = CompiledForest::new(&forest, finish(), form);
                let scores = rows.iter().map(|row| {
                    let mut out = [0.0];
                    ensemble.run(&row.map(f64::from), &mut out);
                    out[0].to_bits()
                });
                let scores: Vec<u64> = scores.collect();
                prop_assert_eq!(expected.get_or_insert_with(|| scores.clone()), &scores, "{}", name);
            }
        }
    }

    fn branch(yes: usize, no: usize) -> Listed<f32> {
        Listed::Branch { feature: 0, question: SplitQuestion::AtMost(0.5), yes, no, missing_yes: false }
    }

    #[test]
    fn a_node_reached_twice_is_walked_but_not_masked() {
        let listed = [branch(1, 2), branch(3, 4), branch(4, 3), Listed::Leaf(0..1), Listed::Leaf(1..2)];
        let forest = Forest::grow(&listed, std::iter::once(0), vec![(0, 1.0), (0, 2.0)]).expect("no cycle");
        assert_eq!(walked(&forest, &[0.0]), [0]);
        assert_eq!(walked(&forest, &[1.0]), [0], "outside, then outside to the shared first leaf");
        assert!(Prefix::<f32, u32>::build(&forest, Instructions::Portable).is_none());
    }

    #[test]
    fn cycles_and_common_branches_are_refused() {
        let message = |listed: &[Listed<f32>], roots: &[usize]| {
            Forest::grow(listed, roots.iter().copied(), vec![(0, 1.0)]).err().map(|error| error.to_string())
        };
        let cycle = [branch(1, 2), branch(2, 0), Listed::Leaf(0..1)];
        let format = "model file is not readable as ONNX: ";
        assert_eq!(message(&cycle, &[0]), Some(format!("{format}a tree node is below itself")));
        let common = [branch(1, 3), branch(3, 3), branch(1, 3), Listed::Leaf(0..1)];
        assert_eq!(message(&common, &[0, 2]), Some(format!("{format}a tree node belongs to two trees")));
        assert_eq!(message(&[branch(0, 0)], &[7]), Some(format!("{format}a tree node has a child that is not there")));
        assert_eq!(message(&[], &[]), Some(format!("{format}a tree ensemble without trees")));
    }

    #[test]
    fn a_very_deep_tree_is_grown_and_walked() {
        let depth = 200_000;
        let mut listed: Vec<_> = (0..depth).map(|at| branch(depth, at + 1)).collect();
        listed.push(Listed::Leaf(0..1));
        let forest = Forest::grow(&listed, std::iter::once(0), vec![(0, 1.0)]).expect("no cycle");
        assert_eq!(walked(&forest, &[9.0]), [0]);
    }
}
