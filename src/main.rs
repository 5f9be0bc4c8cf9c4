//! The binary: everything it does is in the library.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Official builds of ONNX Runtime send usage data unless this variable is set when they are loaded.
const TELEMETRY_OFF: &str = "ORT_DISABLE_TELEMETRY";

fn main() -> ExitCode {
    disable_runtime_telemetry();
    scoreline::cli::run(std::env::args_os())
}

/// A process cannot safely change its own environment, but it can start over with another one. Costs about a
/// millisecond, once; whoever sets the variable, to whatever, is left alone.
#[expect(clippy::disallowed_methods, reason = "before the configuration is read, and not part of it")]
fn disable_runtime_telemetry() {
    if std::env::var_os(TELEMETRY_OFF).is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| program.clone().into_os_string());
        // Only comes back when it fails; then everything but the `onnx` backend works, and that one says why not.
        let _failed = Command::new(program).arg0(name).args(arguments).env(TELEMETRY_OFF, "1").exec();
    }
}
