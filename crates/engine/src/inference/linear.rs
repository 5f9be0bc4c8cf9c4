//! Linear models: scoreline's own JSON (hurdle, regression, logistic), read by the server and written by training.
//!
//! A model holds one or more *variants*, fitted on subsets of the bundle's features. The first variant whose
//! features are all present answers, so that one file serves callers with and without, say, purchase features, and
//! each of them gets coefficients that were fitted for exactly what they give. Rows come as the bundle prepares
//! them: transformed, z-scored where the bundle says so, `NaN` where a value is missing and not imputed.

use serde::{Deserialize, Serialize};

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::explain::path::{Moving, mean_slopes};
use super::explain::{Method, Question, Shares, Unexplained, sampling, settle, through};
use crate::features::FeatureSchema;

/// The format this file reads and writes.
pub const FORMAT: &str = "scoreline-linear/1";

/// The file: what training writes and the server reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum LinearModel {
    /// P(spend > 0) by logistic regression times E[spend | spend > 0] by regression of ln(spend).
    /// Outputs `value`, `risk`, `log_mean` and `log_sigma`.
    Hurdle { format: Format, variants: Vec<HurdleVariant> },
    /// One linear predictor behind a link. Output `value`, or `probability` for the logit link.
    Regression { format: Format, link: Link, variants: Vec<RegressionVariant> },
}

/// The version tag of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    #[default]
    #[serde(rename = "scoreline-linear/1")]
    V1,
}

/// From the linear predictor to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    Identity,
    /// `value = e^x`: Tweedie and gamma models.
    Log,
    /// `probability = 1 / (1 + e^-x)`.
    Logit,
}

/// A hurdle fitted on the features in `uses`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HurdleVariant {
    pub uses: Vec<String>,
    /// Log-odds of any purchase within the horizon.
    pub purchase: Predictor,
    /// Mean of ln(spend) given a purchase.
    pub spend: Predictor,
    /// From e^(mean of ln) to the mean: Duan's factor, about the mean of e^residual.
    pub smearing: f64,
    /// Standard deviation of ln(spend) around `spend`.
    pub sigma: f64,
}

/// A regression fitted on the features in `uses`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegressionVariant {
    pub uses: Vec<String>,
    pub predictor: Predictor,
}

/// `intercept + coefficients · features`, held within what training saw so that a wild input cannot overflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predictor {
    pub intercept: f64,
    /// In the order of the variant's `uses`.
    pub coefficients: Vec<f64>,
    /// Smallest and largest value of the predictor on the training rows.
    pub floor: f64,
    pub ceiling: f64,
}

impl LinearModel {
    /// # Errors
    /// When the bytes are not this format. What the model says is checked by `load`.
    pub fn read(bytes: &[u8]) -> Result<Self, BackendError> {
        serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))
    }

    /// The file's bytes; the same model always gives the same bytes.
    pub fn write(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("plain numbers and names always serialise");
        bytes.push(b'\n');
        bytes
    }

    /// The features of each variant, in order of preference.
    pub fn uses(&self) -> Vec<&[String]> {
        match self {
            Self::Hurdle { variants, .. } => variants.iter().map(|variant| variant.uses.as_slice()).collect(),
            Self::Regression { variants, .. } => variants.iter().map(|variant| variant.uses.as_slice()).collect(),
        }
    }
}

/// Reads a model for a bundle whose features are `features`, in column order.
///
/// A row that no variant can answer gets `NaN`; `load_with_schema` refuses a model that could meet such a row.
///
/// # Errors
/// Says which part of the file cannot be used.
pub fn load(bytes: &[u8], features: &[&str]) -> Result<Box<dyn Backend>, BackendError> {
    compile(LinearModel::read(bytes)?, features)
}

