//! A question's inputs as columns, and the requests that their rows are.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::de::value::{BorrowedStrDeserializer, Error as TextFault};

use super::tensor::Column;
use super::{InferParameters, Tensor};
use crate::http::edge::error::{ApiError, Code};
use crate::http::wire::explanation::Explain;
use crate::http::wire::lead::LeadRequest;
use crate::http::wire::request::PredictRequest;
use crate::http::wire::values::{FeatureValue, Features, LONGEST_TEXT, MOST_FEATURES, WireText, optional_text};
use scoreline_engine::features::FeatureSchema;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::manifest::Task;

/// What is known beside the features.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    CustomerId,
    LeadId,
    AcquisitionChannel,
    Segment,
    LeadSource,
}

impl Known {
    /// What may be known of whom a model of this task is asked about.
    fn of_task(task: Task) -> &'static [Self] {
        match task {
            Task::Clv => &[Self::CustomerId, Self::AcquisitionChannel, Self::Segment],
            Task::Lead => &[Self::LeadId, Self::LeadSource],
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::CustomerId => "customer_id",
            Self::LeadId => "lead_id",
            Self::AcquisitionChannel => "acquisition_channel",
            Self::Segment => "segment",
            Self::LeadSource => "lead_source",
        }
    }

    fn of_all<'p, 'a>(self, parameters: &'p InferParameters<'a>) -> Option<&'p WireText<'a>> {
        match self {
            Self::CustomerId => parameters.customer_id.as_ref(),
            Self::LeadId => parameters.lead_id.as_ref(),
            Self::AcquisitionChannel => parameters.acquisition_channel.as_ref(),
            Self::Segment => parameters.segment.as_ref(),
            Self::LeadSource => parameters.lead_source.as_ref(),
        }
    }
}

/// The one tensor in which all features may come, row by row in the order of the model's metadata.
const FEATURES: &str = "features";

/// The inputs of a question about one model.
pub(crate) struct Columns<'a> {
    model: &'a str,
    /// The version that was asked for.
    version: Option<&'a str>,
    parameters: InferParameters<'a>,
    pub rows: usize,
    features: Vec<Column<'a>>,
    known: Vec<(Known, Column<'a>)>,
}

impl<'a> Columns<'a> {
    /// # Errors
    /// When inputs do not fit together, or are more rows than `most`.
    pub(crate) fn read(
        snapshot: &'a ModelSnapshot,
        version: Option<&'a str>,
        parameters: InferParameters<'a>,
        inputs: Vec<Tensor<'a>>,
        most: usize,
    ) -> Result<Self, ApiError> {
        if inputs.len() > MOST_FEATURES {
            let problem = format!("`inputs` must be at most {MOST_FEATURES}");
            return Err(ApiError::field(Code::InvalidField, "inputs", problem));
        }
        let rows = rows(&inputs, most)?;
        let model = snapshot.name().as_str();
        let mut columns = Self { model, version, parameters, rows, features: Vec::new(), known: Vec::new() };
        let mut names = BTreeSet::new();
        for input in &inputs {
            if !names.insert(input.name()) {
                return Err(input.fault("is given twice"));
            }
        }
        for input in inputs {
            columns.take(input, snapshot)?;
        }
        Ok(columns)
    }

    fn take(&mut self, input: Tensor<'a>, snapshot: &ModelSnapshot) -> Result<(), ApiError> {
        let schema = snapshot.schema();
        let is_feature = schema.position(input.name()).is_some();
        if input.name() == FEATURES && !is_feature {
            return self.take_all(input, schema);
        }
        if !matches!(input.shape[..], [_] | [_, 1]) {
            return Err(input.fault("must have the shape [n] or [n, 1]"));
        }
        let mut known = Known::of_task(snapshot.task()).iter().copied();
        let known = known.find(|known| !is_feature && known.as_str() == input.name());
        if known.is_some() && !input.is_text() {
            return Err(input.fault("must be BYTES"));
        }
        let column = input.read(self.rows)?;
        match known {
            Some(known) => self.known.push((known, column)),
            // Whether there is such a feature is for the model's schema to say.
            None => self.features.push(column),
        }
        Ok(())
    }

