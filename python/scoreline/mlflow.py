"""Bundles as MLflow models: the flavour `pyfunc`, with a signature of the features and the answers.

>>> info = scoreline.mlflow.log_model(bundle)
>>> mlflow.pyfunc.load_model(info.model_uri).predict(df)
"""

import pathlib
import re

import mlflow.pyfunc
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from ._frames import score
from ._program import ScorelineError

ARTIFACT = "bundle"
REQUIREMENTS = ["scoreline", "pandas"]


class ScorelineModel(mlflow.pyfunc.PythonModel):
    """Scores tables with the bundle that was logged. What comes back are the answers alone, as MLflow has it."""

    def load_context(self, context):
        self.bundle = context.artifacts[ARTIFACT]

    def predict(self, context, model_input, params=None):
        scored = score(model_input, bundle=self.bundle)
        return scored.iloc[:, model_input.shape[1] :]


def log_model(bundle, name="model", **named):
    """Logs a bundle to the active run; other arguments are those of ``mlflow.pyfunc.log_model``."""
    return mlflow.pyfunc.log_model(name=name, **_arguments(bundle), **named)


def save_model(bundle, path, **named):
    """Writes a bundle as an MLflow model into a folder; other arguments are those of ``mlflow.pyfunc.save_model``."""
    return mlflow.pyfunc.save_model(path, **_arguments(bundle), **named)


def load_model(uri):
    """A logged model, to ask its `predict`."""
    return mlflow.pyfunc.load_model(str(uri))


def _arguments(bundle):
    path = pathlib.Path(bundle)
    if not (path / "bundle.toml").is_file():
        raise ScorelineError(f"a bundle's folder is needed, `{path}` has no `bundle.toml`")
    return {
        "python_model": ScorelineModel(),
        "artifacts": {ARTIFACT: str(path)},
        "signature": signature(path),
        "pip_requirements": REQUIREMENTS,
    }


def signature(bundle):
    """What a bundle reads, as its manifest has it, and what it answers."""
    manifest = (pathlib.Path(bundle) / "bundle.toml").read_text(encoding="utf-8")
    inputs, example = [], {}
    for table in re.split(r"(?m)^\[\[features\]\]$", manifest)[1:]:
        rule = re.split(r"(?m)^\[", table)[0]
        name = re.search(r'(?m)^name = "([^"]+)"', rule).group(1)
        text = re.search(r"(?m)^categories = ", rule) is not None
        required = re.search(r"(?m)^required = true$", rule) is not None
        inputs.append(ColSpec(DataType.string if text else DataType.double, name, required=required))
        example[name] = pd.Series(dtype=object if text else float)
    answers = score(pd.DataFrame(example), bundle=bundle).iloc[:, len(example) :]
    outputs = [
        ColSpec(DataType.double if kind == float else DataType.string, name, required=False)
        for name, kind in answers.dtypes.items()
    ]
    return ModelSignature(Schema(inputs), Schema(outputs))
