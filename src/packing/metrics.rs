//! How good predictions are, on rows that neither fitted nor calibrated them.

/// Gini of the predicted order over the Gini of the perfect order, as `google/lifetime_value` computes it; ties share
/// their mean outcome.
pub fn normalized_gini(actual: &[f64], predicted: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..actual.len()).collect();
    order.sort_by(|a, b| predicted[*b].total_cmp(&predicted[*a]));
    let mut gains = Vec::with_capacity(order.len());
    for group in order.chunk_by(|a, b| predicted[*a].total_cmp(&predicted[*b]).is_eq()) {
        let mean = group.iter().map(|i| actual[*i]).sum::<f64>() / group.len() as f64;
        gains.extend(std::iter::repeat_n(mean, group.len()));
    }
    let mut perfect = actual.to_vec();
    perfect.sort_by(|a, b| b.total_cmp(a));
    gini(&gains) / gini(&perfect)
}

/// Twice the area under the cumulative gain, minus one.
fn gini(in_order: &[f64]) -> f64 {
    let total: f64 = in_order.iter().sum();
    let mut cumulated = 0.0;
    let area = in_order.iter().fold(0.0, |area, gain| {
        cumulated += gain / total;
        area + cumulated
    });
    2.0 * area / in_order.len() as f64 - 1.0
}

/// Sum of predictions over sum of outcomes, minus one.
pub fn total_error(actual: &[f64], predicted: &[f64]) -> f64 {
    predicted.iter().sum::<f64>() / actual.iter().sum::<f64>() - 1.0
}

/// Mean difference between predicted and actual decile means, deciles by prediction, over the overall mean.
pub fn decile_error(actual: &[f64], predicted: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..actual.len()).collect();
    order.sort_by(|a, b| predicted[*a].total_cmp(&predicted[*b]));
    let mean = |of: &[f64], rows: &[usize]| rows.iter().map(|i| of[*i]).sum::<f64>() / rows.len() as f64;
    let bins = equal_mass(&order, 10);
    let gap = bins.iter().map(|rows| (mean(predicted, rows) - mean(actual, rows)).abs()).sum::<f64>();
    gap / bins.len() as f64 / mean(actual, &order)
}

pub fn rmse(actual: &[f64], predicted: &[f64]) -> f64 {
    let square = actual.iter().zip(predicted).map(|(a, p)| (a - p).powi(2)).sum::<f64>();
    (square / actual.len() as f64).sqrt()
}

/// Mean absolute error. Predicting the median wins it, however wrong the total then is.
pub fn mae(actual: &[f64], predicted: &[f64]) -> f64 {
    actual.iter().zip(predicted).map(|(a, p)| (a - p).abs()).sum::<f64>() / actual.len() as f64
}

/// Rank correlation; ties share their mean rank.
pub fn spearman(actual: &[f64], predicted: &[f64]) -> f64 {
    let a = ranks(actual);
    let p = ranks(predicted);
    let mean = f64::midpoint(actual.len() as f64, 1.0);
    let covariance: f64 = a.iter().zip(&p).map(|(a, p)| (a - mean) * (p - mean)).sum();
    let square = |ranks: &[f64]| ranks.iter().map(|rank| (rank - mean).powi(2)).sum::<f64>();
    covariance / (square(&a) * square(&p)).sqrt()
}

/// Probability that a positive row scores above a negative one, ties counted half.
pub fn auc(positive: &[bool], score: &[f64]) -> f64 {
    let ranks = ranks(score);
    let positives = positive.iter().filter(|is| **is).count() as f64;
    let negatives = positive.len() as f64 - positives;
    let sum: f64 = ranks.iter().zip(positive).filter(|(_, is)| **is).map(|(rank, _)| rank).sum();
    (sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)
}

/// Expected calibration error over ten bins of equal mass.
pub fn calibration_error(happened: &[bool], probability: &[f64]) -> f64 {
    let mut order: Vec<usize> = (0..happened.len()).collect();
    order.sort_by(|a, b| probability[*a].total_cmp(&probability[*b]));
    let gap = equal_mass(&order, 10).into_iter().map(|rows| {
        let said: f64 = rows.iter().map(|i| probability[*i]).sum();
        let was = rows.iter().filter(|i| happened[**i]).count() as f64;
        (said - was).abs()
    });
    gap.sum::<f64>() / happened.len() as f64
}

