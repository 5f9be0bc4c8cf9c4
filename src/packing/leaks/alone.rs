//! How well one column alone tells the outcome: rank AUC in the better direction, and AUC of the outcome's share in
//! the column's bins or levels, each row judged by the others.

use crate::packing::leaks::frame::Values;
use crate::packing::metrics;

/// Most bins of a numeric column. One with fewer values than twice this keeps each as a bin of its own.
const BINS: usize = 10;

/// Most levels of a categorical column that the additive model tells apart; the rarer ones share one.
const LEVELS: usize = 40;

/// A level with fewer rows than this shares one with other rare ones.
const RARE: usize = 30;

/// Weight, in rows, of the overall share in a level's share.
const PRIOR: f64 = 10.0;

/// One column against one outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alone {
    /// In the better direction, missing below everything; `None` for a categorical column.
    pub ranked: Option<f64>,
    /// By bin or level: finds what is neither rising nor falling.
    pub binned: f64,
}

impl Alone {
    /// The figures, and each row's share as the other folds tell it.
    pub fn of(values: &Values, happened: &[bool], folds: &[usize]) -> (Self, Vec<f64>) {
        let (ranked, codes) = match values {
            Values::Numbers(numbers) => {
                // AUC of the reverse is one minus AUC, except that missing values stay at the bottom.
                let ranked = [1.0, -1.0].map(|sign| {
                    let score = |x: &f64| if x.is_nan() { f64::MIN } else { sign * x };
                    metrics::auc(happened, &numbers.iter().map(score).collect::<Vec<_>>())
                });
                (Some(ranked.into_iter().fold(0.0, |best, auc| f64::max(best, auc.max(1.0 - auc)))), bins(numbers))
            }
            Values::Levels { codes, .. } => (None, codes.clone()),
        };
        let shares = out_of_fold_share(&codes, happened, folds);
        (Self { ranked, binned: metrics::auc(happened, &shares) }, shares)
    }

    pub fn best(&self) -> f64 {
        self.ranked.unwrap_or(0.0).max(self.binned)
    }
}

/// A bin or level for each row, dense from 0: what the additive model reads.
pub fn design(values: &Values) -> Vec<usize> {
    match values {
        Values::Numbers(numbers) => bins(numbers),
        Values::Levels { codes, names } => {
            let mut rows = vec![0_usize; names.len()];
            for code in codes {
                rows[*code] += 1;
            }
            let mut by_rows: Vec<usize> = (0..names.len()).filter(|code| rows[*code] >= RARE).collect();
            by_rows.sort_by_key(|code| std::cmp::Reverse(rows[*code]));
            by_rows.truncate(LEVELS);
            let mut kept = vec![0; names.len()];
            for (i, code) in by_rows.into_iter().enumerate() {
                kept[code] = i + 1;
            }
            dense(codes.iter().map(|code| kept[*code]))
        }
    }
}

/// The share of rows in which it happened, among the rows of the same code in the other folds.
fn out_of_fold_share(codes: &[usize], happened: &[bool], folds: &[usize]) -> Vec<f64> {
    let width = codes.iter().max().map_or(0, |most| most + 1);
    let parts = folds.iter().max().map_or(0, |most| most + 1);
    let mut of = vec![[0.0, 0.0]; width * parts];
    let mut all = vec![[0.0, 0.0]; width + parts + 1];
    for ((code, happened), fold) in codes.iter().zip(happened).zip(folds) {
        let one = [1.0, f64::from(u8::from(*happened))];
        for sums in [&mut of[code * parts + fold], &mut all[*code]] {
            *sums = [sums[0] + one[0], sums[1] + one[1]];
        }
        for place in [width + fold, width + parts] {
            all[place] = [all[place][0] + one[0], all[place][1] + one[1]];
        }
    }
    let share = |code: usize, fold: usize| {
        let less = |whole: [f64; 2], part: [f64; 2]| [whole[0] - part[0], whole[1] - part[1]];
        let [everybody, happened_to] = less(all[width + parts], all[width + fold]);
        let [rows, sum] = less(all[code], of[code * parts + fold]);
        (sum + PRIOR * happened_to / everybody.max(1.0)) / (rows + PRIOR)
    };
    codes.iter().zip(folds).map(|(code, fold)| share(*code, *fold)).collect()
}

/// Quantile bins; missing has its own, and a column of few values keeps each.
fn bins(numbers: &[f64]) -> Vec<usize> {
    let mut sorted: Vec<f64> = numbers.iter().copied().filter(|value| !value.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut values = sorted.clone();
    values.dedup();
    let mut edges = values;
    if edges.len() > 2 * BINS {
        edges = (1..BINS).map(|k| sorted[k * sorted.len() / BINS]).collect();
        edges.dedup();
    }
    let bin = |value: &f64| if value.is_nan() { 0 } else { 1 + edges.partition_point(|edge| edge < value) };
    dense(numbers.iter().map(bin))
}

/// The same codes without gaps.
fn dense(codes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut codes: Vec<usize> = codes.collect();
    let mut seen = codes.clone();
    seen.sort_unstable();
    seen.dedup();
    for code in &mut codes {
        *code = seen.partition_point(|other| other < code);
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folds(rows: usize) -> Vec<usize> {
        (0..rows).map(|row| row * 7 % 5).collect()
    }

    #[test]
    fn rising_falling_and_hump_are_all_seen() {
        let x: Vec<f64> = (0..2000_u32).map(|i| f64::from(i * 577 % 2000)).collect();
        let folds: Vec<usize> = (0..2000).map(|i| i / 400).collect();
        let of = |happened: &dyn Fn(f64) -> bool| {
            let happened: Vec<bool> = x.iter().map(|x| happened(*x)).collect();
            Alone::of(&Values::Numbers(x.clone()), &happened, &folds).0
        };
        assert!(of(&|x| x > 1500.0).ranked.expect("numeric") > 0.99);
        assert!(of(&|x| x < 500.0).ranked.expect("numeric") > 0.99);
        let hump = of(&|x| (800.0..1200.0).contains(&x));
        assert!(hump.ranked.expect("numeric") < 0.6 && hump.binned > 0.95, "{hump:?}");
    }

    #[test]
    fn a_missing_value_is_a_level_of_its_own() {
        let happened: Vec<bool> = (0..1000).map(|i| i % 3 == 0).collect();
        let x = happened.iter().map(|yes| if *yes { f64::NAN } else { 5.0 }).collect();
        assert!(Alone::of(&Values::Numbers(x), &happened, &folds(1000)).0.best() > 0.99);
    }

    #[test]
    fn many_levels_do_not_tell_by_chance() {
        let happened: Vec<bool> = (0..3000).map(|i| crate::packing::split::mix(i) % 97 < 30).collect();
        let codes: Vec<usize> = (0..3000).map(|i| i / 3).collect();
        let names = (0..1000).map(|i| format!("l{i}")).collect();
        let (alone, _) = Alone::of(&Values::Levels { codes, names }, &happened, &folds(3000));
        assert!(alone.best() < 0.6, "{alone:?}");
    }

    #[test]
    fn rare_levels_share_one_code() {
        let names = vec!["a".into(), "b".into(), "c".into(), String::new()];
        let codes: Vec<usize> = (0..200)
            .map(|i| {
                if i < 100 {
                    0
                } else if i < 190 {
                    3
                } else {
                    1 + i % 2
                }
            })
            .collect();
        let design = design(&Values::Levels { codes, names });
        assert_eq!([design[0], design[150], design[195], design[196]], [1, 2, 0, 0]);
    }
}
