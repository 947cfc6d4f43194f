"""The fault proxy itself, in front of a broker that is played by hand: without a rule it changes nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from fault_proxy import FaultProxy
from fault_rules import Plan, Rule

from penstock.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
)
from penstock.protocol.messages.produce import (
    LeaderIdAndEpoch,
    NodeEndpoint,
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
    TopicProduceResponse,
)
from penstock.protocol.versions import decode_response, encode_request, encode_response

TIMEOUT_S = 20
NODE = 7

Reply = Callable[[bytes], "bytes | None"]


def receive(connection: socket.socket) -> bytes | None:
    """A frame without its length; None at the end of the stream."""

    def exactly(size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = connection.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data

    try:
        return exactly(*struct.unpack(">i", exactly(4)))
    except (EOFError, OSError):
        return None


def framed(frame: bytes) -> bytes:
    return struct.pack(">i", len(frame)) + frame


class PlayedBroker:
    """Notes every frame and answers what `reply` says (None: nothing)."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.reply: Reply = lambda frame: frame[4:8] + frame
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return host, port

    def close(self) -> None:
        if self._listener.fileno() >= 0:
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who waits in `accept`
            self._listener.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while (frame := receive(connection)) is not None:
                self.received.append(frame)
                answer = self.reply(frame)
                if answer is not None:
                    with contextlib.suppress(OSError):  # the test has ended
                        connection.sendall(framed(answer))


@pytest.fixture
def broker() -> Iterator[PlayedBroker]:
    played = PlayedBroker()
    yield played
    played.close()


@pytest.fixture
def proxy(broker: PlayedBroker) -> Iterator[FaultProxy]:
    with FaultProxy({NODE: broker.address}) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with socket.create_connection(proxy.addresses[NODE], timeout=TIMEOUT_S) as connection:
        yield connection


def produce(correlation_id: int, *partitions: int, acks: int = -1) -> bytes:
    data = tuple(PartitionProduceData(index=index, records=b"some records") for index in partitions)
    request = ProduceRequest(acks=acks, timeout_ms=1, topic_data=(TopicProduceData(name="t", partition_data=data),))
    return encode_request(request, 12, correlation_id, "me")


def produced(correlation_id: int, *partitions: int) -> bytes:
    answers = tuple(PartitionProduceResponse(index=index, base_offset=5) for index in partitions)
    topic = TopicProduceResponse(name="t", partition_responses=answers)
    return encode_response(ProduceResponse(responses=(topic,)), 12, correlation_id)


def codes(frame: bytes) -> list[tuple[int, int]]:
    _, answer = decode_response(ProduceResponse, 12, frame)
    return [(part.index, part.error_code) for topic in answer.responses for part in topic.partition_responses]


def test_without_a_rule_every_byte_passes_unchanged(broker: PlayedBroker, client: socket.socket) -> None:
    """Requests of any API and version, nonsense included, however they are cut into pieces; and their answers."""
    chance = random.Random(4)
    frames = [produce(1, 0, 1), encode_request(MetadataRequest(), 12, 2, None), struct.pack(">hhi", 0, 12, 3)]
    frames += [struct.pack(">hhi", chance.choice([1, 11, 18, 999, -5]), chance.randrange(20), 4 + n) for n in range(20)]
    frames += [frame + chance.randbytes(chance.choice([1, 100, 70_000, 300_000])) for frame in frames]
    stream = b"".join(map(framed, frames))

    def write() -> None:
        at = 0
        while at < len(stream):
            size = chance.choice([1, 3, 1_000, 100_000])
            client.sendall(stream[at : at + size])
            at += size

    writer = threading.Thread(target=write)
    writer.start()
    for frame in frames:
        assert receive(client) == frame[4:8] + frame
    writer.join(TIMEOUT_S)
    assert broker.received == frames


def test_a_produce_answer_without_addresses_passes_unchanged(
    proxy: FaultProxy, broker: PlayedBroker, client: socket.socket
) -> None:
    answer = produced(1, 0)
    broker.reply = lambda _: answer
    client.sendall(framed(produce(1, 0)))
    assert receive(client) == answer
    leader = PartitionProduceResponse(
        index=0, error_code=6, current_leader=LeaderIdAndEpoch(leader_id=NODE, leader_epoch=3)
    )
    hinting = ProduceResponse(
        responses=(TopicProduceResponse(name="t", partition_responses=(leader,)),),
        node_endpoints=(NodeEndpoint(node_id=NODE, host="elsewhere", port=1),),
    )
    broker.reply = lambda _: encode_response(hinting, 12, 2)
    client.sendall(framed(produce(2, 0)))
    frame = receive(client)
    assert frame is not None
    _, seen = decode_response(ProduceResponse, 12, frame)
    assert (seen.node_endpoints[0].host, seen.node_endpoints[0].port) == proxy.addresses[NODE]
    assert seen.responses == hinting.responses


