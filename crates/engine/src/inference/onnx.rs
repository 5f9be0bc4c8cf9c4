//! Any ONNX graph through ONNX Runtime, loaded at run time. The only file that names `ort`.
//!
//! One library and one environment serve the whole process: the first model that needs them decides which library.
//! A handle runs one row at a time. Runtime kernels round differently for different batch sizes and a graph may mix
//! rows; one row a run keeps a prediction a function of its row alone, and costs little: most of a run is fixed cost.
//!
//! Telemetry: official builds of ONNX Runtime from 1.29 on write a device id and queue a first event for upload while
//! the environment is made, before `with_telemetry(false)` can be heard. Only `ORT_DISABLE_TELEMETRY=1` in the process
//! environment keeps them silent, and a variable cannot be set safely once threads run. So the runtime is not started
//! without it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ort::environment::Environment;
use ort::logging::LogLevel;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{DynMapValueType, DynSequenceValueType, DynValue, Tensor, TensorElementType, ValueType};

use super::backend::{Backend, BackendError, FeatureMatrix, Spares};
use super::runtime_search::RuntimeSearch;
use super::runtime_search::TELEMETRY_VARIABLE;

/// A first run that takes longer than this is stopped and the model refused.
const TRIAL_LIMIT: Duration = Duration::from_secs(5);

/// A column that a bundle gives its model.
#[derive(Clone, Copy, Debug)]
pub struct ModelColumn<'a> {
    pub name: &'a str,
    /// What the column's numbers stand for, by position; empty for numbers that are meant as such. An input of texts gets
    /// these, and the empty text for a missing one.
    pub categories: &'a [String],
}

/// Loads `threads` handles on the model in `bytes`, each with a session of its own.
///
/// `features` are the bundle's feature names in order: the columns of a single `[N, F]` input, or the names of several
/// `[N, 1]` inputs.
///
/// # Errors
/// When the runtime is missing or may not be started, when the bytes are not a model it can load, or when inputs and
/// outputs are not columns of numbers.
pub fn open(
    bytes: &[u8],
    features: &[&str],
    search: &RuntimeSearch,
    threads: usize,
) -> Result<Vec<Box<dyn Backend>>, BackendError> {
    let columns: Vec<_> = features.iter().map(|name| ModelColumn { name, categories: &[] }).collect();
    open_with_spares(bytes, &columns, search, threads).map(|(handles, _)| handles)
}

/// As `open`, with a way to make one more handle on the same model, in place of one whose run never ends. It keeps the
/// model's bytes: what is on disk by then may be another model.
///
/// # Errors
/// As `open`.
pub fn open_with_spares(
    bytes: &[u8],
    given: &[ModelColumn<'_>],
    search: &RuntimeSearch,
    threads: usize,
) -> Result<(Vec<Box<dyn Backend>>, Spares), BackendError> {
    let environment = environment(search)?;
    let mut first = OnnxHandle::prepare(&environment, bytes, given)?;
    let inputs = given.len();
    let (columns, outputs) = first.trial(inputs)?;
    let bytes: Arc<[u8]> = Arc::from(bytes);
    let kept: Vec<_> = given.iter().map(|column| (column.name.to_owned(), column.categories.to_vec())).collect();
    let more = {
        let (columns, outputs) = (columns.clone(), outputs.clone());
        move || -> Result<Box<dyn Backend>, BackendError> {
            let given: Vec<_> = kept.iter().map(|(name, categories)| ModelColumn { name, categories }).collect();
            let handle = OnnxHandle::prepare(&environment, &bytes, &given)?;
            Ok(Box::new(handle.finish(given.len(), columns.clone(), outputs.clone())?))
        }
    };
    let mut handles = (1..threads.max(1)).map(|_| more()).collect::<Result<Vec<_>, _>>()?;
    handles.push(Box::new(first.finish(inputs, columns, outputs)?));
    Ok((handles, Box::new(more)))
}

/// One session, one input buffer. The lock is never contended: exactly one thread uses a handle.
struct OnnxHandle {
    inputs: usize,
    outputs: Vec<String>,
    state: Mutex<State>,
    /// Beside the lock, so that a run can be ended from another thread. It asks for all outputs: options that select
    /// some cannot be shared between threads, and ONNX Runtime runs every node of the graph either way.
    options: RunOptions,
}

struct State {
    session: Session,
    slots: Vec<Slot>,
    /// The model outputs that are read, in order.
    columns: Vec<OutputColumns>,
}

/// One model input and the features it reads.
struct Slot {
    tensor: SlotTensor,
    first: usize,
    width: usize,
}

enum SlotTensor {
    Single(Tensor<f32>),
    Double(Tensor<f64>),
    /// Made anew for each row. `categories` are those of each of its columns.
    Text {
        tensor: Tensor<String>,
        dims: Vec<usize>,
        categories: Vec<Vec<String>>,
    },
}

/// A model output and how many columns a row of it has.
#[derive(Clone, Debug, PartialEq)]
struct OutputColumns {
    name: String,
    width: usize,
}

impl Backend for OnnxHandle {
    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self) -> &[String] {
        &self.outputs
    }

    fn predict(&self, rows: FeatureMatrix<'_>, out: &mut [f64]) -> Result<(), BackendError> {
        rows.fits(self.inputs, self.outputs.len(), out.len())?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, out) in rows.iter().zip(out.chunks_exact_mut(self.outputs.len())) {
            state.run(row, out, &self.options)?;
        }
        Ok(())
    }

    fn stop(&self) {
        if let Err(err) = self.options.terminate() {
            tracing::warn!(reason = err.message(), "a model run cannot be stopped");
        }
    }

    fn resume(&self) {
        if let Err(err) = self.options.unterminate() {
            tracing::warn!(reason = err.message(), "a model handle cannot be used again");
        }
    }
}

