//! Purchase features that follow from others: a caller who gives the average and the count has given the total.

use super::FeatureRule;

/// One feature that can be worked out from others, by their positions in a schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Identity {
    pub target: usize,
    formula: Formula,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Formula {
    /// `total = average × count`.
    Total { average: usize, count: usize },
    /// `average = total / count`, for a customer with purchases.
    Average { total: usize, count: usize },
    /// `gap = (tenure - recency) / (count - 1)`, the tenure for a single purchase.
    Gap { tenure: usize, recency: usize, count: usize },
}

/// Which of a schema's features follow from which.
pub(super) fn identities(rules: &[FeatureRule]) -> Vec<Identity> {
    let at = |name: &str| rules.iter().position(|rule| rule.name == name);
    let count = at("purchase_count");
    // Beside interaction features `recency_days` is that of the last interaction.
    let recency =
        at("purchase_recency_days").or_else(|| at("recency_days").filter(|_| at("frequency_count").is_none()));
    let total = at("total_spend_usd");
    let average = at("monetary_avg");
    let tenure = at("tenure_days");
    let known = [
        total.zip(average).zip(count).map(|((target, average), count)| (target, Formula::Total { average, count })),
        average.zip(total).zip(count).map(|((target, total), count)| (target, Formula::Average { total, count })),
        at("purchase_gap_mean_days")
            .zip(tenure)
            .zip(recency)
            .zip(count)
            .map(|(((target, tenure), recency), count)| (target, Formula::Gap { tenure, recency, count })),
    ];
    known.into_iter().flatten().map(|(target, formula)| Identity { target, formula }).collect()
}

impl Identity {
    /// The value that follows from a raw row; not a number when something it needs is missing.
    pub(super) fn value(&self, raw: &[f64]) -> f64 {
        match self.formula {
            Formula::Total { average, count } => raw[average] * raw[count],
            Formula::Average { total, count } if raw[count] > 0.0 => raw[total] / raw[count],
            Formula::Gap { tenure, recency, count } if raw[count] > 1.0 => {
                let gap = (raw[tenure] - raw[recency]) / (raw[count] - 1.0);
                // A recency beyond the tenure is the caller's contradiction, not a gap below zero. Of one that is not known
                // `max` would make 0.
                if gap < 0.0 { 0.0 } else { gap }
            }
            Formula::Gap { tenure, count, .. } if raw[count] >= 0.0 => raw[tenure],
            Formula::Average { .. } | Formula::Gap { .. } => f64::NAN,
        }
    }

    /// Positions it needs.
    pub(super) fn sources(&self) -> impl Iterator<Item = usize> {
        let sources = match self.formula {
            Formula::Total { average, count } => [Some(average), Some(count), None],
            Formula::Average { total, count } => [Some(total), Some(count), None],
            Formula::Gap { tenure, recency, count } => [Some(tenure), Some(recency), Some(count)],
        };
        sources.into_iter().flatten()
    }
}
