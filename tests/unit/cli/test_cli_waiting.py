"""How long commands wait for a broker, with time stepped by hand; and messages that are shown once only."""

from __future__ import annotations

import logging
import math
from types import SimpleNamespace

import pytest

from penstock import ProducerConfig
from penstock._reader import Cluster
from penstock.cli import waiting
from penstock.cli.app import _Repeats
from penstock.cli.options import WAIT_S
from penstock.cli.waiting import await_topic, awaited
from penstock.errors import InvalidTopicError, NetworkError
from penstock.protocol.messages.metadata import MetadataResponse


class Clock:
    """Time passes by sleeping, and by attempts that take `attempt_s`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, attempt_s: float = 0.0) -> None:
        self.now = 1_000.0
        self.attempts = 0
        monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self._pass))

        def metadata(cluster: Cluster, topics: object, *, create: bool) -> MetadataResponse:
            self.attempts += 1
            self.now += min(attempt_s, cluster._timeout_s)
            raise error

        monkeypatch.setattr(Cluster, "metadata", metadata)

    def _pass(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def config() -> ProducerConfig:
    return ProducerConfig(bootstrap_servers="127.0.0.1:1")


@pytest.mark.parametrize("attempt_s", [0.0, 60.0], ids=["refused", "silent"])
def test_the_command_waits_ten_seconds_and_reports_the_error_once(
    config: ProducerConfig, attempt_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, NetworkError("no broker can be reached: x:1: gone", hint="Look."), attempt_s)
    assert awaited(config, {}, "t", wait_s=None) == (
        "no broker can be reached: x:1: gone; waited 10 s (--wait). Look.",
        1,
    )
    assert WAIT_S - 1.1 < clock.now - 1_000 < WAIT_S + 1
    assert clock.attempts > 1


def test_max_block_ms_limits_the_wait_and_the_wait_option_overrides_it(
    config: ProducerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"max.block.ms": "120000"}
    longer = ProducerConfig(given, bootstrap_servers="127.0.0.1:1")
    for configured, settings, wait_s, most_s in (
        (config, {}, 3.0, 3.0),
        (longer, given, None, 120.0),
        (longer, given, 5.0, 5.0),
        (config, {}, 0.0, 0.0),
    ):
        clock = Clock(monkeypatch, NetworkError("gone"))
        said, code = awaited(configured, settings, "t", wait_s=wait_s)
        assert code == 1
        assert f"waited {most_s:g} s" in str(said)
        assert most_s - 1.1 < clock.now - 1_000 <= most_s


class StopTheLoopError(Exception):
    """Ends an endless loop of the test."""


@pytest.mark.parametrize("wait_s", [math.inf, 1e300])
def test_an_infinite_wait_does_not_end(config: ProducerConfig, wait_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, NetworkError("gone"))

    def sleep(seconds: float) -> None:
        clock.now += 10_000 * seconds
        if clock.now > 1e8:
            raise StopTheLoopError

    monkeypatch.setattr(waiting.time, "sleep", sleep)
    with pytest.raises(StopTheLoopError):
        await_topic(config, "t", wait_s=wait_s)


def test_a_permanent_error_is_raised_at_once(config: ProducerConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, InvalidTopicError("no such name", topic="a b"))
    said, code = awaited(config, {}, "a b", wait_s=None)
    assert (clock.attempts, code) == (1, 1)
    assert "no such name" in str(said)


def record(text: str, created: float) -> logging.LogRecord:
    made = logging.LogRecord("penstock.control", logging.WARNING, "", 0, "%s", (text,), None)
    made.created = created
    return made


def test_the_same_message_is_shown_once_in_ten_minutes() -> None:
    repeats = _Repeats()
    assert repeats.filter(record("one:1: refused", 0))
    assert repeats.filter(record("two:1: refused", 1))
    assert not repeats.filter(record("one:1: refused (7 more of these since)", 10))
    assert not repeats.filter(record("two:1: refused", 599))
    assert repeats.filter(record("one:1: timed out", 20))
    assert repeats.filter(record("one:1: refused (70 more of these since)", 601))
    for number in range(5_000):
        assert repeats.filter(record(f"other {number}", 700))
    assert len(repeats._logged_at) <= 1_000
