//! The population stability index and when it is large enough to mean something.
//!
//! PSI = sum over cells of (q - p) ln(q / p), p the share at training and q the share now. Without any drift it is
//! about chi-square with B - 1 degrees of freedom times (1/N + 1/M), for B cells, N training rows and M rows now
//! (Yurdakul & Naranjo, Statistical properties of the population stability index). The usual fixed limit of 0.1 is
//! therefore far too low below some 200 rows; an alarm here needs both.
//!
//! The alarm's limit is max(0.1, chi2(B - 1, 0.99) (1/N + 1/M)): what chance explains in all but 1 % of the windows. B
//! counts the bins after those expected to hold fewer than five rows are taken together.

use super::chi_square;

/// PSI at and below this is no alarm, whatever the number of rows.
const LEAST_ALARM: f64 = 0.1;
/// The no-drift quantile an alarm must be above.
const ALARM_QUANTILE: f64 = 0.99;
/// Cells expected to hold fewer rows than this are taken together: below it the chi-square approximation is poor
/// (Cochran 1954).
const LEAST_EXPECTED: f64 = 5.0;
/// What an empty cell counts as, so that its logarithm exists.
const EMPTY_CELL: f64 = 0.5;

/// The index of one column over one window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Psi {
    pub value: f64,
    /// The index has to be above this to be an alarm.
    pub limit: f64,
    /// Rows of the window.
    pub rows: u64,
    /// The cell whose share moved the index most.
    pub worst: usize,
    /// The share of that cell now.
    pub worst_share: f64,
}

impl Psi {
    pub fn is_high(&self) -> bool {
        self.value > self.limit
    }
}

/// Compares a window's `counts` with the training `shares` of the same cells, `trained` being the number of training
/// rows. 0 with an infinite limit when there is nothing to compare.
pub fn psi(shares: &[f64], trained: u64, counts: &[u64]) -> Psi {
    debug_assert_eq!(shares.len(), counts.len());
    let rows: u64 = counts.iter().sum();
    let mut found = Psi { value: 0.0, limit: f64::INFINITY, rows, worst: 0, worst_share: 0.0 };
    if rows == 0 || trained == 0 {
        return found;
    }
    let n = trained as f64;
    let m = rows as f64;
    let share_now = |cell: usize| counts[cell] as f64 / m;
    let moved = |cell: &usize| (share_now(*cell) - shares[*cell]).abs();
    let (common, rare): (Vec<usize>, Vec<usize>) =
        (0..shares.len()).partition(|&cell| shares[cell] * m >= LEAST_EXPECTED);
    let mut cells: Vec<Vec<usize>> = common.into_iter().map(|cell| vec![cell]).collect();
    cells.push(rare);
    let mut used = 0_u32;
    let mut largest = f64::NEG_INFINITY;
    for members in cells {
        let before: f64 = members.iter().map(|&cell| shares[cell]).sum();
        let now: u64 = members.iter().map(|&cell| counts[cell]).sum();
        if now == 0 && before * n < EMPTY_CELL {
            continue;
        }
        used += 1;
        let p = (before * n).max(EMPTY_CELL) / n;
        let q = (now as f64).max(EMPTY_CELL) / m;
        let term = (q - p) * (q / p).ln();
        found.value += term;
        if term > largest {
            largest = term;
            found.worst = members.iter().copied().max_by(|a, b| moved(a).total_cmp(&moved(b))).unwrap_or_default();
        }
    }
    found.worst_share = share_now(found.worst);
    if used > 1 {
        found.limit = limit(used, n, m);
    }
    found
}

