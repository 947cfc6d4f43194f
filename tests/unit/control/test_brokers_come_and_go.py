"""Brokers that go, come back, move, refuse and fall silent, as the control plane meets them."""

from __future__ import annotations

import pytest
from control_harness import Bench, Settings, brokers, metadata, topic

from penstock.control.boundary import (
    Close,
    Connect,
    ConnectionOpened,
    ConnectionWanted,
    FrameReceived,
    LeaderWanted,
    Ready,
    SendFrame,
    SetStatus,
    TopicWanted,
    Trouble,
)
from penstock.control.commands import Log, Resolve
from penstock.control.identity import IdentityManager
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponse

NAMES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


def until(bench: Bench, kind: type[Connect] | type[Resolve] | type[SendFrame] | type[Ready], steps: int = 50) -> None:
    """Let time pass until the controller returns a command of that kind."""
    for _ in range(steps):
        if bench.all(kind):
            return
        bench.sleep()
    raise AssertionError(f"no {kind.__name__} within {steps} steps")


def rebootstraps(bench: Bench) -> int:
    logs = [command.message for command in bench.commands if isinstance(command, Log)]
    return sum("returning to bootstrap.servers" in message for message in logs)


# ------------------------------------------------------------------------------------------------------------ addresses


@pytest.mark.parametrize("stage", ["connected", "handshake done", "idle"])
def test_a_connection_that_was_up_and_is_lost_has_its_name_looked_up_again(stage: str) -> None:
    """The host may have moved; the addresses that were not needed are as old as the one that is gone."""
    bench = Bench()
    bench.step()
    bench.resolve(*NAMES)
    connect = bench.one(Connect)
    hello = bench.open(connect)
    if stage != "connected":
        bench.answer(hello, bench.api_versions())
    if stage == "idle":
        bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(producer_id=9))
        bench.answer(_sent(bench, MetadataRequest), MetadataResponse())  # still starting: no brokers, request again
    bench.close(connect, "the broker closed the connection", expected=stage == "idle")
    until(bench, Resolve)
    assert len([command for command in bench.commands if isinstance(command, Connect)]) == 1
    bench.resolve("10.9.9.9")
    assert bench.one(Connect).ip == "10.9.9.9"


def _sent(bench: Bench, kind: type[MetadataRequest]) -> SendFrame:
    frames = [command for command in bench.commands if isinstance(command, SendFrame)]
    return next(frame for frame in reversed(frames) if bench.sent[frame.correlation_id][1] is kind)


def test_the_next_new_address_is_tried_when_the_first_refuses() -> None:
    bench = Bench()
    bench.step()
    bench.resolve(*NAMES)
    first = bench.one(Connect)
    bench.open(first)
    bench.close(first, "reset")
    until(bench, Resolve)
    bench.resolve("10.9.9.1", "10.9.9.2")
    bench.close(bench.one(Connect))
    assert bench.one(Connect).ip == "10.9.9.2", "at once, where Java waits for its backoff"
    bench.handshake(bench.one(Connect))
    assert bench.one(SetStatus) == SetStatus(Trouble())
    assert len([command for command in bench.commands if isinstance(command, Resolve)]) == 2


def test_the_time_for_tcp_setup_is_reset_once_tcp_is_up() -> None:
    bench = Bench()
    timeouts = []
    bench.step()
    for came_up in (False, False, True, False):
        bench.resolve("10.0.0.1")
        connect = bench.one(Connect)
        timeouts.append(connect.setup_timeout_ms)
        if came_up:
            bench.open(connect)
            bench.close(connect, "the broker closed the connection")
        else:
            bench.close(connect, "no connection in time")
        until(bench, Resolve)
    assert 32_000 > timeouts[2] >= 24_000
    assert 8_000 <= timeouts[3] <= 12_000


# -------------------------------------------------------------------------------------------------------------- backoff


def test_a_broker_that_closes_during_the_handshake_gets_growing_backoff() -> None:
    bench = Bench(Settings(reconnect_backoff_ms=100, reconnect_backoff_max_ms=10_000))
    bench.step()
    waits = []
    for _ in range(5):
        bench.resolve("10.0.0.1")
        connect = bench.one(Connect)
        bench.open(connect)
        bench.close(connect, "the broker closed the connection")
        before = bench.now_ms
        until(bench, Resolve)
        waits.append(bench.now_ms - before)
    for round_, wait in enumerate(waits):
        assert 0.8 <= wait / (100 * 2**round_) <= 1.2


