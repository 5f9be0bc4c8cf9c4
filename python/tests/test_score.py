"""Tables of each library in and out, and the same answers as the server gives. ``python -m unittest`` runs it."""

import datetime
import os
import pickle
import shutil
import tempfile
import unittest
import unittest.mock

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from support import ANSWERS, MODELS, NUMBERS, customers, same, table

import scoreline

CLV = {"model": "clv", "models": MODELS}


class Answers(unittest.TestCase):
    def test_every_kind_of_table_gets_what_the_server_says_to_the_bit(self):
        rows = customers(120)
        sent = table(rows)
        scored = {
            "pyarrow": scoreline.score(sent, **CLV).to_pylist(),
            "reader": scoreline.score(sent.to_reader(max_chunksize=7), **CLV).read_all().to_pylist(),
            "batch": scoreline.score(sent.combine_chunks().to_batches()[0], **CLV).to_pylist(),
            "pandas": scoreline.score(sent.to_pandas(), **CLV).to_dict("records"),
            "polars": scoreline.score(pl.from_arrow(sent), **CLV).to_dicts(),
            "bundle": scoreline.score(sent, bundle=MODELS / "clv/v1.2").to_pylist(),
            "function": scoreline.arrow_function(**CLV)(sent).to_pylist(),
        }
        with scoreline.serve(MODELS) as server:
            refused = 0
            for at, row in enumerate(rows):
                given = {name: value for name, value in row.items() if value is not None}
                try:
                    said, error = server.predict(given)["prediction"], None
                except scoreline.ScorelineError as problem:
                    said, error, refused = {}, problem.message, refused + 1
                for way, answers in scored.items():
                    for name in NUMBERS:
                        got, expected = answers[at][name], said.get(name)
                        self.assertTrue(same(got, expected), f"{way}, row {at}, {name}: {got} is not {expected}")
                    if error is not None:
                        self.assertEqual(answers[at]["error"], error, way)
        self.assertTrue(10 < refused < 110, refused)

    def test_an_interval_has_the_level_that_is_asked_for(self):
        sent = table(customers(20))
        width = lambda level: (
            scoreline.score(sent, **CLV, interval_level=level).to_pandas()["confidence_interval_high"].sum()
        )
        self.assertLess(width(0.5), width(0.95))

    def test_leads_are_placed_alike_however_the_table_is_cut(self):
        ages = [20.0 + at % 60 for at in range(9000)]
        sent = pa.table({"age": ages})
        pieces = pa.Table.from_batches(sent.to_batches(max_chunksize=100))
        whole, cut = (scoreline.score(of, model="lead", models=MODELS) for of in (sent, pieces))
        self.assertEqual(whole.column("priority_score"), cut.column("priority_score"))
        self.assertEqual(whole.column_names[1:3], ["priority_score", "conversion_probability"])


class Pandas(unittest.TestCase):
    def test_index_order_and_types_stay(self):
        frame = pd.DataFrame(
            {
                "note": [{"any": 1}, object(), None],
                "recency_days": pd.array([12, None, 200], dtype="Int64"),
                "seen": [datetime.date(2026, 1, 1), None, "never"],
                "frequency_count": np.float32([48, 1, 0]),
                "plan": pd.Categorical(["a", "b", None]),
            },
            index=pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)]),
        )
        before = frame.copy()
        scored = scoreline.score(frame, **CLV)
        self.assertEqual(list(scored.columns), [*frame.columns, *ANSWERS])
        pd.testing.assert_frame_equal(scored[list(frame.columns)], before)
        pd.testing.assert_frame_equal(frame, before)
        self.assertEqual(scored["source"].tolist()[0], "model")
        self.assertIn("`recency_days` is required", scored["error"].tolist()[1])

    def test_numbers_among_objects_are_read_one_by_one(self):
        frame = pd.DataFrame({"recency_days": [12, "12", {}, None], "frequency_count": 48}, dtype=object)
        scored = scoreline.score(frame, **CLV)
        self.assertEqual(scored["clv_value_usd"].tolist()[:2], [51.29, 51.29])
        self.assertIn("must be a finite number", scored["error"].tolist()[2])
        self.assertIn("is required", scored["error"].tolist()[3])

    def test_no_rows_are_no_answers(self):
        frame = pd.DataFrame({"recency_days": [], "frequency_count": []})
        scored = scoreline.score(frame, **CLV)
        self.assertEqual((len(scored), list(scored.columns)[2:]), (0, list(ANSWERS)))


