"""Sends a stream of records at a rate and waits for every acknowledgment, also after a signal."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from penstock import KafkaProducer
from penstock.cli.inputs import Entry
from penstock.cli.interrupts import Interrupts
from penstock.cli.tally import Tally
from penstock.errors import DeliveryError, KafkaTimeoutError

Headers = tuple[tuple[str, bytes | None], ...]

DRAIN_S: Final = 5.0
"""How long an interrupted run waits for sent records, in seconds."""

_FLUSH_SLICE_S: Final = 0.1


class Pace:
    """Limits a sender to a rate, in records/s. It sleeps seldom and for longer, instead of a moment per record."""

    _LEAD_S: Final = 0.005

    def __init__(
        self,
        rate: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """The clock and the sleep can be replaced."""
        self.rate = rate
        self._interval_s = 1 / rate
        self._now = now
        self._sleep = sleep
        self._due = now()

    def wait(self) -> None:
        """Call it once per record, before the send."""
        now = self._now()
        ahead = self._due - now
        if ahead > self._LEAD_S:
            self._sleep(ahead)
        elif ahead < 0:
            self._due = now  # lost time is not made up for: a rate is a limit
        self._due += self._interval_s


def pump(
    producer: KafkaProducer[bytes, bytes],
    topic: str,
    entries: Iterable[Entry],
    tally: Tally,
    interrupts: Interrupts,
    *,
    partition: int | None = None,
    headers: Callable[[int], Headers] | None = None,
    pace: Pace | None = None,
) -> None:
    """Send all entries; `headers` is called with the record's number, from 1 on. Returns when the last is buffered."""
    send, add = producer.send, tally.add
    try:
        for number, (key, value) in enumerate(entries, 1):
            if pace is not None:
                pace.wait()
            given = () if headers is None else headers(number)
            callback = None if (number - 1) % tally.latency_every else tally.timed()
            size = (len(key) if key else 0) + (len(value) if value else 0)
            interrupts.guarded = True
            add(send(topic, value, key=key, partition=partition, headers=given, callback=callback), size)
            interrupts.guarded = False
            if interrupts.pending:
                break
    finally:
        interrupts.check()


def deliver(
    producer: KafkaProducer[bytes, bytes],
    send: Callable[[Interrupts], None],
    tally: Tally,
    shown: AbstractContextManager[None],
) -> signal.Signals | None:
    """Call `send`, wait for every acknowledgment and close the producer; returns the signal that interrupted it, if any.

    `shown` is entered for that time (the progress bar). After a signal, sent records have `DRAIN_S` seconds, then they fail.
    """
    stopped_by = None
    with Interrupts() as interrupts, shown:
        try:
            try:
                send(interrupts)
                _flush(producer, tally, interrupts)
            except KeyboardInterrupt:
                stopped_by = interrupts.stopped_by or signal.SIGINT
                with _no_log_of_failures():
                    producer.close(timeout=DRAIN_S)
        finally:
            with _no_log_of_failures():
                producer.close()
            tally.settle()
            tally.end()
    return stopped_by


@contextlib.contextmanager
def _no_log_of_failures() -> Iterator[None]:
    """Drop what `close` logs about failed records on this thread: the tally counts each of them."""
    logger, closing = logging.getLogger("penstock.producer"), threading.get_ident()

    def is_not_from_here(record: logging.LogRecord) -> bool:
        return record.thread != closing

    logger.addFilter(is_not_from_here)
    try:
        yield
    finally:
        logger.removeFilter(is_not_from_here)


def _flush(producer: KafkaProducer[bytes, bytes], tally: Tally, interrupts: Interrupts) -> None:
    """Flush in slices, and count after each: a user may be watching the progress."""
    flushed = False
    while not flushed:
        try:
            producer.flush(timeout=_FLUSH_SLICE_S)
            flushed = True
        except DeliveryError:
            flushed = True  # the futures count each failure
        except KafkaTimeoutError:
            pass
        interrupts.guarded = True
        tally.settle()
        interrupts.check()
