//! From a chunk to the numbers a model reads: finds the columns by name, parses, and keeps what is wrong with a row.

use std::collections::HashMap;

use anyhow::bail;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::DataType;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::chunk::{Chunk, Lines, Records, object};
use super::sink::output_columns;
use super::source::{Layout, can_be_number, plain};
use crate::scoring::{FEATURES_TIME, TIME_ALLOWED};
use scoreline_domain::feature::CATALOGUE;
use scoreline_domain::time::{Timestamp, utc_time};
use scoreline_engine::features::{FeatureRule, FeatureSchema, Value};
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

pub(super) const CHANNEL: &str = "acquisition_channel";
pub(super) const LEAD_SOURCE: &str = "lead_source";
pub(super) const SEGMENT: &str = "segment";
/// What a message shows of a cell.
const SHOWN_CHARACTERS: usize = 40;

/// Where in an input the model's features are.
pub(super) struct Mapping<'a> {
    schema: &'a FeatureSchema,
    /// The input's column of each feature of the schema.
    features: Vec<Option<usize>>,
    /// Columns of catalogued features that the model does not read, with their position in the catalogue.
    ignored: Vec<(u16, usize)>,
    channel: Option<usize>,
    segment: Option<usize>,
    dated: Option<usize>,
    /// Columns of the input.
    width: usize,
    /// The same by name, for rows that carry their names.
    by_name: HashMap<String, Target>,
    names: Vec<String>,
}

/// Why a cell gives no value.
enum Odd {
    /// The row cannot be scored.
    Fault(String),
    /// A category that the bundle does not list.
    UnknownCategory,
}

#[derive(Clone, Copy)]
enum Target {
    Feature(usize),
    /// A catalogued feature that the model does not read, by its position in the catalogue.
    Ignored(u16),
    Channel,
    Segment,
    Dated,
    /// A name the output adds: it may not come in.
    Output,
}

/// The numbers of a chunk.
pub(super) struct Drawn {
    /// Raw values, row-major in schema order; `NaN` where there is none.
    pub(super) raw: Vec<f64>,
    pub(super) rows: Vec<InputRow>,
}

/// What came with one row beside its numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct InputRow {
    /// Why the row cannot be scored.
    pub(super) fault: Option<String>,
    /// Positions of features with a category that the bundle does not list.
    pub(super) unknown: Vec<u16>,
    /// Positions in the catalogue of features with a value that the model does not read.
    pub(super) ignored: SmallVec<[u16; 4]>,
    pub(super) channel: Option<String>,
    pub(super) segment: Option<String>,
    /// When the features were computed.
    pub(super) dated: Option<Timestamp>,
    /// Known to have no history, whatever its features.
    pub(super) without_history: bool,
}

impl<'a> Mapping<'a> {
    /// Finds the features in an input's columns.
    ///
    /// # Errors
    /// Names required features that are missing and what the model reads, columns that come twice, and columns that
    /// the output would add.
    pub(super) fn find(snapshot: &'a ModelSnapshot, layout: &Layout) -> anyhow::Result<Self> {
        let schema = snapshot.schema();
        let columns = &layout.columns;
        for name in output_columns(snapshot.task()) {
            if columns.iter().any(|column| column == name) {
                bail!("the input already has a column `{name}`, which the output adds: rename it or leave it out");
            }
        }
        let position = |name: &str| -> anyhow::Result<Option<usize>> {
            let mut found = columns.iter().enumerate().filter(|(_, column)| *column == name);
            let first = found.next().map(|(position, _)| position);
            if found.next().is_some() {
                bail!("the input has two columns `{name}`: keep one");
            }
            Ok(first)
        };
        let mut features = Vec::with_capacity(schema.len());
        for rule in schema.rules() {
            features.push(position(&rule.name)?);
        }
        let mut ignored = Vec::new();
        for (catalogued, feature) in CATALOGUE.iter().enumerate() {
            if schema.position(feature.name).is_none()
                && let Some(column) = position(feature.name)?
            {
                ignored.push((catalogued as u16, column));
            }
        }
        let mapping = Self {
            schema,
            ignored,
            channel: position(channel_column(snapshot.task()))?,
            segment: position(SEGMENT)?,
            dated: position(FEATURES_TIME)?,
            width: columns.len(),
            by_name: targets(snapshot),
            names: schema.rules().iter().map(|rule| rule.name.clone()).collect(),
            features,
        };
        mapping.refuse_what_is_missing(schema, columns)?;
        if let Some(fields) = &layout.schema {
            for (rule, column) in schema.rules().iter().zip(&mapping.features) {
                let Some(field) = column.map(|column| fields.field(column)) else { continue };
                let name = &rule.name;
                let is_text = plain(field.data_type()).is_string() || field.data_type().is_null();
                if !rule.categories.is_empty() && !is_text {
                    bail!("column `{name}` must hold text, it is of type {}", field.data_type());
                }
                if !can_be_number(field.data_type()) {
                    bail!("column `{name}` must hold numbers, it is of type {}", field.data_type());
                }
            }
        }
        Ok(mapping)
    }

