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

/// Features whose ranks are searched side by side: a search waits for its last step most of the time.
const SIDE: usize = 8;

/// Trees whose masks are intersected before their leaves are looked up.
const CHUNK: usize = 256;

/// Leaves that are looked up in one turn.
const UNROLLED: usize = 4;

/// Bytes that a processor's caches keep together.
const LINE: usize = 64;

pub(super) struct Prefix<T, M> {
    groups: Vec<FeatureGroup<T>>,
    /// Rows of `width` masks from the first that begins a line on: one that rules nothing out, then for each feature a row
    /// per rank and one for a missing value.
    masks: Vec<M>,
    /// Trees, and room up to the end of a line.
    width: usize,
    trees: usize,
    instructions: Instructions,
}

/// `SIDE` features with about as many thresholds each, or fewer and a place that rules nothing out.
struct FeatureGroup<T> {
    places: [MaskPlace; SIDE],
    /// For each feature its thresholds, ascending, and infinities up to `room` of them.
    thresholds: Vec<T>,
    /// A power of two.
    room: usize,
}

/// Where the mask rows of a feature begin and which is that of a missing value.
#[derive(Clone, Copy)]
struct MaskPlace {
    column: u32,
    start: u32,
    missing: u32,
}

/// Where a row's masks begin, for each feature of a group.
type Starts = [u32; SIDE];

/// All splits on one feature.
struct Feature<T> {
    column: usize,
    /// Distinct, ascending.
    thresholds: Vec<T>,
    /// Where its rows begin.
    start: usize,
}

impl<T: Scalar, M: Mask> Prefix<T, M> {
    /// `None` when the forest has splits or trees this form cannot hold, or too many.
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
        let trees = forest.trees.len();
        let width = trees.next_multiple_of(LINE / size_of::<M>());
        let mut rows = 1_usize;
        let mut features: Vec<Feature<T>> = Vec::new();
        for cuts in cuts.chunk_by(|left, right| left.0 == right.0) {
            let thresholds: Vec<T> = cuts.iter().map(|&(_, threshold)| threshold).collect();
            let ranks = thresholds.len() + 2;
            features.push(Feature { column: cuts[0].0 as usize, thresholds, start: rows * width });
            rows += ranks;
        }
        if rows.checked_mul(width)?.checked_mul(size_of::<M>())? > MOST_BYTES {
            return None;
        }
        let masks = vec![M::ALL; rows * width + LINE / size_of::<M>()];
        let first = masks.as_ptr().align_offset(LINE).min(LINE / size_of::<M>());
        for feature in &mut features {
            feature.start += first;
        }
        let mut prefix = Self { groups: Vec::new(), masks, width, trees, instructions };
        prefix.rule_out(forest, &features);
        prefix.accumulate(&features);
        // The order of features means nothing; those of a group take as many steps as the longest.
        features.sort_by_key(|feature| feature.thresholds.len());
        prefix.groups = features.chunks(SIDE).map(|features| FeatureGroup::of(features, first, width)).collect();
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
                    let mask = &mut self.masks[feature.start + row * self.width + number];
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
            let ranks = feature.start..feature.start + feature.missing() * self.width;
            for at in ranks.skip(self.width) {
                self.masks[at] = self.masks[at].and(self.masks[at - self.width]);
            }
        }
    }

    /// Carries a state through the leaves the trees end in, tree by tree: `tree * M::LEAVES + leaf`.
    #[inline]
    pub(super) fn fold<A>(&self, row: &[f64], state: A, step: impl FnMut(A, usize) -> A) -> A {
        self.instructions.run(Fold { prefix: self, row, state, step })
    }

    /// Takes away the leaves that the features of a group rule out, from a tree on.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[expect(clippy::many_single_char_names, reason = "eight of a kind")]
    #[inline(always)]
    fn take_away(&self, starts: Starts, from: usize, left: &mut [M]) {
        let row = |start: u32| &self.masks[start as usize + from..][..left.len()];
        let [a, b, c, d, e, f, g, h] = starts;
        let [a, b, c, d, e, f, g, h] = [row(a), row(b), row(c), row(d), row(e), row(f), row(g), row(h)];
        let eight = a.iter().zip(b).zip(c).zip(d).zip(e).zip(f).zip(g).zip(h);
        for (left, (((((((&a, &b), &c), &d), &e), &f), &g), &h)) in left.iter_mut().zip(eight) {
            *left = left.and(a.and(b).and(c.and(d)).and(e.and(f).and(g.and(h))));
        }
    }
}