/// A session whose outputs are not known yet.
struct Prepared {
    session: Session,
    slots: Vec<Slot>,
}

impl OnnxHandle {
    fn prepare(environment: &Environment, bytes: &[u8], given: &[ModelColumn<'_>]) -> Result<Prepared, BackendError> {
        let session = session(environment, bytes).map_err(|err| load_error(&err))?;
        let slots = slots(&session, given)?;
        Ok(Prepared { session, slots })
    }
}

impl Prepared {
    /// Runs one row of zeros. Declared output shapes are often left open; what comes out of a run is certain.
    fn trial(&mut self, inputs: usize) -> Result<(Vec<OutputColumns>, Vec<String>), BackendError> {
        let options = Arc::new(RunOptions::new().map_err(|err| run_error(err.to_string()))?);
        let (done, waiting) = mpsc::channel::<()>();
        let stopper = Arc::clone(&options);
        // A graph may hold a loop that never ends: the watchdog stops the run instead of waiting for it.
        let watchdog = std::thread::Builder::new()
            .name("onnx-trial".to_owned())
            .spawn(move || {
                let late = waiting.recv_timeout(TRIAL_LIMIT) == Err(RecvTimeoutError::Timeout);
                late && stopper.terminate().is_ok()
            })
            .map_err(|err| run_error(format!("no thread for the first run: {err}")))?;
        fill(&mut self.slots, &vec![0.0; inputs])?;
        let values = views(&self.slots);
        let outcome = self.session.run_with_options(values.as_slice(), &*options);
        drop(done);
        let stopped = watchdog.join().unwrap_or(false);
        let outputs = match outcome {
            Ok(outputs) => outputs,
            Err(_) if stopped => {
                return Err(run_error(format!("the first run did not end within {} s", TRIAL_LIMIT.as_secs())));
            }
            Err(err) => return Err(run_error(err.to_string())),
        };
        let mut columns = Vec::new();
        let mut left_out = Vec::new();
        for (name, value) in &outputs {
            match width_of(&value) {
                Ok(width) => columns.push(OutputColumns { name: name.to_owned(), width }),
                Err(reason) => left_out.push(format!("`{name}` ({reason})")),
            }
        }
        if columns.is_empty() {
            let left_out = left_out.join(", ");
            return Err(unsupported(format!("a model without an output of numbers, [N] or [N, k]; it has {left_out}")));
        }
        let names = column_names(&columns);
        if let Some(twice) = repeated(&names) {
            return Err(unsupported(format!("two output columns of the name `{twice}`")));
        }
        Ok((columns, names))
    }

