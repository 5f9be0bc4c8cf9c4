//! `scoreline score` between engines: Arrow IPC in, Arrow IPC out, a batch answered before the next one comes.

use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int32Array,
    LargeStringArray, NullArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampMicrosecondArray,
    UInt8Array,
};
use arrow_ipc::CompressionType;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use parquet::arrow::ArrowWriter;
use proptest::prelude::*;
use scoreline::cli::score::{self, TableFormat};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::LoadSettings;

use crate::score_files::{Desk, errors};
use crate::support::TestBundle;

const PIPED: [&str; 6] = ["--input", "-", "--input-format", "arrow", "--output", "-"];

fn table(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.iter().map(|(name, column)| (*name, Arc::clone(column), true)))
        .expect("columns of one length")
}

fn customers(recency: &[i32]) -> RecordBatch {
    let frequency = Float64Array::from(vec![10.0; recency.len()]);
    table(&[("recency_days", Arc::new(Int32Array::from(recency.to_vec()))), ("frequency_count", Arc::new(frequency))])
}

fn stream(schema: &SchemaRef, batches: &[RecordBatch], options: IpcWriteOptions) -> Vec<u8> {
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), schema, options).expect("a writer");
    for batch in batches {
        writer.write(batch).expect("written");
    }
    writer.finish().expect("finished");
    writer.into_inner().expect("bytes")
}

fn plain(batches: &[RecordBatch]) -> Vec<u8> {
    stream(&batches[0].schema(), batches, IpcWriteOptions::default())
}

fn read(bytes: &[u8]) -> (SchemaRef, Vec<RecordBatch>) {
    let reader = StreamReader::try_new(Cursor::new(bytes), None).expect("a stream");
    (reader.schema(), reader.map(|batch| batch.expect("a batch")).collect())
}

fn piped(desk: &Desk, input: &[u8]) -> Output {
    let mut child = desk.command(&PIPED);
    let child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().expect("the binary runs");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // What was refused reads no further.
    let sent = std::thread::spawn(move || stdin.write_all(&input));
    let ended = child.wait_with_output().expect("ends");
    let _ = sent.join().expect("sent");
    ended
}

fn scored(desk: &Desk, input: &[u8]) -> (SchemaRef, Vec<RecordBatch>) {
    let ended = piped(desk, input);
    assert!(ended.status.success(), "{}", errors(&ended));
    read(&ended.stdout)
}

fn values(batches: &[RecordBatch]) -> Vec<Option<f64>> {
    let column = |batch: &RecordBatch| batch.column_by_name("clv_value_usd").expect("a column").clone();
    batches.iter().flat_map(|batch| column(batch).as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect()
}

/// Columns as engines send them; the words of the channel change from batch to batch.
fn foreign(channel: &str, zone: &str) -> RecordBatch {
    let mut lists = ListBuilder::new(StringBuilder::new());
    lists.append_value([Some("a"), None]);
    lists.append_null();
    lists.append_value(Vec::<Option<&str>>::new());
    let inner: ArrayRef = Arc::new(Float32Array::from(vec![Some(0.5), None, Some(f32::NAN)]));
    let nested = StructArray::from(vec![(Arc::new(Field::new("inner", DataType::Float32, true)), inner)]);
    let times = TimestampMicrosecondArray::from(vec![Some(1_580_551_200_000_000), None, Some(i64::MAX)]);
    let long = "longer than what a view holds in itself";
    table(&[
        ("id", Arc::new(LargeStringArray::from(vec![Some("007"), None, Some("")]))),
        ("recency_days", Arc::new(UInt8Array::from(vec![30, 30, 200]))),
        ("frequency_count", Arc::new(StringViewArray::from(vec![Some("10"), Some("0"), Some(long)]))),
        (
            "acquisition_channel",
            Arc::new(vec![None, Some(channel), None].into_iter().collect::<DictionaryArray<Int32Type>>()),
        ),
        (
            "sentiment_score_avg",
            Arc::new(
                Decimal128Array::from(vec![Some(-50), None, Some(0)]).with_precision_and_scale(10, 2).expect("fits"),
            ),
        ),
        ("topic_diversity", Arc::new(NullArray::new(3))),
        ("seen", Arc::new(times.with_timezone(zone))),
        ("list", Arc::new(lists.finish())),
        ("nested", Arc::new(nested)),
        ("bytes", Arc::new(BinaryViewArray::from(vec![Some(&b"\xff"[..]), None, Some(long.as_bytes())]))),
    ])
}

#[test]
fn columns_come_back_as_they_were_sent() {
    let desk = Desk::new();
    let batches = [foreign("organic", "Europe/Berlin"), foreign("referral", "Europe/Berlin")];
    let schema = batches[0].schema().as_ref().clone().with_metadata([("made by".to_owned(), "us".to_owned())]);
    let schema = Arc::new(schema);
    let batches = batches.map(|batch| batch.with_schema(Arc::clone(&schema)).expect("the same columns"));
    for codec in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = IpcWriteOptions::default().try_with_compression(codec).expect("a codec");
        let sent = stream(&schema, &batches, options);
        let (answered, scored) = scored(&desk, &sent);
        assert_eq!(answered.metadata(), schema.metadata());
        assert_eq!(answered.fields()[..schema.fields().len()], schema.fields()[..]);
        assert_eq!(scored.len(), 2);
        for (sent, scored) in batches.iter().zip(&scored) {
            for (position, column) in sent.columns().iter().enumerate() {
                assert_eq!(scored.column(position), column, "{}", schema.field(position).name());
            }
        }
        let [first, second] = values(&scored)
            .try_into()
            .map(|all: [_; 6]| [(all[0], all[1], all[2]), (all[3], all[4], all[5])])
            .expect("six rows");
        assert_eq!(first.1, Some(8.0), "the baseline of its channel");
        assert!(first.0.is_some() && first.0 == second.0 && first.1 != second.1, "{first:?} {second:?}");
        assert_eq!((first.2, second.2), (None, None));
        let problem = scored[0].column_by_name("error").expect("a column").as_string::<i32>().value(2).to_owned();
        assert!(problem.contains("`frequency_count` must be a finite number"), "{problem}");
    }
}

