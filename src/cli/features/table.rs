//! The table that training data are written to, CSV or Parquet, in flat memory.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use jiff::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use super::super::score::sink::Target;
use super::super::score::source::TableFormat;
use crate::packing::split::Split;
use scoreline_domain::feature::{CATALOGUE, CatalogueRow};

/// Rows of a Parquet batch.
const BATCH: usize = 8192;

/// One customer as of one time.
pub(super) struct ExportRow {
    /// The customer's number in the store.
    pub(super) customer: i64,
    pub(super) as_of: Timestamp,
    /// Days of the outcome.
    pub(super) horizon_days: u16,
    pub(super) values: CatalogueRow,
    /// In the horizon after the time.
    pub(super) spend_usd: f64,
}

/// Columns before the features.
const FIRST: [&str; 4] = ["customer", "as_of", "split", "horizon_days"];

impl ExportRow {
    /// The part of a customer, the same at every time.
    fn split(&self) -> Split {
        Split::of(self.customer.cast_unsigned())
    }
}

type Out = Box<dyn Write + Send>;

pub(super) enum Table {
    Csv(Box<csv::Writer<Out>>),
    Parquet { writer: Box<ArrowWriter<Out>>, schema: SchemaRef, waiting: Vec<ExportRow> },
}

impl Table {
    pub(super) fn begin(target: Target, format: TableFormat) -> anyhow::Result<Self> {
        let out: Out = match target {
            Target::Stdout => Box::new(io::stdout()),
            Target::File(file) => Box::new(BufWriter::new(file)),
        };
        if format != TableFormat::Parquet {
            let mut writer = csv::Writer::from_writer(out);
            let names = CATALOGUE.iter().map(|feature| feature.name);
            writer.write_record(FIRST.into_iter().chain(names).chain(["spend_usd"]))?;
            return Ok(Self::Csv(Box::new(writer)));
        }
        let types = [DataType::Int64, DataType::Utf8, DataType::Utf8, DataType::Int64];
        let first = FIRST.into_iter().zip(types);
        let mut fields: Vec<_> = first.map(|(name, of)| Field::new(name, of, false)).collect();
        fields.extend(CATALOGUE.iter().map(|feature| Field::new(feature.name, DataType::Float64, true)));
        fields.push(Field::new("spend_usd", DataType::Float64, false));
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = Box::new(ArrowWriter::try_new(out, Arc::clone(&schema), Some(properties))?);
        Ok(Self::Parquet { writer, schema, waiting: Vec::with_capacity(BATCH) })
    }

    pub(super) fn push(&mut self, row: ExportRow) -> anyhow::Result<()> {
        match self {
            Self::Csv(writer) => {
                writer.write_field(row.customer.to_string())?;
                writer.write_field(row.as_of.to_string())?;
                writer.write_field(row.split().as_str())?;
                writer.write_field(row.horizon_days.to_string())?;
                for value in row.values {
                    writer.write_field(if value.is_nan() { String::new() } else { value.to_string() })?;
                }
                writer.write_field(row.spend_usd.to_string())?;
                Ok(writer.write_record(None::<&[u8]>)?)
            }
            Self::Parquet { writer, schema, waiting } => {
                waiting.push(row);
                if waiting.len() == BATCH {
                    writer.write(&batch(schema, waiting)?)?;
                    waiting.clear();
                }
                Ok(())
            }
        }
    }

    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self {
            Self::Csv(mut writer) => Ok(writer.flush()?),
            Self::Parquet { mut writer, schema, waiting } => {
                if !waiting.is_empty() {
                    writer.write(&batch(&schema, &waiting)?)?;
                }
                writer.finish()?;
                Ok(writer.inner_mut().flush()?)
            }
        }
    }
}

fn batch(schema: &SchemaRef, rows: &[ExportRow]) -> anyhow::Result<RecordBatch> {
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|row| row.customer).collect::<Int64Array>()),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.as_of.to_string()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.split().as_str()))),
        Arc::new(rows.iter().map(|row| i64::from(row.horizon_days)).collect::<Int64Array>()),
    ];
    for position in 0..CATALOGUE.len() {
        let value = |row: &ExportRow| Some(row.values[position]).filter(|value| !value.is_nan());
        columns.push(Arc::new(rows.iter().map(value).collect::<Float64Array>()));
    }
    columns.push(Arc::new(rows.iter().map(|row| row.spend_usd).collect::<Float64Array>()));
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