    /// Takes all features in one tensor.
    fn take_all(&mut self, input: Tensor<'a>, schema: &FeatureSchema) -> Result<(), ApiError> {
        let width = schema.len();
        if let Some(text) = schema.rules().iter().find(|rule| !rule.categories.is_empty()) {
            let problem = format!("cannot hold the texts of `{}`: send a tensor for each feature", text.name);
            return Err(input.fault(problem));
        }
        if input.is_text() || input.shape != [self.rows as u64, width as u64] {
            return Err(
                input.fault(format_args!("must be numbers of the shape [n, {width}], in the order of the metadata"))
            );
        }
        let (_, mut values) = input.read(self.rows * width)?;
        for (position, rule) in schema.rules().iter().enumerate() {
            let column = values.iter_mut().skip(position).step_by(width).map(Option::take).collect();
            self.features.push((Cow::Owned(rule.name.clone()), column));
        }
        Ok(())
    }

    /// The question about a customer that a row is.
    ///
    /// # Errors
    /// When a text of it is too long.
    pub(crate) fn clv(&self, row: usize, explain: Option<Explain>) -> Result<PredictRequest<'_>, ApiError> {
        Ok(PredictRequest {
            features: self.features(row),
            model: Some(WireText(Cow::Borrowed(self.model))),
            model_version: self.version.map(|version| WireText(Cow::Borrowed(version))),
            customer_id: self.known(Known::CustomerId, row)?,
            acquisition_channel: self.known(Known::AcquisitionChannel, row)?,
            segment: self.known(Known::Segment, row)?,
            interval_level: self.parameters.interval_level,
            explain,
            ..PredictRequest::default()
        })
    }

    /// The question about a lead that a row is.
    ///
    /// # Errors
    /// When a text of it is too long.
    pub(crate) fn lead(&self, row: usize, explain: Option<Explain>) -> Result<LeadRequest<'_>, ApiError> {
        Ok(LeadRequest {
            features: self.features(row),
            model: Some(WireText(Cow::Borrowed(self.model))),
            model_version: self.version.map(|version| WireText(Cow::Borrowed(version))),
            lead_id: self.known(Known::LeadId, row)?,
            lead_source: self.known(Known::LeadSource, row)?,
            explain,
            ..LeadRequest::default()
        })
    }

    /// `None` when there are no features in the question, only who it is about.
    fn features(&self, row: usize) -> Option<Features<'_>> {
        if self.features.is_empty() {
            return None;
        }
        let mut features = Vec::with_capacity(self.features.len());
        for (name, values) in &self.features {
            features.push((Cow::Borrowed(&**name), values[row].as_ref().map(FeatureValue::lent)));
        }
        Some(Features(features))
    }

    fn known(&self, known: Known, row: usize) -> Result<Option<WireText<'_>>, ApiError> {
        let Some((_, (_, values))) = self.known.iter().find(|(column, _)| *column == known) else {
            return Ok(known.of_all(&self.parameters).map(WireText::lent));
        };
        let Some(FeatureValue::Text(text)) = &values[row] else { return Ok(None) };
        let text = BorrowedStrDeserializer::<TextFault>::new(text);
        optional_text(text).map_err(|_| {
            let name = known.as_str();
            let problem = format!("`{name}` must be a text of at most {LONGEST_TEXT} bytes");
            ApiError::field(Code::InvalidField, name, problem)
        })
    }
}

/// How many rows the inputs have. Without inputs the one row is whoever the parameters name.
fn rows(inputs: &[Tensor<'_>], most: usize) -> Result<usize, ApiError> {
    let Some(first) = inputs.first() else { return Ok(1) };
    let rows = first.shape.first().copied();
    if let Some(other) = inputs.iter().find(|input| rows.is_none() || input.shape.first().copied() != rows) {
        return Err(other.fault("must have the shape [n] or [n, 1], with the same n as the other inputs"));
    }
    match rows.and_then(|rows| usize::try_from(rows).ok()) {
        Some(rows) if rows <= most => Ok(rows),
        Some(_) | None => Err(ApiError::new(Code::TooManyRows, format!("a request must hold at most {most} rows"))),
    }
}
