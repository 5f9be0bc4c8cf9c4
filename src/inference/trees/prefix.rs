//! The fast form of a forest: no tree is walked, masks are looked up and intersected.
//!
//! One bit per leaf, left to right. A split that a value lies outside of rules out the leaves inside it; the leaf a
//! row ends in is the first that no split rules out (Lucchese et al., `QuickScorer`, 2015). Going further, all splits
//! on one feature are sorted by threshold, and for every rank the intersection of the masks up to it is kept. Scoring
//! a row is then one binary search per feature and one pass over a table row per feature, which the compiler turns
//! into vector instructions, with no branch that depends on the data.

use std::hint::select_unpredictable;

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

/// Features whose ranks are searched side by side: a search waits for its last step most of the time.
const SIDE: usize = 8;

/// Rows that are scored together.
pub(super) const TILE: usize = 64;

/// Rows whose leaves are added side by side: a sum waits for its last addition, and its order is given.
const ABREAST: usize = 4;

/// `LANES` trees are scored together; their masks fill half the vector registers of the plainest processor.
pub(super) struct Prefix<T, M, const LANES: usize> {
    groups: Vec<Group<T>>,
    /// Rows of `blocks` blocks: for each feature a row per rank and one for a missing value.
    masks: Vec<[M; LANES]>,
    blocks: usize,
    trees: usize,
    instructions: Instructions,
}

/// Up to `SIDE` features with about as many thresholds each.
struct Group<T> {
    places: Vec<Place>,
    /// For each of `SIDE` features its thresholds, ascending, and infinities up to `room` of them.
    thresholds: Vec<T>,
    /// A power of two.
    room: usize,
}

/// Where the mask rows of a feature begin and which is that of a missing value, in blocks.
#[derive(Clone, Copy)]
struct Place {
    column: u32,
    start: u32,
    missing: u32,
}

