//! The lead model: `lead` trains, measures and publishes it; `lead-nightly` is the one command of a nightly job.

mod boost;
mod bundle;
mod data;
mod evaluate;
mod recalibration;
mod recipe;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use scoreline::packing::assemble::{self, Staged};
use scoreline::packing::html;
use scoreline::packing::html::data::{Importance, ReportData};
use scoreline::packing::leaks::{self, LeakReport, Target, TargetKind};
use scoreline::packing::report::Progress;
use scoreline_domain::time::Timestamp;
use scoreline_domain::{ModelVersion, Probability};
use scoreline_engine::inference::bundle::{LoadSettings, ModelSnapshot, run_rows};
use scoreline_engine::inference::manifest::Manifest;

use bundle::{About, Population, stage};
use data::Leads;
use evaluate::{
    Figures, Gate, Later, MATURED, NEWEST_RATE, OutOfTime, STEP, judge, later, newest, newest_rate, nights,
    out_of_fold, table,
};
use recipe::{fit, fit_nightly};

/// Rows a retrained model is fitted on: the newest ones.
pub(crate) const WINDOW: usize = 20_000;
/// Newest rows that a night's model is first held against what serves on.
pub(crate) const HOLDOUT: usize = 1000;
/// How much worse than what serves a night's log-loss may be on them.
pub(crate) const MARGIN: f64 = 0.02;

const DATA: &str = "UCI Bank Marketing (bank-additional-full), 28,011 outbound calls of a Portuguese bank, 2008-2010, \
                    without `duration`";
const LICENCE: &str = "CC BY 4.0; S. Moro, P. Cortez, P. Rita, Decision Support Systems 62 (2014) 22-31";

/// A training run on all rows of a file.
pub(crate) struct Run {
    pub data: PathBuf,
    pub version: ModelVersion,
    pub models: PathBuf,
    pub trained_at: Timestamp,
    pub replace: bool,
    /// Rows of each retraining in the evaluation.
    pub window: usize,
    /// The evaluation with retraining ends after this time.
    pub limit: Duration,
    pub command: String,
    /// Columns that may look like leaks, and why.
    pub allow: BTreeMap<String, String>,
}

/// A finished run: the bundle, not published yet, and what was measured.
pub(crate) struct Trained {
    pub staged: Staged,
    pub text: String,
    pub report: ReportData,
}

/// Trains, measures and stages. Nothing is published.
pub(crate) fn train(run: &Run, progress: &Progress) -> anyhow::Result<Trained> {
    progress.step("reading leads");
    let leads = Leads::read(&run.data)?;
    assemble::target(&run.models, &bundle::name()?, &run.version, run.replace)?;
    let leaks = check(&leads, &run.allow, progress)?;
    let rows: Vec<usize> = (0..leads.len()).collect();
    let said = out_of_fold(&leads, &rows, progress)?;
    let like = Figures::of("like rows, 5 folds", &leads, &rows, &said);
    let later = later(&leads, run.window, Gate { holdout: HOLDOUT, margin: MARGIN }, run.limit, progress)?;
    progress.step("fitting on all rows");
    let fitted = fit(&leads, &rows)?;
    let about = About {
        version: run.version.clone(),
        trained_at: run.trained_at,
        description: "Probability that an outbound call to this lead ends in a sale; priority is its place among the \
                      leads scored around it"
            .to_owned(),
        population: "leads of the training data, each scored by a model that had not seen it".to_owned(),
        data: DATA.to_owned(),
        licence: LICENCE.to_owned(),
        command: run.command.clone(),
        protocol: "5-fold cross-validation; later rows by a model that was left alone, and by retrained ones"
            .to_owned(),
        allowed: leaks.allowed(),
    };
    let figures = [
        ("like_rows", &like),
        ("trained_once", &later.once),
        ("retrained", &later.served),
        ("newest_rate", &later.rate),
    ];
    let staged = stage(
        about,
        &fitted,
        &Population { leads: &leads, rows: &rows, said: &said, fitted: rows.len() },
        &figures,
        &run.models,
        run.replace,
    )?;
    let all = [&like, &later.once, &later.rate, &later.unmoved, &later.retrained, &later.served].map(Figures::clone);
    let published = later.nights.iter().filter(|night| night.kept.is_none()).count();
    let text = format!(
        "{} {}: {} leads, {:.1} % converted\n\n{}\nwhat retraining buys on the same later rows: AUC {:+.3}, log-loss {:+.3}, \
         ECE {:+.3}\n\n{published} of {} nights published\n{}",
        staged.manifest.name,
        staged.manifest.version,
        leads.len(),
        like.base_rate * 100.0,
        table(&all),
        later.served.auc - later.once.auc,
        later.served.log_loss - later.once.log_loss,
        later.served.ece - later.once.ece,
        later.nights.len(),
        nights(&later.nights),
    );
    let text = format!("{}\n{text}", leaks.text()?);
    let drawn = Rows { happened: &leads.converted, said: &said, later: Some(&later), leaks: &leaks };
    let mut report = drawn.report(&staged.manifest, &all)?;
    report.importance = importance(&staged, &leads, &rows)?;
    Ok(Trained { staged, text, report })
}

