//! A random forest and boosted trees by smartcore: models the hurdle is compared with. The only file that names
//! `smartcore`.

use anyhow::Context as _;
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use crate::fit::Design;

const TREES: usize = 100;
const LEAST_ROWS_IN_A_LEAF: usize = 20;

const ROUNDS: usize = 150;
const LEARNING_RATE: f64 = 0.05;
const DEPTH: u16 = 4;
const LEAST_ROWS_IN_A_BOOSTED_LEAF: usize = 50;

/// Fits on `design` and predicts the rows of `wanted`.
pub(crate) fn predictions(design: &Design, wanted: &Design, seed: u64) -> anyhow::Result<Vec<f64>> {
    let parameters = RandomForestRegressorParameters::default()
        .with_n_trees(TREES)
        .with_min_samples_leaf(LEAST_ROWS_IN_A_LEAF)
        .with_m((design.columns / 3).max(1))
        .with_seed(seed);
    let forest = RandomForestRegressor::fit(&matrix(design)?, &design.spend_usd, parameters).context("forest")?;
    forest.predict(&matrix(wanted)?).context("forest")
}

/// Boosted trees on squared error: fits on `design` and predicts the rows of `wanted`.
pub(crate) fn boosted(design: &Design, wanted: &Design, seed: u64) -> anyhow::Result<Vec<f64>> {
    let mean = design.spend_usd.iter().sum::<f64>() / design.spend_usd.len() as f64;
    let parameters = XGRegressorParameters::default()
        .with_n_estimators(ROUNDS)
        .with_learning_rate(LEARNING_RATE)
        .with_max_depth(DEPTH)
        .with_min_child_weight(LEAST_ROWS_IN_A_BOOSTED_LEAF)
        .with_base_score(mean)
        .with_seed(seed);
    let trees = XGRegressor::fit(&matrix(design)?, &design.spend_usd, parameters).context("boosting")?;
    trees.predict(&matrix(wanted)?).context("boosting")
}

fn matrix(of: &Design) -> anyhow::Result<DenseMatrix<f64>> {
    Ok(DenseMatrix::new(of.spend_usd.len(), of.columns, of.values.clone(), false)?)
}