def test_backoff_that_cannot_grow_is_constant() -> None:
    """Java's `ExponentialBackoff`: without a range to grow in there is no jitter either, and the maximum wins."""
    for initial_ms, max_ms in ((70, 70), (500, 70)):
        bench = Bench(Settings(reconnect_backoff_ms=initial_ms, reconnect_backoff_max_ms=max_ms))
        bench.step()
        for _ in range(4):
            bench.resolve("10.0.0.1")
            bench.close(bench.one(Connect))
            before = bench.now_ms
            until(bench, Resolve)
            assert bench.now_ms - before == 70


def test_each_known_broker_is_tried_once_per_round() -> None:
    bench = Bench(Settings(metadata_recovery_strategy="none"))
    control = bench.connect_control()
    bench.handshake(control)
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 1), ids=(1, 2, 3)))
    bench.close(control, "reset")
    bench.step(TopicWanted("u", -1))
    tried: list[int] = []
    for _ in range(9):
        until(bench, Connect)
        connect = bench.one(Connect)
        tried.append(connect.broker_id)
        bench.close(connect)
    assert [set(tried[at : at + 3]) for at in (0, 3, 6)] == [{1, 2, 3}] * 3


def test_an_error_for_api_versions_closes_the_connection_and_counts() -> None:
    bench = Bench()
    connect = bench.connect_control()
    bench.answer(bench.open(connect), ApiVersionsResponse(error_code=42))
    assert "ApiVersions" in bench.one(Close).reason
    bench.close(connect, expected=True)
    assert not bench.all(Resolve), "after backoff"
    until(bench, Resolve)


def test_a_broker_without_a_common_version_of_metadata_is_named_in_the_status() -> None:
    bench = Bench()
    bench.broker_versions[3] = (90, 91)
    connect = bench.connect_control()
    bench.handshake(connect)
    assert "Metadata" in bench.one(Close).reason
    bench.close(connect, expected=True)
    status = bench.one(SetStatus).trouble.message
    assert "one:9092" in status
    assert "Metadata" in status


# ---------------------------------------------------------------------------------------------------------- incarnations


def test_late_events_of_a_connection_that_has_ended_are_ignored() -> None:
    bench = Bench()
    connect = bench.connect_control()
    hello = bench.open(connect)
    bench.close(connect, "reset")
    bench.step(ConnectionOpened(connect.connection_id))
    assert bench.last == []
    bench.step(FrameReceived(connect.connection_id, hello.correlation_id, b"\x00\x00\x00\x01"))
    assert bench.last == []
    until(bench, Resolve)
    bench.resolve("10.0.0.1")
    second = bench.one(Connect)
    bench.step(FrameReceived(connect.connection_id, hello.correlation_id, b"\x00\x00\x00\x01"))
    assert bench.last == [], "a late answer belongs to the old socket"
    bench.handshake(second)
    bench.find(MetadataRequest)


def test_an_error_on_another_connection_does_not_affect_the_metadata_request_in_flight() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.step(LeaderWanted(("t",)))
    until(bench, SendFrame)
    asked = bench.find(MetadataRequest)
    bench.close(data, "not a Kafka broker", requested=True)
    bench.answer(asked, metadata(topic("t", 2, epoch=2)))
    assert [command.partitions[0].leader for command in bench.last if hasattr(command, "partitions")] == [2]


def test_requests_have_correlation_ids_of_their_own() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    for number in range(20):
        bench.step(TopicWanted(f"u{number}", -1))
        bench.answer(bench.find(MetadataRequest), metadata(topic(f"u{number}", 1)))
    frames = [command.correlation_id for command in bench.commands if isinstance(command, SendFrame)]
    assert len(set(frames)) == len(frames) >= 23


def test_metadata_and_identity_do_not_wait_for_each_other() -> None:
    """Java needs a node with room in max.in.flight.requests.per.connection; control requests have their own connection."""
    bench = Bench()
    bench.handshake(bench.connect_control())
    asked = {bench.sent[frame.correlation_id][1] for frame in bench.all(SendFrame)}
    assert asked == {MetadataRequest, InitProducerIdRequest}