    fn finish(
        self,
        inputs: usize,
        columns: Vec<OutputColumns>,
        outputs: Vec<String>,
    ) -> Result<OnnxHandle, BackendError> {
        let options = RunOptions::new().map_err(|err| run_error(err.to_string()))?;
        let Self { session, slots } = self;
        Ok(OnnxHandle { inputs, outputs, state: Mutex::new(State { session, slots, columns }), options })
    }
}

impl State {
    fn run(&mut self, row: &[f64], out: &mut [f64], options: &RunOptions) -> Result<(), BackendError> {
        fill(&mut self.slots, row)?;
        let values = views(&self.slots);
        let outputs =
            self.session.run_with_options(values.as_slice(), options).map_err(|err| run_error(err.to_string()))?;
        let mut rest = out;
        for column in &self.columns {
            let value =
                outputs.get(&column.name).ok_or_else(|| run_error(format!("no output `{}` came out", column.name)))?;
            let (now, later) = rest.split_at_mut(column.width);
            read(value, now).map_err(|reason| run_error(format!("output `{}` {reason}", column.name)))?;
            rest = later;
        }
        Ok(())
    }
}

fn column_names(columns: &[OutputColumns]) -> Vec<String> {
    let mut names = Vec::new();
    for OutputColumns { name, width } in columns {
        if *width == 1 {
            names.push(name.clone());
        } else {
            names.extend((0..*width).map(|k| format!("{name}[{k}]")));
        }
    }
    names
}

fn repeated(names: &[String]) -> Option<&String> {
    let mut seen = BTreeSet::new();
    names.iter().find(|name| !seen.insert(*name))
}

/// Columns of one row of an output, or why it is none.
fn width_of(value: &DynValue) -> Result<usize, Cow<'static, str>> {
    match value.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float32 | TensorElementType::Float64, shape, .. } => match shape[..]
        {
            [1] => Ok(1),
            [1, width] if width > 0 => usize::try_from(width).map_err(|_| Cow::from("too wide")),
            _ => Err(format!("a row gives the shape {:?}", &shape[..]).into()),
        },
        ValueType::Tensor { ty, .. } => Err(format!("a tensor of {ty}").into()),
        ValueType::Sequence(_) => match zipped(value) {
            Ok(pairs) if !pairs.is_empty() => Ok(pairs.len()),
            Ok(_) => Err("an empty map".into()),
            Err(reason) => Err(format!("{reason}; export with `zipmap=False`").into()),
        },
        ValueType::Map { .. } | ValueType::Optional(_) => Err("a map or an optional".into()),
    }
}

/// Copies one row of an output.
fn read(value: &DynValue, out: &mut [f64]) -> Result<(), String> {
    let wrong = |width: usize| format!("has {width} columns in this row, {} in the first run", out.len());
    match value.dtype() {
        ValueType::Tensor { ty: TensorElementType::Float64, .. } => {
            let (_, numbers) = value.try_extract_tensor::<f64>().map_err(|err| err.to_string())?;
            if numbers.len() != out.len() {
                return Err(wrong(numbers.len()));
            }
            out.copy_from_slice(numbers);
        }
        ValueType::Tensor { .. } => {
            let (_, numbers) = value.try_extract_tensor::<f32>().map_err(|err| err.to_string())?;
            if numbers.len() != out.len() {
                return Err(wrong(numbers.len()));
            }
            for (slot, &number) in out.iter_mut().zip(numbers) {
                *slot = f64::from(number);
            }
        }
        ValueType::Sequence(_) | ValueType::Map { .. } | ValueType::Optional(_) => {
            let numbers = zipped(value)?;
            if numbers.len() != out.len() {
                return Err(wrong(numbers.len()));
            }
            for (slot, &number) in out.iter_mut().zip(&numbers) {
                *slot = f64::from(number);
            }
        }
    }
    Ok(())
}

/// The probabilities of one row's `ZipMap` output, by ascending class.
fn zipped(value: &DynValue) -> Result<Vec<f32>, String> {
    let sequence = value.view().downcast::<DynSequenceValueType>().map_err(|err| err.to_string())?;
    let maps = sequence.try_extract_sequence::<DynMapValueType>().map_err(|err| err.to_string())?;
    let [map] = maps.as_slice() else { return Err(format!("holds {} maps for one row", maps.len())) };
    if let Ok(mut pairs) = map.try_extract_key_values::<i64, f32>() {
        pairs.sort_unstable_by_key(|(class, _)| *class);
        return Ok(pairs.into_iter().map(|(_, probability)| probability).collect());
    }
    let mut pairs = map.try_extract_key_values::<String, f32>().map_err(|err| err.to_string())?;
    pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(pairs.into_iter().map(|(_, probability)| probability).collect())
}

