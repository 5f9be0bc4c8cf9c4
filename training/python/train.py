#!/usr/bin/env python3
"""Trains a customer-value model with LightGBM, XGBoost or scikit-learn and writes it for scoreline.

The table comes from the program, which owns the features, the outcome and the split:

    scoreline features export --as-of 2026-01-01 --output features.csv
    python training/python/train.py --learner lightgbm-tweedie --features features.csv --output model.onnx

The model is fitted on the rows of split `fit` only, judged on split `test`, and compared, row by row, with what ONNX
Runtime makes of the exported file. Columns that hold nothing in the fit rows are left out. The learners `lightgbm` and
`xgboost` are also written as their library does it, to a name that ends in `.txt` or `.json`: nothing is exported, so
that nothing is lost. The model's own predictions go into a CSV beside it. The last lines are the command
that compares the bundle with them, calibrates it and publishes it.
"""

import argparse
import json
import os
import shlex
import sys
import warnings

# Both have to be set before the libraries are loaded. ONNX Runtime sends usage data unless told not to; skl2onnx lists
# things in hash order, and a file that differs from run to run has another digest.
if os.environ.get("PYTHONHASHSEED") != "0" and __name__ == "__main__":
    os.environ.update(PYTHONHASHSEED="0", ORT_DISABLE_TELEMETRY="1")
    os.execv(sys.executable, [sys.executable, *sys.argv])
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import lightgbm
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloat
from skl2onnx import convert_sklearn
from skl2onnx.common import _container as skl2onnx_container
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

TARGET = "spend_usd"
NOT_FEATURES = ["customer", "split", TARGET, "as_of", "horizon_days", "acquisition_channel", "segment"]
OPSET = {"": 17, "ai.onnx.ml": 3}
# A difference of the exported model that is listed, relative to the prediction (or to a dollar, for smaller ones).
TOLERANCE = 1e-4
# A row beside a split may take the other branch in single precision. More of them than this, and the export is wrong.
LARGEST_SHARE_OVER = 0.01

# Where a library writes a model itself, by the ending of the name.
NATIVE = {".txt": "lightgbm", ".json": "xgboost"}

# learner: what it is, and the backend of scoreline that runs it
LEARNERS = {
    "lightgbm-tweedie": ("boosted trees for spend with many zeros (Tweedie, log link, total corrected)", "trees"),
    "lightgbm-hurdle": ("boosted trees, chance of any spend times what buyers spend (total corrected)", "trees"),
    "lightgbm": ("boosted trees, squared error", "trees"),
    "xgboost": ("boosted trees, squared error", "trees"),
    "sklearn-rf": ("random forest", "trees"),
    "sklearn-gbdt": ("gradient boosting, squared error", "trees"),
    "sklearn-hist": ("histogram gradient boosting, squared error", "trees"),
    "sklearn-linear": ("ridge regression on standardised features", "linear"),
    "sklearn-mlp": ("small neural network; needs ONNX Runtime to serve", "onnx"),
}


def main(arguments=None):
    args = parser().parse_args(arguments)
    table = read(args.features)
    native = os.path.splitext(args.output)[1]
    if NATIVE.get(native, args.learner) != args.learner:
        sys.exit(f"a name that ends in {native} is for the learner {NATIVE[native]}; {args.learner} is written as .onnx")
    fit, test = table[table["split"] == "fit"], table[table["split"] == "test"]
    features = [column for column in table.columns if column not in NOT_FEATURES]
    empty = [column for column in features if not fit[column].notna().any()]
    features = [column for column in features if column not in empty]
    if empty:
        print(f"left out, because no fit row has a value: {', '.join(empty)}")

    model = fitted(args.learner, fit[features].to_numpy(float), fit[TARGET].to_numpy(float), args.seed)
    x, y = test[features].to_numpy(float), test[TARGET].to_numpy(float)
    predicted = model.predict(x)
    print(f"{args.learner}: fitted on {len(fit):,} customers, {len(features)} features; judged on {len(test):,} others")
    for name, number in metrics(y, predicted).items():
        print(f"  {name:<16} {number:10.4f}")

    predictions = os.path.splitext(args.output)[0] + ".predictions.csv"
    asked = table[features].to_numpy(float)
    keys = [key for key in ("customer", "as_of") if key in table.columns]
    beside = table[keys].assign(prediction=model.predict(asked))
    beside.to_csv(predictions, index=False)
    if native in NATIVE:
        save_native(model, features, args.output)
        print(f"\n{args.output}: {os.path.getsize(args.output):,} bytes. Next:\n\n{pack_command(args, table, features, predictions)}")
        return 0
    exported = export(args.learner, model, features, args.seed)
    with open(args.output, "wb") as file:
        file.write(exported.SerializeToString(deterministic=True))
    served = answers(args.output, x)
    if not compare(test["customer"].to_numpy(), predicted, served):
        print(f"{args.output} does not answer as the model it was made of; do not serve it", file=sys.stderr)
        return 1
    print(f"\n{args.output}: {os.path.getsize(args.output):,} bytes. Next:\n\n{pack_command(args, table, features, predictions)}")
    return 0


