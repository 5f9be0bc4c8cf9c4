//! Answers to questions of the Open Inference Protocol: columns again, and what there is to say about all rows.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Serialize;
use smallvec::{SmallVec, smallvec};
use utoipa::ToSchema;

use super::Datatype;
use crate::http::edge::error::{ApiError, Code, LONGEST_NAME};
use crate::http::openapi::shape;
use crate::http::wire::Explained;
use crate::http::wire::answer::{PredictionBody, Seconds, not_explained_text, warning_text};
use crate::http::wire::lead::LeadPrediction;
use crate::http::wire::values::WireText;
use crate::scoring::task::Score;
use crate::scoring::{FallbackReason, Scored, Warning};
use scoreline_domain::privacy::screen::public;
use scoreline_domain::text::shown;
use scoreline_domain::{Estimate, LeadScore};
use scoreline_engine::inference::ModelSnapshot;

/// What is answered.
pub(crate) struct InferAnswer {
    pub model: String,
    pub version: String,
    /// As the caller sent it.
    pub id: Option<String>,
    pub rows: usize,
    pub parameters: AnswerParameters,
    pub outputs: Vec<OutputColumn>,
}

/// What there is to say about all rows.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerParameters {
    pub model_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_level: Option<f64>,
    /// Of the oldest score.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = shape::moment)]
    pub scored_at: Option<Seconds>,
    /// Why the ladder stepped down for some rows.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub warnings: String,
}

/// One output of all rows.
pub(crate) struct OutputColumn {
    pub name: &'static str,
    /// Its place among the outputs of its task.
    position: usize,
    pub values: OutputValues,
}

pub(crate) enum OutputValues {
    Fp64(Vec<f64>),
    Bytes(Vec<Cow<'static, str>>),
}

/// One output of one row.
pub(crate) enum Cell {
    /// NaN where there is none.
    Number(f64),
    Text(Cow<'static, str>),
}

/// A score as the row of a table.
pub(crate) trait TaskOutputs: Score {
    /// Names and types in the order of `cells`.
    const OUTPUTS: &'static [(&'static str, Datatype)];

    fn cells(scored: &Scored<Self>) -> SmallVec<[Cell; 8]>;
}

/// The output that is only there when reasons are asked for: for each row the documented explanation as JSON.
const EXPLANATION: &str = "explanation";

impl TaskOutputs for Estimate {
    const OUTPUTS: &'static [(&'static str, Datatype)] = &[
        ("clv_value_usd", Datatype::Fp64),
        ("confidence_interval_low", Datatype::Fp64),
        ("confidence_interval_high", Datatype::Fp64),
        ("risk_score", Datatype::Fp64),
        ("confidence_score", Datatype::Fp64),
        ("clv_tier", Datatype::Bytes),
        ("source", Datatype::Bytes),
    ];

    fn cells(scored: &Scored) -> SmallVec<[Cell; 8]> {
        let prediction = PredictionBody::new(&scored.estimate);
        let number = |number: Option<f64>| Cell::Number(number.unwrap_or(f64::NAN));
        smallvec![
            Cell::Number(prediction.clv_value_usd),
            number(prediction.confidence_interval_low),
            number(prediction.confidence_interval_high),
            number(prediction.risk_score),
            number(prediction.confidence_score),
            Cell::Text(Cow::Borrowed(prediction.clv_tier.as_str())),
            Cell::Text(Cow::Borrowed(scored.source.as_str())),
        ]
    }
}

impl TaskOutputs for LeadScore {
    const OUTPUTS: &'static [(&'static str, Datatype)] =
        &[("priority_score", Datatype::Fp64), ("conversion_probability", Datatype::Fp64), ("source", Datatype::Bytes)];

    fn cells(scored: &Scored<Self>) -> SmallVec<[Cell; 8]> {
        let prediction = LeadPrediction::new(scored.estimate);
        smallvec![
            Cell::Number(prediction.priority_score.into()),
            Cell::Number(prediction.conversion_probability),
            Cell::Text(Cow::Borrowed(scored.source.as_str())),
        ]
    }
}

impl OutputColumn {
    fn new(name: &'static str, position: usize, datatype: Datatype, rows: usize) -> Self {
        let values = if datatype == Datatype::Bytes {
            OutputValues::Bytes(Vec::with_capacity(rows))
        } else {
            OutputValues::Fp64(Vec::with_capacity(rows))
        };
        Self { name, position, values }
    }

    fn push(&mut self, cell: Cell) {
        match (&mut self.values, cell) {
            (OutputValues::Fp64(values), Cell::Number(number)) => values.push(number),
            (OutputValues::Bytes(values), Cell::Text(text)) => values.push(text),
            (OutputValues::Fp64(_), Cell::Text(_)) | (OutputValues::Bytes(_), Cell::Number(_)) => {
                debug_assert!(false, "`{}` is of another type", self.name);
            }
        }
    }
}

impl OutputValues {
    pub(crate) fn datatype(&self) -> Datatype {
        match self {
            Self::Fp64(_) => Datatype::Fp64,
            Self::Bytes(_) => Datatype::Bytes,
        }
    }

    /// Little-endian, one behind the other; a text behind its length in four bytes.
    pub(crate) fn raw(&self) -> Vec<u8> {
        match self {
            Self::Fp64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::Bytes(values) => {
                let mut raw = Vec::new();
                for text in values {
                    raw.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_le_bytes());
                    raw.extend_from_slice(text.as_bytes());
                }
                raw
            }
        }
    }
}

