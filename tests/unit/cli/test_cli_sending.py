"""Sending at a rate, and the end of a run, with a mock producer."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, cast

import pytest

from penstock import KafkaProducer
from penstock.cli.interrupts import Interrupts
from penstock.cli.sending import Pace, deliver, pump
from penstock.cli.tally import Tally
from penstock.testing import MockProducer


def mock(**options: Any) -> KafkaProducer[bytes, bytes]:
    return cast("KafkaProducer[bytes, bytes]", MockProducer(**options))


def test_everything_is_counted() -> None:
    tally, producer = Tally(latency_every=1), MockProducer(partitions=3)
    entries = [(b"a", b"1"), (b"b", b"22"), (None, None)]
    pump(
        cast("KafkaProducer[bytes, bytes]", producer),
        "t",
        entries,
        tally,
        Interrupts(),
        headers=lambda number: (("n", b"%d" % number),),
    )
    assert [record.headers for record in producer.history()] == [(("n", b"%d" % number),) for number in (1, 2, 3)]
    tally.settle()
    summary = tally.summary()
    assert (summary.records, summary.acknowledged, summary.failed, summary.bytes) == (3, 3, 0, 5)
    assert sum(summary.partitions.values()) == 3
    assert summary.latency_p50_ms is not None


def test_a_rate_is_kept_with_few_sleeps() -> None:
    now = 0.0
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    pace = Pace(1000, now=lambda: now, sleep=sleep)
    for _ in range(1000):
        pace.wait()
    assert now == pytest.approx(1.0, abs=0.01)
    assert len(slept) < 200


def test_a_rate_does_not_make_up_for_lost_time() -> None:
    now = 0.0
    slept: list[float] = []
    pace = Pace(10, now=lambda: now, sleep=slept.append)
    pace.wait()
    now = 100.0
    pace.wait()
    pace.wait()
    assert slept == [pytest.approx(0.1)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_sending_and_closes_with_a_time_limit(
    number: signal.Signals, in_the_foreground: Callable[..., None]
) -> None:
    closings: list[float | None] = []

    class Watched(MockProducer[bytes, bytes]):
        def close(self, timeout: float | None = None) -> None:
            closings.append(timeout)
            super().close(timeout)

    tally = Tally()
    stopped_by = deliver(
        cast("KafkaProducer[bytes, bytes]", Watched()),
        lambda _: signal.raise_signal(number),
        tally,
        nullcontext(),
    )
    assert stopped_by is number
    assert closings[0] == 5.0
    assert signal.getsignal(number) is in_the_foreground


def test_no_record_gets_lost_between_sending_and_counting() -> None:
    producer, tally = MockProducer(), Tally()

    class Pressed(MockProducer[bytes, bytes]):
        def send(self, *arguments: Any, **fields: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            return producer.send(*arguments, **fields)

    def send(interrupts: Interrupts) -> None:
        pump(cast("KafkaProducer[bytes, bytes]", Pressed()), "t", [(None, b"1"), (None, b"2")], tally, interrupts)

    assert deliver(cast("KafkaProducer[bytes, bytes]", producer), send, tally, nullcontext())
    assert (tally.sent, tally.acknowledged, len(producer.history())) == (1, 1, 1)


def test_a_send_that_waits_for_room_is_interrupted() -> None:
    class Full(MockProducer[bytes, bytes]):
        def send(self, *arguments: Any, **fields: Any) -> Any:
            signal.raise_signal(signal.SIGINT)
            signal.pause()  # until the timer's signal, whose handler raises

    producer, tally = cast("KafkaProducer[bytes, bytes]", Full()), Tally()
    assert deliver(
        producer, lambda interrupts: pump(producer, "t", [(None, b"1")], tally, interrupts), tally, nullcontext()
    )
    assert tally.sent == 0


def test_the_producer_is_closed_after_every_error() -> None:
    producer = mock()

    def fail(interrupts: Interrupts) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        deliver(producer, fail, Tally(), nullcontext())
    assert producer.closed
