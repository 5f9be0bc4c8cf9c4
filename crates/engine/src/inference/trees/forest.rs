//! A forest as plain data: every split brought to one form, leaves numbered left to right, no cycles.
//!
//! A split asks whether a value lies in `low..=high`; all of ONNX's branch modes are such a question, some with the
//! children exchanged. A set membership is a chain of splits with a common child.

use std::ops::{Range, RangeInclusive};

use super::scalar::Scalar;
use crate::inference::BackendError;
use crate::inference::onnx_graph::graph::malformed;

/// Where a split leads: to a split or a leaf of the same tree, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Split(u32),
    Leaf(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split<T> {
    pub(super) feature: u32,
    pub(super) low: T,
    pub(super) high: T,
    pub(super) inside: Child,
    pub(super) outside: Child,
    /// Whether a missing value goes inside.
    pub(super) missing_inside: bool,
    /// The leaves below `inside` are `leaves.0..leaves.1`; none for a set's splits after the first.
    pub(super) leaves: (u32, u32),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tree<T> {
    pub(super) root: Child,
    pub(super) splits: Vec<Split<T>>,
    /// What each leaf adds, left to right: a range of the forest's weights.
    pub(super) leaves: Vec<Range<usize>>,
    /// Whether some node is reached in several ways, so that leaves below a split need not be consecutive.
    pub(super) shared: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Forest<T> {
    pub(super) trees: Vec<Tree<T>>,
    /// Target and weight.
    pub(super) weights: Vec<(u32, T)>,
}

/// A node as a file lists it; children are positions in the list.
#[derive(Clone, Debug)]
pub(super) enum Listed<T> {
    Branch {
        feature: u32,
        question: SplitQuestion<T>,
        yes: usize,
        no: usize,
        /// Whether a missing value is sent to `yes`; otherwise it gets the answer the comparison gives it.
        missing_yes: bool,
    },
    /// A range of the weights.
    Leaf(Range<usize>),
}

#[derive(Clone, Debug)]
pub(super) enum SplitQuestion<T> {
    AtMost(T),
    Below(T),
    AtLeast(T),
    Above(T),
    Equals(T),
    Differs(T),
    OneOf(Vec<T>),
    /// In one of these ranges, bounds included.
    InAny(Vec<(T, T)>),
}

impl<T: Scalar> Forest<T> {
    /// Follows every root. A node of one tree may be reached in several ways (`LightGBM`'s categories are exported
    /// so), but not through itself.
    pub(super) fn grow(
        listed: &[Listed<T>],
        roots: impl Iterator<Item = usize>,
        weights: Vec<(u32, T)>,
    ) -> Result<Self, BackendError> {
        let mut marks = vec![Mark::default(); listed.len()];
        let trees: Vec<Tree<T>> =
            (1..).zip(roots).map(|(tree, root)| grow_tree(listed, root, tree, &mut marks)).collect::<Result<_, _>>()?;
        if trees.is_empty() {
            return Err(malformed("a tree ensemble without trees"));
        }
        Ok(Self { trees, weights })
    }

    /// Whether every row reaches a leaf with a weight for this target.
    pub(super) fn always_scores(&self, target: u32) -> bool {
        self.trees.iter().any(|tree| {
            let scores = |leaf: &Range<usize>| self.weights[leaf.clone()].iter().any(|&(scored, _)| scored == target);
            tree.leaves.iter().all(scores)
        })
    }

    /// One more than the highest feature any split reads.
    pub(super) fn width(&self) -> usize {
        self.trees.iter().flat_map(|tree| &tree.splits).map(|split| split.feature as usize + 1).max().unwrap_or(0)
    }
}

/// What became of a listed node.
#[derive(Clone, Copy, Default)]
struct Mark {
    /// The tree it was last reached in; 0 for none.
    tree: u32,
    /// Its place there, once everything below it has one.
    placed: Option<Child>,
}

enum Visit {
    /// Node, and the splits that wait for it.
    Enter(usize, Option<Parent>),
    /// Everything below a node has been visited.
    Leave(usize, Child),
}

struct Parent {
    /// A set membership is several splits with one common child inside; any other branch is one.
    splits: RangeInclusive<usize>,
    side: Side,
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Inside,
    Outside,
}

/// Depth first and inside before outside, so that the leaves below a split are consecutive. Not recursive: a
/// malicious file may be deep.
fn grow_tree<T: Scalar>(
    listed: &[Listed<T>],
    root: usize,
    number: u32,
    marks: &mut [Mark],
) -> Result<Tree<T>, BackendError> {
    let mut tree = Tree { root: Child::Leaf(0), splits: Vec::new(), leaves: Vec::new(), shared: false };
    let mut visits = vec![Visit::Enter(root, None)];
    while let Some(visit) = visits.pop() {
        let (node, parent) = match visit {
            Visit::Enter(node, parent) => (node, parent),
            Visit::Leave(node, child) => {
                marks[node].placed = Some(child);
                continue;
            }
        };
        let (Some(found), Some(mark)) = (listed.get(node), marks.get_mut(node)) else {
            return Err(malformed("a tree node has a child that is not there"));
        };
        let known = if mark.tree == number { mark.placed } else { None };
        match (mark.tree == number, known) {
            (true, None) => return Err(malformed("a tree node is below itself")),
            (true, Some(_)) => tree.shared = true,
            // Trees may have leaves in common; more would let a small file grow into a huge forest.
            (false, _) if mark.tree != 0 && matches!(found, Listed::Branch { .. }) => {
                return Err(malformed("a tree node belongs to two trees"));
            }
            (false, _) => *mark = Mark { tree: number, placed: None },
        }
        let leaf = tree.leaves.len() as u32;
        let first = tree.splits.len();
        let child = known.unwrap_or(match found {
            Listed::Leaf(_) => Child::Leaf(leaf),
            Listed::Branch { .. } => Child::Split(first as u32),
        });
        tree.link(parent, child);
        match found {
            _ if known.is_some() => {}
            Listed::Leaf(weights) => {
                tree.leaves.push(weights.clone());
                mark.placed = Some(child);
            }
            Listed::Branch { feature, question, yes, no, missing_yes } => {
                let Asked { ranges, exchanged, missing_is_yes } = ask(question)?;
                let (inside, outside) = if exchanged { (*no, *yes) } else { (*yes, *no) };
                let missing_inside = (*missing_yes || missing_is_yes) != exchanged;
                for (at, (low, high)) in (first + 1..).zip(ranges) {
                    tree.splits.push(Split {
                        feature: *feature,
                        low,
                        high,
                        inside: Child::Leaf(leaf),
                        outside: Child::Split(at as u32),
                        missing_inside,
                        leaves: (leaf, leaf),
                    });
                }
                let splits = first..=tree.splits.len() - 1;
                let parent = |side| Some(Parent { splits: splits.clone(), side });
                visits.push(Visit::Leave(node, child));
                visits.push(Visit::Enter(outside, parent(Side::Outside)));
                visits.push(Visit::Enter(inside, parent(Side::Inside)));
            }
        }
    }
    Ok(tree)
}

impl<T> Tree<T> {
    /// Gives the splits that wait for it the child just reached.
    fn link(&mut self, parent: Option<Parent>, child: Child) {
        match parent {
            None => self.root = child,
            Some(Parent { splits, side: Side::Inside }) => {
                for split in &mut self.splits[splits] {
                    split.inside = child;
                }
            }
            Some(Parent { splits, side: Side::Outside }) => {
                // Whatever leaves came since the branch was entered are inside it.
                self.splits[*splits.start()].leaves.1 = self.leaves.len() as u32;
                self.splits[*splits.end()].outside = child;
            }
        }
    }
}

/// A question as ranges, at least one: a value in any of them goes inside.
struct Asked<T> {
    ranges: Vec<(T, T)>,
    /// Whether inside is the `no` child.
    exchanged: bool,
    /// Whether a comparison with a missing value says yes.
    missing_is_yes: bool,
}

fn ask<T: Scalar>(question: &SplitQuestion<T>) -> Result<Asked<T>, BackendError> {
    const NEVER: &str = "a tree node compares with a value that is not a number";
    let low = T::NEG_INFINITY;
    let high = T::INFINITY;
    let below = |value: T| if value == low { (high, low) } else { (low, value.below()) };
    let (ranges, exchanged) = match question {
        SplitQuestion::AtMost(value) => (vec![(low, *value)], false),
        SplitQuestion::Above(value) => (vec![(low, *value)], true),
        SplitQuestion::Below(value) => (vec![below(*value)], false),
        SplitQuestion::AtLeast(value) => (vec![below(*value)], true),
        SplitQuestion::Equals(value) => (vec![(*value, *value)], false),
        SplitQuestion::Differs(value) => (vec![(*value, *value)], true),
        // No member at all: a range nothing is in.
        SplitQuestion::OneOf(values) if values.is_empty() => (vec![(high, low)], false),
        SplitQuestion::OneOf(values) => (values.iter().map(|&value| (value, value)).collect(), false),
        SplitQuestion::InAny(ranges) if ranges.is_empty() => (vec![(high, low)], false),
        SplitQuestion::InAny(ranges) => (ranges.clone(), false),
    };
    if ranges.iter().any(|(low, high)| low.is_missing() || high.is_missing()) {
        return Err(malformed(NEVER));
    }
    Ok(Asked { ranges, exchanged, missing_is_yes: matches!(question, SplitQuestion::Differs(_)) })
}
