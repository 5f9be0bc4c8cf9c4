"""Models of each library as a file that the program runs, and what the library itself predicts."""

import difflib
import pathlib
import re

import numpy as np

from ._program import ScorelineError

OPSET = 15
# Estimators of scikit-learn that are exported as they are: the nearest is named where one is not.
EXPORTED = (
    "ElasticNet",
    "ExtraTreesRegressor",
    "GradientBoostingRegressor",
    "HistGradientBoostingRegressor",
    "Lasso",
    "LinearRegression",
    "MLPRegressor",
    "Pipeline",
    "PoissonRegressor",
    "RandomForestRegressor",
    "Ridge",
    "TweedieRegressor",
)


def convert(model, frame, folder):
    """Writes a model into a folder: its file, and options of ``models pack`` that it needs."""
    if isinstance(model, (str, pathlib.Path)):
        return pathlib.Path(model), []
    libraries = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    for library, write in WRITERS.items():
        if library in libraries:
            return write(model, frame, pathlib.Path(folder))
    raise _cannot(
        model, "it is of no library that is known", "a LightGBM, XGBoost, CatBoost, scikit-learn or PyTorch regressor"
    )


def predictions(model, frame):
    """What the library itself says of rows, in dollars."""
    if isinstance(model, (str, pathlib.Path)):
        return None
    libraries = {kind.__module__.partition(".")[0] for kind in type(model).__mro__}
    if "torch" in libraries:
        import torch

        model.eval()
        with torch.no_grad():
            said = model(torch.from_numpy(_numbers(model, frame))).numpy()
    elif "xgboost" in libraries and not hasattr(model, "get_booster"):
        import xgboost

        said = model.predict(xgboost.DMatrix(frame.to_numpy(np.float64), feature_names=model.feature_names))
    else:
        # As it was fitted: a model that knows no names warns of names.
        named = getattr(model, "feature_names_in_", None) is not None or "sklearn" not in libraries
        said = model.predict(frame if named else frame.to_numpy())
    said = np.asarray(said, dtype=np.float64)
    if said.size != len(frame):
        raise _cannot(
            model, f"it predicts {said.shape[1:] or said.size} numbers for a row", "a model of one number, the spend"
        )
    return said.reshape(len(frame))


def _cannot(model, why, nearest):
    kind = type(model)
    return ScorelineError(
        f"`{kind.__module__.partition('.')[0]}.{kind.__qualname__}` cannot be packed: {why}. The nearest that works: {nearest}"
    )


def _regressor_only(model):
    name = type(model).__name__
    if name.endswith(("Classifier", "ClassifierCV")) or hasattr(model, "predict_proba"):
        raise _cannot(
            model,
            "it predicts classes, and the value of a customer is an amount",
            f"`{name.replace('Classifier', 'Regressor')}`",
        )
    if name.endswith("Ranker"):
        raise _cannot(
            model,
            "it predicts an order, and the value of a customer is an amount",
            f"`{name.replace('Ranker', 'Regressor')}`",
        )


def _numbers(model, frame):
    """The columns as a model of one matrix reads them."""
    texts = [name for name in frame.columns if frame[name].dtype.kind not in "biuf"]
    if texts:
        raise _cannot(
            model,
            f"the columns `{'`, `'.join(map(str, texts))}` are no numbers",
            "a scikit-learn `Pipeline` that encodes them",
        )
    return frame.to_numpy(np.float32)


def _names(model, known, frame):
    """The names of a model's columns: the table's, where the model was fitted without any."""
    columns = [str(name) for name in frame.columns]
    known = list(known or [])
    nameless = not known or all(re.fullmatch(r"Column_\d+|f\d+|\d+", name) for name in known)
    if nameless and len(known) in (0, len(columns)):
        return columns
    if set(known) != set(columns):
        raise _cannot(
            model,
            f"it was fitted on `{'`, `'.join(known)}`, the table has `{'`, `'.join(columns)}`",
            "the same columns in both",
        )
    return known


def _lightgbm(model, frame, folder):
    _regressor_only(model)
    booster = getattr(model, "booster_", model)
    known = booster.feature_name()
    names = _names(model, known, frame)
    text = booster.model_to_string()
    if names != known:
        text = re.sub(r"(?m)^feature_names=.*$", "feature_names=" + " ".join(names), text, count=1)
    path = folder / "model.txt"
    path.write_text(text, encoding="utf-8")
    return path, []


