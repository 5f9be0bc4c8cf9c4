//! `scoreline features` as a user sees it: purchases in, training data out, nothing of the future in between.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Output};

use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::privacy::{IdHasher, PrivacySettings};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{Channel, ExtractedInteraction, Interaction, InteractionId, Sentiment};
use scoreline_store::{Batch, Store, StoreSettings};
use tempfile::TempDir;

const PEPPER: &str = "a pepper of these tests, long enough";

/// A folder with a store and room for tables.
struct Desk {
    folder: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.program(&[&["features"], arguments].concat())
    }

    fn program(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("SCORELINE_CONFIG");
        command.env("SCORELINE__STORE__PATH", "store.db").env("SCORELINE__PRIVACY__PEPPER", PEPPER);
        command.output().expect("the binary runs")
    }

    /// Runs and expects success; what it says.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    }

    /// Runs and expects this exit code; what it says.
    fn fails(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Exports and reads the rows by column.
    fn export(&self, as_of: &str, name: &str) -> Vec<Vec<(String, String)>> {
        self.done(&["export", "--as-of", as_of, "--horizon-days", "30", "--output", name, "--quiet"]);
        let mut reader = csv::Reader::from_path(self.path(name)).expect("a table");
        let header = reader.headers().expect("a header").clone();
        let rows = reader.records().map(|record| {
            let record = record.expect("a row");
            header.iter().zip(&record).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        });
        rows.collect()
    }

    fn record(&self, customer: &str, interactions: &[(&str, &str, f64)]) {
        let hasher = IdHasher::new(&PrivacySettings { pepper: Some(PEPPER.into()), ..PrivacySettings::default() });
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let interactions: Vec<_> = interactions
            .iter()
            .map(|(start, end, sentiment)| ExtractedInteraction {
                interaction: Interaction {
                    id: InteractionId(
                        *hasher.key(&format!("{customer} {start}")).as_bytes().first_chunk().expect("long"),
                    ),
                    customer: hasher.key(customer),
                    start: time(start),
                    end: Some(time(end)),
                    channel: Channel::Voice,
                    handle_ms: Some(60_000),
                    sentiment: Sentiment::new(*sentiment),
                    topics: vec!["billing".into()],
                    queue: Some("support".into()),
                },
                contact: None,
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let settings = StoreSettings::sqlite(self.path("store.db"));
            let store = Store::open(&settings).await.expect("opens");
            let at = time("2021-01-01T00:00:00Z");
            let batch = Batch {
                interactions: &interactions,
                annotations: &[],
                source: "test",
                position: "{}",
                at,
                lease: None,
            };
            store.record(&batch).await.expect("records");
            store.close().await;
        });
    }
}

fn value<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    &row.iter().find(|(known, _)| known == name).expect(name).1
}

const LOG: &str = "customer_id,date,amount,items\nA1,2020-01-05,10.50,1\nA1,2020-01-05,10.50,1\nA1,2020-03-01,5,2\nB2,2020-03-10T11:00:00Z,7.25,1\n";

#[test]
fn a_log_told_twice_is_taken_in_once() {
    let desk = Desk::new();
    desk.put("log.csv", LOG);
    let said = desk.done(&["import-purchases", "log.csv"]);
    assert!(said.contains("read 4 purchases: 4 new or changed, 0 known already"), "{said}");
    let said = desk.done(&["import-purchases", "log.csv"]);
    assert!(said.contains("0 new or changed, 4 known already"), "{said}");
    // Another order, another format: the same purchases.
    desk.put(
        "log.ndjson",
        "{\"customer_id\":\"B2\",\"date\":\"2020-03-10\",\"amount\":7.25,\"items\":1}\n\
         {\"customer_id\":\"A1\",\"date\":\"2020-01-05\",\"amount\":10.5,\"items\":1}\n",
    );
    let said = desk.done(&["import-purchases", "log.ndjson"]);
    assert!(said.contains("0 new or changed, 2 known already"), "{said}");
    // With names of their own, the last told holds.
    desk.put("named.csv", "customer_id,date,amount,items,order_id\nC3,2020-02-01,1,1,x\nC3,2020-02-01,1,1,y\n");
    assert!(desk.done(&["import-purchases", "named.csv"]).contains("2 new or changed"));
    desk.put("named.csv", "customer_id,date,amount,items,order_id\nC3,2020-02-01,9,1,x\n");
    assert!(desk.done(&["import-purchases", "named.csv"]).contains("1 new or changed"));
    let rows = desk.export("2020-03-01", "out.csv");
    let of_c3 = rows.iter().find(|row| value(row, "max_order_usd") == "10").expect("9 and 1 on one day");
    assert_eq!(value(of_c3, "purchase_count"), "1");
}