#[test]
fn a_batch_is_answered_before_the_next_one_is_sent() {
    let desk = Desk::new();
    let mut child = desk.command(&PIPED);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let schema = customers(&[]).schema();
    let mut to = StreamWriter::try_new(child.stdin.take().expect("piped"), &schema).expect("a schema");
    to.flush().expect("sent");
    // The schema of the answers is there before any row.
    let mut from = StreamReader::try_new(child.stdout.take().expect("piped"), None).expect("a stream");
    assert_eq!(from.schema().fields().len(), 12);
    for rows in [1, 0, 3, 4096, 4097, 10_000, 1] {
        to.write(&customers(&vec![30; rows])).expect("sent");
        to.flush().expect("sent");
        let mut answered = 0;
        while answered < rows {
            let batch = from.next().expect("an answer").expect("a batch");
            assert!(values(std::slice::from_ref(&batch)).iter().all(|value| *value == Some(15.06)));
            answered += batch.num_rows();
        }
        assert_eq!(answered, rows);
    }
    to.finish().expect("ended");
    drop(to);
    assert!(from.next().is_none());
    let ended = child.wait_with_output().expect("ends");
    assert!(ended.status.success() && errors(&ended).starts_with("scored 18198 rows"), "{}", errors(&ended));
}

#[test]
fn an_empty_stream_is_answered_with_an_empty_one() {
    let desk = Desk::new();
    let schema = customers(&[]).schema();
    for batches in [&[][..], &[customers(&[])]] {
        let (answered, scored) = scored(&desk, &stream(&schema, batches, IpcWriteOptions::default()));
        assert_eq!((answered.fields().len(), answered.field(2).name().as_str()), (12, "clv_value_usd"));
        assert_eq!(scored.iter().map(RecordBatch::num_rows).sum::<usize>(), 0);
    }
    let missing = Arc::new(Schema::new(vec![Field::new("id", DataType::Utf8, true)]));
    let ended = piped(&desk, &stream(&missing, &[], IpcWriteOptions::default()));
    assert_eq!(ended.status.code(), Some(1), "an empty table has to fit too");
    assert!(errors(&ended).contains("required columns are missing: `recency_days`"), "{}", errors(&ended));
}

/// Wherever it is cut: readers of Arrow take the end of a pipe for the end of the table.
#[test]
fn a_cut_stream_is_an_error() {
    let desk = Desk::new();
    let whole = plain(&[foreign("organic", "UTC"), foreign("organic", "UTC")]);
    let model = ModelSnapshot::load(&desk.path("models/clv/v1.2"), &LoadSettings::default()).expect("a model");
    let (input, output) = (desk.path("cut.arrows"), desk.path("scored.arrows"));
    let score = |bytes: &[u8]| {
        fs::write(&input, bytes).expect("written");
        score::table(&model, (&input, TableFormat::Arrow), (&output, TableFormat::Arrow), None)
    };
    for length in (0..whole.len()).filter(|length| length % 8 == 0 || length % 37 == 0) {
        let problem = format!("{:#}", score(&whole[..length]).expect_err("cut"));
        assert!(!problem.contains("panicked"), "{problem}");
        assert!(!output.exists());
    }
    assert_eq!(score(&whole).expect("whole"), 6);

    let ended = piped(&desk, &whole[..whole.len() - 8]);
    assert_eq!(ended.status.code(), Some(1));
    assert!(errors(&ended).contains("the stream has no end mark: it was cut"), "{}", errors(&ended));
    assert!(!ended.stdout.ends_with(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]), "what was answered has no end mark either");
}

