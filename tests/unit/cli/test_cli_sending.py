"""Counting, rates, and Ctrl-C, with a mock producer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, cast

import pytest

from penstock import KafkaProducer, RecordMetadata
from penstock.cli.interrupts import Interrupts
from penstock.cli.progress import line, progress
from penstock.cli.sending import Pace, deliver, pump
from penstock.cli.tally import Tally
from penstock.errors import KafkaError, KafkaTimeoutError
from penstock.testing import MockProducer


def mock(**options: Any) -> KafkaProducer[bytes, bytes]:
    return cast("KafkaProducer[bytes, bytes]", MockProducer(**options))


def metadata(partition: int = 0) -> RecordMetadata:
    return RecordMetadata("t", partition, 0, 0, 0, 0)


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


def test_failures_are_counted_and_the_first_ones_kept() -> None:
    tally, producer = Tally(), MockProducer(auto_complete=False)
    futures = [producer.send("t", b"v") for _ in range(8)]
    for future in futures:
        tally.add(future, 1)
    for letter in "abcdefg":
        producer.error_next(KafkaError(f"error {letter}"))
    producer.complete_next()
    tally.settle()
    summary = tally.summary()
    assert (summary.acknowledged, summary.failed) == (1, 7)
    assert [str(failures) for failures in summary.errors] == [f"1 record failed: error {letter}" for letter in "abcde"]
    assert summary.as_json()["errors"][0] == {"error": "error a", "records": 1}


def test_failures_that_differ_in_numbers_only_are_one_reason() -> None:
    tally, producer = Tally(), MockProducer(auto_complete=False)
    for _ in range(2000):
        tally.add(producer.send("t", b"v"), 1)
    for number in range(1999):
        producer.error_next(KafkaError(f"failed after {number} ms", partition=number))
    producer.error_next(KafkaTimeoutError("failed after 5 ms"))
    tally.settle()
    first, second = tally.summary().errors
    assert (str(first), second.records) == ("1,999 records failed: failed after 0 ms (partition 0)", 1)


def test_a_stuck_partition_does_not_hold_the_futures_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.cli.tally._SWEEP_AT", 4)
    tally, stuck = Tally(), MockProducer(auto_complete=False)
    tally.add(stuck.send("t", b"v"), 1)
    others = MockProducer()
    for _ in range(1000):
        tally.add(others.send("t", b"v"), 1)
    tally.settle()
    assert tally.acknowledged == 1000
    assert len(tally._waiting) == 1


def test_a_failed_record_has_no_latency() -> None:
    tally = Tally()
    tally.timed()(None, KafkaError("no"))
    assert tally.summary().as_json()["latency_ms"] == {"p50": None, "p99": None}


def test_the_number_of_latencies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.cli.tally._MOST_SAMPLES", 4)
    tally = Tally(latency_every=1)
    for _ in range(5):
        tally.timed()(metadata(), None)
    assert tally.latency_every > 1
    assert len(tally._latencies_ms) < 4


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


def _not_taken_over(*_: object) -> None:
    raise AssertionError("a signal arrived for which no handler was installed")


@pytest.fixture
def in_the_foreground() -> Iterator[None]:
    """No signal is ignored, however the tests were started; a signal without a handler does not end them."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _not_taken_over) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("in_the_foreground")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_sending_and_closes_with_a_time_limit(number: signal.Signals) -> None:
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
    assert signal.getsignal(number) is _not_taken_over


def test_the_second_ctrl_c_leaves_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []
    monkeypatch.setattr("penstock.cli.interrupts.os._exit", left.append)
    with Interrupts():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):  # in this test the process does go on
            signal.raise_signal(signal.SIGINT)
    assert left == [130]


@pytest.mark.usefixtures("in_the_foreground")
def test_a_second_sigterm_does_not_cut_the_drain_short_and_ctrl_c_after_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[int] = []
    monkeypatch.setattr("penstock.cli.interrupts.os._exit", left.append)
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
        assert left == []
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert left == [130]
    assert interrupts.stopped_by is signal.SIGTERM


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


def test_the_progress_line_shows_counts_and_rate() -> None:
    from rich.console import Console

    tally = Tally()
    tally.sent, tally.bytes, tally.acknowledged, tally.failed = 1500, 10, 1000, 20
    console = Console(width=160, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(line(tally, 2000))
    text = captured.get()
    for part in ("1,500 of 2,000 records", "MB/s", "1,000 acknowledged", "480 in flight", "20 failed"):
        assert part in text


def test_no_progress_is_shown_without_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with progress(Tally()):
        pass
    assert capfd.readouterr() == ("", "")


def test_the_producer_is_closed_whatever_happens() -> None:
    producer = mock()

    def fail(interrupts: Interrupts) -> None:
        raise RuntimeError("a defect")

    with pytest.raises(RuntimeError, match="a defect"):
        deliver(producer, fail, Tally(), nullcontext())
    assert producer.closed