#[test]
fn a_log_with_a_mistake_changes_nothing_and_says_where_it_is_without_what_was_there() {
    let desk = Desk::new();
    desk.put(
        "log.csv",
        "customer_id,date,amount,items\nA1,2020-01-05,10,1\nA1,5 January,10,1\nA1,2020-01-05,-3,1\n\
         jane.doe@example.com,2020-01-05,3,1\n,2020-01-05,3,1\nA1,2020-01-05,3,many\nA1,2020-01-05,1e13,1\n",
    );
    let said = desk.fails(&["import-purchases", "log.csv", "--strict"], 1);
    for expected in [
        "5 of 7 lines cannot be taken in, so none was",
        "row 2: `date` must be a day such as `1997-01-31` or a time",
        "row 4: `customer_id` looks like",
        "row 5: `customer_id` is missing",
        "row 6: `items` must be a finite number",
        "row 7: `amount` must be at most 1e12",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert!(!said.contains("jane") && !said.contains("January") && !said.contains("many"), "{said}");
    assert!(!desk.path("store.db").exists(), "the store was not even opened");
    let said = desk.done(&["import-purchases", "log.csv"]);
    assert!(said.contains("5 of 7 lines cannot be taken in; the rest is") && said.contains("row 5: "), "{said}");
    assert!(
        said.contains("read 7 purchases: 2 new or changed, 0 known already, 0 of erased customers, 5 not taken in"),
        "{said}"
    );
    assert!(!said.contains("jane") && !said.contains("January") && !said.contains("many"), "{said}");
    desk.put("log.csv", "customer_id,date,amount,items\n,2020-01-05,3,1\n");
    assert!(desk.fails(&["import-purchases", "log.csv"], 1).contains("1 of 1 lines cannot be taken in, so none was"));

    desk.put("log.csv", "customer_id,date,amount\nA1,2020-01-05,10\n");
    let said = desk.fails(&["import-purchases", "log.csv"], 1);
    assert!(said.contains("no column `items`") && said.contains("`--items 1`"), "{said}");
    desk.done(&["import-purchases", "log.csv", "--items", "1"]);
    desk.put("log.csv", "customer,date,amount\nA1,2020-01-05,10\n");
    assert!(desk.fails(&["import-purchases", "log.csv"], 1).contains("needs a column `customer_id`"));
}

#[test]
fn a_log_as_a_shop_writes_it_counts_net_and_in_utc() {
    let desk = Desk::new();
    // A spreadsheet's byte order mark, a refund, a time that is the next day in UTC, one without an offset.
    desk.put(
        "log.csv",
        "\u{feff}customer_id,date,amount,items\nA1,2020-01-05,100,1\nA1,2020-01-31T23:30:00-08:00,50,1\n\
         A1,2020-02-10 14:05:00,-30.5,-1\nA1,2020-02-15,20,1\nA1,2020-02-15,-20,-1\n",
    );
    let said = desk.done(&["import-purchases", "log.csv"]);
    assert!(said.contains("read 5 purchases: 5 new or changed"), "{said}");
    desk.record("A1", &[("2020-02-01T10:00:00Z", "2020-02-01T10:10:00Z", 0.5)]);
    let rows = desk.export("2020-03-01", "out.csv");
    let row = &rows[0];
    let expected = [
        ("purchase_count", "2"),
        ("total_spend_usd", "119.5"),
        ("monetary_avg", "59.75"),
        ("purchase_recency_days", "28"),
        ("last_order_usd", "50"),
        ("spend_last_90d_usd", "119.5"),
        ("items_count", "1"),
    ];
    for (name, expected) in expected {
        assert_eq!(value(row, name), expected, "{name}");
    }
    desk.put("log.ndjson", "\u{feff}{\"customer_id\":\"A1\",\"date\":\"2020-01-05\",\"amount\":100,\"items\":1}\n");
    assert!(
        desk.done(&["import-purchases", "log.ndjson"]).contains("read 1 purchases: 0 new or changed, 1 known already")
    );
    std::fs::write(desk.path("wide.csv"), b"\xff\xfec\0u\0s\0").expect("written");
    assert!(desk.fails(&["import-purchases", "wide.csv"], 1).contains("UTF-16"));
}

#[test]
fn what_happens_after_the_time_changes_the_outcome_and_no_feature() {
    let desk = Desk::new();
    desk.put("log.csv", LOG);
    desk.done(&["import-purchases", "log.csv"]);
    desk.record("A1", &[("2020-02-01T10:00:00Z", "2020-02-01T10:10:00Z", 0.5)]);
    let before = desk.export("2020-03-01", "before.csv");
    assert_eq!(before.len(), 1, "of B2 nothing was known");
    let row = &before[0];
    let expected = [
        ("recency_days", "28"),
        ("frequency_count", "1"),
        ("avg_handling_time_sec", "60"),
        ("sentiment_score_avg", "0.5"),
        ("purchase_count", "1"),
        ("total_spend_usd", "21"),
        ("purchase_recency_days", "55"),
        ("items_count", "2"),
        ("spend_usd", "5"),
        ("as_of", "2020-03-01T00:00:00Z"),
    ];
    for (name, expected) in expected {
        assert_eq!(value(row, name), expected, "{name}");
    }

    desk.put("later.csv", "customer_id,date,amount,items\nA1,2020-03-30,100,9\nA1,2020-03-31,1000,9\n");
    desk.done(&["import-purchases", "later.csv"]);
    // One that was going on at the time, and one that began later.
    let later = [
        ("2020-02-29T23:59:00Z", "2020-03-01T00:00:01Z", -1.0),
        ("2020-03-02T10:00:00Z", "2020-03-02T10:10:00Z", -1.0),
    ];
    desk.record("A1", &later);
    desk.record("D4", &later);
    let after = desk.export("2020-03-01", "after.csv");
    assert_eq!(after.len(), 1);
    for ((name, then), (_, now)) in before[0].iter().zip(&after[0]) {
        if name == "spend_usd" {
            assert_eq!((then.as_str(), now.as_str()), ("5", "105"), "30 days from the first of March");
        } else {
            assert_eq!(then, now, "{name}");
        }
    }
    let both = desk.export("2020-04-01,2020-03-01", "both.csv");
    assert_eq!(both.len(), 4, "A1 twice, B2 and D4 by April");
    assert!(both.contains(&after[0]));
}

#[test]
fn a_parquet_export_holds_what_the_csv_does() {
    let desk = Desk::new();
    desk.put("log.csv", LOG);
    desk.done(&["import-purchases", "log.csv"]);
    let rows = desk.export("2020-04-01", "out.csv");
    desk.done(&["export", "--as-of", "2020-04-01", "--horizon-days", "30", "--output", "out.parquet"]);
    let file = File::open(desk.path("out.parquet")).expect("written");
    let mut reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet").build().expect("a reader");
    let batch = reader.next().expect("a batch").expect("reads");
    assert_eq!((batch.num_rows(), batch.num_columns()), (rows.len(), CATALOGUE.len() + 5));
    for feature in CATALOGUE {
        let column = batch.column_by_name(feature.name).expect(feature.name).as_primitive::<Float64Type>();
        for (value_in_csv, found) in rows.iter().map(|row| value(row, feature.name)).zip(column) {
            assert_eq!(value_in_csv.parse().ok(), found, "{}", feature.name);
        }
    }
}

#[test]
fn what_can_not_be_exported_is_said_before_anything_is_read() {
    let desk = Desk::new();
    let said = desk.fails(&["export", "--as-of", "2999-01-01", "--output", "out.csv"], 64);
    assert!(said.contains("which is not over"), "{said}");
    let said = desk.fails(&["export", "--as-of", "2020-01-01", "--output", "out.xls"], 64);
    assert!(said.contains("must be named .csv or .parquet"), "{said}");
    assert!(desk.fails(&["export", "--as-of", "soon", "--output", "out.csv"], 64).contains("must be a date"));
    desk.fails(&["export", "--as-of", "2020-01-01", "--output", "out.csv"], 1);
    assert!(!desk.path("out.csv").exists());
}

#[test]
fn the_catalogue_is_printed_for_people_and_programs() {
    let desk = Desk::new();
    let text = desk.run(&["catalogue"]).stdout;
    assert!(String::from_utf8_lossy(&text).contains("recency_days  days, >= 0\n"));
    let json: serde_json::Value =
        serde_json::from_slice(&desk.run(&["catalogue", "--format", "json"]).stdout).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(CATALOGUE.len()));
}

