//! How sure the figures are: customers are drawn again with replacement, and every model is measured on the same draws.
//!
//! A draw is a number of copies of each customer, so that what takes time, sorting, is done once for each model.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use scoreline::packing::metrics;

/// The measured figures, in the order of the table.
pub(super) const FIGURES: usize = 6;

/// Share of the draws that lies within an interval.
const LEVEL: f64 = 0.95;

/// A figure with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// A model's figures: normalised Gini, Spearman, RMSE, MAE, total error, decile error.
pub(super) type Figures = [Estimate; FIGURES];

/// A model's figures, and how far they are from those of the last model, draw by draw.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub figures: Figures,
    pub beside_last: Figures,
}

/// Measures every prediction of the same outcomes.
pub(super) fn measure(actual: &[f64], predictions: &[&[f64]], resamples: usize, seed: u64) -> Vec<Measured> {
    let models: Vec<_> = predictions.iter().map(|predicted| Model::new(actual, predicted)).collect();
    let points: Vec<_> = predictions.iter().map(|predicted| figures(actual, predicted)).collect();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut draws: Vec<Vec<[f64; FIGURES]>> = vec![Vec::with_capacity(resamples); models.len()];
    for _ in 0..resamples {
        let mut copies = vec![0_u32; actual.len()];
        for _ in 0..actual.len() {
            copies[random.random_range(0..actual.len())] += 1;
        }
        for (model, draws) in models.iter().zip(&mut draws) {
            draws.push(model.figures(&copies));
        }
    }
    let beside = |of: &[f64; FIGURES], last: &[f64; FIGURES]| std::array::from_fn(|i| of[i] - last[i]);
    let (Some(last_point), Some(last_draws)) = (points.last(), draws.last()) else { return Vec::new() };
    let measured = points.iter().zip(&draws).map(|(point, draws)| {
        let differences: Vec<_> = draws.iter().zip(last_draws).map(|(of, last)| beside(of, last)).collect();
        Measured { figures: estimate(point, draws), beside_last: estimate(&beside(point, last_point), &differences) }
    });
    measured.collect()
}

fn figures(actual: &[f64], predicted: &[f64]) -> [f64; FIGURES] {
    [
        metrics::normalized_gini(actual, predicted),
        metrics::spearman(actual, predicted),
        metrics::rmse(actual, predicted),
        metrics::mae(actual, predicted),
        metrics::total_error(actual, predicted),
        metrics::decile_error(actual, predicted),
    ]
}

fn estimate(point: &[f64; FIGURES], draws: &[[f64; FIGURES]]) -> Figures {
    std::array::from_fn(|i| {
        let mut drawn: Vec<f64> = draws.iter().map(|figures| figures[i]).filter(|figure| !figure.is_nan()).collect();
        drawn.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| drawn.get((share * drawn.len() as f64) as usize).copied().unwrap_or(f64::NAN);
        Estimate { value: point[i], low: at((1.0 - LEVEL) / 2.0), high: at(f64::midpoint(1.0, LEVEL)) }
    })
}

/// Outcomes and predictions of a model, sorted once.
struct Model<'a> {
    actual: &'a [f64],
    predicted: &'a [f64],
    by_actual: Ties,
    by_prediction: Ties,
}

/// Positions in ascending order, in runs of equal values.
struct Ties {
    order: Vec<usize>,
    /// Where a run ends.
    ends: Vec<usize>,
}

impl Ties {
    fn new(values: &[f64]) -> Self {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
        let mut end = 0;
        let runs = order.chunk_by(|a, b| values[*a].total_cmp(&values[*b]).is_eq());
        let ends = runs.map(|run| {
            end += run.len();
            end
        });
        let ends = ends.collect();
        Self { order, ends }
    }

    fn runs(&self) -> impl DoubleEndedIterator<Item = &[usize]> {
        let start = |i: usize| if i == 0 { 0 } else { self.ends[i - 1] };
        (0..self.ends.len()).map(move |i| &self.order[start(i)..self.ends[i]])
    }

    /// Twice the area under the cumulated gain of the descending order, the copies of a run sharing their mean outcome.
    fn area(&self, actual: &[f64], copies: &[u32]) -> f64 {
        let mut cumulated = 0.0;
        let mut area = 0.0;
        for run in self.runs().rev() {
            let mut count = 0.0;
            let mut sum = 0.0;
            for &i in run {
                count += f64::from(copies[i]);
                sum += f64::from(copies[i]) * actual[i];
            }
            area += 2.0 * count * cumulated + sum * (count + 1.0);
            cumulated += sum;
        }
        area
    }

    /// Ranks of all positions, ties sharing their mean rank.
    fn ranks(&self, copies: &[u32]) -> Vec<f64> {
        let mut ranks = vec![0.0; copies.len()];
        let mut below = 0.0;
        for run in self.runs() {
            let count: f64 = run.iter().map(|i| f64::from(copies[*i])).sum();
            for &i in run {
                ranks[i] = below + f64::midpoint(count, 1.0);
            }
            below += count;
        }
        ranks
    }
}

impl<'a> Model<'a> {
    fn new(actual: &'a [f64], predicted: &'a [f64]) -> Self {
        Self { actual, predicted, by_actual: Ties::new(actual), by_prediction: Ties::new(predicted) }
    }

