//! The lead model: a ridge logistic regression on everything, and shallow trees boosted on its residuals that only see
//! the state of the economy, the weekday and the contact. A nightly model is the mean of the log-odds of three: that
//! recipe on the newest rows, on the newer half of them, and trees that see every column.
//!
//! Why two parts: between the economy's states there are few and they repeat, so trees on all columns learn the dates
//! and not the leads; a linear part carries over to a state that was never seen. A nightly model is replaced before such
//! a state comes, so that there the dates are worth something. Everything that is learnt, the list of categories
//! included, comes from the training rows.

use scoreline::packing::drift;
use scoreline::packing::statistics::round;
use scoreline_engine::features::schema::Transform;
use scoreline_engine::features::{Bend, DerivedRule, Factor, FeatureRule, FeatureSchema, Impute, NamedImpute};
use scoreline_engine::inference::additive::{self, AdditiveModel, Term};
use scoreline_engine::inference::{Backend, FeatureMatrix};

use super::boost::{Boost, Column};
use super::data::Leads;
use super::recalibration::Line;
use crate::tweedie::solve;

pub(super) const NUMBERS: [&str; 9] = [
    "age",
    "campaign",
    "pdays",
    "previous",
    "nr.employed",
    "emp.var.rate",
    "cons.price.idx",
    "cons.conf.idx",
    "euribor3m",
];
pub(super) const CATEGORIES: [&str; 10] =
    ["job", "marital", "education", "default", "housing", "loan", "contact", "month", "day_of_week", "poutcome"];
/// Of the numbers, the state of the economy: the same for all leads of a day. Where a caller does not give it, it is
/// that of the newest training row.
pub(super) const ECONOMY: std::ops::Range<usize> = 4..9;
/// Days since the last contact of another campaign, and what stands there for somebody who never had one.
const DAYS: &str = "pdays";
pub(super) const NEVER: f64 = 999.0;
/// Derived from it: whether there was a contact, and how long ago.
const CONTACTED: &str = "contacted_before";
const CONTACTED_AGO: &str = "contacted_days_ago";
/// What the linear part reads beside the categories. More of the economy would be collinear and extrapolate wildly.
const LINEAR_NUMBERS: [&str; 6] = ["age", "campaign", CONTACTED, CONTACTED_AGO, "previous", "nr.employed"];
/// What the trees on its residuals read; of two splits with the same gain the column that comes first wins.
const TREE_COLUMNS: [&str; 7] =
    ["emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed", "day_of_week", "contact"];

/// Ridge on every coefficient but the intercept: sum of log-losses + RIDGE / 2 × |w|².
const RIDGE: f64 = 10.0;
/// A category with fewer training rows gets no coefficient of its own.
const SMALLEST_CATEGORY: usize = 20;
const BOOST: Boost = Boost { rounds: 400, rate: 0.03, depth: 3, leaf: 100.0, ridge: 1.0 };
/// Of the trees that see every column.
const BOOST_ALL: Boost = Boost { rounds: 150, rate: 0.05, depth: 3, leaf: 50.0, ridge: 1.0 };

/// A fitted model with the schema of what it reads.
pub(super) struct Fitted {
    pub schema: FeatureSchema,
    pub model: AdditiveModel,
}

/// Fits the recipe on these rows.
pub(super) fn fit(leads: &Leads, rows: &[usize]) -> anyhow::Result<Fitted> {
    let schema = schema(leads, rows)?;
    let model = Rows::prepare(leads, rows, &schema).linear_and_trees()?;
    Ok(Fitted { schema, model })
}

/// Fits a nightly model on these rows, the newest last.
pub(super) fn fit_nightly(leads: &Leads, rows: &[usize]) -> anyhow::Result<Fitted> {
    let schema = schema(leads, rows)?;
    let all = Rows::prepare(leads, rows, &schema);
    let newer = Rows::prepare(leads, &rows[rows.len() / 2..], &schema);
    let model = AdditiveModel::mean_of(&[all.linear_and_trees()?, newer.linear_and_trees()?, all.trees_alone()]);
    Ok(Fitted { schema, model })
}

/// Rows as a model reads them, with what became of them.
struct Rows<'a> {
    schema: &'a FeatureSchema,
    prepared: Vec<f64>,
    happened: Vec<f64>,
}

impl<'a> Rows<'a> {
    fn prepare(leads: &Leads, rows: &[usize], schema: &'a FeatureSchema) -> Self {
        let happened = rows.iter().map(|&row| f64::from(u8::from(leads.converted[row]))).collect();
        Self { schema, prepared: prepared(leads, rows, schema), happened }
    }

