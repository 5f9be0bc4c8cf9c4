//! Which customers fit a model, which calibrate it and which only measure it.

use serde::{Deserialize, Serialize};

/// A customer is in exactly one part, the same in every model and for every seed: the split is a hash of the id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// 60 %: coefficients, scaling, imputation, tiers.
    Fit,
    /// 25 %: interval residuals.
    Calibration,
    /// 15 %: the reported metrics, nothing else.
    Test,
}

impl Split {
    pub fn of(customer: u64) -> Self {
        match mix(customer ^ 0x7363_6f72_656c_696e) % 100 {
            0..60 => Self::Fit,
            60..85 => Self::Calibration,
            _ => Self::Test,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fit => "fit",
            Self::Calibration => "calibration",
            Self::Test => "test",
        }
    }
}

/// Steele, Lea & Flood's `SplitMix64` finaliser: every bit of the input reaches every bit of the output.
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_have_their_sizes() {
        let count = |split| (0..20_000).filter(|id| Split::of(*id) == split).count();
        assert!((11_800..12_200).contains(&count(Split::Fit)));
        assert!((4_850..5_150).contains(&count(Split::Calibration)));
        assert!((2_850..3_150).contains(&count(Split::Test)));
    }
}
