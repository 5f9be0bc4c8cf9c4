//! From the purchase file to a finished bundle, measured by cross-validation.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use scoreline::packing::assemble::{self, Draft, Evidence};
use scoreline::packing::calibrate::{Grouping, Scored};
use scoreline::packing::fitted;
use scoreline::packing::html;
use scoreline::packing::leaks::{Check, of_table};
use scoreline::packing::quality::{Judged, Quality, judge, refuse_nonsense};
use scoreline::packing::report::Progress;
use scoreline::packing::statistics;
use scoreline::packing::table::{Row, Table};
use scoreline::packing::{Trained, peers};
use scoreline_domain::time::{Stopwatch, Timestamp};
use scoreline_domain::{ModelName, ModelVersion};
use scoreline_engine::features::FeatureSchema;
use scoreline_engine::inference::FeatureMatrix;
use scoreline_engine::inference::bundle::LoadSettings;
use scoreline_engine::inference::linear::{self, LinearModel};
use scoreline_engine::inference::manifest::{
    BackendKind, ColdStartFeature, Manifest, Output, Outputs, TrainingSummary,
};

use crate::cdnow;
use crate::cohort::{AS_OF, HORIZON_DAYS, Member, members};
use crate::fit::{Prepared, hurdle};
use crate::folds::Folds;
use crate::generator::{Expectation, Simulation, interaction_features};
use crate::leaks;
use crate::product::{self, DATA, LICENCE, Product};

/// Parts of the cross-validation that measures, of the one inside each of its parts that calibrates, and of the one that
/// calibrates the bundle.
const MEASURING_FOLDS: u64 = 5;
const INNER_FOLDS: u64 = 5;
const CALIBRATING_FOLDS: u64 = 10;

/// Which of the shipped models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    ClvPurchases,
    Clv,
}

/// What its data are made from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub which: Which,
    pub purchases: PathBuf,
    pub seed: u64,
    /// How much the simulated satisfaction knows of the real outcome.
    pub rho: f64,
}

/// A training run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub source: Source,
    pub version: ModelVersion,
    pub models: PathBuf,
    pub trained_at: Timestamp,
    pub replace: bool,
    /// How to repeat it.
    pub command: String,
    /// Columns that may look like leaks, and why.
    pub allow: BTreeMap<String, String>,
    /// Why it is published with errors that make no sense.
    pub accept: Option<String>,
    /// Whether to fit once more on the null set.
    pub null_check: bool,
    /// The run is given up after this time.
    pub limit: Duration,
}

/// A product, the table it is trained on, and whether features kept to what was known in time.
pub(crate) struct Data {
    pub product: Product,
    pub table: Table,
    pub checks: Vec<Check>,
}

/// Makes a source's data.
pub(crate) fn data(source: &Source, progress: &Progress) -> anyhow::Result<Data> {
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
    Ok(Data { product, table, checks })
}

