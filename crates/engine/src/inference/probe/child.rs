//! The child's side: limits itself, then does everything a load does.

use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitStatus;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};

use super::{LIMIT, ProbeTask, ProbeVerdict};
use crate::inference::bundle::{BundleError, BundleFiles, LoadSettings, ModelSnapshot};
use crate::inference::registry::Verify;
use crate::inference::warm::warm;

/// Manifest, golden rows and settings.
const MOST_TASK_BYTES: u64 = 64 << 20;
/// Address space: ONNX Runtime and the allocator's reserves, and several times the model.
const ADDRESS_SPACE: u64 = 2 << 30;
const TIMES_MODEL: u64 = 8;

/// Reads a bundle from `input`, tries it and says how it went. For a process that does nothing else: its limits stay.
pub fn answer(input: impl Read, verify: Verify) -> ProbeVerdict {
    let tried = catch_unwind(AssertUnwindSafe(|| attempt(input, verify)));
    match tried {
        Ok(Ok(())) => ProbeVerdict { code: None, reason: String::new() },
        Ok(Err(err)) => ProbeVerdict { code: Some(err.code().to_owned()), reason: err.to_string() },
        Err(_) => ProbeVerdict { code: Some("panicked".to_owned()), reason: "the child process panicked".to_owned() },
    }
}

fn attempt(mut input: impl Read, verify: Verify) -> Result<(), BundleError> {
    let unread = |err: io::Error| BundleError::Text { path: "standard input".into(), reason: err.to_string() };
    let mut sizes = [0; 16];
    input.read_exact(&mut sizes).map_err(unread)?;
    let [task, model] = [&sizes[..8], &sizes[8..]].map(|size| u64::from_le_bytes(size.try_into().unwrap_or_default()));
    limit(model).map_err(unread)?;
    let task = read(&mut input, task.min(MOST_TASK_BYTES)).map_err(unread)?;
    let model = read(&mut input, model).map_err(unread)?;
    let wrong = |reason: String| BundleError::Text { path: "standard input".into(), reason };
    let ProbeTask { manifest, golden, runtime, control_flow, tiers } =
        serde_json::from_slice(&task).map_err(|err| wrong(err.to_string()))?;
    let manifest = toml::from_str(&manifest).map_err(|err| wrong(err.to_string()))?;
    let settings = LoadSettings { runtime, onnx_threads: 1, onnx_queue: 1, control_flow, tiers };
    let snapshot = ModelSnapshot::build(BundleFiles::from_parts(manifest, model, golden)?, &settings)?;
    verify(&snapshot)?;
    warm(&snapshot)
}

fn read(input: &mut impl Read, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(size as usize);
    input.take(size).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Memory, processor time, no core file, no byte written to a file; the end of the parent is the end of the child.
fn limit(model: u64) -> io::Result<()> {
    let seconds = LIMIT.as_secs();
    let memory = ADDRESS_SPACE.saturating_add(model.saturating_mul(TIMES_MODEL));
    for (resource, most) in
        [(Resource::As, memory), (Resource::Cpu, seconds), (Resource::Core, 0), (Resource::Fsize, 0)]
    {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Whether the system ended a child because of its processor time: at the hard limit it does not ask any more.
pub(super) fn used_up_its_time(status: ExitStatus) -> bool {
    let signals = [Signal::XCPU, Signal::KILL].map(Signal::as_raw);
    status.signal().is_some_and(|signal| signals.contains(&signal))
}
