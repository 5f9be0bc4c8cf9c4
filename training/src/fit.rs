//! Fits what is shipped: a hurdle of linfa's logistic and least-squares regressions. The only file that names
//! `linfa` and `ndarray`.

use anyhow::Context as _;
use linfa::traits::Fit as _;
use linfa::{Dataset, DatasetBase};
use linfa_linear::LinearRegression;
use linfa_logistic::LogisticRegression;
use ndarray::{Array1, Array2};
use scoreline::packing::table::Row;
use scoreline_engine::features::FeatureSchema;
use scoreline_engine::inference::linear::{Format, HurdleVariant, LinearModel, Predictor};

/// L2 penalties: half of the first times the squared coefficients beside the log-likelihood of a purchase, the second
/// times them beside the squared residuals of ln(spend). Columns are z-scored; chosen by cross-validation, where a
/// third or three times as much changes nothing.
const PURCHASE_PENALTY: f64 = 30.0;
const SPEND_PENALTY: f64 = 100.0;

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

    fn matrix(&self) -> anyhow::Result<Array2<f64>> {
        Ok(Array2::from_shape_vec((self.spend_usd.len(), self.columns), self.values.clone())?)
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

/// Fits a hurdle with one variant for each list of features, in order of preference.
pub(crate) fn hurdle(prepared: &Prepared, variants: &[Vec<String>]) -> anyhow::Result<LinearModel> {
    let variants = variants
        .iter()
        .map(|uses| hurdle_variant(prepared, uses).with_context(|| format!("variant on {}", uses.join(", "))))
        .collect::<Result<_, _>>()?;
    Ok(LinearModel::Hurdle { format: Format::V1, variants })
}

fn hurdle_variant(prepared: &Prepared, uses: &[String]) -> anyhow::Result<HurdleVariant> {
    let design = prepared.design(uses)?;
    let purchase = logistic(&design)?;
    let buyers = design.buyers();
    let logs: Vec<f64> = buyers.spend_usd.iter().map(|spend| spend.ln()).collect();
    let spend = ridge(&buyers, &logs)?;

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
fn logistic(design: &Design) -> anyhow::Result<Predictor> {
    let bought: Array1<bool> = design.spend_usd.iter().map(|spend| *spend > 0.0).collect();
    let data = DatasetBase::new(design.matrix()?, bought);
    let model = LogisticRegression::default()
        .alpha(PURCHASE_PENALTY)
        .max_iterations(500)
        .gradient_tolerance(1e-4)
        .fit(&data)
        .context("logistic regression")?;
    // linfa calls the more frequent class positive, whichever that is.
    let sign = if model.labels().pos.class { 1.0 } else { -1.0 };
    let coefficients: Vec<f64> = model.params().iter().map(|coefficient| sign * coefficient).collect();
    Ok(within_seen(design, sign * model.intercept(), coefficients))
}

/// Least squares with a penalty on the coefficients but not on the intercept: centred, the penalty is a row more for each
/// coefficient.
fn ridge(design: &Design, target: &[f64]) -> anyhow::Result<Predictor> {
    let n = target.len();
    let k = design.columns;
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n as f64;
    let centre: Vec<f64> = (0..k).map(|column| mean(&mut design.rows().map(|row| row[column]))).collect();
    let middle = mean(&mut target.iter().copied());
    let mut x = Array2::zeros((n + k, k));
    let mut y = Array1::zeros(n + k);
    for (i, (row, target)) in design.rows().zip(target).enumerate() {
        for (j, value) in row.iter().enumerate() {
            x[[i, j]] = value - centre[j];
        }
        y[i] = target - middle;
    }
    for j in 0..k {
        x[[n + j, j]] = SPEND_PENALTY.sqrt();
    }
    let model = LinearRegression::new().with_intercept(false).fit(&Dataset::new(x, y)).context("least squares")?;
    let coefficients = model.params().to_vec();
    let intercept = middle - coefficients.iter().zip(&centre).map(|(c, x)| c * x).sum::<f64>();
    Ok(within_seen(design, intercept, coefficients))
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
