//! Fits what is shipped: a hurdle of a logistic and a least-squares regression, with signs that a reader would expect.
//!
//! Where the reverse would be called a bug, a column may move a prediction one way only: more contacts, a better or rising
//! sentiment or a newer purchase never make a customer worth less. Both regressions are convex, so that the best
//! coefficients within the signs are found by Newton's method over a box: each step minimises the local parabola by
//! coordinates, and a coefficient that would have the wrong sign is 0 (Lawson & Hanson 1974; Friedman, Hastie &
//! Tibshirani 2010).

use anyhow::Context as _;
use scoreline::packing::table::Row;
use scoreline_engine::features::FeatureSchema;
use scoreline_engine::inference::linear::{Format, HurdleVariant, LinearModel, Predictor};

/// L2 penalties: half of the first times the squared coefficients beside the log-likelihood of a purchase, the second
/// times them beside the squared residuals of ln(spend). Columns are z-scored; chosen by cross-validation, where a
/// third or three times as much changes nothing.
const PURCHASE_PENALTY: f64 = 30.0;
const SPEND_PENALTY: f64 = 100.0;

/// Which way a larger value of a column may move a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    Free,
    Up,
    Down,
}

/// Rows as a model reads them, beside their outcome.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub names: Vec<String>,
    /// Row-major.
    pub values: Vec<f64>,
    pub spend_usd: Vec<f64>,
}

/// Some columns of the rows in which all of them are present.
pub(crate) struct Design {
    pub columns: usize,
    /// Row-major.
    pub values: Vec<f64>,
    pub spend_usd: Vec<f64>,
}

impl Prepared {
    /// Prepares rows whose values are in the schema's order, by the code that serves them.
    pub(crate) fn new(schema: &FeatureSchema, rows: &[&Row]) -> Self {
        let width = schema.columns();
        let mut values = vec![0.0; rows.len() * width];
        for (row, slot) in rows.iter().zip(values.chunks_exact_mut(width)) {
            schema.prepare(&row.values, slot);
        }
        Self {
            names: schema.column_names().map(str::to_owned).collect(),
            values,
            spend_usd: rows.iter().map(|row| row.spend_usd).collect(),
        }
    }

    pub(crate) fn design(&self, uses: &[String]) -> anyhow::Result<Design> {
        let position = |name: &String| self.names.iter().position(|other| other == name);
        let columns: Vec<usize> = uses
            .iter()
            .map(|name| position(name).with_context(|| format!("variant uses `{name}`, which is no feature")))
            .collect::<Result<_, _>>()?;
        let mut design = Design { columns: columns.len(), values: Vec::new(), spend_usd: Vec::new() };
        for (row, spend) in self.values.chunks_exact(self.names.len()).zip(&self.spend_usd) {
            if columns.iter().all(|column| !row[*column].is_nan()) {
                design.values.extend(columns.iter().map(|column| row[*column]));
                design.spend_usd.push(*spend);
            }
        }
        anyhow::ensure!(!design.spend_usd.is_empty(), "no row has all of {}", uses.join(", "));
        Ok(design)
    }
}

impl Design {
    pub(crate) fn rows(&self) -> impl Iterator<Item = &[f64]> {
        self.values.chunks_exact(self.columns)
    }

    fn buyers(&self) -> Self {
        let mut buyers = Self { columns: self.columns, values: Vec::new(), spend_usd: Vec::new() };
        for (row, spend) in self.rows().zip(&self.spend_usd) {
            if *spend > 0.0 {
                buyers.values.extend_from_slice(row);
                buyers.spend_usd.push(*spend);
            }
        }
        buyers
    }
}

/// Fits a hurdle with one variant for each list of columns, in order of preference; `sign` says which way a column may
/// move a prediction.
pub(crate) fn hurdle(
    prepared: &Prepared,
    variants: &[Vec<String>],
    sign: impl Fn(&str) -> Sign,
) -> anyhow::Result<LinearModel> {
    let variants = variants
        .iter()
        .map(|uses| {
            let signs: Vec<Sign> = uses.iter().map(|name| sign(name)).collect();
            hurdle_variant(prepared, uses, &signs).with_context(|| format!("variant on {}", uses.join(", ")))
        })
        .collect::<Result<_, _>>()?;
    Ok(LinearModel::Hurdle { format: Format::V1, variants })
}