def test_only_the_addresses_in_metadata_change(proxy: FaultProxy, broker: PlayedBroker, client: socket.socket) -> None:
    brokers = (MetadataResponseBroker(node_id=NODE, host="b", port=9092, rack="r"),)
    other = (MetadataResponseBroker(node_id=8, host="unknown here", port=9092),)
    broker.reply = lambda _: encode_response(MetadataResponse(brokers=brokers + other, cluster_id="c"), 12, 1)
    client.sendall(framed(encode_request(MetadataRequest(), 12, 1, None)))
    frame = receive(client)
    assert frame is not None
    _, seen = decode_response(MetadataResponse, 12, frame)
    host, port = proxy.addresses[NODE]
    assert seen.brokers == (MetadataResponseBroker(node_id=NODE, host=host, port=port, rack="r"), *other)
    assert seen.cluster_id == "c"


def test_partitions_with_an_error_do_not_reach_the_broker_and_answers_keep_their_order(
    proxy: FaultProxy, broker: PlayedBroker, client: socket.socket
) -> None:
    answers = {1: produced(1, 0), 3: produced(3, 0, 1)}
    broker.reply = lambda frame: answers[struct.unpack_from(">i", frame, 4)[0]]
    proxy.plan.add(api="Produce", topic="t", partition=1, error=6, times=2)
    client.sendall(framed(produce(1, 0, 1)) + framed(produce(2, 1)) + framed(produce(3, 0, 1)))
    seen = [receive(client) for _ in range(3)]
    assert [codes(frame) for frame in seen if frame is not None] == [[(0, 0), (1, 6)], [(1, 6)], [(0, 0), (1, 0)]]
    assert broker.received == [produce(1, 0), produce(3, 0, 1)]
    assert proxy.notes.counts() == {"Produce error 6": 2}


def test_no_answer_is_awaited_for_acks_0(broker: PlayedBroker, client: socket.socket) -> None:
    broker.reply = lambda frame: None if frame == produce(1, 0, acks=0) else produced(2, 0)
    client.sendall(framed(produce(1, 0, acks=0)) + framed(produce(2, 0)))
    assert receive(client) == produced(2, 0)


def test_a_reset_in_the_middle_of_a_request_reaches_both_sides(
    proxy: FaultProxy, broker: PlayedBroker, client: socket.socket
) -> None:
    proxy.plan.add(api="Produce", reset="request")
    client.sendall(framed(produce(1, 0)))
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert broker.received == []


def test_a_too_large_frame_closes_its_connection(client: socket.socket) -> None:
    client.sendall(struct.pack(">i", 1 << 30))
    with pytest.raises(ConnectionResetError):
        client.recv(1)


def test_a_stopped_broker_refuses_connections(broker: PlayedBroker, proxy: FaultProxy) -> None:
    broker.close()
    with pytest.raises(ConnectionResetError):  # by the first read, or by connecting already
        with socket.create_connection(proxy.addresses[NODE], timeout=TIMEOUT_S) as connection:
            connection.recv(1)


def test_rules_apply_in_their_order() -> None:
    plan = Plan()
    plan.add(api="Produce", topic="t", partition=3, close=True)
    plan.add(node=2, delay_ms=1, times=2)

    def take(api: str, node: int, *targets: tuple[str, int]) -> str | None:
        rule = plan.take(api, node, lambda: targets)
        return None if rule is None else rule.kind

    assert take("Produce", 1, ("t", 2)) is None
    assert take("Metadata", 2) == "delay"
    assert take("Produce", 2, ("t", 3)) == "close"
    assert take("Produce", 2, ("t", 3)) == "delay"
    assert take("Produce", 2, ("t", 3)) is None
    assert plan.pending == []


@pytest.mark.parametrize(
    "nonsense",
    [{"times": 0}, {"reset": "reading", "topic": "t"}, {"shape": "omit"}, {"api": "Metadata", "after_append": True}],
)
def test_an_impossible_rule_is_refused(nonsense: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Rule(**nonsense)  # type: ignore[arg-type]
