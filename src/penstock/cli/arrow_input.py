"""Parquet and Arrow files as a stream of record batches, each sent with `send_arrow`. Needs pyarrow: the extra `arrow`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from penstock import KafkaProducer
from penstock.cli.inputs import InputError
from penstock.cli.interrupts import Interrupts
from penstock.cli.output import CommandError
from penstock.cli.sending import Headers, Pace
from penstock.cli.tally import Tally

if TYPE_CHECKING:
    import pyarrow

_BATCH_ROWS: Final = 8192
"""Rows that are sent and counted together; a signal waits for them."""
_PACED_S: Final = 0.05
"""With a rate limit, the rows of this many seconds are sent together."""


def require_pyarrow() -> None:
    """Raise `CommandError` if pyarrow is missing."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise CommandError(
            "Parquet and Arrow files are read with pyarrow, which is not installed: pip install 'penstock[arrow]'",
            code=2,
        ) from None


class ArrowSource:
    """The record batches of a Parquet file, of an Arrow file (Feather 2), or of an Arrow stream."""

    blank_lines = 0

    def __init__(self, stream: BinaryIO, name: str, *, parquet: bool, key: str | None = None) -> None:
        """`key`: a column's name. The file is checked when it is read."""
        self._stream = stream
        self._parquet = parquet
        self.key = key
        self.name = name
        self.line = 0
        """The number of rows that were returned so far."""

    def fail(self, reason: str) -> InputError:
        """The error to raise about the file."""
        return InputError(self.name, 0, reason)

    def batches(self, rows: int = _BATCH_ROWS) -> Iterator[pyarrow.RecordBatch]:
        """The batches, of at most `rows` rows."""
        import pyarrow

        expected = "a Parquet file" if self._parquet else "an Arrow file or stream"
        try:
            for batch in self._read(rows):
                for start in range(0, batch.num_rows, rows):
                    piece = batch.slice(start, rows)
                    self.line += piece.num_rows
                    yield piece
        except pyarrow.ArrowInvalid as error:
            raise self.fail(f"not {expected}, or damaged: {error}") from error
        except OSError as error:  # pyarrow's ArrowIOError is the same class
            raise self.fail(error.strerror or str(error)) from error

    def _read(self, rows: int) -> Iterator[pyarrow.RecordBatch]:
        if self._parquet:
            from pyarrow import parquet

            yield from parquet.ParquetFile(self._stream).iter_batches(batch_size=rows)
            return
        from pyarrow import ipc

        if self._stream.seekable() and self._stream.read(6) == b"ARROW1":
            self._stream.seek(0)
            file = ipc.open_file(self._stream)
            for number in range(file.num_record_batches):
                yield file.get_batch(number)
            return
        if self._stream.seekable():
            self._stream.seek(0)
        yield from ipc.open_stream(self._stream)


@contextmanager
def _input_errors(source: ArrowSource) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError) as error:  # the column is missing, or its type cannot be a key or JSON
        raise source.fail(str(error)) from error


def pump_batches(
    producer: KafkaProducer[Any, Any],
    topic: str,
    source: ArrowSource,
    tally: Tally,
    interrupts: Interrupts,
    *,
    partition: int | None = None,
    headers: Headers = (),
    pace: Pace | None = None,
) -> None:
    """Send all rows as JSON objects; returns when the last one is buffered. The counterpart of `pump`."""
    rows = _BATCH_ROWS if pace is None else max(1, min(_BATCH_ROWS, int(pace.rate * _PACED_S)))
    column = None
    try:
        for batch in source.batches(rows):
            if headers:
                batch, column = _with_headers(batch, headers)
            if pace is not None:
                for _ in range(batch.num_rows):
                    pace.wait()
            interrupts.guarded = True
            with _input_errors(source):
                result = producer.send_arrow(topic, batch, key=source.key, partition=partition, headers=column)
            tally.add_bulk(result)
            interrupts.guarded = False
            if interrupts.pending:
                break
    finally:
        interrupts.check()


def _with_headers(batch: pyarrow.RecordBatch, headers: Headers) -> tuple[pyarrow.RecordBatch, str]:
    """The batch with a column that has these headers in each row, and the column's name, which is new to the batch."""
    import pyarrow

    name = "headers"
    while name in batch.schema.names:
        name += "_"
    column = pyarrow.array([list(headers)] * batch.num_rows, pyarrow.map_(pyarrow.string(), pyarrow.binary()))
    return batch.append_column(name, column), name
