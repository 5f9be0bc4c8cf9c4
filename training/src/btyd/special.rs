//! The special functions that the likelihoods are written in.

/// Natural logarithm of the gamma function, x > 0.
pub(super) fn ln_gamma(x: f64) -> f64 {
    libm::lgamma(x)
}

/// ln(e^a + e^b) without overflow; minus infinity is zero.
pub(super) fn ln_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

/// ln(e^a - e^b) for a >= b.
pub(super) fn ln_subtract(a: f64, b: f64) -> f64 {
    a + (-(b - a).min(0.0).exp_m1()).ln()
}

/// Gauss's hypergeometric function 2F1(a, b; c; z) for 0 <= z < 1, by its power series.
///
/// The terms shrink as z^n n^(a + b - c - 1): callers bring their arguments to small a and b by Euler's transformation
/// 2F1(a, b; c; z) = (1 - z)^(c - a - b) 2F1(c - a, c - b; c; z) first (Abramowitz & Stegun 15.3.3).
pub(super) fn hypergeometric(a: f64, b: f64, c: f64, z: f64) -> f64 {
    let mut sum = 1.0;
    let mut term = 1.0;
    for step in 0..100_000 {
        let done = f64::from(step);
        term *= (a + done) * (b + done) / ((c + done) * (done + 1.0)) * z;
        sum += term;
        // What is left is at most a geometric series once the terms shrink; 1 - z keeps it honest near z = 1.
        if term.abs() <= f64::EPSILON * (1.0 - z) * sum.abs() {
            break;
        }
    }
    sum
}

/// 2F1(1, b; c; z) for 0 <= z < 1 and 0 < b < c, by Gauss's continued fraction (DLMF 15.7; Wall 1948, § 89), evaluated
/// from the front (Lentz 1976). Near z = 1 it takes steps in proportion to 1 / sqrt(1 - z), the series to 1 / (1 - z).
pub(super) fn hypergeometric_one(b: f64, c: f64, z: f64) -> f64 {
    let mut fraction = 1.0;
    let mut numerator = 1.0;
    let mut denominator = 0.0;
    for step in 1..10_000 {
        let n = f64::from(step / 2);
        let part = if step % 2 == 1 {
            (b + n) * (c - 1.0 + n) / ((c - 1.0 + 2.0 * n) * (c + 2.0 * n))
        } else {
            n * (c - 1.0 - b + n) / ((c - 2.0 + 2.0 * n) * (c - 1.0 + 2.0 * n))
        };
        denominator = 1.0 / (1.0 - part * z * denominator);
        numerator = 1.0 - part * z / numerator;
        let change = numerator * denominator;
        fraction *= change;
        if (change - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    1.0 / fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) {
        assert!((a - b).abs() <= 1e-12 * b.abs(), "{a} is not {b}");
    }

    #[test]
    fn hypergeometric_values_are_those_of_scipy() {
        near(hypergeometric(1.0, 2.5, 4.0, 0.3), 1.238_502_794_621_896_7);
        near(hypergeometric(0.4, -0.3, 2.2, 0.6), 0.963_449_877_462_868_5);
        near(hypergeometric(-0.6, -0.2, 1.7, 0.35), 1.025_265_106_741_703);
        near(hypergeometric(1.3, 2.1, 9.5, 0.95), 1.420_475_828_792_093_8);
        near(hypergeometric_one(2.5, 4.0, 0.3), 1.238_502_794_621_896_7);
        near(hypergeometric_one(0.7, 8.2, 0.99), 1.106_287_802_861_762);
        near(hypergeometric_one(40.5, 42.0, 0.9), 7.807_070_636_671_743);
        near(hypergeometric_one(3.0, 5.0, 0.0), 1.0);
    }

    #[test]
    fn the_fraction_holds_next_to_one() {
        // 2F1(1, 1; 2; z) = -ln(1 - z) / z.
        for z in [0.5, 0.999, 0.999_999] {
            let exact = -f64::ln_1p(-z) / z;
            assert!((hypergeometric_one(1.0, 2.0, z) - exact).abs() < 1e-9 * exact, "{z}");
        }
    }

    #[test]
    fn sums_and_differences_of_logarithms() {
        near(ln_add(1000.0, 1000.0), 1000.0 + 2.0_f64.ln());
        near(ln_add(f64::NEG_INFINITY, 2.0), 2.0);
        assert_eq!(ln_add(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
        near(ln_subtract(8.0_f64.ln(), 6.0_f64.ln()), 2.0_f64.ln());
        assert_eq!(ln_subtract(3.0, 3.0), f64::NEG_INFINITY);
    }
}
