//! From the purchase file to a finished bundle, with the models it is compared with.

use std::path::PathBuf;

use anyhow::Context as _;
use scoreline::domain::time::Timestamp;
use scoreline::domain::{ModelName, ModelVersion};
use scoreline::features::FeatureSchema;
use scoreline::inference::FeatureMatrix;
use scoreline::inference::linear::{self, LinearModel};
use scoreline::inference::manifest::{BackendKind, Output, Outputs, TrainingSummary};

use crate::assemble::{self, Draft, Quality, Staged, assemble};
use crate::baseline::Peer;
use crate::cdnow;
use crate::cohort::{HORIZON_DAYS, Member, members};
use crate::fit::{Prepared, hurdle};
use crate::generator::{Expectation, Simulation, interaction_features};
use crate::metrics;
use crate::product::{self, DATA, LICENCE, Product};
use crate::report::Progress;
use crate::split::Split;
use crate::statistics;
use crate::table::Table;
use crate::{forest, tweedie};

/// Which of the shipped models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    ClvPurchases,
    Clv,
}

/// What its data are made from.
#[derive(Clone, Debug)]
pub struct Source {
    pub which: Which,
    pub purchases: PathBuf,
    pub seed: u64,
    /// How much the simulated satisfaction knows of the real outcome.
    pub rho: f64,
}

/// A training run.
#[derive(Clone, Debug)]
pub struct Run {
    pub source: Source,
    pub version: ModelVersion,
    pub models: PathBuf,
    pub trained_at: Timestamp,
    pub replace: bool,
    /// How to repeat it.
    pub command: String,
}

/// A finished run: the bundle, not published yet, and the test figures of other models on the same rows.
pub struct Trained {
    pub staged: Staged,
    pub compared: Vec<Quality>,
}

/// The customers of a source and the table a model is trained on.
pub fn data(source: &Source, progress: &Progress) -> anyhow::Result<(Product, Table, Vec<Member>)> {
    progress.step("reading purchases");
    let customers = cdnow::read(&source.purchases)?;
    let members = members(&customers, source.seed)?;
    match source.which {
        Which::ClvPurchases => Ok((product::clv_purchases(), product::purchases_table(&members), members)),
        Which::Clv => {
            progress.step("simulating conversations");
            let expectations = expectations(&members)?;
            let simulation = Simulation { seed: source.seed, rho: source.rho };
            let interactions = interaction_features(&members, &customers, &expectations, simulation)?;
            let table = product::interactions_table(&members, &interactions);
            Ok((product::clv(source.rho), table, members))
        }
    }
}

/// Trains, calibrates and measures. Nothing is published.
pub fn train(run: &Run, progress: &Progress) -> anyhow::Result<Trained> {
    let (product, table, members) = data(&run.source, progress)?;
    let name = ModelName::parse(product.name)?;
    assemble::target(&run.models, &name, &run.version, run.replace)?;

    progress.step("fitting the hurdle");
    let fitted = fit(&product, &table)?;
    progress.step("fitting models to compare with");
    let compared = compare(&product, &table, &fitted, run.source.seed)?;

    progress.step("calibrating, measuring, writing");
    let draft = Draft {
        name,
        version: run.version.clone(),
        trained_at: run.trained_at,
        description: product.description.to_owned(),
        backend: BackendKind::Linear,
        file: "model.json".to_owned(),
        model: fitted.model.write(),
        horizon_days: HORIZON_DAYS,
        cold_start_feature: product.cold_start_feature.to_owned(),
        standardize: true,
        outputs: hurdle_outputs(),
        features: fitted.schema.rules().to_vec(),
        grouping: product.grouping,
        partial: vec![product.partial],
        training: TrainingSummary {
            data: DATA.to_owned(),
            synthetic: product.synthetic,
            licence: LICENCE.to_owned(),
            command: run.command.clone(),
            seed: run.source.seed,
            ..TrainingSummary::default()
        },
        golden: product.golden,
    };
    let staged = assemble(draft, &table, &peers(&members), &run.models, run.replace)?;
    Ok(Trained { staged, compared })
}