/// Winkler's interval score: the width, plus 2 / (1 - level) for every dollar outside. Lower is better.
pub(crate) fn interval_score(actual: &[f64], intervals: &[(f64, f64)], level: f64) -> f64 {
    let penalty = 2.0 / (1.0 - level);
    let scores = actual
        .iter()
        .zip(intervals)
        .map(|(y, (low, high))| (high - low) + penalty * ((low - y).max(0.0) + (y - high).max(0.0)));
    scores.sum::<f64>() / actual.len() as f64
}

/// Share of outcomes inside their interval.
pub(crate) fn coverage<'a>(rows: impl IntoIterator<Item = (&'a f64, &'a (f64, f64))>) -> f64 {
    let mut inside = 0.0;
    let mut all = 0.0;
    for (y, (low, high)) in rows {
        all += 1.0;
        inside += f64::from(u8::from(low <= y && y <= high));
    }
    inside / all
}

/// Positions of the tenth of rows with the largest predictions.
pub(crate) fn top_decile(predicted: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..predicted.len()).collect();
    order.sort_by(|a, b| predicted[*b].total_cmp(&predicted[*a]));
    order.truncate(predicted.len().div_ceil(10));
    order
}

pub(crate) fn equal_mass(order: &[usize], bins: usize) -> Vec<&[usize]> {
    let edge = |k: usize| k * order.len() / bins;
    (0..bins).map(|k| &order[edge(k)..edge(k + 1)]).filter(|rows| !rows.is_empty()).collect()
}

fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0.0;
    for tied in order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq()) {
        let n = tied.len() as f64;
        for row in tied {
            ranks[*row] = below + f64::midpoint(n, 1.0);
        }
        below += n;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn the_gini_is_one_for_the_perfect_order_and_minus_one_for_its_reverse() {
        let actual = [0.0, 1.0, 2.0, 7.0];
        near(normalized_gini(&actual, &[0.1, 0.2, 0.3, 0.4]), 1.0);
        // Cumulative gains of the perfect order: 0.7, 0.9, 1, 1 -> 2 * 3.6 / 4 - 1 = 0.8; of 1, 7, 2, 0:
        // 0.1, 0.8, 1, 1 -> 0.45.
        near(normalized_gini(&actual, &[1.0, 4.0, 2.0, 3.0]), 0.45 / 0.8);
        // Everything tied: every row counts 2.5, the gains are 0.25, 0.5, 0.75, 1.
        near(normalized_gini(&actual, &[5.0; 4]), 0.25 / 0.8);
    }

    #[test]
    fn errors_of_totals_and_deciles() {
        let actual: Vec<f64> = (1..=20).map(f64::from).collect();
        let predicted: Vec<f64> = actual.iter().map(|y| y * 1.1).collect();
        near(total_error(&actual, &predicted), 0.1);
        near(decile_error(&actual, &predicted), 0.1);
        near(rmse(&[0.0, 3.0], &[4.0, 0.0]), 12.5_f64.sqrt());
        near(mae(&[0.0, 3.0], &[4.0, 0.0]), 3.5);
    }

    #[test]
    fn ranks_share_ties() {
        near(spearman(&[1.0, 2.0, 3.0], &[10.0, 20.0, 30.0]), 1.0);
        near(spearman(&[1.0, 2.0, 3.0], &[30.0, 20.0, 10.0]), -1.0);
        near(auc(&[true, false, true, false], &[0.9, 0.1, 0.4, 0.4]), 0.875);
        near(auc(&[true, false], &[0.5, 0.5]), 0.5);
    }

    #[test]
    fn calibration_and_intervals() {
        let happened: Vec<bool> = (0..100).map(|i| i % 4 == 0).collect();
        near(calibration_error(&happened, &[0.35; 100]), 0.1 + 0.0);
        near(interval_score(&[5.0, 12.0], &[(0.0, 10.0), (0.0, 10.0)], 0.9), f64::midpoint(10.0, 50.0));
        near(coverage([5.0, 12.0].iter().zip(&[(0.0, 10.0), (0.0, 10.0)])), 0.5);
        assert_eq!(top_decile(&[1.0, 3.0, 2.0]), [1]);
    }
}
