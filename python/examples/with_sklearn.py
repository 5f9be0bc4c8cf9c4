"""scikit-learn: a pipeline that encodes a text itself. `python with_sklearn.py [MODELS]`"""

import sys

import numpy as np
from cdnow import HORIZON_DAYS, compare, customers
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

import scoreline

X, y, X_cal, y_cal = customers()
# A made-up text, so that there is one: how large the usual purchase is.
X, X_cal = (
    frame.fillna(0.0).assign(basket=np.where(frame["monetary_avg"] > 30, "large", "small")) for frame in (X, X_cal)
)
encode = ColumnTransformer([("basket", OneHotEncoder(handle_unknown="ignore"), ["basket"])], remainder="passthrough")
model = Pipeline(
    [("encode", encode), ("forest", RandomForestRegressor(60, min_samples_leaf=30, random_state=42, n_jobs=2))]
)
model.fit(X, y)
models = sys.argv[1] if len(sys.argv) > 1 else "models"
bundle = scoreline.pack(
    model, X_cal, y_cal, X_train=X, y_train=y, name="clv-sklearn", version="v1", horizon_days=HORIZON_DAYS, out=models
)
print(bundle.report)
compare(bundle, model.predict(X_cal), X_cal)
