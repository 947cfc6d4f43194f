"""The results of the mocks' `send_many` and `send_arrow`: the real ones' methods over the futures of the records."""

from __future__ import annotations

import asyncio
import logging
import time
from array import array
from collections.abc import Callable, Generator, Sequence
from contextvars import Context
from typing import Any, Final, Generic, TypeAlias, TypeVar

from penstock._log import log_line
from penstock._native import timeout_s
from penstock.errors import KafkaError, bulk_error, not_buffered
from penstock.testing.mock_future import AsyncMockDeliveryFuture, MockDeliveryFuture
from penstock.testing.mock_record import SentRecord

_log: Final = logging.getLogger(__name__)

F = TypeVar("F", MockDeliveryFuture, AsyncMockDeliveryFuture)

Entry: TypeAlias = "tuple[F, SentRecord] | KafkaError"
"""A record's future and how it was sent, or the error that kept it from being sent."""


class _Outcomes(Generic[F]):
    """The common part of both results: everything except their ways to wait."""

    def __init__(self, entries: Sequence[Entry[F]]) -> None:
        """`entries`: one for each record."""
        self._entries: list[Entry[F]] = list(entries)

    def _futures(self) -> list[F]:
        return [entry[0] for entry in self._entries if isinstance(entry, tuple)]

    def _check_done(self) -> None:
        raise NotImplementedError

    def done(self) -> bool:
        """Whether every record is delivered or has failed."""
        return all(future.done() for future in self._futures())

    @property
    def errors(self) -> dict[int, KafkaError]:
        """The failed records, by index."""
        self._check_done()
        found: dict[int, Any] = {}
        for index, entry in enumerate(self._entries):
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
        self._check_done()
        return array("q", (entry[0].offset() if isinstance(entry, tuple) else -1 for entry in self._entries))

    @property
    def partitions(self) -> array[int]:
        """The records' partitions, -1 for one that was not sent."""
        return array("i", (entry[1].partition if isinstance(entry, tuple) else -1 for entry in self._entries))

    @property
    def serialized_bytes(self) -> int:
        """Bytes of all keys and values that were sent."""
        sent = (entry[1] for entry in self._entries if isinstance(entry, tuple))
        return sum(len(data) for record in sent for data in (record.key, record.value) if data is not None)

    def _on_done(self, call: Callable[[], object]) -> bool:
        """Call `call()` after the last record is done; False if no record is pending."""
        futures = self._futures()
        left = len(futures)

        def one_less(_: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                call()

        for future in futures:
            future.add_done_callback(one_less)
        return bool(futures)

    def __len__(self) -> int:
        """The number of records, including those that were not sent."""
        return len(self._entries)

    def __bool__(self) -> bool:
        """True, also without records."""
        return True


class MockBulkResult(_Outcomes[MockDeliveryFuture]):
    """The results of many records; done when the mock has completed the last of them."""

    def result(self, timeout: float | None = None) -> MockBulkResult:
        """This result, once every record is delivered or has failed; `TimeoutError` after `timeout` seconds."""
        seconds = timeout_s(timeout)
        deadline = None if seconds is None else time.monotonic() + seconds
        for future in self._futures():
            future.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return self

    def _check_done(self) -> None:
        self.result()

    def add_done_callback(self, fn: Callable[[MockBulkResult], object]) -> None:
        """Call `fn` with this result when it is done, or at once if it is; an exception in `fn` is logged."""
        if not self._on_done(lambda: fn(self)):
            try:
                fn(self)
            except Exception as error:
                log_line(_log, logging.ERROR, "a done callback of a bulk result raised", exc_info=error)


class AsyncMockBulkResult(_Outcomes[AsyncMockDeliveryFuture]):
    """The same for asyncio: `await` it first, then use the methods."""

    def __await__(self) -> Generator[Any, None, AsyncMockBulkResult]:
        """Returns itself, once every record is delivered or has failed."""
        return self._resolved().__await__()

    async def _resolved(self) -> AsyncMockBulkResult:
        for future in self._futures():
            await future.wait()
        return self

    def _check_done(self) -> None:
        if not self.done():
            raise asyncio.InvalidStateError("records are pending: await the result first")

    def add_done_callback(self, fn: Callable[[AsyncMockBulkResult], object], *, context: Context | None = None) -> None:
        """Call `fn` with this result in the loop when it is done."""
        loop = asyncio.get_running_loop()
        if not self._on_done(lambda: loop.call_soon(fn, self, context=context)):
            loop.call_soon(fn, self, context=context)


class Entries(Generic[F]):
    """The entries of one bulk call of a mock, by the rule of `send_many`: an error of the first record is raised, later ones
    become entries."""

    def __init__(self, topic: str) -> None:
        """None yet."""
        self._topic = topic
        self.taken: list[Entry[F]] = []

    def take(self, send: Callable[[], tuple[F, SentRecord]]) -> None:
        """Send the next record."""
        try:
            self.taken.append(send())
        except Exception as error:
            if not any(isinstance(entry, tuple) for entry in self.taken):
                raise
            self.taken.append(error if isinstance(error, KafkaError) else not_buffered(error, self._topic))