/// Trains on all customers, calibrates on predictions of customers who were left out, and measures the whole procedure
/// on customers it never saw. Nothing is published.
pub(crate) fn train(run: &Run, progress: &Progress) -> anyhow::Result<Trained> {
    let watch = Stopwatch::start();
    let Data { product, table, checks } = data(&run.source, progress)?;
    let name = ModelName::parse(product.name)?;
    assemble::target(&run.models, &name, &run.version, run.replace)?;

    progress.step("looking for leaks");
    let mut leaks = of_table(&product.features, &table, &run.allow)?;
    leaks.checks.extend(checks);
    if run.null_check {
        leaks.checks.push(leaks::null_set::check(&run.source, progress)?);
    }
    leaks.refuse()?;

    let rows = answered(&product, &table);
    let recipe = Recipe { product: &product, run, name, watch };

    progress.step("cross-validating");
    let measuring = Folds { count: MEASURING_FOLDS, salt: run.source.seed };
    let parts = measuring.each(&rows, |outside, inside| {
        let inner = Folds { count: INNER_FOLDS, salt: run.source.seed.wrapping_add(1) };
        let (draft, manifest) = recipe.complete(&outside, inner)?;
        let snapshot = draft.snapshot(&manifest)?;
        let inside: Vec<&Row> = inside.into_iter().map(|at| rows[at]).collect();
        let partial = product.partial.iter().map(|(_, missing)| {
            let blank = assemble::positions(&snapshot, missing)?;
            judge(&snapshot, &inside, &blank)
        });
        Ok((judge(&snapshot, &inside, &[])?, partial.collect::<Result<Vec<_>, _>>()?))
    })?;
    let (whole, partial): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let judged = whole.concat();
    let partial: Vec<Vec<Judged<'_>>> =
        (0..product.partial.len()).map(|of| partial.iter().flat_map(|fold| fold[of].clone()).collect()).collect();
    let quality = qualities(&product, &table, &judged, &partial)?;

    progress.step("fitting and calibrating");
    let calibrating = Folds { count: CALIBRATING_FOLDS, salt: run.source.seed };
    let (draft, mut manifest) = recipe.complete(&rows, calibrating)?;
    assemble::record(&mut manifest, &quality);
    manifest.training.accepted = refuse_nonsense(&quality[0], run.accept.as_deref())?;
    manifest.training.allowed = leaks.allowed();
    progress.step("writing");
    let staged = assemble::stage(&draft, manifest, &rows, &product.golden, &run.models, run.replace)?;
    let evidence = html::run::Evidence::of(&staged.load()?, &judged)?;
    Ok(Trained { staged, quality, leaks, evidence, checked: None })
}

/// A fitted model with the schema its rows are prepared by.
pub(crate) struct Fitted {
    pub schema: FeatureSchema,
    pub model: LinearModel,
}

/// Fits a product's hurdle on some rows of its table.
pub(crate) fn fit(product: &Product, rows: &[&Row]) -> anyhow::Result<Fitted> {
    let schema = statistics::schema(&product.features, &product.derived, rows, true)?;
    let model = hurdle(&Prepared::new(&schema, rows), &product.variants, product::sign)?;
    Ok(Fitted { schema, model })
}

/// The rows a product is asked about: customers with a history.
pub(crate) fn answered<'t>(product: &Product, table: &'t Table) -> Vec<&'t Row> {
    let columns: Vec<usize> = product.cold_start_features.iter().filter_map(|name| table.position(name)).collect();
    let history = |row: &Row| columns.iter().map(|column| row.values[*column]).find(|value| !value.is_nan());
    table.rows.iter().filter(|row| history(row) != Some(0.0)).collect()
}

impl Fitted {
    /// What the model says about rows, as the server would run it.
    ///
    /// # Errors
    /// When the model cannot be run.
    pub(crate) fn outputs(&self, rows: &[&Row], blank: &[usize]) -> anyhow::Result<Vec<ModelOutputs>> {
        let blanked = |row: &&Row| {
            let values = row.values.iter().enumerate();
            let values = values.map(|(i, value)| if blank.contains(&i) { f64::NAN } else { *value }).collect();
            Row { values, ..(*row).clone() }
        };
        let known: Vec<Row> = rows.iter().map(blanked).collect();
        let prepared = Prepared::new(&self.schema, &known.iter().collect::<Vec<_>>());
        let backend = linear::load_with_schema(&self.model.write(), &self.schema)?;
        let mut outputs = vec![0.0; rows.len() * backend.outputs().len()];
        backend.predict(FeatureMatrix::new(&prepared.values, self.schema.columns()), &mut outputs)?;
        let outcome = |out: &[f64]| ModelOutputs { value: out[0], risk: out[1], log_mean: out[2], log_sigma: out[3] };
        Ok(outputs.chunks_exact(backend.outputs().len()).map(outcome).collect())
    }
}

/// A hurdle's outputs, in its order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ModelOutputs {
    pub value: f64,
    pub risk: f64,
    pub log_mean: f64,
    pub log_sigma: f64,
}

