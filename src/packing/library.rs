//! What a model's own library predicts, beside what the bundle answers: the one test that finds every export that is
//! silently wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use scoreline_engine::inference::bundle::{ModelSnapshot, run_rows};

use crate::packing::table::{Row, Table};

/// Columns of the file. Its time is only there where the table has customers at several.
const CUSTOMER: &str = "customer";
const AS_OF: &str = "as_of";
const PREDICTION: &str = "prediction";
/// Share of the rows that may differ: a value just beside a split takes the other branch in single precision.
const LARGEST_SHARE: f64 = 0.01;
/// Rows that a refusal shows.
const SHOWN: usize = 10;

/// A row by its customer and, where the predictions say it, its time.
fn key(customer: &str, as_of: &str) -> String {
    format!("{customer}\n{as_of}")
}

fn row_key(row: &Row, timed: bool) -> String {
    key(&row.customer, if timed { &row.as_of } else { "" })
}

/// Where the library's predictions are, and how close the bundle must come.
#[derive(Clone, Debug)]
pub(crate) struct LibraryCheck {
    /// CSV with the columns `customer` and `prediction`, in dollars, of customers of the table.
    pub file: PathBuf,
    /// Largest accepted difference, relative to the prediction, or to a dollar for smaller ones.
    pub tolerance: f64,
}

impl LibraryCheck {
    /// Compares every prediction with the bundle's answer; what to say when they agree.
    ///
    /// # Errors
    /// When the file cannot be read or names other customers, and with the worst rows when too many differ.
    pub(crate) fn run(&self, snapshot: &ModelSnapshot, table: &Table) -> anyhow::Result<String> {
        let (predicted, timed) = self.read(table)?;
        let asked: Vec<_> = table.rows.iter().filter(|row| predicted.contains_key(&row_key(row, timed))).collect();
        anyhow::ensure!(!asked.is_empty(), "{} tells of no customer that the model is asked about", self.shown());
        let raw: Vec<f64> = asked.iter().flat_map(|row| row.values.iter().copied()).collect();
        let outputs = run_rows(snapshot, &raw)?;
        let answers = outputs.chunks_exact(snapshot.engine().outputs().len());
        let mut differences: Vec<_> = asked
            .iter()
            .zip(answers)
            .map(|(row, outputs)| {
                let (library, ours) = (predicted[&row_key(row, timed)], snapshot.roles().value.of(outputs));
                let difference = (ours - library).abs() / library.abs().max(1.0);
                // Not a number is as far away as can be.
                (if difference.is_nan() { f64::INFINITY } else { difference }, row.customer.as_str(), library, ours)
            })
            .collect();
        differences.sort_by(|a, b| b.0.total_cmp(&a.0));
        let over = differences.iter().filter(|(difference, ..)| *difference > self.tolerance).count();
        let summary = format!(
            "{} of {} customers differ by more than {} from {}, the largest difference is {:.1e}",
            over,
            differences.len(),
            self.tolerance,
            self.shown(),
            differences.first().map_or(0.0, |(largest, ..)| *largest)
        );
        if over as f64 <= LARGEST_SHARE * differences.len() as f64 {
            return Ok(summary);
        }
        let mut text = format!("not published: the model does not answer as its library predicts: {summary}\n");
        for (_, customer, library, ours) in differences.iter().take(SHOWN) {
            writeln!(text, "  customer {customer}: the library predicts {library}, the bundle answers {ours}")?;
        }
        text.push_str(
            "The export lost something of the model: a last step, an average, linear leaves, zeros as missing values. \
             LightGBM's own text and XGBoost's own JSON (`Booster.save_model`) are packed without an export",
        );
        Err(anyhow::Error::msg(text))
    }

