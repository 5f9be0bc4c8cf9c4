//! A quick additive logistic regression on bins and levels (one coefficient each, ridge, iteratively reweighted least
//! squares): how much a set of columns tells together, judged on rows it was not fitted on.

use crate::packing::metrics;

/// Ridge penalty of every coefficient but the intercept.
const RIDGE: f64 = 1.0;

/// Newton steps; a step moves no coefficient by more than `LONGEST_STEP`.
const STEPS: usize = 25;
const LONGEST_STEP: f64 = 3.0;
const CONVERGED: f64 = 1e-3;

/// Columns of codes, each dense from 0, over the same rows.
pub struct Additive<'a> {
    columns: &'a [&'a [usize]],
    offsets: Vec<usize>,
    width: usize,
}

impl<'a> Additive<'a> {
    pub fn new(columns: &'a [&'a [usize]]) -> Self {
        let mut width = 1; // the intercept comes first
        let offsets = columns.iter().map(|codes| {
            let offset = width;
            width += codes.iter().max().map_or(0, |most| most + 1);
            offset
        });
        Self { offsets: offsets.collect(), columns, width }
    }

    /// Mean AUC over folds, each scored by the model of the others. A fold without both outcomes is left out.
    pub(crate) fn cross_validated(&self, happened: &[bool], folds: &[usize]) -> f64 {
        let scores = self.out_of_fold(happened, folds);
        let parts = folds.iter().max().map_or(0, |most| most + 1);
        let aucs = (0..parts).filter_map(|fold| {
            let rows = (0..happened.len()).filter(|row| folds[*row] == fold);
            let (happened, scores): (Vec<bool>, Vec<f64>) = rows.map(|row| (happened[row], scores[row])).unzip();
            let auc = metrics::auc(&happened, &scores);
            auc.is_finite().then_some(auc)
        });
        let aucs: Vec<f64> = aucs.collect();
        aucs.iter().sum::<f64>() / aucs.len() as f64
    }

    /// Each row's probability by the model of the other folds.
    pub fn out_of_fold(&self, happened: &[bool], folds: &[usize]) -> Vec<f64> {
        let parts = folds.iter().max().map_or(0, |most| most + 1);
        let mut scores = vec![f64::NAN; happened.len()];
        for fold in 0..parts {
            let (test, fit): (Vec<_>, Vec<_>) = (0..happened.len()).partition(|row| folds[*row] == fold);
            for (row, score) in test.iter().zip(self.trained_on(happened, &fit, &test)) {
                scores[*row] = score;
            }
        }
        scores
    }

    /// Probabilities of `test` by the model of `fit`.
    pub(crate) fn trained_on(&self, happened: &[bool], fit: &[usize], test: &[usize]) -> Vec<f64> {
        let coefficients = self.fit(happened, fit);
        test.iter().map(|row| 1.0 / (1.0 + (-self.logit(&coefficients, *row)).exp())).collect()
    }

    fn fit(&self, happened: &[bool], rows: &[usize]) -> Vec<f64> {
        // Never quite 0 or 1, so that rows of one outcome have a finite intercept.
        let share = (rows.iter().filter(|row| happened[**row]).count() as f64 + 0.5) / (rows.len() as f64 + 1.0);
        let mut coefficients = vec![0.0; self.width];
        coefficients[0] = (share / (1.0 - share)).ln();
        for _ in 0..STEPS {
            let mut step = self.newton(&coefficients, happened, rows);
            let longest = step.iter().fold(0.0, |longest: f64, change| longest.max(change.abs()));
            let scale = (LONGEST_STEP / longest).min(1.0);
            for (coefficient, change) in coefficients.iter_mut().zip(&mut step) {
                *coefficient += scale * *change;
            }
            if longest < CONVERGED {
                break;
            }
        }
        coefficients
    }

    fn newton(&self, coefficients: &[f64], happened: &[bool], rows: &[usize]) -> Vec<f64> {
        let width = self.width;
        let mut hessian = vec![0.0; width * width];
        let mut gradient: Vec<f64> = coefficients.iter().map(|coefficient| -RIDGE * coefficient).collect();
        gradient[0] = 0.0;
        for (i, diagonal) in hessian.iter_mut().step_by(width + 1).enumerate() {
            *diagonal = if i == 0 { 0.0 } else { RIDGE };
        }
        let mut places = vec![0; self.columns.len() + 1];
        for &row in rows {
            for (place, (codes, offset)) in places[1..].iter_mut().zip(self.columns.iter().zip(&self.offsets)) {
                *place = offset + codes[row];
            }
            let probability = 1.0 / (1.0 + (-self.logit(coefficients, row)).exp());
            let weight = (probability * (1.0 - probability)).max(1e-6);
            let residual = f64::from(u8::from(happened[row])) - probability;
            // Offsets rise, so this fills the lower triangle.
            for (i, &place) in places.iter().enumerate() {
                gradient[place] += residual;
                let line = &mut hessian[place * width..][..width];
                for &other in &places[..=i] {
                    line[other] += weight;
                }
            }
        }
        solve(hessian, gradient)
    }

    fn logit(&self, coefficients: &[f64], row: usize) -> f64 {
        let terms = self.columns.iter().zip(&self.offsets).map(|(codes, offset)| coefficients[offset + codes[row]]);
        coefficients[0] + terms.sum::<f64>()
    }
}

