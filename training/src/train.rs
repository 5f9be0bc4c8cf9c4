//! From the purchase file to a finished bundle, with the models it is compared with.

use std::collections::BTreeMap;
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
use crate::leaks::{self, Check, LeakReport};
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
    /// Columns that may look like leaks, and why.
    pub allow: BTreeMap<String, String>,
    /// Whether to fit once more on the null set.
    pub null_check: bool,
}

/// A finished run: the bundle, not published yet, and the test figures of other models on the same rows.
pub struct Trained {
    pub staged: Staged,
    pub compared: Vec<Quality>,
    pub leaks: LeakReport,
}

/// The customers of a source, the table a model is trained on, and whether features kept to what was known in time.
pub struct Data {
    pub product: Product,
    pub table: Table,
    pub members: Vec<Member>,
    pub checks: Vec<Check>,
}

/// Makes a source's data.
pub fn data(source: &Source, progress: &Progress) -> anyhow::Result<Data> {
    progress.step("reading purchases");
    let customers = cdnow::read(&source.purchases)?;
    let members = members(&customers, source.seed)?;
    let mut checks = vec![leaks::training::purchases_as_of(&customers)?];
    let (product, table) = match source.which {
        Which::ClvPurchases => (product::clv_purchases(), product::purchases_table(&members)),
        Which::Clv => {
            progress.step("simulating conversations");
            let expectations = expectations(&members)?;
            let simulation = Simulation { seed: source.seed, rho: source.rho };
            checks.push(leaks::training::interactions_as_of(&members, &customers, &expectations, simulation)?);
            let interactions = interaction_features(&members, &customers, &expectations, simulation)?;
            (product::clv(source.rho), product::interactions_table(&members, &interactions))
        }
    };
    Ok(Data { product, table, members, checks })
}

