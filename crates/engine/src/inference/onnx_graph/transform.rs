//! Score transforms of ONNX tree and linear models, computed in `f32` step by step as ONNX Runtime does: the tails of
//! a logistic differ visibly otherwise.

use std::f32::consts::{PI, SQRT_2};

/// `post_transform` of ONNX's tree and linear operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::inference) enum Transform {
    None,
    Logistic,
    Softmax,
    SoftmaxZero,
    Probit,
}

impl Transform {
    /// By its name in ai.onnx.ml 1-4; absent means none.
    pub(in crate::inference) fn named(name: Option<&[u8]>) -> Option<Self> {
        Some(match name {
            None | Some(b"NONE") => Self::None,
            Some(b"LOGISTIC") => Self::Logistic,
            Some(b"SOFTMAX") => Self::Softmax,
            Some(b"SOFTMAX_ZERO") => Self::SoftmaxZero,
            Some(b"PROBIT") => Self::Probit,
            Some(_) => return None,
        })
    }

    /// Transforms the scores of one row, two or more.
    pub(in crate::inference) fn apply(self, scores: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Logistic => each(scores, logistic),
            Self::Probit => each(scores, probit),
            Self::Softmax => softmax(scores),
            Self::SoftmaxZero => softmax_zero(scores),
        }
    }

    /// Transforms the only score of a row: ONNX Runtime leaves it as it is but for a probit.
    pub(in crate::inference) fn apply_single(self, score: f64) -> f64 {
        if self == Self::Probit { f64::from(probit(score as f32)) } else { score }
    }

    /// The scores of two classes from the second one's; `positive` scores count as probabilities when they are not
    /// transformed. Of the transforms ONNX Runtime applies only the logistic here.
    pub(in crate::inference) fn apply_pair(self, score: f64, positive: bool) -> [f64; 2] {
        let score = score as f32;
        let pair = match (self, positive) {
            (Self::Logistic, _) => [logistic(-score), logistic(score)],
            (_, true) => [1.0 - score, score],
            (_, false) => [-score, score],
        };
        pair.map(f64::from)
    }
}

/// 1 / (1 + e^-x), computed from the side that cannot overflow.
fn logistic(score: f32) -> f32 {
    let upper = 1.0 / (1.0 + (-score.abs()).exp());
    if score < 0.0 { 1.0 - upper } else { upper }
}

pub(in crate::inference) fn softmax(scores: &mut [f64]) {
    let highest = scores.iter().fold(-f32::MAX, |highest, &score| highest.max(score as f32));
    let mut sum = 0.0_f32;
    for score in &mut *scores {
        let power = (*score as f32 - highest).exp();
        sum += power;
        *score = f64::from(power);
    }
    each(scores, |power| power / sum);
}

/// A softmax that leaves scores of zero out of it.
fn softmax_zero(scores: &mut [f64]) {
    const ZERO: f32 = 1e-7;
    let highest = scores.iter().fold(-f32::MAX, |highest, &score| highest.max(score as f32));
    let mut sum = 0.0_f32;
    for score in &mut *scores {
        let value = *score as f32;
        let power = if value.abs() > ZERO {
            let power = (value - highest).exp();
            sum += power;
            power
        } else {
            value * (-highest).exp()
        };
        *score = f64::from(power);
    }
    each(scores, |power| power / sum);
}

/// The normal quantile, through the approximation of the inverse error function ONNX Runtime uses.
fn probit(probability: f32) -> f32 {
    const A: f32 = 0.147;
    let x = 2.0 * probability - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (PI * A) + 0.5 * log;
    let inverse = (-v + (v * v - 1.0 / A * log).sqrt()).sqrt();
    SQRT_2 * if x < 0.0 { -inverse } else { inverse }
}

fn each(scores: &mut [f64], transform: impl Fn(f32) -> f32) {
    for score in scores {
        *score = f64::from(transform(*score as f32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probit_undoes_the_normal_distribution() {
        // 97.5 % of a normal distribution lies below 1.96; the approximation is good to three digits.
        assert!((probit(0.975) - 1.96).abs() < 5e-3, "{}", probit(0.975));
        assert!((probit(0.5)).abs() < 1e-6);
        assert!((probit(0.025) + probit(0.975)).abs() < 1e-5);
    }

    #[test]
    fn a_softmax_sums_to_one_and_survives_large_scores() {
        let mut scores = [1000.0, 999.0, -1000.0];
        Transform::Softmax.apply(&mut scores);
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{scores:?}");
        assert!(scores[0] > scores[1] && scores[1] > scores[2], "{scores:?}");
    }

    #[test]
    fn a_softmax_zero_gives_a_zero_score_no_share() {
        let mut scores = [0.0, 2.0];
        Transform::SoftmaxZero.apply(&mut scores);
        assert_eq!(scores, [0.0, 1.0]);
    }

    #[test]
    fn a_lone_score_is_only_ever_probited() {
        assert_eq!(Transform::Logistic.apply_single(0.3).to_bits(), 0.3_f64.to_bits());
        assert!(Transform::Probit.apply_single(0.975) > 1.9);
    }
}
