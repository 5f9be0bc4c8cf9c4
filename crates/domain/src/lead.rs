//! What a lead's score is: its place in a frozen population, with the probability behind it.

use super::Probability;

/// One lead's score, as one model version sees it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LeadScore {
    /// 1 to 100: place of the probability in the bundle's reference population. 71 and above is its best 30 %.
    pub priority: u8,
    /// Calibrated probability of conversion.
    pub probability: Probability,
}
