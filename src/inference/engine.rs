//! How a loaded model is run: inline on the caller's thread, or on threads of its own behind a bounded queue.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, BackendError, FeatureMatrix, Spares};
use super::explain::{Question, Shares, Unexplained};
use super::guard::ModelGuard;
use super::pool::{Pool, PoolSettings};
use crate::resilience::breaker::Phase;

/// A loaded model with the way to run it.
pub enum Engine {
    /// Pure-Rust backends: a row costs about a microsecond, less than handing it to another thread. They have no
    /// breaker: a run that fails has cost its caller a microsecond and nobody a thread, so there is nothing to save, and
    /// the model is asked again for the next row.
    Inline(Box<dyn Backend>),
    /// ONNX Runtime: one handle a thread, never shared.
    Pooled(Pooled),
}

/// A model on threads of its own, with the breaker in front of it.
pub struct Pooled {
    pool: Pool,
    guard: Arc<ModelGuard>,
}

impl Pooled {
    /// Starts the threads. Handles that do not come back from a run are replaced by `spares` and told to the guard.
    ///
    /// # Errors
    /// When there is no handle or no thread can be started.
    pub fn start(
        guard: ModelGuard,
        handles: Vec<Box<dyn Backend>>,
        spares: Option<Spares>,
        queue: usize,
        queue_age: Option<Duration>,
    ) -> Result<Self, BackendError> {
        let guard = Arc::new(guard);
        let told = Arc::clone(&guard);
        let on_unreturned: Box<dyn Fn() + Send + Sync> = Box::new(move || told.unreturned());
        let settings = PoolSettings { queue, queue_age, spares, on_unreturned: Some(on_unreturned) };
        Ok(Self { pool: Pool::with(guard.model().as_str(), handles, settings)?, guard })
    }

    /// Who decides whether the model may be asked. [`Pooled::answer`] leaves that to its caller, who alone knows
    /// whether the numbers that come back make a score.
    pub fn guard(&self) -> &ModelGuard {
        &self.guard
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Runs rows for a live request, within `deadline`.
    ///
    /// # Errors
    /// As [`Pool::predict`].
    pub async fn answer(&self, rows: FeatureMatrix<'_>, deadline: Duration) -> Result<Vec<f64>, BackendError> {
        self.pool.predict(rows.values().to_vec(), deadline).await
    }
}

impl Engine {
    pub fn inputs(&self) -> usize {
        match self {
            Self::Inline(backend) => backend.inputs(),
            Self::Pooled(pooled) => pooled.pool.inputs(),
        }
    }

    pub fn outputs(&self) -> &[String] {
        match self {
            Self::Inline(backend) => backend.outputs(),
            Self::Pooled(pooled) => pooled.pool.outputs(),
        }
    }

    /// What the breaker of the model does; an inline model is always asked.
    pub fn phase(&self) -> Phase {
        match self {
            Self::Inline(_) => Phase::Closed,
            Self::Pooled(pooled) => pooled.guard.phase(),
        }
    }

    /// Runs rows to completion on the calling thread: for files, golden rows and training. Blocks.
    pub fn run(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        match self {
            Self::Inline(backend) => backend.predict(rows, out),
            Self::Pooled(pooled) => {
                out.copy_from_slice(&pooled.pool.predict_blocking(rows.values().to_vec())?);
                Ok(())
            }
        }
    }

    /// Explains one output within the question's budget. Inline engines take it on the caller's thread. An open breaker
    /// is not probed for an explanation.
    pub async fn explain(&self, question: &Question<'_>) -> Result<Shares, Unexplained> {
        match self {
            Self::Inline(backend) => backend.explain(question),
            Self::Pooled(pooled) if pooled.guard.phase() == Phase::Closed => pooled.pool.explain(question).await,
            Self::Pooled(_) => Err(Unexplained::OutOfTime),
        }
    }
}
