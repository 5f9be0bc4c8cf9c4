"""The function unchanged in engines that are large packages: DataFusion, Ray Data, Spark. Slow, see CONTRIBUTING.md."""

import os
import sys
import unittest

import pyarrow as pa
from support import MODELS, customers, same, slow, table

import scoreline

CLV = {"model": "clv", "models": str(MODELS)}
FEATURES = [
    "recency_days",
    "frequency_count",
    "sentiment_score_avg",
    "topic_diversity",
    "purchase_count",
    "monetary_avg",
]
ROWS = 30_000


@slow
class Engines(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sent = table(customers(ROWS))
        cls.expected = scoreline.score(cls.sent, **CLV).column("clv_value_usd").to_pylist()
        cls.function = scoreline.arrow_function(**CLV)
        # Workers find the package where this process does.
        os.environ["PYTHONPATH"] = os.pathsep.join([str(MODELS.parent / "python"), os.environ.get("PYTHONPATH", "")])

    def assert_same(self, got):
        self.assertEqual(len(got), ROWS)
        differ = sum(not same(*pair) for pair in zip(got, self.expected))
        self.assertEqual(differ, 0)

    def test_datafusion(self):
        from datafusion import SessionContext, udf

        context = SessionContext()
        context.from_arrow(self.sent, name="customers")
        function = scoreline.arrow_function(**CLV, features=FEATURES, returns="clv_value_usd")
        context.register_udf(udf(function, [pa.float64()] * len(FEATURES), pa.float64(), "stable", name="clv"))
        asked = context.sql(f"select id, clv({', '.join(FEATURES)}) as clv from customers order by id")
        self.assert_same(pa.Table.from_batches(asked.collect()).column("clv").to_pylist())
        streamed = pa.RecordBatchReader.from_stream(context.table("customers"))
        scored = self.function(streamed).read_all().sort_by("id")
        self.assert_same(scored.column("clv_value_usd").to_pylist())

    def test_ray_data(self):
        import ray

        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        self.addCleanup(ray.shutdown)
        dataset = ray.data.from_arrow(self.sent).map_batches(self.function, batch_format="pyarrow", batch_size=4000)
        self.assert_same(dataset.to_pandas().sort_values("id")["clv_value_usd"].astype(float).tolist())

    def test_spark(self):
        os.environ["PYSPARK_PYTHON"] = sys.executable
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
        self.addCleanup(spark.stop)
        frame = spark.createDataFrame(self.sent).repartition(3)
        schema = self.function.schema(frame.schema)
        self.assertEqual(schema.fieldNames()[: len(frame.columns)], frame.columns)
        scored = frame.mapInArrow(self.function, schema)
        asked = scored.orderBy("id").select("clv_value_usd").toArrow()
        self.assert_same(asked.column(0).to_pylist())
        self.assertEqual(frame.limit(0).repartition(3).mapInArrow(self.function, schema).count(), 0)
        with self.assertRaisesRegex(Exception, "required columns are missing: `recency_days`"):
            frame.drop("recency_days").mapInArrow(self.function, schema).count()


if __name__ == "__main__":
    unittest.main()
