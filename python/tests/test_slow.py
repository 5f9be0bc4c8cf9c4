"""Examples of each learner, and MLflow: packages that are large. Slow, see CONTRIBUTING.md."""

import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

import pandas as pd
from support import ANSWERS, MODELS, customers, slow, table

import scoreline

EXAMPLES = pathlib.Path(__file__).parents[1] / "examples"


@slow
class Examples(unittest.TestCase):
    """Each trains, packs, verifies, scores and compares, and ends with an error when the numbers are not the library's."""

    def run_example(self, name):
        with tempfile.TemporaryDirectory() as folder:
            env = dict(os.environ, PYTHONPATH=str(EXAMPLES.parent), OMP_NUM_THREADS="2")
            command = [sys.executable, str(EXAMPLES / f"{name}.py"), folder]
            ended = subprocess.run(command, env=env, capture_output=True, text=True)
            self.assertEqual(ended.returncode, 0, ended.stdout + ended.stderr)
            (bundle,) = pathlib.Path(folder).glob("*/v1")
            verified = subprocess.run(
                [scoreline.program(), "models", "verify", bundle],
                env=scoreline._program.environment(),
                capture_output=True,
                text=True,
            )
        self.assertIn("1 bundle, 0 failed", verified.stdout)
        figures = [
            line
            for line in ended.stdout.splitlines()
            if line.startswith(("check:", "served")) or "answers differ" in line
        ]
        print(f"{name}: {'; '.join(figures)}", flush=True)

    def test_lightgbm(self):
        self.run_example("with_lightgbm")

    def test_xgboost(self):
        self.run_example("with_xgboost")

    def test_catboost(self):
        self.run_example("with_catboost")

    def test_sklearn(self):
        self.run_example("with_sklearn")

    def test_torch(self):
        self.run_example("with_torch")


@slow
class MlFlow(unittest.TestCase):
    def test_a_bundle_is_logged_with_its_signature_and_asked(self):
        import scoreline.mlflow

        frame = table(customers(40)).to_pandas().drop(columns="id")
        with tempfile.TemporaryDirectory() as folder:
            scoreline.mlflow.save_model(MODELS / "clv/v1.2", os.path.join(folder, "saved"))
            loaded = scoreline.mlflow.load_model(os.path.join(folder, "saved"))
            answers = loaded.predict(frame)
            signature = loaded.metadata.signature
        self.assertEqual(list(answers.columns), list(ANSWERS))
        expected = scoreline.score(frame, bundle=MODELS / "clv/v1.2")[list(ANSWERS)]
        pd.testing.assert_frame_equal(answers, expected)
        inputs = {column.name: column.required for column in signature.inputs}
        self.assertEqual((inputs["recency_days"], inputs["monetary_avg"]), (True, False))
        self.assertEqual([column.name for column in signature.outputs], list(ANSWERS))
        with self.assertRaisesRegex(Exception, "recency_days"):
            loaded.predict(frame.drop(columns="recency_days"))


if __name__ == "__main__":
    unittest.main()
