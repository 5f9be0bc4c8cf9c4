//! What luck gives: the figures that a perfect model shows on the same rows.
//!
//! A perfect model knows each row's distribution and still has a calibration error, because every outcome is drawn once.
//! Outcomes are drawn anew, from what the model itself says of each row, and measured like the real ones. A figure within
//! 5 to 95 % of these is as good as any model's can be; one below their mean was lucky.

use fastrand::Rng;
use scoreline_engine::inference::manifest::Luck;

use crate::packing::metrics::equal_mass;

/// Times that outcomes are drawn; the seed is fixed, so that a run repeats byte by byte.
const DRAWS: usize = 200;
const SEED: u64 = 0x6c75_636b;

fn over_draws(mut figure: impl FnMut(&mut Rng) -> f64) -> Luck {
    let mut random = Rng::with_seed(SEED);
    let mut figures: Vec<f64> = (0..DRAWS).map(|_| figure(&mut random)).collect();
    figures.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| figures[((DRAWS - 1) as f64 * share).round() as usize];
    Luck { mean: figures.iter().sum::<f64>() / DRAWS as f64, low: quantile(0.05), high: quantile(0.95) }
}

/// The expected calibration error of probabilities that are right, over ten bins of equal mass.
pub fn calibration_error(probability: &[f64]) -> Luck {
    weighted_calibration_error(probability, &vec![1.0; probability.len()])
}

/// The same of probabilities that weigh differently.
pub(crate) fn weighted_calibration_error(probability: &[f64], weight: &[f64]) -> Luck {
    let order = ordered(probability);
    let bins = equal_mass(&order, 10);
    let total: f64 = weight.iter().sum();
    over_draws(|random| {
        let mut gap = |rows: &&[usize]| {
            let gaps = rows
                .iter()
                .map(|row| weight[*row] * (probability[*row] - f64::from(u8::from(random.f64() < probability[*row]))));
            gaps.sum::<f64>().abs()
        };
        bins.iter().map(&mut gap).sum::<f64>() / total
    })
}

/// The coverage of intervals of which each holds its outcome with the probability that it promises.
pub fn coverage(promised: &[f64]) -> Luck {
    let all: Vec<usize> = (0..promised.len()).collect();
    least_coverage(promised, &[all])
}

/// The coverage of whichever part of such intervals is covered least.
pub(crate) fn least_coverage(promised: &[f64], parts: &[Vec<usize>]) -> Luck {
    over_draws(|random| {
        let shares = parts
            .iter()
            .map(|part| part.iter().filter(|row| random.f64() < promised[**row]).count() as f64 / part.len() as f64);
        shares.fold(1.0, f64::min)
    })
}

/// The decile error of values that are the means of what outcomes are drawn from: `outcome` draws that of a row.
pub fn decile_error(value: &[f64], outcome: impl Fn(usize, &mut Rng) -> f64) -> Luck {
    let order = ordered(value);
    let bins = equal_mass(&order, 10);
    let said: Vec<f64> = bins.iter().map(|rows| rows.iter().map(|row| value[*row]).sum()).collect();
    over_draws(|random| {
        let mut total = 0.0;
        let mut gap = 0.0;
        for (rows, said) in bins.iter().zip(&said) {
            let drawn: f64 = rows.iter().map(|row| outcome(*row, random)).sum();
            gap += (said - drawn).abs() / rows.len() as f64;
            total += drawn;
        }
        gap / bins.len() as f64 / (total / value.len() as f64)
    })
}