/// An answer that rows are added to.
pub(crate) struct AnswerInColumns {
    columns: Vec<OutputColumn>,
    rows: usize,
    version: String,
    parameters: AnswerParameters,
    /// The snapshot of the last row, and its warnings that were said.
    last: Option<(Arc<ModelSnapshot>, SmallVec<[Warning; 24]>)>,
    warnings: Vec<String>,
    reasons: SmallVec<[FallbackReason; 2]>,
}

impl AnswerInColumns {
    /// An answer by `snapshot` to a question that wants these outputs, all when it names none. With `explain` there is
    /// one more.
    ///
    /// # Errors
    /// Names the first that there is not, or that is wanted twice.
    pub(crate) fn new<E: TaskOutputs>(
        snapshot: &ModelSnapshot,
        wanted: &[WireText<'_>],
        explain: bool,
        rows: usize,
    ) -> Result<Self, ApiError> {
        let explanation = explain.then_some((EXPLANATION, Datatype::Bytes));
        let known = || E::OUTPUTS.iter().copied().chain(explanation).enumerate();
        let column = |(position, (name, datatype))| OutputColumn::new(name, position, datatype, rows);
        let mut columns: Vec<OutputColumn> = Vec::new();
        for wanted in wanted {
            let found = known().find(|(_, (name, _))| *name == &**wanted).map(column);
            let is_new = |found: &OutputColumn| columns.iter().all(|other| other.position != found.position);
            columns.push(found.filter(is_new).ok_or_else(|| {
                let names: Vec<_> = known().map(|(_, (name, _))| name).collect();
                unknown_output(wanted, &names.join(", "))
            })?);
        }
        if columns.is_empty() {
            columns = known().map(column).collect();
        }
        Ok(Self {
            columns,
            rows: 0,
            version: snapshot.version().to_string(),
            parameters: AnswerParameters {
                model_digest: snapshot.digest().to_string(),
                interval_level: None,
                scored_at: None,
                reason: String::new(),
                warnings: String::new(),
            },
            last: None,
            warnings: Vec::new(),
            reasons: SmallVec::new(),
        })
    }

    /// Whether there is a column for what `explain` asks for.
    pub(crate) fn explains(&self) -> bool {
        self.columns.iter().any(|column| column.name == EXPLANATION)
    }

    /// Adds a row.
    pub(crate) fn push<E: TaskOutputs>(&mut self, scored: &Scored<E>, explained: Option<&Explained>) {
        let mut cells = E::cells(scored);
        if let Some(explained) = explained {
            cells.push(Cell::Text(Cow::Owned(explained.json(scored).unwrap_or_default())));
        }
        let mut cells: SmallVec<[Option<Cell>; 8]> = cells.into_iter().map(Some).collect();
        for column in &mut self.columns {
            if let Some(cell) = cells.get_mut(column.position).and_then(Option::take) {
                column.push(cell);
            }
        }
        self.note(scored);
        if let Some(missing) = explained.and_then(Explained::missing) {
            self.say(not_explained_text(missing));
        }
        self.rows += 1;
    }

    /// Notes what there is to say about a row. Most say the same.
    fn note<E>(&mut self, scored: &Scored<E>) {
        if self.rows == 0 {
            self.version = scored.version.to_string();
            self.parameters.model_digest = scored.snapshot.digest().to_string();
            self.parameters.interval_level = scored.interval_level;
        } else if self.version != scored.version.as_str() {
            self.say(format!("answered by another version: {}", scored.version));
        }
        let oldest =
            self.parameters.scored_at.as_ref().map_or(scored.scored_at, |Seconds(at)| scored.scored_at.min(*at));
        self.parameters.scored_at = Some(Seconds(oldest));
        if let Some(reason) = scored.reason.filter(|reason| !self.reasons.contains(reason)) {
            self.reasons.push(reason);
        }
        let (snapshot, mut said) = self.last.take().unwrap_or_else(|| (Arc::clone(&scored.snapshot), SmallVec::new()));
        // A warning holds a position in the schema of its own snapshot.
        if !Arc::ptr_eq(&snapshot, &scored.snapshot) {
            said.clear();
        }
        for &warning in &scored.warnings {
            if !said.contains(&warning) {
                said.push(warning);
                self.say(warning_text(scored, warning).into_owned());
            }
        }
        self.last = Some((Arc::clone(&scored.snapshot), said));
    }

    fn say(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    pub(crate) fn finish(self, model: &str, id: Option<String>) -> InferAnswer {
        let mut parameters = self.parameters;
        parameters.warnings = self.warnings.join("; ");
        parameters.reason = self.reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join("; ");
        InferAnswer {
            model: model.to_owned(),
            version: self.version,
            id,
            rows: self.rows,
            parameters,
            outputs: self.columns,
        }
    }
}

fn unknown_output(wanted: &str, known: &str) -> ApiError {
    let name =
        if public(wanted).is_ok() { shown(wanted, LONGEST_NAME) } else { Cow::Borrowed("a name that is not shown") };
    let problem = format!("output `{name}` cannot be had, or is asked for twice; there are {known}");
    ApiError::field(Code::InvalidField, "outputs", problem)
}