/// Trains, calibrates and measures. Nothing is published.
pub fn train(run: &Run, progress: &Progress) -> anyhow::Result<Trained> {
    let Data { product, table, members, checks } = data(&run.source, progress)?;
    let name = ModelName::parse(product.name)?;
    assemble::target(&run.models, &name, &run.version, run.replace)?;

    progress.step("looking for leaks");
    let mut leaks = leaks::training::of_table(&product.features, &table, &run.allow)?;
    leaks.checks.extend(checks);
    if run.null_check {
        leaks.checks.push(leaks::null_set::check(&run.source, progress)?);
    }
    leaks.refuse()?;

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
            allowed: leaks.allowed(),
            ..TrainingSummary::default()
        },
        golden: product.golden,
    };
    let staged = assemble(&draft, &table, &peers(&members), &run.models, run.replace)?;
    Ok(Trained { staged, compared, leaks })
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
pub fn run(
    schema: &FeatureSchema,
    model: &LinearModel,
    prepared: &Prepared,
) -> anyhow::Result<(Vec<String>, Vec<f64>)> {
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
    let names: Vec<_> = fit.names.iter().map(String::as_str).collect();
    let values = |model: &LinearModel| -> anyhow::Result<Vec<f64>> {
        // One variant with features that may be missing: no bundle, so it is loaded by name only.
        let backend = linear::load(&model.write(), &names)?;
        let mut outputs = vec![0.0; test.spend_usd.len() * backend.outputs().len()];
        backend.predict(FeatureMatrix::new(&test.values, names.len()), &mut outputs)?;
        Ok(outputs.into_iter().step_by(backend.outputs().len()).collect())
    };
    let mut compared = Vec::new();
    if let Some((label, uses)) = &product.reference {
        compared.push(quality(label, &values(&hurdle(&fit, std::slice::from_ref(uses))?)?));
    }
    let glm = tweedie::tweedie(&fit, &product.variants[..1])?;
    compared.push(quality("Tweedie regression (own IRLS)", &values(&glm)?));
    let all = &product.variants[0];
    let forest = forest::predictions(&fit.design(all)?, &test.design(all)?, seed)?;
    compared.push(quality("random forest (smartcore)", &forest));
    Ok(compared)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use scoreline::inference::bundle::{GOLDEN_FILE, LoadSettings, MANIFEST_FILE, ModelSnapshot};
    use scoreline::scoring::golden;

    use super::*;

    fn shipped_purchases() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cdnow/transactions_dev.csv")
    }

    /// A purchase file of one customer in six: enough for every calibration group, quick to train on.
    fn small(folder: &Path) -> PathBuf {
        let path = folder.join("purchases.csv");
        let mut writer = csv::Writer::from_path(&path).expect("writes");
        writer.write_record(["customer_id", "date", "number_of_cds", "dollar_value"]).expect("writes");
        for customer in cdnow::read(&shipped_purchases()).expect("the data file").iter().step_by(6) {
            for one in &customer.purchases {
                let record =
                    [customer.id.to_string(), one.date.to_string(), one.items.to_string(), one.amount_usd.to_string()];
                writer.write_record(&record).expect("writes");
            }
        }
        writer.flush().expect("writes");
        path
    }

    fn run(which: Which, purchases: PathBuf, models: &Path) -> Run {
        Run {
            source: Source { which, purchases, seed: 42, rho: 0.3 },
            version: ModelVersion::parse("v9").expect("a version"),
            models: models.to_owned(),
            trained_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
            replace: false,
            command: "scoreline-training".into(),
            allow: BTreeMap::new(),
            null_check: false,
        }
    }

    #[test]
    fn the_same_seed_writes_the_same_bytes_and_another_does_not() {
        for (which, name) in [(Which::ClvPurchases, "clv-purchases"), (Which::Clv, "clv")] {
            let folder = tempfile::tempdir().expect("a folder");
            let purchases = small(folder.path());
            let files = |models: &str, seed| {
                let mut run = run(which, purchases.clone(), &folder.path().join(models));
                run.source.seed = seed;
                let trained = train(&run, &Progress::hidden()).expect("trains");
                let bundle = trained.staged.publish().expect("publishes").to_owned();
                assert!(bundle.ends_with(format!("{name}/v9")));
                [MANIFEST_FILE, "model.json", GOLDEN_FILE].map(|file| fs::read(bundle.join(file)).expect("a file"))
            };
            let first = files("a", 42);
            assert_eq!(first, files("b", 42));
            assert_ne!(first[0], files("c", 43)[0]);
        }
    }

    #[test]
    fn a_bundle_appears_complete_or_not_at_all_and_never_over_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let models = folder.path().join("models");
        let mut run = run(Which::ClvPurchases, small(folder.path()), &models);
        let names = |path: &Path| {
            let entries = fs::read_dir(path).expect("a folder").map(|entry| entry.expect("an entry").file_name());
            let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
            names.sort();
            names
        };
        let trained = train(&run, &Progress::hidden()).expect("trains");
        assert!(!models.join("clv-purchases").exists(), "not before it is published");
        drop(trained);
        assert!(names(&models).is_empty(), "nothing is left of what was not published");

        let trained = train(&run, &Progress::hidden()).expect("trains");
        let bundle = trained.staged.publish().expect("publishes").to_owned();
        drop(trained);
        assert_eq!(names(&models), ["clv-purchases"]);
        assert_eq!(names(&bundle), ["bundle.toml", "golden.jsonl", "model.json"]);

        let Err(refused) = train(&run, &Progress::hidden()) else { panic!("was replaced") };
        assert!(refused.to_string().contains("`--force` to replace it"), "{refused:#}");
        run.replace = true;
        run.source.seed = 43;
        let before = fs::read(bundle.join(MANIFEST_FILE)).expect("a manifest");
        train(&run, &Progress::hidden()).expect("trains").staged.publish().expect("publishes");
        assert_ne!(before, fs::read(bundle.join(MANIFEST_FILE)).expect("a manifest"));
        assert_eq!(names(&models), ["clv-purchases"]);
    }

    #[test]
    fn the_shipped_bundles_are_what_training_gives_and_keep_their_promises() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models");
        for (which, bundle) in [(Which::ClvPurchases, "clv-purchases/v1.0"), (Which::Clv, "clv/v1.2")] {
            let folder = shipped.join(bundle);
            let snapshot = ModelSnapshot::load(&folder, &LoadSettings::default()).expect(bundle);
            assert!(snapshot.golden().len() >= 15, "{bundle} has {} golden rows", snapshot.golden().len());
            golden::verify(&snapshot).expect(bundle);
            assert!(!snapshot.manifest().training.synthetic.is_empty(), "{bundle} says what is simulated");

            let source =
                Source { which, purchases: shipped_purchases(), seed: snapshot.manifest().training.seed, rho: 0.3 };
            let Data { product, table, .. } = data(&source, &Progress::hidden()).expect("data");
            let again = fit(&product, &table).expect("fits").model;
            let file = fs::read(folder.join(&snapshot.manifest().file)).expect("a model");
            alike(&LinearModel::read(&file).expect("a model"), &again);
        }
    }

    /// Equal up to what another processor's rounding may do.
    fn alike(shipped: &LinearModel, again: &LinearModel) {
        assert_eq!(shipped.uses(), again.uses());
        let numbers = |model: &LinearModel| -> Vec<f64> {
            let LinearModel::Hurdle { variants, .. } = model else { panic!("not a hurdle") };
            let of = variants.iter().flat_map(|variant| {
                let parts = [&variant.purchase, &variant.spend];
                let coefficients = parts.into_iter().flat_map(|part| part.coefficients.iter().chain([&part.intercept]));
                coefficients.chain([&variant.smearing, &variant.sigma]).copied().collect::<Vec<_>>()
            });
            of.collect()
        };
        for (a, b) in numbers(shipped).into_iter().zip(numbers(again)) {
            assert!((a - b).abs() < 1e-4 * a.abs().max(1.0), "{a} is not {b}");
        }
    }
}