    fn linear_and_trees(&self) -> anyhow::Result<AdditiveModel> {
        let width = self.schema.columns();
        let plan = plan(self.schema, &self.prepared);
        let parts = |row: &[f64]| plan.iter().map(|part| part.of(row)).collect::<Vec<_>>();
        let design: Vec<f64> = self.prepared.chunks_exact(width).flat_map(parts).collect();
        let weights = logistic(&design, plan.len(), &self.happened)?;
        let mut log_odds: Vec<f64> = design.chunks_exact(plan.len()).map(|row| dot(row, &weights)).collect();
        let trees = BOOST.fit(&self.columns(&TREE_COLUMNS), &self.happened, &mut log_odds);
        let terms = terms(self.schema, &plan, &weights);
        Ok(AdditiveModel { intercept: weights[0], terms, trees, ..AdditiveModel::default() })
    }

    fn trees_alone(&self) -> AdditiveModel {
        let n = self.happened.len() as f64;
        let share = (self.happened.iter().sum::<f64>() / n).clamp(1e-6, 1.0 - 1e-6);
        let intercept = (share / (1.0 - share)).ln();
        let names: Vec<&str> = NUMBERS.into_iter().chain(CATEGORIES).collect();
        let trees = BOOST_ALL.fit(&self.columns(&names), &self.happened, &mut vec![intercept; self.happened.len()]);
        AdditiveModel { intercept, trees, ..AdditiveModel::default() }
    }

    fn columns(&self, names: &[&str]) -> Vec<Column> {
        let width = self.schema.columns();
        let places = names.iter().filter_map(|name| Some((name, self.schema.position(name)?)));
        let column = |(name, position): (&&str, usize)| {
            let values: Vec<f64> = self.prepared.chunks_exact(width).map(|row| row[position]).collect();
            Column::new(name, &values)
        };
        places.map(column).collect()
    }
}

impl Fitted {
    /// Log-odds of these rows, as the server computes them.
    pub(super) fn log_odds(&self, leads: &Leads, rows: &[usize]) -> anyhow::Result<Vec<f64>> {
        Ok(self.probabilities(leads, rows)?.into_iter().map(log_odds).collect())
    }

    /// Probabilities of these rows, as the server computes them.
    pub(super) fn probabilities(&self, leads: &Leads, rows: &[usize]) -> anyhow::Result<Vec<f64>> {
        let backend: Box<dyn Backend> = additive::load(&self.model.write(), &self.schema)?;
        let rows = prepared(leads, rows, &self.schema);
        let columns = self.schema.columns();
        let mut out = vec![0.0; rows.len() / columns];
        backend.predict(FeatureMatrix::new(&rows, columns), &mut out)?;
        Ok(out)
    }

    /// The model whose log-odds are moved along a line.
    pub(super) fn recalibrated(self, line: Line) -> Self {
        Self { model: self.model.recalibrated(line.intercept, line.slope), ..self }
    }
}

pub(super) fn log_odds(probability: f64) -> f64 {
    let p = probability.clamp(1e-12, 1.0 - 1e-12);
    (p / (1.0 - p)).ln()
}

/// The rows as the model reads them: features, then what is derived.
fn prepared(leads: &Leads, rows: &[usize], schema: &FeatureSchema) -> Vec<f64> {
    let raw = raw(leads, rows, schema.rules());
    let mut prepared = vec![0.0; rows.len() * schema.columns()];
    let into = prepared.chunks_exact_mut(schema.columns());
    raw.chunks_exact(schema.len()).zip(into).for_each(|(raw, row)| schema.prepare(raw, row));
    prepared
}

/// The rows in schema order, row-major: numbers, then positions of categories; `NaN` for a category the rules do not
/// list.
pub(super) fn raw(leads: &Leads, rows: &[usize], rules: &[FeatureRule]) -> Vec<f64> {
    let known: Vec<Vec<f64>> = leads
        .texts
        .iter()
        .zip(&rules[NUMBERS.len()..])
        .map(|(texts, rule)| texts.names.iter().map(|name| rule.category(name).unwrap_or(f64::NAN)).collect())
        .collect();
    let mut all = Vec::with_capacity(rows.len() * rules.len());
    for &row in rows {
        all.extend(leads.numbers.iter().map(|column| column[row]));
        all.extend(leads.texts.iter().zip(&known).map(|(texts, known)| known[texts.codes[row]]));
    }
    all
}