    /// What `figures` gives for rows repeated as often as `copies` says.
    fn figures(&self, copies: &[u32]) -> [f64; FIGURES] {
        let mut n = 0.0;
        let mut actual = 0.0;
        let mut predicted = 0.0;
        let mut absolute = 0.0;
        let mut square = 0.0;
        for ((y, p), copies) in self.actual.iter().zip(self.predicted).zip(copies) {
            let copies = f64::from(*copies);
            n += copies;
            actual += copies * y;
            predicted += copies * p;
            absolute += copies * (y - p).abs();
            square += copies * (y - p).powi(2);
        }
        let gini = |ties: &Ties| ties.area(self.actual, copies) / (actual * n) - 1.0;
        [
            gini(&self.by_prediction) / gini(&self.by_actual),
            self.spearman(copies, n),
            (square / n).sqrt(),
            absolute / n,
            predicted / actual - 1.0,
            self.decile_error(copies, actual / n),
        ]
    }

    fn spearman(&self, copies: &[u32], n: f64) -> f64 {
        let a = self.by_actual.ranks(copies);
        let p = self.by_prediction.ranks(copies);
        let mean = f64::midpoint(n, 1.0);
        let mut both = 0.0;
        let mut of_actual = 0.0;
        let mut of_predicted = 0.0;
        for ((a, p), copies) in a.iter().zip(&p).zip(copies) {
            let (a, p, copies) = (a - mean, p - mean, f64::from(*copies));
            both += copies * a * p;
            of_actual += copies * a * a;
            of_predicted += copies * p * p;
        }
        both / (of_actual * of_predicted).sqrt()
    }

    fn decile_error(&self, copies: &[u32], mean: f64) -> f64 {
        let n: usize = copies.iter().map(|copies| *copies as usize).sum();
        let mut bin = 1;
        let mut place = 0;
        let mut rows = 0.0;
        let mut gap = 0.0;
        let mut total = 0.0;
        let mut bins = 0.0;
        for &i in &self.by_prediction.order {
            for _ in 0..copies[i] {
                rows += 1.0;
                gap += self.predicted[i] - self.actual[i];
                place += 1;
                while bin <= 10 && place >= bin * n / 10 {
                    if rows > 0.0 {
                        total += (gap / rows).abs();
                        bins += 1.0;
                        (rows, gap) = (0.0, 0.0);
                    }
                    bin += 1;
                }
            }
        }
        total / bins / mean
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Skewed outcomes with many zeros, predictions that know something of them, some of them equal.
    fn data(n: usize) -> (Vec<f64>, Vec<f64>) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let rows = (0..n).map(|_| {
            let known: f64 = (random.random::<f64>() * 20.0).round();
            let spent = if random.random_bool(0.4) { known * random.random::<f64>() * 3.0 + 0.1 } else { 0.0 };
            (spent, known + 0.5)
        });
        rows.unzip()
    }

    #[test]
    fn copies_count_like_repeated_rows() {
        let (actual, predicted) = data(57);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
        for draw in 0..50 {
            let copies: Vec<u32> = (0..57).map(|_| if draw == 0 { 1 } else { random.random_range(0..4) }).collect();
            let repeat = |of: &[f64]| -> Vec<f64> {
                of.iter().zip(&copies).flat_map(|(value, n)| vec![*value; *n as usize]).collect()
            };
            let expected = figures(&repeat(&actual), &repeat(&predicted));
            let found = Model::new(&actual, &predicted).figures(&copies);
            for (a, b) in found.iter().zip(expected) {
                assert!((a - b).abs() < 1e-9, "{found:?} is not {expected:?}");
            }
        }
    }

    #[test]
    fn intervals_hold_the_figure_and_the_last_model_is_no_way_from_itself() {
        let (actual, predicted) = data(400);
        let blind: Vec<f64> = (0..400).map(|i| f64::from(i % 7)).collect();
        let measured = measure(&actual, &[&blind, &predicted], 200, 1);
        // All but the decile error, which noise can only enlarge.
        for estimate in measured.iter().flat_map(|measured| measured.figures[..5].to_vec()) {
            assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{estimate:?}");
        }
        let again = measure(&actual, &[&blind, &predicted], 200, 1);
        assert_eq!(format!("{measured:?}"), format!("{again:?}"), "the seed decides");
        let [blind, good] = &measured[..] else { panic!("two models") };
        assert!(good.beside_last.iter().all(|d| *d == Estimate { value: 0.0, low: 0.0, high: 0.0 }));
        assert!(blind.beside_last[0].high < 0.0, "{:?}", blind.beside_last[0]);
        // A mean of n numbers: the interval is about 2 * 1.96 standard errors wide.
        let n = actual.len() as f64;
        let errors: Vec<f64> = actual.iter().zip(&predicted).map(|(a, p)| (a - p).abs()).collect();
        let mean = errors.iter().sum::<f64>() / n;
        let error = (errors.iter().map(|e| (e - mean).powi(2)).sum::<f64>() / n / n).sqrt();
        let width = good.figures[3].high - good.figures[3].low;
        assert!((width / (2.0 * 1.96 * error) - 1.0).abs() < 0.2, "{width} {error}");
    }
}
