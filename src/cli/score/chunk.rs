//! Rows on their way from an input to an output: a few thousand at a time, still in the form they were read in, so that
//! what is passed through stays what it was.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::DataType;
use csv::ByteRecord;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::purchases::Customer;

/// Rows in a chunk: enough to keep a core busy for a millisecond, few enough to keep memory flat.
pub(in crate::cli) const CHUNK_ROWS: usize = 4096;

/// Consecutive rows of one input.
pub(in crate::cli) enum Chunk {
    /// CSV.
    Records(Records),
    /// NDJSON.
    Lines(Lines),
    /// Parquet and Arrow.
    Batch(RecordBatch),
    /// Folded purchases.
    Customers(Vec<Customer>),
}

/// Records in one piece of memory: a record of its own for every row spends a fifth of the time on allocation.
#[derive(Default)]
pub(in crate::cli) struct Records {
    text: Vec<u8>,
    /// Ends of all fields in `text`.
    field_ends: Vec<usize>,
    /// Ends of all rows in `field_ends`.
    row_ends: Vec<usize>,
}

/// One row of `Records`.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Record<'a> {
    text: &'a [u8],
    start: usize,
    field_ends: &'a [usize],
}

impl Records {
    pub(in crate::cli) fn push(&mut self, record: &ByteRecord) {
        for field in record {
            self.text.extend_from_slice(field);
            self.field_ends.push(self.text.len());
        }
        self.row_ends.push(self.field_ends.len());
    }

    pub(in crate::cli) fn len(&self) -> usize {
        self.row_ends.len()
    }

    pub(in crate::cli) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let starts = std::iter::once(0).chain(self.row_ends.iter().copied());
        starts.zip(&self.row_ends).map(|(first, &end)| Record {
            text: &self.text,
            start: first.checked_sub(1).map_or(0, |before| self.field_ends[before]),
            field_ends: &self.field_ends[first..end],
        })
    }
}

impl<'a> Record<'a> {
    pub(in crate::cli) fn len(self) -> usize {
        self.field_ends.len()
    }

    pub(in crate::cli) fn get(self, column: usize) -> Option<&'a [u8]> {
        let end = *self.field_ends.get(column)?;
        let start = column.checked_sub(1).map_or(self.start, |before| self.field_ends[before]);
        Some(&self.text[start..end])
    }
}

/// Lines without their ends, in one piece of memory.
#[derive(Default)]
pub(in crate::cli) struct Lines {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Lines {
    pub(in crate::cli) fn push(&mut self, line: &[u8]) {
        self.text.extend_from_slice(line);
        self.ends.push(self.text.len());
    }

    pub(in crate::cli) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(in crate::cli) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end])
    }
}

impl Chunk {
    pub(in crate::cli) fn rows(&self) -> usize {
        match self {
            Self::Records(records) => records.len(),
            Self::Lines(lines) => lines.len(),
            Self::Batch(batch) => batch.num_rows(),
            Self::Customers(customers) => customers.len(),
        }
    }

    /// Every row's cells by the names in `columns`, for an output of another kind than the input.
    pub(in crate::cli) fn cells(&self, columns: &[String]) -> anyhow::Result<Vec<Vec<Cell>>> {
        match self {
            Self::Records(records) => Ok(records.iter().map(|record| record_cells(record, columns.len())).collect()),
            Self::Lines(lines) => Ok(lines.iter().map(|line| line_cells(line, columns)).collect()),
            Self::Batch(batch) => batch_cells(batch),
            Self::Customers(customers) => Ok(customers.iter().map(|customer| customer.cells(columns)).collect()),
        }
    }
}

/// One value on its way to another format.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Cell {
    Absent,
    Text(String),
    /// A number, a boolean or a nested value, as JSON.
    Literal(String),
}

impl Cell {
    /// A cell of a column that holds numbers: written as a number where it is one, left out where there is none.
    pub(in crate::cli) fn into_number(self) -> Self {
        match self {
            Self::Text(text) if text.trim().is_empty() => Self::Absent,
            Self::Text(text) if serde_json::from_str::<serde_json::Number>(text.trim()).is_ok() => {
                Self::Literal(text.trim().to_owned())
            }
            other @ (Self::Text(_) | Self::Literal(_) | Self::Absent) => other,
        }
    }