/// Steps that `train` shows.
pub(crate) const TRAIN_STEPS: u64 = evaluate::FOLD_STEPS + 5;

/// Looks for columns that know the outcome.
fn check(leads: &Leads, allow: &BTreeMap<String, String>, progress: &Progress) -> anyhow::Result<LeakReport> {
    progress.step("looking for leaks");
    let target = Target { label: "y = yes".to_owned(), happened: leads.converted.clone(), kind: TargetKind::Event };
    let order = Some((0..leads.len()).collect());
    let settings = leaks::Settings { allow: allow.clone(), order, groups: None };
    let found = leaks::check(&leads.frame(), &[target], &settings)?;
    found.refuse()?;
    Ok(found)
}

/// A nightly run: the newest rows of a file that has its newest rows last.
pub(crate) struct Nightly {
    pub data: PathBuf,
    pub models: PathBuf,
    pub trained_at: Timestamp,
    pub replace: bool,
    pub window: usize,
    /// Newest rows held out to compare with the serving version.
    pub holdout: usize,
    /// How much worse than the serving version its log-loss may be.
    pub margin: f64,
    pub command: String,
    /// Columns that may look like leaks, and why.
    pub allow: BTreeMap<String, String>,
}

/// Fits the newest rows, holds what such models said of rows they had not seen against what serves and against the newest
/// conversion rate, refuses or stages a version named by the day.
pub(crate) fn nightly(run: &Nightly, progress: &Progress) -> anyhow::Result<Trained> {
    progress.step("reading leads");
    let leads = Leads::read(&run.data)?;
    let day = run.trained_at.strftime("v%Y.%m.%d").to_string();
    let version = ModelVersion::parse(&day)?;
    assemble::target(&run.models, &bundle::name()?, &version, run.replace)?;
    let end = leads.len();
    anyhow::ensure!(run.holdout > 0, "`--holdout` must be at least 1");
    // Each model before the newest rows is fitted on some, and what it is recalibrated on comes before the held-out rows.
    let start = end
        .checked_sub(run.holdout)
        .filter(|start| *start >= 2 * STEP)
        .context("`--holdout` leaves nothing to fit on")?;
    let start = start.saturating_sub(MATURED).max(STEP);

    let leaks = check(&leads, &run.allow, progress)?;
    progress.step("checking on the newest rows");
    let unseen = OutOfTime::of(&leads, start..end, run.window, progress)?;
    let (newest_rows, said) = unseen.newest(run.holdout);
    let candidate = Figures::of("candidate, newest rows held out", &leads, &newest_rows, said);
    let rate = Figures::of(NEWEST_RATE, &leads, &newest_rows, &newest_rate(&leads, &newest_rows));
    let (night, said_of_night) = unseen.newest(STEP.min(run.holdout));
    let serving = newest_version(&run.models)?;
    let serving = serving.map(|serving| {
        let said = serving_probabilities(&serving, &leads, &night)?;
        let label = format!("serving {}, newest night", serving.version());
        let candidate = Figures::of("candidate, newest night", &leads, &night, said_of_night);
        anyhow::Ok([candidate, Figures::of(&label, &leads, &night, &said)])
    });
    let serving = serving.transpose()?;
    let figures: Vec<Figures> = [&candidate, &rate].into_iter().chain(serving.iter().flatten()).cloned().collect();
    let shown = table(&figures);
    judge(&candidate, &rate, serving.as_ref().map(|[candidate, serving]| [candidate, serving]), run.margin)
        .with_context(|| format!("not published, what serves is kept\n{shown}"))?;

    progress.step("fitting on the newest rows");
    let rows = newest(end, run.window);
    let fitted = fit_nightly(&leads, &rows)?.recalibrated(unseen.line(&leads));
    let (population, said) = unseen.newest(MATURED);
    let about = About {
        version,
        trained_at: run.trained_at,
        description: "Probability that an outbound call to this lead ends in a sale; retrained on the newest leads"
            .to_owned(),
        population: format!("the newest {} leads, each scored by a model that had not seen it", population.len()),
        data: run.data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        licence: String::new(),
        command: run.command.clone(),
        protocol: format!("the newest {} rows, by models fitted before each {STEP} of them", newest_rows.len()),
        allowed: leaks.allowed(),
    };
    let staged = stage(
        about,
        &fitted,
        &Population { leads: &leads, rows: &population, said, fitted: rows.len() },
        &[("newest", &candidate), ("newest_rate", &rate)],
        &run.models,
        run.replace,
    )?;
    let outcomes = leads.outcomes(&population);
    let drawn = Rows { happened: &outcomes, said, later: None, leaks: &leaks };
    let mut report = drawn.report(&staged.manifest, &figures)?;
    report.importance = importance(&staged, &leads, &rows)?;
    Ok(Trained { staged, text: format!("{}\n{shown}", leaks.text()?), report })
}

