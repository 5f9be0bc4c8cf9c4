"""Models of Python as bundles: they answer as their library predicts, or are refused in the caller's own terms."""

import pathlib
import tempfile
import unittest

import support  # noqa: F401, before the libraries that have threads
import lightgbm
import numpy as np
import pandas as pd
import polars as pl
import sklearn.compose
import sklearn.ensemble
import sklearn.kernel_ridge
import sklearn.pipeline
import sklearn.preprocessing
import xgboost

import scoreline

FEATURES = ["recency_days", "purchase_count", "tenure_days", "monetary_avg"]


def customers(rows, seed):
    """Generated customers with what they spend, as it were; whole dollars and cents, so that single precision is met."""
    chance = np.random.default_rng(seed)
    tenure = chance.integers(60, 400, rows).astype(float)
    recency = np.floor(tenure * chance.uniform(0, 1, rows))
    count = 1.0 + chance.poisson(2.0, rows)
    average = np.round(chance.lognormal(3.2, 0.4, rows), 2)
    expected = average * count * 0.5 * np.exp(-recency / 200)
    buys = chance.uniform(size=rows) < 1 / (1 + np.exp(recency / 100 - count / 2))
    spend = np.round(expected * chance.gamma(8.0, 1 / 8, rows) * buys, 2)
    return pd.DataFrame(dict(zip(FEATURES, (recency, count, tenure, average)))), spend


