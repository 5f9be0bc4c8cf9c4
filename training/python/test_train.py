"""Every learner on 300 generated customers: trained, exported, and answered alike. `python -m unittest` runs it."""

import contextlib
import io
import os
import pathlib
import tempfile
import unittest

import numpy as np
import onnx
import pandas as pd
import train


def customers(path):
    rng = np.random.default_rng(5)
    count = rng.integers(1, 6, 300)
    average = rng.gamma(2.0, 20.0, 300)
    table = pd.DataFrame(
        {
            "customer": np.arange(300),
            "split": np.where(np.arange(300) % 3 == 0, "test", "fit"),
            "recency_days": rng.integers(0, 270, 300).astype(float),
            "purchase_count": count.astype(float),
            "monetary_avg": average,
            "spend_usd": count * average * (rng.random(300) < 0.5),
            "acquisition_channel": "organic",
            "segment": "all",
        }
    )
    table.loc[rng.random(300) < 0.1, "monetary_avg"] = np.nan
    table.to_csv(path, index=False)


class Learners(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        customers(self.folder / "features.csv")

    def run_learner(self, learner, name="model.onnx"):
        output = self.folder / name
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            arguments = ["--learner", learner, "--features", str(self.folder / "features.csv"), "--output", str(output)]
            code = train.main(arguments)
        return code, said.getvalue(), output

    def test_every_learner_exports_what_it_learned(self):
        for learner in train.LEARNERS:
            with self.subTest(learner):
                code, said, output = self.run_learner(learner)
                self.assertEqual(code, 0, said)
                self.assertIn("scoreline models pack --model", said)
                predictions = pd.read_csv(output.with_suffix(".predictions.csv"))
                self.assertIn(f"--check {output.with_suffix('.predictions.csv')}", said)
                self.assertEqual((list(predictions.columns), len(predictions)), (["customer", "prediction"], 300))
                shape = onnx.load(output).graph.input[0].type.tensor_type.shape
                self.assertEqual(shape.dim[1].dim_value, 3)

    def test_a_library_writes_its_own_file(self):
        for learner, name in (("lightgbm", "model.txt"), ("xgboost", "model.json")):
            with self.subTest(learner):
                code, said, output = self.run_learner(learner, name)
                self.assertEqual(code, 0, said)
                self.assertIn("monetary_avg", output.read_text())
                predictions = pd.read_csv(output.with_suffix(".predictions.csv"))["prediction"]
                table = pd.read_csv(self.folder / "features.csv")
                asked = table[["recency_days", "purchase_count", "monetary_avg"]].to_numpy(float)
                if learner == "lightgbm":
                    again = train.lightgbm.Booster(model_file=str(output)).predict(asked)
                else:
                    booster = train.xgboost.Booster(model_file=str(output))
                    names = ["recency_days", "purchase_count", "monetary_avg"]
                    again = booster.predict(train.xgboost.DMatrix(asked, feature_names=names))
                np.testing.assert_allclose(again, predictions, rtol=1e-6)
        with self.assertRaisesRegex(SystemExit, "is for the learner lightgbm"):
            self.run_learner("sklearn-rf", "model.txt")

    def test_columns_without_a_value_are_left_out(self):
        path = self.folder / "features.csv"
        pd.read_csv(path).assign(topic_diversity=np.nan, as_of="2026-01-01T00:00:00Z", horizon_days=90).to_csv(path, index=False)
        code, said, output = self.run_learner("lightgbm", "model.txt")
        self.assertEqual(code, 0, said)
        self.assertIn("left out, because no fit row has a value: topic_diversity", said)
        self.assertIn("feature_names=recency_days purchase_count monetary_avg\n", output.read_text())
        self.assertEqual(list(pd.read_csv(output.with_suffix(".predictions.csv")).columns), ["customer", "as_of", "prediction"])

    def test_the_same_seed_gives_the_same_file(self):
        for learner in ("lightgbm-tweedie", "sklearn-rf"):
            with self.subTest(learner):
                _, _, first = self.run_learner(learner, "first.onnx")
                _, _, second = self.run_learner(learner, "second.onnx")
                self.assertEqual(first.read_bytes(), second.read_bytes())

    def test_an_export_that_answers_otherwise_is_reported(self):
        right = np.full(100, 50.0)
        wrong = right.copy()
        wrong[:2] = 51.0
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            self.assertTrue(train.compare(np.arange(100), right, right))
            self.assertFalse(train.compare(np.arange(100), right, wrong))
        self.assertIn("2 of 100 rows over", said.getvalue())
        self.assertIn("customer 1: 50 became 51", said.getvalue())

    def test_a_table_without_the_outcome_is_refused(self):
        (self.folder / "features.csv").write_text("customer,split,a\n1,fit,2\n", encoding="utf-8")
        with self.assertRaisesRegex(SystemExit, "no column spend_usd"):
            self.run_learner("lightgbm")

    def test_telemetry_is_off(self):
        self.assertEqual(os.environ["ORT_DISABLE_TELEMETRY"], "1")


class Metrics(unittest.TestCase):
    """The cases of src/packing/metrics.rs."""

    def test_they_are_the_rust_trainers(self):
        actual = np.array([0.0, 1.0, 2.0, 7.0])
        gini = train.normalized_gini
        self.assertAlmostEqual(gini(actual, np.array([0.1, 0.2, 0.3, 0.4])), 1.0)
        self.assertAlmostEqual(gini(actual, np.array([1.0, 4.0, 2.0, 3.0])), 0.45 / 0.8)
        self.assertAlmostEqual(gini(actual, np.full(4, 5.0)), 0.25 / 0.8)
        rising = np.arange(1.0, 21.0)
        numbers = train.metrics(rising, rising * 1.1)
        self.assertAlmostEqual(numbers["total error"], 0.1)
        self.assertAlmostEqual(numbers["decile error"], 0.1)
        self.assertAlmostEqual(numbers["Spearman"], 1.0)


if __name__ == "__main__":
    unittest.main()