fn hurdle_variant(prepared: &Prepared, uses: &[String], signs: &[Sign]) -> anyhow::Result<HurdleVariant> {
    let design = prepared.design(uses)?;
    let purchase = logistic(&design, signs)?;
    let buyers = design.buyers();
    let logs: Vec<f64> = buyers.spend_usd.iter().map(|spend| spend.ln()).collect();
    let spend = ridge(&buyers, &logs, signs)?;

    let residuals = buyers.rows().zip(&logs).map(|(row, log)| log - at(&spend, row));
    let square: f64 = residuals.map(|residual| residual.powi(2)).sum();
    let sigma = (square / (logs.len() - spend.coefficients.len() - 1) as f64).sqrt();
    // Duan's smearing, the mean of e^residual, is exact when the residuals' spread is the same everywhere. It is
    // not; scaling to the total of the fit rows instead keeps every variant's book balanced.
    let unscaled: f64 = design.rows().map(|row| at(&spend, row).exp() / (1.0 + (-at(&purchase, row)).exp())).sum();
    let smearing = design.spend_usd.iter().sum::<f64>() / unscaled;
    Ok(HurdleVariant { uses: uses.to_vec(), purchase, spend, smearing, sigma })
}

/// Log-odds of any spend.
fn logistic(design: &Design, signs: &[Sign]) -> anyhow::Result<Predictor> {
    let bought = || design.spend_usd.iter().map(|spend| f64::from(u8::from(*spend > 0.0)));
    // Minus the log-likelihood of a row, its slope and its curvature in the log-odds.
    let row = |odds: f64, bought: f64| {
        let said = 1.0 / (1.0 + (-odds).exp());
        let loss = (-odds.abs()).exp().ln_1p() + odds.max(0.0) - bought * odds;
        [loss, said - bought, (said * (1.0 - said)).max(1e-9)]
    };
    let beta = newton(design, &bought().collect::<Vec<_>>(), PURCHASE_PENALTY, signs, row)?;
    Ok(within_seen(design, beta[0], beta[1..].to_vec()))
}

/// Least squares with a penalty on the coefficients but not on the intercept.
fn ridge(design: &Design, target: &[f64], signs: &[Sign]) -> anyhow::Result<Predictor> {
    let row = |said: f64, target: f64| [0.5 * (said - target).powi(2), said - target, 1.0];
    let beta = newton(design, target, SPEND_PENALTY, signs, row)?;
    Ok(within_seen(design, beta[0], beta[1..].to_vec()))
}

/// The intercept and the coefficients that minimise the sum over the rows of `loss` plus half of `penalty` times the squared
/// coefficients. `loss` gives a row's loss, slope and curvature in the predictor.
///
/// # Errors
/// When the steps do not end.
fn newton(
    design: &Design,
    target: &[f64],
    penalty: f64,
    signs: &[Sign],
    loss: impl Fn(f64, f64) -> [f64; 3],
) -> anyhow::Result<Vec<f64>> {
    let width = design.columns + 1;
    let said = |beta: &[f64], row: &[f64]| beta[0] + beta[1..].iter().zip(row).map(|(b, x)| b * x).sum::<f64>();
    let penalised = |beta: &[f64]| 0.5 * penalty * beta[1..].iter().map(|b| b * b).sum::<f64>();
    let total = |beta: &[f64]| {
        let rows = design.rows().zip(target).map(|(row, target)| loss(said(beta, row), *target)[0]);
        rows.sum::<f64>() + penalised(beta)
    };
    let mut beta = vec![0.0; width];
    let mut value = total(&beta);
    for _ in 0..100 {
        let mut gradient: Vec<f64> = beta.iter().map(|b| penalty * b).collect();
        gradient[0] = 0.0;
        let mut curvature = vec![0.0; width * width];
        for (row, target) in design.rows().zip(target) {
            let [_, slope, bend] = loss(said(&beta, row), *target);
            let x = |i: usize| if i == 0 { 1.0 } else { row[i - 1] };
            for i in 0..width {
                gradient[i] += slope * x(i);
                let scaled = bend * x(i);
                for j in 0..=i {
                    curvature[i * width + j] += scaled * x(j);
                }
            }
        }
        for i in 0..width {
            curvature[i * width + i] += if i == 0 { 0.0 } else { penalty };
            for j in 0..i {
                curvature[j * width + i] = curvature[i * width + j];
            }
        }
        let step = boxed_step(&beta, &gradient, &curvature, signs);
        let mut share = 1.0;
        let next = loop {
            let next: Vec<f64> = beta.iter().zip(&step).map(|(b, step)| b + share * step).collect();
            let reached = total(&next);
            if reached <= value || share < 1e-9 {
                break (next, reached);
            }
            share *= 0.5;
        };
        let moved = step.iter().map(|step| (share * step).abs()).fold(0.0, f64::max);
        (beta, value) = next;
        if moved < 1e-10 {
            return Ok(beta);
        }
    }
    anyhow::bail!("the fit does not settle")
}