    fn refuse_what_is_missing(&self, schema: &FeatureSchema, columns: &[String]) -> anyhow::Result<()> {
        let found = |position: usize| self.features[position].is_some();
        let listed = |names: Vec<&str>| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let rules = schema.rules();
        let missing: Vec<_> =
            (0..rules.len()).filter(|&i| rules[i].required && !found(i)).map(|i| rules[i].name.as_str()).collect();
        let none = (0..rules.len()).all(|i| !found(i));
        if missing.is_empty() && !none {
            return Ok(());
        }
        let required = listed(rules.iter().filter(|rule| rule.required).map(|rule| rule.name.as_str()).collect());
        let optional = listed(rules.iter().filter(|rule| !rule.required).map(|rule| rule.name.as_str()).collect());
        let what = if missing.is_empty() {
            "none of the model's features is among the input's columns".to_owned()
        } else {
            format!("required columns are missing: {}", listed(missing))
        };
        let hint = match columns {
            [only] if only.contains([';', '\t', '|']) => "; the header is a single column: give `--delimiter`",
            _ => "",
        };
        let reads = match (required.is_empty(), optional.is_empty()) {
            (false, false) => format!("{required} and optionally {optional}"),
            (false, true) => required,
            (true, _) => format!("optionally {optional}"),
        };
        bail!(
            "{what}. The model reads {reads}; the input has {}{hint}",
            listed(columns.iter().map(String::as_str).collect())
        )
    }

    /// Draws the numbers of a chunk.
    ///
    /// # Errors
    /// Only for what concerns the whole input; what is wrong with a row is kept with the row.
    pub(super) fn draw(&self, chunk: &Chunk) -> anyhow::Result<Drawn> {
        match chunk {
            Chunk::Records(records) => Ok(self.draw_records(records)),
            Chunk::Lines(lines) => self.draw_lines(lines),
            Chunk::Batch(batch) => self.draw_batch(batch),
            Chunk::Customers(customers) => {
                let mut drawn = self.empty(customers.len());
                for (customer, (raw, row)) in customers.iter().zip(drawn.each()) {
                    customer.draw(&self.names, raw, row);
                }
                Ok(drawn)
            }
        }
    }

    /// Reads a cell of text into its place.
    fn put(&self, position: usize, slot: &mut f64, row: &mut InputRow, cell: &[u8]) {
        let rule = &self.schema.rules()[position];
        match value(rule, cell) {
            Ok(value) => *slot = value,
            Err(odd) => row.take(position, &rule.name, odd),
        }
    }

    fn empty(&self, rows: usize) -> Drawn {
        Drawn { raw: vec![f64::NAN; rows * self.features.len()], rows: vec![InputRow::default(); rows] }
    }

    fn draw_records(&self, records: &Records) -> Drawn {
        let mut drawn = self.empty(records.len());
        for (record, (raw, row)) in records.iter().zip(drawn.each()) {
            if record.len() != self.width {
                row.fault = Some(format!("row has {} fields, the header has {}", record.len(), self.width));
                continue;
            }
            for (position, (slot, column)) in raw.iter_mut().zip(&self.features).enumerate() {
                let Some(cell) = column.and_then(|column| record.get(column)) else { continue };
                self.put(position, slot, row, cell);
            }
            for (catalogued, column) in &self.ignored {
                row.ignore(*catalogued, number(record.get(*column).unwrap_or_default()));
            }
            let text = |column: Option<usize>| label(&String::from_utf8_lossy(record.get(column?)?));
            row.channel = text(self.channel);
            row.segment = text(self.segment);
            row.date(text(self.dated).as_deref());
        }
        drawn
    }

    fn draw_lines(&self, lines: &Lines) -> anyhow::Result<Drawn> {
        let mut drawn = self.empty(lines.len());
        for (line, (raw, row)) in lines.iter().zip(drawn.each()) {
            let fields = match object(line) {
                Ok(fields) => fields,
                Err(err) => {
                    row.fault = Some(format!("line is not a JSON object: {err}"));
                    continue;
                }
            };
            for (name, value) in fields {
                match self.by_name.get(name.as_ref()) {
                    None => {}
                    Some(Target::Feature(position)) => match json_value(&self.schema.rules()[*position], value) {
                        Ok(value) if raw[*position].is_nan() => raw[*position] = value,
                        Ok(_) => row.note(&name, "is given twice"),
                        Err(odd) => row.take(*position, &name, odd),
                    },
                    Some(Target::Ignored(catalogued)) => row.ignore(*catalogued, json_number(value)),
                    Some(Target::Channel) => row.channel = json_label(value),
                    Some(Target::Segment) => row.segment = json_label(value),
                    Some(Target::Dated) => row.date(json_label(value).as_deref()),
                    Some(Target::Output) => {
                        bail!("a row has a field `{name}`, which the output adds: rename it or leave it out")
                    }
                }
            }
        }
        Ok(drawn)
    }

