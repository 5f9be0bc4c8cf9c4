//! Reason codes of an answer: which features moved this customer's value away from the typical customer's, in the unit
//! that is served.
//!
//! The typical customer has every feature at what the bundle imputes for it, else at its training mean. What is not
//! known about a customer and not imputed is left unknown about the typical one too, so that both are answered by the
//! same part of the model and nothing is said to come from a value nobody gave.
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
use scoreline_domain::{CustomerKey, ModelName, ModelVersion, Source};
use scoreline_engine::features::{FeatureSchema, Row, Value};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::{OutputColumn, ReadCustomer};
use scoreline_engine::inference::explain::{Budget, Method, Question, Unexplained};

/// Settings of explanations.
#[derive(Clone, Copy, Debug)]
pub struct ExplainSettings {
    /// Features an answer names.
    pub top: usize,
    /// Time one may take.
    pub budget: Duration,
}

/// Why a value is not the typical customer's: `base` and all contributions sum to `value`, to 1e-6 of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What the typical customer is answered.
    pub base: f64,
    pub value: f64,
    pub method: Method,
    /// One a feature of the schema, largest first.
    pub contributions: Vec<Contribution>,
}

/// What one feature did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Contribution {
    /// Position in the schema.
    pub position: usize,
    /// The value that was given, absent when it was not.
    pub given: Option<f64>,
    /// In the unit that is served.
    pub amount: f64,
}

/// An explanation as it is written: numbers of so many digits that sum exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundedExplanation {
    pub base: f64,
    /// The largest contributions, their amounts rounded.
    pub top: Vec<Contribution>,
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
    ) -> Result<Explanation, NotExplained> {
        let budget = Budget::of(self.parts.settings.explain.budget);
        let read = match features {
            Some(features) => scored.snapshot.read(features.iter().copied()).ok(),
            None => self.stored_as_of(&scored.snapshot, customer, scored.features_as_of),
        };
        let explained = answer(read, scored, budget).await;
        let outcome = match &explained {
            Ok(explanation) => {
                metrics::histogram!("scoreline_explanation_duration_seconds", "method" => explanation.method.as_str())
                    .record(budget.spent().as_secs_f64());
                "explained"
            }
            Err(reason) => reason.as_str(),
        };
        metrics::counter!("scoreline_explanations_total", "outcome" => outcome).increment(1);
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
        let explanation = explain(&snapshot, row, &snapshot.roles().value, E::in_unit, budget).await?;
        if is_of(&explanation, amount) { Ok((snapshot, explanation)) } else { Err(NotExplained::AnotherScore) }
    }

    /// How many features an answer names.
    pub fn explain_top(&self) -> usize {
        self.parts.settings.explain.top
    }
}

async fn answer<E: Score>(
    read: Option<ReadCustomer>,
    scored: &Scored<E>,
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
    let explanation = explain(snapshot, &given.raw, &snapshot.roles().value, E::in_unit, budget).await?;
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
    unit: impl Fn(f64) -> f64,
    budget: Budget,
) -> Result<Explanation, NotExplained> {
    let schema = snapshot.schema();
    let mut row: Row = smallvec::smallvec![0.0; schema.columns()];
    schema.prepare(raw, &mut row);
    let reference = typical(schema, &row);
    let question = Question { row: &row, reference: &reference, output: column.index(), budget };
    let shares = match snapshot.engine().explain(&question).await {
        Ok(mut shares) => {
            shares.through(|output| unit(column.last_steps(output)));
            shares.finite()
        }
        Err(error) => Err(error),
    };
    let shares = shares.map_err(|error| {
        let reason = match error {
            Unexplained::OutOfTime => NotExplained::OutOfTime,
            Unexplained::NotANumber | Unexplained::Backend(_) => NotExplained::ModelError,
        };
        tracing::debug!(model = %snapshot.name(), version = %snapshot.version(), reason = reason.as_str(), error = %error, "no explanation");
        reason
    })?;
    let amounts = by_feature(schema, &shares.columns);
    let amounts = amounts.iter().zip(raw).enumerate();
    let contribution = |(position, (&amount, raw)): (usize, (&f64, &f64))| Contribution {
        position,
        given: (!raw.is_nan()).then_some(*raw),
        amount,
    };
    let mut contributions: Vec<_> = amounts.map(contribution).collect();
    // Stable: features that did the same stay in the order of the schema.
    contributions.sort_by(|left, right| right.amount.abs().total_cmp(&left.amount.abs()));
    Ok(Explanation { base: shares.from, value: shares.to, method: shares.method, contributions })
}

/// What each feature did: its own column's share, and an equal part of each derived column it is a source of. A derived
/// column is no feature anybody could act on, and its sources act in it together.
fn by_feature(schema: &FeatureSchema, columns: &[f64]) -> Row {
    let (own, derived) = columns.split_at(schema.len());
    let mut amounts: Row = own.into();
    for (column, amount) in (schema.len()..).zip(derived) {
        let sources = schema.sources(column);
        for source in &sources {
            amounts[*source] += amount / sources.len() as f64;
        }
    }
    amounts
}

/// The row of the typical customer, as the model reads it, beside a prepared row.
fn typical(schema: &FeatureSchema, row: &[f64]) -> Row {
    let nothing: Row = smallvec::smallvec![f64::NAN; schema.len()];
    let mut typical: Row = smallvec::smallvec![0.0; row.len()];
    schema.prepare(&nothing, &mut typical);
    let means = schema.rules().iter().map(|rule| rule.mean).chain(schema.derived().iter().map(|rule| rule.mean));
    for ((typical, value), mean) in typical.iter_mut().zip(row).zip(means) {
        if value.is_nan() {
            *typical = f64::NAN;
        } else if typical.is_nan() {
            // Standardised, the training mean is zero.
            *typical = if schema.standardizes() { 0.0 } else { mean };
        }
    }
    typical
}

impl Explanation {
    /// Rounds to `1 / scale` and keeps the sum: base, `top` contributions and the others make exactly the rounded value.
    ///
    /// It is the sums from the base on that are rounded, so no number is off by more than one last digit.
    pub fn written(&self, top: usize, scale: f64) -> RoundedExplanation {
        let shown = &self.contributions[..top.min(self.contributions.len())];
        let is_all = shown.len() == self.contributions.len();
        let base = round(self.base, scale);
        let mut sum = self.base;
        let mut told = base;
        let mut top = Vec::with_capacity(shown.len());
        for (number, contribution) in shown.iter().enumerate() {
            sum = if is_all && number + 1 == shown.len() { self.value } else { sum + contribution.amount };
            let next = round(sum, scale);
            top.push(Contribution { amount: round(next - told, scale), ..*contribution });
            told = next;
        }
        RoundedExplanation { base, top, others: round(round(self.value, scale) - told, scale) }
    }
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
            let contribution = |(position, &amount)| Contribution { position, given: Some(1.0), amount };
            let contributions: Vec<_> = amounts.iter().enumerate().map(contribution).collect();
            let explanation = Explanation { base, value, method: Method::Path, contributions };
            let written = explanation.written(top, 100.0);
            let cents = |amount: f64| (amount * 100.0).round() as i64;
            let sum = cents(written.base) + cents(written.others)
                + written.top.iter().map(|contribution| cents(contribution.amount)).sum::<i64>();
            prop_assert_eq!(sum, cents(value));
            for (written, exact) in written.top.iter().zip(&explanation.contributions) {
                prop_assert!((written.amount - exact.amount).abs() <= 0.01 + 1e-9);
            }
            if top >= amounts.len() {
                prop_assert_eq!(written.others, 0.0);
            }
        }
    }
}
