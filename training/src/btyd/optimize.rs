//! Finds the parameters of greatest likelihood. The only file that names `argmin`.

use anyhow::Context as _;
use argmin::core::{CostFunction, Error, Executor, State as _};
use argmin::solver::neldermead::NelderMead;

/// Standard deviation of the costs in the simplex at which a search ends.
const TOLERANCE: f64 = 1e-11;

/// What a search may take; one of four parameters needs some two hundred.
const MOST_STEPS: u64 = 2_000;

/// The cost of what cannot be: finite, so that the simplex still has a slope to follow.
const IMPOSSIBLE: f64 = 1e100;

struct Cost<F>(F);

impl<F: Fn(&[f64]) -> f64> CostFunction for Cost<F> {
    type Param = Vec<f64>;
    type Output = f64;

    fn cost(&self, at: &Self::Param) -> Result<f64, Error> {
        let cost = (self.0)(at);
        Ok(if cost.is_finite() { cost } else { IMPOSSIBLE })
    }
}

/// Minimises `cost` from `start` by the method of Nelder & Mead (1965), started again around what it finds until that
/// no longer moves: a simplex that collapsed early gets its size back.
///
/// # Errors
/// When no point of finite cost is found, or the search does not settle.
pub(super) fn minimize(start: &[f64], cost: impl Fn(&[f64]) -> f64) -> anyhow::Result<Vec<f64>> {
    let mut best = start.to_vec();
    let mut least = f64::INFINITY;
    for size in [1.0, 0.3, 0.3, 0.1, 0.1, 0.1, 0.1, 0.1] {
        let mut simplex = vec![best.clone()];
        simplex.extend((0..best.len()).map(|axis| {
            let mut corner = best.clone();
            corner[axis] += size;
            corner
        }));
        let solver = NelderMead::new(simplex).with_sd_tolerance(TOLERANCE)?;
        let search = Executor::new(Cost(&cost), solver).configure(|state| state.max_iters(MOST_STEPS)).run()?;
        let found = search.state().get_best_param().context("the search visited no point")?;
        let reached = search.state().get_best_cost();
        let gain = least - reached;
        if gain > 0.0 {
            best.clone_from(found);
            least = reached;
        }
        anyhow::ensure!(least < IMPOSSIBLE, "the likelihood is not finite anywhere near the start");
        if gain < 1e-9 * least.abs().max(1.0) {
            return Ok(best);
        }
    }
    anyhow::bail!("the likelihood still grows after eight searches: the data do not settle the parameters")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        // Rosenbrock's function has its minimum at (1, 1).
        let found = minimize(&[-1.2, 1.0], |x| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2));
        let found = found.expect("settles");
        assert!((found[0] - 1.0).abs() < 1e-4 && (found[1] - 1.0).abs() < 1e-4, "{found:?}");
    }

    #[test]
    fn a_hopeless_cost_is_an_error_and_a_hole_is_walked_around() {
        assert!(minimize(&[0.0], |_| f64::NAN).is_err());
        let found = minimize(&[2.0], |x| if x[0] > 2.5 { f64::NAN } else { (x[0] - 1.0).powi(2) }).expect("settles");
        assert!((found[0] - 1.0).abs() < 1e-4, "{found:?}");
    }
}
