//! The fast form of a forest: no tree is walked, masks are looked up and intersected.
//!
//! One bit per leaf, left to right. A split that a value lies outside of rules out the leaves inside it; the leaf a
//! row ends in is the first that no split rules out (Lucchese et al., `QuickScorer`, 2015). Going further, all splits
//! on one feature are sorted by threshold, and for every rank the intersection of the masks up to it is kept. Scoring
//! a row is then one binary search per feature and one pass over a table row per feature, which the compiler turns
//! into vector instructions, with no branch that depends on the data.

use smallvec::SmallVec;

use super::forest::Forest;
use super::scalar::Scalar;

/// Tables larger than this would not stay in a core's cache.
const MOST_BYTES: usize = 4 << 20;

/// A set of leaves of one tree.
pub(super) trait Mask: Copy + Send + Sync {
    const ALL: Self;
    const LEAVES: usize;

    /// All leaves but `first..end`.
    fn without(first: u32, end: u32) -> Self;
    fn and(self, other: Self) -> Self;
    /// The leftmost leaf.
    fn first(self) -> usize;
}

macro_rules! mask {
    ($bits:ty) => {
        impl Mask for $bits {
            const ALL: Self = Self::MAX;
            const LEAVES: usize = Self::BITS as usize;

            fn without(first: u32, end: u32) -> Self {
                let from = |leaf: u32| Self::MAX.checked_shl(leaf).unwrap_or(0);
                !(from(first) & !from(end))
            }

            fn and(self, other: Self) -> Self {
                self & other
            }

            fn first(self) -> usize {
                self.trailing_zeros() as usize
            }
        }
    };
}

mask!(u32);
mask!(u64);

/// `LANES` trees are scored together; their masks fill half the vector registers of the plainest processor.
pub(super) struct Prefix<T, M, const LANES: usize> {
    features: Vec<Feature<T>>,
    /// Rows of `blocks` blocks: for each feature a row per rank and one for a missing value.
    masks: Vec<[M; LANES]>,
    blocks: usize,
    trees: usize,
}

/// All splits on one feature.
struct Feature<T> {
    column: usize,
    /// Distinct, ascending.
    thresholds: Vec<T>,
    /// Where its rows begin, in blocks.
    start: usize,
}

impl<T: Scalar, M: Mask, const LANES: usize> Prefix<T, M, LANES> {
    /// `None` when the forest has splits or trees this form can not hold, or too many.
    pub(super) fn build(forest: &Forest<T>) -> Option<Self> {
        let fits = forest.trees.iter().all(|tree| {
            let ordered = tree.splits.iter().all(|split| split.low == T::NEG_INFINITY);
            ordered && !tree.shared && tree.leaves.len() <= M::LEAVES
        });
        if !fits {
            return None;
        }
        let mut cuts: Vec<(u32, T)> =
            forest.trees.iter().flat_map(|tree| &tree.splits).map(|split| (split.feature, split.high)).collect();
        cuts.sort_unstable_by(|left, right| left.0.cmp(&right.0).then_with(|| left.1.order(&right.1)));
        cuts.dedup();
        let blocks = forest.trees.len().div_ceil(LANES);
        let mut rows = 0_usize;
        let mut features: Vec<Feature<T>> = Vec::new();
        for cuts in cuts.chunk_by(|left, right| left.0 == right.0) {
            let thresholds: Vec<T> = cuts.iter().map(|&(_, threshold)| threshold).collect();
            let ranks = thresholds.len() + 2;
            features.push(Feature { column: cuts[0].0 as usize, thresholds, start: rows * blocks });
            rows += ranks;
        }
        if rows.checked_mul(blocks)?.checked_mul(size_of::<[M; LANES]>())? > MOST_BYTES {
            return None;
        }
        let mut prefix =
            Self { features, masks: vec![[M::ALL; LANES]; rows * blocks], blocks, trees: forest.trees.len() };
        prefix.rule_out(forest);
        prefix.accumulate();
        Some(prefix)
    }

    /// Enters every split where it first rules its inside out: right above its threshold, and for a missing value.
    fn rule_out(&mut self, forest: &Forest<T>) {
        for (number, tree) in forest.trees.iter().enumerate() {
            for split in &tree.splits {
                let known = self.features.binary_search_by_key(&(split.feature as usize), |feature| feature.column);
                let feature = &self.features[known.expect("every split's feature was listed")];
                let inside = M::without(split.leaves.0, split.leaves.1);
                let mut rule_out = |row: usize| {
                    let block = feature.start + row * self.blocks + number / LANES;
                    let mask = &mut self.masks[block][number % LANES];
                    *mask = mask.and(inside);
                };
                rule_out(feature.rank(split.high) + 1);
                if !split.missing_inside {
                    rule_out(feature.missing());
                }
            }
        }
    }

    /// Gives every rank what the ranks below it rule out.
    fn accumulate(&mut self) {
        for feature in &self.features {
            let ranks = feature.start..feature.start + feature.missing() * self.blocks;
            for at in ranks.skip(self.blocks) {
                let below = self.masks[at - self.blocks];
                for (mask, below) in self.masks[at].iter_mut().zip(below) {
                    *mask = mask.and(below);
                }
            }
        }
    }

    /// Calls back with the leaf each tree ends in, tree by tree: `tree * M::LEAVES + leaf`.
    #[inline]
    pub(super) fn each_leaf(&self, row: &[T], mut visit: impl FnMut(usize)) {
        let starts: SmallVec<[usize; 64]> = self
            .features
            .iter()
            .map(|feature| feature.start + feature.rank(row[feature.column]) * self.blocks)
            .collect();
        for block in 0..self.blocks {
            let mut left = [M::ALL; LANES];
            for &start in &starts {
                for (left, &mask) in left.iter_mut().zip(&self.masks[start + block]) {
                    *left = left.and(mask);
                }
            }
            let first = block * LANES;
            for (tree, left) in (first..self.trees).zip(left) {
                visit(tree * M::LEAVES + (left.first() & (M::LEAVES - 1)));
            }
        }
    }
}

impl<T: Scalar> Feature<T> {
    /// The row of a value: how many thresholds it lies above.
    #[inline]
    fn rank(&self, value: T) -> usize {
        if value.is_missing() {
            self.missing()
        } else {
            self.thresholds.partition_point(|&threshold| threshold < value)
        }
    }

    /// The row of a missing value, behind those of all ranks.
    fn missing(&self) -> usize {
        self.thresholds.len() + 1
    }
}
