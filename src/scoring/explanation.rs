//! Reason codes of an answer: which groups of features moved this customer's value away from the typical customer's, in
//! the unit that is served. How they are found is in `engine::inference::explain`.
//!
//! The typical customer has every feature at its training median. What is not known about a customer is left unknown
//! about the typical one too, so that both are answered by the same part of the model and nothing is said to come from
//! a value nobody gave.
//!
//! Explaining is extra work behind an answer that is already there. A cached answer is explained like a new one. One that
//! is not explained within `scoring.explain_budget` is given without reasons and with a warning. Native models
//! are explained on the request's thread, models of ONNX Runtime on theirs. What is written sums to the answer to the
//! cent.

use std::sync::Arc;
use std::time::Duration;

use super::task::Score;
use super::{Scored, Scorer};
use scoreline_domain::score::round;
use scoreline_domain::trace;
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Source};
use scoreline_engine::features::Value;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::{OutputColumn, ReadCustomer};
use scoreline_engine::inference::explain::groups::{self, CustomerQuestion, GroupShare, GroupShares};
use scoreline_engine::inference::explain::{Budget, Method, Unexplained};

/// Settings of explanations.
#[derive(Clone, Copy, Debug)]
pub struct ExplainSettings {
    /// Groups of features an answer names.
    pub top: usize,
    /// Time one may take.
    pub budget: Duration,
}

/// How much of an explanation is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// What each group of features did.
    Groups,
    /// What each of their features did, too.
    Members,
}

/// Why a value is not the typical customer's: `base` and all groups' amounts sum to `value`, to 1e-6 of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What the typical customer is answered.
    pub base: f64,
    pub value: f64,
    pub method: Method,
    /// Groups in which the customer differs from the typical one, largest first.
    pub groups: Vec<GroupContribution>,
}

/// What one group of features did.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupContribution {
    /// Position among the schema's groups.
    pub group: usize,
    /// The feature that by itself goes furthest the group's way, with the amount of the whole group.
    pub leading: Contribution,
    /// The group's features in which the customer differs, largest first; empty unless asked for. They sum to the group's
    /// amount.
    pub members: Vec<Contribution>,
}

/// What a feature, or the group it leads, did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Position in the schema.
    pub position: usize,
    /// The value that was given or follows from what was.
    pub given: f64,
    /// In the unit that is served.
    pub amount: f64,
}

/// An explanation as it is written: numbers of so many digits that sum exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundedExplanation {
    pub base: f64,
    /// The largest groups, all their amounts rounded.
    pub top: Vec<GroupContribution>,
    /// The sum of the others.
    pub others: f64,
}

/// Why an answer has no explanation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotExplained {
    /// A customer without history is answered from a baseline.
    ColdStart,
    /// The model could not answer: there is nothing of it to explain.
    Fallback,
    /// The answer is a recent score of this customer that other features or another version gave.
    AnotherScore,
    OutOfTime,
    ModelError,
}

impl NotExplained {
    /// The word behind `explain_not_available` in the warnings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ColdStart => "cold_start",
            Self::Fallback => "fallback",
            Self::AnotherScore => "another_score",
            Self::OutOfTime => "out_of_time",
            Self::ModelError => "model_error",
        }
    }
}

