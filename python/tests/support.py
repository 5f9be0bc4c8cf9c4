"""What the tests share: the program that was built for them, the shipped models, and tables to score."""

import math
import os
import pathlib
import random
import sys
import unittest

import pyarrow as pa

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "models"
sys.path.insert(0, str(ROOT / "python"))
# Threads that wait for each other take minutes on a machine that is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SCORELINE_BINARY", str(ROOT / "target/debug/scoreline"))

# The slow tests: other engines, learners that are large packages, the examples.
SLOW = bool(os.environ.get("SCORELINE_PYTHON_SLOW"))
slow = unittest.skipUnless(SLOW, "slow: set SCORELINE_PYTHON_SLOW=1, see CONTRIBUTING.md")

NUMBERS = (
    "clv_value_usd",
    "confidence_interval_low",
    "confidence_interval_high",
    "risk_score",
    "confidence_score",
    "tier_probability",
)
ANSWERS = (*NUMBERS, "clv_tier", "source", "warnings", "error")


def customers(rows, seed=7):
    """Customers as features by name: some features are missing, some rows cannot be scored."""
    chance = random.Random(seed)
    drawn = {
        "recency_days": lambda: round(chance.uniform(-2, 400), 2),
        "frequency_count": lambda: float(chance.randrange(0, 60)),
        "sentiment_score_avg": lambda: chance.uniform(-1, 1),
        "topic_diversity": lambda: float(chance.randrange(1, 9)),
        "purchase_count": lambda: float(chance.randrange(0, 9)),
        "monetary_avg": lambda: chance.lognormvariate(3, 1),
    }
    return [{name: draw() if chance.random() < 0.8 else None for name, draw in drawn.items()} for _ in range(rows)]


def table(rows):
    """A table of customers with a column that is passed through."""
    columns = {name: pa.array([row[name] for row in rows], pa.float64()) for name in rows[0]}
    return pa.table({"id": [f"C-{at:05}" for at in range(len(rows))], **columns})


def same(one, other):
    """Whether two numbers are the same to the bit; what is missing is the same as what is missing."""
    absent = [value is None or value != value for value in (one, other)]
    return (
        absent[0] and absent[1] or not any(absent) and one == other and math.copysign(1, one) == math.copysign(1, other)
    )
