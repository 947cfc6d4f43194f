"""Counting results, and the progress line."""

from __future__ import annotations

import pytest

from penstock import RecordMetadata
from penstock.cli.progress import line, progress
from penstock.cli.tally import Tally
from penstock.errors import KafkaError, KafkaTimeoutError
from penstock.testing import MockProducer


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
        tally.timed()(RecordMetadata("t", 0, 0, 0, 0, 0), None)
    assert tally.latency_every > 1
    assert len(tally._latencies_ms) < 4


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
