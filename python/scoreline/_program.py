"""The program: where it is, how it is run, and its errors as exceptions."""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig

PROGRAM = "scoreline.exe" if os.name == "nt" else "scoreline"
GET_IT = (
    "install the wheel (`pip install scoreline`), or name a program that was built from the sources: "
    "`SCORELINE_BINARY=/path/to/scoreline`"
)


class ScorelineError(Exception):
    """What the program said when it refused. ``code`` is its exit code, 64 for arguments and settings."""

    def __init__(self, message, code=None):
        super().__init__(message)
        self.message, self.code = message, code

    def __reduce__(self):
        return type(self), (self.message, self.code)


def program():
    """The path of the program: ``SCORELINE_BINARY``, else beside this module, in this environment, on ``PATH``."""
    named = os.environ.get("SCORELINE_BINARY")
    if named:
        if not os.access(named, os.X_OK) or os.path.isdir(named):
            raise ScorelineError(f"`SCORELINE_BINARY` must name a program that can be run, `{named}` is none")
        return os.path.abspath(named)
    beside = (pathlib.Path(__file__).parent, sysconfig.get_path("scripts"), pathlib.Path(sys.executable).parent)
    for folder in beside:
        found = os.path.join(folder, PROGRAM)
        if os.access(found, os.X_OK) and os.path.isfile(found):
            return found
    found = shutil.which(PROGRAM)
    if found:
        return found
    raise ScorelineError(f"the program `scoreline` is not installed: {GET_IT}")


def environment(models=None):
    """The environment of a run: this one, with the models folder and, where it is installed, ONNX Runtime."""
    env = dict(os.environ)
    if models is not None:
        env["SCORELINE__MODELS__DIR"] = os.path.abspath(models)
    if not env.get("ORT_DYLIB_PATH"):
        spec = importlib.util.find_spec("onnxruntime")
        folders = (spec.submodule_search_locations or []) if spec else []
        for folder in folders:
            found = sorted((pathlib.Path(folder) / "capi").glob("libonnxruntime.*"))
            if found:
                env["ORT_DYLIB_PATH"] = str(found[0])
                break
    return env


def told(text):
    """The message in what a run wrote to stderr: its last error, else all of it."""
    text = text.strip()
    return text.rpartition("error: ")[2].strip() or text


def run(arguments, models=None):
    """Runs the program to its end; its standard output.

    Raises ``ScorelineError`` with its message when it fails.
    """
    ended = subprocess.run(
        [program(), *arguments],
        env=environment(models),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    if ended.returncode != 0:
        said = told(ended.stderr) or ended.stdout.strip() or f"the program ended with {ended.returncode}"
        raise ScorelineError(said, ended.returncode)
    return ended.stdout