class Polars(unittest.TestCase):
    def test_types_stay_and_a_lazy_frame_takes_the_function(self):
        frame = pl.from_arrow(table(customers(5000))).with_columns(
            pl.lit(datetime.datetime(2026, 1, 1)).dt.replace_time_zone("Europe/Berlin").alias("seen"),
            pl.col("id").cast(pl.Categorical).alias("category"),
            pl.Series("any", [object()] * 5000, dtype=pl.Object),
        )
        scored = scoreline.score(frame, **CLV)
        self.assertEqual(scored.schema, {**frame.schema, **{name: scored.schema[name] for name in ANSWERS}})
        self.assertEqual(scored.columns[-len(ANSWERS) :], list(ANSWERS))
        lazy = frame.drop("any").lazy()
        function = scoreline.arrow_function(**CLV)
        mapped = lazy.map_batches(function, schema=function.schema(lazy.collect_schema()))
        for engine in ("in-memory", "streaming"):
            self.assertTrue(mapped.collect(engine=engine).equals(scored.drop("any")), engine)
        with self.assertRaisesRegex(TypeError, "LazyFrame"):
            scoreline.score(lazy, **CLV)


class DuckDb(unittest.TestCase):
    def test_it_takes_the_function_in_sql_and_streams_through_it(self):
        sent = table(customers(5000))
        expected = scoreline.score(sent, **CLV).column("clv_value_usd").to_pylist()
        connection = duckdb.connect()
        connection.register("customers", sent)
        types = duckdb.sqltypes
        features = [
            "recency_days",
            "frequency_count",
            "sentiment_score_avg",
            "topic_diversity",
            "purchase_count",
            "monetary_avg",
        ]
        function = scoreline.arrow_function(**CLV, features=features, returns="clv_value_usd")
        arguments = [types.DOUBLE] * len(features)
        connection.create_function("clv", function, arguments, types.DOUBLE, type="arrow", null_handling="special")
        asked = connection.sql(f"select clv({', '.join(features)}) from customers order by id").fetchall()
        self.assertEqual([row[0] for row in asked], expected)
        reader = connection.sql("select * from customers order by id").to_arrow_reader(1000)
        scored = scoreline.arrow_function(**CLV)(reader)
        # A connection has one open result.
        again = connection.cursor().sql("select clv_value_usd from scored").fetchall()
        self.assertEqual([row[0] for row in again], expected)


class Functions(unittest.TestCase):
    def test_a_function_travels_and_keeps_its_program(self):
        function = pickle.loads(pickle.dumps(scoreline.arrow_function(**CLV)))
        self.addCleanup(function.close)
        sent = table(customers(50))
        first = function(sent)
        running = [stream._child.pid for waiting in function._idle.values() for stream in waiting]
        self.assertEqual(function(sent), first)
        self.assertEqual([stream._child.pid for waiting in function._idle.values() for stream in waiting], running)
        (stream,) = [stream for waiting in function._idle.values() for stream in waiting]
        stream._child.kill()
        stream._child.wait()
        self.assertEqual(function(sent), first, "a program that died is not asked again")
        self.assertEqual(function.schema(sent.schema), first.schema)

    def test_an_iterator_is_answered_batch_by_batch(self):
        function = scoreline.arrow_function(**CLV)
        self.addCleanup(function.close)
        asked = []

        def batches():
            for batch in table(customers(40)).to_batches(max_chunksize=10):
                asked.append(batch)
                yield batch

        answers = function(batches())
        for number in range(1, 5):
            self.assertEqual(next(answers).num_rows, 10)
            self.assertEqual(len(asked), number)
        self.assertEqual(list(answers), [])
        self.assertEqual(list(function(iter([]))), [])

    def test_more_rows_than_the_pipes_hold_pass(self):
        sent = table(customers(1000))
        sent = pa.concat_tables([sent] * 200).append_column("text", pa.array(["x" * 40] * 200_000))
        scored = scoreline.score(sent, **CLV)
        self.assertEqual(scored.num_rows, 200_000)
        self.assertEqual(scored.select(sent.column_names), sent.combine_chunks())


