"""The controller's path from nothing to a ready data connection, and back after trouble."""

from __future__ import annotations

import logging
from itertools import pairwise

import pytest
from control_harness import Bench, Settings, batch, lane, metadata, topic

from penstock.control.boundary import (
    Close,
    Connect,
    ConnectionWanted,
    FailProducer,
    FailTopic,
    ForgetTopic,
    FrameReceived,
    LanesHandedOver,
    LeaderWanted,
    NodeEndpoint,
    PartitionLeader,
    Ready,
    ResumeLane,
    SendFrame,
    SetBrokerStatus,
    SetIdentity,
    SetStatus,
    SetTopic,
    TopicWanted,
    Trouble,
)
from penstock.control.commands import Log, Publish, RequestTopicAges, Resolve, TopicAges
from penstock.protocol.message import replace
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponseBroker


def test_from_nothing_to_a_ready_data_connection() -> None:
    bench = Bench()
    bench.step()
    assert bench.one(Resolve) == Resolve("one", 9092)
    bench.resolve("10.0.0.1")
    connect = bench.one(Connect)
    assert (connect.broker_id, connect.ip, connect.port) == (-1, "10.0.0.1", 9092)

    hello = bench.open(connect)
    request = bench.request(hello)
    assert isinstance(request, ApiVersionsRequest)
    assert (request.client_software_name, request.cluster_id, request.node_id) == ("penstock", None, -1)
    bench.answer(hello, bench.api_versions())
    ask_metadata, ask_identity = bench.find(MetadataRequest), bench.find(InitProducerIdRequest)

    bench.answer(ask_identity, InitProducerIdResponse(producer_id=9, producer_epoch=0))
    assert bench.one(SetIdentity) == SetIdentity(9, 0)
    bench.answer(ask_metadata, metadata())
    assert bench.one(Publish).view.brokers[2].host == "10.0.0.2"

    bench.step(TopicWanted("t", -1))
    ask_topic = bench.find(MetadataRequest)
    bench.answer(ask_topic, metadata(topic("t", 1, 2)))
    leaders = (PartitionLeader(1, 1, False), PartitionLeader(2, 1, False))
    assert bench.one(SetTopic) == SetTopic("t", bytes(15) + b"\x07", 1, leaders)
    kinds = [type(command) for command in bench.last]
    assert kinds.index(Publish) < kinds.index(SetTopic), "Python partitioners never lag behind the engine"

    bench.step(ConnectionWanted(2))
    data = bench.one(Connect)
    assert (data.broker_id, data.ip) == (2, "10.0.0.2")
    hello = bench.open(data)
    request = bench.request(hello)
    assert isinstance(request, ApiVersionsRequest)
    assert (request.cluster_id, request.node_id) == ("c", 2), "metadata.cluster.check.enable"
    bench.answer(hello, bench.api_versions())
    assert bench.one(Ready) == Ready(data.connection_id, 13)


def test_an_old_broker_names_the_api_versions_that_it_has() -> None:
    bench = Bench()
    hello = bench.open(bench.connect_control())
    refusal = ApiVersionsResponse(error_code=35, api_keys=(ApiVersion(api_key=18, min_version=0, max_version=2),))
    bench.answer(hello, refusal, version=0)
    second = bench.one(SendFrame)
    assert bench.sent[second.correlation_id][2] == 2
    bench.answer(second, bench.api_versions())
    bench.find(MetadataRequest)


def test_a_broker_that_names_no_versions_gets_version_0() -> None:
    bench = Bench()
    hello = bench.open(bench.connect_control())
    bench.answer(hello, ApiVersionsResponse(error_code=35), version=0)
    assert bench.sent[bench.one(SendFrame).correlation_id][2] == 0


def test_produce_is_negotiated_after_any_metadata() -> None:
    bench = Bench()
    bench.broker_versions[3] = (0, 9)  # no topic ids: the data plane then names topics, request by request
    bench.start()
    bench.step(ConnectionWanted(1))
    bench.handshake(bench.one(Connect))
    assert bench.one(Ready).produce_version == 13


