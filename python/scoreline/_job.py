"""What is scored with what: the arguments of a run, in a form that other processes can be sent."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import tempfile

from ._program import ScorelineError


@dataclasses.dataclass(frozen=True)
class Job:
    """A model, by its name in a models folder or by its bundle."""

    model: str | None = None
    version: str | None = None
    models: str | None = None
    bundle: str | None = None
    interval_level: float | None = None
    threads: int | None = None

    def __post_init__(self):
        if self.bundle is None:
            if self.models is not None and not os.path.isdir(self.models):
                raise ScorelineError(f"`models` must be a folder of models, `{self.models}` is none")
            return
        given = [name for name in ("model", "version", "models") if getattr(self, name) is not None]
        if given:
            raise ScorelineError(f"`bundle` says which model it is: leave out `{'`, `'.join(given)}`")
        if not os.path.exists(self.bundle):
            raise ScorelineError(f"`bundle` must be a bundle's folder or its lone file, `{self.bundle}` does not exist")

    @contextlib.contextmanager
    def place(self):
        """The arguments and the models folder of a run. A bundle is alone in a folder of its own for as long."""
        if self.bundle is None:
            yield self._arguments(self.model, self.version), self.models
            return
        path = pathlib.Path(self.bundle).resolve()
        name, version = identity(path)
        with tempfile.TemporaryDirectory(prefix="scoreline-") as folder:
            # A copy: the program follows no links that lead out of its models folder.
            place = pathlib.Path(folder) / name
            place.mkdir()
            if path.is_dir():
                shutil.copytree(path, place / version)
            else:
                shutil.copy(path, place / (version + path.suffix))
            yield self._arguments(name, version), folder

    def _arguments(self, model, version):
        named = {
            "--model": model,
            "--model-version": version,
            "--interval-level": self.interval_level,
            "--threads": self.threads,
        }
        return [text for name, value in named.items() if value is not None for text in (name, str(value))]


def job(model, version, models, bundle, interval_level=None, threads=None):
    """A job of arguments as users give them: paths become absolute, because workers have other folders."""
    bundle = getattr(bundle, "path", bundle)
    return Job(model, version, _absolute(models), _absolute(bundle), interval_level, threads)


def _absolute(path):
    return None if path is None else os.path.abspath(os.fspath(path))


def identity(path):
    """Name and version of a bundle: as its manifest says, of a lone file as its place says."""
    if path.is_dir():
        manifest = path / "bundle.toml"
        if not manifest.is_file():
            raise ScorelineError(f"`bundle` must have a `bundle.toml` in it, `{path}` has none")
        head = manifest.read_text(encoding="utf-8").partition("\n[")[0]
        found = {key: value for key, value in re.findall(r'^(name|version)\s*=\s*"([^"]*)"', head, re.MULTILINE)}
        if found.keys() != {"name", "version"}:
            raise ScorelineError(f"`{manifest}` must begin with `name` and `version`")
        return found["name"], found["version"]
    return path.parent.name, path.stem
