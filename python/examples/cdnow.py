"""Customers of CDNOW, a public log of purchases that ships in `training/data/cdnow`: what each example trains on.

The program folds the log into features as of a day, as it would for the server, and adds what was spent in the days after it.
"""

import os
import pathlib
import subprocess
import tempfile

import pandas as pd

import scoreline

LOG = pathlib.Path(__file__).resolve().parents[2] / "training/data/cdnow/transactions_dev.csv"
AS_OF, HORIZON_DAYS = "1997-09-30", 273
FEATURES = [
    "recency_days",
    "purchase_count",
    "tenure_days",
    "monetary_avg",
    "total_spend_usd",
    "purchase_gap_mean_days",
]


def customers():
    """Features and spend of the customers to train on, and of those to calibrate on."""
    with tempfile.TemporaryDirectory() as folder:
        env = dict(os.environ, SCORELINE__STORE__PATH=os.path.join(folder, "customers.db"))
        table = os.path.join(folder, "customers.csv")
        run = lambda *arguments: subprocess.run([scoreline.program(), "features", *arguments], env=env, check=True)
        run("import-purchases", str(LOG), "--quiet")
        run("export", "--as-of", AS_OF, "--horizon-days", str(HORIZON_DAYS), "--output", table, "--quiet")
        rows = pd.read_csv(table)
    # The only recency there is, is of purchases.
    if rows["recency_days"].isna().all():
        rows["recency_days"] = rows["purchase_recency_days"]
    fit = rows["split"] == "fit"
    X, y = rows[FEATURES].astype(float), rows["spend_usd"]
    return X[fit].reset_index(drop=True), y[fit].to_numpy(), X[~fit].reset_index(drop=True), y[~fit].to_numpy()


def compare(bundle, model_says, X):
    """Prints how far the bundle, scored here and served, is from the model's own library."""
    scored = scoreline.score(X, bundle=bundle)
    far = (scored["clv_value_usd"] - model_says).abs()
    models = pathlib.Path(bundle).parents[1]
    with scoreline.serve(models) as server:
        served = [server.predict(X.iloc[at].dropna().to_dict(), model=bundle.name) for at in range(20)]
    equal = [one["prediction"]["clv_value_usd"] for one in served] == scored["clv_value_usd"][:20].tolist()
    beyond = int((far > 1e-4 * abs(model_says) + 0.005).sum())
    print(f"{len(X)} customers: {beyond} answers differ from the library's by more than a cent's rounding and 1e-4")
    print(f"served as scored: {equal}")
    if not equal or beyond > len(X) / 100:
        raise SystemExit(1)