def test_a_throttled_control_connection_sends_nothing() -> None:
    """KIP-219: the broker has answered at once, and reads no further before that time."""
    bench = Bench()
    control = bench.connect_control()
    bench.answer(bench.open(control), replace(bench.api_versions(), throttle_time_ms=300))
    assert not bench.all(SendFrame)
    bench.step(TopicWanted("t", -1), after_ms=299)
    assert not bench.all(SendFrame)
    assert bench.sleep()
    assert bench.now_ms == 1_300
    bench.answer(bench.find(MetadataRequest), replace(metadata(topic("t", 1)), throttle_time_ms=500))
    bench.step(TopicWanted("u", -1), after_ms=499)
    assert not bench.all(SendFrame)
    bench.sleep()
    assert bench.now_ms == 1_800
    bench.find(MetadataRequest)


def test_an_old_broker_throttles_before_it_answers() -> None:
    bench = Bench()
    bench.broker_versions[3] = (0, 5)
    bench.handshake(bench.connect_control())
    bench.answer(bench.find(MetadataRequest), replace(metadata(), throttle_time_ms=500))
    bench.step(TopicWanted("t", -1))
    bench.find(MetadataRequest)


def test_a_throttled_data_connection_gets_no_records_before_the_throttle_ends() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    hello = bench.open(bench.one(Connect))
    bench.answer(hello, replace(bench.api_versions(), throttle_time_ms=300))
    opened_ms = bench.now_ms
    while not bench.all(Ready):
        bench.sleep()
    assert bench.now_ms == opened_ms + 300
    bench.step(after_ms=50)
    assert not bench.all(Ready), "once"


def test_a_throttled_data_connection_that_closes_is_not_ready() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    connect = bench.one(Connect)
    bench.answer(bench.open(connect), replace(bench.api_versions(), throttle_time_ms=300))
    bench.close(connect, "reset")
    bench.step(after_ms=400)
    assert not bench.all(Ready)


def test_a_broker_without_a_common_version_gets_growing_backoff() -> None:
    bench = Bench()
    bench.broker_versions[0] = (14, 20)
    bench.start()
    bench.step(ConnectionWanted(1))
    waits = []
    for _ in range(3):
        connect = bench.one(Connect)
        bench.handshake(connect)
        assert "Produce" in bench.one(Close).reason
        bench.close(connect, expected=True, requested=True)
        before = bench.now_ms
        while not bench.all(Connect):
            bench.sleep()
        waits.append(bench.now_ms - before)
    assert waits[0] < waits[1] < waits[2]


def test_all_addresses_are_tried_before_the_host_counts_as_failed() -> None:
    bench = Bench()
    bench.step()
    bench.resolve("::1", "127.0.0.1")
    first = bench.one(Connect)
    assert first.ip == "::1"
    bench.close(first)
    second = bench.one(Connect)
    assert second.ip == "127.0.0.1"
    assert second.connection_id != first.connection_id
    bench.close(second)
    assert not bench.all(Connect)
    refused = ("one:9092 ([::1]:9092): connection refused", "one:9092 (127.0.0.1:9092): connection refused")
    assert bench.one(SetStatus).trouble.message == f"no broker reachable: {'; '.join(refused)}"
    bench.sleep()
    assert bench.one(Resolve), "after the last address the name is looked up again"


def test_the_status_is_cleared_when_a_broker_answers() -> None:
    bench = Bench()
    connect = bench.connect_control()
    bench.close(connect)
    bench.sleep()
    bench.resolve("10.0.0.1")
    bench.handshake(bench.one(Connect))
    assert bench.one(SetStatus) == SetStatus(Trouble())


def test_reconnect_backoff_grows_to_its_maximum_with_jitter() -> None:
    bench = Bench()
    bench.connect_control()
    waits = []
    for _ in range(8):
        bench.close(next(c for c in reversed(bench.commands) if isinstance(c, Connect)))
        before = bench.now_ms
        bench.sleep()
        waits.append(bench.now_ms - before)
        bench.resolve("10.0.0.1")
    assert 40 <= waits[0] <= 60
    assert 80 <= waits[1] <= 120
    assert 800 <= waits[-1] <= 1_000


def test_the_time_for_tcp_setup_grows_while_it_fails() -> None:
    bench = Bench()
    timeouts = [bench.connect_control().setup_timeout_ms]
    for _ in range(4):
        bench.close(next(c for c in reversed(bench.commands) if isinstance(c, Connect)), "no connection in time")
        bench.sleep()
        bench.resolve("10.0.0.1")
        timeouts.append(bench.one(Connect).setup_timeout_ms)
    assert 8_000 <= timeouts[0] <= 12_000
    assert 16_000 <= timeouts[1] <= 24_000
    assert timeouts[-1] <= 30_000


