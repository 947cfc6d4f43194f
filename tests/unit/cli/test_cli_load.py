"""The load of `penstock bench`, with time stepped by hand, and its report."""

from __future__ import annotations

import json
import math
import random
import xml.etree.ElementTree as ElementTree

import pytest

from penstock.cli.load import Content, Load, Schedule
from penstock.cli.meter import Latencies, Meter
from penstock.cli.report import Report, as_html, as_svg


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


LOAD = Load(topic="t", content=Content.json, size=100, keys=0, senders=1, rate=None, records=None, seconds=None)


@pytest.mark.parametrize("content", Content)
@pytest.mark.parametrize("size", [0, 1, 2, 99, 1_000])
def test_values_have_their_size(content: Content, size: int) -> None:
    values = LOAD._replace(content=content, size=size).values()
    assert {len(value) for value in values} == {size}
    assert values == LOAD._replace(content=content, size=size).values(), "the same load has the same records"


def test_percentiles_are_exact_to_a_percent() -> None:
    drawn = random.Random(1)
    samples = [drawn.lognormvariate(1, 2) for _ in range(20_000)]
    latencies = Latencies()
    latencies.add(samples[:5_000])
    latencies.add(samples[5_000:])
    samples.sort()
    for name, share in {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}.items():
        expected = samples[math.ceil(len(samples) * share) - 1]
        assert latencies.percentiles()[name] == pytest.approx(expected, rel=0.011)
    assert latencies.percentile(1.0) == samples[-1]
    assert Latencies().percentile(0.5) is None


def test_an_open_load_keeps_its_schedule_when_the_sender_blocks() -> None:
    """A sender that was blocked sends the records that became due; each record's latency counts from its due time."""
    clock = Clock()
    chunks = Schedule(LOAD._replace(rate=100.0, records=50), 0, clock, clock.sleep).chunks()
    due = [next(chunks) for _ in range(10)]
    assert [(round(at - 100, 6), size) for at, size in due] == [(round(n * 0.01, 6), 1) for n in range(10)]
    clock.now += 0.2  # a send that blocks
    slept = len(clock.slept)
    late = [next(chunks) for _ in range(20)]
    assert len(clock.slept) == slept, "it is late: no sleep"
    assert [round(at - 100, 6) for at, _ in late] == [round(0.1 + n * 0.01, 6) for n in range(20)]
    assert len(list(chunks)) == 20


def test_a_load_ends_with_its_time_or_its_records() -> None:
    clock = Clock()
    fast = LOAD._replace(rate=1_000.0, seconds=2.0, senders=2)
    assert sum(size for _, size in Schedule(fast, 0, clock, clock.sleep).chunks()) == pytest.approx(1_000, abs=1)
    assert clock.now == pytest.approx(102, abs=0.01)
    shares = LOAD._replace(records=1_000, senders=3)
    assert [sum(size for _, size in Schedule(shares, number, clock, clock.sleep).chunks()) for number in range(3)] == [
        334,
        333,
        333,
    ]


def meter_after(clock: Clock, *seconds: list[float]) -> Meter:
    meter = Meter(1, clock)
    for samples in seconds:
        for sample in samples:
            meter.timed(clock.now - sample / 1000)(None, None)
        meter.sent[0] += 10 * len(samples)
        clock.now += 1.0
        meter.tick()
    return meter


def test_the_meter_reports_intervals_and_totals() -> None:
    clock = Clock()
    meter = meter_after(clock, [1.0] * 99 + [50.0], [2.0] * 100, [])
    meter.timed(clock.now)(None, RuntimeError("a failed record has no latency"))
    clock.now += 0.1
    meter.tick()
    meter.end()
    first, second, third = meter.intervals
    assert (first.records, first.records_per_second) == (1_000, pytest.approx(1_000))
    assert first.p50_ms == pytest.approx(1.0)
    assert first.highest_ms == pytest.approx(50.0)
    assert second.p99_ms == pytest.approx(2.0)
    assert third.p50_ms is None
    assert meter.latencies.count == 200
    assert meter.seconds == pytest.approx(3.1)


@pytest.mark.parametrize("seconds", [[], [[1.0]], [[1.0, 2.0], [], [900.0]]], ids=["nothing", "one", "gaps"])
def test_a_report_is_well_formed_and_has_options_and_results(seconds: list[list[float]]) -> None:
    clock = Clock()
    meter = meter_after(clock, *seconds)
    meter.end()
    report = Report(
        load=LOAD._replace(topic="<orders & more>"),
        settings={"linger.ms": "<5>"},
        version="0.0",
        machine="a machine",
        records=sum(meter.sent),
        failed=0,
        seconds=meter.seconds,
        cpu_seconds=0.5,
        latencies=meter.latencies,
        intervals=meter.intervals,
    )
    picture = ElementTree.fromstring(as_svg(report))
    assert "<orders & more>" in "".join(picture.itertext())
    page = as_html(report)
    assert "&lt;orders &amp; more&gt;" in page
    assert "&lt;5&gt;" in page
    assert json.loads(json.dumps(report.as_json()))["latency_samples"] == meter.latencies.count
    assert all(report.lines())
