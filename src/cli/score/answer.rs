//! From drawn rows to answers: the same steps as a request takes, for a chunk at a time. No cache and no deadline: a
//! file is scored by the model or told why not. Leads of a chunk are asked about together.

use crate::scoring::baseline::KnownLabels;
use crate::scoring::estimate::Wish;
use crate::scoring::places::place_among;
use crate::scoring::task::{self, TaskScore, outcome_rows};
use crate::scoring::{Warning, Warnings};
use scoreline_domain::time::Timestamp;
use scoreline_domain::{LeadScore, Source};
use scoreline_engine::features::Given;
use scoreline_engine::inference::ModelSnapshot;
use scoreline_engine::inference::bundle::ReadCustomer;

use super::draw::{Drawn, InputRow};

/// What is said about one row.
#[expect(clippy::large_enum_variant, reason = "most rows are scored; a box would allocate for every one")]
pub(super) enum RowAnswer {
    Scored {
        outcome: TaskScore,
        source: Source,
        warnings: Warnings,
    },
    /// The reason, for the `error` column.
    Refused(String),
}

/// Answers every row of a chunk, in order, as of `now`.
pub(super) fn answer(snapshot: &ModelSnapshot, wish: Wish, now: Timestamp, drawn: Drawn) -> Vec<RowAnswer> {
    let width = snapshot.schema().len();
    let mut answers: Vec<Option<RowAnswer>> = Vec::with_capacity(drawn.rows.len());
    // The rows that need the model, packed.
    let mut raw = Vec::with_capacity(drawn.raw.len());
    let mut waiting: Vec<(usize, Warnings)> = Vec::with_capacity(drawn.rows.len());
    for (position, (row, values)) in drawn.rows.into_iter().zip(drawn.raw.chunks_exact(width)).enumerate() {
        let dated = row.dated.and_then(|dated| Warning::of_time(dated, now));
        answers.push(match consider(snapshot, row, values) {
            Considered::Answered(mut answer) => {
                if let (RowAnswer::Scored { warnings, .. }, Some(dated)) = (&mut answer, dated) {
                    warnings.insert(0, dated);
                }
                Some(answer)
            }
            Considered::Model(given) => {
                // What was worked out from other features included, as every other way in has it.
                raw.extend_from_slice(&given.raw);
                waiting.push((position, dated.into_iter().chain(Warning::of_features(&given)).collect()));
                None
            }
        });
    }
    for ((position, warnings), outcome) in waiting.into_iter().zip(outcomes(snapshot, wish, &raw)) {
        answers[position] = Some(match outcome {
            Ok(outcome) => RowAnswer::Scored { outcome, source: Source::Model, warnings },
            Err(reason) => RowAnswer::Refused(reason),
        });
    }
    let mut answers: Vec<RowAnswer> = answers
        .into_iter()
        .map(|answer| answer.unwrap_or_else(|| RowAnswer::Refused("model gave no row".into())))
        .collect();
    place_among(snapshot, answers.iter_mut().filter_map(RowAnswer::lead));
    answers
}

impl RowAnswer {
    /// The score of a lead by the model.
    fn lead(&mut self) -> Option<&mut LeadScore> {
        match self {
            Self::Scored { outcome: TaskScore::Lead(lead), source: Source::Model, .. } => Some(lead),
            Self::Scored { .. } | Self::Refused(_) => None,
        }
    }
}

enum Considered {
    Answered(RowAnswer),
    Model(Given),
}

fn consider(snapshot: &ModelSnapshot, row: InputRow, values: &[f64]) -> Considered {
    if let Some(fault) = row.fault {
        return Considered::Answered(RowAnswer::Refused(fault));
    }
    if row.without_history {
        return Considered::Answered(cold_start(snapshot, &row));
    }
    match snapshot.read_row(values) {
        Err(fault) => Considered::Answered(RowAnswer::Refused(fault.to_string())),
        Ok(ReadCustomer::New) => Considered::Answered(cold_start(snapshot, &row)),
        Ok(ReadCustomer::Known(mut given)) => {
            given.unknown.extend(row.unknown);
            given.missing.retain(|position| !given.unknown.contains(position));
            given.ignored = row.ignored;
            Considered::Model(given)
        }
    }
}

fn cold_start(snapshot: &ModelSnapshot, row: &InputRow) -> RowAnswer {
    let known = KnownLabels { channel: row.channel.as_deref(), segment: row.segment.as_deref() };
    let (outcome, warnings) = task::cold_start(snapshot, known);
    RowAnswer::Scored { outcome, source: Source::ColdStart, warnings: warnings.into_iter().collect() }
}

/// Runs the model. Should it fail on the chunk, every row is tried alone, so that one row does not cost the others.
fn outcomes(snapshot: &ModelSnapshot, wish: Wish, raw: &[f64]) -> Vec<Result<TaskScore, String>> {
    if raw.is_empty() {
        return Vec::new();
    }
    match outcome_rows(snapshot, raw, wish) {
        Ok(outcomes) => outcomes.into_iter().map(|row| row.map_err(|err| err.to_string())).collect(),
        Err(_) => raw.chunks_exact(snapshot.schema().len()).map(|row| alone(snapshot, wish, row)).collect(),
    }
}

fn alone(snapshot: &ModelSnapshot, wish: Wish, row: &[f64]) -> Result<TaskScore, String> {
    let mut outcomes = outcome_rows(snapshot, row, wish).map_err(|err| err.to_string())?;
    outcomes.pop().ok_or("model gave no row")?.map_err(|err| err.to_string())
}