class Packs(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.X, cls.y = customers(3000, 1)
        cls.X_cal, cls.y_cal = customers(2000, 2)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name) / "models"

    def pack(self, model, X_cal=None, y_cal=None, X=None, y=None, **named):
        X_cal, y_cal = (self.X_cal if X_cal is None else X_cal), (self.y_cal if y_cal is None else y_cal)
        X, y = (self.X if X is None else X), (self.y if y is None else y)
        named = {"name": "clv", "version": "v1", "horizon_days": 90, "out": self.out} | named
        return scoreline.pack(model, X_cal, y_cal, X_train=X, y_train=y, **named)

    def refused(self, *given, **named):
        with self.assertRaises(scoreline.ScorelineError) as caught:
            self.pack(*given, **named)
        self.assertFalse((self.out / "clv/v1").exists(), "nothing is left behind")
        return caught.exception.message

    def assert_served(self, bundle, model, X):
        """Scores and the server say what the library predicts."""
        scored = scoreline.score(X, bundle=bundle)
        # Nobody is worth less than nothing.
        predicted = np.maximum(np.asarray(model.predict(X), dtype=float).reshape(-1), 0.0)
        far = np.abs(scored["clv_value_usd"] - predicted) > np.maximum(1e-4 * np.abs(predicted), 0.0051)
        self.assertLessEqual(far.mean(), 0.01)
        with scoreline.serve(self.out) as server:
            for at in range(0, len(X), 500):
                row = {name: value for name, value in X.iloc[at].items() if value == value}
                said = server.predict(row, model=bundle.name)["prediction"]
                self.assertEqual(said["clv_value_usd"], scored["clv_value_usd"].iloc[at])

    def test_lightgbm_with_missing_values(self):
        X, X_cal = self.X.copy(), self.X_cal.copy()
        X.loc[::7, "monetary_avg"] = np.nan
        X_cal.loc[::9, "monetary_avg"] = np.nan
        model = lightgbm.LGBMRegressor(n_estimators=30, num_leaves=7, verbose=-1).fit(X, self.y)
        channel = np.where(np.arange(len(X_cal)) % 2, "organic", "referral")
        bundle = self.pack(model, X_cal, X=X, channel=channel)
        self.assertEqual((bundle.name, bundle.version, pathlib.Path(bundle).name), ("clv", "v1", "v1"))
        self.assertIn("0 of 2000 customers differ by more than 0.0001 from `model.predict(X_cal)`", bundle.report)
        self.assertIn("<html", bundle._repr_html_())
        self.assert_served(bundle, model, X_cal)
        self.assertIn("exists: give another `version`, or `force`", self.again(model, X_cal, X))

    def again(self, model, X_cal, X):
        with self.assertRaises(scoreline.ScorelineError) as caught:
            self.pack(model, X_cal, X=X)
        self.assertEqual(self.pack(model, X_cal, X=X, force=True).version, "v1")
        return caught.exception.message

    def test_boosters_that_know_no_names_take_the_tables(self):
        model = lightgbm.LGBMRegressor(n_estimators=20, num_leaves=7, verbose=-1).fit(self.X.to_numpy(), self.y)
        self.assert_served(self.pack(model.booster_, version="v1"), model.booster_, self.X_cal)
        model = xgboost.XGBRegressor(n_estimators=20, max_depth=3).fit(self.X, self.y)
        self.assert_served(self.pack(model, version="v2"), model, self.X_cal)

    def test_scikit_learn_from_polars(self):
        model = sklearn.ensemble.HistGradientBoostingRegressor(max_iter=20).fit(self.X, self.y)
        bundle = self.pack(model, pl.from_pandas(self.X_cal), X=pl.from_pandas(self.X))
        self.assert_served(bundle, model, self.X_cal)

    def test_a_pipeline_encodes_texts_itself(self):
        X, X_cal = (
            frame.assign(plan=np.where(frame["tenure_days"] % 2, "gold", "basic")) for frame in (self.X, self.X_cal)
        )
        encoder = sklearn.compose.ColumnTransformer(
            [("plan", sklearn.preprocessing.OneHotEncoder(handle_unknown="ignore"), ["plan"])], remainder="passthrough"
        )
        forest = sklearn.ensemble.RandomForestRegressor(20, max_depth=5, random_state=1)
        model = sklearn.pipeline.Pipeline([("encode", encoder), ("forest", forest)]).fit(X, self.y)
        self.assert_served(self.pack(model, X_cal, X=X), model, X_cal)

    def test_a_bundle_that_answers_otherwise_is_refused_with_its_worst_rows(self):
        class Shifted(lightgbm.LGBMRegressor):
            def predict(self, X, **named):
                said = super().predict(X, **named)
                return said + np.where(np.asarray(X)[:, 0] > 100, 1.0, 0.0)

        model = Shifted(n_estimators=20, num_leaves=7, verbose=-1).fit(self.X, self.y)
        X_cal = self.X_cal.set_axis([f"C-{at}" for at in range(len(self.X_cal))])
        X_cal.iloc[5, 0] = np.nextafter(100.0, 200.0)
        message = self.refused(model, X_cal)
        self.assertIn("the model does not answer as its library predicts", message)
        self.assertRegex(message, r"row \d+ of `X_cal` \('C-\d+'\): the library predicts")
        self.assertNotIn("/tmp/", message)
        beside = scoreline._pack.beside_a_split(model, X_cal.iloc[[5]])
        self.assertEqual(beside, ["recency_days"])

    def test_customers_that_fitted_it_are_refused(self):
        model = lightgbm.LGBMRegressor(n_estimators=20, num_leaves=7, verbose=-1).fit(self.X, self.y)
        message = self.refused(model, self.X, self.y)
        self.assertIn("3000 of 3000 rows of splits `calibration` and `test` are among the `fit` rows", message)
        self.assertIn("`accept=…` packs all the same", message)
        self.assertEqual(self.pack(model, self.X, self.y, accept="a demonstration").version, "v1")

    def test_what_cannot_be_packed_names_what_can(self):
        X, y = self.X, self.y
        classifier = sklearn.ensemble.RandomForestClassifier(3, max_depth=3).fit(X, y > 0)
        self.assertIn(
            "`sklearn.RandomForestClassifier` cannot be packed: it predicts classes", self.refused(classifier)
        )
        self.assertIn("The nearest that works: `RandomForestRegressor`", self.refused(classifier))
        kernel = self.refused(sklearn.kernel_ridge.KernelRidge().fit(X[:200], y[:200]))
        self.assertIn("`sklearn.KernelRidge` cannot be packed: skl2onnx says", kernel)
        self.assertIn("The nearest that works: `Ridge`", kernel)
        self.assertIn("of no library that is known", self.refused(object()))
        model = lightgbm.LGBMRegressor(n_estimators=5, verbose=-1).fit(X, y)
        self.assertIn("must be a DataFrame", self.refused(model, self.X_cal.to_numpy()))
        self.assertIn("`y_cal` must have 2000 amounts", self.refused(model, y_cal=self.y_cal[1:]))
        self.assertIn("row 0 is none", self.refused(model, y_cal=[np.nan, *self.y_cal[1:]]))
        self.assertIn("the same columns", self.refused(model, self.X_cal[FEATURES[::-1]]))
        renamed = [frame.rename(columns={"tenure_days": "tenure"}) for frame in (self.X_cal, self.X)]
        self.assertIn("it was fitted on", self.refused(model, renamed[0], X=renamed[1]))
        uncounted = [frame.rename(columns={"purchase_count": "visits"}) for frame in (self.X_cal, self.X)]
        self.assertIn("`group_by` must name a feature", self.refused(model, uncounted[0], X=uncounted[1]))
        taken = [frame.rename(columns={"tenure_days": "segment"}) for frame in (self.X_cal, self.X)]
        self.assertIn("cannot be called `segment`", self.refused(model, taken[0], X=taken[1]))


if __name__ == "__main__":
    unittest.main()