class Refusals(unittest.TestCase):
    def refused(self, *given, **named):
        with self.assertRaises(scoreline.ScorelineError) as caught:
            scoreline.score(*given, **named)
        return caught.exception

    def test_the_programs_words_come_as_an_exception(self):
        sent = table(customers(3))
        self.assertIn("required columns are missing: `recency_days`", self.refused(pa.table({"x": [1]}), **CLV).message)
        unknown = self.refused(sent, model="nope", models=MODELS)
        self.assertEqual((unknown.code, "there are: clv" in unknown.message), (64, True))
        self.assertIn("no version v9.9", self.refused(sent, version="v9.9", **CLV).message)
        self.assertIn(
            "already has a column `error`", self.refused(sent.append_column("error", [[1] * 3]), **CLV).message
        )
        self.assertIn(
            "must hold numbers", self.refused(pa.table({"recency_days": [[1]], "frequency_count": [1]}), **CLV).message
        )
        self.assertIn("`models` must be a folder", self.refused(sent, models="nowhere").message)
        self.assertIn("leave out `model`", self.refused(sent, model="clv", bundle=MODELS / "clv/v1.2").message)
        self.assertIn("does not exist", self.refused(sent, bundle=MODELS / "clv/v9.9").message)
        self.assertIn("`bundle.toml`", self.refused(sent, bundle=MODELS).message)
        self.assertIn("no columns", self.refused(pd.DataFrame(), **CLV).message)
        with self.assertRaisesRegex(TypeError, "builtins.list"):
            scoreline.score([1], **CLV)
        error = pickle.loads(pickle.dumps(unknown))
        self.assertEqual((error.message, error.code), (unknown.message, 64))

    def test_a_bundle_that_was_changed_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            bundle = shutil.copytree(MODELS / "clv/v1.2", os.path.join(folder, "any name"))
            self.assertEqual(scoreline.score(table(customers(3)), bundle=bundle).num_rows, 3)
            with open(os.path.join(bundle, "model.json"), "a") as model:
                model.write(" ")
            self.assertIn("is refused", self.refused(table(customers(3)), bundle=bundle).message)

    def test_a_program_that_dies_is_no_short_answer(self):
        def batches():
            for number, batch in enumerate(table(customers(40)).to_batches(max_chunksize=10)):
                if number == 2:
                    for waiting in programs:
                        waiting._child.kill()
                yield batch

        programs = []
        real = scoreline._frames.Stream

        def watched(*given):
            programs.append(real(*given))
            return programs[-1]

        sent = table(customers(1))
        with unittest.mock.patch.object(scoreline._frames, "Stream", watched):
            reader = scoreline.score(pa.RecordBatchReader.from_batches(sent.schema, batches()), **CLV)
            with self.assertRaises(scoreline.ScorelineError):
                reader.read_all()

    def test_a_reader_that_nobody_reads_leaves_no_program(self):
        function = scoreline.arrow_function(**CLV)
        stream = function._take(table(customers(1)).schema)
        answers = function._lent(stream, iter(()))
        self.assertTrue(stream.lives())
        del answers
        self.assertFalse(stream.lives())

    def test_a_source_that_fails_keeps_its_error(self):
        def batches():
            yield from table(customers(4)).to_batches()
            raise ValueError("the source is gone")

        with self.assertRaisesRegex(ValueError, "the source is gone"):
            list(scoreline.arrow_function(**CLV)(batches()))

    def test_a_program_that_is_not_there_says_how_to_get_it(self):
        with unittest.mock.patch.dict(os.environ, {"SCORELINE_BINARY": "/nowhere/scoreline"}):
            self.assertIn("`SCORELINE_BINARY` must name a program", self.refused(table(customers(1)), **CLV).message)
        with unittest.mock.patch.dict(os.environ, {"SCORELINE_BINARY": "", "PATH": ""}):
            self.assertIn("pip install scoreline", self.refused(table(customers(1)), **CLV).message)


class Servers(unittest.TestCase):
    def test_a_server_lasts_as_long_as_its_block(self):
        with scoreline.serve(MODELS, settings={"models.clv_model": "clv-purchases"}) as server:
            answer = server.predict(purchase_count=3, monetary_avg=20, recency_days=10, tenure_days=100)
            self.assertEqual(answer["metadata"]["model"], "clv-purchases")
            self.assertIn("priority_score", server.predict_lead(age=40)["prediction"])
            explained = server.predict({"recency_days": 12, "frequency_count": 48}, model="clv", explain=True)
            self.assertEqual((explained["prediction"]["clv_value_usd"], "explanation" in explained), (51.29, True))
            url = server.url
            process = server._child
        self.assertEqual(process.returncode, 0)
        with self.assertRaises(OSError):
            scoreline.Server.get(server, "/health/live")
        self.assertTrue(url.startswith("http://127.0.0.1:"))

    def test_a_server_that_cannot_start_says_why(self):
        with self.assertRaisesRegex(scoreline.ScorelineError, "models.no_such"):
            with scoreline.serve(MODELS, settings={"models.no_such": 1}):
                pass
        with self.assertRaisesRegex(scoreline.ScorelineError, "`models` must be a folder"):
            with scoreline.serve("nowhere"):
                pass


if __name__ == "__main__":
    unittest.main()
