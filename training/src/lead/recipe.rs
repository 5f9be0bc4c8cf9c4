//! The lead model: a ridge logistic regression on everything, and shallow trees boosted on its residuals that only see
//! the state of the economy, the weekday and the contact.
//!
//! Why two parts: between the economy's states there are few and they repeat, so trees on all columns learn the dates
//! and not the leads; a linear part carries over to a state that was never seen. Everything that is learnt, the list
//! of categories included, comes from the training rows.

use scoreline::packing::drift;
use scoreline::packing::statistics::round;
use scoreline_engine::features::schema::Transform;
use scoreline_engine::features::{FeatureRule, Impute, NamedImpute};
use scoreline_engine::inference::additive::{self, AdditiveModel, Term};
use scoreline_engine::inference::{Backend, FeatureMatrix};

use super::boost::{Boost, Column};
use super::data::Leads;
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
/// Of the numbers, the state of the economy: the same for all leads of a day, so a caller has to give it.
const ECONOMY: std::ops::Range<usize> = 4..9;
/// Of the numbers, those the linear part reads. More of the economy would be collinear and extrapolate wildly.
const LINEAR_NUMBERS: std::ops::Range<usize> = 0..5;
/// What the trees read; of two splits with the same gain the column that comes first wins.
const TREE_COLUMNS: [&str; 7] =
    ["emp.var.rate", "cons.price.idx", "cons.conf.idx", "euribor3m", "nr.employed", "day_of_week", "contact"];

/// Ridge on every coefficient but the intercept: sum of log-losses + RIDGE / 2 × |w|².
const RIDGE: f64 = 10.0;
/// A category with fewer training rows gets no coefficient of its own.
const SMALLEST_CATEGORY: usize = 20;
const BOOST: Boost = Boost { rounds: 400, rate: 0.03, depth: 3, leaf: 100.0, ridge: 1.0 };

/// A fitted model with the rules of the features it reads.
pub(super) struct Fitted {
    pub rules: Vec<FeatureRule>,
    pub model: AdditiveModel,
}

/// Fits the recipe on these rows.
pub(super) fn fit(leads: &Leads, rows: &[usize]) -> anyhow::Result<Fitted> {
    anyhow::ensure!(rows.len() >= 500, "{} rows are too few to fit a lead model", rows.len());
    let rules = rules(leads, rows);
    let happened: Vec<f64> = rows.iter().map(|&row| f64::from(u8::from(leads.converted[row]))).collect();
    let raw = raw(leads, rows, &rules);
    let width = rules.len();

    let plan = plan(&rules, &raw);
    let design: Vec<f64> = raw.chunks_exact(width).flat_map(|row| plan.iter().map(|part| part.of(row))).collect();
    let weights = logistic(&design, plan.len(), &happened)?;
    let mut log_odds: Vec<f64> = design.chunks_exact(plan.len()).map(|row| dot(row, &weights)).collect();
    let places = TREE_COLUMNS.iter().filter_map(|name| rules.iter().position(|rule| rule.name == *name));
    let columns: Vec<_> = places
        .map(|position| {
            let values: Vec<f64> = raw.chunks_exact(width).map(|row| row[position]).collect();
            Column::new(&rules[position].name, &values)
        })
        .collect();
    let trees = BOOST.fit(&columns, &happened, &mut log_odds);
    Ok(Fitted {
        model: AdditiveModel {
            intercept: weights[0],
            terms: terms(&rules, &plan, &weights),
            trees,
            ..AdditiveModel::default()
        },
        rules,
    })
}

impl Fitted {
    /// Probabilities of these rows, as the server computes them.
    pub(super) fn probabilities(&self, leads: &Leads, rows: &[usize]) -> anyhow::Result<Vec<f64>> {
        let backend: Box<dyn Backend> = additive::load(&self.model.write(), &self.rules)?;
        let raw = raw(leads, rows, &self.rules);
        let mut out = vec![0.0; rows.len()];
        backend.predict(FeatureMatrix::new(&raw, self.rules.len()), &mut out)?;
        Ok(out)
    }
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

fn rules(leads: &Leads, rows: &[usize]) -> Vec<FeatureRule> {
    let rule = |name: &str, values: &[f64], categories: Vec<String>, required| {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / n).sqrt();
        let is_number = categories.is_empty();
        FeatureRule {
            name: name.to_owned(),
            unit: String::new(),
            required,
            impute: if is_number { Impute::default() } else { Impute::Named(NamedImpute::None) },
            transform: Transform::Identity,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
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
        rule(name, &values, Vec::new(), ECONOMY.contains(&position))
    });
    let texts = CATEGORIES.iter().zip(&leads.texts).map(|(name, texts)| {
        let seen: std::collections::BTreeSet<usize> = rows.iter().map(|&row| texts.codes[row]).collect();
        let categories: Vec<String> = seen.iter().copied().map(|code| texts.names[code].clone()).collect();
        let positions: Vec<usize> = seen.iter().copied().collect();
        let place = |code| positions.iter().position(|seen| *seen == code).map_or(f64::NAN, |at| at as f64);
        let values: Vec<f64> = rows.iter().map(|&row| place(texts.codes[row])).collect();
        rule(name, &values, categories, false)
    });
    numbers.chain(texts).collect()
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
}

fn plan(rules: &[FeatureRule], raw: &[f64]) -> Vec<Part> {
    let mut plan = vec![Part::Intercept];
    for column in LINEAR_NUMBERS {
        plan.push(Part::Number { column, center: rules[column].mean, scale: rules[column].std });
    }
    for column in NUMBERS.len()..rules.len() {
        let mut counts = vec![0; rules[column].categories.len()];
        raw.chunks_exact(rules.len()).for_each(|row| counts[row[column] as usize] += 1);
        let often = counts.iter().enumerate().filter(|(_, count)| **count >= SMALLEST_CATEGORY);
        plan.extend(often.map(|(position, _)| Part::Category { column, position }));
    }
    plan
}

fn terms(rules: &[FeatureRule], plan: &[Part], weights: &[f64]) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut tables: Vec<Vec<f64>> = rules.iter().map(|rule| vec![0.0; rule.categories.len()]).collect();
    for (part, &weight) in plan.iter().zip(weights) {
        match *part {
            Part::Intercept => {}
            Part::Number { column, center, scale } => {
                terms.push(Term::Number { number: rules[column].name.clone(), coefficient: weight, center, scale });
            }
            Part::Category { column, position } => tables[column][position] = weight,
        }
    }
    let tables = rules.iter().zip(tables).filter(|(rule, _)| !rule.categories.is_empty());
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
