//! Columns that a bundle derives from its features before the model reads them: ratios, products, indicators. What a
//! linear model cannot bend by itself it is given bent.

use serde::{Deserialize, Serialize};

use super::{FeatureFault, FeatureRule};

/// One `[[derived]]` entry of a bundle: the product of its factors, standardised like a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DerivedRule {
    pub name: String,
    pub factors: Vec<Factor>,
    /// Mean and standard deviation in training: the z-score.
    pub mean: f64,
    pub std: f64,
}

/// A function of one raw feature, or of one over another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    pub of: String,
    /// The feature it is set against, for the two ratios.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<String>,
    pub apply: Bend,
}

/// What is done to the raw value `x`, or to `x` over `y`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bend {
    Identity,
    /// `ln(1 + x)`.
    Log1p,
    /// `ln(max(x, 1))`, for counts.
    Ln,
    /// 1 where `x` is 1, else 0.
    IsOne,
    /// 1 where `x` is above 1, else 0.
    AboveOne,
    /// 0 where `x` is the feature's `never`, else 1.
    Happened,
    /// `x / max(y, 1)`.
    Ratio,
    /// `ln((1 + x) / (1 + y))`.
    LogRatio,
}

/// A derived column with the positions of what it is made from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Derived {
    factors: Box<[CompiledFactor]>,
    mean: f64,
    std: f64,
}

/// A factor with the positions of what it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
struct CompiledFactor {
    bend: Bend,
    of: usize,
    over: usize,
    /// The `never` of what it is of; infinite where that has none.
    never: f64,
}

impl Derived {
    /// # Errors
    /// Names the column and what is wrong with it.
    pub(super) fn compile(rule: &DerivedRule, features: &[FeatureRule]) -> Result<Self, FeatureFault> {
        let fault = |problem: String| FeatureFault { feature: rule.name.clone(), problem };
        if rule.factors.is_empty() || rule.factors.len() > 8 {
            return Err(fault("must have 1 to 8 `factors`".to_owned()));
        }
        if !rule.mean.is_finite() || !rule.std.is_finite() || rule.std <= 0.0 {
            return Err(fault("must have a finite `mean` and a `std` > 0".to_owned()));
        }
        let position = |name: &String| {
            let found = features.iter().position(|feature| feature.name == *name);
            found.ok_or_else(|| fault(format!("is made from `{name}`, which is not one of the features")))
        };
        let factors = rule.factors.iter().map(|factor| {
            let of = position(&factor.of)?;
            let over = match (&factor.over, factor.apply) {
                (Some(over), Bend::Ratio | Bend::LogRatio) => position(over)?,
                (None, Bend::Ratio | Bend::LogRatio) => {
                    return Err(fault("has a ratio without `over`".to_owned()));
                }
                (Some(_), _) => return Err(fault("has `over` beside something that is no ratio".to_owned())),
                (None, _) => of,
            };
            let never = features[of].never;
            if factor.apply == Bend::Happened && never.is_none() {
                let of = &factor.of;
                return Err(fault(format!("asks whether `{of}` has happened, which has no `never`")));
            }
            Ok(CompiledFactor { bend: factor.apply, of, over, never: never.unwrap_or(f64::INFINITY) })
        });
        Ok(Self { factors: factors.collect::<Result<_, _>>()?, mean: rule.mean, std: rule.std })
    }

    /// The column before the z-score; not a number when something it is made from is missing.
    pub(super) fn value(&self, raw: impl Fn(usize) -> f64) -> f64 {
        let at = |factor: &CompiledFactor| factor.bend.at(raw(factor.of), raw(factor.over), factor.never);
        self.factors.iter().map(at).product()
    }

    pub(super) fn standardised(&self, value: f64) -> f64 {
        (value - self.mean) / self.std
    }

    /// Positions of the features it is made from, each once.
    pub(super) fn sources(&self) -> Vec<usize> {
        let mut sources: Vec<usize> = self.factors.iter().flat_map(|factor| [factor.of, factor.over]).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}

impl Bend {
    fn at(self, x: f64, y: f64, never: f64) -> f64 {
        // `max` would take the number beside a value that is missing.
        if x.is_nan() || y.is_nan() {
            return f64::NAN;
        }
        match self {
            Self::Identity => x,
            Self::Log1p => x.ln_1p(),
            Self::Ln => x.max(1.0).ln(),
            Self::IsOne => f64::from(u8::from(x == 1.0)),
            Self::AboveOne => f64::from(u8::from(x > 1.0)),
            Self::Happened => f64::from(u8::from(x != never)),
            Self::Ratio => x / y.max(1.0),
            Self::LogRatio => x.ln_1p() - y.ln_1p(),
        }
    }
}
