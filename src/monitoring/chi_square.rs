//! Quantiles of the chi-square distribution, from the regularised incomplete gamma function.

/// Terms after which a series or a continued fraction is taken as it stands; for the few dozen degrees of freedom of
/// this program both end long before.
const MOST_TERMS: u32 = 10_000;

/// The point below which a chi-square variable with `degrees` >= 1 degrees of freedom lies with probability `share`
/// (0 < `share` < 1). Accurate to about 1e-10 relative.
pub fn quantile(share: f64, degrees: f64) -> f64 {
    debug_assert!(degrees >= 1.0 && 0.0 < share && share < 1.0);
    let mut low = 0.0;
    let mut high = degrees;
    while cumulative(high, degrees) < share {
        low = high;
        high *= 2.0;
    }
    // Bisection: needed once per column and window, and nothing can go wrong with it.
    while high - low > 1e-12 * high {
        let middle = f64::midpoint(low, high);
        if middle <= low || middle >= high {
            break;
        }
        if cumulative(middle, degrees) < share {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// P(chi-square with `degrees` degrees of freedom <= `x`), for `x` >= 0.
fn cumulative(x: f64, degrees: f64) -> f64 {
    lower_gamma(degrees / 2.0, x / 2.0)
}

/// The regularised lower incomplete gamma function P(a, x): its power series below a + 1, one minus the continued
/// fraction of Q(a, x) above (Abramowitz & Stegun 6.5.29 and 6.5.31, the latter by the modified Lentz method).
fn lower_gamma(a: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    let scale = (a * x.ln() - x - libm::lgamma(a)).exp();
    if x < a + 1.0 {
        let mut term = 1.0 / a;
        let mut sum = term;
        for k in 1..MOST_TERMS {
            term *= x / (a + f64::from(k));
            sum += term;
            if term < sum * f64::EPSILON {
                break;
            }
        }
        return (scale * sum).min(1.0);
    }
    (1.0 - scale * upper_fraction(a, x)).max(0.0)
}

/// The continued fraction of Q(a, x) without its scale, for `x` > a + 1.
fn upper_fraction(a: f64, x: f64) -> f64 {
    let tiny = f64::MIN_POSITIVE / f64::EPSILON;
    let away_from_zero = |value: f64| if value.abs() < tiny { tiny } else { value };
    let mut partial = x + 1.0 - a;
    let mut numerator = 1.0 / tiny;
    let mut denominator = 1.0 / partial;
    let mut fraction = denominator;
    for term in 1..MOST_TERMS {
        let term = f64::from(term);
        let step = -term * (term - a);
        partial += 2.0;
        denominator = 1.0 / away_from_zero(step * denominator + partial);
        numerator = away_from_zero(partial + step / numerator);
        fraction *= numerator * denominator;
        if (numerator * denominator - 1.0).abs() < f64::EPSILON {
            break;
        }
    }
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.chi2.ppf`: share, degrees of freedom, quantile.
    const PUBLISHED: [(f64, f64, f64); 32] = [
        (0.5, 1.0, 0.454_936_423_120),
        (0.5, 2.0, 1.386_294_361_120),
        (0.5, 5.0, 4.351_460_191_096),
        (0.5, 9.0, 8.342_832_692_253),
        (0.5, 10.0, 9.341_817_765_592),
        (0.5, 11.0, 10.340_998_074_392),
        (0.5, 30.0, 29.336_031_516_662),
        (0.5, 100.0, 99.334_129_235_988),
        (0.95, 1.0, 3.841_458_820_694),
        (0.95, 2.0, 5.991_464_547_108),
        (0.95, 5.0, 11.070_497_693_516),
        (0.95, 9.0, 16.918_977_604_620),
        (0.95, 10.0, 18.307_038_053_275),
        (0.95, 11.0, 19.675_137_572_682),
        (0.95, 30.0, 43.772_971_825_742),
        (0.95, 100.0, 124.342_113_404_004),
        (0.99, 1.0, 6.634_896_601_021),
        (0.99, 2.0, 9.210_340_371_976),
        (0.99, 5.0, 15.086_272_469_389),
        (0.99, 9.0, 21.665_994_333_462),
        (0.99, 10.0, 23.209_251_158_954),
        (0.99, 11.0, 24.724_970_311_318),
        (0.99, 30.0, 50.892_181_311_517),
        (0.99, 100.0, 135.806_723_171_027),
        (0.999, 1.0, 10.827_566_170_663),
        (0.999, 2.0, 13.815_510_557_964),
        (0.999, 5.0, 20.515_005_652_433),
        (0.999, 9.0, 27.877_164_871_257),
        (0.999, 10.0, 29.588_298_445_074),
        (0.999, 11.0, 31.264_133_620_240),
        (0.999, 30.0, 59.703_064_304_430),
        (0.999, 100.0, 149.449_252_779_039),
    ];

    #[test]
    fn quantiles_agree_with_scipy() {
        for (share, degrees, expected) in PUBLISHED {
            let found = quantile(share, degrees);
            assert!((found / expected - 1.0).abs() < 1e-9, "{share} of {degrees}: {found}, not {expected}");
            assert!((cumulative(found, degrees) - share).abs() < 1e-11);
        }
    }
}