/// Matches the model's inputs to the features and makes a buffer of one row for each.
fn slots(session: &Session, given: &[ModelColumn<'_>]) -> Result<Vec<Slot>, BackendError> {
    let inputs = session.inputs();
    let described = || inputs.iter().map(|input| format!("`{}` {}", input.name(), input.dtype())).collect::<Vec<_>>();
    let mut used = vec![false; given.len()];
    let mut slots = Vec::with_capacity(inputs.len());
    for input in inputs {
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(unsupported(format!("inputs other than tensors; the model reads {}", described().join(", "))));
        };
        let (batch, width) = match shape[..] {
            [batch] => (batch, 1),
            [batch, width] => (batch, width),
            _ => {
                let described = described().join(", ");
                return Err(unsupported(format!("inputs other than [N, F] or [N]; the model reads {described}")));
            }
        };
        if !matches!(batch, -1 | 1) {
            return Err(unsupported(format!("a fixed batch of {batch} rows; export with an open first dimension")));
        }
        let (first, width) = if inputs.len() == 1 {
            let model = usize::try_from(width).unwrap_or(given.len());
            if model != given.len() {
                return Err(BackendError::Inputs { model, bundle: given.len() });
            }
            (0, model)
        } else {
            let position = given.iter().position(|column| column.name == input.name());
            match position {
                Some(position) if matches!(width, -1 | 1) => (position, 1),
                Some(_) => return Err(unsupported(format!("several inputs, `{}` {width} columns wide", input.name()))),
                None => {
                    let problem = format!("several inputs of which `{}` is no feature of the bundle", input.name());
                    return Err(unsupported(problem));
                }
            }
        };
        used[first..first + width].fill(true);
        let dims: &[usize] = if shape.len() == 1 { &[width] } else { &[1, width] };
        let tensor = if *ty == TensorElementType::Float32 {
            Tensor::from_array((dims, vec![0.0_f32; width])).map(SlotTensor::Single)
        } else if *ty == TensorElementType::Float64 {
            Tensor::from_array((dims, vec![0.0_f64; width])).map(SlotTensor::Double)
        } else if *ty == TensorElementType::String {
            let columns = &given[first..first + width];
            if let Some(number) = columns.iter().find(|column| column.categories.is_empty()) {
                let name = number.name;
                return Err(unsupported(format!(
                    "an input of texts for `{name}`, which has no `categories` in the bundle"
                )));
            }
            let categories = columns.iter().map(|column| column.categories.to_vec()).collect();
            let dims = dims.to_vec();
            texts(&dims, &vec![String::new(); width]).map(|tensor| SlotTensor::Text { tensor, dims, categories })
        } else {
            return Err(unsupported(format!("inputs of {ty}; export them as float, double or string")));
        };
        slots.push(Slot { tensor: tensor.map_err(|err| run_error(err.to_string()))?, first, width });
    }
    if used.contains(&false) {
        return Err(BackendError::Inputs { model: slots.len(), bundle: given.len() });
    }
    Ok(slots)
}

fn fill(slots: &mut [Slot], row: &[f64]) -> Result<(), BackendError> {
    for Slot { tensor, first, width } in slots {
        let values = &row[*first..*first + *width];
        match tensor {
            SlotTensor::Single(tensor) => {
                let (_, buffer) = tensor.try_extract_tensor_mut::<f32>().map_err(|err| run_error(err.to_string()))?;
                for (slot, &value) in buffer.iter_mut().zip(values) {
                    *slot = value as f32;
                }
            }
            SlotTensor::Double(tensor) => {
                let (_, buffer) = tensor.try_extract_tensor_mut::<f64>().map_err(|err| run_error(err.to_string()))?;
                buffer.copy_from_slice(values);
            }
            SlotTensor::Text { tensor, dims, categories } => {
                let named = values.iter().zip(&*categories);
                let named: Vec<_> = named.map(|(&position, categories)| category(position, categories)).collect();
                *tensor = texts(dims, &named).map_err(|err| run_error(err.to_string()))?;
            }
        }
    }
    Ok(())
}

/// The category at a position; the empty text for none.
fn category(position: f64, categories: &[String]) -> String {
    // No position is below zero, and a missing one is not a number.
    let at = (position >= 0.0).then_some(position as usize);
    at.and_then(|at| categories.get(at)).cloned().unwrap_or_default()
}

fn texts(dims: &[usize], texts: &[String]) -> ort::Result<Tensor<String>> {
    Tensor::from_string_array((dims, texts))
}

