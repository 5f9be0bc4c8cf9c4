//! The binary: everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(unix)]
    keep_onnx_runtime_silent();
    scoreline::cli::run(std::env::args_os())
}

/// Starts the program over, in the same process, with ONNX Runtime's telemetry off.
///
/// The library listens to a variable only, before its first call, and a variable can be set safely only for a new
/// program. A variable that is already there stays as it is; where this fails, models that need the library are refused.
#[cfg(unix)]
fn keep_onnx_runtime_silent() {
    use std::os::unix::process::CommandExt;

    use scoreline::inference::runtime_search::TELEMETRY_VARIABLE;

    if scoreline::config::variable(TELEMETRY_VARIABLE).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(program);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // Comes back only when it failed.
    let _ = command.args(arguments).env(TELEMETRY_VARIABLE, "1").exec();
}
