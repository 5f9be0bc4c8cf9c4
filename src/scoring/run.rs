//! Asking the model: at once on this thread, or through the breaker and the threads of a pool.

use std::time::Duration;

use smallvec::SmallVec;

use super::FallbackReason;
use super::estimate::{UnusableOutput, Wish};
use super::task::Score;
use scoreline_domain::time::WorkWatch;
use scoreline_engine::features::Row;
use scoreline_engine::inference::engine::{Engine, Pooled};
use scoreline_engine::inference::{BackendError, FeatureMatrix, ModelSnapshot};

/// The time for an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeLimit {
    /// What the settings give every answer.
    pub full: Duration,
    /// What is left for this one.
    pub left: Duration,
}

impl TimeLimit {
    /// Whether a model that does not answer in what is left has itself to blame, after the process has `worked` so long
    /// meanwhile: neither a caller in a great hurry nor a machine that stands still may take the model from all others.
    fn is_fair(self, worked: Duration) -> bool {
        2 * self.left >= self.full && 2 * worked >= self.left
    }
}

/// Why the model gave no score.
#[derive(Debug, thiserror::Error)]
pub(super) enum RunFailure {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error(transparent)]
    Output(#[from] UnusableOutput),
    #[error("the model kept failing and is not asked for now")]
    BreakerOpen,
    #[error("no time was left to ask the model")]
    NoTime,
}

impl RunFailure {
    pub(super) fn reason(&self) -> FallbackReason {
        match self {
            Self::Backend(BackendError::Overloaded) => FallbackReason::Overloaded,
            Self::Backend(BackendError::Deadline | BackendError::NoTurn) | Self::NoTime => FallbackReason::Deadline,
            Self::Backend(_) | Self::Output(_) => FallbackReason::ModelError,
            Self::BreakerOpen => FallbackReason::BreakerOpen,
        }
    }
}

/// Runs the model for one row of raw values.
///
/// # Errors
/// When there is no time, the breaker is open, the model fails, or its answer is not a number.
pub(super) async fn ask<E: Score>(
    snapshot: &ModelSnapshot,
    raw: &[f64],
    wish: Wish,
    time: TimeLimit,
) -> Result<E, RunFailure> {
    if time.left.is_zero() {
        return Err(RunFailure::NoTime);
    }
    let mut row: Row = smallvec::smallvec![0.0; snapshot.schema().columns()];
    snapshot.schema().prepare(raw, &mut row);
    let row = FeatureMatrix::new(&row, row.len());
    match snapshot.engine() {
        Engine::Inline(backend) => {
            let mut outputs: SmallVec<[f64; 8]> = smallvec::smallvec![0.0; backend.outputs().len()];
            backend.predict(row, &mut outputs)?;
            Ok(E::of_outputs(snapshot, raw, &outputs, wish)?)
        }
        // Boxed: an inline answer has no room for timers in its future.
        Engine::Pooled(pooled) => Box::pin(ask_guarded(pooled, snapshot, raw, row, wish, time)).await,
    }
}

async fn ask_guarded<E: Score>(
    pooled: &Pooled,
    snapshot: &ModelSnapshot,
    raw: &[f64],
    row: FeatureMatrix<'_>,
    wish: Wish,
    time: TimeLimit,
) -> Result<E, RunFailure> {
    let permit = pooled.guard().admit().ok_or(RunFailure::BreakerOpen)?;
    let work = WorkWatch::start();
    let ran = pooled.answer(row, time.left).await.map_err(RunFailure::from);
    let scored = ran.and_then(|outputs| Ok(E::of_outputs(snapshot, raw, &outputs, wish)?));
    match &scored {
        Ok(_) => permit.succeeded(),
        // Too much to do says nothing about the model, nor does a call that had hardly any time.
        Err(RunFailure::Backend(BackendError::Overloaded | BackendError::NoTurn)) => drop(permit),
        Err(RunFailure::Backend(BackendError::Deadline)) if !time.is_fair(work.elapsed()) => drop(permit),
        Err(_) => permit.failed(),
    }
    scored
}
