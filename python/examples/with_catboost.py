"""CatBoost: its ONNX export is packed, with the last step that the export leaves out. `python with_catboost.py [MODELS]`"""

import sys

import catboost
from cdnow import HORIZON_DAYS, compare, customers

import scoreline

X, y, X_cal, y_cal = customers()
model = catboost.CatBoostRegressor(
    loss_function="Tweedie:variance_power=1.5",
    iterations=200,
    depth=4,
    learning_rate=0.05,
    verbose=False,
    allow_writing_files=False,
)
model.fit(X, y)
models = sys.argv[1] if len(sys.argv) > 1 else "models"
bundle = scoreline.pack(
    model, X_cal, y_cal, X_train=X, y_train=y, name="clv-catboost", version="v1", horizon_days=HORIZON_DAYS, out=models
)
print(bundle.report)
compare(bundle, model.predict(X_cal), X_cal)
