"""What /v1 answers, to compare the answers of other protocols with. For the scripts beside it."""

import json
import sys
import unittest
import urllib.request

import numpy as np

# The server: it serves the shipped models, and has one version beside them that is refused.
SERVER = sys.argv.pop(1)

# Three customers; what is None is not known of them.
ROWS = [
    {"recency_days": 12, "frequency_count": 48, "avg_handling_time_sec": 245, "sentiment_score_avg": 0.5},
    {"recency_days": 30, "frequency_count": 10, "avg_handling_time_sec": None, "sentiment_score_avg": None},
    {"recency_days": 3, "frequency_count": 0, "avg_handling_time_sec": None, "sentiment_score_avg": -0.25},
]
FEATURES = list(ROWS[0])
NUMBERS = ["clv_value_usd", "confidence_interval_low", "confidence_interval_high", "risk_score", "confidence_score"]
TEXTS = ["clv_tier", "source"]


def post(path, body):
    request = urllib.request.Request(f"http://{SERVER}{path}", json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request))


def column(name, dtype=np.float32):
    values = [np.nan if row[name] is None else row[name] for row in ROWS]
    return np.array(values, dtype).reshape(-1, 1)


def expected(features=ROWS, **more):
    """Answers of /v1 by output."""
    known = [{name: value for name, value in row.items() if value is not None} for row in features]
    answers = [post("/v1/predict/clv", {"features": row, **more}) for row in known]
    absent = float("nan")
    told = {name: [answer["prediction"].get(name, absent) for answer in answers] for name in NUMBERS}
    told["clv_tier"] = [answer["prediction"]["clv_tier"] for answer in answers]
    told["source"] = [answer["metadata"]["source"] for answer in answers]
    return told


def inputs(make, names=FEATURES, datatype="FP32", dtype=np.float32, **how):
    made = []
    for name in names:
        values = column(name, dtype)
        tensor = make(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, **how)
        made.append(tensor)
    return made


class Same(unittest.TestCase):
    def same(self, as_numpy, told=None, names=tuple(NUMBERS + TEXTS)):
        """Whether an answer is that of /v1, to the cent."""
        told = told or expected()
        for name in names:
            values = as_numpy(name)
            self.assertIsNotNone(values, name)
            if name in TEXTS:
                texts = [it.decode() if isinstance(it, bytes) else it for it in values.reshape(-1)]
                self.assertEqual(texts, told[name], name)
            else:
                self.assertEqual(values.dtype, np.float64, name)
                np.testing.assert_array_equal(values.reshape(-1), told[name], name)