# ------------------------------------------------------------------------------------------------------------ throttling


@pytest.mark.parametrize("version", [1, 2, 5])
def test_a_throttled_handshake_delays_control_requests(version: int) -> None:
    """KIP-219: from version 2 on the broker answers first and reads nothing until the time is over."""
    bench = Bench()
    connect = bench.connect_control()
    hello = bench.open(connect)
    if version < 5:
        bench.answer(hello, _old(version), version=0)
        hello = bench.one(SendFrame)
    answer = bench.api_versions()
    bench.answer(hello, ApiVersionsResponse(api_keys=answer.api_keys, throttle_time_ms=400))
    if version == 1:
        bench.find(MetadataRequest)
        return
    assert not bench.all(SendFrame)
    before = bench.now_ms
    until(bench, SendFrame)
    assert bench.now_ms - before == 400
    bench.find(MetadataRequest)


def _old(version: int) -> ApiVersionsResponse:
    from penstock.protocol.messages.api_versions import ApiVersion

    key = ApiVersion(api_key=18, min_version=0, max_version=version)
    return ApiVersionsResponse(error_code=35, api_keys=(key,))


def test_a_throttled_handshake_delays_produce() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    answer = bench.api_versions()
    bench.answer(bench.open(data), ApiVersionsResponse(api_keys=answer.api_keys, throttle_time_ms=400))
    assert not bench.all(Ready)
    before = bench.now_ms
    until(bench, Ready)
    assert bench.now_ms - before == 400
    assert bench.one(Ready).connection_id == data.connection_id
    for _ in range(3):
        bench.sleep()
        assert not bench.all(Ready), "once"


def test_a_throttled_connection_that_is_lost_is_not_ready_later() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    answer = bench.api_versions()
    bench.answer(bench.open(data), ApiVersionsResponse(api_keys=answer.api_keys, throttle_time_ms=400))
    bench.close(data, "reset")
    for _ in range(3):
        bench.sleep()
        assert not bench.all(Ready)


@pytest.mark.parametrize("which", [MetadataRequest, InitProducerIdRequest])
def test_a_throttled_answer_delays_the_next_control_request(
    which: type[MetadataRequest] | type[InitProducerIdRequest],
) -> None:
    bench = Bench()
    bench.handshake(bench.connect_control())
    ask_metadata, ask_identity = bench.find(MetadataRequest), bench.find(InitProducerIdRequest)
    quick = 400 if which is MetadataRequest else 0
    answer = MetadataResponse(brokers=brokers(1, 2), cluster_id="c", throttle_time_ms=quick)
    bench.answer(ask_metadata, answer)
    identity = InitProducerIdResponse(producer_id=9, throttle_time_ms=400 - quick)
    bench.answer(ask_identity, identity)
    bench.step(TopicWanted("t", -1))
    assert not bench.all(SendFrame)
    before = bench.now_ms
    until(bench, SendFrame)
    assert bench.now_ms - before == 400


# ---------------------------------------------------------------------------------------------------- clusters that change


def test_a_cluster_whose_brokers_are_replaced_one_by_one_is_followed_without_the_bootstrap_addresses() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    bench.close(control, "idle", expected=True)
    for ids in ((2, 3), (3, 4), (4, 5), (5, 6)):
        bench.step(LeaderWanted(("t",)))
        while not [frame for frame in bench.all(SendFrame) if bench.sent[frame.correlation_id][1] is MetadataRequest]:
            if bench.all(Connect):
                control = bench.one(Connect)
                assert control.broker_id in (1, 2, *range(ids[0] - 1, ids[1]))
                bench.handshake(control)
            else:
                bench.sleep()
        bench.answer(bench.find(MetadataRequest), metadata(topic("t", ids[1], epoch=ids[1]), ids=ids))
        gone = bench.controller._connections
        known = {peer.broker_id for peer in gone.peers() if peer.broker_id >= 0 and peer.state == "idle"}
        assert known <= set(ids), "brokers that were removed are forgotten"
        bench.close(control, "the broker shut down")
        bench.step(ConnectionWanted(ids[1]))
        data = next(connect for connect in bench.all(Connect) if connect.broker_id == ids[1])
        assert data.ip == f"10.0.0.{ids[1]}"
        bench.close(data, "not needed", expected=True)
    assert rebootstraps(bench) == 0