def test_a_name_that_does_not_resolve_is_reported_and_tried_again() -> None:
    bench = Bench(Settings(bootstrap_servers=("one:9092", "two:9093")))
    bench.step()
    asked = bench.one(Resolve)
    bench.resolve(host=asked.host, port=asked.port, error="Name or service not known")
    assert f"{asked.host}:{asked.port}: Name or service not known" in bench.one(SetStatus).trouble.message
    other = bench.one(Resolve)
    assert other.host != asked.host, "the least recently failed comes first"


def test_a_slow_look_up_is_reported_and_cancelled_and_its_late_answer_is_used() -> None:
    bench = Bench(Settings(bootstrap_servers=("one:9092", "two:9093")))
    bench.step()
    hanging = bench.one(Resolve)
    assert f"{hanging.host}:{hanging.port}: its name is being looked up" in bench.one(SetStatus).trouble.message
    began_ms = bench.now_ms
    while not bench.all(Resolve) or bench.one(Resolve).host == hanging.host:
        bench.sleep()
    assert 8_000 <= bench.now_ms - began_ms <= 12_000, "socket.connection.setup.timeout.ms, with jitter"
    assert "its name is still being looked up" in bench.logs()
    other = bench.one(Resolve)
    bench.resolve("10.0.0.9", host=hanging.host, port=hanging.port)
    assert bench.all(Connect) == [], "too late: another is being tried"
    bench.resolve(host=other.host, port=other.port, error="Name or service not known")
    while not bench.all(Resolve):
        bench.sleep()
    assert bench.one(Resolve).host == hanging.host
    bench.resolve("10.0.0.1", host=hanging.host, port=hanging.port)
    assert bench.one(Connect).ip == "10.0.0.1"


def test_bootstrap_resolve_timeout_ends_the_producer() -> None:
    bench = Bench(Settings(bootstrap_resolve_timeout_ms=5_000))
    bench.step()
    while not bench.all(FailProducer):
        if bench.all(Resolve):
            bench.resolve(error="Name or service not known")
        else:
            bench.sleep()
    assert bench.now_ms == 6_000
    failed = bench.one(FailProducer)
    assert (failed.kind, failed.trouble.code) == ("unresolved", 0), (
        "no broker has said anything, nor was it a transaction"
    )
    assert "Name or service not known" in failed.trouble.message


@pytest.mark.parametrize("servers", [("10.0.0.1:9092",), ("[::1]:9092",), ("nowhere:9092", "10.0.0.1:9092")])
def test_bootstrap_resolve_timeout_does_not_apply_to_ip_addresses(servers: tuple[str, ...]) -> None:
    bench = Bench(Settings(bootstrap_servers=servers, bootstrap_resolve_timeout_ms=5_000))
    bench.step()
    for _ in range(40):
        for asked in bench.all(Resolve):
            bench.resolve(host=asked.host, error="Name or service not known")
        for connect in bench.all(Connect):
            bench.close(connect, "connection refused")
        assert not bench.all(FailProducer)
        bench.sleep()
    assert bench.now_ms > 6_000


def test_an_idle_control_connection_is_reopened_when_it_is_needed() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    bench.close(control, "idle for 540000 ms", expected=True)
    assert bench.last == [], "it is not needed"
    bench.step(TopicWanted("u", -1))
    connect = bench.one(Connect)
    assert connect.broker_id in (1, 2), "known brokers, not bootstrap addresses"
    bench.handshake(connect)
    request = bench.request(bench.find(MetadataRequest))
    assert isinstance(request, MetadataRequest)
    assert [t.name for t in request.topics or ()] == ["u"], "KIP-526: only the new one"


def test_steady_state_needs_no_wakeups_but_for_metadata() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step()
    wakeups = 0
    while (at_ms := bench.controller.next_wakeup_ms()) is not None and at_ms < 1_000 + 290_000:
        bench.sleep()
        wakeups += 1
    assert wakeups <= 1