/// A product as one run trains it.
struct Recipe<'a> {
    product: &'a Product,
    run: &'a Run,
    name: ModelName,
    watch: Stopwatch,
}

impl Recipe<'_> {
    /// The whole procedure on some rows: fitted on all of them, calibrated on predictions of rows that were left out.
    fn complete(&self, rows: &[&Row], folds: Folds) -> anyhow::Result<(Draft, Manifest)> {
        let Self { product, run, name, .. } = self;
        let fitted = fit(product, rows)?;
        let draft = Draft {
            load: LoadSettings::default(),
            name: name.clone(),
            version: run.version.clone(),
            trained_at: run.trained_at,
            description: product.description.to_owned(),
            backend: BackendKind::Linear,
            file: "model.json".to_owned(),
            model: fitted.model.write(),
            horizon_days: HORIZON_DAYS,
            as_of: Some(AS_OF),
            cold_start_feature: match product.cold_start_features {
                [one] => ColdStartFeature::One((*one).to_owned()),
                several => ColdStartFeature::Several(several.iter().map(|name| (*name).to_owned()).collect()),
            },
            standardize: true,
            outputs: hurdle_outputs(),
            features: fitted.schema.rules().to_vec(),
            derived: fitted.schema.derived().to_vec(),
            grouping: product.grouping.clone(),
            partial: product.partial.clone(),
            training: TrainingSummary {
                data: DATA.to_owned(),
                synthetic: product.synthetic.clone(),
                licence: LICENCE.to_owned(),
                command: run.command.clone(),
                rows: u32::try_from(rows.len())?,
                fitted_sample: fitted::sample(rows),
                seed: run.source.seed,
                protocol: format!(
                    "{MEASURING_FOLDS}-fold cross-validation by customer; scaling, fit, tiers and calibration are made \
                     anew without each fold"
                ),
                ..TrainingSummary::default()
            },
        };
        let mut manifest = draft.manifest()?;
        let LeftOut { whole, less } = self.left_out(rows, folds)?;
        let evidence = Evidence { calibration: whole.scored, unknown: Vec::new(), peers: peers(rows) };
        assemble::conclude(&mut manifest, &evidence, &product.grouping, draft.as_of)?;
        if let Some(tiers) = &mut manifest.tiers {
            tiers.lost_without = assemble::lost_without(&evidence.calibration, &whole.without);
        }
        for (plan, seen) in product.information.iter().zip(&less) {
            let lost = assemble::lost_without(&seen.scored, &seen.without);
            assemble::inform(&mut manifest, plan, &seen.scored, lost)?;
        }
        Ok((draft, manifest))
    }

    /// Every row as predicted by a model that was not fitted on it.
    fn left_out(&self, rows: &[&Row], folds: Folds) -> anyhow::Result<LeftOut> {
        let position = |name: &String| self.product.features.iter().position(|plan| plan.name == *name);
        let parts = folds.each(rows, |outside, inside| {
            let limit = self.run.limit;
            anyhow::ensure!(
                self.watch.elapsed() < limit,
                "given up after `--time-limit`: {} minutes",
                limit.as_secs() / 60
            );
            let fitted = fit(self.product, &outside)?;
            let inside: Vec<&Row> = inside.iter().map(|at| rows[*at]).collect();
            let seen = |grouping: &Grouping, blank: &[usize]| -> anyhow::Result<SeenRows> {
                let column = position(&grouping.feature);
                let outputs = fitted.outputs(&inside, blank)?.into_iter().zip(&inside);
                let scored = outputs.map(|(outputs, row)| outputs.beside(row, column)).collect();
                let known = (0..self.product.features.len()).filter(|at| !blank.contains(at));
                let without = known.map(|at| {
                    let outputs = fitted.outputs(&inside, &[blank, &[at]].concat())?;
                    let values = outputs.into_iter().map(|outputs| outputs.value).collect();
                    Ok::<_, anyhow::Error>((self.product.features[at].name.clone(), values))
                });
                Ok(SeenRows { scored, without: without.collect::<Result<_, _>>()? })
            };
            let less = self.product.information.iter().map(|plan| {
                let blank: Vec<usize> = plan.blank().iter().filter_map(position).collect();
                seen(&plan.grouping, &blank)
            });
            Ok((seen(&self.product.grouping, &[])?, less.collect::<Result<Vec<_>, _>>()?))
        })?;
        let mut all = LeftOut::default();
        all.less.resize_with(self.product.information.len(), SeenRows::default);
        for (whole, less) in parts {
            all.whole.append(whole);
            for (seen, part) in all.less.iter_mut().zip(less) {
                seen.append(part);
            }
        }
        Ok(all)
    }
}