def _xgboost(model, frame, folder):
    _regressor_only(model)
    booster = (model.get_booster() if hasattr(model, "get_booster") else model).copy()
    booster.feature_names = _names(model, booster.feature_names, frame)
    path = folder / "model.json"
    booster.save_model(path)
    return path, []


def _catboost(model, frame, folder):
    _regressor_only(model)
    if model.get_cat_feature_indices():
        raise _cannot(
            model,
            "its export has no splits by category",
            "the same model on columns that a scikit-learn encoder made numbers of",
        )
    names = _names(model, model.feature_names_, frame)
    if names != [str(name) for name in frame.columns]:
        raise _cannot(
            model,
            "its columns are in another order than the table's",
            "`X_train` and `X_cal` in the order it was fitted on",
        )
    path = folder / "model.onnx"
    model.save_model(str(path), format="onnx")
    # The export leaves out the last step of losses that are fitted on a logarithm.
    loss = str(model.get_all_params().get("loss_function", "")).partition(":")[0]
    return path, ["--apply", "value=exp"] if loss in ("Poisson", "Tweedie", "LogLinQuantile") else []


def _sklearn(model, frame, folder):
    _regressor_only(model)
    if type(model).__name__ in ("GridSearchCV", "RandomizedSearchCV"):
        model = model.best_estimator_
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    known = getattr(model, "feature_names_in_", None)
    names = _names(model, None if known is None else known.tolist(), frame)
    named = [name for name, step in getattr(model, "steps", []) if type(step).__name__ == "ColumnTransformer"]
    if named:
        kinds = {name: frame[name].dtype.kind in "biuf" for name in names}
        inputs = [(name, (FloatTensorType if kinds[name] else StringTensorType)([None, 1])) for name in names]
    else:
        _numbers(model, frame)
        inputs = [("features", FloatTensorType([None, len(names)]))]
    try:
        with _plain_integers():
            made = convert_sklearn(model, initial_types=inputs, target_opset=OPSET)
    except Exception as error:
        nearest = difflib.get_close_matches(type(model).__name__, EXPORTED, 1, 0.0)[0]
        if type(model).__name__ == "Pipeline":
            nearest = f"a `Pipeline` of scikit-learn's own steps with one of `{'`, `'.join(EXPORTED)}`"
        else:
            nearest = f"`{nearest}`"
        raise _cannot(model, f"skl2onnx says: {str(error).strip().splitlines()[0]}", nearest) from error
    if not named:
        entry = made.metadata_props.add()
        entry.key, entry.value = "features", _json(names)
    path = folder / "model.onnx"
    path.write_bytes(made.SerializeToString())
    return path, []


class _plain_integers:
    """While it lasts, skl2onnx hands plain integers to onnx, which takes no others: for histogram boosting."""

    def __enter__(self):
        from skl2onnx.common import _container

        self.container, self.original = _container, _container.make_node
        plain = lambda value: [int(number) for number in value] if _are_integers(value) else value
        _container.make_node = lambda *given, **named: self.original(
            *given, **{key: plain(value) for key, value in named.items()}
        )

    def __exit__(self, *_):
        self.container.make_node = self.original


def _are_integers(value):
    return isinstance(value, (list, np.ndarray)) and len(value) > 0 and isinstance(value[0], np.integer)


def _torch(model, frame, folder):
    import torch

    model.eval()
    path = folder / "model.onnx"
    example = torch.from_numpy(_numbers(model, frame.head(2)))
    rows = torch.export.Dim("rows")
    try:
        torch.onnx.export(
            model,
            (example,),
            str(path),
            input_names=["features"],
            output_names=["value"],
            dynamic_shapes=({0: rows},),
            external_data=False,
            verbose=False,
        )
    except Exception as error:
        raise _cannot(
            model,
            f"torch.onnx says: {str(error).strip().splitlines()[0]}",
            "a `torch.nn.Module` of one tensor in and one out",
        ) from error
    return path, []


def _json(value):
    import json

    return json.dumps(value)


WRITERS = {"lightgbm": _lightgbm, "xgboost": _xgboost, "catboost": _catboost, "torch": _torch, "sklearn": _sklearn}