def test_a_lost_data_connection_refreshes_metadata_and_is_reopened_if_records_wait() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.handshake(data)
    bench.close(data, "connection reset by peer", requested=True)
    assert not bench.all(Connect), "after backoff"
    seen: set[type] = set()
    while not {Connect, SendFrame} <= seen:
        seen |= {type(command) for command in bench.sleep()}
    assert bench.now_ms < 1_000 + 200


def test_a_data_connection_without_records_stays_closed() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.handshake(data)
    bench.close(data, "idle", expected=True)
    for _ in range(3):
        assert not [c for c in bench.sleep() if isinstance(c, Connect)]


def test_the_status_of_a_broker_has_its_error_until_it_is_reachable() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    bench.close(bench.one(Connect), "connection refused", requested=True)
    status = bench.one(SetBrokerStatus)
    assert status.broker_id == 1
    assert "advertised.listeners" in status.trouble.message
    assert status.trouble.message.endswith("10.0.0.1:9092: connection refused")
    while not bench.all(Connect):
        bench.sleep()
        assert not bench.all(SetBrokerStatus), "nothing new"
    bench.handshake(bench.one(Connect))
    assert bench.one(SetBrokerStatus) == SetBrokerStatus(1, Trouble())


def test_an_advertised_name_that_does_not_resolve_is_in_the_status() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    answer = metadata(topic("t", 1))
    advertised = MetadataResponseBroker(node_id=1, host="kafka", port=9092)
    bench.step(TopicWanted("u", -1))
    bench.answer(bench.find(MetadataRequest), replace(answer, brokers=(advertised,)))
    bench.step(ConnectionWanted(1))
    bench.resolve(host="kafka", error="Name or service not known")
    assert "kafka:9092: Name or service not known" in bench.one(SetBrokerStatus).trouble.message
    assert not bench.all(SetStatus), "metadata can be had, by the bootstrap address"
    assert control.broker_id == -1


def test_a_broker_that_is_in_no_metadata_is_named() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(3))
    assert bench.one(SetBrokerStatus) == SetBrokerStatus(
        3, Trouble(message="broker 3 is a leader, but its address is in no metadata")
    )


def test_the_latest_errors_of_a_host_are_remembered_when_its_addresses_change() -> None:
    bench = Bench()
    bench.step()
    for number in range(20):
        while not bench.all(Resolve):
            bench.sleep()
        bench.resolve(f"10.0.1.{number}")
        bench.close(bench.one(Connect))
    message = bench.one(SetStatus).trouble.message
    assert message.count("connection refused") == 8
    assert "10.0.1.19" in message
    assert "10.0.1.11" not in message


def test_records_for_a_broker_without_address_wait_for_metadata() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(3))
    while not bench.all(SendFrame):
        bench.sleep()
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 3), ids=(1, 2, 3)))
    assert bench.one(Connect).broker_id == 3


def test_a_broker_that_moved_is_connected_at_its_new_address() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.close(data, requested=True)
    while not bench.all(SendFrame):
        bench.sleep()
        for connect in bench.all(Connect):
            bench.close(connect, requested=True)
    answer = metadata(topic("t", 1))
    from penstock.protocol.messages.metadata import MetadataResponse, MetadataResponseBroker

    moved = MetadataResponse(
        brokers=(MetadataResponseBroker(node_id=1, host="10.9.9.9", port=9), *answer.brokers[1:]),
        cluster_id="c",
        topics=answer.topics,
    )
    bench.answer(bench.find(MetadataRequest), moved)
    assert (bench.one(Connect).ip, bench.one(Connect).port) == ("10.9.9.9", 9)


def fail_all(bench: Bench, rounds: int) -> list[str]:
    """Refuse every connection; where they went."""
    went = []
    for _ in range(rounds):
        while not bench.all(Connect):
            if bench.all(Resolve):
                bench.resolve("10.1.1.1")
            else:
                bench.sleep()
        went.append(bench.one(Connect).ip)
        bench.close(bench.one(Connect))
    return went


def test_when_no_known_broker_is_reachable_the_bootstrap_addresses_are_used_again() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    bench.close(control, "reset")
    bench.step(TopicWanted("u", -1))
    assert set(fail_all(bench, 2)) <= {"10.0.0.1", "10.0.0.2"}
    assert "10.1.1.1" in fail_all(bench, 2)
    assert "returning to bootstrap.servers" in "\n".join(c.message for c in bench.commands if isinstance(c, Log))