fn views(slots: &[Slot]) -> Vec<SessionInputValue<'_>> {
    fn view(tensor: &SlotTensor) -> SessionInputValue<'_> {
        match tensor {
            SlotTensor::Single(tensor) => SessionInputValue::from(tensor),
            SlotTensor::Double(tensor) => SessionInputValue::from(tensor),
            SlotTensor::Text { tensor, .. } => SessionInputValue::from(tensor),
        }
    }
    slots.iter().map(|slot| view(&slot.tensor)).collect()
}

/// One thread, no spinning and no memory that only grows: the server's own threads are the parallelism.
fn session(environment: &Environment, bytes: &[u8]) -> ort::Result<Session> {
    Session::builder(environment)?
        .with_execution_providers([ort::ep::CPU::default().with_arena_allocator(false).build()])?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_memory_pattern(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_log_level(LogLevel::Warning)?
        // Weights come from the hashed bytes alone; a file beside the process cannot slip in as external data.
        .with_config_entry("session.model_external_initializers_file_folder_path", "/nonexistent/external-data")?
        .commit_from_memory(bytes)
}

/// The process-wide environment, made at the first call. A failure is not kept: the library may be installed later.
fn environment(search: &RuntimeSearch) -> Result<Environment, BackendError> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = &*slot {
        return Ok(environment.clone());
    }
    let candidates = search.candidates();
    if candidates.libraries.is_empty() {
        let reason = candidates.refused.first().map_or("no library in the usual places", String::as_str).to_owned();
        return Err(BackendError::RuntimeMissing { reason, looked: candidates.looked });
    }
    if !search.telemetry_disabled {
        return Err(unsupported(format!(
            "starting ONNX Runtime without `{TELEMETRY_VARIABLE}=1` in the process environment: official builds send \
             usage data before they can be told not to"
        )));
    }
    let mut reasons = candidates.refused;
    for library in candidates.libraries {
        // A library of the right name that is something else makes `ort` panic in places.
        let started = catch_unwind(AssertUnwindSafe(|| start(&library)));
        match started.unwrap_or_else(|_| Err("is not a usable ONNX Runtime".to_owned())) {
            Ok(environment) => {
                tracing::info!(library = %library.display(), build = ort::info(), "onnx runtime started");
                return Ok(slot.insert(environment).clone());
            }
            Err(reason) => reasons.push(format!("`{}`: {reason}", library.display())),
        }
    }
    Err(BackendError::RuntimeMissing { reason: reasons.join("; "), looked: candidates.looked })
}

fn start(library: &Path) -> Result<Environment, String> {
    let environment = ort::init_from(library)
        .map_err(|err| match &err {
            // What the loader says is one level down.
            ort::LoadDynamicError::Dlopen { error, .. } => error.source().unwrap_or(error).to_string(),
            ort::LoadDynamicError::MissingApi { .. }
            | ort::LoadDynamicError::InvalidVersionString
            | ort::LoadDynamicError::BadVersion { .. } => err.to_string(),
        })?
        .with_name("scoreline")
        .with_telemetry(false)
        .with_logger(Arc::new(log))
        .build()
        .map_err(|err| err.to_string())?;
    environment.set_log_level(LogLevel::Warning);
    Ok(environment)
}

/// What fails comes back as an error as well, so nothing here is louder than a warning.
fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Error | LogLevel::Fatal => {
            tracing::warn!(category, location, reason = message, "onnx runtime reports an error");
        }
        LogLevel::Warning => tracing::debug!(category, location, reason = message, "onnx runtime warns"),
        LogLevel::Verbose | LogLevel::Info => {}
    }
}

fn load_error(err: &ort::Error) -> BackendError {
    if err.code() == ort::ErrorCode::NotImplemented {
        return unsupported(err.message().to_owned());
    }
    BackendError::Malformed { format: "ONNX", reason: err.message().to_owned() }
}

fn unsupported(what: String) -> BackendError {
    BackendError::Unsupported { backend: "onnx", what }
}

fn run_error(reason: String) -> BackendError {
    BackendError::Run { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_outputs_may_not_share_a_column_name() {
        let columns = [OutputColumns { name: "p".into(), width: 2 }, OutputColumns { name: "value".into(), width: 1 }];
        let names = column_names(&columns);
        assert_eq!(names, ["p[0]", "p[1]", "value"]);
        assert_eq!(repeated(&names), None);
        assert_eq!(repeated(&["a".into(), "b".into(), "a".into()]), Some(&"a".to_owned()));
    }
}
