//! `[outputs]`: which model output means what, and the last steps to dollars or a probability.

use serde::{Deserialize, Serialize};

/// Which model output means what. `value` (or `probability` for a lead model) is required.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    /// Expected spend over the horizon, US dollars.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Output>,
    /// Probability of no purchase within the horizon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Output>,
    /// Bounds from quantile outputs, where the model has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<Output>,
    /// Mean and standard deviation of ln(spend) given any spend: with `risk`, the whole predictive distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_mean: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_sigma: Option<Output>,
    /// Lead models: probability of conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<Output>,
}

/// A model output by name, with what is still to be done to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Output {
    /// The column as it is.
    Name(String),
    Mapped(MappedOutput),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappedOutput {
    pub output: String,
    #[serde(default)]
    pub apply: Apply,
    /// Recalibration, after `apply`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curve: Option<Curve>,
}

/// A last step from a model's own scale to dollars or a probability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Apply {
    #[default]
    Identity,
    /// e^x, for models of ln(spend).
    Exp,
    /// e^x - 1, for models of ln(1 + spend).
    Expm1,
    /// 1 - x, for a probability of purchase served as a risk.
    Complement,
    /// 1 / (1 + e^-x), for a raw margin.
    Sigmoid,
}

impl Apply {
    pub fn to(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Exp => x.exp(),
            Self::Expm1 => x.exp_m1(),
            Self::Complement => 1.0 - x,
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
}

impl Output {
    pub fn name(&self) -> &str {
        match self {
            Self::Name(name) => name,
            Self::Mapped(mapped) => &mapped.output,
        }
    }

    pub fn apply(&self) -> Apply {
        match self {
            Self::Name(_) => Apply::Identity,
            Self::Mapped(mapped) => mapped.apply,
        }
    }

    pub fn curve(&self) -> Option<&Curve> {
        match self {
            Self::Name(_) => None,
            Self::Mapped(mapped) => mapped.curve.as_ref(),
        }
    }
}

/// A rising piecewise-linear map through the points `(x, y)`, flat beyond the first and the last: what an isotonic
/// regression (Zadrozny & Elkan 2002) or a hand-made table says about a model's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Points", into = "Points")]
pub struct Curve {
    x: Box<[f64]>,
    y: Box<[f64]>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Points {
    x: Vec<f64>,
    y: Vec<f64>,
}

/// Points that are no curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a curve needs as many `y` as `x`, at least one, all finite, `x` rising and `y` never falling")]
pub struct NoCurve;

impl Curve {
    /// # Errors
    /// When the points do not make a rising curve.
    pub fn new(x: Vec<f64>, y: Vec<f64>) -> Result<Self, NoCurve> {
        let finite = x.iter().chain(&y).all(|number| number.is_finite());
        let rising = x.windows(2).all(|pair| pair[0] < pair[1]) && y.windows(2).all(|pair| pair[0] <= pair[1]);
        if x.is_empty() || x.len() != y.len() || !finite || !rising {
            return Err(NoCurve);
        }
        Ok(Self { x: x.into(), y: y.into() })
    }

    /// The curve at `x`; not a number stays not a number.
    pub fn at(&self, x: f64) -> f64 {
        let above = self.x.partition_point(|knot| *knot <= x);
        if x.is_nan() {
            return x;
        }
        match (above.checked_sub(1), self.x.get(above)) {
            (None, _) => self.y[0],
            (Some(below), None) => self.y[below],
            (Some(below), Some(next)) => {
                let share = (x - self.x[below]) / (next - self.x[below]);
                self.y[below] + share * (self.y[above] - self.y[below])
            }
        }
    }
}

impl TryFrom<Points> for Curve {
    type Error = NoCurve;

    fn try_from(points: Points) -> Result<Self, NoCurve> {
        Self::new(points.x, points.y)
    }
}

impl From<Curve> for Points {
    fn from(curve: Curve) -> Self {
        Self { x: curve.x.into(), y: curve.y.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_interpolates_and_is_flat_beyond_its_ends() {
        let curve = Curve::new(vec![1.0, 2.0, 4.0], vec![10.0, 20.0, 20.0]).expect("rising");
        let at: Vec<f64> = [0.0, 1.0, 1.25, 2.0, 3.0, 9.0].into_iter().map(|x| curve.at(x)).collect();
        assert_eq!(at, [10.0, 10.0, 12.5, 20.0, 20.0, 20.0]);
        assert!(curve.at(f64::NAN).is_nan());
        assert_eq!(Curve::new(vec![3.0], vec![0.5]).expect("one point").at(7.0), 0.5);
    }

    #[test]
    fn points_that_are_no_curve_are_refused() {
        for (x, y) in [
            (vec![], vec![]),
            (vec![1.0], vec![1.0, 2.0]),
            (vec![1.0, 1.0], vec![1.0, 2.0]),
            (vec![1.0, 2.0], vec![2.0, 1.0]),
            (vec![1.0, f64::INFINITY], vec![1.0, 2.0]),
        ] {
            assert_eq!(Curve::new(x, y), Err(NoCurve));
        }
        let text = r#"{"output":"p","curve":{"x":[0.0,1.0],"y":[0.1,0.9]}}"#;
        let output: Output = serde_json::from_str(text).expect("reads");
        assert_eq!(output.curve().map(|curve| curve.at(0.5)), Some(0.5));
        assert_eq!(
            serde_json::to_string(&output).expect("writes"),
            text.replace(r#","curve"#, r#","apply":"identity","curve"#)
        );
    }
}