fn importance(staged: &Staged, leads: &Leads, rows: &[usize]) -> anyhow::Result<Option<Importance>> {
    let snapshot = staged.load()?;
    html::measured::importance(&snapshot, &recipe::raw(leads, rows, snapshot.schema().rules()))
}

/// Steps that `nightly` shows.
pub(crate) const NIGHTLY_STEPS: u64 = 4;

/// What a report draws: rows in date order, each scored by a model that had not seen it.
struct Rows<'a> {
    happened: &'a [bool],
    said: &'a [f64],
    later: Option<&'a Later>,
    leaks: &'a LeakReport,
}

impl Rows<'_> {
    fn report(&self, manifest: &Manifest, figures: &[Figures]) -> anyhow::Result<ReportData> {
        let lead = manifest.lead.as_ref().context("a lead model has its table")?;
        let place = |said: &f64| Probability::clamped(*said).map_or(f64::NAN, |p| f64::from(lead.score(p).priority));
        let block = |row: usize| row * BLOCKS / self.said.len();
        let after = |later: &Later, said: &[f64]| {
            let mut all = vec![f64::NAN; self.said.len()];
            all[later.first..later.first + said.len()].copy_from_slice(said);
            all
        };
        let others = self.later.map_or(Vec::new(), |later| {
            vec![
                ("trained once on the first 70 %".to_owned(), after(later, &later.said_once)),
                ("retrained every 500 calls, behind the gate".to_owned(), after(later, &later.said_served)),
            ]
        });
        let mut report = html::lead::report(&html::lead::Scored {
            event: "sale".to_owned(),
            happened: self.happened.to_vec(),
            probability: self.said.to_vec(),
            rank: self.said.iter().map(place).collect(),
            blocks: (1..=BLOCKS).map(|number| number.to_string()).collect(),
            block: (0..self.said.len()).map(block).collect(),
            others,
        });
        report.title = format!("{} {}", manifest.name, manifest.version);
        report.description.clone_from(&manifest.description);
        report.facts = vec![
            ("command".to_owned(), manifest.training.command.clone()),
            ("trained at".to_owned(), manifest.trained_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()),
            ("data".to_owned(), manifest.training.data.clone()),
            ("licence".to_owned(), manifest.training.licence.clone()),
            ("leads".to_owned(), self.said.len().to_string()),
        ];
        report.tables = vec![html::data::Table {
            title: "Three ways to measure".to_owned(),
            note: "Like rows flatter: a model that is left alone meets later ones. AUC and ALIFT: more is better. Within a \
                   day: only leads of one day are compared. \
                   By luck: 5 to 95 % of what a perfect model shows on the same rows."
                .to_owned(),
            header: ["", "rows", "base rate", "mean said", "AUC", "within a day", "ALIFT", "log-loss", "ECE", "ECE by luck"]
                .map(str::to_owned)
                .to_vec(),
            rows: figures
                .iter()
                .map(|f| {
                    let numbers = [f.base_rate, f.said, f.auc, f.auc_within, f.alift, f.log_loss, f.ece].map(|x| format!("{x:.4}"));
                    let luck = format!("{:.4} to {:.4}", f.ece_luck.low, f.ece_luck.high);
                    [f.label.clone(), f.rows.to_string()].into_iter().chain(numbers).chain([luck]).collect()
                })
                .collect(),
        }];
        report.drift = manifest
            .features
            .iter()
            .filter_map(|rule| Some(html::measured::drift(&rule.name, &rule.unit, rule.drift.as_ref()?)))
            .collect();
        report.leaks = Some(self.leaks.clone());
        Ok(report)
    }
}

