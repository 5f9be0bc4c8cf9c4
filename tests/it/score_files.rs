//! `scoreline score` as a user sees it: tables in, tables out, every row accounted for.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use arrow_array::TimestampMillisecondArray;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow_select::concat::concat_batches;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::TestBundle;

/// A folder with the test model in it, and room for tables.
pub struct Desk {
    folder: TempDir,
}

impl Desk {
    pub fn new() -> Self {
        Self::with(&TestBundle::clv("v1.2"))
    }

    pub fn with(bundle: &TestBundle) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        bundle.write(&folder.path().join("models"));
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_scoreline"));
        command.arg("score").args(arguments).current_dir(self.folder.path());
        command.env("SCORELINE__MODELS__DIR", "models").env_remove("SCORELINE_CONFIG");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs and expects success; the summary.
    pub fn score(&self, input: &str, output: &str) -> String {
        let ended = self.run(&["--input", input, "--output", output]);
        assert!(ended.status.success(), "{}", errors(&ended));
        errors(&ended)
    }

    /// Runs and expects exit code 1 with nothing left behind; the message.
    pub fn refuse(&self, arguments: &[&str]) -> String {
        let before = self.files();
        let ended = self.run(arguments);
        assert_eq!(ended.status.code(), Some(1), "{}", errors(&ended));
        assert_eq!(self.files(), before, "nothing is left behind");
        errors(&ended)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).expect("a folder");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

pub fn errors(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// Ids that a number or a spreadsheet would spoil, quoting, every kind of row there is.
const CUSTOMERS: &str = "\
id,recency_days,frequency_count,acquisition_channel,sentiment_score_avg,note
00017,30,10,referral,,\"a, quoted \"\"note\"\"\"
00018,30,0,organic,,no history
00019,30,0,skywriting,,
00020,400,10,,0.5,outside of training
00021,-3,10,,,
00022,soon,10,,,
00023,30,,,,
00024,30,10
00025,30,10,,1e999,
";

#[test]
fn csv_rows_come_back_unchanged_with_their_answer_or_the_reason_behind_them() {
    let desk = Desk::new();
    desk.put("customers.csv", CUSTOMERS);
    let summary = desk.score("customers.csv", "scored.csv");
    insta::assert_snapshot!(desk.read("scored.csv"), @r#"
    id,recency_days,frequency_count,acquisition_channel,sentiment_score_avg,note,clv_value_usd,confidence_interval_low,confidence_interval_high,risk_score,confidence_score,tier_probability,clv_tier,source,warnings,error
    00017,30,10,referral,,"a, quoted ""note""",15.06,0,35.13,0.5,0.2794,0.2794,Medium_Value,model,imputed: sentiment_score_avg; imputed: topic_diversity,
    00018,30,0,organic,,no history,8,0,30,0.8,0.5,0.8,Low_Value,cold_start,,
    00019,30,0,skywriting,,,20,0,80,0.6,0.3,0.3,Medium_Value,cold_start,acquisition_channel_unknown,
    00020,400,10,,0.5,outside of training,0.54,0,6.08,0.982,0.986,0.986,Low_Value,model,imputed: topic_diversity; outside_training_range: recency_days,
    00021,-3,10,,,,,,,,,,,,,"feature `recency_days` must be >= 0, got `-3`"
    00022,soon,10,,,,,,,,,,,,,"feature `recency_days` must be a finite number, got `soon`"
    00023,30,,,,,,,,,,,,,,feature `frequency_count` is required
    00024,30,10,,,,,,,,,,,,,"row has 3 fields, the header has 6"
    00025,30,10,,1e999,,,,,,,,,,,"feature `sentiment_score_avg` must be a finite number, got `1e999`"
    "#);
    assert!(summary.starts_with("scored 9 rows with clv v1.2 in "), "{summary}");
    assert!(summary.contains("2 by the model, 2 cold start, 5 errors -> scored.csv"), "{summary}");
    assert!(summary.contains("the first is row 5: feature `recency_days` must be >= 0, got `-3`"), "{summary}");
    assert_eq!(desk.files(), ["customers.csv", "models", "scored.csv"]);
}

#[test]
fn rows_with_errors_fail_the_command_only_when_asked_to() {
    let desk = Desk::new();
    desk.put("customers.csv", CUSTOMERS);
    let ended = desk.run(&["--input", "customers.csv", "--output", "scored.csv", "--fail-on-error", "--quiet"]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        errors(&ended).starts_with("error: 5 rows could not be scored, the first is row 5: "),
        "{}",
        errors(&ended)
    );
    assert_eq!(desk.read("scored.csv").lines().count(), 10, "the output is written all the same");
}

#[test]
fn ndjson_objects_are_kept_letter_for_letter() {
    let desk = Desk::new();
    desk.put(
        "customers.ndjson",
        "{\"id\": 1.50, \"recency_days\":30, \"frequency_count\": 10, \"nested\": {\"a\": [1, 2]}}\n\n\
         {\"recency_days\":30,\"frequency_count\":0,\"segment\":\"loyal\",\"sentiment_score_avg\":null}\n\
         {\"recency_days\":\"30\",\"frequency_count\":10}\n\
         {\"recency_days\":30,\"recency_days\":31,\"frequency_count\":10}\n\
         {\"recency_days\":30\n\
         {}\n",
    );
    desk.score("customers.ndjson", "scored.jsonl");
    insta::assert_snapshot!(desk.read("scored.jsonl"), @r#"
    {"id": 1.50, "recency_days":30, "frequency_count": 10, "nested": {"a": [1, 2]},"clv_value_usd":15.06,"confidence_interval_low":0,"confidence_interval_high":35.13,"risk_score":0.5,"confidence_score":0.2794,"tier_probability":0.2794,"clv_tier":"Medium_Value","source":"model","warnings":["imputed: sentiment_score_avg","imputed: topic_diversity"]}
    {"recency_days":30,"frequency_count":0,"segment":"loyal","sentiment_score_avg":null,"clv_value_usd":60,"confidence_interval_low":0,"confidence_interval_high":200,"risk_score":0.2,"confidence_score":0.5,"tier_probability":0.5,"clv_tier":"High_Value","source":"cold_start","warnings":[]}
    {"recency_days":"30","frequency_count":10,"error":"feature `recency_days` must be a finite number, got `\"30\"`"}
    {"recency_days":30,"recency_days":31,"frequency_count":10,"error":"feature `recency_days` is given twice"}
    {"input":"{\"recency_days\":30","error":"line is not a JSON object: EOF while parsing an object at line 1 column 18"}
    {"error":"feature `recency_days` is required"}
    "#);
}

fn parquet_customers() -> RecordBatch {
    let columns: [(&str, ArrayRef); 5] = [
        ("id", Arc::new(Int64Array::from(vec![7_000_000_000_000_001, 2, 3]))),
        ("recency_days", Arc::new(Int32Array::from(vec![Some(30), Some(30), None]))),
        ("frequency_count", Arc::new(Float64Array::from(vec![10.0, 0.0, 10.0]))),
        (
            "acquisition_channel",
            Arc::new(vec![Some("referral"), Some("organic"), None].into_iter().collect::<DictionaryArray<Int32Type>>()),
        ),
        ("topic_diversity", Arc::new(StringArray::from(vec!["3", "", "3"]))),
    ];
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

fn write_parquet(path: &Path, batch: &RecordBatch) {
    let file = File::create(path).expect("created");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("a writer");
    writer.write(batch).expect("written");
    writer.close().expect("closed");
}

fn read_parquet(path: &Path) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("opened")).expect("Parquet");
    let schema = Arc::clone(builder.schema());
    let batches: Vec<_> = builder.build().expect("a reader").map(|batch| batch.expect("a batch")).collect();
    concat_batches(&schema, &batches).expect("one table")
}

#[test]
fn parquet_columns_keep_their_types() {
    let desk = Desk::new();
    let customers = parquet_customers();
    write_parquet(&desk.path("customers.parquet"), &customers);
    desk.score("customers.parquet", "scored.parquet");
    let scored = read_parquet(&desk.path("scored.parquet"));
    assert_eq!(scored.num_columns(), customers.num_columns() + 10);
    for (position, column) in customers.columns().iter().enumerate() {
        assert_eq!(scored.column(position), column);
        assert_eq!(scored.schema().field(position), customers.schema().field(position));
    }
    let number = |name: &str| -> Vec<_> {
        scored.column_by_name(name).expect(name).as_primitive::<Float64Type>().iter().collect()
    };
    let text = |name: &str| -> Vec<_> { scored.column_by_name(name).expect(name).as_string::<i32>().iter().collect() };
    assert_eq!(number("clv_value_usd"), [Some(15.06), Some(8.0), None]);
    assert_eq!(number("risk_score"), [Some(0.5), Some(0.8), None]);
    assert_eq!(text("source"), [Some("model"), Some("cold_start"), None]);
    assert_eq!(text("clv_tier"), [Some("Medium_Value"), Some("Low_Value"), None]);
    assert_eq!(text("warnings"), [Some("imputed: sentiment_score_avg"), None, None]);
    assert_eq!(text("error"), [None, None, Some("feature `recency_days` is required")]);
}

#[test]
fn every_format_can_become_every_other() {
    let desk = Desk::new();
    desk.put("csv.csv", "id,recency_days,frequency_count\n007,30,10\n008,x,10\n");
    desk.put("ndjson.ndjson", "{\"id\":\"007\",\"recency_days\":30,\"frequency_count\":10}\n{\"id\":\"008\",\"recency_days\":\"x\",\"late\":true}\n");
    write_parquet(&desk.path("parquet.parquet"), &parquet_customers());

    desk.score("csv.csv", "from_csv.ndjson");
    desk.score("ndjson.ndjson", "from_ndjson.csv");
    desk.score("parquet.parquet", "from_parquet.csv");
    desk.score("parquet.parquet", "from_parquet.ndjson");
    let all = ["from_csv.ndjson", "from_ndjson.csv", "from_parquet.csv", "from_parquet.ndjson"];
    insta::assert_snapshot!(all.map(|name| format!("{name}\n{}", desk.read(name))).join("\n"), @r#"
    from_csv.ndjson
    {"id":"007","recency_days":30,"frequency_count":10,"clv_value_usd":15.06,"confidence_interval_low":0,"confidence_interval_high":35.13,"risk_score":0.5,"confidence_score":0.2794,"tier_probability":0.2794,"clv_tier":"Medium_Value","source":"model","warnings":["imputed: sentiment_score_avg","imputed: topic_diversity"]}
    {"id":"008","recency_days":"x","frequency_count":10,"error":"feature `recency_days` must be a finite number, got `x`"}

    from_ndjson.csv
    id,recency_days,frequency_count,late,clv_value_usd,confidence_interval_low,confidence_interval_high,risk_score,confidence_score,tier_probability,clv_tier,source,warnings,error
    007,30,10,,15.06,0,35.13,0.5,0.2794,0.2794,Medium_Value,model,imputed: sentiment_score_avg; imputed: topic_diversity,
    008,x,,true,,,,,,,,,,"feature `recency_days` must be a finite number, got `""x""`"

    from_parquet.csv
    id,recency_days,frequency_count,acquisition_channel,topic_diversity,clv_value_usd,confidence_interval_low,confidence_interval_high,risk_score,confidence_score,tier_probability,clv_tier,source,warnings,error
    7000000000000001,30,10.0,referral,3,15.06,0,35.13,0.5,0.2794,0.2794,Medium_Value,model,imputed: sentiment_score_avg,
    2,30,0.0,organic,,8,0,30,0.8,0.5,0.8,Low_Value,cold_start,,
    3,,10.0,,3,,,,,,,,,,feature `recency_days` is required

    from_parquet.ndjson
    {"id":7000000000000001,"recency_days":30,"frequency_count":10.0,"acquisition_channel":"referral","topic_diversity":3,"clv_value_usd":15.06,"confidence_interval_low":0,"confidence_interval_high":35.13,"risk_score":0.5,"confidence_score":0.2794,"tier_probability":0.2794,"clv_tier":"Medium_Value","source":"model","warnings":["imputed: sentiment_score_avg"]}
    {"id":2,"recency_days":30,"frequency_count":0.0,"acquisition_channel":"organic","clv_value_usd":8,"confidence_interval_low":0,"confidence_interval_high":30,"risk_score":0.8,"confidence_score":0.5,"tier_probability":0.8,"clv_tier":"Low_Value","source":"cold_start","warnings":[]}
    {"id":3,"frequency_count":10.0,"topic_diversity":3,"error":"feature `recency_days` is required"}
    "#);

    for input in ["csv.csv", "ndjson.ndjson"] {
        desk.score(input, "text.parquet");
        let scored = read_parquet(&desk.path("text.parquet"));
        let ids: Vec<_> = scored.column_by_name("id").expect("id").as_string::<i32>().iter().collect();
        assert_eq!(ids, [Some("007"), Some("008")]);
    }
}

/// As an HTTP answer says it, from every format.
#[test]
fn rows_of_another_time_are_named() {
    let desk = Desk::new();
    desk.put(
        "csv.csv",
        "recency_days,frequency_count,timestamp_utc\n30,10,2020-02-01T10:00:00Z\n30,10,2999-01-01 00:00:00\n30,0,2020-02-01\n\
         30,10,\n30,10,yesterday\n",
    );
    desk.put(
        "ndjson.ndjson",
        "{\"recency_days\":30,\"frequency_count\":10,\"timestamp_utc\":\"2020-02-01T10:00:00Z\"}\n\
         {\"recency_days\":30,\"frequency_count\":10,\"timestamp_utc\":null}\n",
    );
    let days = |text: &str| {
        let (_, rest) = text.split_once("stale: timestamp_utc is ").unwrap_or_else(|| panic!("{text}"));
        rest.split_once(" days old").and_then(|(days, _)| days.parse::<u32>().ok()).expect("days")
    };
    desk.score("csv.csv", "from_csv.csv");
    let rows = desk.read("from_csv.csv");
    let rows: Vec<_> = rows.lines().skip(1).collect();
    assert!(days(rows[0]) > 2000 && days(rows[2]) > 2000 && rows[2].contains("cold_start"), "{rows:?}");
    assert!(rows[1].contains("future: timestamp_utc is ") && rows[1].contains(" days ahead"), "{rows:?}");
    assert!(rows[3].contains(",model,imputed: "), "{rows:?}");
    assert!(rows[4].ends_with("`timestamp_utc` must be an RFC 3339 time such as `2023-10-27T14:30:00Z`"), "{rows:?}");
    desk.score("ndjson.ndjson", "from_ndjson.ndjson");
    let rows = desk.read("from_ndjson.ndjson");
    let rows: Vec<_> = rows.lines().collect();
    assert!(days(rows[0]) > 2000 && !rows[1].contains("stale"), "{rows:?}");

    let millis = |zone: Option<&str>| {
        let times = TimestampMillisecondArray::from(vec![1_580_551_200_000, 32_472_144_000_000]);
        Arc::new(times.with_timezone_opt(zone)) as ArrayRef
    };
    for zone in [None, Some("Europe/Berlin")] {
        let columns: [(&str, ArrayRef); 3] = [
            ("recency_days", Arc::new(Int32Array::from(vec![30, 30]))),
            ("frequency_count", Arc::new(Float64Array::from(vec![10.0, 10.0]))),
            ("timestamp_utc", millis(zone)),
        ];
        write_parquet(&desk.path("times.parquet"), &RecordBatch::try_from_iter(columns).expect("a table"));
        desk.score("times.parquet", "from_parquet.ndjson");
        let rows = desk.read("from_parquet.ndjson");
        let rows: Vec<_> = rows.lines().collect();
        assert!(days(rows[0]) > 2000 && rows[1].contains("future: timestamp_utc is "), "{rows:?}");
    }
}

const ROWS: usize = 50_000;

#[test]
fn many_rows_keep_their_order_on_many_threads() {
    let desk = Desk::new();
    let mut text = Vec::from("id,recency_days,frequency_count\n");
    for id in 0..ROWS {
        // Chunks of unequal effort: a stretch of errors, a stretch of scores.
        let recency = if id % 10_000 < 5_000 { "x" } else { "30" };
        writeln!(text, "{id},{recency},{}", id % 60).expect("a string takes everything");
    }
    fs::write(desk.path("many.csv"), text).expect("written");
    let ended = desk.run(&["--input", "many.csv", "--output", "scored.csv", "--threads", "8"]);
    assert!(
        errors(&ended).contains("scored 50000 rows") && errors(&ended).contains("25000 errors"),
        "{}",
        errors(&ended)
    );
    let scored = desk.read("scored.csv");
    let ids: Vec<usize> = scored
        .lines()
        .skip(1)
        .map(|line| line.split(',').next().and_then(|id| id.parse().ok()).expect("an id"))
        .collect();
    assert!(ids.iter().copied().eq(0..ROWS));
}

#[test]
fn a_pipe_is_read_and_written() {
    let desk = Desk::new();
    let mut child = desk
        .command(&["--input", "-", "--input-format", "csv", "--output", "-", "--quiet", "--delimiter", ";"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"recency_days;frequency_count\n30;10\n").expect("sent");
    drop(stdin);
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    assert!(child.wait().expect("ends").success());
    assert!(
        text.starts_with("recency_days;frequency_count;clv_value_usd;") && text.contains("\n30;10;15.06;"),
        "{text}"
    );
}

#[test]
fn a_table_that_does_not_fit_is_refused_at_once() {
    let desk = Desk::new();
    let refused = |text: &str, name: &str| {
        desk.put(name, text);
        let message = desk.refuse(&["--input", name, "--output", "scored.csv"]);
        fs::remove_file(desk.path(name)).expect("removed");
        message
    };
    insta::assert_snapshot!(refused("id,recency\n1,2\n", "a.csv"), @"error: `a.csv` cannot be scored with clv: required columns are missing: `recency_days`, `frequency_count`. The model reads `recency_days`, `frequency_count` and optionally `sentiment_score_avg`, `topic_diversity`; the input has `id`, `recency`");
    insta::assert_snapshot!(refused("recency_days;frequency_count\n1;2\n", "a.csv"), @"error: `a.csv` cannot be scored with clv: required columns are missing: `recency_days`, `frequency_count`. The model reads `recency_days`, `frequency_count` and optionally `sentiment_score_avg`, `topic_diversity`; the input has `recency_days;frequency_count`; the header is a single column: give `--delimiter`");
    insta::assert_snapshot!(refused("recency_days,frequency_count,error\n1,2,\n", "a.csv"), @"error: `a.csv` cannot be scored with clv: the input already has a column `error`, which the output adds: rename it or leave it out");
    insta::assert_snapshot!(refused("recency_days,frequency_count,recency_days\n1,2,3\n", "a.csv"), @"error: `a.csv` cannot be scored with clv: the input has two columns `recency_days`: keep one");
    insta::assert_snapshot!(refused("", "a.csv"), @"error: `a.csv` cannot be read: the file is empty: the first line must hold the column names");
    insta::assert_snapshot!(refused("recency_days,frequency_count\n", "a.csv"), @"error: the input has no rows");
    insta::assert_snapshot!(refused("no object\n", "a.ndjson"), @"error: `a.ndjson` cannot be read: no line among the first 1 is a JSON object with fields");
    insta::assert_snapshot!(refused("no table", "a.parquet"), @"error: `a.parquet` cannot be read as Parquet: Parquet error: Invalid Parquet file. Corrupt footer");
    insta::assert_snapshot!(refused("{\"recency_days\":1,\"frequency_count\":2}\n{\"error\":1}\n", "a.ndjson"), @"error: `a.ndjson` cannot be scored with clv: the input already has a column `error`, which the output adds: rename it or leave it out");
}

#[test]
fn an_output_that_can_not_be_is_refused_before_any_work() {
    let desk = Desk::new();
    desk.put("customers.csv", CUSTOMERS);
    let refused = |output: &str| desk.refuse(&["--input", "customers.csv", "--output", output]);
    insta::assert_snapshot!(refused("customers.csv"), @"error: output `customers.csv` is the input: it would be overwritten while it is read");
    insta::assert_snapshot!(refused("missing/scored.csv"), @"error: folder `missing` of the output does not exist: create it first");
    insta::assert_snapshot!(desk.refuse(&["--input", "missing.csv", "--output", "scored.csv"]), @"error: `missing.csv` cannot be opened: No such file or directory (os error 2)");
    assert_eq!(desk.read("customers.csv"), CUSTOMERS);

    let usage = |arguments: &[&str]| {
        let ended = desk.run(arguments);
        assert_eq!(ended.status.code(), Some(64), "{}", errors(&ended));
        errors(&ended)
    };
    insta::assert_snapshot!(usage(&["--input", "customers.csv", "--output", "scored.txt"]), @"error: format of `scored.txt` is not known: name it .csv, .ndjson, .parquet or .arrow, or give `--output-format`");
    insta::assert_snapshot!(usage(&["--model", "vlc", "--input", "customers.csv", "--output", "scored.csv"]), @"error: no model `vlc` in `models`; there are: clv");
}

#[test]
fn an_existing_output_is_replaced_only_by_a_complete_one() {
    let desk = Desk::new();
    desk.put("customers.csv", CUSTOMERS);
    desk.put("scored.csv", "the last one");
    desk.put("bad.csv", "id\n1\n");
    desk.refuse(&["--input", "bad.csv", "--output", "scored.csv"]);
    assert_eq!(desk.read("scored.csv"), "the last one");
    desk.score("customers.csv", "scored.csv");
    assert_eq!(desk.read("scored.csv").lines().count(), 10);
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    let desk = Desk::new();
    let mut child = desk
        .command(&["--input", "-", "--input-format", "csv", "--output", "scored.csv"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"recency_days,frequency_count\n30,10\n").expect("sent");
    // The partial file is there once the run has begun, and only then.
    while desk.files().len() < 2 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill runs").success());
    let status = child.wait().expect("ends");
    drop(stdin);
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    assert_eq!(status.code(), Some(1), "{text}");
    assert_eq!(text, "error: interrupted by SIGINT: no output was written\n");
    assert_eq!(desk.files(), ["models"]);
}

/// The test model on purchases: P(purchase) depends on recency, spend on the number of purchase days.
fn purchase_bundle() -> TestBundle {
    let bundle = TestBundle::clv("v1.0");
    let rename = |text: &str| text.replace("frequency_count", "purchase_count");
    let (model, golden) = (rename(&bundle.model), rename(&bundle.golden));
    TestBundle { model, golden, ..bundle }
        .edit("frequency_count", "purchase_count")
        .edit("standardize = true", "standardize = true\ncold_start_feature = \"purchase_count\"")
        .edit("topic_diversity", "items_count")
}

const PURCHASES: &str = "\
customer_id,date,number_of_cds,dollar_value
b,1997-09-20,2,21.0
a,1997-08-31,1,5.0
b,1997-03-01T10:00:00,1,10.5
b,1997-03-01,1,0
c,1997-10-01,1,9.0
d,1997-02-30,1,9.0
b,1997-10-02,9,900.0
,1997-03-01,1,9.0
e,1997-03-01,1,many
";

#[test]
fn a_purchase_log_becomes_one_row_per_customer() {
    let desk = Desk::with(&purchase_bundle());
    desk.put("log.csv", PURCHASES);
    let arguments = ["--purchases", "--as-of", "1997-09-30", "--input", "log.csv", "--output"];
    let scored = |output: &str| {
        let ended = desk.run(&[&arguments[..], &[output]].concat());
        assert!(ended.status.success(), "{}", errors(&ended));
    };
    scored("scored.csv");
    insta::assert_snapshot!(desk.read("scored.csv"), @r#"
    customer_id,recency_days,purchase_count,tenure_days,monetary_avg,total_spend_usd,last_order_usd,max_order_usd,spend_last_90d_usd,purchases_last_90d,purchase_gap_mean_days,items_count,purchases_decayed_30d,clv_value_usd,confidence_interval_low,confidence_interval_high,risk_score,confidence_score,tier_probability,clv_tier,source,warnings,error
    b,10,2,213,15.75,31.5,21,21,21,1,203,4,0.8009898462304811,13.34,0,31.69,0.3392,0.3412,0.3412,Medium_Value,model,imputed: sentiment_score_avg,
    a,30,1,30,5,5,5,5,5,1,30,1,0.5,9.61,0,24.21,0.5,0.6958,0.6958,Low_Value,model,imputed: sentiment_score_avg,
    c,,0,,,,,,,,,,,20,0,80,0.6,0.3,0.3,Medium_Value,cold_start,,
    d,,,,,,,,,,,,,,,,,,,,,,"row 6: `date` must be a day such as `1997-01-31` or a time, got `1997-02-30`"
    ,,,,,,,,,,,,,,,,,,,,,,row 8: `customer_id` is missing
    e,,,,,,,,,,,,,,,,,,,,,,"row 9: `dollar_value` must be a finite number, got `many`"
    "#);
    scored("scored.ndjson");
    let first: Value = serde_json::from_str(desk.read("scored.ndjson").lines().next().expect("a row")).expect("JSON");
    assert_eq!((first["customer_id"].as_str(), first["purchase_count"].as_f64()), (Some("b"), Some(2.0)));
    scored("scored.parquet");
    let table = read_parquet(&desk.path("scored.parquet"));
    let counts: Vec<_> =
        table.column_by_name("purchase_count").expect("a column").as_primitive::<Float64Type>().iter().collect();
    assert_eq!(counts, [Some(2.0), Some(1.0), Some(0.0), None, None, None]);
}

#[test]
fn a_purchase_log_may_be_parquet_and_lack_items() {
    let desk = Desk::with(&purchase_bundle());
    let columns: [(&str, ArrayRef); 3] = [
        ("customer_id", Arc::new(Int64Array::from(vec![9, 9]))),
        ("date", Arc::new(arrow_array::Date32Array::from(vec![9_978, 10_104]))),
        ("amount", Arc::new(Float64Array::from(vec![1.0, 2.0]))),
    ];
    write_parquet(&desk.path("log.parquet"), &RecordBatch::try_from_iter(columns).expect("columns"));
    let ended =
        desk.run(&["--purchases", "--as-of", "1997-09-30", "--input", "log.parquet", "--output", "scored.parquet"]);
    assert!(ended.status.success(), "{}", errors(&ended));
    let table = read_parquet(&desk.path("scored.parquet"));
    assert!(table.column_by_name("items_count").is_none(), "not known is not zero");
    let warnings = table.column_by_name("warnings").expect("a column").as_string::<i32>();
    assert_eq!(warnings.value(0), "imputed: sentiment_score_avg; imputed: items_count");
    let ids = table.column_by_name("customer_id").expect("a column").as_string::<i32>();
    assert_eq!((ids.len(), ids.value(0)), (1, "9"));
    let recency = table.column_by_name("recency_days").expect("a column").as_primitive::<Float64Type>();
    assert_eq!(recency.value(0), 30.0);
}

/// What Spark and pandas write: times in a named zone, every codec, and a time that no calendar has.
#[test]
fn parquet_of_other_engines_is_read() {
    let desk = Desk::with(&purchase_bundle());
    let ms = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_millisecond();
    let days = [ms("1997-04-27T23:30:00-07:00"), ms("1997-09-01T10:00:00Z"), i64::MAX, ms("1997-09-02T10:00:00Z")];
    let times = TimestampMillisecondArray::from(days.to_vec()).with_timezone("America/Los_Angeles");
    let columns: [(&str, ArrayRef); 4] = [
        ("customer_id", Arc::new(StringArray::from(vec!["A", "A", "B", "C"]))),
        ("date", Arc::new(times)),
        ("amount", Arc::new(Float64Array::from(vec![10.0, 20.0, 5.0, 7.0]))),
        ("items", Arc::new(Int64Array::from(vec![1, 1, 1, 1]))),
    ];
    let log = RecordBatch::try_from_iter(columns).expect("columns of one length");
    let mut said = Vec::new();
    for codec in [
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        let properties = WriterProperties::builder().set_compression(codec).build();
        let file = File::create(desk.path("log.parquet")).expect("created");
        let mut writer = ArrowWriter::try_new(file, log.schema(), Some(properties)).expect("a writer");
        writer.write(&log).expect("written");
        writer.close().expect("closed");
        let arguments = ["--purchases", "--as-of", "1997-09-30", "--input", "log.parquet", "--output", "scored.csv"];
        let ended = desk.run(&arguments);
        assert!(ended.status.success(), "{codec:?}: {}", errors(&ended));
        said.push(desk.read("scored.csv"));
    }
    assert!(said.iter().all(|one| *one == said[0]));
    let rows: Vec<_> = said[0].lines().collect();
    assert_eq!(rows.len(), 4, "{rows:?}");
    assert!(rows[1].starts_with("A,") && rows[1].contains(",155,") || rows[1].contains(",155.0,"), "{}", rows[1]);
    assert!(rows[2].starts_with("B,") && rows[2].contains("`date` must be a day"), "{}", rows[2]);
    assert!(rows[3].starts_with("C,") && !rows[3].contains("must be"), "{}", rows[3]);
}

#[test]
fn a_purchase_log_without_its_columns_is_refused() {
    let desk = Desk::with(&purchase_bundle());
    desk.put("log.csv", "customer_id,day,amount\n1,1997-01-01,2\n");
    let arguments = ["--purchases", "--as-of", "1997-09-30", "--input", "log.csv", "--output", "scored.csv"];
    insta::assert_snapshot!(desk.refuse(&arguments), @"error: a purchase log needs a column `date`; the input has `customer_id`, `day`, `amount`");
    let without_day = desk.run(&["--purchases", "--input", "log.csv", "--output", "scored.csv"]);
    assert_eq!(without_day.status.code(), Some(64), "{}", errors(&without_day));
}

#[test]
fn fields_that_come_too_late_for_a_column_are_not_lost_in_silence() {
    let desk = Desk::new();
    let row = "{\"recency_days\":30,\"frequency_count\":10}\n";
    desk.put("late.ndjson", &(row.repeat(4096) + "{\"recency_days\":30,\"frequency_count\":10,\"late\":1}\n"));
    let summary = desk.score("late.ndjson", "scored.csv");
    assert!(summary.contains("warning: 1 rows have fields that none of the first 4096 rows has"), "{summary}");
    let summary = desk.score("late.ndjson", "scored.ndjson");
    assert!(!summary.contains("warning"), "{summary}");
    assert!(desk.read("scored.ndjson").contains("\"late\":1,\"clv_value_usd\""));
}

/// Reading 64-bit ids through a float would change them.
#[test]
fn large_integer_ids_survive_the_way_to_text() {
    let desk = Desk::new();
    write_parquet(&desk.path("customers.parquet"), &parquet_customers());
    desk.score("customers.parquet", "scored.csv");
    assert!(desk.read("scored.csv").contains("\n7000000000000001,"));
    let table = parquet_customers();
    assert_eq!(table.column(0).as_primitive::<Int64Type>().value(0), 7_000_000_000_000_001);
}

#[test]
fn leads_are_scored_from_every_format_with_their_categories() {
    let desk = Desk::with(&TestBundle::lead("v1.0"));
    desk.put("leads.csv", "id,age,contact,previous\na,40,cellular,0\nb,60,,5\nc,40,pigeon,1\nd,-1,cellular,0\n");
    let model = |input: &str, output: &str| {
        let ended = desk.run(&["--model", "lead", "--input", input, "--output", output]);
        assert!(ended.status.success(), "{}", errors(&ended));
        desk.read(output)
    };
    let scored = model("leads.csv", "leads.ndjson");
    insta::assert_snapshot!(scored, @r#"
    {"id":"a","age":40,"contact":"cellular","previous":0,"priority_score":22,"conversion_probability":0.182426,"source":"model","warnings":[]}
    {"id":"b","age":60,"contact":"","previous":5,"priority_score":54,"conversion_probability":0.5,"source":"model","warnings":["imputed: contact"]}
    {"id":"c","age":40,"contact":"pigeon","previous":1,"priority_score":14,"conversion_probability":0.119203,"source":"model","warnings":["unknown_category: contact"]}
    {"id":"d","age":-1,"contact":"cellular","previous":0,"error":"feature `age` must be from 0 to 130, got `-1`"}
    "#);
    desk.put(
        "again.ndjson",
        "{\"id\":\"a\",\"age\":40,\"contact\":\"cellular\",\"previous\":0}\n{\"age\":40,\"contact\":7}\n",
    );
    insta::assert_snapshot!(model("again.ndjson", "again.csv"), @"
    id,age,contact,previous,priority_score,conversion_probability,source,warnings,error
    a,40,cellular,0,22,0.182426,model,,
    ,40,7,,,,,,\"feature `contact` must be a text, one of `cellular`, `telephone`\"
    ");
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let numbers = |values: [f64; 2]| Arc::new(Float64Array::from(values.to_vec())) as ArrayRef;
    let columns = [("age", numbers([40.0, 40.0])), ("contact", text(["cellular", "pigeon"]))];
    write_parquet(&desk.path("leads.parquet"), &RecordBatch::try_from_iter(columns).expect("columns"));
    insta::assert_snapshot!(model("leads.parquet", "parquet.csv"), @"
    age,contact,priority_score,conversion_probability,source,warnings,error
    40.0,cellular,22,0.182426,model,imputed: previous,
    40.0,pigeon,14,0.119203,model,imputed: previous; unknown_category: contact,
    ");
    let columns = [("age", numbers([40.0, 40.0])), ("contact", numbers([0.0, 1.0]))];
    write_parquet(&desk.path("numbers.parquet"), &RecordBatch::try_from_iter(columns).expect("columns"));
    let refused = desk.refuse(&["--model", "lead", "--input", "numbers.parquet", "--output", "x.csv"]);
    assert!(refused.contains("column `contact` must hold text"), "{refused}");
}