def parser():
    learners = "\n".join(f"  {name:<17} {what}" for name, (what, _) in LEARNERS.items())
    made = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"learners:\n{learners}\n\nA run with the same seed, table and package versions writes the same file.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--learner", required=True, choices=LEARNERS, metavar="NAME", help="which model (see below)")
    made.add_argument("--features", required=True, metavar="CSV", help="table written by `scoreline features export`")
    made.add_argument("--output", required=True, metavar="FILE", help="where to write the model: .onnx, or .txt (lightgbm) and .json (xgboost)")
    made.add_argument("--seed", type=int, default=42, metavar="N", help="decides everything random (default: 42)")
    made.add_argument("--name", metavar="NAME", help="bundle name in the last command (default: from the table)")
    made.add_argument("--version", default="v2.0", metavar="VERSION", help="its version there (default: v2.0)")
    return made


def read(path):
    """The table; a message that names the column when it is not one."""
    try:
        table = pd.read_csv(path)
    except (OSError, pd.errors.ParserError) as problem:
        sys.exit(f"{path} cannot be read: {problem}")
    missing = [column for column in NOT_FEATURES[:3] if column not in table.columns]
    if missing:
        sys.exit(f"{path} has no column {', '.join(missing)}; make it with `scoreline features export`")
    for split in ("fit", "test"):
        if not (table["split"] == split).any():
            sys.exit(f"{path} has no rows of split `{split}`")
    return table


def fitted(learner, x, y, seed):
    """The learner, fitted. Every model reads the raw features; a missing value is NaN."""
    boosting = {"n_estimators": 150, "learning_rate": 0.05, "random_state": seed, "n_jobs": 1}
    leaves = {"num_leaves": 15, "min_child_samples": 50, "deterministic": True, "force_row_wise": True, "verbose": -1}
    impute = SimpleImputer()
    if learner == "lightgbm-tweedie":
        tweedie = {"objective": "tweedie", "tweedie_variance_power": 1.1, **boosting, **leaves}
        return Balanced(lambda: lightgbm.LGBMRegressor(**tweedie), seed).fit(x, y)
    elif learner == "lightgbm-hurdle":
        return Balanced(lambda: Hurdle({**boosting, **leaves}), seed).fit(x, y)
    elif learner == "lightgbm":
        model = lightgbm.LGBMRegressor(**boosting, **leaves)
    elif learner == "xgboost":
        model = xgboost.XGBRegressor(max_depth=4, min_child_weight=50, tree_method="exact", **boosting)
    elif learner == "sklearn-rf":
        model = make_pipeline(impute, RandomForestRegressor(200, min_samples_leaf=20, random_state=seed))
    elif learner == "sklearn-gbdt":
        model = make_pipeline(
            impute,
            GradientBoostingRegressor(
                n_estimators=150, learning_rate=0.05, max_depth=4, min_samples_leaf=50, random_state=seed
            ),
        )
    elif learner == "sklearn-hist":
        # Missing values are read as they are.
        model = HistGradientBoostingRegressor(
            max_iter=150, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=50, early_stopping=False, random_state=seed
        )
    elif learner == "sklearn-linear":
        model = make_pipeline(impute, StandardScaler(), Ridge(1.0))
    else:
        network = MLPRegressor(hidden_layer_sizes=(32, 16), alpha=1.0, max_iter=60, tol=0.0, random_state=seed)
        # Amounts have long tails; the power transform (Yeo-Johnson) is one that ONNX can express.
        model = make_pipeline(impute, PowerTransformer(), network)
    with warnings.catch_warnings():
        # The network stops after a fixed number of rounds on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(x, y)


