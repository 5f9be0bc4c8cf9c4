//! How a loaded model is run: inline on the caller's thread, or on threads of its own behind a bounded queue.

use std::sync::Arc;
use std::time::Duration;

use super::backend::{Backend, BackendError, FeatureMatrix, Spares};
use super::explain::{Budget, Question, Shares, Unexplained};
use super::guard::ModelGuard;
use super::pool::{Pool, PoolSettings};
use scoreline_domain::resilience::breaker::Phase;

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
    ) -> Result<Self, BackendError> {
        let guard = Arc::new(guard);
        let told = Arc::clone(&guard);
        let on_unreturned: Box<dyn Fn() + Send + Sync> = Box::new(move || told.unreturned());
        let settings = PoolSettings { queue, spares, on_unreturned: Some(on_unreturned) };
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

    /// As [`Backend::variants`]; a pooled model reads every row alike.
    pub fn variants(&self) -> Vec<Vec<usize>> {
        match self {
            Self::Inline(backend) => backend.variants(),
            Self::Pooled(_) => Vec::new(),
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

    /// The shares an inline engine's model sees of itself, see [`Backend::split`].
    pub(super) fn split(&self, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
        match self {
            Self::Inline(backend) => backend.split(question),
            Self::Pooled(_) => Ok(None),
        }
    }

    /// One output of each row, within the budget. An open breaker is not probed for an explanation.
    pub(super) async fn outputs_of(
        &self,
        rows: FeatureMatrix<'_>,
        output: usize,
        budget: &Budget,
    ) -> Result<Vec<f64>, Unexplained> {
        /// Rows of an inline model between two looks at the clock.
        const ROWS: usize = 64;
        let (width, outputs) = (self.inputs(), self.outputs().len());
        let answers = match self {
            Self::Inline(backend) => {
                let mut answers = vec![0.0; rows.rows() * outputs];
                for (rows, answers) in rows.values().chunks(ROWS * width).zip(answers.chunks_mut(ROWS * outputs)) {
                    budget.check()?;
                    backend.predict(FeatureMatrix::new(rows, width), answers)?;
                }
                answers
            }
            Self::Pooled(pooled) if pooled.guard.phase() == Phase::Closed => {
                let answered = pooled.answer(rows, budget.left()).await;
                let is_late = |error: &BackendError| {
                    matches!(error, BackendError::Overloaded | BackendError::NoTurn | BackendError::Deadline)
                };
                answered.map_err(|error| if is_late(&error) { Unexplained::OutOfTime } else { error.into() })?
            }
            Self::Pooled(_) => return Err(Unexplained::OutOfTime),
        };
        Ok(answers.chunks_exact(outputs).map(|answers| answers[output]).collect())
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;
    use scoreline_domain::{ModelName, ModelVersion};

    /// Runs until the other end of its channel is dropped, and does not listen when it is told to stop.
    struct Stuck {
        outputs: Vec<String>,
        shut: Arc<Mutex<mpsc::Receiver<()>>>,
    }

    impl Backend for Stuck {
        fn inputs(&self) -> usize {
            1
        }

        fn outputs(&self) -> &[String] {
            &self.outputs
        }

        fn predict(&self, _: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
            let gone = self.shut.lock().expect("lock").recv();
            assert!(gone.is_err(), "nothing is ever sent");
            out.fill(1.0);
            Ok(())
        }
    }

    #[tokio::test]
    async fn three_handles_that_do_not_come_back_open_the_breaker() {
        let (open, shut) = mpsc::channel();
        let shut = Arc::new(Mutex::new(shut));
        let handle =
            |_| -> Box<dyn Backend> { Box::new(Stuck { outputs: vec!["value".into()], shut: Arc::clone(&shut) }) };
        let model = ModelName::parse("clv");
        let version = ModelVersion::parse("v1");
        let guard = ModelGuard::new(model.expect("a name"), version.expect("a version"));
        let pooled = Pooled::start(guard, (0..3).map(handle).collect(), None, 8).expect("threads");
        let short = Duration::from_millis(100);
        let ask = || pooled.answer(FeatureMatrix::new(&[0.0], 1), short);
        let answers = tokio::join!(ask(), ask(), ask());
        assert!(matches!(answers, (Err(BackendError::Deadline), Err(BackendError::Deadline), Err(_))), "{answers:?}");
        let opened = async {
            while pooled.guard().admit().is_some() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_mins(1), opened).await.expect("opens");
        drop(open);
        let row = pooled.answer(FeatureMatrix::new(&[0.0], 1), Duration::from_mins(1)).await;
        assert_eq!(row.expect("a handle is back"), [1.0]);
    }
}
