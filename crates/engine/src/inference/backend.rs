//! What every model backend is to the rest of the program: rows in, named columns out.

use std::path::PathBuf;

use super::explain::{Question, Shares, Unexplained, sampling};

/// Rows of features, row-major; `NaN` stands for missing. Values are raw, transformed or z-scored as the bundle says.
#[derive(Clone, Copy, Debug)]
pub struct FeatureMatrix<'a> {
    values: &'a [f64],
    columns: usize,
}

impl<'a> FeatureMatrix<'a> {
    /// # Panics
    /// When `values` is not a whole number of rows.
    pub fn new(values: &'a [f64], columns: usize) -> Self {
        assert!(columns > 0 && values.len().is_multiple_of(columns), "whole rows of {columns} columns");
        Self { values, columns }
    }

    /// Whether a backend of `inputs` columns can write its `outputs` columns for these rows into `room` numbers.
    ///
    /// # Errors
    /// Says which size does not fit.
    pub fn fits(&self, inputs: usize, outputs: usize, room: usize) -> Result<(), BackendError> {
        if self.columns != inputs {
            let reason = format!("rows have {} columns, the model reads {inputs}", self.columns);
            return Err(BackendError::Run { reason });
        }
        if room != self.rows() * outputs {
            let reason = format!("there is room for {room} numbers, the answer has {}", self.rows() * outputs);
            return Err(BackendError::Run { reason });
        }
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn values(&self) -> &'a [f64] {
        self.values
    }

    pub fn iter(&self) -> std::slice::ChunksExact<'a, f64> {
        self.values.chunks_exact(self.columns)
    }
}

impl<'a> IntoIterator for &FeatureMatrix<'a> {
    type Item = &'a [f64];
    type IntoIter = std::slice::ChunksExact<'a, f64>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A loaded model. Implementations are pure functions of their rows: the same row gives the same numbers whatever
/// rows stand beside it and whichever thread asks.
pub trait Backend: Send + Sync {
    /// Number of columns it reads.
    fn inputs(&self) -> usize;

    /// Names of the columns it writes, in order; a bundle's `[outputs]` refers to them.
    fn outputs(&self) -> &[String];

    /// The columns that each part of it reads, for a model of several parts of which the first whose columns are all there
    /// answers. Empty for a model that reads every row alike.
    fn variants(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// Writes `rows × outputs` numbers, row-major.
    ///
    /// `out` must hold exactly `rows.rows() * self.outputs().len()` numbers and `rows.columns()` equal `self.inputs()`;
    /// anything else is an error.
    ///
    /// # Errors
    /// When the model cannot be run on these rows. Numbers that are not finite are not an error here: the caller
    /// refuses them.
    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError>;

    /// Asks a run that is under way on another thread to end early with an error. Backends that always answer in time
    /// need not listen.
    fn stop(&self) {}

    /// Lets a handle run again that was told to stop.
    fn resume(&self) {}

    /// Splits the difference of one output between two rows over the players: shares that sum to it, to 1e-6 of it.
    ///
    /// Where [`Backend::split`] says nothing, the model is asked about mixtures of the two rows, all or a sample.
    ///
    /// # Errors
    /// When the budget ends first, the model cannot be run, or an answer is not a finite number.
    fn explain(&self, question: &Question<'_>) -> Result<Shares, Unexplained> {
        match self.split(question)? {
            Some(shares) => Ok(shares),
            None => sampling::explain(question, self.outputs().len(), |rows, out| self.predict(rows, out)),
        }
    }

    /// As `explain`, by what a backend sees of its own model: exact Shapley values of a sum, which a function of that sum
    /// may rescale. `None` when it sees no sum.
    ///
    /// # Errors
    /// As `explain`.
    fn split(&self, question: &Question<'_>) -> Result<Option<Shares>, Unexplained> {
        let _ = question;
        Ok(None)
    }
}

/// Makes one more handle on a loaded model.
pub type Spares = Box<dyn Fn() -> Result<Box<dyn Backend>, BackendError> + Send + Sync>;

/// Why a model file cannot be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The bytes are not a model of the stated kind.
    #[error("model file is not readable as {format}: {reason}")]
    Malformed { format: &'static str, reason: String },
    /// A valid file that asks for something this backend does not do.
    #[error("{backend} backend does not support {what}")]
    Unsupported { backend: &'static str, what: String },
    #[error("model reads {model} columns but the bundle lists {bundle} features")]
    Inputs { model: usize, bundle: usize },
    #[error(
        "ONNX Runtime is needed for this model and was not found: {reason}. Install it (`pip install onnxruntime`) and point `inference.onnxruntime_path` or `ORT_DYLIB_PATH` to libonnxruntime.so{}",
        places(looked)
    )]
    RuntimeMissing { reason: String, looked: Vec<PathBuf> },
    #[error("model run failed: {reason}")]
    Run { reason: String },
    /// The turn would come too late.
    #[error("model has too much to do")]
    Overloaded,
    /// The turn did not come in time, which says nothing about the model.
    #[error("model had no thread free within the deadline")]
    NoTurn,
    /// The run did not end in time.
    #[error("model did not answer within its deadline")]
    Deadline,
}

fn places(paths: &[PathBuf]) -> String {
    if paths.is_empty() {
        return String::new();
    }
    let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
    format!("; looked at {}", paths.join(", "))
}