def test_with_recovery_strategy_none_only_known_brokers_are_tried() -> None:
    bench = Bench(Settings(metadata_recovery_strategy="none"))
    control = bench.start(topic("t", 1))
    bench.close(control, "reset")
    bench.step(TopicWanted("u", -1))
    assert set(fail_all(bench, 6)) == {"10.0.0.1", "10.0.0.2"}


def test_metadata_that_never_comes_triggers_a_rebootstrap() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    bench.step(LeaderWanted(("t",)))
    while not bench.all(SendFrame):
        bench.sleep()
    bench.step(after_ms=300_001)
    assert bench.one(Close).connection_id == control.connection_id
    bench.close(control, "as commanded", expected=True)
    while not bench.all(Resolve):
        bench.sleep()


def test_a_server_can_demand_a_rebootstrap() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    bench.step(LeaderWanted(("t",)))
    while not bench.all(SendFrame):
        bench.sleep()
    bench.answer(bench.find(MetadataRequest), metadata(error=129))
    assert bench.one(Close).connection_id == control.connection_id
    bench.close(control, "as commanded", expected=True)
    while not bench.all(Resolve):
        bench.sleep()


def test_a_misrouted_data_connection_triggers_a_rebootstrap() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.answer(bench.open(data), ApiVersionsResponse(error_code=129))
    assert {close.connection_id for close in bench.all(Close)} == {control.connection_id, data.connection_id}
    bench.close(control, "as commanded", expected=True)
    while not bench.all(Resolve):
        bench.sleep()


def test_garbage_closes_only_its_connection() -> None:
    bench = Bench()
    connect = bench.connect_control()
    hello = bench.open(connect)
    bench.step(FrameReceived(connect.connection_id, hello.correlation_id, b"\x00\x00\x00\x01\xff"))
    assert "malformed" in bench.one(Close).reason
    bench.close(connect, bench.one(Close).reason, expected=True)
    bench.sleep()
    bench.resolve("10.0.0.1")
    connect = bench.one(Connect)
    bench.handshake(connect)
    frame = bench.find(MetadataRequest)
    bench.step(FrameReceived(connect.connection_id, frame.correlation_id, b"garbage"))
    assert "malformed" in bench.one(Close).reason
    bench.close(connect, bench.one(Close).reason, expected=True)
    for _ in range(3):
        bench.sleep()
        if bench.all(Resolve):
            bench.resolve("10.0.0.1")
            break
    bench.handshake(bench.one(Connect))
    asked = {bench.sent[frame.correlation_id][1] for frame in bench.all(SendFrame)}
    while asked != {MetadataRequest, InitProducerIdRequest}:
        bench.sleep()
        asked |= {bench.sent[frame.correlation_id][1] for frame in bench.all(SendFrame)}


def test_an_identity_is_requested_again_after_retriable_errors() -> None:
    bench = Bench()
    bench.handshake(bench.connect_control())
    bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(error_code=14))
    while not bench.all(SendFrame):
        bench.sleep()
    bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(producer_id=5, producer_epoch=0))
    assert bench.one(SetIdentity) == SetIdentity(5, 0)


def test_without_idempotence_no_identity_is_requested() -> None:
    bench = Bench(Settings(enable_idempotence=False))
    bench.handshake(bench.connect_control())
    bench.find(MetadataRequest)
    assert len(bench.all(SendFrame)) == 1


def test_an_absent_topic_is_requested_with_backoff_while_a_call_waits() -> None:
    bench = Bench()
    bench.start()
    bench.step(TopicWanted("t", -1))
    asked = [bench.now_ms]
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", error=3)))
    assert bench.one(FailTopic) == FailTopic("t", Trouble(3, "UNKNOWN_TOPIC_OR_PARTITION"), False)
    while len(asked) < 6:
        bench.sleep()
        if bench.all(SendFrame):
            asked.append(bench.now_ms)
            bench.step(TopicWanted("t", -1))  # the engine repeats it
            frames = [c for c in bench.commands if isinstance(c, SendFrame)]
            bench.answer(frames[-1], metadata(topic("t", error=3)))
    gaps = [b - a for a, b in pairwise(asked)]
    assert gaps[0] >= 80
    assert gaps[-1] >= 800
    # No call waits any more.
    count = len([c for c in bench.commands if isinstance(c, SendFrame)])
    for _ in range(10):
        if bench.controller.next_wakeup_ms() > 250_000:  # type: ignore[operator]
            break
        bench.sleep()
        if frames := bench.all(SendFrame):
            bench.answer(frames[-1], metadata(topic("t", error=3)))
    assert len([c for c in bench.commands if isinstance(c, SendFrame)]) - count <= 4


