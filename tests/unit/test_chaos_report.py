"""The oracle must get every note of the senders: a chaos run that cannot fail would show nothing."""

from __future__ import annotations

from array import array
from collections import Counter
from random import Random
from typing import Any

import pytest
from chaos_run import Report, reported_by_all
from chaos_traffic import Outcome, Sender, figures, parse

from penstock.errors import KafkaError, KafkaTimeoutError
from support.oracle import Logged, judge


class PlayedProducer:
    """Takes records, and keeps what it is to call back."""

    def __init__(self) -> None:
        self.callbacks: list[Any] = []
        self.values: list[bytes] = []
        self.full = False

    def send(self, topic: str, value: bytes, *, key: bytes | None, callback: Any) -> object:
        if self.full:
            raise KafkaTimeoutError("the buffer is full")
        self.values.append(value)
        self.callbacks.append(callback)
        return object()


class Metadata:
    topic, partition = "t", 0

    def __init__(self, offset: int) -> None:
        self.offset = offset


@pytest.fixture
def sender() -> Sender:
    made = Sender("s", PlayedProducer(), ["t"], keyed=True, rate=1, random=Random(1))  # type: ignore[arg-type]
    for _ in range(4):
        made.send("t")
    return made


def failed(*, possibly_persisted: bool) -> KafkaError:
    return KafkaError("no", topic="t", partition=0, possibly_persisted=possibly_persisted)


def test_every_outcome_reaches_the_oracle(sender: Sender) -> None:
    producer: Any = sender.producer
    producer.callbacks[0](Metadata(7), None)
    producer.callbacks[1](None, failed(possibly_persisted=True))
    producer.callbacks[2](None, failed(possibly_persisted=False))
    producer.full = True
    sender.send("t")
    reported = list(reported_by_all([sender]))
    assert [(record.number, record.outcome, record.offset) for record in reported] == [
        (0, "acknowledged", 7),
        (1, "possibly persisted", -1),
        (2, "not persisted", -1),
        (3, "unresolved", -1),
    ]
    assert [parse(value) for value in producer.values] == [("s", number) for number in range(4)]
    assert sender.refused == {4: "KafkaTimeoutError"}
    logs: dict[object, list[Logged]] = {("t", 0): [Logged("s", 2, 7), Logged("s", 4, 8)]}
    assert judge(reported, logs).violations == {"lost": 1, "false failure": 1, "unresolved": 1, "unknown": 1}


def test_a_callback_that_runs_twice_is_reported(sender: Sender) -> None:
    producer: Any = sender.producer
    producer.callbacks[0](Metadata(7), None)
    assert sender.crash is None
    producer.callbacks[0](Metadata(7), None)
    assert "twice" in str(sender.crash)


def test_figures_count_and_find_the_worst(sender: Sender) -> None:
    class Timed(Sender):
        delivery_timeout_s = 10.0

    timed = Timed("s", PlayedProducer(), ["t"], keyed=False, rate=1, random=Random(1))  # type: ignore[arg-type]
    timed.returned_at = array("d", [0.0, 1.0, 2.0, 3.0])
    timed.outcomes = {
        0: Outcome(5.0, "t", 0, 0, "", False),
        1: Outcome(11.5, "t", 0, 1, "", False),
        2: Outcome(11.0, "t", 0, -1, "KafkaTimeoutError", True),
    }
    timed.refused = {3: "KafkaTimeoutError"}
    reported = figures([timed])
    assert (
        reported.sent,
        reported.acknowledged,
        reported.not_persisted,
        reported.possibly_persisted,
        reported.refused,
    ) == (4, 2, 0, 1, 1)
    assert (reported.longest_gap_s, reported.worst_overrun_s) == (6.5, 0.5)
    assert reported.failed_by == {"s": 1}
    assert reported.errors == Counter({"s: KafkaTimeoutError": 1, "send: KafkaTimeoutError": 1})


def test_a_report_lists_the_faults(sender: Sender) -> None:
    producer: Any = sender.producer
    for offset, callback in enumerate(producer.callbacks):
        callback(Metadata(offset), None)
    verdict = judge(reported_by_all([sender]), {("t", 0): [Logged("s", number, number) for number in (0, 1, 2)]})

    class Timed:
        temper = "patient"
        count, outcomes, refused, returned_at, delivery_timeout_s = 4, sender.outcomes, {}, sender.returned_at, 10.0

    report = Report(1, 2.0, {"kill": 1}, {"cut": 2}, figures([Timed()]), verdict, [])  # type: ignore[list-item]
    assert not report.ok
    assert report.as_dict()["lost"] == 1
    assert "GUARANTEES BROKEN" in str(report)
    assert "lost: record 3 of s" in str(report)
    assert not Report(1, 2.0, {}, {}, report.figures, judge([], {}), ["does not recover"]).ok