#[test]
fn what_is_not_one_stream_is_refused() {
    let desk = Desk::new();
    let refused = |bytes: &[u8]| {
        let ended = piped(&desk, bytes);
        assert_eq!(ended.status.code(), Some(1), "{}", errors(&ended));
        errors(&ended)
    };
    let one = plain(&[customers(&[30])]);
    insta::assert_snapshot!(refused(&[one.clone(), one].concat()), @"error: input cannot be read: something follows the end of the stream: send one stream at a time");
    let mut file = FileWriter::try_new(Vec::new(), &customers(&[]).schema()).expect("a writer");
    file.finish().expect("finished");
    insta::assert_snapshot!(refused(&file.into_inner().expect("bytes")), @"error: `-` is the Arrow file format, which is read from its end: send a stream, or give a file");
    insta::assert_snapshot!(refused(b""), @"error: `-` cannot be read as Arrow: Ipc error: Expected schema message, found empty stream.");
    insta::assert_snapshot!(refused(b"recency_days,frequency_count\n30,10\n"), @"error: `-` cannot be read as Arrow: it begins as no stream does");
    let twice =
        [("recency_days", DataType::Int32), ("frequency_count", DataType::Int32), ("recency_days", DataType::Utf8)];
    let twice = Schema::new(twice.map(|(name, kind)| Field::new(name, kind, true)).to_vec());
    insta::assert_snapshot!(refused(&stream(&Arc::new(twice), &[], IpcWriteOptions::default())), @"error: `-` cannot be scored with clv: the input has two columns `recency_days`: keep one");
    let nested = Field::new("recency_days", DataType::new_list(DataType::Int32, true), true);
    let nested = Schema::new(vec![nested, Field::new("frequency_count", DataType::Int32, true)]);
    insta::assert_snapshot!(refused(&stream(&Arc::new(nested), &[], IpcWriteOptions::default())), @"error: `-` cannot be scored with clv: column `recency_days` must hold numbers, it is of type List(Int32)");
}

#[test]
fn the_file_format_is_read_and_written_by_its_name() {
    let desk = Desk::new();
    let sent = foreign("organic", "UTC");
    let mut writer =
        FileWriter::try_new(File::create(desk.path("in.arrow")).expect("made"), &sent.schema()).expect("it");
    writer.write(&sent).expect("written");
    writer.finish().expect("finished");
    desk.score("in.arrow", "out.arrow");
    let reader = FileReader::try_new(File::open(desk.path("out.arrow")).expect("there"), None).expect("a file");
    let batches: Vec<_> = reader.map(|batch| batch.expect("a batch")).collect();
    assert_eq!((batches.len(), batches[0].column(3)), (1, sent.column(3)));
    // A stream by the name of a file is read all the same.
    fs::write(desk.path("stream.arrow"), plain(std::slice::from_ref(&sent))).expect("written");
    desk.score("stream.arrow", "out.arrows");
    let (_, streamed) = read(&fs::read(desk.path("out.arrows")).expect("there"));
    assert_eq!(streamed, batches);

    let changing = plain(&[foreign("organic", "UTC"), foreign("referral", "UTC")]);
    fs::write(desk.path("changing.arrows"), changing).expect("written");
    let refused = desk.refuse(&["--input", "changing.arrows", "--output", "changed.arrow"]);
    insta::assert_snapshot!(refused, @"error: output cannot be written: the dictionary of a column changes, which the Arrow file format has no way to say: name the output .arrows, a stream");
    let whole = fs::read(desk.path("in.arrow")).expect("there");
    fs::write(desk.path("cut.arrow"), &whole[..whole.len() - 20]).expect("written");
    let refused = desk.refuse(&["--input", "cut.arrow", "--output", "scored.arrow"]);
    insta::assert_snapshot!(refused, @"error: `cut.arrow` cannot be read as Arrow: Parser error: Arrow file does not contain correct footer");
}

