"""One function for every engine: Arrow batches in, Arrow batches out.

An engine sends the function to its workers, so it pickles as its arguments alone. A worker keeps its program running
between batches: of the model that serves when its first batch comes.
"""

import collections.abc
import inspect
import os
import threading
import weakref

import pyarrow as pa

from ._frames import score_with
from ._job import job
from ._program import ScorelineError
from ._stream import Stream, answered, begun, pieces, with_answers


def arrow_function(
    *,
    model=None,
    version=None,
    models=None,
    bundle=None,
    features=None,
    returns=None,
    interval_level=None,
    threads=None,
):
    """A function that scores whatever tables an engine hands over; the arguments are those of ``score``.

    It takes a Table, RecordBatch or RecordBatchReader of pyarrow, an iterator of RecordBatches, a DataFrame of pandas or
    Polars, and gives the same kind back. SQL engines hand over columns: with ``features``, the names of the arguments, it
    takes arrays and gives back the answer that ``returns`` names.

    * Spark: ``frame.mapInArrow(function, function.schema(frame.schema))``
    * Polars: ``frame.map_batches(function, schema=function.schema(frame.collect_schema()))``
    * DuckDB: ``connection.create_function("clv", function, [DOUBLE, DOUBLE], DOUBLE, type="arrow", null_handling="special")``,
      or ``function(relation.to_arrow_reader())``
    * DataFusion: ``udf(function, [pa.float64(), pa.float64()], pa.float64(), "stable")``
    * Ray Data: ``dataset.map_batches(function, batch_format="pyarrow")``
    """
    features = tuple(features) if features is not None else None
    if (features is None) != (returns is None):
        raise ScorelineError(
            "`features` and `returns` belong together: the columns that come in, and the answer that goes out"
        )
    return ArrowFunction(job(model, version, models, bundle, interval_level, threads), features, returns)


class ArrowFunction:
    """Scores tables; what ``arrow_function`` returns. ``close`` ends the programs that wait for more."""

    def __init__(self, of, features=None, returns=None):
        self.job, self.features, self.returns = of, features, returns
        # Engines show a function by its name.
        self.__name__ = "scoreline"
        if features is not None:
            # DuckDB counts the parameters.
            names = [name if name.isidentifier() else f"column_{at}" for at, name in enumerate(features)]
            parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in names]
            self.__signature__ = inspect.Signature(parameters)
        self._open()

    def _open(self):
        self._lock, self._idle, self._owner = threading.Lock(), {}, os.getpid()
        self._finalizer = weakref.finalize(self, _end, self._idle, self._owner)

    def __reduce__(self):
        return type(self), (self.job, self.features, self.returns)

    def __call__(self, *data):
        if (
            self.features is not None
            and data
            and all(isinstance(column, (pa.Array, pa.ChunkedArray)) for column in data)
        ):
            return self._columns(data)
        if len(data) != 1:
            raise TypeError("arrays need `features` and `returns`, see `arrow_function`; anything else is one table")
        (table,) = data
        if isinstance(table, collections.abc.Iterator) and not isinstance(table, pa.RecordBatchReader):
            return self._iterator(table)
        return score_with(self, table)

    def schema(self, schema):
        """The schema of a scored table, of the kind that was given: pyarrow, Spark or Polars."""
        kind = type(schema).__module__.partition(".")[0]
        if isinstance(schema, pa.Schema):
            return self._schema(schema)
        if kind == "pyspark":
            from pyspark.sql.pandas.types import from_arrow_type, to_arrow_schema
            from pyspark.sql.types import StructField, StructType

            sent = to_arrow_schema(schema)
            added = list(self._schema(sent))[len(sent) :]
            return StructType([*schema.fields, *(StructField(of.name, from_arrow_type(of.type)) for of in added)])
        if kind == "polars":
            import polars

            sent = polars.DataFrame(schema=schema).to_arrow().schema
            added = polars.from_arrow(pa.schema(list(self._schema(sent))[len(sent) :]).empty_table()).schema
            return polars.Schema([*schema.items(), *added.items()])
        raise TypeError(f"a schema must be one of pyarrow, Spark or Polars, got `{type(schema).__qualname__}`")

    def batches(self, schema, batches):
        """The columns that are added, and the batches with their answers, by a program that is kept for the next table."""
        stream = self._take(schema)
        return stream.answers, self._lent(stream, batches)

    def close(self):
        """Ends the programs that wait for more. The function works on: the next call starts another."""
        with self._lock:
            _end(self._idle, self._owner)

    def _schema(self, schema):
        answers, rest = self.batches(schema, ())
        for _ in rest:
            pass
        return with_answers(schema, answers)

    def _iterator(self, batches):
        first = next(batches, None)
        if first is None:
            return
        _, scored = self.batches(first.schema, _chained(first, batches))
        yield from scored

    def _columns(self, columns):
        arrays = [column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column for column in columns]
        if len(arrays) != len(self.features):
            raise ScorelineError(
                f"the function takes {len(self.features)} columns ({', '.join(self.features)}), got {len(arrays)}"
            )
        scored = score_with(self, pa.Table.from_arrays(arrays, names=list(self.features)))
        if self.returns not in scored.column_names[len(arrays) :]:
            raise ScorelineError(
                f"`returns` must be one of {', '.join(scored.column_names[len(arrays) :])}, got `{self.returns}`"
            )
        answer = scored.column(scored.column_names.index(self.returns, len(arrays)))
        return answer if isinstance(columns[0], pa.ChunkedArray) else answer.combine_chunks()

    def _take(self, schema):
        schema = schema.remove_metadata()
        with self._lock:
            if self._owner != os.getpid():
                # A fork has the pipes of its parent's programs, and no say over them.
                self._idle, self._owner = {}, os.getpid()
            waiting = self._idle.setdefault(schema, [])
            while waiting:
                stream = waiting.pop()
                if stream.lives():
                    return stream
                stream.kill()
        return Stream(self.job, schema)

    @begun
    def _lent(self, stream, batches):
        """Answers batch after batch: the next is not asked for before the last is answered."""
        done = False
        try:
            yield
            for batch in batches:
                sent = pieces(batch)
                for piece in sent:
                    stream.send(piece)
                for piece in sent:
                    yield answered(stream, piece, stream.receive(piece.num_rows))
            done = True
        finally:
            if done:
                with self._lock:
                    self._idle.setdefault(stream.asked, []).append(stream)
            else:
                stream.kill()


def _chained(first, rest):
    yield first
    yield from rest


def _end(idle, owner):
    """Ends waiting programs, unless they are another process's."""
    streams = [stream for waiting in idle.values() for stream in waiting]
    idle.clear()
    if owner == os.getpid():
        for stream in streams:
            stream.kill()