struct Fold<'a, T, M, A, F> {
    prefix: &'a Prefix<T, M>,
    row: &'a [f64],
    state: A,
    step: F,
}

impl<T, M, A, F> NullaryFnOnce for Fold<'_, T, M, A, F>
where
    T: Scalar,
    M: Mask,
    F: FnMut(A, usize) -> A,
{
    type Output = A;

    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn call(self) -> A {
        let Self { prefix, row, mut state, mut step } = self;
        let mut starts: SmallVec<[Starts; 8]> = SmallVec::new();
        for group in &prefix.groups {
            starts.push(group.starts(row, prefix.width));
        }
        let mut left = [M::ALL; CHUNK];
        for first in (0..prefix.width).step_by(CHUNK) {
            let left = &mut left[..CHUNK.min(prefix.width - first)];
            if first > 0 {
                left.fill(M::ALL);
            }
            for &starts in &starts {
                prefix.take_away(starts, first, left);
            }
            let left = &left[..left.len().min(prefix.trees - first)];
            let (turns, rest) = left.as_chunks::<UNROLLED>();
            for (turn, left) in turns.iter().enumerate() {
                for (lane, left) in left.iter().enumerate() {
                    state = step(state, (first + turn * UNROLLED + lane) * M::LEAVES + left.first());
                }
            }
            for (lane, left) in rest.iter().enumerate() {
                state = step(state, (first + turns.len() * UNROLLED + lane) * M::LEAVES + left.first());
            }
        }
        state
    }
}

impl<T: Scalar> FeatureGroup<T> {
    fn of(features: &[Feature<T>], nothing: usize, width: usize) -> Self {
        let most = features.iter().map(|feature| feature.thresholds.len()).max().unwrap_or(0);
        let room = (most + 1).next_power_of_two();
        let mut thresholds = vec![T::INFINITY; SIDE * room];
        for (room, feature) in thresholds.chunks_exact_mut(room).zip(features) {
            room[..feature.thresholds.len()].copy_from_slice(&feature.thresholds);
        }
        let mut places = [MaskPlace { column: 0, start: nothing as u32, missing: nothing as u32 }; SIDE];
        for (place, feature) in places.iter_mut().zip(features) {
            let missing = (feature.start + feature.missing() * width) as u32;
            *place = MaskPlace { column: feature.column as u32, start: feature.start as u32, missing };
        }
        Self { places, thresholds, room }
    }

    /// Where a row's masks begin: all searches side by side.
    #[expect(clippy::inline_always, reason = "vector instructions do not cross a call")]
    #[inline(always)]
    fn starts(&self, row: &[f64], width: usize) -> Starts {
        let mut values = [T::ZERO; SIDE];
        for (value, place) in values.iter_mut().zip(&self.places) {
            *value = T::from_f64(row[place.column as usize]);
        }
        let thresholds = self.thresholds.as_slice();
        let mut at = [0; SIDE];
        for (feature, at) in at.iter_mut().enumerate() {
            *at = feature * self.room;
        }
        let mut step = self.room;
        while step > 1 {
            step /= 2;
            for (at, &value) in at.iter_mut().zip(&values) {
                // The mask changes nothing but spares the check of the bound.
                let above = thresholds[(*at + step - 1) & (thresholds.len() - 1)] < value;
                *at = select_unpredictable(above, *at + step, *at);
            }
        }
        let mut starts = [0; SIDE];
        for (feature, start) in starts.iter_mut().enumerate() {
            let place = self.places[feature];
            let rank = at[feature] - feature * self.room;
            let known = place.start + (rank * width) as u32;
            *start = if values[feature].is_missing() { place.missing } else { known };
        }
        starts
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
