"""What `penstock bench` says about the limit of a run: the table of rules, the figures from metrics."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from typing import Any

import pytest

from penstock.cli.limits import Figures, Watch, limit_as_json, round_trip_ms, verdict
from penstock.cli.load import Content, Load
from penstock.cli.meter import Meter

IDLE = Figures(
    seconds=10.0,
    rate=None,
    sent_per_second=100_000.0,
    is_bulk=False,
    sender_cpu=0.1,
    process_cpu=0.3,
    cores=4,
    io_busy=0.2,
    memory_wait=0.0,
    buffer_fill=0.1,
    in_flight=1.0,
    most_in_flight=5,
    latency_ms=2.0,
    round_trip_ms=0.1,
    throttle=0.0,
    request_bytes=16_000.0,
    batch_bytes=16_000.0,
)
FAR = {"memory_wait": 0.8, "buffer_fill": 0.99, "in_flight": 4.9, "latency_ms": 51.0, "round_trip_ms": 50.1}


@pytest.mark.parametrize(
    ("changes", "by", "why", "change"),
    [
        ({"seconds": 0.4, **FAR}, "nothing", "0.40 s are too short", "--seconds"),
        ({"rate": 100_500.0, **FAR}, "the rate that was asked for", "100,000 of 100,500", "without --rate"),
        ({"throttle": 0.4, **FAR}, "the broker's quota", "throttled this client for 40%", "producer_byte_rate"),
        ({"sender_cpu": 0.93}, "the application's thread", "93% of a core", "--bulk"),
        ({"sender_cpu": 0.93, "is_bulk": True}, "the application's thread", "93%", "from several processes"),
        ({"io_busy": 0.95}, "the I/O thread", "worked 95%", "several producers"),
        ({"process_cpu": 3.7}, "this machine's processors", "3.7 of 4 cores", "compression"),
        (FAR, "the network's round trip", "4.9 of at most 5 requests were in flight, 16.0 kB each", "larger batches"),
        (
            {**FAR, "latency_ms": 200.0},
            "the broker, or the bandwidth of the network",
            "200.0 ms, 149.9 ms of which are not the distance",
            "compare the MB/s",
        ),
        ({**FAR, "round_trip_ms": 0.1}, "the broker", "51.0 ms, though the broker is near", "disks"),
        ({**FAR, "round_trip_ms": None}, "the broker, or the bandwidth of the network", "51.0 ms", "brokers"),
        ({**FAR, "in_flight": 1.2}, "buffer.memory", "memory 80% of the time", "raise buffer.memory"),
        ({"buffer_fill": 0.9}, "buffer.memory", "90% of it was in use", "raise buffer.memory"),
        ({"sender_cpu": 0.5}, "the other programs of this machine", "50% of a core", "free core"),
        ({}, "nothing that was measured", "10% of a core", "more tasks"),
        ({"rate": 200_000.0}, "nothing that was measured", "10% of a core", "ask for more"),
    ],
)
def test_the_verdict_follows_from_the_figures(changes: dict[str, Any], by: str, why: str, change: str) -> None:
    found = verdict(IDLE._replace(**changes))
    assert found.by == by
    assert why in found.why
    assert change in found.change
    assert found.lines()[0].startswith(f"limited by {by}: ")


def test_unknown_figures_are_null_in_json() -> None:
    shown = json.loads(
        json.dumps(limit_as_json(IDLE._replace(request_bytes=math.nan, round_trip_ms=None)), allow_nan=False)
    )
    assert (shown["figures"]["request_bytes"], shown["figures"]["round_trip_ms"]) == (None, None)
    assert shown["by"] == "nothing that was measured"


def metrics(producer: dict[str, float], requests: dict[str, float]) -> dict[str, dict[str, float]]:
    names = (
        "buffer-available-bytes", "buffer-total-bytes", "bufferpool-wait-time-ns-total", "io-time-ns-total",
        "request-total", "request-latency-avg", "produce-throttle-time-avg", "request-size-avg", "batch-size-avg",
    )  # fmt: skip
    nodes = {f"request-total{{node-id=node-{node}}}": count for node, count in requests.items()}
    return {"producer-metrics": dict.fromkeys(names, 0.0) | producer, "producer-node-metrics": nodes}


def test_figures_come_from_what_grew_during_the_run() -> None:
    """Two brokers with 2,000 requests of 20 ms each in 10 s: 4 of them in flight at a time, on average."""
    earlier = {"request-total": 50.0, "io-time-ns-total": 7e9, "bufferpool-wait-time-ns-total": 1e9}
    during = {"buffer-total-bytes": 100.0, "buffer-available-bytes": 20.0}
    later = {
        "request-total": 4050.0,
        "request-latency-avg": 20.0,
        "io-time-ns-total": 9e9,
        "bufferpool-wait-time-ns-total": 11e9,
        "produce-throttle-time-avg": math.nan,
        "request-size-avg": 1000.0,
        "batch-size-avg": 900.0,
    }
    readings = iter(
        [
            metrics(earlier, {"1": 20.0, "2": 20.0, "-1": 10.0}),
            metrics(during, {}),
            metrics(later, {"1": 2020.0, "2": 2010.0, "-1": 20.0}),
        ]
    )
    clock = iter([0.0, 10.0])
    meter = Meter(2, lambda: next(clock))
    meter.sent[:] = [600, 400]
    watch = Watch(lambda: next(readings), 5, 18.0)
    watch.sample()
    meter.end()
    load = Load("t", Content.zeros, 100, 0, 2, None, None, 10.0)
    found = watch.figures(load, meter, cpu_s=5.0)
    assert (found.seconds, found.sent_per_second, found.process_cpu) == (10.0, 100.0, 0.5)
    assert (found.in_flight, found.most_in_flight, found.window) == (pytest.approx(4.0), 5, pytest.approx(0.8))
    assert (found.memory_wait, found.io_busy, found.throttle) == (pytest.approx(0.5), pytest.approx(0.2), 0.0)
    assert found.buffer_fill == pytest.approx(0.8)
    assert verdict(found).by == "the network's round trip"


def test_a_thread_that_still_sends_is_counted() -> None:
    meter, stop, started = Meter(2), threading.Event(), threading.Event()

    @meter.sending()
    def spin() -> None:
        while not stop.is_set():
            if time.thread_time() > 0.02:
                started.set()

    thread = threading.Thread(target=spin)
    thread.start()
    assert started.wait(60)
    if hasattr(time, "pthread_getcpuclockid"):
        assert meter.senders()[0] > 0
    stop.set()
    thread.join()
    assert meter.senders()[0] > 0


def test_the_round_trip_is_that_of_the_first_server_that_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = round_trip_ms([("host.invalid", 1), ("127.0.0.1", port)])
        assert found is not None
        assert found > 0
    assert round_trip_ms([("127.0.0.1", port)]) is None
