"""Every learner on a small made-up table: it fits, exports, and ONNX Runtime answers as the original does."""

import unittest

import numpy
import pandas

import train


def table(rows=600):
    random = numpy.random.default_rng(3)
    recency = random.integers(0, 270, rows)
    count = random.geometric(0.4, rows)
    monetary = random.gamma(2.0, 20.0, rows)
    spend = numpy.where(random.random(rows) < 0.5, 0.0, count * monetary * random.lognormal(0, 0.4, rows))
    frame = pandas.DataFrame(
        {
            "customer": numpy.arange(rows),
            "split": random.choice(["fit", "calibration", "test"], rows),
            "recency_days": recency,
            "purchase_count": count,
            "monetary_avg": monetary,
            "items_count": numpy.where(random.random(rows) < 0.2, numpy.nan, count * 2.0),
            "spend_usd": spend,
            "acquisition_channel": "organic",
            "segment": "any",
        }
    )
    return frame


class EveryLearner(unittest.TestCase):
    def test_exports_what_it_learned_and_repeats_with_the_seed(self):
        data = table()
        for learner in train.LEARNERS:
            with self.subTest(learner):
                _, onnx, predicted = train.train(learner, data, seed=1)
                served, _ = train.run_onnx(onnx, data)
                self.assertGreater(predicted.std(), 0.0)
                self.assertLess(train.relative_difference(served, predicted).max(), 1e-3)
                _, again, _ = train.train(learner, data, seed=1)
                served_again, _ = train.run_onnx(again, data)
                numpy.testing.assert_array_equal(served, served_again)

    def test_metrics_by_hand(self):
        spend = numpy.array([0.0, 0.0, 10.0, 30.0])
        self.assertAlmostEqual(train.normalized_gini(spend, spend), 1.0)
        self.assertAlmostEqual(train.normalized_gini(spend, numpy.ones(4)), 2 / 7)


if __name__ == "__main__":
    unittest.main()