    /// The predictions by row, each of one in the table, and whether they say their time.
    fn read(&self, table: &Table) -> anyhow::Result<(BTreeMap<String, f64>, bool)> {
        let problem = || format!("`--check {}` cannot be read", self.shown());
        let mut reader = csv::Reader::from_path(&self.file).with_context(problem)?;
        let headers = reader.headers().with_context(problem)?.clone();
        let column = |name: &str| {
            headers.iter().position(|header| header.trim() == name).with_context(|| {
                let found = headers.iter().collect::<Vec<_>>().join(", ");
                format!("{} needs the columns `{CUSTOMER}` and `{PREDICTION}`, it has {found}", self.shown())
            })
        };
        let (customer, prediction) = (column(CUSTOMER)?, column(PREDICTION)?);
        let as_of = headers.iter().position(|header| header.trim() == AS_OF);
        let as_of = as_of.filter(|_| table.rows.iter().any(|row| !row.as_of.is_empty()));
        let timed = as_of.is_some();
        let known: BTreeSet<String> = table.rows.iter().map(|row| row_key(row, timed)).collect();
        anyhow::ensure!(
            timed || known.len() == table.rows.len(),
            "{} needs the column `{AS_OF}`: the table has customers at several times",
            self.shown()
        );
        let mut found = BTreeMap::new();
        for (at, record) in reader.records().enumerate() {
            let record = record.with_context(problem)?;
            let wrong = |what: &str| format!("{} line {}: {what}", self.shown(), at + 2);
            let field = |at: Option<usize>| at.and_then(|at| record.get(at)).unwrap_or_default();
            let row = key(field(Some(customer)), field(as_of));
            if !known.contains(&row) {
                // Customers without a history are not put to the model.
                continue;
            }
            let number: f64 = record
                .get(prediction)
                .and_then(|text| text.trim().parse().ok())
                .filter(|number: &f64| number.is_finite())
                .with_context(|| wrong("`prediction` must be a number"))?;
            anyhow::ensure!(found.insert(row, number).is_none(), wrong("the customer is there twice"));
        }
        Ok((found, timed))
    }

    fn shown(&self) -> std::path::Display<'_> {
        Path::display(&self.file)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use scoreline_domain::{ModelName, ModelVersion};
    use scoreline_engine::inference::bundle::LoadSettings;
    use scoreline_engine::inference::manifest::Apply;

    use super::*;
    use crate::packing::Trained;
    use crate::packing::pack::{Mapping, Pack, pack};

