//! Model files that boosting libraries write themselves: `LightGBM`'s text (`lightgbm.rs`) and `XGBoost`'s JSON (`xgboost.rs`).
//!
//! They tell all that an export to ONNX may lose: thresholds in double precision, averages, last steps, what becomes of
//! missing values and zeros. Their one output is `prediction`, which is what the library's own `predict` returns.

use super::finish::{Aggregate, Columns, Finish};
use super::forest::{Forest, Listed};
use super::scalar::Scalar;
use super::{CompiledForest, Ensemble, Precision, lightgbm, xgboost};
use crate::features::FeatureRule;
use crate::inference::onnx_graph::transform::Transform;
use crate::inference::onnx_graph::{self, LastStep};
use crate::inference::{Backend, BackendError};

/// The library whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    LightGbm,
    XgBoost,
}

/// Whether a model file is in a boosting library's own format rather than in ONNX.
pub fn is_booster(model: &[u8]) -> bool {
    Library::of(model).is_some()
}

/// Loads a boosting library's own file as a backend; `features` are the bundle's columns in order, `rules` its features.
///
/// A file that names its columns reads them by name; one that does not reads all features in their order.
///
/// # Errors
/// When the file contradicts itself, reads other columns, or holds what is not supported, which is named.
pub fn load_booster(model: &[u8], features: &[&str], rules: &[FeatureRule]) -> Result<Box<dyn Backend>, BackendError> {
    match Library::of(model) {
        Some(library @ Library::LightGbm) => lightgbm::read(model, rules)?.backend(library, features),
        Some(library @ Library::XgBoost) => xgboost::read(model)?.backend(library, features),
        None => Err(BackendError::Unsupported { backend: "trees", what: "a file of this format".to_owned() }),
    }
}

/// The columns a boosting library's file names, in its order; `None` where it names none.
///
/// # Errors
/// When the file is none.
pub fn booster_columns(model: &[u8]) -> Result<Option<Vec<String>>, BackendError> {
    let names = match Library::of(model) {
        Some(Library::LightGbm) => lightgbm::names(model)?,
        Some(Library::XgBoost) => xgboost::names(model)?,
        None => Vec::new(),
    };
    Ok((!are_made_up(&names)).then_some(names))
}

/// Whether a library made the names up because it was given none.
fn are_made_up(names: &[String]) -> bool {
    names.iter().enumerate().all(|(at, name)| *name == format!("Column_{at}") || *name == format!("f{at}"))
}

impl Library {
    fn of(model: &[u8]) -> Option<Self> {
        if model.starts_with(b"tree\n") || model.starts_with(b"tree\r\n") {
            Some(Self::LightGbm)
        } else {
            // An ONNX file begins with the tag of a field, which is no brace.
            model.trim_ascii_start().starts_with(b"{").then_some(Self::XgBoost)
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::LightGbm => "LightGBM's text",
            Self::XgBoost => "XGBoost's JSON",
        }
    }

    pub(super) fn malformed(self, reason: impl Into<String>) -> BackendError {
        BackendError::Malformed { format: self.name(), reason: reason.into() }
    }

    /// An error about a file of this library, its reason put in other words.
    pub(super) fn malformed_as(self, err: BackendError, words: impl FnOnce(String) -> String) -> BackendError {
        if let BackendError::Malformed { reason, .. } = err { self.malformed(words(reason)) } else { err }
    }

    /// What a file of this library holds that is not run here.
    pub(super) fn unsupported(self, what: impl std::fmt::Display) -> BackendError {
        BackendError::Unsupported { backend: "trees", what: format!("{what} in {}", self.name()) }
    }
}

/// A file's forest before it is compiled.
pub(super) struct Booster<T> {
    /// Names of the columns, in its order; empty when it has none.
    pub(super) names: Vec<String>,
    /// Number of columns.
    pub(super) width: usize,
    pub(super) listed: Vec<Listed<T>>,
    pub(super) roots: Vec<usize>,
    /// What each leaf adds.
    pub(super) weights: Vec<T>,
    /// Whether the trees are averaged instead of summed.
    pub(super) average: bool,
    pub(super) last: LastStep,
}

impl<T: Scalar> Booster<T>
where
    Precision: From<CompiledForest<T>>,
{
    fn backend(self, library: Library, features: &[&str]) -> Result<Box<dyn Backend>, BackendError> {
        let columns = columns(library, &self.names, self.width, features)?;
        let weights = self.weights.into_iter().map(|weight| (0, weight)).collect();
        let grown = Forest::grow(&self.listed, self.roots.into_iter(), weights);
        // The forest says what is wrong with any file; which kind it is is known here.
        let forest = grown.map_err(|err| library.malformed_as(err, |reason| reason))?;
        if forest.width() > self.width {
            return Err(library.malformed(format!("a tree reads column {} of {}", forest.width() - 1, self.width)));
        }
        let finish = Finish {
            aggregate: if self.average { Aggregate::Average } else { Aggregate::Sum },
            base: Vec::new(),
            transform: Transform::None,
            columns: Columns::PerTarget(1),
        };
        let ensemble = Ensemble(CompiledForest::compile(&forest, finish).into());
        Ok(onnx_graph::around(ensemble, features.len(), columns, T::NUMBER, self.last))
    }
}

/// For each column of the file, which of the bundle's columns it is.
fn columns(library: Library, names: &[String], width: usize, features: &[&str]) -> Result<Vec<u32>, BackendError> {
    if width != features.len() {
        return Err(BackendError::Inputs { model: width, bundle: features.len() });
    }
    if are_made_up(names) {
        return Ok((0..width as u32).collect());
    }
    let mut found: Vec<u32> = Vec::with_capacity(width);
    for name in names {
        // LightGBM writes names without spaces.
        let is_meant = |feature: &&str| *feature == name || feature.replace(' ', "_") == *name;
        let Some(position) = features.iter().position(is_meant) else {
            let features = features.join(", ");
            return Err(library.malformed(format!("it reads the column `{name}`; the bundle's are {features}")));
        };
        if found.contains(&(position as u32)) {
            return Err(library.malformed(format!("it names the column `{name}` twice")));
        }
        found.push(position as u32);
    }
    if found.len() == width {
        Ok(found)
    } else {
        Err(library.malformed(format!("it names {} of {width} columns", found.len())))
    }
}
