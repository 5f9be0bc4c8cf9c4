//! First rows of a freshly loaded model: they touch every page before a request does, and show that the model has
//! something to answer inside its training range.

use super::bundle::{BundleError, ModelSnapshot, OutputColumn, run_rows};
use super::manifest::Task;
use crate::features::FeatureRule;
use scoreline_domain::Probability;

/// Rows drawn inside the training range, beside the fixed ones.
const DRAWN: usize = 8;

/// Runs rows at the edges of the training range, in the middle, with everything optional missing, and some drawn between.
///
/// # Errors
/// When the model cannot be run, an output that is read as a probability is none, or none of the rows gets finite numbers. Single rows may get none: drawn values need not
/// fit together, and live ones that get none are answered from the ladder.
pub fn warm(snapshot: &ModelSnapshot) -> Result<(), BundleError> {
    let rows = rows(&snapshot.manifest().features);
    let outputs = run_rows(snapshot, &rows)?;
    let names = snapshot.engine().outputs();
    let roles = snapshot.roles();
    let optional = [&roles.risk, &roles.low, &roles.high, &roles.log_mean, &roles.log_sigma];
    let columns: Vec<&OutputColumn> =
        std::iter::once(&roles.value).chain(optional.into_iter().filter_map(Option::as_ref)).collect();
    let probability = match snapshot.task() {
        Task::Clv => roles.risk.as_ref(),
        Task::Lead => Some(&roles.value),
    };
    if let Some(column) = probability {
        let mut said = outputs.chunks_exact(names.len()).map(|row| column.of(row)).filter(|said| said.is_finite());
        if let Some(value) = said.find(|said| Probability::read(*said).is_none()) {
            return Err(BundleError::NoProbability { output: names[column.index()].clone(), value });
        }
    }
    let mut unfit = None;
    for row in outputs.chunks_exact(names.len()) {
        match columns.iter().find(|column| !column.of(row).is_finite()) {
            None => return Ok(()),
            Some(column) => unfit = Some((names[column.index()].clone(), column.of(row))),
        }
    }
    unfit.map_or(Ok(()), |(output, value)| Err(BundleError::Output { output, value }))
}

/// `rows × features` raw values, row-major; `NaN` is missing, a category is its position.
fn rows(rules: &[FeatureRule]) -> Vec<f64> {
    let edges = |rule: &FeatureRule| match rule.categories.len() {
        0 if rule.min.is_finite() && rule.max.is_finite() => (rule.min, rule.max),
        0 => (0.0, 0.0),
        several => (0.0, (several - 1) as f64),
    };
    let between = |rule: &FeatureRule, share: f64| {
        let (low, high) = edges(rule);
        let value = low + (high - low) * share;
        if rule.categories.is_empty() { value } else { value.round() }
    };
    let mut rows = Vec::with_capacity((5 + DRAWN) * rules.len());
    for share in [0.0, 0.5, 1.0] {
        rows.extend(rules.iter().map(|rule| between(rule, share)));
    }
    rows.extend(rules.iter().enumerate().map(|(at, rule)| between(rule, (at % 2) as f64)));
    rows.extend(rules.iter().map(|rule| if rule.required { between(rule, 0.5) } else { f64::NAN }));
    // Always the same draws (a linear congruential generator): a model is not refused by luck.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    for _ in 0..DRAWN {
        rows.extend(rules.iter().map(|rule| between(rule, draw())));
    }
    rows
}