/// Rows as models predict them that were not fitted on them: by everything, and by what is known of each
/// information set.
#[derive(Default)]
struct LeftOut {
    whole: SeenRows,
    less: Vec<SeenRows>,
}

/// Rows as they are seen by so much, and the values predicted of them without each one more feature.
#[derive(Default)]
struct SeenRows {
    scored: Vec<Scored>,
    without: Vec<(String, Vec<f64>)>,
}

impl SeenRows {
    fn append(&mut self, part: Self) {
        self.scored.extend(part.scored);
        if self.without.is_empty() {
            self.without = part.without;
            return;
        }
        for ((_, values), (_, more)) in self.without.iter_mut().zip(part.without) {
            values.extend(more);
        }
    }
}

impl ModelOutputs {
    fn beside(self, row: &Row, group: Option<usize>) -> Scored {
        Scored {
            value: self.value,
            risk: Some(self.risk),
            shape: Some((self.log_mean, self.log_sigma)),
            spend_usd: row.spend_usd,
            group_value: group.map_or(f64::NAN, |column| row.values[column]),
        }
    }
}

/// The figures of the whole and of callers with less to say.
fn qualities(
    product: &Product,
    table: &Table,
    whole: &[Judged<'_>],
    partial: &[Vec<Judged<'_>>],
) -> anyhow::Result<Vec<Quality>> {
    let column = table.position(&product.grouping.feature);
    let mut qualities = vec![Quality::of("", whole, &product.grouping, column)?];
    for ((label, missing), judged) in product.partial.iter().zip(partial) {
        let known = column.filter(|_| !missing.contains(&product.grouping.feature));
        qualities.push(Quality::of(label, judged, &product.grouping, known)?);
    }
    Ok(qualities)
}

/// What purchases alone lead to expect of each member.
fn expectations(members: &[Member]) -> anyhow::Result<Vec<Expectation>> {
    let table = product::purchases_table(members);
    let rows: Vec<&Row> = table.rows.iter().collect();
    let outcomes = fit(&product::clv_purchases(), &rows)?.outputs(&rows, &[])?;
    let expectation = |outcome: ModelOutputs| Expectation {
        risk: outcome.risk,
        log_mean: outcome.log_mean,
        log_sigma: outcome.log_sigma,
    };
    Ok(outcomes.into_iter().map(expectation).collect())
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

    use scoreline::scoring::golden;
    use scoreline_engine::inference::bundle::{GOLDEN_FILE, LoadSettings, MANIFEST_FILE, ModelSnapshot};

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
                let items = one.items.unwrap_or_default();
                let record =
                    [customer.id.to_string(), one.date.to_string(), items.to_string(), one.amount_usd.to_string()];
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
            accept: None,
            null_check: false,
            limit: Duration::from_mins(30),
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
    fn a_run_that_takes_too_long_is_given_up() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut run = run(Which::ClvPurchases, small(folder.path()), &folder.path().join("models"));
        run.limit = Duration::ZERO;
        let Err(late) = train(&run, &Progress::hidden()) else { panic!("went on") };
        assert_eq!(late.to_string(), "given up after `--time-limit`: 0 minutes");
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
            let again = fit(&product, &answered(&product, &table)).expect("fits").model;
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
