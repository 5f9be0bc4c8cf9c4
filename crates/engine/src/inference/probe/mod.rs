//! Tries a bundle in a process of its own before this one loads it: what crashes, hangs or eats memory there hurts nobody.
//!
//! The child is this program with an empty environment. It limits itself before it reads the model, builds the bundle,
//! checks its golden rows, runs rows over the whole training range and says how it went. It gets the bytes through a
//! pipe: what is tried is what will be loaded.

mod child;

use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bundle::{BundleError, BundleFiles, CHILD_CODES, GoldenRow, LoadSettings, ProbeFault};
use super::manifest::TierLimits;
use super::runtime_search::{RuntimeSearch, TELEMETRY_VARIABLE};
use scoreline_domain::time::Stopwatch;

pub use child::answer;

/// The arguments that make this program the child.
const ARGUMENTS: [&str; 2] = ["models", "probe"];
/// Wall clock for the whole probe; then the child is killed.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Most a child may say.
const MOST_WORDS: u64 = 64 * 1024;
/// How often an ending child is looked at.
const POLL: Duration = Duration::from_millis(2);

/// What goes to the child, before the model's bytes.
#[derive(Serialize, Deserialize)]
struct ProbeTask {
    /// As TOML, which unlike JSON can say infinity.
    manifest: String,
    golden: Vec<GoldenRow>,
    runtime: RuntimeSearch,
    control_flow: bool,
    tiers: Option<TierLimits>,
}

/// What comes back, as one line of JSON: nothing is wrong, or the code and the reason of a refusal.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProbeVerdict {
    code: Option<String>,
    reason: String,
}

/// Runs `program` on a bundle.
///
/// # Errors
/// What the child found, or how it ended.
pub fn probe(program: &Path, files: &BundleFiles, load: &LoadSettings) -> Result<(), BundleError> {
    let task = ProbeTask {
        manifest: toml::to_string(&files.manifest).map_err(|err| unavailable(&err))?,
        golden: files.golden.clone(),
        runtime: RuntimeSearch { telemetry_disabled: true, ..load.runtime.clone() },
        control_flow: load.control_flow,
        tiers: load.tiers,
    };
    let task = serde_json::to_vec(&task).map_err(|err| unavailable(&err))?;
    let child = Command::new(program)
        .args(ARGUMENTS)
        .env_clear()
        .env(TELEMETRY_VARIABLE, "1")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|err| unavailable(&format!("`{}` cannot be started: {err}", program.display())))?;
    let ended = converse(child, &task, &files.model).map_err(|err| unavailable(&err))?;
    judge(&ended)
}

/// How a child ended.
struct Ended {
    /// `None` when it was killed because its time was up.
    status: Option<ExitStatus>,
    said: Vec<u8>,
    complained: String,
}

/// Hands over the task, collects what the child says, and ends it when its time is up.
fn converse(mut child: Child, task: &[u8], model: &[u8]) -> std::io::Result<Ended> {
    let since = Stopwatch::start();
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (tell, told) = mpsc::channel();
    let outcome = thread::scope(|scope| {
        let spawn = |name: &str| thread::Builder::new().name(format!("probe-{name}"));
        spawn("input").spawn_scoped(scope, move || {
            // A child that ends early does not read everything; its end is what counts.
            let Some(mut pipe) = stdin else { return };
            let sizes = [task.len() as u64, model.len() as u64].map(u64::to_le_bytes).concat();
            let _ = pipe.write_all(&sizes).and_then(|()| pipe.write_all(task)).and_then(|()| pipe.write_all(model));
        })?;
        let complaints = spawn("errors").spawn_scoped(scope, move || heard(stderr))?;
        spawn("output").spawn_scoped(scope, move || tell.send(heard(stdout)))?;
        let said = told.recv_timeout(LIMIT).ok();
        let status = match said {
            Some(_) => ending(&mut child, since)?,
            None => None,
        };
        if status.is_none() {
            // It may have ended in this very moment: then there is nothing to kill.
            let _ = child.kill();
            child.wait()?;
        }
        let complained = complaints.join().unwrap_or_default();
        let complained = String::from_utf8_lossy(&complained).trim().to_owned();
        Ok(Ended { status, said: said.unwrap_or_default(), complained })
    });
    if outcome.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    outcome
}