/// Draws of outcomes around values of which nothing but the outcomes themselves is known: those of the same tenth by
/// value, scaled to its mean.
pub fn resampled<'a>(actual: &'a [f64], value: &'a [f64]) -> impl Fn(usize, &mut Rng) -> f64 + 'a {
    let order = ordered(value);
    let mut tenth_of = vec![0; value.len()];
    let mut tenths: Vec<(Vec<f64>, f64)> = Vec::new();
    for rows in equal_mass(&order, 10) {
        let outcomes: Vec<f64> = rows.iter().map(|row| actual[*row]).collect();
        let was: f64 = outcomes.iter().sum();
        let said: f64 = rows.iter().map(|row| value[*row]).sum();
        for row in rows {
            tenth_of[*row] = tenths.len();
        }
        tenths.push((outcomes, if was > 0.0 { said / was } else { 0.0 }));
    }
    move |row, random| {
        let (outcomes, factor) = &tenths[tenth_of[row]];
        factor * outcomes[random.usize(..outcomes.len())]
    }
}

fn ordered(by: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..by.len()).collect();
    order.sort_by(|a, b| by[*a].total_cmp(&by[*b]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::metrics;

    #[test]
    fn right_probabilities_err_by_what_their_number_lets_them() {
        // The mean gap of a bin of n coins is sqrt(2 / pi) of its standard error, 0.5 / sqrt(n).
        let expected = |n: f64| (2.0 / std::f64::consts::PI).sqrt() * 0.5 / (n / 10.0).sqrt();
        for n in [1000, 16_000] {
            let luck = calibration_error(&vec![0.5; n]);
            assert!((luck.mean / expected(n as f64) - 1.0).abs() < 0.1, "{luck:?}");
            assert!(luck.low < luck.mean && luck.mean < luck.high);
            assert_eq!(luck, calibration_error(&vec![0.5; n]), "a run repeats");
        }
        // What weighs nothing adds nothing.
        let weights: Vec<f64> = (0..2000).map(|row| f64::from(u8::from(row % 2 == 0))).collect();
        let half = weighted_calibration_error(&[0.5; 2000], &weights);
        assert!((half.mean / expected(1000.0) - 1.0).abs() < 0.15, "{half:?}");
        assert_eq!(calibration_error(&[0.0, 1.0]), Luck { mean: 0.0, low: 0.0, high: 0.0 });
    }

    #[test]
    fn a_drawn_figure_is_the_one_that_is_measured() {
        // All outcomes are one: the error is that of the values.
        let value: Vec<f64> = (0..1000).map(|row| f64::from(row % 7) + 0.5).collect();
        let luck = decile_error(&value, |_, _| 2.0);
        let measured = metrics::decile_error(&[2.0; 1000], &value);
        assert!((luck.mean - measured).abs() < 1e-12 && luck.low == luck.high, "{luck:?} {measured}");
    }

    #[test]
    fn coverage_scatters_like_a_binomial_share() {
        let luck = coverage(&[0.9; 400]);
        assert!((luck.mean - 0.9).abs() < 0.005, "{luck:?}");
        // Of ten parts of 40 the least lies below.
        let parts: Vec<Vec<usize>> = (0..10).map(|part| (part * 40..part * 40 + 40).collect()).collect();
        let least = least_coverage(&[0.9; 400], &parts);
        assert!(least.high < luck.mean && (0.75..0.87).contains(&least.mean), "{least:?}");
        // 1.645 times sqrt(0.09 / 400) is 0.025.
        assert!((luck.high - luck.low - 0.05).abs() < 0.015, "{luck:?}");
    }

    #[test]
    fn outcomes_without_a_distribution_are_drawn_from_their_like() {
        let value: Vec<f64> = (0..2000).map(|row| f64::from(row / 200) + 1.0).collect();
        let actual: Vec<f64> =
            value.iter().enumerate().map(|(row, value)| if row % 2 == 0 { 4.0 * value } else { 0.0 }).collect();
        let draw = resampled(&actual, &value);
        let mut random = Rng::with_seed(3);
        let mean = (0..4000).map(|_| draw(1999, &mut random)).sum::<f64>() / 4000.0;
        assert!((mean / 10.0 - 1.0).abs() < 0.1, "{mean}: twice too much is scaled to the value");
        let luck = decile_error(&value, draw);
        assert!(luck.low > 0.0 && luck.high < 0.15, "{luck:?}");
    }
}
