//! `LightGBM` by `training/python/train.py`, in a process of its own: the table goes out as CSV, the model comes back
//! as ONNX and is run by the server's `trees` backend.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use scoreline::packing::split::Split;
use scoreline_domain::time::Stopwatch;
use scoreline_engine::inference::onnx_graph::OnnxModel;
use scoreline_engine::inference::{FeatureMatrix, trees};

use super::contender::ContenderOutcome;
use super::task::Task;

/// What a row without Python's packages says.
const MISSING_PACKAGES: &str = "pip install -r training/python/requirements.txt";

/// How often a running process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where Python is, and the script.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    pub interpreter: PathBuf,
    pub script: PathBuf,
}

/// Trains a learner of `train.py` and predicts with what it exported.
pub(super) fn run(python: &Python, learner: &str, task: &Task, limit: Duration) -> anyhow::Result<ContenderOutcome> {
    let watch = Stopwatch::start();
    let left = || limit.saturating_sub(watch.elapsed());
    let folder = tempfile::tempdir().context("no folder for the table")?;
    match execute(python, &["--help"], folder.path(), left()) {
        Ok(Ended::Well) => {}
        Ok(Ended::OutOfTime) => return Ok(ContenderOutcome::Stopped),
        Ok(Ended::Badly(said)) if said.contains("ModuleNotFoundError") => {
            return Ok(ContenderOutcome::Skipped(MISSING_PACKAGES.to_owned()));
        }
        Ok(Ended::Badly(said)) => anyhow::bail!("{} --help: {said}", python.script.display()),
        Err(error) => {
            return Ok(ContenderOutcome::Skipped(format!("cannot run `{}`: {error}", python.interpreter.display())));
        }
    }
    let (table, model) = (folder.path().join("features.csv"), folder.path().join("model.onnx"));
    task.table.write(&table)?;
    let text = |path: &PathBuf| path.to_str().map(str::to_owned).context("the folder's name is no text");
    let (table, output, seed) = (text(&table)?, text(&model)?, task.seed.to_string());
    let arguments = ["--learner", learner, "--features", &table, "--output", &output, "--seed", &seed];
    match execute(python, &arguments, folder.path(), left())? {
        Ended::Well => {}
        Ended::OutOfTime => return Ok(ContenderOutcome::Stopped),
        Ended::Badly(said) => anyhow::bail!("{}: {said}", python.script.display()),
    }
    Ok(ContenderOutcome::Predicted(predict(&fs::read(&model)?, task)?, String::new()))
}

enum Ended {
    Well,
    OutOfTime,
    /// With the last line it wrote to standard error.
    Badly(String),
}

/// Runs the script; an error is that it could not be started.
fn execute(python: &Python, arguments: &[&str], folder: &Path, limit: Duration) -> std::io::Result<Ended> {
    let watch = Stopwatch::start();
    let problems = folder.join("problems.txt");
    let mut process = Command::new(&python.interpreter)
        .arg(&python.script)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&problems)?)
        .spawn()?;
    loop {
        if let Some(status) = process.try_wait()? {
            let said = fs::read_to_string(&problems)?;
            let last = said.lines().last().unwrap_or("ended with an error and said nothing").to_owned();
            return Ok(if status.success() { Ended::Well } else { Ended::Badly(last) });
        }
        if watch.elapsed() >= limit {
            process.kill()?;
            process.wait()?;
            return Ok(Ended::OutOfTime);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn predict(model: &[u8], task: &Task) -> anyhow::Result<Vec<f64>> {
    let names: Vec<_> = task.table.features.iter().map(String::as_str).collect();
    let backend = trees::load(&OnnxModel::parse(model)?, &names)?;
    let width = backend.outputs().len();
    let value = backend.outputs().iter().position(|name| name == "variable").context("the model has no `variable`")?;
    let rows: Vec<f64> = task.table.part(Split::Test).iter().flat_map(|row| row.values.iter().copied()).collect();
    let mut outputs = vec![0.0; task.test.len() * width];
    backend.predict(FeatureMatrix::new(&rows, names.len()), &mut outputs)?;
    Ok(outputs.into_iter().skip(value).step_by(width).collect())
}
