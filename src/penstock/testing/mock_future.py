"""The futures of `MockProducer` and `AsyncMockProducer`: the real ones' methods, completed by the test."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Generator
from typing import Any, Final

from penstock._log import log_line
from penstock._native import RecordMetadata, timeout_s
from penstock.errors import KafkaError

_log: Final = logging.getLogger(__name__)


class MockDeliveryFuture:
    """The result of a record; the mock's `complete_next`, `error_next`, `flush` or `close` completes it."""

    def __init__(self) -> None:
        """Starts pending."""
        self._condition = threading.Condition()
        self._metadata: RecordMetadata | None = None
        self._error: KafkaError | None = None
        self._callbacks: list[Callable[[MockDeliveryFuture], object]] = []
        self.noticed = False
        """Whether the result was requested or a callback will get it: `flush` does not raise an error that is noticed."""

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """The record's metadata; raises its error, or `TimeoutError` if it is not done within `timeout` seconds."""
        error = self.exception(timeout)
        if error is not None:
            raise error
        assert self._metadata is not None
        return self._metadata

    def exception(self, timeout: float | None = None) -> KafkaError | None:
        """The record's error, None if it was delivered; `TimeoutError` if it is not done within `timeout` seconds."""
        seconds = timeout_s(timeout)
        with self._condition:
            self.noticed = True
            if not self._condition.wait_for(self.done, seconds):
                raise TimeoutError("the record is pending: call complete_next(), error_next() or flush()")
            return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Like `exception`, but does not set `noticed`; for results that hold many futures."""
        seconds = timeout_s(timeout)
        with self._condition:
            if not self._condition.wait_for(self.done, seconds):
                raise TimeoutError("records are pending: call complete_next(), error_next() or flush()")

    def offset(self) -> int:
        """The record's offset, -1 if it failed or is not done."""
        return -1 if self._metadata is None else self._metadata.offset

    def done(self) -> bool:
        """Whether the record is delivered or has failed."""
        return self._metadata is not None or self._error is not None

    def running(self) -> bool:
        """Whether the record is pending."""
        return not self.done()

    def cancel(self) -> bool:
        """False: a record that was sent cannot be cancelled."""
        return False

    def cancelled(self) -> bool:
        """False: see `cancel`."""
        return False

    def add_done_callback(self, fn: Callable[[MockDeliveryFuture], object]) -> None:
        """Call `fn` with this future when it is done, or at once if it is; an exception in `fn` is logged."""
        with self._condition:
            self.noticed = True
            if not self.done():
                self._callbacks.append(fn)
                return
        self._call(fn)

    def complete(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        """For `MockProducer`: set the result (exactly one of both is given), then run the callbacks."""
        with self._condition:
            self._metadata, self._error = metadata, error
            callbacks, self._callbacks = self._callbacks, []
            self._condition.notify_all()
        for fn in callbacks:
            self._call(fn)

    def _call(self, fn: Callable[[MockDeliveryFuture], object]) -> None:
        try:
            fn(self)
        except Exception as error:
            log_line(_log, logging.ERROR, "a done callback of a record raised", exc_info=error)


class AsyncMockDeliveryFuture(asyncio.Future[RecordMetadata]):
    """The same for asyncio. Cancelling it does not cancel the record."""

    noticed = False
    """As `MockDeliveryFuture.noticed`."""

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        """The metadata; raises the record's error."""
        self._notice()
        return super().__await__()

    __iter__ = __await__

    def result(self) -> RecordMetadata:
        """The metadata, or raise the error; `asyncio.InvalidStateError` before it is done."""
        self._notice()
        return super().result()

    def exception(self) -> BaseException | None:
        """The error or None; `asyncio.InvalidStateError` before it is done."""
        self._notice()
        return super().exception()

    def add_done_callback(self, fn: Callable[[Any], object], /, **context: Any) -> None:
        """Call `fn(future)` in the loop."""
        self._notice()
        super().add_done_callback(fn, **context)

    async def wait(self) -> None:
        """Wait until it is done, without setting `noticed`; for results that hold many futures."""
        if not self.done():
            over = asyncio.Event()
            super().add_done_callback(lambda _: over.set())
            await over.wait()

    def offset(self) -> int:
        """The record's offset, -1 if it failed or is not done."""
        delivered = self.done() and not self.cancelled() and super().exception() is None
        return super().result().offset if delivered else -1

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting: the record stays pending, and its error counts as not noticed."""
        cancelled = super().cancel(msg)
        if cancelled:
            self.noticed = False
        return cancelled

    def complete(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        """Like `MockDeliveryFuture.complete`; for any thread."""
        loop = self.get_loop()
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            self._settle(metadata, error)
        else:
            loop.call_soon_threadsafe(self._settle, metadata, error)

    def _notice(self) -> None:
        # A cancelled future raises `CancelledError`, not the record's error.
        self.noticed = self.noticed or not self.cancelled()

    def _settle(self, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        if self.done():
            return  # cancelled
        if error is not None:
            self.set_exception(error)
            self._log_traceback = False  # `flush` raises errors that were not noticed
        elif metadata is not None:
            self.set_result(metadata)
