"""Data connections after a loss: at once if they had worked, with growing backoff until a Produce is answered."""

from __future__ import annotations

from control_harness import Bench, Settings, topic

from penstock.control.boundary import Connect, ConnectionWanted


def connected(bench: Bench) -> Connect:
    """The first data connection, handshake included."""
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.handshake(data)
    return data


def next_connect(bench: Bench) -> tuple[Connect, float]:
    """The next attempt to connect to the broker's data port, and how long it was waited for."""
    began_ms = bench.now_ms
    while not (found := [connect for connect in bench.all(Connect) if connect.broker_id == 1]):
        bench.sleep()
    return found[0], bench.now_ms - began_ms


def test_a_connection_that_had_worked_is_opened_again_at_once() -> None:
    bench = Bench()
    data = connected(bench)
    for _ in range(3):
        bench.close(data, "connection reset by peer", requested=True, worked=True)
        data, waited_ms = next_connect(bench)
        assert waited_ms == 0
        bench.handshake(data)


def test_only_the_first_attempt_is_made_at_once() -> None:
    bench = Bench()
    data = connected(bench)
    bench.close(data, "connection reset by peer", requested=True, worked=True)
    waits = []
    for _ in range(4):
        data, waited_ms = next_connect(bench)
        waits.append(waited_ms)
        bench.close(data, "connection refused", requested=True)
    assert waits[0] == 0
    for round_, waited_ms in enumerate(waits[1:]):
        assert 0.8 <= waited_ms / (50 * 2**round_) <= 1.2


def test_a_broker_that_drops_each_produce_is_connected_to_ever_more_rarely() -> None:
    """A handshake that passes proves little: 20 connections a second would follow."""
    bench = Bench(Settings(retry_backoff_ms=100_000, retry_backoff_max_ms=100_000))
    data = connected(bench)
    began_ms, count = bench.now_ms, 0
    while bench.now_ms < began_ms + 10_000:
        bench.close(data, "the broker closed the connection", requested=True)
        data, _ = next_connect(bench)
        bench.handshake(data)
        count += 1
    assert 8 <= count <= 20
    # One that answers a Produce at last ends that.
    bench.close(data, "connection reset by peer", requested=True, worked=True)
    data, waited_ms = next_connect(bench)
    assert waited_ms == 0
    bench.close(data, "connection refused", requested=True)
    assert next_connect(bench)[1] <= 60


def test_an_idle_close_is_no_failure() -> None:
    bench = Bench()
    data = connected(bench)
    bench.close(data, "idle", expected=True, worked=True)
    bench.step(ConnectionWanted(1))
    assert bench.one(Connect).broker_id == 1