    /// As CSV and text columns show it.
    pub(in crate::cli) fn as_text(&self) -> &str {
        match self {
            Self::Absent => "",
            Self::Text(text) | Self::Literal(text) => text,
        }
    }
}

fn record_cells(record: Record<'_>, width: usize) -> Vec<Cell> {
    (0..width)
        .map(|column| match record.get(column) {
            Some(bytes) => Cell::Text(String::from_utf8_lossy(bytes).into_owned()),
            None => Cell::Absent,
        })
        .collect()
}

impl Lines {
    /// How many rows have a field that is not among `columns`.
    pub(in crate::cli) fn rows_with_more_than(&self, columns: &[String]) -> u64 {
        let has_more = |line: &&[u8]| {
            object(line).unwrap_or_default().iter().any(|(name, _)| !columns.iter().any(|column| column == name))
        };
        self.iter().filter(has_more).count() as u64
    }
}

fn line_cells(line: &[u8], columns: &[String]) -> Vec<Cell> {
    let mut cells = vec![Cell::Absent; columns.len()];
    // A line that is no object has no cells; its row says so in `error`.
    for (name, value) in object(line).unwrap_or_default() {
        if let Some(position) = columns.iter().position(|column| *column == name) {
            cells[position] = json_cell(value);
        }
    }
    cells
}

fn json_cell(value: &RawValue) -> Cell {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'n') => Cell::Absent,
        Some(b'"') => serde_json::from_str(text).map_or_else(|_| Cell::Literal(text.to_owned()), Cell::Text),
        _ => Cell::Literal(text.to_owned()),
    }
}

fn batch_cells(batch: &RecordBatch) -> anyhow::Result<Vec<Vec<Cell>>> {
    let options = FormatOptions::default();
    let mut rows = vec![Vec::with_capacity(batch.num_columns()); batch.num_rows()];
    for column in batch.columns() {
        let column = &in_utc(column)?;
        let formatter = ArrayFormatter::try_new(column.as_ref(), &options)?;
        let kind = column.data_type();
        for (position, row) in rows.iter_mut().enumerate() {
            if column.is_null(position) {
                row.push(Cell::Absent);
                continue;
            }
            // A time that no calendar has is no reason to give up the file: whoever needs it refuses the row.
            let text = formatter.value(position).try_to_string().unwrap_or_else(|_| OUT_OF_RANGE.to_owned());
            // NaN and infinity are numbers in Parquet and Arrow, not in JSON.
            let is_number = || kind.is_numeric() && text.parse::<f64>().is_ok_and(f64::is_finite);
            let is_literal = *kind == DataType::Boolean || is_number();
            row.push(if is_literal { Cell::Literal(text) } else { Cell::Text(text) });
        }
    }
    Ok(rows)
}

/// What stands in the place of a time that no calendar has.
const OUT_OF_RANGE: &str = "out of range";

/// A column with its times in UTC: a zone by name, as Spark writes it, would need the rules of all zones, and changes only
/// how a time is shown.
fn in_utc(column: &ArrayRef) -> anyhow::Result<ArrayRef> {
    let DataType::Timestamp(unit, Some(_)) = column.data_type() else { return Ok(Arc::clone(column)) };
    Ok(cast(column, &DataType::Timestamp(*unit, Some("+00:00".into())))?)
}

/// The fields of a JSON object in their order, values as they are written.
pub(in crate::cli) fn object(line: &[u8]) -> Result<Vec<(Cow<'_, str>, &RawValue)>, serde_json::Error> {
    struct Fields;
    impl<'de> Visitor<'de> for Fields {
        type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(16));
            while let Some(Name(name)) = map.next_key()? {
                fields.push((name, map.next_value()?));
            }
            Ok(fields)
        }
    }
    let mut json = serde_json::Deserializer::from_slice(line);
    let fields = json.deserialize_map(Fields)?;
    json.end()?;
    Ok(fields)
}

/// A key, borrowed unless it has escapes in it.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextCell;
        impl<'de> Visitor<'de> for TextCell {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextCell)
    }
}