/// `load` for a bundle's own schema: the last variant may only use columns that are never missing, so that every
/// accepted request has an answer.
///
/// # Errors
/// As `load`; also names the column of the last variant that may be missing.
pub fn load_with_schema(bytes: &[u8], schema: &FeatureSchema) -> Result<Box<dyn Backend>, BackendError> {
    let model = LinearModel::read(bytes)?;
    let names: Vec<_> = schema.column_names().collect();
    let may_miss = |name: &str| names.iter().position(|other| *other == name).is_some_and(|at| schema.may_miss(at));
    if let Some(name) = model.uses().last().and_then(|uses| uses.iter().find(|name| may_miss(name))) {
        return Err(malformed(format!(
            "the last variant uses `{name}`, which may be missing: it must be required or imputed, or a variant \
             without it must follow"
        )));
    }
    compile(model, &names)
}

fn compile(model: LinearModel, features: &[&str]) -> Result<Box<dyn Backend>, BackendError> {
    let columns = all_columns(&model, features)?;
    match model {
        LinearModel::Hurdle { variants, .. } => {
            let variants = variants.into_iter().zip(columns).enumerate().map(hurdle).collect::<Result<_, _>>()?;
            Ok(Box::new(HurdleModel {
                inputs: features.len(),
                outputs: ["value", "risk", "log_mean", "log_sigma"].map(str::to_owned),
                variants,
            }))
        }
        LinearModel::Regression { link, variants, .. } => {
            let variants = variants.into_iter().zip(columns).enumerate().map(|variant| regression(link, variant));
            let output = match link {
                Link::Identity | Link::Log => "value",
                Link::Logit => "probability",
            };
            Ok(Box::new(RegressionModel {
                inputs: features.len(),
                outputs: [output.to_owned()],
                link,
                variants: variants.collect::<Result<_, _>>()?,
            }))
        }
    }
}

/// Where a variant's features stand in a row.
type Columns = Box<[usize]>;

struct HurdleModel {
    inputs: usize,
    outputs: [String; 4],
    variants: Vec<CompiledHurdle>,
}

struct CompiledHurdle {
    columns: Columns,
    purchase: Predictor,
    spend: Predictor,
    smearing: f64,
    sigma: f64,
}

struct RegressionModel {
    inputs: usize,
    outputs: [String; 1],
    link: Link,
    variants: Vec<(Columns, Predictor)>,
}

impl Backend for HurdleModel {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn variants(&self) -> Vec<Vec<usize>> {
        self.variants.iter().map(|variant| variant.columns.to_vec()).collect()
    }

    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        rows.fits(self.inputs, 4, out.len())?;
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(4)) {
            let answer = match self.variants.iter().find(|variant| present(&variant.columns, row)) {
                Some(variant) => variant.predict(row),
                None => [f64::NAN; 4],
            };
            out.copy_from_slice(&answer);
        }
        Ok(())
    }

    fn explain(&self, question: &Question<'_>) -> Result<Shares, Unexplained> {
        question.budget.check()?;
        let both = |variant: &&CompiledHurdle| answers_both(&variant.columns, question);
        match self.variants.iter().find(|variant| present(&variant.columns, question.row)).filter(both) {
            Some(variant) => variant.explain(question).finite(),
            None => sampling::explain(question, 4, |rows, out| self.predict(rows, out)),
        }
    }
}

impl CompiledHurdle {
    fn predict(&self, row: &[f64]) -> [f64; 4] {
        let log_odds = self.purchase.at(&self.columns, row);
        let log_mean = self.spend.at(&self.columns, row);
        // Each side computed on its own: 1 - p would lose the digits of a small risk.
        let buys = logistic(log_odds);
        let risk = logistic(-log_odds);
        [buys * self.smearing * log_mean.exp(), risk, log_mean, self.sigma]
    }

