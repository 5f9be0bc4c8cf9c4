//! Tables to be scored: CSV, NDJSON, Parquet, Arrow, purchase logs.

use std::fs;
use std::path::Path;

use scoreline::cli::score::{self, TableFormat};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::LoadSettings;

use super::{Feed, root};

/// Read buffers and one chunk of rows are there from the start.
pub const MEMORY: (u64, u64) = (32 << 20, 512);

const CUSTOMERS: &str = "customer,recency_days,frequency_count,avg_handling_time_sec,sentiment_score_avg,topic_diversity,acquisition_channel\n\
    a,12,48,245,0.65,7,referral\nb,,0,,,,organic\nc,3.5,2,100,-0.2,1,\n\"d \"\"q\"\"\",300,1,60,,,x\n";
const ANSWERS: [&str; 10] = [
    "clv_value_usd",
    "confidence_interval_low",
    "confidence_interval_high",
    "risk_score",
    "confidence_score",
    "tier_probability",
    "clv_tier",
    "source",
    "warnings",
    "error",
];
const PURCHASES: &str = "customer_id,date,items,amount\n1,1997-01-01,1,11.77\n2,1997-01-12,1,12.0\n2,1997-01-12,5,77.0\n\
    3,1997-01-02,2,20.76\n3,1997-03-30,2,20.76\n3,1997-09-01,2,1e2\n";

pub fn csv() -> Feed {
    feed("input.csv", TableFormat::Csv, false)
}

pub fn ndjson() -> Feed {
    feed("input.ndjson", TableFormat::Ndjson, false)
}

pub fn parquet() -> Feed {
    feed("input.parquet", TableFormat::Parquet, false)
}

pub fn arrow() -> Feed {
    feed("input.arrows", TableFormat::Arrow, false)
}

pub fn purchases() -> Feed {
    feed("purchases.csv", TableFormat::Csv, true)
}

/// Scores every input into nowhere. A row that is wrong, or a whole file, is an error; a thread that dies is not one.
fn feed(name: &'static str, format: TableFormat, purchases: bool) -> Feed {
    let folder = tempfile::tempdir().expect("temporary folder");
    let snapshot = model(purchases);
    let as_of = purchases.then(|| "1997-06-30".parse().expect("a day"));
    Box::new(move |input| {
        let path = folder.path().join(name);
        fs::write(&path, input).expect("written");
        if let Err(err) = score::table(&snapshot, (&path, format), (Path::new("/dev/null"), format), as_of) {
            let problem = format!("{err:#}");
            assert!(!problem.contains("panicked"), "{problem}");
        }
    })
}

fn model(purchases: bool) -> ModelSnapshot {
    let version = if purchases { "models/clv-purchases/v1.0" } else { "models/clv/v1.2" };
    ModelSnapshot::load(&root().join(version), &LoadSettings::default()).expect("a shipped model loads")
}

pub fn csv_seeds() -> Vec<Vec<u8>> {
    vec![CUSTOMERS.into(), CUSTOMERS.replace('\n', "\r\n").into()]
}

pub fn ndjson_seeds() -> Vec<Vec<u8>> {
    vec![converted(TableFormat::Ndjson), converted(TableFormat::Ndjson).trim_ascii_end().to_vec()]
}

pub fn parquet_seeds() -> Vec<Vec<u8>> {
    vec![converted(TableFormat::Parquet)]
}

/// Both forms: what is named .arrow is a file. The columns of the answers, which may not come in, have other names.
pub fn arrow_seeds() -> Vec<Vec<u8>> {
    let renamed = |bytes: Vec<u8>| {
        let text: String = bytes.iter().copied().map(char::from).collect();
        let text = ANSWERS.iter().fold(text, |text, name| text.replace(name, &name.replacen(|_| true, "x", 1)));
        text.chars().map(|byte| byte as u8).collect()
    };
    ["out.arrows", "out.arrow"].map(|name| renamed(converted_into(name, TableFormat::Arrow))).to_vec()
}

pub fn purchase_seeds() -> Vec<Vec<u8>> {
    vec![PURCHASES.into(), PURCHASES.replace("items,amount", "number_of_cds,dollar_value").into()]
}

/// The customers, scored into another format: what is passed through stands in front.
fn converted(format: TableFormat) -> Vec<u8> {
    converted_into("out", format)
}

fn converted_into(name: &str, format: TableFormat) -> Vec<u8> {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (input, output) = (folder.path().join("in.csv"), folder.path().join(name));
    fs::write(&input, CUSTOMERS).expect("written");
    score::table(&model(false), (&input, TableFormat::Csv), (&output, format), None).expect("customers are scored");
    fs::read(output).expect("there")
}
