//! A logistic regression on one number: recalibration of probabilities and the dead band of a tier.

/// `ln(odds) = intercept + slope × x`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    pub intercept: f64,
    pub slope: f64,
}

/// Fits by Newton's method. `None` when the outcomes do not determine a rising line: all alike, perfectly separated or
/// falling.
pub(crate) fn fit(x: &[f64], happened: &[bool]) -> Option<Line> {
    let count = x.len() as f64;
    let mean = x.iter().sum::<f64>() / count;
    let spread = (x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
    if happened.iter().all(|is| *is == happened[0]) || spread.is_nan() || spread < 1e-12 {
        return None;
    }
    let scaled: Vec<f64> = x.iter().map(|x| (x - mean) / spread).collect();
    let [mut level, mut slope] = [0.0, 1.0];
    for _ in 0..100 {
        let mut gradient = [0.0; 2];
        let mut hessian = [0.0; 3];
        for (scaled, happened) in scaled.iter().zip(happened) {
            let said = 1.0 / (1.0 + (-(level + slope * scaled)).exp());
            let error = f64::from(u8::from(*happened)) - said;
            let weight = said * (1.0 - said);
            gradient[0] += error;
            gradient[1] += error * scaled;
            hessian[0] += weight;
            hessian[1] += weight * scaled;
            hessian[2] += weight * scaled * scaled;
        }
        let determinant = hessian[0] * hessian[2] - hessian[1] * hessian[1];
        if determinant.is_nan() || determinant <= 1e-12 * count {
            return None;
        }
        let step = [
            (hessian[2] * gradient[0] - hessian[1] * gradient[1]) / determinant,
            (hessian[0] * gradient[1] - hessian[1] * gradient[0]) / determinant,
        ];
        // A long step overshoots on a logistic curve; a bounded one only takes a few more.
        level += step[0].clamp(-2.0, 2.0);
        slope += step[1].clamp(-2.0, 2.0);
        if step[0].abs() + step[1].abs() < 1e-10 {
            let slope = slope / spread;
            return (slope > 0.0).then_some(Line { intercept: level - slope * mean, slope });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_line_is_found_again() {
        // At each x, a share of exactly 1 / (1 + e^-(0.5 + 2x)) of a large group.
        let mut x = Vec::new();
        let mut happened = Vec::new();
        for k in -4..=4 {
            let at = f64::from(k) / 4.0;
            let share = 1.0 / (1.0 + (-(0.5 + 2.0 * at)).exp());
            for i in 0..10_000 {
                x.push(at);
                happened.push(f64::from(i) < share * 10_000.0);
            }
        }
        let line = fit(&x, &happened).expect("determined");
        assert!((line.intercept - 0.5).abs() < 1e-3 && (line.slope - 2.0).abs() < 1e-3, "{line:?}");
    }

    #[test]
    fn what_determines_no_line_gives_none() {
        assert_eq!(fit(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(fit(&[1.0, 2.0, 3.0, 4.0], &[false, false, true, true]), None, "perfectly separated");
        assert_eq!(fit(&[1.0, 2.0, 3.0, 4.0], &[true, true, false, true]).map(|line| line.slope > 0.0), None);
        assert_eq!(fit(&[1.0; 4], &[true, false, true, false]), None);
    }
}