/// Solves `a x = b` by Cholesky's method; `a` is positive definite, its lower triangle given.
fn solve(mut a: Vec<f64>, mut b: Vec<f64>) -> Vec<f64> {
    let n = b.len();
    for i in 0..n {
        let (above, rest) = a.split_at_mut(i * n);
        let line = &mut rest[..n];
        for j in 0..i {
            let other = &above[j * n..][..n];
            let inner: f64 = line[..j].iter().zip(&other[..j]).map(|(x, y)| x * y).sum();
            line[j] = (line[j] - inner) / other[j];
        }
        let inner: f64 = line[..i].iter().map(|x| x * x).sum();
        line[i] = (line[i] - inner).max(1e-12).sqrt();
        let known: f64 = line[..i].iter().zip(&b).map(|(x, y)| x * y).sum();
        b[i] = (b[i] - known) / line[i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - known) / a[i * n + i];
    }
    b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_is_solved() {
        let solved = solve(vec![4.0, 0.0, 2.0, 3.0], vec![10.0, 8.0]);
        assert!((solved[0] - 1.75).abs() < 1e-12 && (solved[1] - 1.5).abs() < 1e-12, "{solved:?}");
    }

    #[test]
    fn two_columns_tell_more_than_one_and_noise_tells_nothing() {
        let noise = |row: usize, salt: u64| crate::packing::split::mix(row as u64 * 31 + salt) % 1000;
        let rows = 3000;
        let a: Vec<usize> = (0..rows).map(|row| (noise(row, 1) % 4) as usize).collect();
        let b: Vec<usize> = (0..rows).map(|row| (noise(row, 2) % 4) as usize).collect();
        let c: Vec<usize> = (0..rows).map(|row| (noise(row, 3) % 4) as usize).collect();
        let happened: Vec<bool> = (0..rows).map(|row| noise(row, 4) < 100 * (a[row] + b[row]) as u64 + 50).collect();
        let folds: Vec<usize> = (0..rows).map(|row| (noise(row, 5) % 5) as usize).collect();
        let auc = |columns: &[&[usize]]| Additive::new(columns).cross_validated(&happened, &folds);
        let one = auc(&[&a]);
        let both = auc(&[&a, &b]);
        let nothing = auc(&[&c]);
        assert!(one > 0.62 && both > one + 0.05 && (nothing - 0.5).abs() < 0.04, "{one} {both} {nothing}");
        assert!((auc(&[&a, &b, &c]) - both).abs() < 0.01);
    }

    #[test]
    fn a_column_that_tells_everything_does_not_diverge() {
        let happened: Vec<bool> = (0..600).map(|row| row % 3 == 0).collect();
        let column: Vec<usize> = happened.iter().map(|yes| usize::from(*yes)).collect();
        let folds: Vec<usize> = (0..600).map(|row| row / 120).collect();
        assert_eq!(Additive::new(&[&column, &column]).cross_validated(&happened, &folds), 1.0);
    }
}