    /// Real exports with what their libraries predict; see `make.py` there.
    fn exports() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/exports")
    }

    /// The predictions of one model, as `--check` takes them.
    fn predictions(model: &str, folder: &Path) -> PathBuf {
        let mut reader = csv::Reader::from_path(exports().join("predictions.csv")).expect("the predictions");
        let column = reader.headers().expect("a header").iter().position(|name| name == model).expect("the model");
        let mut text = "customer,prediction\n".to_owned();
        for record in reader.records() {
            let record = record.expect("a row");
            writeln!(text, "{},{}", &record[0], &record[column]).expect("a text");
        }
        let path = folder.join(format!("{model}.csv"));
        fs::write(&path, text).expect("written");
        path
    }

    struct Order {
        folder: tempfile::TempDir,
        pack: Pack,
    }

    impl Order {
        fn new(model: &str, apply: Apply) -> Self {
            let step = |apply: Apply| Mapping {
                meaning: "value".to_owned(),
                value: if apply == Apply::Exp { "exp" } else { "identity" }.to_owned(),
            };
            let pack = Pack {
                load: LoadSettings::default(),
                model: exports().join(format!("{model}.onnx")),
                table: exports().join("customers.csv"),
                name: ModelName::parse("clv").expect("a name"),
                version: ModelVersion::parse("v1").expect("a version"),
                backend: None,
                maps: Vec::new(),
                applies: vec![step(apply)],
                required: Vec::new(),
                missing_to_model: true,
                group_by: "purchase_count".to_owned(),
                group_starts: vec![1.0, 2.0, 4.0],
                cold_start_feature: "purchase_count".to_owned(),
                horizon_days: Some(90),
                description: String::new(),
                data: String::new(),
                synthetic: String::new(),
                licence: String::new(),
                command: "scoreline models pack".to_owned(),
                trained_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
                allow: BTreeMap::new(),
                check: None,
                accept: None,
            };
            Self { folder: tempfile::tempdir().expect("a folder"), pack }
        }

        fn checked(mut self, model: &str) -> Self {
            let file = predictions(model, self.folder.path());
            self.pack.check = Some(LibraryCheck { file, tolerance: 1e-4 });
            self
        }

        fn run(&self) -> Result<Trained, String> {
            pack(self.pack.clone(), &self.folder.path().join("models"), false).map_err(|err| format!("{err:#}"))
        }

        fn refused(&self) -> String {
            let Err(refused) = self.run() else { panic!("{} was packed", self.pack.model.display()) };
            let left = fs::read_dir(self.folder.path().join("models")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "nothing is left behind");
            refused
        }
    }

    #[test]
    fn exports_that_answer_as_their_library_are_packed() {
        for model in ["lightgbm", "lightgbm_poisson", "catboost", "hist", "xgboost"] {
            let trained = Order::new(model, Apply::Identity).checked(model).run().expect("packs");
            let checked = trained.checked.expect("checked");
            assert!(checked.starts_with("0 of 900 customers differ by more than 0.0001"), "{model}: {checked}");
            assert_eq!(trained.staged.manifest.training.accepted, "");
        }
        // What the exporter left out, put back by hand.
        for model in ["catboost_tweedie", "hist_poisson"] {
            let trained = Order::new(model, Apply::Exp).checked(model).run().expect("packs");
            assert!(trained.checked.expect("checked").starts_with("0 of 900"), "{model}");
        }
    }

    #[test]
    fn exports_that_lost_something_are_refused_with_their_worst_rows() {
        // Neither the figures nor the file tell of the last two.
        for model in ["hist_poisson", "lightgbm_forest_summed", "lightgbm_linear_tree", "lightgbm_zero_as_missing"] {
            let refused = Order::new(model, Apply::Identity).checked(model).refused();
            assert!(refused.contains("does not answer as its library predicts"), "{model}: {refused}");
            assert_eq!(refused.matches(": the library predicts").count(), SHOWN, "{model}: {refused}");
        }
        // A reason does not make it another model.
        let mut order = Order::new("lightgbm_linear_tree", Apply::Identity).checked("lightgbm_linear_tree");
        order.pack.accept = Some("it is close enough".to_owned());
        assert!(order.refused().contains("does not answer as its library predicts"));
    }

    #[test]
    fn a_total_that_is_far_off_needs_a_reason() {
        for model in ["lightgbm_forest_summed", "hist_poisson"] {
            let mut order = Order::new(model, Apply::Identity);
            let refused = order.refused();
            assert!(refused.contains("not published: the total error is"), "{model}: {refused}");
            assert!(refused.contains("`--accept REASON`"), "{model}: {refused}");
            order.pack.accept = Some("a demonstration".to_owned());
            let trained = order.run().expect("packs");
            assert_eq!(trained.staged.manifest.training.accepted, "a demonstration");
            let published = trained.staged.publish().expect("publishes").join("bundle.toml");
            assert!(fs::read_to_string(published).expect("a manifest").contains("accepted = \"a demonstration\""));
        }
    }

    #[test]
    fn what_the_file_itself_tells_is_refused_without_any_table() {
        for (model, says) in [
            ("catboost_poisson", "CatBoost with the loss `Poisson`"),
            ("catboost_tweedie", "CatBoost with the loss `Tweedie`"),
            ("lightgbm_forest", "random forest of 20 trees whose exporter divides their sum by 100"),
        ] {
            let refused = Order::new(model, Apply::Identity).refused();
            assert!(refused.contains(says), "{model}: {refused}");
        }
    }

    #[test]
    fn a_file_of_predictions_that_is_none_says_why() {
        let order = Order::new("lightgbm", Apply::Identity).checked("lightgbm");
        let file = order.pack.check.as_ref().expect("a check").file.clone();
        for (text, says) in [
            ("id,value\nC-1,2\n", "needs the columns `customer` and `prediction`, it has id, value"),
            ("customer,prediction\nC-1,much\n", "line 2: `prediction` must be a number"),
            ("customer,prediction\nC-1,NaN\n", "line 2: `prediction` must be a number"),
            ("customer,prediction\nC-1,1\nC-1,1\n", "line 3: the customer is there twice"),
            ("customer,prediction\nX-1,1\n", "tells of no customer that the model is asked about"),
        ] {
            fs::write(&file, text).expect("written");
            assert!(order.refused().contains(says), "{text}: {}", order.refused());
        }
        fs::remove_file(&file).expect("removed");
        assert!(order.refused().contains("cannot be read"));
    }
}