    /// The value is a function of two predictors: each term gets its part of both by the path integral. The other
    /// outputs are functions of one.
    fn explain(&self, question: &Question<'_>) -> Shares {
        let [from, to] = [question.reference, question.row].map(|row| self.predict(row));
        let mut players = vec![0.0; question.count()];
        let output = question.output;
        if output == 0 {
            let numbers = [&self.purchase, &self.spend].map(|predictor| predictor.moving(&self.columns, question));
            let [in_purchase, in_spend] = mean_slopes(numbers, |[log_odds, log_mean]| {
                let buys = logistic(log_odds);
                let spend = self.smearing * log_mean.exp();
                [buys * logistic(-log_odds) * spend, buys * spend]
            });
            self.purchase.add_terms(in_purchase, &self.columns, question, &mut players);
            self.spend.add_terms(in_spend, &self.columns, question, &mut players);
        } else if output < 3 {
            let (predictor, map): (_, fn(f64) -> f64) =
                if output == 1 { (&self.purchase, |x| logistic(-x)) } else { (&self.spend, |x| x) };
            predictor.explain(&self.columns, question, map, &mut players);
        }
        settle(&mut players, to[output] - from[output], from[output].abs().max(to[output].abs()));
        Shares { players, from: from[output], to: to[output], method: Method::Path }
    }
}

impl Backend for RegressionModel {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn variants(&self) -> Vec<Vec<usize>> {
        self.variants.iter().map(|(columns, _)| columns.to_vec()).collect()
    }

    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        rows.fits(self.inputs, 1, out.len())?;
        for (row, out) in rows.iter().zip(out) {
            *out = match self.variants.iter().find(|(columns, _)| present(columns, row)) {
                Some((columns, predictor)) => self.link.apply(predictor.at(columns, row)),
                None => f64::NAN,
            };
        }
        Ok(())
    }

    fn split(&self, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
        question.budget.check()?;
        let both = |(columns, _): &&(Columns, Predictor)| answers_both(columns, question);
        let Some((columns, predictor)) =
            self.variants.iter().find(|(columns, _)| present(columns, question.row)).filter(both)
        else {
            return Ok(None);
        };
        let mut shares = vec![0.0; question.count()];
        predictor.explain(columns, question, |x| self.link.apply(x), &mut shares);
        let [from, to] = [question.reference, question.row].map(|row| self.link.apply(predictor.at(columns, row)));
        settle(&mut shares, to - from, from.abs().max(to.abs()));
        let method = if self.link == Link::Identity { Method::Linear } else { Method::Path };
        Shares { players: shares, from, to, method }.finite().map(Some)
    }
}

impl Predictor {
    fn at(&self, columns: &[usize], row: &[f64]) -> f64 {
        self.unheld(columns, row).clamp(self.floor, self.ceiling)
    }

    /// Before it is held within its bounds.
    fn unheld(&self, columns: &[usize], row: &[f64]) -> f64 {
        let products = self.coefficients.iter().zip(columns).map(|(coefficient, &column)| coefficient * row[column]);
        self.intercept + products.sum::<f64>()
    }

    fn moving(&self, columns: &[usize], question: &Question<'_>) -> Moving {
        let [from, to] = [question.reference, question.row].map(|row| self.unheld(columns, row));
        Moving { from, to, floor: self.floor, ceiling: self.ceiling }
    }

    /// Adds `slope` times each feature's term.
    fn add_terms(&self, slope: f64, columns: &[usize], question: &Question<'_>, shares: &mut [f64]) {
        for (coefficient, &column) in self.coefficients.iter().zip(columns) {
            shares[question.players[column] as usize] +=
                slope * coefficient * (question.row[column] - question.reference[column]);
        }
    }

    /// The terms of `map` of this predictor: for one predictor the path integral is the chord's slope.
    fn explain(&self, columns: &[usize], question: &Question<'_>, map: impl Fn(f64) -> f64, shares: &mut [f64]) {
        self.add_terms(1.0, columns, question, shares);
        let Moving { from, to, floor, ceiling } = self.moving(columns, question);
        through(shares, (from, to), |x| map(x.clamp(floor, ceiling)));
    }

