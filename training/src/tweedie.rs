//! A Tweedie regression with log link, by iteratively reweighted least squares: the model the hurdle is compared
//! with. linfa-linear has one too, but its line search does not come back on this data.

use anyhow::Context as _;
use scoreline_engine::inference::linear::{Format, LinearModel, Link, RegressionVariant};

use crate::fit::{Design, Prepared, within_seen};

/// Between Poisson (1) and gamma (2): an atom at zero and a long tail.
const POWER: f64 = 1.5;

/// Keeps the normal equations solvable when two features say the same.
const RIDGE: f64 = 1e-6;

/// Fits one variant for each list of features, in order of preference.
pub(crate) fn tweedie(prepared: &Prepared, variants: &[Vec<String>]) -> anyhow::Result<LinearModel> {
    let mut fitted = Vec::with_capacity(variants.len());
    for uses in variants {
        let design = prepared.design(uses)?;
        let (intercept, coefficients) = irls(&design).with_context(|| format!("variant on {}", uses.join(", ")))?;
        fitted.push(RegressionVariant { uses: uses.clone(), predictor: within_seen(&design, intercept, coefficients) });
    }
    Ok(LinearModel::Regression { format: Format::V1, link: Link::Log, variants: fitted })
}

/// Fisher scoring: with mean m = e^eta and variance m^power, each step is least squares of
/// eta + (y - m) / m with weights m^(2 - power); a step that makes the fit worse is halved.
fn irls(design: &Design) -> anyhow::Result<(f64, Vec<f64>)> {
    let width = design.columns + 1;
    let n = design.spend_usd.len() as f64;
    let mean = design.spend_usd.iter().sum::<f64>() / n;
    anyhow::ensure!(mean > 0.0, "nobody spent anything");
    let mut beta = vec![0.0; width];
    beta[0] = mean.ln();
    let mut loss = loss_of(design, &beta);
    for _ in 0..100 {
        let mut normal = vec![0.0; width * width];
        let mut right = vec![0.0; width];
        for (row, y) in design.rows().zip(&design.spend_usd) {
            let eta = eta(&beta, row);
            let m = eta.exp();
            let weight = m.powf(2.0 - POWER) / n;
            let response = eta + (y - m) / m;
            let x = |i: usize| if i == 0 { 1.0 } else { row[i - 1] };
            for i in 0..width {
                right[i] += weight * x(i) * response;
                for j in 0..=i {
                    normal[i * width + j] += weight * x(i) * x(j);
                }
            }
        }
        for i in 1..width {
            normal[i * width + i] += RIDGE;
        }
        let mut next = solve(normal, right).context("the features are linearly dependent")?;
        let mut next_loss = loss_of(design, &next);
        for _ in 0..30 {
            if next_loss <= loss {
                break;
            }
            next = next.iter().zip(&beta).map(|(new, old)| f64::midpoint(*new, *old)).collect();
            next_loss = loss_of(design, &next);
        }
        let step = next.iter().zip(&beta).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let gain = loss - next_loss;
        (beta, loss) = (next, next_loss);
        if step < 1e-9 || gain.abs() < 1e-12 * loss.abs() {
            return Ok((beta[0], beta[1..].to_vec()));
        }
    }
    anyhow::bail!("no convergence in 100 steps")
}

fn eta(beta: &[f64], row: &[f64]) -> f64 {
    let sum = beta[0] + row.iter().zip(&beta[1..]).map(|(x, b)| x * b).sum::<f64>();
    sum.clamp(-20.0, 20.0)
}

/// Half the mean deviance up to a constant, and the ridge.
fn loss_of(design: &Design, beta: &[f64]) -> f64 {
    let losses = design.rows().zip(&design.spend_usd).map(|(row, y)| {
        let m = eta(beta, row).exp();
        m.powf(2.0 - POWER) / (2.0 - POWER) - y * m.powf(1.0 - POWER) / (1.0 - POWER)
    });
    let ridge = RIDGE / 2.0 * beta[1..].iter().map(|b| b * b).sum::<f64>();
    losses.sum::<f64>() / design.spend_usd.len() as f64 + ridge
}

/// Solves a symmetric positive definite system, given its lower triangle, by Cholesky's method.
pub(crate) fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Option<Vec<f64>> {
    let n = b.len();
    for i in 0..n {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            let left = a[i * n + j] - sum;
            a[i * n + j] = if i != j {
                left / a[j * n + j]
            } else if left > 0.0 {
                left.sqrt()
            } else {
                return None;
            };
        }
    }
    for i in 0..n {
        let sum: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - sum) / a[i * n + i];
    }
    Some(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saturated_model_returns_the_group_means() {
        // One feature with two values: the fitted means must be the two groups' means, 2 and 8.
        let design = Design {
            columns: 1,
            values: vec![0.0, 0.0, 0.0, 1.0, 1.0, 1.0],
            spend_usd: vec![0.0, 0.0, 6.0, 4.0, 20.0, 0.0],
        };
        let (intercept, coefficients) = irls(&design).expect("converges");
        assert!((intercept.exp() - 2.0).abs() < 1e-4, "{intercept}");
        assert!(((intercept + coefficients[0]).exp() - 8.0).abs() < 1e-4, "{coefficients:?}");
    }

    #[test]
    fn cholesky_solves_and_refuses() {
        // [4 2; 2 3] x = [8, 7] has x = [1.25, 1.5].
        let x = solve(vec![4.0, 0.0, 2.0, 3.0], vec![8.0, 7.0]).expect("positive definite");
        assert!((x[0] - 1.25).abs() < 1e-12 && (x[1] - 1.5).abs() < 1e-12);
        assert_eq!(solve(vec![1.0, 0.0, 1.0, 1.0], vec![1.0, 1.0]), None);
    }
}