/// A fitted model with the schema its rows are prepared by.
pub struct Fitted {
    pub schema: FeatureSchema,
    pub model: LinearModel,
}

/// Fits a product's hurdle on the fit rows of its table.
pub fn fit(product: &Product, table: &Table) -> anyhow::Result<Fitted> {
    let schema = FeatureSchema::new(statistics::rules(&product.features, table)?, true)?;
    let prepared = Prepared::new(&schema, &table.part(Split::Fit));
    let model = hurdle(&prepared, &product.variants)?;
    Ok(Fitted { schema, model })
}

/// Baselines describe everybody but the test customers.
fn peers(members: &[Member]) -> Vec<Peer<'_>> {
    let peers = members.iter().filter(|member| member.split != Split::Test).map(|member| Peer {
        spend_usd: member.spend_usd,
        acquisition_channel: member.acquisition_channel,
        segment: member.segment,
    });
    peers.collect()
}

/// What purchases alone lead to expect of each member.
fn expectations(members: &[Member]) -> anyhow::Result<Vec<Expectation>> {
    let table = product::purchases_table(members);
    let Fitted { schema, model } = fit(&product::clv_purchases(), &table)?;
    let prepared = Prepared::new(&schema, &table.rows.iter().collect::<Vec<_>>());
    let (names, outputs) = run(&schema, &model, &prepared)?;
    let column = |name: &str| names.iter().position(|other| other == name).context("a hurdle has this output");
    let (risk, log_mean, log_sigma) = (column("risk")?, column("log_mean")?, column("log_sigma")?);
    let expectation = |row: &[f64]| Expectation { risk: row[risk], log_mean: row[log_mean], log_sigma: row[log_sigma] };
    Ok(outputs.chunks_exact(names.len()).map(expectation).collect())
}

/// Runs a model as the server does; names of the outputs, and the outputs row by row.
fn run(schema: &FeatureSchema, model: &LinearModel, prepared: &Prepared) -> anyhow::Result<(Vec<String>, Vec<f64>)> {
    let backend = linear::load_with_rules(&model.write(), schema.rules())?;
    let rows = FeatureMatrix::new(&prepared.values, schema.len());
    let mut outputs = vec![0.0; rows.rows() * backend.outputs().len()];
    backend.predict(rows, &mut outputs)?;
    Ok((backend.outputs().to_vec(), outputs))
}

/// The same rows, other models.
fn compare(product: &Product, table: &Table, fitted: &Fitted, seed: u64) -> anyhow::Result<Vec<Quality>> {
    let fit = Prepared::new(&fitted.schema, &table.part(Split::Fit));
    let test = Prepared::new(&fitted.schema, &table.part(Split::Test));
    let quality = |label: &str, value: &[f64]| Quality {
        label: label.to_owned(),
        metrics: [
            ("normalized_gini", metrics::normalized_gini(&test.spend_usd, value)),
            ("total_error", metrics::total_error(&test.spend_usd, value)),
            ("decile_error", metrics::decile_error(&test.spend_usd, value)),
            ("rmse_usd", metrics::rmse(&test.spend_usd, value)),
            ("spearman", metrics::spearman(&test.spend_usd, value)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    };
    let glm = tweedie::tweedie(&fit, &product.variants[..1])?;
    // One variant with features that may be missing: no bundle, so it is loaded by name only.
    let names: Vec<_> = fit.names.iter().map(String::as_str).collect();
    let backend = linear::load(&glm.write(), &names)?;
    let mut glm = vec![0.0; test.spend_usd.len()];
    backend.predict(FeatureMatrix::new(&test.values, names.len()), &mut glm)?;
    let all = &product.variants[0];
    let forest = forest::predictions(&fit.design(all)?, &test.design(all)?, seed)?;
    Ok(vec![quality("Tweedie regression (own IRLS)", &glm), quality("random forest (smartcore)", &forest)])
}

fn hurdle_outputs() -> Outputs {
    let name = |name: &str| Some(Output::Name(name.to_owned()));
    Outputs {
        value: name("value"),
        risk: name("risk"),
        log_mean: name("log_mean"),
        log_sigma: name("log_sigma"),
        ..Outputs::default()
    }
}