impl Scorer {
    /// Explains an answer: `scored` is what a question about `features` was answered, or about what is stored of
    /// `customer`. Counted by outcome and timed by method.
    ///
    /// # Errors
    /// Says why there is none. An answer never fails for want of an explanation.
    pub async fn explain<E: Score>(
        &self,
        features: Option<&[(&str, Option<Value<'_>>)]>,
        customer: Option<CustomerKey>,
        scored: &Scored<E>,
        detail: Detail,
    ) -> Result<Explanation, NotExplained> {
        let budget = Budget::of(self.parts.settings.explain.budget);
        let read = match features {
            Some(features) => scored.snapshot.read(features.iter().copied()).ok(),
            None => self.stored_as_of(&scored.snapshot, customer, scored.features_as_of),
        };
        let explained = answer(read, scored, detail, budget).await;
        let outcome = match &explained {
            Ok(explanation) => {
                metrics::histogram!("scoreline_explanation_duration_seconds", "method" => explanation.method.as_str())
                    .record(budget.spent().as_secs_f64());
                "explained"
            }
            Err(reason) => reason.as_str(),
        };
        metrics::counter!("scoreline_explanations_total", "outcome" => outcome).increment(1);
        trace::stage("explain");
        explained
    }

    /// The values that an answer was made from, as its model reads them, to explain it by later; `None` of one that is not the
    /// model's own. Arguments as for `explain`.
    pub fn row_behind<E: Score>(
        &self,
        features: Option<&[(&str, Option<Value<'_>>)]>,
        customer: Option<CustomerKey>,
        scored: &Scored<E>,
    ) -> Option<Box<[f64]>> {
        let snapshot = &scored.snapshot;
        let is_own = matches!(scored.source, Source::Model | Source::Cache) && scored.version == *snapshot.version();
        let read = match features.filter(|_| is_own) {
            Some(features) => snapshot.read(features.iter().copied()).ok(),
            None if is_own => self.stored_as_of(snapshot, customer, scored.features_as_of),
            None => None,
        };
        match read? {
            ReadCustomer::Known(given) => Some(given.raw.to_vec().into_boxed_slice()),
            ReadCustomer::New => None,
        }
    }

    /// Explains an earlier answer of a version that still serves: `amount` is what it said of `row`.
    ///
    /// # Errors
    /// Says why there is no explanation.
    pub async fn explain_row<E: Score>(
        &self,
        model: &ModelName,
        version: &ModelVersion,
        row: &[f64],
        amount: f64,
    ) -> Result<(Arc<ModelSnapshot>, Explanation), NotExplained> {
        let serving = self.parts.registry.serving(model);
        let snapshot = serving.filter(|snapshot| {
            snapshot.version() == version && snapshot.task() == E::TASK && snapshot.schema().len() == row.len()
        });
        let snapshot = snapshot.ok_or(NotExplained::AnotherScore)?;
        let budget = Budget::of(self.parts.settings.explain.budget);
        let explanation = explain(&snapshot, row, &snapshot.roles().value, E::in_unit, Detail::Groups, budget).await?;
        if is_of(&explanation, amount) { Ok((snapshot, explanation)) } else { Err(NotExplained::AnotherScore) }
    }

    /// How many groups of features an answer names.
    pub fn explain_top(&self) -> usize {
        self.parts.settings.explain.top
    }
}

async fn answer<E: Score>(
    read: Option<ReadCustomer>,
    scored: &Scored<E>,
    detail: Detail,
    budget: Budget,
) -> Result<Explanation, NotExplained> {
    match scored.source {
        Source::Model | Source::Cache => {}
        Source::ColdStart => return Err(NotExplained::ColdStart),
        Source::StaleCache | Source::Fallback => return Err(NotExplained::Fallback),
    }
    let snapshot = &scored.snapshot;
    // A customer's last score may be another version's or other features'.
    let Some(ReadCustomer::Known(given)) = read.filter(|_| scored.version == *snapshot.version()) else {
        return Err(NotExplained::AnotherScore);
    };
    let explanation = explain(snapshot, &given.raw, &snapshot.roles().value, E::in_unit, detail, budget).await?;
    if is_of(&explanation, scored.estimate.amount()) { Ok(explanation) } else { Err(NotExplained::AnotherScore) }
}

/// Whether it is this amount that is explained.
fn is_of(explanation: &Explanation, amount: f64) -> bool {
    (explanation.value - amount).abs() <= 1e-9 * amount.abs().max(1.0)
}

/// Explains one role of a model for a row of raw values (`NaN` is missing): dollars of a value, points of a probability.
/// `unit` turns what the bundle serves into them.
///
/// # Errors
/// When time is up, the model fails, or a number is not finite.
pub async fn explain(
    snapshot: &ModelSnapshot,
    raw: &[f64],
    column: &OutputColumn,
    unit: impl Fn(f64) -> f64 + Sync,
    detail: Detail,
    budget: Budget,
) -> Result<Explanation, NotExplained> {
    let (schema, engine) = (snapshot.schema(), snapshot.engine());
    let members = detail == Detail::Members;
    let served = |output| unit(column.last_steps(output));
    let question = CustomerQuestion { schema, engine, output: column.index(), served: &served, raw, members, budget };
    let GroupShares { base, value, method, groups } = groups::explain(question).await.map_err(|error| {
        let reason = match error {
            Unexplained::OutOfTime => NotExplained::OutOfTime,
            Unexplained::NotANumber | Unexplained::Backend(_) => NotExplained::ModelError,
        };
        tracing::debug!(model = %snapshot.name(), version = %snapshot.version(), reason = reason.as_str(), error = %error, "no explanation");
        reason
    })?;
    let contribution = |position: usize, amount: f64| Contribution { position, given: raw[position], amount };
    let group = |GroupShare { group, amount, leading, members }: GroupShare| {
        let mut members: Vec<_> =
            members.into_iter().map(|(position, amount)| contribution(position, amount)).collect();
        members.sort_by(largest_first);
        GroupContribution { group, leading: contribution(leading, amount), members }
    };
    let mut groups: Vec<_> = groups.into_iter().map(group).collect();
    // Stable: groups that did the same stay in the order of the schema.
    groups.sort_by(|left, right| largest_first(&left.leading, &right.leading));
    Ok(Explanation { base, value, method, groups })
}

fn largest_first(left: &Contribution, right: &Contribution) -> std::cmp::Ordering {
    right.amount.abs().total_cmp(&left.amount.abs())
}

impl Explanation {
    /// Rounds to `1 / scale` and keeps the sums: base, `top` groups and the others make exactly the rounded value, and the
    /// members of a group its rounded amount.
    ///
    /// It is the sums from the base on that are rounded, so no number is off by more than one last digit, a group's last
    /// member by two.
    pub fn written(&self, top: usize, scale: f64) -> RoundedExplanation {
        let shown = &self.groups[..top.min(self.groups.len())];
        let is_all = shown.len() == self.groups.len();
        let base = round(self.base, scale);
        let amounts: Vec<f64> = shown.iter().map(|group| group.leading.amount).collect();
        let (rounded, told) = steps((self.base, base), &amounts, is_all.then(|| round(self.value, scale)), scale);
        let top = shown.iter().zip(rounded).map(|(group, amount)| {
            let amounts: Vec<f64> = group.members.iter().map(|member| member.amount).collect();
            let (members, _) = steps((0.0, 0.0), &amounts, Some(amount), scale);
            let members = group.members.iter().zip(members);
            GroupContribution {
                group: group.group,
                leading: Contribution { amount, ..group.leading },
                members: members.map(|(member, amount)| Contribution { amount, ..*member }).collect(),
            }
        });
        RoundedExplanation { base, top: top.collect(), others: round(round(self.value, scale) - told, scale) }
    }
}

/// Amounts rounded so that every sum of the first of them is the rounded sum; with an `end`, all of them make it exactly.
/// `from` is what is summed up before, as it is and as it was told. Also what is told in the end.
fn steps((mut sum, mut told): (f64, f64), amounts: &[f64], end: Option<f64>, scale: f64) -> (Vec<f64>, f64) {
    let mut rounded = Vec::with_capacity(amounts.len());
    for (number, amount) in amounts.iter().enumerate() {
        sum += amount;
        let next = end.filter(|_| number + 1 == amounts.len()).unwrap_or_else(|| round(sum, scale));
        rounded.push(round(next - told, scale));
        told = next;
    }
    (rounded, told)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_sums_to_the_cent(
            base in 0.0..5000.0f64,
            amounts in proptest::collection::vec(-900.0..900.0f64, 0..12),
            top in 1..8usize,
        ) {
            let value = amounts.iter().fold(base, |sum, amount| sum + amount);
            let contribution = |(group, &amount)| GroupContribution {
                group,
                leading: Contribution { position: group, given: 1.0, amount },
                members: [0.31, 0.69].map(|part| Contribution { position: 0, given: 1.0, amount: part * amount }).into(),
            };
            let groups: Vec<_> = amounts.iter().enumerate().map(contribution).collect();
            let explanation = Explanation { base, value, method: Method::Exact, groups };
            let written = explanation.written(top, 100.0);
            let cents = |amount: f64| (amount * 100.0).round() as i64;
            let sum = cents(written.base) + cents(written.others)
                + written.top.iter().map(|group| cents(group.leading.amount)).sum::<i64>();
            prop_assert_eq!(sum, cents(value));
            for (written, exact) in written.top.iter().zip(&explanation.groups) {
                prop_assert!((written.leading.amount - exact.leading.amount).abs() <= 0.01 + 1e-9);
                let members: i64 = written.members.iter().map(|member| cents(member.amount)).sum();
                prop_assert_eq!(members, cents(written.leading.amount));
            }
            if top >= amounts.len() {
                prop_assert_eq!(written.others, 0.0);
            }
        }
    }
}
