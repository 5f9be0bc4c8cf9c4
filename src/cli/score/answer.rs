//! From drawn rows to answers: the same steps as a request takes, for a chunk at a time. No cache and no deadline: a
//! file is scored by the model or told why not.

use crate::domain::{Estimate, Source};
use crate::inference::ModelSnapshot;
use crate::inference::bundle::Customer;
use crate::scoring::baseline::{self, Known};
use crate::scoring::estimate::{Wish, estimate_rows, from_baseline};
use crate::scoring::{Warning, Warnings};

use super::draw::{Drawn, Row};

/// What is said about one row.
pub(super) enum Answer {
    Scored {
        estimate: Estimate,
        source: Source,
        warnings: Warnings,
    },
    /// The reason, for the `error` column.
    Refused(String),
}

/// Answers every row of a chunk, in order.
pub(super) fn answer(snapshot: &ModelSnapshot, wish: Wish, drawn: Drawn) -> Vec<Answer> {
    let width = snapshot.schema().len();
    let mut answers: Vec<Option<Answer>> = Vec::with_capacity(drawn.rows.len());
    // The rows that need the model, packed.
    let mut raw = Vec::with_capacity(drawn.raw.len());
    let mut waiting: Vec<(usize, Warnings)> = Vec::with_capacity(drawn.rows.len());
    for (position, (row, values)) in drawn.rows.into_iter().zip(drawn.raw.chunks_exact(width)).enumerate() {
        answers.push(match consider(snapshot, row, values) {
            Considered::Answered(answer) => Some(answer),
            Considered::Model(warnings) => {
                raw.extend_from_slice(values);
                waiting.push((position, warnings));
                None
            }
        });
    }
    for ((position, warnings), estimate) in waiting.into_iter().zip(estimates(snapshot, wish, &raw)) {
        answers[position] = Some(match estimate {
            Ok(estimate) => Answer::Scored { estimate, source: Source::Model, warnings },
            Err(reason) => Answer::Refused(reason),
        });
    }
    answers.into_iter().map(|answer| answer.unwrap_or_else(|| Answer::Refused("model gave no row".into()))).collect()
}

enum Considered {
    Answered(Answer),
    Model(Warnings),
}

fn consider(snapshot: &ModelSnapshot, row: Row, values: &[f64]) -> Considered {
    if let Some(fault) = row.fault {
        return Considered::Answered(Answer::Refused(fault));
    }
    if row.without_history {
        return Considered::Answered(cold_start(snapshot, &row));
    }
    match snapshot.read_row(values) {
        Err(fault) => Considered::Answered(Answer::Refused(fault.to_string())),
        Ok(Customer::New) => Considered::Answered(cold_start(snapshot, &row)),
        Ok(Customer::Known(given)) => Considered::Model(Warning::of_features(&given).collect()),
    }
}

fn cold_start(snapshot: &ModelSnapshot, row: &Row) -> Answer {
    let known = Known { channel: row.channel.as_deref(), segment: row.segment.as_deref() };
    let warnings = Warning::of_names(known, snapshot).collect();
    let estimate = from_baseline(snapshot, baseline::cold_start(snapshot, known).baseline);
    Answer::Scored { estimate, source: Source::ColdStart, warnings }
}

/// Runs the model. Should it fail on the chunk, every row is tried alone, so that one row does not cost the others.
fn estimates(snapshot: &ModelSnapshot, wish: Wish, raw: &[f64]) -> Vec<Result<Estimate, String>> {
    if raw.is_empty() {
        return Vec::new();
    }
    match estimate_rows(snapshot, raw, wish) {
        Ok(estimates) => estimates.into_iter().map(|row| row.map_err(|err| err.to_string())).collect(),
        Err(_) => raw.chunks_exact(snapshot.schema().len()).map(|row| alone(snapshot, wish, row)).collect(),
    }
}

fn alone(snapshot: &ModelSnapshot, wish: Wish, row: &[f64]) -> Result<Estimate, String> {
    let mut estimates = estimate_rows(snapshot, row, wish).map_err(|err| err.to_string())?;
    estimates.pop().ok_or("model gave no row")?.map_err(|err| err.to_string())
}
