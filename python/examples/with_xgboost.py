"""XGBoost: the booster's own JSON is packed, which loses nothing. `python with_xgboost.py [MODELS]`"""

import sys

import xgboost
from cdnow import HORIZON_DAYS, compare, customers

import scoreline

X, y, X_cal, y_cal = customers()
model = xgboost.XGBRegressor(
    objective="reg:tweedie", n_estimators=120, max_depth=4, learning_rate=0.05, min_child_weight=20
)
model.fit(X, y)
models = sys.argv[1] if len(sys.argv) > 1 else "models"
bundle = scoreline.pack(
    model, X_cal, y_cal, X_train=X, y_train=y, name="clv-xgboost", version="v1", horizon_days=HORIZON_DAYS, out=models
)
print(bundle.report)
compare(bundle, model.predict(X_cal), X_cal)