/// Where a row's masks begin, for each feature.
type Starts = SmallVec<[u32; 64]>;

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
            features.push(Feature { column: cuts[0].0 as usize, thresholds, start: rows * blocks });
            rows += ranks;
        }
        if rows.checked_mul(blocks)?.checked_mul(size_of::<[M; LANES]>())? > MOST_BYTES {
            return None;
        }
        let masks = vec![[M::ALL; LANES]; rows * blocks];
        let mut prefix = Self { groups: Vec::new(), masks, blocks, trees: forest.trees.len(), instructions };
        prefix.rule_out(forest, &features);
        prefix.accumulate(&features);
        // The order of features means nothing; those of a group take as many steps as the longest.
        features.sort_by_key(|feature| feature.thresholds.len());
        prefix.groups = features.chunks(SIDE).map(|features| Group::of(features, blocks)).collect();
        Some(prefix)
    }

    /// Enters every split where it first rules its inside out: right above its threshold, and for a missing value.
    fn rule_out(&mut self, forest: &Forest<T>, features: &[Feature<T>]) {
        for (number, tree) in forest.trees.iter().enumerate() {
            for split in &tree.splits {
                let known = features.binary_search_by_key(&(split.feature as usize), |feature| feature.column);
                let feature = &features[known.expect("every split's feature was listed")];
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
    fn accumulate(&mut self, features: &[Feature<T>]) {
        for feature in features {
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
    ///
    /// With the same instructions everywhere: through the closure that picks AVX2, one row took more than twice as long.
    #[inline]
    pub(super) fn each_leaf(&self, row: &[T], mut visit: impl FnMut(usize)) {
        let starts = self.starts(row);
        for block in 0..self.blocks {
            let left = self.left(&starts, block);
            for (tree, left) in (block * LANES..self.trees).zip(left) {
                visit(tree * M::LEAVES + (left.first() & (M::LEAVES - 1)));
            }
        }
    }

    /// Carries a state through the leaves each row ends in, tree by tree. `rows` are at most `TILE`, `width` numbers
    /// each; there is a state for each row.
    #[inline]
    pub(super) fn fold_rows<A: Copy>(&self, rows: &[T], width: usize, states: &mut [A], fold: impl Fn(A, usize) -> A) {
        self.instructions.run(ManyRows { prefix: self, rows, width, states, fold });
    }

    /// Where a row's masks begin: eight searches at a time.
    #[inline]
    fn starts(&self, row: &[T]) -> Starts {
        let mut starts = Starts::new();
        for group in &self.groups {
            let mut values = [T::ZERO; SIDE];
            for (value, place) in values.iter_mut().zip(&group.places) {
                *value = row[place.column as usize];
            }
            let mut at: [usize; SIDE] = std::array::from_fn(|feature| feature * group.room);
            let mut step = group.room;
            while step > 1 {
                step /= 2;
                for (at, &value) in at.iter_mut().zip(&values) {
                    let above = group.thresholds[*at + step - 1] < value;
                    *at = select_unpredictable(above, *at + step, *at);
                }
            }
            for (feature, place) in group.places.iter().enumerate() {
                starts.push(place.start_of(values[feature], at[feature] - feature * group.room, self.blocks));
            }
        }
        starts
    }

    /// As `starts`, rows × features: the rows side by side, feature by feature.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn starts_of_rows(&self, rows: &[T], width: usize, features: usize) -> SmallVec<[u32; 8 * TILE]> {
        let mut starts = SmallVec::from_elem(0, rows.len() / width * features);
        let places =
            self.groups.iter().flat_map(|group| group.places.iter().zip(group.thresholds.chunks_exact(group.room)));
        for (feature, (place, thresholds)) in places.enumerate() {
            let mut values = [T::ZERO; TILE];
            for (value, row) in values.iter_mut().zip(rows.chunks_exact(width)) {
                *value = row[place.column as usize];
            }
            let mut at = [0_usize; TILE];
            let mut step = thresholds.len();
            while step > 1 {
                step /= 2;
                for (at, &value) in at.iter_mut().zip(&values) {
                    // The mask changes nothing but spares the check of the bound.
                    let above = thresholds[(*at + step - 1) & (thresholds.len() - 1)] < value;
                    *at = select_unpredictable(above, *at + step, *at);
                }
            }
            let ranked = values.iter().zip(at);
            for (starts, (&value, rank)) in starts.chunks_exact_mut(features).zip(ranked) {
                starts[feature] = place.start_of(value, rank, self.blocks);
            }
        }
        starts
    }

    /// The leaves that no feature rules out, of one block of trees.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn left(&self, starts: &[u32], block: usize) -> [M; LANES] {
        let mut left = [M::ALL; LANES];
        for &start in starts {
            for (left, &mask) in left.iter_mut().zip(&self.masks[start as usize + block]) {
                *left = left.and(mask);
            }
        }
        left
    }
}

struct ManyRows<'a, T, M, const LANES: usize, A, F> {
    prefix: &'a Prefix<T, M, LANES>,
    rows: &'a [T],
    width: usize,
    states: &'a mut [A],
    fold: F,
}

impl<T, M, const LANES: usize, A, F> NullaryFnOnce for ManyRows<'_, T, M, LANES, A, F>
where
    T: Scalar,
    M: Mask,
    A: Copy,
    F: Fn(A, usize) -> A,
{
    type Output = ();

    /// Block by block, so that a block's masks stay in the second-level cache for all rows.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn call(self) {
        let Self { prefix, rows, width, states, fold } = self;
        let features: usize = prefix.groups.iter().map(|group| group.places.len()).sum();
        if features == 0 {
            // Every tree is one leaf.
            for state in states {
                *state = (0..prefix.trees).fold(*state, |state, tree| fold(state, tree * M::LEAVES));
            }
            return;
        }
        let starts = prefix.starts_of_rows(rows, width, features);
        for block in 0..prefix.blocks {
            let first = block * LANES;
            let trees = LANES.min(prefix.trees - first);
            let tile = starts.chunks(ABREAST * features).zip(states.chunks_mut(ABREAST));
            for (starts, states) in tile {
                let mut left = [[M::ALL; LANES]; ABREAST];
                for (left, starts) in left.iter_mut().zip(starts.chunks_exact(features)) {
                    *left = prefix.left(starts, block);
                }
                let mut carried = [states[0]; ABREAST];
                carried[..states.len()].copy_from_slice(states);
                for lane in 0..trees {
                    for (carried, left) in carried.iter_mut().zip(&left) {
                        let leaf = left[lane].first() & (M::LEAVES - 1);
                        *carried = fold(*carried, (first + lane) * M::LEAVES + leaf);
                    }
                }
                states.copy_from_slice(&carried[..states.len()]);
            }
        }
    }
}

impl<T: Scalar> Group<T> {
    fn of(features: &[Feature<T>], blocks: usize) -> Self {
        let most = features.iter().map(|feature| feature.thresholds.len()).max().unwrap_or(0);
        let room = (most + 1).next_power_of_two();
        let mut thresholds = vec![T::INFINITY; SIDE * room];
        for (room, feature) in thresholds.chunks_exact_mut(room).zip(features) {
            room[..feature.thresholds.len()].copy_from_slice(&feature.thresholds);
        }
        let place = |feature: &Feature<T>| Place {
            column: feature.column as u32,
            start: feature.start as u32,
            missing: (feature.start + feature.missing() * blocks) as u32,
        };
        Self { places: features.iter().map(place).collect(), thresholds, room }
    }
}

impl Place {
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn start_of<T: Scalar>(self, value: T, rank: usize, blocks: usize) -> u32 {
        if value.is_missing() { self.missing } else { self.start + (rank * blocks) as u32 }
    }
}

impl<T: Scalar> Feature<T> {
    /// The row of a value: how many thresholds it lies above.
    fn rank(&self, value: T) -> usize {
        self.thresholds.partition_point(|&threshold| threshold < value)
    }

    /// The row of a missing value, behind those of all ranks.
    fn missing(&self) -> usize {
        self.thresholds.len() + 1
    }
}
