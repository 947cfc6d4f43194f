"""The result of `MockProducer.send_many` and `send_arrow`: `BulkResult`'s methods over the futures of the records."""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from penstock.errors import KafkaError, bulk_error, not_buffered
from penstock.testing.mock_future import MockDeliveryFuture

if TYPE_CHECKING:
    from penstock.testing.mock_producer import SentRecord

_log: Final = logging.getLogger(__name__)


class MockBulkResult:
    """What became of many records; done once the mock has completed the last of them."""

    def __init__(self, entries: Sequence[tuple[MockDeliveryFuture, SentRecord] | KafkaError]) -> None:
        """For each record its future and how it was sent, or why it was not."""
        self._entries = list(entries)

    def _futures(self) -> list[MockDeliveryFuture]:
        return [entry[0] for entry in self._entries if isinstance(entry, tuple)]

    def result(self, timeout: float | None = None) -> MockBulkResult:
        """This result, once every record is delivered or has failed; `TimeoutError` if `timeout` seconds are too few."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for future in self._futures():
            future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self

    def done(self) -> bool:
        """Whether it is known what became of every record."""
        return all(future.done() for future in self._futures())

    @property
    def errors(self) -> dict[int, KafkaError]:
        """The failed records, by index."""
        found = {}
        for index, entry in enumerate(self.result()._entries):
            error = entry[0].exception() if isinstance(entry, tuple) else entry
            if error is not None:
                found[index] = error
        return found

    def raise_for_errors(self) -> None:
        """Raise `DeliveryError` if records failed."""
        errors = self.errors
        if errors:
            raise bulk_error(errors=errors, records=len(self))

    @property
    def offsets(self) -> array[int]:
        """The records' offsets, -1 for one that failed."""
        entries = self.result()._entries
        offsets = (entry[0].offset() if isinstance(entry, tuple) else -1 for entry in entries)
        return array("q", offsets)

    @property
    def partitions(self) -> array[int]:
        """The records' partitions, -1 for one that was not sent."""
        return array("i", (entry[1].partition if isinstance(entry, tuple) else -1 for entry in self._entries))

    def add_done_callback(self, fn: Callable[[MockBulkResult], object]) -> None:
        """Call `fn` with this result when it is done, or at once if it is; what it raises is logged."""
        futures = self._futures()
        left = len(futures)

        def one_less(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                fn(self)

        for future in futures:
            future.add_done_callback(one_less)
        if not futures:
            try:
                fn(self)
            except Exception:
                _log.exception("a done callback of a bulk result raised")

    @property
    def serialized_bytes(self) -> int:
        """Bytes of all keys and values that were sent."""
        sent = (entry[1] for entry in self._entries if isinstance(entry, tuple))
        return sum(len(data) for record in sent for data in (record.key, record.value) if data is not None)

    def __len__(self) -> int:
        """Records, those that were not sent included."""
        return len(self._entries)

    def __bool__(self) -> bool:
        """True, also without records."""
        return True


def send_all(
    send: Callable[[Any], tuple[MockDeliveryFuture, SentRecord]], topic: str, records: Iterable[Any]
) -> MockBulkResult:
    """Send one by one, by the rule of `send_many`: the first record's error is raised, later ones become entries."""
    entries: list[tuple[MockDeliveryFuture, SentRecord] | KafkaError] = []
    for record in records:
        try:
            entries.append(send(record))
        except Exception as error:
            if not any(isinstance(entry, tuple) for entry in entries):
                raise
            entries.append(error if isinstance(error, KafkaError) else not_buffered(error, topic))
    return MockBulkResult(entries)