/// A piece of a large batch must not carry the text of all of it.
#[test]
fn pieces_of_a_large_batch_are_no_larger_than_it() {
    let desk = Desk::new();
    let rows = 20_000;
    let notes: Vec<_> = (0..rows).map(|row| format!("{row} is longer than what a view holds in itself")).collect();
    let notes: [ArrayRef; 2] =
        [Arc::new(StringViewArray::from_iter_values(&notes)), Arc::new(StringArray::from_iter_values(&notes))];
    for notes in notes {
        let mut columns = vec![("note", notes)];
        let numbers = customers(&vec![30; rows]);
        columns.extend([
            ("recency_days", Arc::clone(numbers.column(0))),
            ("frequency_count", Arc::clone(numbers.column(1))),
        ]);
        let sent = table(&columns);
        let input = plain(std::slice::from_ref(&sent));
        let ended = piped(&desk, &input);
        let (_, batches) = read(&ended.stdout);
        assert_eq!(batches.len(), 5);
        let mut from = 0;
        for batch in &batches {
            assert_eq!(batch.column(0), &sent.column(0).slice(from, batch.num_rows()));
            from += batch.num_rows();
        }
        // Besides what was sent: six numbers and three texts a row.
        let most = input.len() + rows * 160;
        assert!(ended.stdout.len() < most, "{} bytes became {}", input.len(), ended.stdout.len());
    }
}

/// The same numbers as an engine may hold them.
fn held(form: usize, numbers: &[Option<f64>]) -> ArrayRef {
    let texts = || numbers.iter().map(|number| number.map(|number| number.to_string()));
    match form {
        0 => Arc::new(numbers.iter().copied().collect::<Float64Array>()),
        1 => Arc::new(texts().collect::<StringArray>()),
        2 => Arc::new(texts().collect::<StringViewArray>()),
        _ => {
            let texts: Vec<_> = texts().collect();
            Arc::new(texts.iter().map(Option::as_deref).collect::<DictionaryArray<Int32Type>>())
        }
    }
}

fn write_csv(path: &Path, names: &[&str], columns: &[Vec<Option<f64>>]) {
    let mut csv = names.join(",") + "\n";
    for row in 0..columns[0].len() {
        let cells: Vec<_> =
            columns.iter().map(|column| column[row].map_or(String::new(), |number| number.to_string())).collect();
        csv += &(cells.join(",") + "\n");
    }
    fs::write(path, csv).expect("written");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// HTTP is beside them in `one_answer.rs`.
    #[test]
    fn every_format_gives_the_same_answers(
        rows in proptest::collection::vec(
            (
                proptest::option::weighted(0.9, -5.0..900.0_f64),
                proptest::option::weighted(0.9, (0_u8..60).prop_map(f64::from)),
                proptest::option::of(-1.5..1.5_f64),
                proptest::option::of((0_u8..9).prop_map(f64::from)),
            )
                .prop_map(|(recency, frequency, sentiment, topics)| [recency, frequency, sentiment, topics]),
            1..9,
        ),
        forms in [0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4],
        pieces in 1_usize..9,
    ) {
        let names = ["recency_days", "frequency_count", "sentiment_score_avg", "topic_diversity"];
        let columns: Vec<Vec<_>> = (0..4).map(|column| rows.iter().map(|row| row[column]).collect()).collect();
        let arrays: Vec<_> = forms.iter().zip(&columns).map(|(form, column)| held(*form, column)).collect();
        let batch = table(&names.into_iter().zip(arrays).collect::<Vec<_>>());
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        write_csv(&path("rows.csv"), &names, &columns);
        let mut writer = ArrowWriter::try_new(File::create(path("rows.parquet")).expect("made"), batch.schema(), None).expect("a writer");
        writer.write(&batch).expect("written");
        writer.close().expect("closed");
        let parts: Vec<_> = (0..rows.len()).step_by(pieces).map(|from| batch.slice(from, pieces.min(rows.len() - from))).collect();
        fs::write(path("rows.arrows"), plain(&parts)).expect("written");
        let bundle = TestBundle::clv("v1.2");
        bundle.write(&path("models"));
        let model = ModelSnapshot::load(&path("models/clv/v1.2"), &LoadSettings::default()).expect("a model");
        let answers = |input: &str, format| {
            let output = path("scored.arrows");
            score::table(&model, (&path(input), format), (&output, TableFormat::Arrow), None).expect("scored");
            let (_, batches) = read(&fs::read(output).expect("there"));
            let columns = 4..batches[0].num_columns();
            columns.map(|column| {
                let parts: Vec<_> = batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                arrow_select::concat::concat(&parts).expect("one type")
            }).collect::<Vec<_>>()
        };
        let expected = answers("rows.csv", TableFormat::Csv);
        prop_assert_eq!(&answers("rows.parquet", TableFormat::Parquet), &expected);
        prop_assert_eq!(&answers("rows.arrows", TableFormat::Arrow), &expected);
    }
}