/// What the model reads, learnt from these rows.
///
/// # Errors
/// When they are too few.
fn schema(leads: &Leads, rows: &[usize]) -> anyhow::Result<FeatureSchema> {
    anyhow::ensure!(rows.len() >= 500, "{} rows are too few to fit a lead model", rows.len());
    let factor = |apply| Factor { of: DAYS.to_owned(), over: None, apply };
    let derived = |name: &str, factors| DerivedRule { name: name.to_owned(), factors, mean: 0.0, std: 1.0 };
    let derived = vec![
        derived(CONTACTED, vec![factor(Bend::Happened)]),
        derived(CONTACTED_AGO, vec![factor(Bend::Happened), factor(Bend::Log1p)]),
    ];
    Ok(FeatureSchema::with_derived(rules(leads, rows), derived, false)?)
}

fn rules(leads: &Leads, rows: &[usize]) -> Vec<FeatureRule> {
    let rule = |name: &str, values: &[f64], categories: Vec<String>| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        let is_number = categories.is_empty();
        FeatureRule {
            name: name.to_owned(),
            unit: String::new(),
            required: false,
            impute: if is_number { Impute::default() } else { Impute::Named(NamedImpute::None) },
            transform: Transform::Identity,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            never: None,
            mean: if is_number { round(mean) } else { 0.0 },
            std: if is_number && deviation > 1e-9 { round(deviation) } else { 1.0 },
            lowest: None,
            highest: None,
            drift: if is_number { drift::bins(values) } else { drift::categories(categories.len(), values) },
            categories,
            group: group(name).map(str::to_owned),
        }
    };
    let numbers = NUMBERS.iter().zip(&leads.numbers).enumerate().map(|(position, (name, column))| {
        let values: Vec<f64> = rows.iter().map(|&row| column[row]).collect();
        let mut rule = rule(name, &values, Vec::new());
        if ECONOMY.contains(&position) {
            rule.impute = values.last().map_or(rule.impute, |newest| Impute::Value(*newest));
        }
        if *name == DAYS { since_contact(rule, &values) } else { rule }
    });
    let texts = CATEGORIES.iter().zip(&leads.texts).map(|(name, texts)| {
        let seen: std::collections::BTreeSet<usize> = rows.iter().map(|&row| texts.codes[row]).collect();
        let categories: Vec<String> = seen.iter().copied().map(|code| texts.names[code].clone()).collect();
        let positions: Vec<usize> = seen.iter().copied().collect();
        let place = |code| positions.iter().position(|seen| *seen == code).map_or(f64::NAN, |at| at as f64);
        let values: Vec<f64> = rows.iter().map(|&row| place(texts.codes[row])).collect();
        rule(name, &values, categories)
    });
    numbers.chain(texts).collect()
}

/// The rule of the days since a contact, which most leads never had: nobody who does not say is taken for one of the few.
fn since_contact(rule: FeatureRule, values: &[f64]) -> FeatureRule {
    let days: Vec<f64> = values.iter().copied().filter(|days| *days != NEVER).collect();
    let max = days.iter().copied().fold(0.0, f64::max);
    FeatureRule {
        min: days.iter().copied().fold(max, f64::min),
        max,
        never: Some(NEVER),
        lowest: Some(0.0),
        impute: Impute::Value(NEVER),
        drift: drift::bins_or_never(&days, values),
        ..rule
    }
}

/// What a column is explained together with; alone where there is none.
fn group(name: &str) -> Option<&'static str> {
    match name {
        "nr.employed" | "emp.var.rate" | "cons.price.idx" | "cons.conf.idx" | "euribor3m" => Some("economy"),
        "pdays" | "previous" | "poutcome" => Some("earlier_contact"),
        "month" | "day_of_week" => Some("calling_time"),
        "default" | "housing" | "loan" => Some("credit"),
        _ => None,
    }
}

/// One column of the linear part's design.
#[derive(Clone, Copy, Debug)]
enum Part {
    Intercept,
    Number { column: usize, center: f64, scale: f64 },
    Category { column: usize, position: usize },
}

impl Part {
    fn of(self, row: &[f64]) -> f64 {
        match self {
            Self::Intercept => 1.0,
            Self::Number { column, center, scale } => (row[column] - center) / scale,
            Self::Category { column, position } => f64::from(u8::from(row[column] == position as f64)),
        }
    }

    /// A number, standardised on the rows.
    fn number(column: usize, width: usize, prepared: &[f64]) -> Self {
        let n = (prepared.len() / width) as f64;
        let values = || prepared.chunks_exact(width).map(|row| row[column]);
        let center = values().sum::<f64>() / n;
        let scale = (values().map(|value| (value - center).powi(2)).sum::<f64>() / n).sqrt();
        Self::Number { column, center: round(center), scale: if scale > 1e-9 { round(scale) } else { 1.0 } }
    }
}

