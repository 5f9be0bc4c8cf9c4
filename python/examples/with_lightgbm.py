"""LightGBM: the booster's own text is packed, which loses nothing. `python with_lightgbm.py [MODELS]`"""

import sys

import lightgbm
from cdnow import HORIZON_DAYS, compare, customers

import scoreline

X, y, X_cal, y_cal = customers()
model = lightgbm.LGBMRegressor(
    objective="tweedie", n_estimators=120, num_leaves=15, min_child_samples=40, learning_rate=0.05, verbose=-1
)
model.fit(X, y)
models = sys.argv[1] if len(sys.argv) > 1 else "models"
bundle = scoreline.pack(
    model, X_cal, y_cal, X_train=X, y_train=y, name="clv-lightgbm", version="v1", horizon_days=HORIZON_DAYS, out=models
)
print(bundle.report)
compare(bundle, model.predict(X_cal), X_cal)
