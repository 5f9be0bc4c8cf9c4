"""One run of ``scoreline score`` that is fed batches and gives back their answers, in order.

A thread of its own feeds it: a pipe that is full in both directions would otherwise stop both sides. A stream that is cut
looks complete to who reads it, so the run's exit code and the number of rows decide.
"""

import contextlib
import functools
import queue
import subprocess
import tempfile
import threading

import pyarrow as pa

from ._program import ScorelineError, environment, program, told

# Rows of a batch on the way: the program works on pieces of them on all cores.
BATCH_ROWS = 65_536
END = None


class Stream:
    """A running program, for tables of one schema."""

    def __init__(self, job, schema):
        self.asked, self.schema = schema, wire_schema(schema)
        self._width = len(schema)
        self._place = contextlib.ExitStack()
        arguments, models = self._place.enter_context(job.place())
        self._said = self._place.enter_context(tempfile.TemporaryFile())
        try:
            self._child = subprocess.Popen(
                [program(), "score", "--input", "-", "--input-format", "arrow", "--output", "-", "--quiet", *arguments],
                env=environment(models),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
            )
        except BaseException:
            self._place.close()
            raise
        self._batches = queue.SimpleQueue()
        self._problem = None
        self._feeder = threading.Thread(target=self._feed, name="scoreline-feed", daemon=True)
        self._feeder.start()
        try:
            # The schema of the answers comes before the first batch.
            self._answers = pa.ipc.open_stream(self._child.stdout)
        except (OSError, pa.ArrowException) as error:
            raise self._refusal(error) from None
        except BaseException:
            self.kill()
            raise
        self.answers = pa.schema(list(self._answers.schema)[self._width :])

    def _feed(self):
        pipe = self._child.stdin
        try:
            writer = pa.ipc.new_stream(pipe, self.schema)
            # A schema alone is not sent before there is a batch.
            batch = pa.RecordBatch.from_arrays([pa.nulls(0, of) for of in self.schema.types], schema=self.schema)
            while batch is not END:
                writer.write_batch(batch)
                pipe.flush()
                batch = self._batches.get()
            writer.close()
        except OSError:
            pass  # The program ended: it says why.
        except Exception as error:
            # No end mark is written: what was sent is not the table.
            self._problem = error
            self._child.kill()
        finally:
            with contextlib.suppress(OSError):
                pipe.close()

    def send(self, batch):
        """Hands a batch to the program, without waiting."""
        arrays = [
            column.cast(of) if column.type != of else column for column, of in zip(batch.columns, self.schema.types)
        ]
        self._batches.put(pa.RecordBatch.from_arrays(arrays, schema=self.schema))

    def receive(self, rows):
        """The answers to the next rows, one array for each column that the program adds."""
        parts = []
        while rows > 0:
            try:
                part = self._answers.read_next_batch()
            except (StopIteration, OSError, pa.ArrowException) as error:
                raise self._refusal(error) from None
            rows -= part.num_rows
            if part.num_rows:
                parts.append(part.columns[self._width :])
        if rows < 0:
            raise self._refusal(ValueError("the program answered more rows than it was asked about"))
        if not parts:
            return [pa.nulls(0, of) for of in self.answers.types]
        return [column[0] if len(column) == 1 else pa.concat_arrays(column) for column in zip(*parts)]

    def close(self):
        """Ends the input and sees to it that nothing is left unsaid."""
        self._batches.put(END)
        try:
            while True:
                if self._answers.read_next_batch().num_rows:
                    raise self._refusal(ValueError("the program answered more rows than it was asked about"))
        except StopIteration:
            pass
        except (OSError, pa.ArrowException) as error:
            raise self._refusal(error) from None
        self._feeder.join()
        if self._child.wait() != 0 or self._problem:
            raise self._refusal(None)
        self._release()

    def lives(self):
        """Whether the program still runs."""
        return self._child.poll() is None

    def kill(self):
        """Ends the program whatever it is doing."""
        self._batches.put(END)
        self._child.kill()
        self._child.wait()
        self._release()

    def _release(self):
        self._child.stdout.close()
        self._place.close()

    def _refusal(self, error):
        """Ends the program; what it said, as an exception."""
        self._batches.put(END)
        # It closed its output and is about to end; where it is not the program that failed, it still runs.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(10)
        code = self._child.poll()
        self._child.kill()
        self._child.wait()
        self._said.seek(0)
        said = told(self._said.read().decode("utf-8", "replace")).replace("`-`", "the table")
        self._release()
        if self._problem:
            return ScorelineError(f"the table cannot be sent: {self._problem}")
        return ScorelineError(said or str(error) or f"the program ended with {code}", code)


def wire_schema(schema):
    """The columns as they are sent: a piece of a column of views would carry the text of all pieces."""

    def sent(field):
        if pa.types.is_string_view(field.type):
            return field.with_type(pa.large_string())
        return field.with_type(pa.large_binary()) if pa.types.is_binary_view(field.type) else field

    return pa.schema([sent(field) for field in schema])


def answered(stream, batch, answers):
    """A batch with its answers behind its columns."""
    schema = with_answers(batch.schema, stream.answers)
    return pa.RecordBatch.from_arrays([*batch.columns, *answers], schema=schema)


def with_answers(schema, answers):
    """The schema of a scored table."""
    return pa.schema([*schema, *answers], metadata=schema.metadata)


def begun(generator):
    """A generator that has begun: one that nobody reads ends its program all the same."""

    @functools.wraps(generator)
    def begin(*given, **named):
        started = generator(*given, **named)
        next(started)
        return started

    return begin


@begun
def through(stream, batches, ahead=4):
    """Scores batches one after the other, at most ``ahead`` of them on their way."""
    try:
        yield
        waiting = []
        for batch in batches:
            for piece in pieces(batch):
                stream.send(piece)
                waiting.append(piece)
                if len(waiting) >= ahead:
                    first = waiting.pop(0)
                    yield answered(stream, first, stream.receive(first.num_rows))
        for batch in waiting:
            yield answered(stream, batch, stream.receive(batch.num_rows))
        stream.close()
    finally:
        if stream.lives():
            stream.kill()


def pieces(batch):
    """A large batch in parts."""
    if batch.num_rows <= BATCH_ROWS:
        return [batch]
    return [batch.slice(start, BATCH_ROWS) for start in range(0, batch.num_rows, BATCH_ROWS)]
