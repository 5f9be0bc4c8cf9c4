//! Aumann-Shapley shares of functions of several numbers that move together from a reference to a row.
//!
//! On the straight line between them, each number's part is the integral of the function's slope in it (Aumann &
//! Shapley 1974; integrated gradients, Sundararajan, Taly & Yan 2017). What makes up a number additively, the terms
//! of a linear predictor or the shares of a tree's margin, gets its part of that.

/// Nodes and weights of the Gauss-Legendre rule of eight points on -1..1, the positive half.
const RULE: [(f64, f64); 4] = [
    (0.183_434_642_495_649_8, 0.362_683_783_378_362),
    (0.525_532_409_916_329, 0.313_706_645_877_887_3),
    (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
    (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
];
/// Most pieces the line is cut into between two kinks.
const MOST_PIECES: f64 = 64.0;

/// A number that moves from `from` to `to` and counts as no less than `floor` and no more than `ceiling`.
#[derive(Clone, Copy, Debug)]
pub(in crate::inference) struct Moving {
    pub(in crate::inference) from: f64,
    pub(in crate::inference) to: f64,
    pub(in crate::inference) floor: f64,
    pub(in crate::inference) ceiling: f64,
}

impl Moving {
    fn at(&self, part: f64) -> f64 {
        (self.from + part * (self.to - self.from)).clamp(self.floor, self.ceiling)
    }

    fn is_free(&self, part: f64) -> bool {
        let unheld = self.from + part * (self.to - self.from);
        self.floor < unheld && unheld < self.ceiling
    }

    /// Where on the way it meets its bounds.
    fn kinks(&self) -> [f64; 2] {
        [self.floor, self.ceiling].map(|bound| (bound - self.from) / (self.to - self.from))
    }
}

/// The mean slope of a function in each of its numbers on the way; a number held at a bound has none. `slopes` gives
/// the function's partial derivatives.
///
/// The line is cut at every kink, and so that no piece moves further than about 1: there eight points are exact to
/// rounding for logistics and exponentials.
pub(in crate::inference) fn mean_slopes<const N: usize>(
    numbers: [Moving; N],
    slopes: impl Fn([f64; N]) -> [f64; N],
) -> [f64; N] {
    let mut cuts: Vec<f64> = numbers.iter().flat_map(Moving::kinks).filter(|part| 0.0 < *part && *part < 1.0).collect();
    cuts.extend([0.0, 1.0]);
    cuts.sort_unstable_by(f64::total_cmp);
    let mut mean = [0.0; N];
    for cut in cuts.windows(2) {
        let start = cut[0];
        let length = cut[1] - cut[0];
        let free = numbers.map(|number| number.is_free(start + length / 2.0));
        let moved: f64 = numbers.iter().map(|number| (number.at(cut[1]) - number.at(start)).abs()).sum();
        let pieces = moved.ceil().clamp(1.0, MOST_PIECES);
        for piece in 0..pieces as u32 {
            let half = length / pieces / 2.0;
            let middle = start + (f64::from(piece) * 2.0 + 1.0) * half;
            each_node(|node, weight| {
                let at = slopes(numbers.map(|number| number.at(middle + half * node)));
                for ((mean, slope), free) in mean.iter_mut().zip(at).zip(free) {
                    *mean += if free { half * weight * slope } else { 0.0 };
                }
            });
        }
    }
    mean
}

/// The mean slopes of `softmax(scores)[class]` between two lists of scores.
pub(in crate::inference) fn softmax_slopes(from: &[f64], to: &[f64], class: usize) -> Vec<f64> {
    let furthest = from.iter().zip(to).map(|(from, to)| (to - from).abs()).fold(0.0, f64::max);
    let pieces = furthest.ceil().clamp(1.0, MOST_PIECES);
    let half = 0.5 / pieces;
    let mut mean = vec![0.0; from.len()];
    let mut powers = vec![0.0; from.len()];
    for piece in 0..pieces as u32 {
        let middle = (f64::from(piece) * 2.0 + 1.0) * half;
        each_node(|node, weight| {
            let part = middle + half * node;
            let scores = from.iter().zip(to).map(|(from, to)| from + part * (to - from));
            let highest = scores.clone().fold(f64::NEG_INFINITY, f64::max);
            for (power, score) in powers.iter_mut().zip(scores) {
                *power = (score - highest).exp();
            }
            let sum: f64 = powers.iter().sum();
            let own = powers[class] / sum;
            for (target, (mean, power)) in mean.iter_mut().zip(&powers).enumerate() {
                let same = if target == class { 1.0 } else { 0.0 };
                *mean += half * weight * own * (same - power / sum);
            }
        });
    }
    mean
}

fn each_node(mut visit: impl FnMut(f64, f64)) {
    for (node, weight) in RULE {
        visit(-node, weight);
        visit(node, weight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(from: f64, to: f64) -> Moving {
        Moving { from, to, floor: f64::MIN, ceiling: f64::MAX }
    }

    fn logistic(x: f64) -> f64 {
        1.0 / (1.0 + (-x).exp())
    }

    #[test]
    fn slopes_times_distance_is_the_difference() {
        let value = |[u, v]: [f64; 2]| logistic(u) * v.exp();
        let slopes = |[u, v]: [f64; 2]| [logistic(u) * logistic(-u) * v.exp(), logistic(u) * v.exp()];
        for (u, v) in [((-1.0, 2.0), (3.0, 5.0)), ((0.5, 0.5), (6.0, 2.0)), ((-9.0, 9.0), (4.0, 3.5))] {
            let [in_u, in_v] = mean_slopes([free(u.0, u.1), free(v.0, v.1)], slopes);
            let sum = in_u * (u.1 - u.0) + in_v * (v.1 - v.0);
            let difference = value([u.1, v.1]) - value([u.0, v.0]);
            assert!((sum - difference).abs() < 1e-11 * difference.abs(), "{sum} is not {difference}");
        }
    }

    #[test]
    fn a_number_at_its_bound_has_no_slope() {
        // u * v with u held at 1 from a quarter of the way on: v moves alone from then.
        let held = Moving { from: 0.0, to: 4.0, floor: -1.0, ceiling: 1.0 };
        let [in_u, in_v] = mean_slopes([held, free(2.0, 6.0)], |[u, v]| [v, u]);
        // In u: a quarter of the way at a mean v of 2.5. In v: u means 1/2 over a quarter, 1 over the rest.
        assert!((in_u - 0.625).abs() < 1e-12 && (in_v - 0.875).abs() < 1e-12, "{in_u} {in_v}");
        assert!((in_u * 4.0 + in_v * 4.0 - 6.0).abs() < 1e-12);
        let [outside] = mean_slopes([Moving { from: 2.0, to: 9.0, floor: -1.0, ceiling: 1.0 }], |[_]| [1.0]);
        assert_eq!(outside, 0.0);
    }

    #[test]
    fn a_softmax_is_split_over_its_scores() {
        let from = [0.0, 1.0, -2.0];
        let to = [3.0, -1.0, 0.5];
        let share =
            |scores: &[f64], class: usize| scores[class].exp() / scores.iter().map(|score| score.exp()).sum::<f64>();
        for class in 0..3 {
            let slopes = softmax_slopes(&from, &to, class);
            let sum: f64 = (0..3).map(|at| slopes[at] * (to[at] - from[at])).sum();
            assert!((sum - (share(&to, class) - share(&from, class))).abs() < 1e-12);
        }
    }
}