class Balanced:
    """A model whose predictions are multiplied so that their total is right.

    Boosting through a log link predicts too little in total. The factor comes from rows that were held out of fits of
    their own, because on its own rows a model is less wrong than on others.
    """

    def __init__(self, make, seed):
        self.make, self.seed = make, seed

    def fit(self, x, y):
        held_out = np.empty_like(y)
        for rows, others in KFold(5, shuffle=True, random_state=self.seed).split(x):
            held_out[others] = self.make().fit(x[rows], y[rows]).predict(x[others])
        self.factor = y.sum() / held_out.sum()
        self.model = self.make().fit(x, y)
        return self

    def predict(self, x):
        return self.model.predict(x) * self.factor


class Hurdle:
    """Chance of any spend times e^(mean of ln(spend) of those who spend); `Balanced` supplies what e^mean lacks."""

    def __init__(self, settings):
        self.purchase = lightgbm.LGBMClassifier(**settings)
        self.spend = lightgbm.LGBMRegressor(**settings)

    def fit(self, x, y):
        self.purchase.fit(x, (y > 0).astype(int))
        self.spend.fit(x[y > 0], np.log(y[y > 0]))
        return self

    def predict(self, x):
        return self.purchase.predict_proba(x)[:, 1] * np.exp(self.spend.predict(x))


def convert_hurdle(hurdle, initial_types):
    """Both parts in one graph: features -> chance and mean logarithm -> `variable`."""
    chance = convert_lightgbm(hurdle.purchase, initial_types=initial_types, target_opset=15, zipmap=False)
    spend = convert_lightgbm(hurdle.spend, initial_types=initial_types, target_opset=15)
    parts = [
        onnx.compose.add_prefix(part, prefix, rename_inputs=False)
        for part, prefix in ((chance, "chance_"), (spend, "spend_"))
    ]
    nodes = [node for part in parts for node in part.graph.node]
    nodes.append(onnx.helper.make_node("Gather", ["chance_probabilities", "second"], ["chance"], axis=1))
    nodes.append(onnx.helper.make_node("Exp", ["spend_variable"], ["spend"]))
    nodes.append(onnx.helper.make_node("Mul", ["chance", "spend"], ["variable"]))
    constants = [constant for part in parts for constant in part.graph.initializer]
    constants.append(onnx.helper.make_tensor("second", onnx.TensorProto.INT64, [1], [1]))
    graph = onnx.helper.make_graph(nodes, "hurdle", spend.graph.input, spend.graph.output, constants)
    imports = sorted((opset for part in parts for opset in part.opset_import), key=lambda opset: opset.version)
    opsets = {opset.domain: opset for opset in imports}
    made = onnx.helper.make_model(graph, opset_imports=list(opsets.values()))
    made.ir_version = max(part.ir_version for part in parts)
    return made


def scale_output(made, factor):
    """Puts `Balanced`'s factor behind the graph."""
    last = next(node for node in made.graph.node if "variable" in node.output)
    last.output[list(last.output).index("variable")] = "unbalanced"
    made.graph.initializer.append(onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [1], [factor]))
    made.graph.node.append(onnx.helper.make_node("Mul", ["unbalanced", "factor"], ["variable"]))


def export(learner, model, features, seed):
    """The model as ONNX: one input `features` [N, F] in single precision, one output `variable`."""
    width = len(features)
    if learner.startswith("lightgbm"):
        booster = model.model if isinstance(model, Balanced) else model
        inputs = [("features", ToolsFloat([None, width]))]
        if isinstance(booster, Hurdle):
            made = convert_hurdle(booster, inputs)
        else:
            made = convert_lightgbm(booster, initial_types=inputs, target_opset=15)
    elif learner == "xgboost":
        made = convert_xgboost(model, initial_types=[("features", ToolsFloat([None, width]))], target_opset=15)
    else:
        take_plain_integers()
        made = convert_sklearn(model, initial_types=[("features", FloatTensorType([None, width]))], target_opset=OPSET)
    if isinstance(model, Balanced):
        scale_output(made, model.factor)
    made.graph.name = learner
    onnx.helper.set_model_props(made, {"features": json.dumps(features), "learner": learner, "seed": str(seed)})
    return made


