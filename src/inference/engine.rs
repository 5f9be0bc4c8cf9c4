//! How a loaded model is run: inline on the caller's thread, or on threads of its own behind a bounded queue.

use std::time::Duration;

use super::backend::{Backend, BackendError, FeatureMatrix};
use super::explain::{Question, Shares, Unexplained};
use super::pool::Pool;

/// A loaded model with the way to run it.
pub enum Engine {
    /// Pure-Rust backends: a row costs about a microsecond, less than handing it to another thread.
    Inline(Box<dyn Backend>),
    /// ONNX Runtime: one handle a thread, never shared.
    Pooled(Pool),
}

impl Engine {
    pub fn inputs(&self) -> usize {
        match self {
            Self::Inline(backend) => backend.inputs(),
            Self::Pooled(pool) => pool.inputs(),
        }
    }

    pub fn outputs(&self) -> &[String] {
        match self {
            Self::Inline(backend) => backend.outputs(),
            Self::Pooled(pool) => pool.outputs(),
        }
    }

    /// Runs rows to completion on the calling thread: for files, golden rows and training. Blocks.
    pub fn run(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        match self {
            Self::Inline(backend) => backend.predict(rows, out),
            Self::Pooled(pool) => {
                out.copy_from_slice(&pool.predict_blocking(rows.values().to_vec())?);
                Ok(())
            }
        }
    }

    /// Runs rows for a live request, within `deadline`. Inline engines never wait.
    pub async fn answer(
        &self,
        rows: FeatureMatrix<'_>,
        out: &mut [f64],
        deadline: Duration,
    ) -> Result<(), BackendError> {
        match self {
            Self::Inline(backend) => backend.predict(rows, out),
            Self::Pooled(pool) => {
                out.copy_from_slice(&pool.predict(rows.values().to_vec(), deadline).await?);
                Ok(())
            }
        }
    }

    /// Explains one output within the question's budget. Inline engines take it on the caller's thread.
    pub async fn explain(&self, question: &Question<'_>) -> Result<Shares, Unexplained> {
        match self {
            Self::Inline(backend) => backend.explain(question),
            Self::Pooled(pool) => pool.explain(question).await,
        }
    }
}