/// Blocks of time that the report shows.
const BLOCKS: usize = 10;

/// The version that would serve without a pin.
fn newest_version(models: &Path) -> anyhow::Result<Option<ModelSnapshot>> {
    let folder = models.join("lead");
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(None) };
    let mut versions: Vec<ModelVersion> =
        entries.flatten().filter_map(|entry| ModelVersion::parse(entry.file_name().to_str()?).ok()).collect();
    versions.sort_by(ModelVersion::cmp_natural);
    let newest =
        versions.last().map(|version| ModelSnapshot::load(&folder.join(version.as_str()), &LoadSettings::default()));
    Ok(newest.transpose()?)
}

fn serving_probabilities(serving: &ModelSnapshot, leads: &Leads, rows: &[usize]) -> anyhow::Result<Vec<f64>> {
    let expected = recipe::NUMBERS.iter().chain(&recipe::CATEGORIES);
    let rules = serving.schema().rules();
    anyhow::ensure!(
        rules.iter().map(|rule| rule.name.as_str()).eq(expected.copied()),
        "the serving version reads other features: publish the first version of this model with `lead`"
    );
    let outputs = run_rows(serving, &recipe::raw(leads, rows, rules))?;
    let width = serving.engine().outputs().len();
    Ok(outputs.chunks_exact(width).map(|outputs| serving.roles().value.of(outputs)).collect())
}

#[cfg(test)]
mod tests {
    use scoreline::scoring::golden;

    use super::*;