/// The alarm limit for `cells` >= 2 cells, `n` training rows and `m` rows now.
pub fn limit(cells: u32, n: f64, m: f64) -> f64 {
    let chance = chi_square::quantile(ALARM_QUANTILE, f64::from(cells - 1)) * (1.0 / n + 1.0 / m);
    chance.max(LEAST_ALARM)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use scoreline_engine::features::drift::{DriftBins, quantile_edges};

    /// `SplitMix64` (Steele, Lea & Flood 2014), as a number from 0 to 1.
    struct Draw(u64);

    impl Draw {
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    #[test]
    fn the_index_and_its_limit_by_hand() {
        // (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5).
        let found = psi(&[0.5, 0.5], 1000, &[60, 40]);
        let by_hand = 0.1 * (1.2_f64.ln() - 0.8_f64.ln());
        assert!((found.value - by_hand).abs() < 1e-15, "{found:?}");
        // 99 % of chi-square with one degree of freedom is 6.6349.
        assert_eq!(found.limit, 0.1, "6.6349 * (1/1000 + 1/100) = 0.073 is below 0.1");
        assert!((limit(10, 1e9, 100.0) - 0.216_660).abs() < 1e-6, "21.6660 / 100");
        assert_eq!((found.rows, found.worst, found.worst_share), (100, 1, 0.4));
        // An empty cell is half a row: 0.005 against 0.5, and 1 against 0.5.
        let emptied = psi(&[0.5, 0.5], 1000, &[0, 100]);
        let by_hand = (0.005 - 0.5) * (0.005_f64 / 0.5).ln() + 0.5 * 2.0_f64.ln();
        assert!((emptied.value - by_hand).abs() < 1e-12, "{emptied:?}");
    }

    #[test]
    fn what_was_never_seen_in_training_is_seen_now() {
        let missing = psi(&[0.0, 0.25, 0.75], 5000, &[200, 200, 600]);
        assert!(missing.is_high(), "{missing:?}");
        assert_eq!((missing.worst, missing.worst_share), (0, 0.2));
    }

    #[test]
    fn nothing_to_compare_is_no_alarm() {
        for found in [psi(&[1.0, 0.0], 100, &[0, 0]), psi(&[1.0], 0, &[5]), psi(&[1.0, 0.0], 100, &[500, 0])] {
            assert_eq!(found.value, 0.0);
            assert!(!found.is_high());
        }
    }

    /// Share of no-drift windows of `m` rows that are above 0.1, and above the limit. Ten equal cells; the reference is
    /// a sample of 7,149 rows itself.
    fn false_alarms(m: usize) -> [f64; 2] {
        const WINDOWS: usize = 2000;
        let mut draw = Draw(m as u64);
        let mut above = [0; 2];
        for _ in 0..WINDOWS {
            let mut sample = |rows: usize| {
                let mut counts = [0_u64; 10];
                for _ in 0..rows {
                    counts[(draw.next() * 10.0) as usize] += 1;
                }
                counts
            };
            let shares = sample(7149).map(|count| count as f64 / 7149.0);
            let found = psi(&shares, 7149, &sample(m));
            above[0] += usize::from(found.value > LEAST_ALARM);
            above[1] += usize::from(found.is_high());
        }
        above.map(|count| count as f64 / WINDOWS as f64)
    }

    #[test]
    fn chance_alone_raises_few_alarms_at_any_number_of_rows() {
        let rates = [100, 500, 5000].map(false_alarms);
        for (rows, [fixed, rule]) in [100, 500, 5000].iter().zip(rates) {
            println!(
                "M = {rows}: above 0.1 in {:.2} % of the windows, above the limit in {:.2} %",
                fixed * 100.0,
                rule * 100.0
            );
            assert!(rule <= 0.02, "{rows} rows: {rule}");
        }
        assert!(rates[0][0] > 0.25, "0.1 alone is wrong at 100 rows: {}", rates[0][0]);
    }

    #[test]
    fn a_feature_that_is_mostly_zero_is_not_hidden_by_its_zeros() {
        // As `previous` in the bank data: nearly always 0, then much more often not.
        let column = |zeros: usize, rows: usize| -> Vec<f64> {
            (0..rows).map(|i| if i < zeros { 0.0 } else { 1.0 + (i % 4) as f64 }).collect()
        };
        let before = column(9600, 10_000);
        let now = column(700, 1000);
        let mut sorted = before.clone();
        sorted.sort_by(f64::total_cmp);
        let mut plain: Vec<f64> = (1..10).map(|k| sorted[k * sorted.len() / 10]).collect();
        plain.dedup();
        assert_eq!(plain, [0.0], "all nine deciles are 0: cut with `value >= edge`, one bin holds every row");

        let bins = DriftBins::of(quantile_edges(&before), &before).expect("values");
        let mut counts = vec![0; bins.cells()];
        for value in &now {
            counts[bins.cell(*value)] += 1;
        }
        let found = psi(&bins.cell_shares(), 10_000, &counts);
        assert!(found.is_high() && found.value > 0.5, "{found:?}");
    }

    proptest! {
        #[test]
        fn the_index_is_never_negative_and_is_zero_without_a_change(
            trained in prop::collection::vec(0_u64..500, 2..14),
            now in prop::collection::vec(0_u64..500, 14),
        ) {
            let total: u64 = trained.iter().sum();
            prop_assume!(total > 0);
            let shares: Vec<f64> = trained.iter().map(|count| *count as f64 / total as f64).collect();
            let found = psi(&shares, total, &now[..shares.len()]);
            prop_assert!(found.value >= 0.0 && found.value.is_finite());
            prop_assert!(found.limit >= LEAST_ALARM);
            let same = psi(&shares, total, &trained);
            prop_assert!(same.value < 1e-12, "{same:?}");
            prop_assert!(!same.is_high());
        }

        #[test]
        fn the_order_of_the_cells_does_not_matter(
            cells in prop::collection::vec((1_u64..500, 0_u64..500), 2..14),
        ) {
            let total: u64 = cells.iter().map(|(trained, _)| trained).sum();
            let read = |cells: &[(u64, u64)]| {
                let shares: Vec<f64> = cells.iter().map(|(count, _)| *count as f64 / total as f64).collect();
                psi(&shares, total, &cells.iter().map(|(_, now)| *now).collect::<Vec<_>>())
            };
            let reversed: Vec<_> = cells.iter().rev().copied().collect();
            let a = read(&cells);
            let b = read(&reversed);
            prop_assert!((a.value - b.value).abs() < 1e-9 && a.limit == b.limit);
        }
    }
}
