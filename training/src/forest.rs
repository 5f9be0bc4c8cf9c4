//! A random forest by smartcore: the model the hurdle is compared with. The only file that names `smartcore`.

use anyhow::Context as _;
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::fit::Design;

const TREES: usize = 100;
const LEAST_ROWS_IN_A_LEAF: usize = 20;

/// Fits on `design` and predicts the rows of `wanted`.
pub fn predictions(design: &Design, wanted: &Design, seed: u64) -> anyhow::Result<Vec<f64>> {
    let matrix = |of: &Design| DenseMatrix::new(of.spend_usd.len(), of.columns, of.values.clone(), false);
    let parameters = RandomForestRegressorParameters::default()
        .with_n_trees(TREES)
        .with_min_samples_leaf(LEAST_ROWS_IN_A_LEAF)
        .with_m((design.columns / 3).max(1))
        .with_seed(seed);
    let forest = RandomForestRegressor::fit(&matrix(design)?, &design.spend_usd, parameters).context("forest")?;
    forest.predict(&matrix(wanted)?).context("forest")
}
