"""Tables of each library as Arrow, and answers back in the library's own kind.

What came in is never converted back: its rows, index, columns and types stay, and the answers are put behind them.
"""

import sys

import pyarrow as pa

from ._job import job
from ._program import ScorelineError
from ._stream import BATCH_ROWS, Stream, through, with_answers


def score(data, *, model=None, version=None, models=None, bundle=None, interval_level=None, threads=None):
    """Scores a table of pandas, Polars or pyarrow; the same kind comes back, with the answers behind its columns.

    ``model`` is a name in the folder ``models``; without a ``version`` the one that serves. Instead of both, ``bundle`` is the
    folder of one bundle, or what ``pack`` returned. Columns are found by the names of the model's features. A row that
    cannot be scored has its reason in ``error``.

    A ``RecordBatchReader`` comes back as one: rows are scored as they are read.
    """
    return score_with(Runs(job(model, version, models, bundle, interval_level, threads)), data)


class Runs:
    """A run for each table."""

    def __init__(self, of):
        self.job = of

    def batches(self, schema, batches):
        """The columns that are added, and the batches with their answers."""
        stream = Stream(self.job, schema)
        return stream.answers, through(stream, batches)


def score_with(runs, data):
    """Scores a table of any kind by runs of the program."""
    if isinstance(data, pa.Table):
        return _table(runs, data)
    if isinstance(data, pa.RecordBatch):
        scored = _table(runs, pa.Table.from_batches([data])).combine_chunks()
        return next(iter(scored.to_batches()), None) or pa.RecordBatch.from_pylist([], scored.schema)
    if isinstance(data, pa.RecordBatchReader):
        answers, scored = runs.batches(data.schema, data)
        return pa.RecordBatchReader.from_batches(with_answers(data.schema, answers), scored)
    if _is_a(data, "pandas", "DataFrame"):
        return _pandas(runs, data)
    if _is_a(data, "polars", "DataFrame"):
        return _polars(runs, data)
    if _is_a(data, "polars", "LazyFrame"):
        raise TypeError(
            "a Polars `LazyFrame` has no rows yet: give `frame.collect()`, or `frame.map_batches(scoreline.arrow_function(…))`"
        )
    raise TypeError(
        "a table must be a DataFrame of pandas or Polars, or a Table, RecordBatch or RecordBatchReader of pyarrow, "
        f"`{type(data).__module__}.{type(data).__qualname__}` is none"
    )


def _is_a(data, library, kind):
    module = sys.modules.get(library)
    return module is not None and isinstance(data, getattr(module, kind))


def _table(runs, table):
    answers, scored = runs.batches(table.schema, _batches(table))
    return pa.Table.from_batches(scored, with_answers(table.schema, answers))


def _batches(table):
    """The rows in batches of one size, however the table is cut: leads are placed among those of their block."""
    for start in range(0, table.num_rows, BATCH_ROWS):
        yield from table.slice(start, BATCH_ROWS).combine_chunks().to_batches()


def _answers(runs, table):
    """The answers to a table's rows: columns by name."""
    scored = _table(runs, table)
    return {name: scored.column(at) for at, name in enumerate(scored.column_names) if at >= table.num_columns}


def _pandas(runs, frame):
    columns = [_of_pandas(frame.iloc[:, at]) for at in range(frame.shape[1])]
    names = [str(name) for name in frame.columns]
    if not columns:
        raise ScorelineError("the table has no columns")
    scored = frame.copy(deep=False)
    for name, column in _answers(runs, pa.Table.from_arrays(columns, names)).items():
        # By position: an index may name two rows alike.
        scored[name] = column.to_pandas().array
    return scored


def _of_pandas(column):
    try:
        return _without_chunks(pa.Array.from_pandas(column))
    except (pa.ArrowException, TypeError, ValueError):
        return _as_text(column)


def _without_chunks(column):
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _as_text(column):
    """A column of which Arrow knows no type, cell by cell as a CSV would have it. What is missing is missing."""
    missing = lambda cell: cell is None or cell != cell
    return pa.array([None if _scalar(missing, cell) else str(cell) for cell in column], pa.string())


def _scalar(missing, cell):
    try:
        return bool(missing(cell))
    except (TypeError, ValueError):
        return False


def _polars(runs, frame):
    import polars

    columns = []
    for column in frame.get_columns():
        columns.append(_as_text(column) if column.dtype == polars.Object else _without_chunks(column.to_arrow()))
    if not columns:
        raise ScorelineError("the table has no columns")
    answers = _answers(runs, pa.Table.from_arrays(columns, frame.columns))
    return frame.with_columns(polars.Series(name, column) for name, column in answers.items())