    fn draw_batch(&self, batch: &RecordBatch) -> anyhow::Result<Drawn> {
        let mut drawn = self.empty(batch.num_rows());
        let width = self.features.len();
        for (position, column) in self.features.iter().enumerate() {
            let Some(column) = column.map(|column| batch.column(column)) else { continue };
            each_cell(column, |index, cell| {
                let (slot, row) = (&mut drawn.raw[index * width + position], &mut drawn.rows[index]);
                match cell {
                    ColumnCell::Text(text) => self.put(position, slot, row, text.as_bytes()),
                    ColumnCell::Number(number) => *slot = number,
                }
            })?;
        }
        for (catalogued, column) in &self.ignored {
            let column = batch.column(*column);
            if !can_be_number(column.data_type()) {
                continue;
            }
            each_cell(column, |index, cell| {
                let value = match cell {
                    ColumnCell::Text(text) => number(text.as_bytes()),
                    ColumnCell::Number(number) => Ok(number),
                };
                drawn.rows[index].ignore(*catalogued, value);
            })?;
        }
        let words = |column: Option<usize>| -> anyhow::Result<Option<ArrayRef>> {
            Ok(column.map(|column| cast(batch.column(column), &DataType::Utf8)).transpose()?)
        };
        let (channel, segment) = (words(self.channel)?, words(self.segment)?);
        let dated = self.dated.map(|column| times(batch.column(column))).transpose()?;
        let word = |words: &Option<ArrayRef>, index: usize| {
            let words = words.as_ref()?.as_string::<i32>();
            if words.is_valid(index) { label(words.value(index)) } else { None }
        };
        for (index, row) in drawn.rows.iter_mut().enumerate() {
            row.channel = word(&channel, index);
            row.segment = word(&segment, index);
            row.date(word(&dated, index).as_deref());
        }
        Ok(drawn)
    }
}

impl Drawn {
    fn each(&mut self) -> impl Iterator<Item = (&mut [f64], &mut InputRow)> {
        let width = self.raw.len() / self.rows.len().max(1);
        self.raw.chunks_exact_mut(width.max(1)).zip(&mut self.rows)
    }
}

impl InputRow {
    /// Keeps the first problem: the one that is mended first.
    fn note(&mut self, feature: &str, problem: &str) {
        if self.fault.is_none() {
            self.fault = Some(format!("feature `{feature}` {problem}"));
        }
    }
}

impl InputRow {
    fn take(&mut self, position: usize, feature: &str, odd: Odd) {
        match odd {
            Odd::Fault(problem) => self.note(feature, &problem),
            Odd::UnknownCategory => self.unknown.push(position as u16),
        }
    }
}

impl InputRow {
    /// Takes the time that the features came with.
    fn date(&mut self, text: Option<&str>) {
        let Some(text) = text else { return };
        self.dated = utc_time(text);
        if self.dated.is_none() && self.fault.is_none() {
            self.fault = Some(format!("`{FEATURES_TIME}` must be {TIME_ALLOWED}"));
        }
    }
}

impl InputRow {
    /// Takes note of a catalogued feature that the model does not read.
    fn ignore(&mut self, catalogued: u16, value: Result<f64, String>) {
        let feature = &CATALOGUE[usize::from(catalogued)];
        match value {
            Ok(value) if value.is_nan() => {}
            Ok(value) => match feature.impossible(value) {
                Some(problem) => self.note(feature.name, &problem),
                None => self.ignored.push(catalogued),
            },
            Err(problem) => self.note(feature.name, &problem),
        }
    }
}

/// The column that names the baseline of a row without history.
fn channel_column(task: Task) -> &'static str {
    match task {
        Task::Clv => CHANNEL,
        Task::Lead => LEAD_SOURCE,
    }
}

fn targets(snapshot: &ModelSnapshot) -> HashMap<String, Target> {
    let features =
        snapshot.schema().rules().iter().enumerate().map(|(i, rule)| (rule.name.clone(), Target::Feature(i)));
    let others = [
        (channel_column(snapshot.task()).to_owned(), Target::Channel),
        (SEGMENT.to_owned(), Target::Segment),
        (FEATURES_TIME.to_owned(), Target::Dated),
    ];
    let output = output_columns(snapshot.task()).iter().map(|name| ((*name).to_owned(), Target::Output));
    let ignored = CATALOGUE.iter().enumerate().map(|(i, feature)| (feature.name.to_owned(), Target::Ignored(i as u16)));
    // The last of a name counts: a feature of the model is one, whatever else is called so.
    ignored.chain(output).chain(others).chain(features).collect()
}

