//! The normal distribution: what the generator needs to turn an outcome into a standard normal score.

/// P(Z <= z), by the continued fraction of Mills' ratio in the tails and the power series in the middle.
pub fn cdf(z: f64) -> f64 {
    if z < 0.0 {
        return 1.0 - cdf(-z);
    }
    let density = (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    if z < 3.0 {
        let (mut term, mut sum) = (z, z);
        for k in 1..60 {
            term *= z * z / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 + density * sum
    } else {
        let mut fraction = 0.0;
        for k in (1..60).rev() {
            fraction = f64::from(k) / (z + fraction);
        }
        1.0 - density / (z + fraction)
    }
}

/// The z with P(Z <= z) = p, for p inside (1e-12, 1 - 1e-12); outside it the nearest such z.
pub fn quantile(p: f64) -> f64 {
    let p = p.clamp(1e-12, 1.0 - 1e-12);
    let (mut low, mut high) = (-8.0, 8.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if cdf(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        for (z, p) in
            [(0.0, 0.5), (1.0, 0.841_344_746_068_543), (-1.959_963_984_540_054, 0.025), (4.0, 0.999_968_328_758)]
        {
            assert!((cdf(z) - p).abs() < 1e-12, "cdf({z}) = {}", cdf(z));
            assert!((quantile(p) - z).abs() < 1e-7, "quantile({p}) = {}", quantile(p));
        }
    }
}