    fn shipped_leads() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("data/bank_marketing/bank_additional_dev.csv")
    }

    /// The shipped model and the same recipe fitted again.
    #[test]
    fn the_shipped_bundle_is_what_training_gives() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/lead/v1.1");
        let shipped = ModelSnapshot::load(&folder, &LoadSettings::default()).expect("loads");
        golden::verify(&shipped).expect("keeps its promises");
        let leads = Leads::read(&shipped_leads()).expect("the data file");
        let rows = [0, 5000, 12_000, 18_500, 20_000, 22_000, 25_000, 28_010];
        let said = serving_probabilities(&shipped, &leads, &rows).expect("answers");
        let again = fit(&leads, &(0..leads.len()).collect::<Vec<_>>()).expect("fits");
        let again = again.probabilities(&leads, &rows).expect("answers");
        for (said, again) in said.into_iter().zip(again) {
            assert!((said - again).abs() < 1e-6, "shipped {said}, again {again}");
        }
    }

    /// One lead in twelve of the shipped file, in its order.
    fn small(folder: &Path, step: usize) -> PathBuf {
        let text = std::fs::read_to_string(shipped_leads()).expect("the data file");
        let mut lines = text.lines();
        let mut small = format!("{}\n", lines.next().expect("a header"));
        for line in lines.step_by(step) {
            small.push_str(line);
            small.push('\n');
        }
        let path = folder.join("leads.csv");
        std::fs::write(&path, small).expect("writes");
        path
    }

    #[test]
    fn a_night_publishes_a_version_named_by_the_day_and_refuses_one_that_is_worse() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = Nightly {
            data: small(folder.path(), 12),
            models: folder.path().join("models"),
            trained_at: "2026-11-21T02:00:00Z".parse().expect("a time"),
            replace: false,
            window: 2000,
            holdout: 400,
            margin: 0.02,
            command: "scoreline-training lead-nightly".into(),
            allow: BTreeMap::new(),
        };
        let Trained { staged, text: shown, report } = nightly(&run, &Progress::hidden()).expect("trains");
        let importance = report.importance.expect("linear models are explained");
        assert_eq!(importance.features.len(), 10, "groups of the {} features", staged.manifest.features.len());
        assert!(importance.features[0].1 > 0.5 && importance.features.is_sorted_by(|left, right| left.1 >= right.1));
        assert!(shown.contains("candidate, newest rows held out"), "{shown}");
        let published = staged.publish().expect("publishes").to_owned();
        assert!(published.ends_with("lead/v2026.11.21"));
        let snapshot = ModelSnapshot::load(&published, &LoadSettings::default()).expect("loads");
        assert_eq!(snapshot.golden().len(), 20);
        golden::verify(&snapshot).expect("keeps its promises");
        assert!(snapshot.schema().position("duration").is_none());
        assert_eq!(snapshot.manifest().lead.as_ref().map(|lead| lead.sources.len()), Some(2));

        let Err(again) = nightly(&run, &Progress::hidden()) else { panic!("was replaced") };
        assert!(again.to_string().contains("`--force` to replace it"), "{again:#}");
        // Nobody is that much better.
        let tomorrow = Nightly { trained_at: "2026-11-22T02:00:00Z".parse().expect("a time"), margin: -1.0, ..run };
        let Err(worse) = nightly(&tomorrow, &Progress::hidden()) else { panic!("was published") };
        assert!(format!("{worse:#}").contains("is worse than the serving version's"), "{worse:#}");
    }

    #[test]
    fn a_night_whose_leads_say_nothing_of_the_outcome_keeps_what_serves() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = small(folder.path(), 12);
        let text = std::fs::read_to_string(&data).expect("the file");
        let mut lines = text.lines();
        let header = lines.next().expect("a header").to_owned();
        let leads: Vec<(&str, &str)> = lines.filter_map(|line| line.rsplit_once(',')).collect();
        // The outcomes of other rows.
        let other = |row: usize| leads[row * 1009 % leads.len()].1;
        let shuffled = leads.iter().enumerate().map(|(row, (lead, _))| format!("{lead},{}", other(row)));
        let shuffled = [header].into_iter().chain(shuffled).collect::<Vec<_>>().join("\n");
        std::fs::write(&data, shuffled).expect("writes");
        let run = Nightly {
            data,
            models: folder.path().join("models"),
            trained_at: "2026-11-21T02:00:00Z".parse().expect("a time"),
            replace: false,
            window: 1000,
            holdout: 1000,
            margin: 0.02,
            command: "scoreline-training lead-nightly".into(),
            allow: BTreeMap::new(),
        };
        let Err(kept) = nightly(&run, &Progress::hidden()) else { panic!("was published") };
        let kept = format!("{kept:#}");
        assert!(
            kept.contains("what serves is kept") && kept.contains("who only knows the rate of the newest 500"),
            "{kept}"
        );
        assert!(!folder.path().join("models/lead").exists());
    }
}
