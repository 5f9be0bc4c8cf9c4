"""Trains a model on the table that `scoreline-training features` writes and exports it to ONNX.

The table is made by the code that serves, so nothing is computed twice. This program fits on the customers of split
`fit`, reports on those of `test`, compares the ONNX file with the original, and prints the command that calibrates the
model on split `calibration` and packs it into a bundle.

    cargo run -p scoreline-training -- features clv-purchases --output features.csv
    python training/python/train.py --features features.csv --learner lightgbm-tweedie --output model.onnx
"""

import argparse
import sys

import lightgbm
import numpy
import onnxmltools
import onnxruntime
import pandas
import skl2onnx
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as ToolsTensor
from scipy.stats import spearmanr
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

NOT_FEATURES = ["customer", "split", "spend_usd", "acquisition_channel", "segment"]
OPSET = 15

# Learner -> (backend that serves it, whether it reads missing values itself, estimator for a seed).
LEARNERS = {
    "lightgbm": ("trees", True, lambda seed: boosted(lightgbm.LGBMRegressor, seed)),
    "lightgbm-tweedie": (
        "trees",
        True,
        lambda seed: boosted(lightgbm.LGBMRegressor, seed, objective="tweedie", tweedie_variance_power=1.5),
    ),
    "xgboost": (
        "trees",
        True,
        lambda seed: xgboost.XGBRegressor(n_estimators=150, max_depth=4, learning_rate=0.05, n_jobs=1, random_state=seed),
    ),
    "sklearn-rf": (
        "trees",
        False,
        lambda seed: make_pipeline(
            SimpleImputer(),
            RandomForestRegressor(n_estimators=100, min_samples_leaf=40, n_jobs=-1, random_state=seed),
        ),
    ),
    "sklearn-gbdt": (
        "trees",
        False,
        lambda seed: make_pipeline(
            SimpleImputer(), GradientBoostingRegressor(n_estimators=120, learning_rate=0.05, random_state=seed)
        ),
    ),
    "sklearn-linear": (
        "linear",
        False,
        lambda seed: make_pipeline(SimpleImputer(), StandardScaler(), ElasticNet(alpha=0.1, random_state=seed)),
    ),
    "sklearn-mlp": (
        "onnx",
        False,
        lambda seed: make_pipeline(
            SimpleImputer(),
            StandardScaler(),
            MLPRegressor(hidden_layer_sizes=(32, 16), alpha=1.0, early_stopping=True, max_iter=200, random_state=seed),
        ),
    ),
}


def boosted(estimator, seed, **options):
    return estimator(
        n_estimators=150,
        num_leaves=15,
        learning_rate=0.04,
        min_child_samples=40,
        deterministic=True,
        n_jobs=1,
        random_state=seed,
        verbose=-1,
        **options,
    )


def export(learner, model, features):
    """The model as ONNX bytes with one [N, features] float input."""
    if learner.startswith("lightgbm"):
        graph = onnxmltools.convert_lightgbm(
            model, initial_types=[("features", ToolsTensor([None, features]))], target_opset=OPSET
        )
    elif learner == "xgboost":
        graph = onnxmltools.convert_xgboost(
            model, initial_types=[("features", ToolsTensor([None, features]))], target_opset=OPSET
        )
    else:
        graph = skl2onnx.to_onnx(
            model, initial_types=[("features", FloatTensorType([None, features]))], target_opset=OPSET
        )
    return graph.SerializeToString()


def train(learner, table, seed):
    """Fits on split `fit`. Returns the estimator, the ONNX bytes and its predictions for split `test`."""
    _, _, make = LEARNERS[learner]
    names = [name for name in table.columns if name not in NOT_FEATURES]
    values = table[names].to_numpy(dtype=numpy.float32)
    fit, test = (table["split"] == split for split in ("fit", "test"))
    model = make(seed)
    model.fit(values[fit], table.loc[fit, "spend_usd"].to_numpy())
    return model, export(learner, model, len(names)), numpy.ravel(model.predict(values[test])).astype(float)


