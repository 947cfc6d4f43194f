"""The error code of a status: typed errors can follow from it."""

from __future__ import annotations

import pytest
from control_harness import Bench, Settings

from penstock.control.boundary import Connect
from penstock.control.commands import Resolve
from penstock.protocol.messages.api_versions import ApiVersionsResponse


def refuse(bench: Bench) -> None:
    """The next address refuses the connection."""
    bench.close(bench.one(Connect))


def answer(bench: Bench, code: int) -> None:
    """The next address answers with an error."""
    connect = bench.one(Connect)
    bench.answer(bench.open(connect), ApiVersionsResponse(error_code=code))
    bench.close(connect)


def code(bench: Bench) -> int:
    return bench.controller._status.errors().code


def test_a_refused_connection_has_no_code() -> None:
    bench = Bench()
    bench.connect_control()
    refuse(bench)
    assert bench.controller._status.errors().message == "one:9092 (10.0.0.1:9092): connection refused"
    assert code(bench) == 0


@pytest.mark.parametrize("refused_first", [True, False])
def test_the_code_that_a_broker_gave_counts_more_than_a_refused_connection(refused_first: bool) -> None:
    bench = Bench(Settings(bootstrap_servers=("one:9092", "two:9093")))
    bench.step()
    for refused in (refused_first, not refused_first):
        while not bench.all(Resolve):
            bench.sleep()
        asked = bench.one(Resolve)
        bench.resolve(f"10.0.0.{asked.port - 9091}", host=asked.host, port=asked.port)
        if refused:
            refuse(bench)
        else:
            answer(bench, 42)
    assert code(bench) == 42


def test_a_connection_that_works_has_no_code_any_more() -> None:
    bench = Bench()
    bench.connect_control()
    answer(bench, 42)
    while not bench.all(Resolve):
        bench.sleep()
    bench.resolve("10.0.0.1")
    bench.handshake(bench.one(Connect))
    assert code(bench) == 0