/// A number from 0 to 1 that depends on all of these.
fn chance(of: &[u64]) -> f64 {
    let mixed = of.iter().fold(7_u64, |hash, part| {
        (hash ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    });
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// Customers who buy now and then, more often the more they are given to it.
fn a_shop(customers: u64) -> String {
    let mut log = "customer_id,date,amount,items\n".to_owned();
    for customer in 0..customers {
        let eager = 0.15 + 0.6 * chance(&[customer, 1]);
        for week in 0..18_u32 {
            let at = u64::from(week);
            if chance(&[customer, 2, at]) < eager * 0.5 {
                let day = jiff::civil::date(2020, 1, 1) + jiff::Span::new().days(i64::from(week) * 7);
                let amount = 5.0 + 40.0 * chance(&[customer, 3, at]);
                let _ = writeln!(log, "C{customer},{day},{amount:.2},1");
            }
        }
    }
    log
}

/// A forest of one tree in `LightGBM`'s text: few purchases or many, and what is said of each.
fn booster(few: f64, many: f64) -> String {
    format!(
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=1\nobjective=regression\n\
         feature_names=monetary_avg purchase_count\n\nTree=0\nnum_leaves=2\nnum_cat=0\nsplit_feature=1\nthreshold=2.5\n\
         decision_type=2\nleft_child=-1\nright_child=-2\nleaf_value={few} {many}\nis_linear=0\nshrinkage=1\n\n\nend of trees\n"
    )
}

#[test]
fn an_exported_table_is_packed_and_served_as_it_is() {
    let desk = Desk::new();
    desk.put("log.csv", &a_shop(1500));
    desk.done(&["import-purchases", "log.csv", "--quiet"]);
    let rows = desk.export("2020-03-01,2020-04-01", "training.csv");
    let number = |row: &[(String, String)], name: &str| value(row, name).parse::<f64>().expect(name);
    assert!(rows.iter().all(|row| value(row, "horizon_days") == "30"));
    let is_few = |row: &[(String, String)]| number(row, "purchase_count") <= 2.5;
    let mean = |few: bool| {
        let fit = rows.iter().filter(|row| value(row, "split") == "fit" && is_few(row) == few);
        let spent: Vec<f64> = fit.map(|row| number(row, "spend_usd")).collect();
        spent.iter().sum::<f64>() / spent.len() as f64
    };
    let (few, many) = (mean(true), mean(false));
    assert!(many > few, "{few} {many}");
    desk.put("model.txt", &booster(few, many));
    let predicted = rows.iter().map(|row| {
        let prediction = if is_few(row) { few } else { many };
        format!("{},{},{prediction}\n", value(row, "customer"), value(row, "as_of"))
    });
    let predicted: String = predicted.collect();
    desk.put("predictions.csv", &format!("customer,as_of,prediction\n{predicted}"));

    let arguments = ["models", "pack", "--model", "model.txt", "--features", "training.csv", "--name", "clv"];
    let more = ["--version", "v1.0", "--check", "predictions.csv", "--models", "models", "--no-report"];
    let packed = desk.program(&[&arguments[..], &more].concat());
    let said = String::from_utf8_lossy(&packed.stdout).into_owned() + &String::from_utf8_lossy(&packed.stderr);
    assert!(packed.status.success(), "{said}");
    assert!(said.contains("check: 0 of") && said.contains("published: models/clv/v1.0"), "{said}");
    let manifest = fs::read_to_string(desk.path("models/clv/v1.0/bundle.toml")).expect("a manifest");
    assert!(manifest.contains("horizon_days = 30") && manifest.contains("backend = \"trees\""), "{manifest}");

    // Calibrating on the rows that fitted it is refused by their hashes.
    let bent = fs::read_to_string(desk.path("training.csv")).expect("a table");
    desk.put("fitted.csv", &bent.replace(",fit,", ",calibration,"));
    let again = ["models", "calibrate", "models/clv/v1.0", "--features", "fitted.csv", "--version", "v1.1"];
    let refused = desk.program(&[&again[..], &["--models", "models", "--no-report"]].concat());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("of the rows that fitted the model are among"), "{said}");

    desk.put("customers.csv", "customer_id,purchase_count,monetary_avg\nA,1,20\nB,4,20\n");
    let score = ["score", "--model", "clv", "--input", "customers.csv", "--output", "scored.csv", "--quiet"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
    command.args(score).current_dir(desk.folder.path()).env_remove("SCORELINE_CONFIG");
    let scored = command.env("SCORELINE__MODELS__DIR", "models").env("SCORELINE__STORE__PATH", "store.db").output();
    let scored = scored.expect("the binary runs");
    assert!(scored.status.success(), "{}", String::from_utf8_lossy(&scored.stderr));
    let mut reader = csv::Reader::from_path(desk.path("scored.csv")).expect("a table");
    let column = reader.headers().expect("a header").iter().position(|name| name == "clv_value_usd").expect("a value");
    let values: Vec<f64> = reader.records().map(|row| row.expect("a row")[column].parse().expect("a number")).collect();
    for (served, expected) in values.iter().zip([few, many]) {
        assert!((served - expected).abs() < 0.01, "{served} for {expected}");
    }
    assert_eq!(values.len(), 2);
}