def test_a_topic_that_may_not_be_written_fails_at_once() -> None:
    bench = Bench()
    bench.start()
    bench.step(TopicWanted("t", -1))
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", error=29)))
    assert bench.one(FailTopic).is_final


def test_a_settled_lane_resumes_and_metadata_is_refreshed() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LanesHandedOver((lane(batch(error=6)),), ()))
    resume = bench.one(ResumeLane)
    assert [d.action for d in resume.decisions] == ["retry"]
    assert 80 <= resume.delay_ms <= 120
    while not bench.all(SendFrame):
        bench.sleep()
    bench.find(MetadataRequest)


def test_a_hint_is_applied_before_the_lane_resumes() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    report = lane(batch(error=6, current_leader=3, current_leader_epoch=2))
    bench.step(LanesHandedOver((report,), (NodeEndpoint(3, "10.0.0.3", 9092, None),)))
    assert bench.one(SetTopic).partitions[0] == PartitionLeader(3, 2, False)
    assert bench.one(SetTopic).version == 2
    assert bench.one(ResumeLane).delay_ms == 0
    kinds = [type(command) for command in bench.last]
    assert kinds.index(Publish) < kinds.index(SetTopic) < kinds.index(ResumeLane)
    bench.step(ConnectionWanted(3))
    assert bench.one(Connect).ip == "10.0.0.3"


def test_a_hint_without_an_address_waits_for_metadata() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    report = lane(batch(error=6, current_leader=3, current_leader_epoch=2))
    bench.step(LanesHandedOver((report,), ()))
    assert not bench.all(SetTopic)
    assert bench.one(ResumeLane).delay_ms > 0
    while not bench.all(SendFrame):
        bench.sleep()
    bench.find(MetadataRequest)


def test_a_bump_is_every_lanes_target_and_is_shared() -> None:
    bench = Bench()
    bench.start(topic("t", 1, 1))
    reports = tuple(lane(batch(error=45), partition=number) for number in (0, 1))
    bench.step(LanesHandedOver(reports, ()))
    assert bench.one(SetIdentity) == SetIdentity(9, 1)
    renumbered = [resume.renumber for resume in bench.all(ResumeLane)]
    assert [(r.epoch, r.first_sequence) for r in renumbered if r] == [(1, 0), (1, 0)]


def test_used_up_epochs_make_lanes_wait_for_a_new_producer_id() -> None:
    bench = Bench()
    bench.start(topic("t", 1), identity=(9, 32767))
    bench.step(LanesHandedOver((lane(batch(error=45), epoch=32767),), ()))
    assert not bench.all(ResumeLane)
    bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(producer_id=10, producer_epoch=0))
    assert bench.one(SetIdentity) == SetIdentity(10, 0)
    renumber = bench.one(ResumeLane).renumber
    assert renumber == (10, 0, 0)


def test_a_fatal_error_fails_the_producer_and_resumes_the_lane() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LanesHandedOver((lane(batch(error=31)),), ()))
    assert bench.one(ResumeLane).decisions[0].action == "fail"
    assert bench.one(FailProducer).trouble.code == 31
    assert bench.controller.next_wakeup_ms() is None, "nothing is left to be done"
    assert [log.level for log in bench.all(Log)][-1] == logging.ERROR


def test_idle_topics_are_forgotten() -> None:
    bench = Bench()
    bench.start(topic("t", 1), topic("u", 1))
    while RequestTopicAges() not in bench.commands:
        bench.sleep()
        for frame in bench.all(SendFrame):
            bench.answer(frame, metadata(topic("t", 1), topic("u", 1)))
    bench.step(TopicAges({"t": 300_001, "u": 10}))
    assert bench.all(ForgetTopic) == [ForgetTopic("t")]
    assert set(bench.one(Publish).view.views) == {"u"}
