//! The form every forest has: nodes in one array, walked eight trees at a time.
//!
//! A step picks one of three children without a branch. Leaves are their own children, so trees of a group that are
//! done wait for the deepest one; eight walks side by side hide most of the time a step waits for memory.
//!
//! Explanations walk two rows at once, one node at a time: [`Walker::step`].

use smallvec::SmallVec;

use super::forest::{Child, Forest};
use super::scalar::Scalar;

const LANES: usize = 8;

pub(super) struct Walker<T> {
    /// The splits of all trees, then their leaves in order.
    nodes: Vec<Node<T>>,
    splits: u32,
    /// Root nodes, padded to whole groups.
    roots: Vec<[u32; LANES]>,
    trees: usize,
}

#[derive(Clone, Copy)]
struct Node<T> {
    low: T,
    high: T,
    feature: u32,
    inside: u32,
    outside: u32,
    missing: u32,
}

impl<T: Scalar> Walker<T> {
    pub(super) fn build(forest: &Forest<T>) -> Self {
        let splits: usize = forest.trees.iter().map(|tree| tree.splits.len()).sum();
        let leaves: usize = forest.trees.iter().map(|tree| tree.leaves.len()).sum();
        let mut nodes = Vec::with_capacity(splits + leaves);
        let mut roots = Vec::with_capacity(forest.trees.len());
        let mut first_split = 0;
        let mut first_leaf = splits as u32;
        for tree in &forest.trees {
            let at = |child| match child {
                Child::Split(split) => first_split + split,
                Child::Leaf(leaf) => first_leaf + leaf,
            };
            roots.push(at(tree.root));
            nodes.extend(tree.splits.iter().map(|split| {
                let (inside, outside) = (at(split.inside), at(split.outside));
                let missing = if split.missing_inside { inside } else { outside };
                Node { low: split.low, high: split.high, feature: split.feature, inside, outside, missing }
            }));
            first_split += tree.splits.len() as u32;
            first_leaf += tree.leaves.len() as u32;
        }
        nodes.extend((splits as u32..first_leaf).map(|itself| Node {
            low: T::ZERO,
            high: T::ZERO,
            feature: 0,
            inside: itself,
            outside: itself,
            missing: itself,
        }));
        let trees = roots.len();
        roots.resize(trees.next_multiple_of(LANES), splits as u32);
        Self { nodes, splits: splits as u32, roots: roots.as_chunks().0.to_vec(), trees }
    }

    /// Carries a state through the leaves the trees end in, tree by tree, leaves numbered through all trees.
    pub(super) fn fold<A>(&self, row: &[f64], mut state: A, mut step: impl FnMut(A, usize) -> A) -> A {
        let row: SmallVec<[T; 64]> = row.iter().map(|&value| T::from_f64(value)).collect();
        for (group, &roots) in self.roots.iter().enumerate() {
            let mut at = roots;
            while at.iter().any(|&node| node < self.splits) {
                for at in &mut at {
                    *at = self.nodes[*at as usize].next(&row);
                }
            }
            for (_, at) in (group * LANES..self.trees).zip(at) {
                state = step(state, (at - self.splits) as usize);
            }
        }
        state
    }

    /// The node each tree begins at.
    pub(super) fn roots(&self) -> &[u32] {
        &self.roots.as_flattened()[..self.trees]
    }

    /// What stands at a node.
    pub(super) fn step(&self, at: u32, row: &[T], reference: &[T]) -> NodeStep {
        if let Some(leaf) = at.checked_sub(self.splits) {
            return NodeStep::Leaf(leaf as usize);
        }
        let node = &self.nodes[at as usize];
        NodeStep::Split { column: node.feature as usize, row: node.next(row), reference: node.next(reference) }
    }
}

/// A node as two rows see it.
pub(super) enum NodeStep {
    /// By its number through all trees.
    Leaf(usize),
    /// The column it asks about and where each row goes.
    Split { column: usize, row: u32, reference: u32 },
}

impl<T: Scalar> Node<T> {
    #[inline]
    fn next(&self, row: &[T]) -> u32 {
        let value = row[self.feature as usize];
        let below = if value <= self.high { self.inside } else { self.outside };
        let within = if value >= self.low { below } else { self.outside };
        if value.is_missing() { self.missing } else { within }
    }
}
