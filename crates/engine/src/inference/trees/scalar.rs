//! The two number types an ONNX tree ensemble computes in.

use std::ops::{Add, Div};

use crate::inference::onnx_graph::graph::Number;

/// `f32` or `f64`: thresholds, leaf weights and sums of one ensemble.
pub(super) trait Scalar:
    Copy + PartialOrd + Add<Output = Self> + Div<Output = Self> + Send + Sync + std::fmt::Debug + 'static
{
    const ZERO: Self;
    const INFINITY: Self;
    const NEG_INFINITY: Self;
    /// What it is called where graphs name their types.
    const NUMBER: Number;

    /// The nearest number; exact when the value came from this type.
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    fn is_missing(self) -> bool;
    /// The largest number below this one.
    fn below(self) -> Self;
    fn order(&self, other: &Self) -> std::cmp::Ordering;
}

macro_rules! scalar {
    ($float:ty, $number:expr) => {
        impl Scalar for $float {
            const ZERO: Self = 0.0;
            const INFINITY: Self = <$float>::INFINITY;
            const NEG_INFINITY: Self = <$float>::NEG_INFINITY;
            const NUMBER: Number = $number;

            fn from_f64(value: f64) -> Self {
                value as Self
            }

            fn to_f64(self) -> f64 {
                self.into()
            }

            fn is_missing(self) -> bool {
                self.is_nan()
            }

            fn below(self) -> Self {
                self.next_down()
            }

            fn order(&self, other: &Self) -> std::cmp::Ordering {
                self.total_cmp(other)
            }
        }
    };
}

scalar!(f32, Number::Single);
scalar!(f64, Number::Double);