fn plan(schema: &FeatureSchema, prepared: &[f64]) -> Vec<Part> {
    let width = schema.columns();
    let columns = LINEAR_NUMBERS.iter().filter_map(|name| schema.column_names().position(|column| column == *name));
    let mut plan = vec![Part::Intercept];
    plan.extend(columns.map(|column| Part::number(column, width, prepared)));
    for (column, rule) in schema.rules().iter().enumerate().skip(NUMBERS.len()) {
        let mut counts = vec![0; rule.categories.len()];
        prepared.chunks_exact(width).for_each(|row| counts[row[column] as usize] += 1);
        let often = counts.iter().enumerate().filter(|(_, count)| **count >= SMALLEST_CATEGORY);
        plan.extend(often.map(|(position, _)| Part::Category { column, position }));
    }
    plan
}

fn terms(schema: &FeatureSchema, plan: &[Part], weights: &[f64]) -> Vec<Term> {
    let mut terms = Vec::new();
    let names: Vec<&str> = schema.column_names().collect();
    let mut tables: Vec<Vec<f64>> = schema.rules().iter().map(|rule| vec![0.0; rule.categories.len()]).collect();
    for (part, &coefficient) in plan.iter().zip(weights) {
        match *part {
            Part::Intercept => {}
            Part::Number { column, center, scale } => {
                terms.push(Term::Number { number: names[column].to_owned(), coefficient, center, scale });
            }
            Part::Category { column, position } => tables[column][position] = coefficient,
        }
    }
    let tables = schema.rules().iter().zip(tables).filter(|(rule, _)| !rule.categories.is_empty());
    terms.extend(tables.map(|(rule, coefficients)| Term::Category {
        category: rule.name.clone(),
        coefficients,
        missing: 0.0,
    }));
    terms
}

/// Ridge logistic regression by Newton's method. A step that makes the loss worse is halved: undamped it diverges on
/// columns with far outliers.
fn logistic(design: &[f64], width: usize, happened: &[f64]) -> anyhow::Result<Vec<f64>> {
    let n = happened.len() as f64;
    let share = (happened.iter().sum::<f64>() / n).clamp(1e-6, 1.0 - 1e-6);
    let mut weights = vec![0.0; width];
    weights[0] = (share / (1.0 - share)).ln();
    let mut loss = penalised(design, happened, &weights);
    for _ in 0..50 {
        let mut hessian = vec![0.0; width * width];
        let mut gradient = vec![0.0; width];
        for (row, y) in design.chunks_exact(width).zip(happened) {
            let p = sigmoid(dot(row, &weights));
            let curvature = p * (1.0 - p);
            // One-hot rows are mostly zeros.
            let filled: Vec<(usize, f64)> = row.iter().copied().enumerate().filter(|(_, x)| *x != 0.0).collect();
            for (k, &(i, x)) in filled.iter().enumerate() {
                gradient[i] += x * (y - p);
                for &(j, other) in &filled[..=k] {
                    hessian[i * width + j] += curvature * x * other;
                }
            }
        }
        for i in 0..width {
            let ridge = if i == 0 { 0.0 } else { RIDGE };
            gradient[i] -= ridge * weights[i];
            hessian[i * width + i] += ridge + 1e-9;
        }
        let step = solve(hessian, gradient).ok_or_else(|| anyhow::anyhow!("the logistic part cannot be solved"))?;
        let mut length = 1.0;
        let mut next: Vec<f64>;
        loop {
            next = weights.iter().zip(&step).map(|(weight, step)| weight + length * step).collect();
            let after = penalised(design, happened, &next);
            if after <= loss + 1e-9 * loss.abs() || length < 1e-6 {
                loss = after;
                break;
            }
            length /= 2.0;
        }
        weights = next;
        if step.iter().all(|step| (length * step).abs() < 1e-8) {
            return Ok(weights);
        }
    }
    anyhow::bail!("the logistic part did not converge in 50 steps")
}

fn penalised(design: &[f64], happened: &[f64], weights: &[f64]) -> f64 {
    let losses = design.chunks_exact(weights.len()).zip(happened).map(|(row, y)| {
        let x = dot(row, weights);
        // ln(1 + e^x) - y x, without overflow.
        x.max(0.0) + (-x.abs()).exp().ln_1p() - y * x
    });
    losses.sum::<f64>() + RIDGE / 2.0 * weights[1..].iter().map(|weight| weight * weight).sum::<f64>()
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn dot(row: &[f64], weights: &[f64]) -> f64 {
    row.iter().zip(weights).map(|(x, weight)| x * weight).sum()
}