fn heard(pipe: Option<impl Read>) -> Vec<u8> {
    let mut words = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(MOST_WORDS).read_to_end(&mut words);
    }
    words
}

/// Waits for a child that has closed its output.
fn ending(child: &mut Child, since: Stopwatch) -> std::io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if since.elapsed() > LIMIT {
            return Ok(None);
        }
        thread::sleep(POLL);
    }
}

fn judge(ended: &Ended) -> Result<(), BundleError> {
    let fault = |fault, reason: String| Err(BundleError::Probe { fault, reason });
    let late = || format!("the model was not ready within {} s", LIMIT.as_secs());
    let Some(status) = ended.status else { return fault(ProbeFault::Timeout, late()) };
    if status.success() {
        let Ok(ProbeVerdict { code, reason }) = serde_json::from_slice(&ended.said) else {
            return fault(ProbeFault::Crashed, "the child process gave no verdict".to_owned());
        };
        let Some(code) = code else { return Ok(()) };
        if is_out_of_memory(&reason) {
            return fault(ProbeFault::Memory, reason);
        }
        let code = CHILD_CODES.into_iter().find(|known| *known == code);
        return fault(code.map_or(ProbeFault::Crashed, ProbeFault::Refused), reason);
    }
    if is_out_of_memory(&ended.complained) {
        return fault(ProbeFault::Memory, "the model asks for more memory than it is worth".to_owned());
    }
    if child::used_up_its_time(status) {
        return fault(ProbeFault::Timeout, late());
    }
    let last = ended.complained.lines().next_back().unwrap_or_default();
    fault(ProbeFault::Crashed, format!("the child process ended with {status}: {last}"))
}

/// How Rust, C++ and ONNX Runtime say it.
fn is_out_of_memory(words: &str) -> bool {
    let words = words.to_lowercase();
    ["bad_alloc", "bad allocation", "memory allocation of", "failed to allocate memory", "out of memory"]
        .iter()
        .any(|phrase| words.contains(phrase))
}

fn unavailable(reason: &impl ToString) -> BundleError {
    BundleError::Probe { fault: ProbeFault::Unavailable, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn code(status: Option<i32>, said: &str, complained: &str) -> &'static str {
        let status = status.map(ExitStatus::from_raw);
        let ended = Ended { status, said: said.into(), complained: complained.into() };
        judge(&ended).err().map_or("ok", |err| err.code())
    }

    #[test]
    fn every_ending_has_its_code() {
        const ABORT: i32 = 6;
        const SEGMENT: i32 = 11;
        const CPU: i32 = 24;
        assert_eq!(code(Some(0), r#"{"code":null,"reason":""}"#, ""), "ok");
        assert_eq!(code(Some(0), r#"{"code":"golden","reason":"row 1"}"#, ""), "golden");
        assert_eq!(code(Some(0), r#"{"code":"run","reason":"std::bad_alloc"}"#, ""), "probe_memory");
        assert_eq!(code(Some(0), r#"{"code":"hello","reason":""}"#, ""), "probe_crashed");
        assert_eq!(code(Some(0), "", ""), "probe_crashed");
        assert_eq!(code(Some(1 << 8), "", "error: no"), "probe_crashed");
        assert_eq!(code(Some(SEGMENT), "", ""), "probe_crashed");
        assert_eq!(code(Some(ABORT), "", "memory allocation of 99 bytes failed"), "probe_memory");
        assert_eq!(code(Some(CPU), "", ""), "probe_timeout");
        assert_eq!(code(None, "", ""), "probe_timeout");
    }
}