    fn check(&self, part: &str, variant: usize, features: usize) -> Result<(), BackendError> {
        let fault = |problem: String| Err(malformed(format!("`{part}` of variant {variant} {problem}")));
        if self.coefficients.len() != features {
            return fault(format!("has {} coefficients for {features} features", self.coefficients.len()));
        }
        let numbers = [self.intercept, self.floor, self.ceiling];
        if !numbers.iter().chain(&self.coefficients).all(|number| number.is_finite()) {
            return fault("holds a number that is not finite".to_owned());
        }
        if self.floor > self.ceiling {
            return fault(format!("has a floor of {} above its ceiling of {}", self.floor, self.ceiling));
        }
        Ok(())
    }
}

impl Link {
    fn apply(self, x: f64) -> f64 {
        match self {
            Self::Identity => x,
            Self::Log => x.exp(),
            Self::Logit => logistic(x),
        }
    }
}

/// The probability of log-odds `x`.
pub(super) fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn present(columns: &[usize], row: &[f64]) -> bool {
    columns.iter().all(|&column| !row[column].is_nan())
}

/// Whether the row's variant is the reference's too. One that lacks a value the row has may use another.
fn answers_both(columns: &[usize], question: &Question<'_>) -> bool {
    let lacks = |(row, reference): (&f64, &f64)| row.is_nan() == reference.is_nan();
    present(columns, question.reference) && question.row.iter().zip(question.reference).all(lacks)
}

fn malformed(reason: String) -> BackendError {
    BackendError::Malformed { format: FORMAT, reason }
}

/// Finds every variant's features and refuses a variant that could never answer.
fn all_columns(model: &LinearModel, features: &[&str]) -> Result<Vec<Columns>, BackendError> {
    let mut all: Vec<Columns> = Vec::new();
    for (uses, number) in model.uses().into_iter().zip(1..) {
        let mut columns = Vec::with_capacity(uses.len());
        for name in uses {
            let column = features.iter().position(|feature| feature == name).ok_or_else(|| {
                malformed(format!(
                    "variant {number} uses `{name}`, which is not a feature of this bundle: {}",
                    features.join(", ")
                ))
            })?;
            if columns.contains(&column) {
                return Err(malformed(format!("variant {number} uses `{name}` twice")));
            }
            columns.push(column);
        }
        if let Some(earlier) = all.iter().position(|earlier| earlier.iter().all(|column| columns.contains(column))) {
            return Err(malformed(format!(
                "variant {number} can never answer: variant {} needs nothing it does not use",
                earlier + 1
            )));
        }
        all.push(columns.into_boxed_slice());
    }
    if all.is_empty() {
        return Err(malformed("`variants` must hold at least one variant".to_owned()));
    }
    Ok(all)
}

fn hurdle((index, (variant, columns)): (usize, (HurdleVariant, Columns))) -> Result<CompiledHurdle, BackendError> {
    let number = index + 1;
    variant.purchase.check("purchase", number, columns.len())?;
    variant.spend.check("spend", number, columns.len())?;
    for (key, positive) in [("smearing", variant.smearing), ("sigma", variant.sigma)] {
        if !(positive.is_finite() && positive > 0.0) {
            return Err(malformed(format!("`{key}` of variant {number} must be > 0, got `{positive}`")));
        }
    }
    if !(variant.smearing * variant.spend.ceiling.exp()).is_finite() {
        return Err(malformed(format!("`spend` of variant {number} has a ceiling whose exponential overflows")));
    }
    let HurdleVariant { uses: _, purchase, spend, smearing, sigma } = variant;
    Ok(CompiledHurdle { columns, purchase, spend, smearing, sigma })
}