def run_onnx(onnx, table):
    """What ONNX Runtime answers for split `test`, and the name of the output."""
    names = [name for name in table.columns if name not in NOT_FEATURES]
    values = table.loc[table["split"] == "test", names].to_numpy(dtype=numpy.float32)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    return numpy.ravel(session.run([output], {session.get_inputs()[0].name: values})[0]).astype(float), output


def relative_difference(left, right):
    """Difference of each pair over the larger of the two and one cent."""
    return numpy.abs(left - right) / numpy.maximum(numpy.maximum(numpy.abs(left), numpy.abs(right)), 0.01)


def normalized_gini(spend, predicted):
    """Area under the gain curve over the perfect one's; ties share their rank (google/lifetime_value)."""

    def gain(order):
        frame = pandas.DataFrame({"order": order, "spend": spend})
        frame["spend"] = frame.groupby("order")["spend"].transform("mean")
        sorted_spend = frame.sort_values("order", ascending=False)["spend"].to_numpy()
        return (sorted_spend.cumsum() / sorted_spend.sum()).mean() - 0.5

    return gain(predicted) / gain(spend)


def decile_error(spend, predicted):
    """Mean |predicted - true| of decile means over the overall mean."""
    deciles = numpy.array_split(numpy.argsort(predicted, kind="stable"), 10)
    errors = [abs(predicted[decile].mean() - spend[decile].mean()) for decile in deciles]
    return numpy.mean(errors) / spend.mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", required=True, help="table written by `scoreline-training features`")
    parser.add_argument("--learner", required=True, choices=sorted(LEARNERS), help="what to fit")
    parser.add_argument("--output", required=True, help="ONNX file to write")
    parser.add_argument("--seed", type=int, default=42, help="the same seed gives the same model (default: 42)")
    arguments = parser.parse_args()

    table = pandas.read_csv(arguments.features)
    missing = [name for name in ["split", "spend_usd"] if name not in table.columns]
    if missing:
        parser.error(f"{arguments.features} has no column {', '.join(missing)}: is it a table of `features`?")
    _, onnx, predicted = train(arguments.learner, table, arguments.seed)
    with open(arguments.output, "wb") as file:
        file.write(onnx)

    spend = table.loc[table["split"] == "test", "spend_usd"].to_numpy()
    print(f"{arguments.learner}: {len(spend)} test customers, {len(onnx) / 1024:.0f} KiB of ONNX")
    print(f"  normalized gini  {normalized_gini(spend, predicted):.3f}")
    print(f"  total error      {predicted.sum() / spend.sum() - 1:+.1%}")
    print(f"  decile error     {decile_error(spend, predicted):.1%}")
    print(f"  rmse             {numpy.sqrt(numpy.mean((predicted - spend) ** 2)):.1f} USD")
    print(f"  spearman         {spearmanr(predicted, spend).statistic:.3f}")

    # The graph computes in float32 and the learner may not: a row beside a split can fall to its other side.
    served, output = run_onnx(onnx, table)
    difference = relative_difference(served, predicted)
    over = numpy.flatnonzero(difference > 1e-4)
    print(f"  ONNX against the original: largest relative difference {difference.max():.1e}, {len(over)} rows over 1e-4")
    for row in over[:10]:
        print(f"    test row {row}: {predicted[row]:.4f} became {served[row]:.4f}")

    backend, missing_to_model, _ = LEARNERS[arguments.learner]
    handles_missing = " --missing-to-model" if missing_to_model or arguments.learner.startswith("sklearn") else ""
    print("\nCalibrate and pack it with:")
    print(
        f"  cargo run -p scoreline-training -- pack --model {arguments.output} --features {arguments.features} "
        f"--name clv-purchases --version v2.0 --backend {backend} --output value={output} "
        f"--required recency_days,purchase_count{handles_missing}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