def take_plain_integers():
    """Lets skl2onnx 1.20 export HistGradientBoosting*: it hands numpy's unsigned integers to onnx, which no longer takes them."""

    def plain(value):
        if isinstance(value, (list, np.ndarray)) and len(value) and isinstance(value[0], np.integer):
            return [int(number) for number in value]
        return value

    if not hasattr(skl2onnx_container.make_node, "plain"):
        original = skl2onnx_container.make_node

        def make_node(*args, **attributes):
            return original(*args, **{name: plain(value) for name, value in attributes.items()})

        make_node.plain = True
        skl2onnx_container.make_node = make_node


def save_native(model, features, path):
    """Writes the model as its library does, with the names of its columns."""
    booster = model.booster_ if hasattr(model, "booster_") else model.get_booster()
    if isinstance(booster, xgboost.Booster):
        booster.feature_names = features
        booster.save_model(path)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(named(booster.model_to_string(), features))


def named(text, features):
    """LightGBM's text with these names of its columns instead of those it made up."""
    lines = text.split("\n")
    at = next(at for at, line in enumerate(lines) if line.startswith("feature_names="))
    lines[at] = "feature_names=" + " ".join(features)
    return "\n".join(lines)


def answers(path, x):
    """What ONNX Runtime answers for rows of doubles."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["variable"], {"features": x.astype(np.float32)})[0].astype(float).ravel()


def compare(customers, original, served):
    """Prints how far the exported model is from the original in double precision; whether that is close enough."""
    difference = np.abs(served - original) / np.maximum(np.abs(original), 1.0)
    over = np.flatnonzero(~(difference <= TOLERANCE))
    largest = f"largest relative difference {difference.max():.1e}"
    print(f"  exported: {largest}, {len(over)} of {len(original)} rows over {TOLERANCE}")
    for row in over[:10]:
        print(f"    customer {customers[row]}: {original[row]:.6g} became {served[row]:.6g}")
    return len(over) <= LARGEST_SHARE_OVER * len(original)


def pack_command(args, table, features, predictions):
    interactions = "frequency_count" in features
    command = ["scoreline", "models", "pack", "--model", args.output]
    command += ["--features", args.features, "--check", predictions, "--name", args.name or ("clv" if interactions else "clv-purchases")]
    command += ["--version", args.version, "--missing-to-model"]
    command += ["--description", f"{LEARNERS[args.learner][0]}, trained by train.py"]
    # Who bought has a history, with or without conversations.
    if "purchase_count" not in features:
        command += ["--group-by", "frequency_count", "--cold-start-feature", "frequency_count"]
    # The table of `scoreline-training features clv` has no times, and no real conversations.
    if interactions and "as_of" not in table.columns:
        command += ["--synthetic", "interactions are simulated"]
    return shlex.join(command)


def metrics(actual, predicted):
    """As the Rust trainer computes them (src/packing/metrics.rs)."""
    return {
        "normalised Gini": normalized_gini(actual, predicted),
        "total error": predicted.sum() / actual.sum() - 1.0,
        "decile error": decile_error(actual, predicted),
        "RMSE": np.sqrt(np.mean((actual - predicted) ** 2)),
        "Spearman": pd.Series(actual).corr(pd.Series(predicted), method="spearman"),
    }


def normalized_gini(actual, predicted):
    """Gini of the predicted order over that of the perfect order; tied predictions share their mean outcome."""
    shared = pd.Series(actual).groupby(predicted).transform("mean").to_numpy()
    return gini(shared[np.argsort(-predicted, kind="stable")]) / gini(np.sort(actual)[::-1])


def gini(gains):
    return 2.0 * np.mean(np.cumsum(gains) / gains.sum()) - 1.0


def decile_error(actual, predicted):
    """Mean gap of predicted and actual decile means, deciles by prediction, over the overall mean."""
    order = np.argsort(predicted, kind="stable")
    edges = [k * len(order) // 10 for k in range(11)]
    deciles = [order[a:b] for a, b in zip(edges, edges[1:]) if b > a]
    return np.mean([abs(predicted[rows].mean() - actual[rows].mean()) for rows in deciles]) / actual.mean()


if __name__ == "__main__":
    sys.exit(main())
