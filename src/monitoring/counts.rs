//! Rows per drift cell, counted on the threads that answer requests: a few relaxed additions a row, no lock, no
//! allocation.
//!
//! Each thread adds to one of a few copies of the counters, so that two threads rarely write the same cache line. The
//! counts only ever grow; a window is the difference of two readings.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use scoreline_engine::features::drift::{self, DriftBins};

/// Most copies of the counters; threads beyond that share.
pub(super) const MOST_COPIES: usize = 16;

/// Counters of all columns of one model: features that have drift bins, and the score.
pub struct Counts {
    /// Column of the raw row that each monitored feature is read from.
    positions: Box<[u16]>,
    /// Where each column's edges end in `edges`, the score's last when it is monitored.
    ends: Box<[u32]>,
    edges: Box<[f64]>,
    sets: Box<[CountedSet]>,
    copies: Box<[Box<[AtomicU64]>]>,
}

/// What is counted of a row of which less is known.
pub struct CountedSet {
    /// Whether each monitored feature is read of it: what is not known of anybody in the set is no drift.
    pub reads: Box<[bool]>,
    /// Edges of its score, as many as those of the others: each row counts in the tenth of its own set.
    pub score_edges: Box<[f64]>,
}

impl Counts {
    /// Counters for the features at these columns of the raw row, and for the score if it has bins.
    pub fn new<'b>(features: impl IntoIterator<Item = (usize, &'b DriftBins)>, score: Option<&DriftBins>) -> Self {
        let mut positions = Vec::new();
        let mut ends = Vec::new();
        let mut edges = Vec::new();
        let mut cells = 0;
        let mut add = |bins: &DriftBins| {
            edges.extend_from_slice(&bins.edges);
            ends.push(edges.len() as u32);
            cells += bins.cells();
        };
        for (position, bins) in features {
            positions.push(position as u16);
            add(bins);
        }
        if let Some(bins) = score {
            add(bins);
        }
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let copies = threads.next_power_of_two().min(MOST_COPIES);
        let copy = || (0..cells).map(|_| AtomicU64::new(0)).collect();
        Self {
            positions: positions.into(),
            ends: ends.into(),
            edges: edges.into(),
            sets: Box::default(),
            copies: (0..copies).map(|_| copy()).collect(),
        }
    }

    /// Counters that also hold rows of which less is known.
    #[must_use]
    pub fn with_sets(self, sets: Box<[CountedSet]>) -> Self {
        Self { sets, ..self }
    }

    /// Counts one scored row: its raw values in schema order, `NaN` for missing, its score, and which set it is of, if not
    /// of the whole.
    pub fn add(&self, raw: &[f64], score: f64, set: Option<usize>) {
        let copy = &self.copies[thread_number() & (self.copies.len() - 1)];
        let set = set.and_then(|set| self.sets.get(set));
        let mut start = 0;
        let mut offset = 0;
        for (column, end) in self.ends.iter().map(|end| *end as usize).enumerate() {
            let mut edges = &self.edges[start..end];
            offset += cells(edges.len());
            start = end;
            let value = match self.positions.get(column) {
                Some(_) if set.is_some_and(|set| !set.reads[column]) => continue,
                Some(position) => raw[usize::from(*position)],
                None => {
                    edges = set.map_or(edges, |set| &set.score_edges);
                    score
                }
            };
            copy[offset - cells(edges.len()) + drift::cell(edges, value)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Rows so far in every cell of every column, one column after the other.
    pub fn read(&self) -> Vec<Vec<u64>> {
        let mut columns = Vec::with_capacity(self.ends.len());
        let mut start = 0;
        let mut offset = 0;
        for end in self.ends.iter().map(|end| *end as usize) {
            let width = cells(end - start);
            let total = |cell: usize| self.copies.iter().map(|copy| copy[cell].load(Ordering::Relaxed)).sum();
            columns.push((offset..offset + width).map(total).collect());
            offset += width;
            start = end;
        }
        columns
    }
}

fn cells(edges: usize) -> usize {
    edges + 3
}

/// A number of this thread's own.
pub(super) fn thread_number() -> usize {
    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
    }
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_all_threads_are_counted_once_in_their_cells() {
        let bins = DriftBins { edges: vec![1.0, 5.0], shares: vec![0.2, 0.3, 0.5], zero: 0.0, missing: 0.0 };
        let score = DriftBins { edges: vec![10.0], shares: vec![0.5, 0.5], zero: 0.0, missing: 0.0 };
        let counts = Counts::new([(0, &bins), (2, &bins)], Some(&score));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counts.add(&[0.0, 99.0, f64::NAN], 3.0, None);
                        counts.add(&[5.0, 99.0, 6.0], 11.0, None);
                    }
                });
            }
        });
        let expected = [vec![0, 4000, 0, 4000, 0], vec![4000, 0, 0, 0, 4000], vec![0, 0, 4000, 4000]];
        assert_eq!(counts.read(), expected);
    }

    #[test]
    fn a_model_without_score_bins_counts_its_features() {
        let bins = DriftBins { edges: vec![1.0], shares: vec![0.5, 0.5], zero: 0.0, missing: 0.0 };
        let counts = Counts::new([(1, &bins)], None);
        counts.add(&[f64::NAN, 0.5], 7.0, None);
        assert_eq!(counts.read(), [[0, 0, 1, 0]]);
    }

    #[test]
    fn a_row_of_which_less_is_known_counts_where_it_is_read_and_in_its_own_bins() {
        let bins = DriftBins { edges: vec![1.0], shares: vec![0.5, 0.5], zero: 0.0, missing: 0.0 };
        let less = CountedSet { reads: [true, false].into(), score_edges: [100.0].into() };
        let counts = Counts::new([(0, &bins), (1, &bins)], Some(&bins)).with_sets([less].into());
        counts.add(&[0.5, 0.5], 50.0, None);
        counts.add(&[0.5, f64::NAN], 50.0, Some(0));
        assert_eq!(counts.read(), [[0, 0, 2, 0], [0, 0, 1, 0], [0, 0, 1, 1]]);
    }
}