/// A value of a column.
enum ColumnCell<'a> {
    Text(&'a str),
    Number(f64),
}

/// Goes through the values of a column of text or numbers that are there, with the row of each.
fn each_cell(column: &ArrayRef, mut tell: impl FnMut(usize, ColumnCell<'_>)) -> anyhow::Result<()> {
    if let Some(text) = as_text(column)? {
        let text = text.as_string::<i32>().iter().enumerate();
        text.for_each(|(index, text)| text.into_iter().for_each(|text| tell(index, ColumnCell::Text(text))));
    } else {
        let numbers = cast(column, &DataType::Float64)?;
        let numbers = numbers.as_primitive::<Float64Type>().iter().enumerate();
        numbers
            .for_each(|(index, number)| number.into_iter().for_each(|number| tell(index, ColumnCell::Number(number))));
    }
    Ok(())
}

/// A column of times as text: a Parquet time without a zone is in UTC, as the column's name says.
fn times(column: &ArrayRef) -> anyhow::Result<ArrayRef> {
    let DataType::Timestamp(unit, _) = column.data_type() else { return Ok(cast(column, &DataType::Utf8)?) };
    let times = cast(column, &DataType::Timestamp(*unit, Some("+00:00".into())))?;
    Ok(cast(&times, &DataType::Utf8)?)
}

/// A column of text as plain strings; `None` for other columns.
fn as_text(column: &ArrayRef) -> anyhow::Result<Option<ArrayRef>> {
    let is_text = plain(column.data_type()).is_string();
    Ok(if is_text { Some(cast(column, &DataType::Utf8)?) } else { None })
}

/// A feature's value as text has it; nothing is a missing value, `NaN`.
fn value(rule: &FeatureRule, cell: &[u8]) -> Result<f64, Odd> {
    if rule.categories.is_empty() {
        return number(cell).map_err(Odd::Fault);
    }
    let text = str::from_utf8(cell).map_err(|_| Odd::UnknownCategory)?;
    if Value::Typed(text).is_empty() {
        return Ok(f64::NAN);
    }
    rule.category(text.trim()).ok_or(Odd::UnknownCategory)
}

/// A feature's value as JSON has it; null is a missing value.
fn json_value(rule: &FeatureRule, value: &RawValue) -> Result<f64, Odd> {
    if rule.categories.is_empty() {
        return json_number(value).map_err(Odd::Fault);
    }
    match serde_json::from_str::<Option<std::borrow::Cow<'_, str>>>(value.get()) {
        Ok(None) => Ok(f64::NAN),
        Ok(Some(text)) => self::value(rule, text.as_bytes()),
        Err(_) => Err(Odd::Fault(rule.allowed())),
    }
}

/// A number as text has it; nothing is a missing value, `NaN`.
fn number(cell: &[u8]) -> Result<f64, String> {
    let cell = cell.trim_ascii();
    if cell.is_empty() {
        return Ok(f64::NAN);
    }
    let text = str::from_utf8(cell).ok();
    if text.is_some_and(|text| Value::Typed(text).is_empty()) {
        return Ok(f64::NAN);
    }
    match text.and_then(|text| text.parse::<f64>().ok()) {
        Some(value) if value.is_finite() => Ok(value),
        Some(_) | None => Err(format!("must be a finite number, got `{}`", shown(&String::from_utf8_lossy(cell)))),
    }
}

/// A number as JSON has it; null, and a text that says that there is none, is a missing value.
fn json_number(value: &RawValue) -> Result<f64, String> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Ok(f64::NAN),
        Some(b'-' | b'0'..=b'9') => number(text.as_bytes()),
        Some(b'"') if serde_json::from_str::<String>(text).is_ok_and(|text| Value::Text(&text).is_empty()) => {
            Ok(f64::NAN)
        }
        _ => Err(format!("must be a finite number, got `{}`", shown(text))),
    }
}

/// A label as JSON has it; a whole number is one by its digits.
fn json_label(value: &RawValue) -> Option<String> {
    let is_whole = value.get().bytes().all(|byte| byte.is_ascii_digit());
    if is_whole { label(value.get()) } else { label(&serde_json::from_str::<String>(value.get()).ok()?) }
}

/// The name that a text is, without outer blanks; `None` for one that says that there is none.
fn label(text: &str) -> Option<String> {
    (!Value::Text(text).is_empty()).then(|| text.trim().to_owned())
}

pub(super) fn shown(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(SHOWN_CHARACTERS).chain("..".chars()).collect()
}