fn regression(
    link: Link,
    (index, (variant, columns)): (usize, (RegressionVariant, Columns)),
) -> Result<(Columns, Predictor), BackendError> {
    let number = index + 1;
    variant.predictor.check("predictor", number, columns.len())?;
    if link == Link::Log && !variant.predictor.ceiling.exp().is_finite() {
        return Err(malformed(format!("`predictor` of variant {number} has a ceiling whose exponential overflows")));
    }
    Ok((columns, variant.predictor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{FeatureRule, Impute, NamedImpute};

    const FEATURES: [&str; 3] = ["recency_days", "frequency_count", "monetary_avg"];

    fn predictor(intercept: f64, coefficients: &[f64]) -> Predictor {
        Predictor { intercept, coefficients: coefficients.to_vec(), floor: -4.0, ceiling: 6.0 }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn two_variants() -> LinearModel {
        LinearModel::Hurdle {
            format: Format::V1,
            variants: vec![
                HurdleVariant {
                    uses: names(&["monetary_avg", "recency_days"]),
                    purchase: predictor(0.5, &[1.0, -2.0]),
                    spend: predictor(3.0, &[0.5, 0.25]),
                    smearing: 1.5,
                    sigma: 0.9,
                },
                HurdleVariant {
                    uses: names(&["recency_days"]),
                    purchase: predictor(0.0, &[-1.0]),
                    spend: predictor(2.0, &[0.0]),
                    smearing: 2.0,
                    sigma: 1.1,
                },
            ],
        }
    }

    fn run(model: &LinearModel, rows: &[f64]) -> Vec<f64> {
        let backend = load(&model.write(), &FEATURES).expect("loads");
        let rows = FeatureMatrix::new(rows, 3);
        let mut out = vec![0.0; rows.rows() * backend.outputs().len()];
        backend.predict(rows, &mut out).expect("runs");
        out
    }

    fn close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= 1e-9 * e.abs().max(1.0), "{actual:?} is not {expected:?}");
        }
    }

    #[test]
    fn a_hurdle_gives_the_values_computed_by_hand() {
        // recency 0.5, monetary 2: log-odds 0.5 + 2 - 1 = 1.5, ln spend 3 + 1 + 0.125 = 4.125.
        // p = 1 / (1 + e^-1.5) = 0.8175744762, value = 0.8175744762 * 1.5 * e^4.125 = 75.87231261.
        let out = run(&two_variants(), &[0.5, f64::NAN, 2.0]);
        close(&out, &[75.872_312_611_68, 0.182_425_523_806, 4.125, 0.9]);
    }

    #[test]
    fn the_first_variant_whose_features_are_present_answers_each_row() {
        let out = run(&two_variants(), &[0.0, 1.0, f64::NAN, 0.0, f64::NAN, 0.0]);
        // Without monetary_avg the second variant: p = 1/2, value = 1/2 * 2 * e^2.
        close(&out[..4], &[2.0_f64.exp(), 0.5, 2.0, 1.1]);
        // With it the first: log-odds 0.5, ln spend 3.
        close(&out[6..], &[3.0, 0.9]);
    }

    #[test]
    fn a_row_no_variant_can_answer_is_not_a_number() {
        assert!(run(&two_variants(), &[f64::NAN, 1.0, 1.0]).iter().all(|number| number.is_nan()));
    }

    #[test]
    fn a_wild_input_stays_within_what_training_saw() {
        let out = run(&two_variants(), &[1e300, 0.0, 1e300]);
        // log-odds 1e300 - 2e300 stop at the floor of -4, ln spend at the ceiling of 6.
        close(&out, &[1.5 * 6.0_f64.exp() / (1.0 + 4.0_f64.exp()), 1.0 / (1.0 + (-4.0_f64).exp()), 6.0, 0.9]);
    }

    #[test]
    fn links_give_the_values_computed_by_hand() {
        let model = |link| LinearModel::Regression {
            format: Format::V1,
            link,
            variants: vec![RegressionVariant { uses: names(&["frequency_count"]), predictor: predictor(1.0, &[0.5]) }],
        };
        let row = [f64::NAN, 2.0, f64::NAN];
        close(&run(&model(Link::Identity), &row), &[2.0]);
        close(&run(&model(Link::Log), &row), &[7.389_056_098_930_65]);
        close(&run(&model(Link::Logit), &row), &[0.880_797_077_977_882]);
        let outputs = |link| load(&model(link).write(), &FEATURES).expect("loads").outputs().to_vec();
        assert_eq!(outputs(Link::Log), ["value"]);
        assert_eq!(outputs(Link::Logit), ["probability"]);
    }

    fn explain(model: &LinearModel, row: &[f64], reference: &[f64], output: usize) -> Shares {
        let budget = crate::inference::explain::Budget::of(std::time::Duration::from_mins(1));
        let backend = load(&model.write(), &FEATURES).expect("loads");
        let players: Vec<u32> = (0..row.len() as u32).collect();
        backend.explain(&Question { row, reference, players: &players, output, budget }).expect("explained")
    }

    #[test]
    fn every_output_of_a_hurdle_is_split_to_its_sum() {
        let reference = [0.0, 0.0, 0.0];
        // Free, and with the odds held at their floor from part of the way on.
        for row in [[0.5, 9.0, 2.0], [2.5, 9.0, -1.0], [1e300, 0.0, 1e300]] {
            let from = run(&two_variants(), &reference);
            let to = run(&two_variants(), &row);
            for output in 0..4 {
                let shares = explain(&two_variants(), &row, &reference, output);
                assert_eq!((shares.from, shares.to, shares.method), (from[output], to[output], Method::Path));
                assert_eq!(shares.players[1], 0.0, "no variant uses it");
                let sum: f64 = shares.players.iter().sum();
                assert!((sum - (to[output] - from[output])).abs() < 1e-9 * to[output].abs().max(1.0), "{shares:?}");
            }
        }
        // ln(spend) is linear until it is held: 0.25 * 0.5 and 0.5 * 2.
        close(&explain(&two_variants(), &[0.5, 9.0, 2.0], &reference, 2).players, &[0.125, 0.0, 1.0]);
    }

    #[test]
    fn the_variant_of_the_row_explains_it() {
        let shares = explain(&two_variants(), &[2.0, 1.0, f64::NAN], &[0.0, 3.0, f64::NAN], 0);
        // One feature: all of the difference, 2 e^2 (1 / (1 + e^2) - 1/2).
        close(&shares.players, &[2.0 * 2.0_f64.exp() * (logistic(-2.0) - 0.5), 0.0, 0.0]);
        // A reference that another variant answers: by asking the model.
        let shares = explain(&two_variants(), &[2.0, 1.0, 1.0], &[0.0, 3.0, f64::NAN], 0);
        assert_eq!(shares.method, Method::Exact);
        close(&[shares.players.iter().sum()], &[shares.to - shares.from]);
    }

    #[test]
    fn one_predictor_behind_a_link_gives_each_term_its_part() {
        let model = |link| LinearModel::Regression {
            format: Format::V1,
            link,
            variants: vec![RegressionVariant {
                uses: names(&["frequency_count", "monetary_avg"]),
                predictor: predictor(1.0, &[0.5, 1.0]),
            }],
        };
        let row = [7.0, 2.0, 2.0];
        let reference = [0.0, 0.0, 0.0];
        let identity = explain(&model(Link::Identity), &row, &reference, 0);
        assert_eq!(identity.method, Method::Linear);
        close(&identity.players, &[0.0, 1.0, 2.0]);
        // e^4 - e^1, a third and two thirds of it.
        let rise = 4.0_f64.exp() - 1.0_f64.exp();
        close(&explain(&model(Link::Log), &row, &reference, 0).players, &[0.0, rise / 3.0, rise * 2.0 / 3.0]);
        let logit = explain(&model(Link::Logit), &row, &reference, 0);
        close(&[logit.players.iter().sum()], &[logistic(4.0) - logistic(1.0)]);
    }

    #[test]
    fn what_is_written_reads_back_and_names_its_format() {
        let model = two_variants();
        let bytes = model.write();
        assert!(String::from_utf8_lossy(&bytes).contains(FORMAT));
        assert_eq!(LinearModel::read(&bytes).expect("own format"), model);
    }

    fn refusal(change: impl FnOnce(&mut Vec<HurdleVariant>)) -> String {
        let mut model = two_variants();
        if let LinearModel::Hurdle { variants, .. } = &mut model {
            change(variants);
        }
        let Err(error) = load(&model.write(), &FEATURES) else { panic!("was accepted") };
        error.to_string()
    }

    #[test]
    fn a_file_that_can_not_be_used_is_refused_with_the_reason() {
        let says = |message: String, part: &str| assert!(message.contains(part), "`{message}` lacks `{part}`");
        says(
            refusal(|variants| variants[1].uses[0] = "recency".into()),
            "variant 2 uses `recency`, which is not a feature of this bundle: recency_days, frequency_count",
        );
        says(refusal(|variants| variants[0].uses[0] = "recency_days".into()), "variant 1 uses `recency_days` twice");
        says(
            refusal(|variants| variants[0].spend.coefficients.truncate(1)),
            "`spend` of variant 1 has 1 coefficients for 2 features",
        );
        says(refusal(|variants| variants[0].purchase.floor = 7.0), "`purchase` of variant 1 has a floor of 7 above");
        says(refusal(|variants| variants[1].spend.ceiling = 800.0), "`spend` of variant 2 has a ceiling whose exp");
        says(refusal(|variants| variants[1].smearing = 0.0), "`smearing` of variant 2 must be > 0, got `0`");
        says(refusal(|variants| variants[1].sigma = -1.0), "`sigma` of variant 2 must be > 0, got `-1`");
        says(refusal(|variants| variants.swap(0, 1)), "variant 2 can never answer: variant 1 needs nothing");
        says(refusal(Vec::clear), "must hold at least one variant");
        // JSON has no word for it: a number that is not finite is written as null and does not read back.
        says(refusal(|variants| variants[0].purchase.intercept = f64::NAN), "scoreline-linear/1: invalid type: null");
    }

    #[test]
    fn another_format_or_an_unknown_key_is_refused() {
        let refused = |text: &str| load(text.as_bytes(), &FEATURES).err().map(|error| error.to_string());
        let future = r#"{"kind":"hurdle","format":"scoreline-linear/2","variants":[]}"#;
        assert!(refused(future).is_some_and(|message| message.contains("`scoreline-linear/2`")));
        let unknown = r#"{"kind":"hurdle","format":"scoreline-linear/1","variants":[],"smear":1}"#;
        assert!(refused(unknown).is_some_and(|message| message.contains("`smear`")));
        assert!(refused("[]").is_some());
    }

    #[test]
    fn the_last_variant_must_answer_every_row_the_bundle_accepts() {
        let rule = |name: &str, required, impute| FeatureRule { required, impute, ..FeatureRule::plain(name) };
        let none = Impute::Named(NamedImpute::None);
        let schema = |rules: &[FeatureRule]| FeatureSchema::new(rules.to_vec(), false).expect("valid");
        let bytes = two_variants().write();
        let mut rules = vec![
            rule("recency_days", true, none),
            rule("frequency_count", false, Impute::Value(1.0)),
            rule("monetary_avg", false, none),
        ];
        assert!(load_with_schema(&bytes, &schema(&rules)).is_ok());
        rules[0].required = false;
        let Err(error) = load_with_schema(&bytes, &schema(&rules)) else { panic!("was accepted") };
        assert!(error.to_string().contains("the last variant uses `recency_days`, which may be missing"));
        rules[0].impute = Impute::Value(3.0);
        assert!(load_with_schema(&bytes, &schema(&rules)).is_ok());
    }
}
