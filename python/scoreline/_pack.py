"""A fitted model as a bundle: converted, compared with its own library, calibrated on customers it never saw, verified.

The program does what can go wrong in numbers (``scoreline models pack``). Here the table is made that it reads, and its refusals
are said in the terms of the caller's own data.
"""

import dataclasses
import pathlib
import re
import tempfile

import numpy as np

from ._convert import convert, predictions
from ._job import identity
from ._program import ScorelineError, run

# Columns of the table that are no features.
TAKEN = ("customer", "as_of", "split", "horizon_days", "spend_usd", "acquisition_channel", "segment")
COUNTS = ("purchase_count", "frequency_count")
WORST = re.compile(r"^ {2}customer (\w+): the library predicts (\S+), the bundle answers (\S+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle in a models folder. In a notebook it shows its report."""

    path: str
    report: str = ""
    report_html: str = ""

    @property
    def name(self):
        return identity(pathlib.Path(self.path))[0]

    @property
    def version(self):
        return identity(pathlib.Path(self.path))[1]

    def __fspath__(self):
        return self.path

    def _repr_html_(self):
        return self.report_html


def pack(
    model,
    X_cal,
    y_cal,
    *,
    X_train,
    y_train,
    name,
    version,
    horizon_days,
    out="models",
    channel=None,
    segment=None,
    group_by=None,
    group_starts=None,
    cold_start_feature=None,
    required=(),
    outputs=None,
    allow=None,
    accept=None,
    description="",
    data="",
    licence="",
    force=False,
):
    """Makes a bundle of a model of customer value and puts it into the models folder ``out``.

    ``model`` is a fitted regressor of LightGBM, XGBoost, CatBoost, scikit-learn or PyTorch, or the path of a file that
    ``scoreline models pack`` takes. ``X_cal`` are DataFrames of customers that the model has not seen, with the model's
    columns, and ``y_cal`` their spend in the next ``horizon_days``: one half calibrates, the other measures. ``X_train`` and
    ``y_train`` fitted it: they say what the features look like, and that the others are not among them.

    Refused are a bundle that answers otherwise than the library predicts (more than 1 % of the rows by more than 1e-4), customers
    that fitted the model, columns that look like leaks, figures that make no sense; ``accept`` and ``allow`` take reasons,
    except for the first.

    ``channel`` and ``segment`` of the customers of ``X_cal`` make baselines. ``group_by`` picks the groups of calibration, which
    begin at ``group_starts``; a customer with 0 of ``cold_start_feature`` has no history. ``outputs`` says which output of
    the model means what, as in ``{"value": "variable"}``.
    """
    X_cal, X_train = _frame(X_cal, "X_cal"), _frame(X_train, "X_train")
    if list(X_cal.columns) != list(X_train.columns):
        raise ScorelineError(
            f"`X_cal` and `X_train` must have the same columns, got {list(X_cal.columns)} and {list(X_train.columns)}"
        )
    taken = [str(column) for column in X_cal.columns if column in TAKEN]
    if taken:
        raise ScorelineError(
            f"a feature cannot be called `{taken[0]}`, which is another column of the table: rename it"
        )
    count = next((feature for feature in COUNTS if feature in X_cal.columns), None)
    group_by, cold_start_feature = group_by or count, cold_start_feature or count
    for argument, feature in (("group_by", group_by), ("cold_start_feature", cold_start_feature)):
        if feature not in X_cal.columns:
            columns = "`, `".join(map(str, X_cal.columns))
            raise ScorelineError(
                f"`{argument}` must name a feature that counts what a customer did, one of `{columns}`, got `{feature}`"
            )
    with tempfile.TemporaryDirectory(prefix="scoreline-") as folder:
        folder = pathlib.Path(folder)
        path, options = convert(model, X_cal, folder)
        said = predictions(model, X_cal)
        parts = (
            _part(X_train, y_train, "y_train", "fit", ["fit"]),
            _part(X_cal, y_cal, "y_cal", "cal", ["calibration", "test"], channel, segment),
        )
        _write(parts, folder / "customers.csv")
        arguments = ["models", "pack", "--model", str(path), "--features", str(folder / "customers.csv")]
        arguments += ["--name", name, "--version", version, "--horizon-days", str(horizon_days), "--missing-to-model"]
        arguments += ["--group-by", group_by, "--cold-start-feature", cold_start_feature]
        arguments += ["--models", str(out), "--report", str(folder / "report.html"), *options]
        if group_starts is not None:
            arguments += ["--group-starts", ",".join(map(str, group_starts))]
        if required:
            arguments += ["--required", ",".join(required)]
        for flag, pairs in (("--map", outputs), ("--allow", allow)):
            arguments += [text for pair in (pairs or {}).items() for text in (flag, "=".join(pair))]
        for flag, text in (
            ("--accept", accept),
            ("--description", description),
            ("--data", data),
            ("--licence", licence),
        ):
            arguments += [flag, text] if text else []
        arguments += ["--force"] if force else []
        if said is not None:
            _check(said, folder / "predictions.csv")
            arguments += ["--check", str(folder / "predictions.csv")]
        pathlib.Path(out).mkdir(parents=True, exist_ok=True)
        try:
            report = run(arguments)
        except ScorelineError as refused:
            raise _explained(refused, model, X_cal, folder) from None
        html = (folder / "report.html").read_text(encoding="utf-8")
    report = "\n".join(line for line in report.splitlines() if not line.startswith("report: ")).strip()
    return Bundle(str(pathlib.Path(out).resolve() / name / version), _named(report, folder), html)


def _frame(given, argument):
    if type(given).__module__.partition(".")[0] == "polars":
        given = given.to_pandas()
    if not hasattr(given, "columns") or not hasattr(given, "iloc"):
        raise ScorelineError(f"`{argument}` must be a DataFrame: features are found by the names of their columns")
    return given


def _part(X, y, argument, mark, splits, channel=None, segment=None):
    y = np.asarray(y, dtype=np.float64).reshape(-1)
    if len(y) != len(X):
        raise ScorelineError(f"`{argument}` must have {len(X)} amounts, one for each row, got {len(y)}")
    if not np.isfinite(y).all():
        raise ScorelineError(f"`{argument}` must be finite amounts: row {int(np.argmin(np.isfinite(y)))} is none")
    part = X.reset_index(drop=True)
    for at, column in enumerate(part.columns):
        if part.dtypes.iloc[at].kind == "b":
            part[column] = part[column].astype(np.float64)
    # A draw, not the order of the rows, which may mean something. The same every time.
    split = np.array(splits)[np.random.default_rng(20261130).permutation(len(part)) % len(splits)]
    part.insert(0, "customer", [f"{mark}{at}" for at in range(len(part))])
    part.insert(1, "split", split)
    part["spend_usd"] = y
    for label, values in (("acquisition_channel", channel), ("segment", segment)):
        part[label] = "" if values is None else np.asarray(values, dtype=object)
    return part


def _write(parts, path):
    """One table: texts in double quotes where they need them, numbers with all their digits, nothing for what is missing."""
    for at, part in enumerate(parts):
        part.to_csv(path, index=False, mode="a" if at else "w", header=at == 0)


def _check(said, path):
    with open(path, "w", encoding="utf-8") as file:
        file.write("customer,prediction\n")
        file.writelines(f"cal{at},{float(number)!r}\n" for at, number in enumerate(said))


def _named(text, folder):
    """A text of the program, with the caller's names for its files."""
    for name, argument in (("predictions.csv", "`model.predict(X_cal)`"), ("customers.csv", "the table")):
        text = text.replace(str(folder / name), argument)
    return text


def _explained(refused, model, frame, folder):
    """The refusal in terms of the caller's rows, with the features that lie beside a split."""

    def row(found):
        customer, library, bundle = found.groups()
        at = int(customer.removeprefix("cal"))
        beside = beside_a_split(model, frame.iloc[[at]])
        features = f"; beside a split: `{'`, `'.join(beside)}`" if beside else ""
        return f"  row {at} of `X_cal` ({frame.index[at]!r}): the library predicts {library}, the bundle answers {bundle}{features}"

    text = _named(WORST.sub(row, refused.message), folder)
    text = re.sub(r"`--([a-z-]+)`", lambda flag: f"`{flag[1].replace('-', '_')}`", text)
    text = re.sub(r"`--([a-z-]+) [^`]+`", lambda flag: f"`{flag[1].replace('-', '_')}=…`", text)
    return ScorelineError(text, refused.code)


def beside_a_split(model, row):
    """Features of a row whose last bits in single precision change what the library predicts."""
    try:
        before = predictions(model, row)
        if before is None:
            return []
        found = []
        for name in row.columns:
            value = row[name].iloc[0]
            if row[name].dtype.kind not in "iuf" or value != value:
                continue
            near = np.float32(value)
            for nudged in (near, np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf))):
                moved = predictions(model, row.assign(**{name: np.float64(nudged)}))
                if abs(moved - before)[0] > 1e-4 * max(abs(before)[0], 1.0):
                    found.append(str(name))
                    break
        return found
    except Exception:
        # It is told what is wrong already; more could not be found out.
        return []
