//! The fast form of a forest: no tree is walked, masks are looked up and intersected.
//!
//! One bit per leaf, left to right. A split that a value lies outside of rules out the leaves inside it; the leaf a
//! row ends in is the first that no split rules out (Lucchese et al., `QuickScorer`, 2015). Going further, all splits
//! on one feature are sorted by threshold, and for every rank the intersection of the masks up to it is kept. Scoring
//! a row is then one search per feature and one pass over a table row per feature, which the compiler turns into vector
//! instructions, with no branch that depends on the data.
//!
//! Masks of many trees are intersected before the first leaf is looked up: the tables are larger than the nearest
//! caches, and so a processor asks for all they hold for a row at once.

use pulp::NullaryFnOnce;
use smallvec::SmallVec;

use super::forest::Forest;
use super::instructions::Instructions;
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
    /// The leftmost leaf; the last one of a set that is empty, which the masks of a row never are.
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

            #[inline]
            fn first(self) -> usize {
                (self | 1 << (Self::BITS - 1)).trailing_zeros() as usize
            }
        }
    };
}

mask!(u32);
mask!(u64);

/// Thresholds that are compared at once.
const ABREAST: usize = 16;

/// Blocks whose masks are intersected before their leaves are looked up.
const CHUNK: usize = 16;

/// Table rows that are intersected in one pass.
const TOGETHER: usize = 4;

/// `LANES` trees share a block of masks, as long as a cache line.
pub(super) struct Prefix<T, M, const LANES: usize> {
    /// Ascending by column.
    features: Vec<Feature<T>>,
    /// Rows of `blocks` blocks: for each feature a row per rank and one for a missing value.
    masks: Vec<[M; LANES]>,
    blocks: usize,
    trees: usize,
    instructions: Instructions,
}

/// All splits on one feature.
struct Feature<T> {
    column: usize,
    /// How many distinct ones there are.
    thresholds: usize,
    steps: Vec<Step<T>>,
    /// Where its rows begin, in blocks.
    start: usize,
}

/// One step of a search: the part of the one before says which part to look at, and the count of what lies below the
/// value there says which part of the next.
type Step<T> = Vec<[T; ABREAST]>;

/// Where a row's masks begin, for each feature.
type Starts = SmallVec<[u32; 64]>;

impl<T: Scalar, M: Mask, const LANES: usize> Prefix<T, M, LANES> {
    /// `None` when the forest has splits or trees this form can not hold, or too many.
    pub(super) fn build(forest: &Forest<T>, instructions: Instructions) -> Option<Self> {
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
            let steps = steps(&thresholds);
            features.push(Feature {
                column: cuts[0].0 as usize,
                thresholds: thresholds.len(),
                steps,
                start: rows * blocks,
            });
            rows += ranks;
        }
        if rows.checked_mul(blocks)?.checked_mul(size_of::<[M; LANES]>())? > MOST_BYTES {
            return None;
        }
        let masks = vec![[M::ALL; LANES]; rows * blocks];
        let mut prefix = Self { features, masks, blocks, trees: forest.trees.len(), instructions };
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
    pub(super) fn each_leaf(&self, row: &[T], visit: impl FnMut(usize)) {
        self.instructions.run(EachLeaf { prefix: self, row, visit });
    }

    /// The leaves that no feature rules out, from a block on.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn intersect(&self, starts: &[u32], from: usize, left: &mut [[M; LANES]]) {
        let blocks = left.len();
        let left = left.as_flattened_mut();
        let masks = |start: u32| self.masks[start as usize + from..][..blocks].as_flattened();
        let (fours, rest) = starts.as_chunks::<TOGETHER>();
        for &four in fours {
            let [a, b, c, d] = four.map(masks);
            for ((((left, &a), &b), &c), &d) in left.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *left = left.and(a.and(b)).and(c.and(d));
            }
        }
        for &start in rest {
            for (left, &mask) in left.iter_mut().zip(masks(start)) {
                *left = left.and(mask);
            }
        }
    }
}

struct EachLeaf<'a, T, M, const LANES: usize, V> {
    prefix: &'a Prefix<T, M, LANES>,
    row: &'a [T],
    visit: V,
}

impl<T, M, const LANES: usize, V> NullaryFnOnce for EachLeaf<'_, T, M, LANES, V>
where
    T: Scalar,
    M: Mask,
    V: FnMut(usize),
{
    type Output = ();

    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn call(self) {
        let Self { prefix, row, mut visit } = self;
        let starts: Starts =
            prefix.features.iter().map(|feature| feature.start_of(row[feature.column], prefix.blocks)).collect();
        let mut left = [[M::ALL; LANES]; CHUNK];
        for from in (0..prefix.blocks).step_by(CHUNK) {
            let left = &mut left[..CHUNK.min(prefix.blocks - from)];
            left.fill([M::ALL; LANES]);
            prefix.intersect(&starts, from, left);
            for (tree, left) in (from * LANES..prefix.trees).zip(left.as_flattened()) {
                visit(tree * M::LEAVES + left.first());
            }
        }
    }
}

impl<T: Scalar> Feature<T> {
    /// Where the masks of a value begin, in blocks.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn start_of(&self, value: T, blocks: usize) -> u32 {
        let row = if value.is_missing() { self.missing() } else { self.rank(value) };
        (self.start + row * blocks) as u32
    }

    /// The row of a value: how many thresholds it lies above.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn rank(&self, value: T) -> usize {
        self.steps.iter().fold(0, |at, step| {
            let below: u32 = step[at].iter().map(|&threshold| u32::from(threshold < value)).sum();
            at * ABREAST + below as usize
        })
    }

    /// The row of a missing value, behind those of all ranks.
    fn missing(&self) -> usize {
        self.thresholds + 1
    }
}

/// A search among ascending thresholds, the widest step last. There is an infinity behind them, so that no value lies
/// above all there is.
fn steps<T: Scalar>(thresholds: &[T]) -> Vec<Step<T>> {
    let mut steps = Vec::new();
    let mut bounds = [thresholds, &[T::INFINITY]].concat();
    loop {
        bounds.resize(bounds.len().next_multiple_of(ABREAST), T::INFINITY);
        let step = bounds.as_chunks().0.to_vec();
        bounds = step.iter().map(|part: &[T; ABREAST]| part[ABREAST - 1]).collect();
        steps.push(step);
        if bounds.len() == 1 {
            steps.reverse();
            return steps;
        }
    }
}
