"""Answers that decode and cannot be true: nothing of them reaches the data plane, and only their connection is closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from control_harness import Bench, metadata, topic

from penstock.control.boundary import (
    Close,
    Connect,
    ConnectionWanted,
    FailProducer,
    LanesHandedOver,
    NodeEndpoint,
    SendFrame,
    SetIdentity,
)
from penstock.control.commands import Publish, Resolve
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponse, MetadataResponseBroker


def answer_with_broker(bench: Bench, host: str, port: int) -> Connect:
    """The first metadata answer names this broker; its connection."""
    connect = bench.connect_control()
    bench.handshake(connect)
    broker = MetadataResponseBroker(node_id=1, host=host, port=port, rack=None)
    bench.answer(bench.find(MetadataRequest), MetadataResponse(brokers=(broker,), cluster_id="c", topics=()))
    return connect


def sleep_until(bench: Bench, happened: Callable[[], object]) -> None:
    """Let backoffs pass."""
    for _ in range(10):
        if happened():
            return
        bench.sleep()


@pytest.mark.parametrize(("host", "port"), [("one", -1), ("one", 0), ("one", 65536), ("", 9092)])
def test_an_impossible_address_of_a_broker_closes_the_connection_and_metadata_is_requested_again(
    host: str, port: int
) -> None:
    bench = Bench()
    connect = answer_with_broker(bench, host, port)
    assert "broker 1" in bench.one(Close).reason
    assert not bench.all(Publish)
    bench.close(connect, reason="", expected=True)
    sleep_until(bench, lambda: bench.all(Resolve))
    bench.resolve("10.0.0.1")
    bench.handshake(bench.one(Connect))
    sleep_until(
        bench, lambda: [it for it in bench.all(SendFrame) if bench.sent[it.correlation_id][1] is MetadataRequest]
    )
    bench.answer(bench.find(MetadataRequest), metadata())
    assert bench.one(Publish).view.brokers


def test_a_zone_is_not_part_of_an_address() -> None:
    bench = Bench()
    answer_with_broker(bench, "fe80::1%eth0", 9092)
    bench.step(ConnectionWanted(1))
    assert bench.one(Connect).ip == "fe80::1"


def test_an_impossible_endpoint_is_ignored() -> None:
    bench = Bench()
    bench.start(topic("t", 1, 2))
    endpoints = (NodeEndpoint(7, "seven", 70_000, None), NodeEndpoint(8, "eight", 9092, None))
    bench.step(LanesHandedOver((), endpoints))
    assert set(bench.one(Publish).view.brokers) == {1, 2, 8}


def test_an_identity_with_a_negative_epoch_is_none() -> None:
    bench = Bench()
    bench.handshake(bench.connect_control())
    bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(producer_id=9, producer_epoch=-1))
    assert not bench.all(SetIdentity)
    assert not bench.all(FailProducer)
    bench.sleep()
    bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(producer_id=9, producer_epoch=0))
    assert bench.one(SetIdentity) == SetIdentity(9, 0)