def test_a_leader_without_an_address_is_requested_until_its_address_arrives() -> None:
    """Its leaders stay known, since their epochs are no older; without asking, metadata.max.age.ms would be the wait."""
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LeaderWanted(("t",)))
    began_ms = bench.now_ms
    for attempt in range(3):
        until(bench, SendFrame)
        bench.answer(bench.find(MetadataRequest), metadata(topic("t", 1), ids=(2,)))
        if attempt == 0:
            bench.step(ConnectionWanted(1))  # the engine reports it once
    until(bench, SendFrame)
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 1)))
    assert bench.one(Connect).broker_id == 1
    assert bench.now_ms - began_ms < 5_000


def test_a_broker_that_was_removed_and_added_again_is_connected_again() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    first = bench.one(Connect)
    bench.handshake(first)
    for ids in ((2,), (1, 2)):
        bench.step(LeaderWanted(("t",)))
        until(bench, SendFrame)
        bench.answer(bench.find(MetadataRequest), metadata(topic("t", ids[0], epoch=1 + len(ids)), ids=ids))
        assert not bench.all(Connect)
        if ids == (2,):
            bench.close(first, "the broker shut down")
    bench.step(ConnectionWanted(1))
    until(bench, Connect)
    second = bench.one(Connect)
    assert (second.broker_id, second.connection_id != first.connection_id) == (1, True)


def test_a_single_broker_that_restarts_causes_one_rebootstrap() -> None:
    bench = Bench()
    control = bench.connect_control()
    bench.handshake(control)
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 1), ids=(1,)))
    bench.close(control, "reset")
    bench.step(TopicWanted("u", -1))
    for _ in range(10):
        while not bench.all(Connect):
            if bench.all(Resolve):
                bench.resolve("10.0.0.1")
            else:
                bench.sleep()
        bench.close(bench.one(Connect))
    assert rebootstraps(bench) == 1
    while not bench.all(Connect):
        if bench.all(Resolve):
            bench.resolve("10.0.0.1")
        else:
            bench.sleep()
    control = bench.one(Connect)
    bench.handshake(control)
    bench.answer(_sent(bench, MetadataRequest), metadata(topic("u", 1), ids=(1,)))
    for _ in range(20):
        bench.sleep()
        for frame in bench.all(SendFrame):
            if bench.sent[frame.correlation_id][1] is MetadataRequest:
                bench.answer(frame, metadata(topic("t", 1), topic("u", 1), ids=(1,)))
    assert rebootstraps(bench) == 1


def test_a_leader_missing_from_the_newest_broker_list_is_not_connected() -> None:
    """Answers in the wrong order: an older one, from when that broker was offline, comes second."""
    bench = Bench()
    bench.start(topic("t", 1, epoch=10))
    bench.step(LeaderWanted(("t",)))
    until(bench, SendFrame)
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 2, epoch=8), ids=(2,)))
    view = bench.controller._metadata.view()
    assert view.topics["t"][0].leader is None
    bench.step(ConnectionWanted(1))
    assert not bench.all(Connect)
    until(bench, SendFrame)
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 1, epoch=10)))
    assert bench.one(Connect).broker_id == 1


def test_a_lost_identity_request_is_sent_again_on_the_next_connection() -> None:
    bench = Bench()
    connect = bench.connect_control()
    bench.handshake(connect)
    bench.find(InitProducerIdRequest)
    bench.close(connect, "reset")
    manager = bench.controller._identity
    assert isinstance(manager, IdentityManager)
    assert manager.state == "needed"
    until(bench, Resolve)
    bench.resolve("10.0.0.1")
    bench.handshake(bench.one(Connect))
    asked = {bench.sent[frame.correlation_id][1] for frame in bench.all(SendFrame)}
    while InitProducerIdRequest not in asked:
        bench.sleep()
        asked |= {bench.sent[frame.correlation_id][1] for frame in bench.all(SendFrame)}
    assert ApiVersionsRequest not in asked