/// The step to the minimum of a parabola within the signs, by coordinates.
fn boxed_step(beta: &[f64], gradient: &[f64], curvature: &[f64], signs: &[Sign]) -> Vec<f64> {
    let width = beta.len();
    let mut step = vec![0.0; width];
    // The slope of the parabola at the step, kept up to date.
    let mut slope = gradient.to_vec();
    for _ in 0..20_000 {
        let mut moved: f64 = 0.0;
        for i in 0..width {
            let wanted = beta[i] + step[i] - slope[i] / curvature[i * width + i];
            let allowed = match i.checked_sub(1).map(|column| signs[column]) {
                None | Some(Sign::Free) => wanted,
                Some(Sign::Up) => wanted.max(0.0),
                Some(Sign::Down) => wanted.min(0.0),
            };
            let change = allowed - beta[i] - step[i];
            if change != 0.0 {
                step[i] += change;
                for (j, slope) in slope.iter_mut().enumerate() {
                    *slope += change * curvature[i * width + j];
                }
                moved = moved.max(change.abs());
            }
        }
        if moved < 1e-12 {
            break;
        }
    }
    step
}

/// A predictor held within what it says of the rows it was fitted on.
pub(crate) fn within_seen(design: &Design, intercept: f64, coefficients: Vec<f64>) -> Predictor {
    let unbounded = Predictor { intercept, coefficients, floor: f64::NEG_INFINITY, ceiling: f64::INFINITY };
    let seen = design.rows().map(|row| at(&unbounded, row));
    let (floor, ceiling) = seen.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    Predictor { floor, ceiling, ..unbounded }
}

fn at(predictor: &Predictor, row: &[f64]) -> f64 {
    let sum: f64 = predictor.coefficients.iter().zip(row).map(|(coefficient, value)| coefficient * value).sum();
    (predictor.intercept + sum).clamp(predictor.floor, predictor.ceiling)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of three columns, the second nearly the first, and an outcome that falls with the second and the third.
    fn design() -> (Design, Vec<f64>) {
        let draw = |i: u64| 10.0 * (scoreline::packing::split::mix(i) as f64 / u64::MAX as f64 - 0.5);
        let mut design = Design { columns: 3, values: Vec::new(), spend_usd: Vec::new() };
        let mut target = Vec::new();
        for i in 0..4000 {
            let [a, b, c, noise] = [0, 1, 2, 3].map(|k| draw(4 * i + k));
            let near = a + 0.3 * b;
            design.values.extend([a, near, c]);
            target.push(1.0 + 2.0 * a - near - c + 0.2 * noise);
            design.spend_usd.push(if target[target.len() - 1] > 1.0 { 10.0 } else { 0.0 });
        }
        (design, target)
    }

    #[test]
    fn without_signs_the_fit_is_least_squares_and_with_them_the_best_that_keeps_them() {
        let (design, target) = design();
        let free = ridge(&design, &target, &[Sign::Free; 3]).expect("fits");
        for (found, wanted) in free.coefficients.iter().zip([2.0, -1.0, -1.0]) {
            assert!((found - wanted).abs() < 0.3, "{found} is far from {wanted}");
        }
        let signs = [Sign::Up, Sign::Up, Sign::Down];
        for (kept, target) in [
            (ridge(&design, &target, &signs).expect("fits"), &target),
            (logistic(&design, &signs).expect("fits"), &target),
        ] {
            assert_eq!(target.len(), 4000);
            assert!(kept.coefficients[0] > 0.5 && kept.coefficients[2] < -0.5, "{kept:?}");
            assert_eq!(kept.coefficients[1], 0.0, "the wrong way is no way");
        }
        // At the minimum no allowed change makes it better.
        let kept = ridge(&design, &target, &signs).expect("fits");
        let loss = |shift: [f64; 3]| {
            let rows = design.rows().zip(&target).map(|(row, target)| {
                let said: f64 = kept.coefficients.iter().zip(shift).zip(row).map(|((b, s), x)| (b + s) * x).sum();
                (kept.intercept + said - target).powi(2)
            });
            let penalty: f64 = kept.coefficients.iter().zip(shift).map(|(b, s)| (b + s).powi(2)).sum();
            rows.sum::<f64>() + SPEND_PENALTY * penalty
        };
        for shift in [[0.01, 0.0, 0.0], [-0.01, 0.0, 0.0], [0.0, 0.01, 0.0], [0.0, 0.0, 0.01], [0.0, 0.0, -0.01]] {
            assert!(loss(shift) > loss([0.0; 3]), "{shift:?} is better");
        }
    }
}
