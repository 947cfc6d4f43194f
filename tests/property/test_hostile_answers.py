"""Any answer of a broker to a control request: its connection may be closed, and the producer continues with the next.

The test steps the controller. All its commands go to the real native engine, which has no thread here: a value that the
boundary cannot carry would end the control thread, and with it the producer.
"""

from __future__ import annotations

import sys
from collections import deque
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._native import Engine
from penstock.config import ProducerConfig
from penstock.control.boundary import (
    Close,
    Connect,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionWanted,
    FailProducer,
    FrameReceived,
    LanesHandedOver,
    NodeEndpoint,
    SendFrame,
    SetIdentity,
    SetTopic,
)
from penstock.control.commands import Command, Log, Publish, RequestTopicAges, Resolve, Resolved
from penstock.protocol import versions
from penstock.protocol.message import Request, Response
from penstock.protocol.messages.api_versions import ApiVersionsRequest
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest

sys.path.append(str(Path(__file__).parents[1] / "unit" / "protocol"))
sys.path.append(str(Path(__file__).parents[1] / "unit" / "control"))

from control_harness import Bench, metadata, topic
from protocol_catalogue import MessageVersion, values

RESPONSES = {"Metadata": 3, "ApiVersions": 18, "InitProducerId": 22}
REQUESTS: dict[str, type[Request]] = {
    "Metadata": MetadataRequest,
    "ApiVersions": ApiVersionsRequest,
    "InitProducerId": InitProducerIdRequest,
}
deterministic = settings(derandomize=True, max_examples=25, deadline=None, database=None)
every_api = pytest.mark.parametrize("api", RESPONSES)


def engine() -> Engine:
    """An engine without threads: it parses and stores commands."""
    return Engine(ProducerConfig(bootstrap_servers="one:9092").settings)


class Broker:
    """Answers correctly, except for the first request of one API, which gets the given answer."""

    def __init__(self, api: str, body: bytes | None = None, response: Response | None = None) -> None:
        self.bench = Bench()
        self._engine = engine()
        self._hostile = REQUESTS[api]
        self._body = body
        self._response = response
        self._answered_hostile = False
        self._connection: int | None = None  # where the hostile answer was sent

    def run(self) -> None:
        """Run until topic "t" and an identity are known; fails if that does not happen."""
        bench = self.bench
        bench.controller._metadata.want("t", -1, bench.now_ms)
        todo = deque[Command](bench.step())
        for _ in range(300):
            while todo:
                command = todo.popleft()
                if not isinstance(command, (Resolve, Publish, Log, RequestTopicAges)):
                    self._engine.exchange([command], 0)
                todo += self._obey(command)
            if self.known:
                break
            bench.controller._metadata.want("t", -1, bench.now_ms)  # a send still waits for the topic
            todo += bench.sleep()
        assert self._answered_hostile
        assert self.known, bench.commands

    @property
    def known(self) -> bool:
        kinds = {type(command) for command in self.bench.commands}
        return self._answered_hostile and {SetTopic, SetIdentity} <= kinds

    def _obey(self, command: Command) -> list[Command]:
        bench = self.bench
        match command:
            case Resolve(host=host, port=port):
                return bench.step(Resolved(host, port, ("10.0.0.1",), ""))
            case Connect(connection_id=connection):
                return bench.step(ConnectionOpened(connection))
            case Close(connection_id=connection, reason=reason):
                return bench.step(ConnectionClosed(connection, reason, True, False, False))
            case SendFrame():
                return self._answer(command)
            case Publish(view=view):
                # All known brokers get used: records wait for each one, and the control connection is lost.
                return [*self._lose_connection(), *bench.step(*map(ConnectionWanted, list(view.brokers)[:5]))]
            case FailProducer():
                raise AssertionError(command)
            case _:
                return []

    def _lose_connection(self) -> list[Command]:
        connection, self._connection = self._connection, None
        if connection is None:
            return []
        return self.bench.step(ConnectionClosed(connection, "reset by peer", False, False, False))

    def _answer(self, frame: SendFrame) -> list[Command]:
        bench = self.bench
        _, kind, version = bench.sent[frame.correlation_id]
        if kind is self._hostile and not self._answered_hostile:
            self._answered_hostile = True
            self._connection = frame.connection_id
            if self._response is not None:
                return bench.answer(frame, self._response)
            body = frame.correlation_id.to_bytes(4, "big") + (self._body or b"")
            return bench.step(FrameReceived(frame.connection_id, frame.correlation_id, body))
        answers: dict[type[Request], Response] = {
            MetadataRequest: metadata(topic("t", 1, 2)),
            ApiVersionsRequest: bench.api_versions(),
            InitProducerIdRequest: InitProducerIdResponse(producer_id=9, producer_epoch=0),
        }
        return bench.answer(frame, answers[kind], version)


def newest(api: str) -> MessageVersion:
    key = RESPONSES[api]
    version = {3: 13, 18: 4, 22: 5}[key]
    return MessageVersion(f"{api}Response", key, "response", version)


def harmless(response: Response) -> bool:
    """A broker may refuse an identity by an error code, which the producer accepts."""
    return not (isinstance(response, InitProducerIdResponse) and response.error_code)


@every_api
@deterministic
@given(data=st.data())
def test_a_well_formed_answer_with_any_values(api: str, data: st.DataObject) -> None:
    response = data.draw(values(newest(api)).filter(harmless))
    Broker(api, response=response).run()


@every_api
@deterministic
@given(body=st.binary(max_size=120))
def test_arbitrary_bytes(api: str, body: bytes) -> None:
    Broker(api, body=body).run()


@every_api
@deterministic
@given(data=st.data())
def test_mutated_bytes(api: str, data: st.DataObject) -> None:
    of = newest(api)
    response = data.draw(values(of).filter(harmless))
    body = bytearray(versions.encode_response(response, of.version, 0)[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        mutant = versions.decode_response(type(response), of.version, bytes(4) + bytes(body))[1]
    except versions.ProtocolError:
        pass
    else:
        if not harmless(mutant):
            return
    Broker(api, body=bytes(body)).run()


@deterministic
@given(
    st.lists(
        st.builds(
            NodeEndpoint,
            broker_id=st.integers(-(2**31), 2**31 - 1),
            host=st.text(max_size=5) | st.sampled_from(["fe80::1%eth0", "::1", "10.0.0.1", "x" * 300]),
            port=st.integers(-(2**31), 2**31 - 1),
            rack=st.none() | st.text(max_size=3),
        ),
        max_size=4,
    )
)
def test_any_endpoints_in_a_produce_answer(endpoints: list[NodeEndpoint]) -> None:
    bench, native = Bench(), engine()
    bench.start(topic("t", 1, 2))
    bench.step(LanesHandedOver((), tuple(endpoints)))
    wanted = [ConnectionWanted(endpoint.broker_id) for endpoint in endpoints]
    todo = deque[Command](bench.step(*wanted))
    for command in todo:
        assert not isinstance(command, FailProducer)
        if isinstance(command, Resolve):
            bench.resolve("10.0.0.9", host=command.host, port=command.port)
            native.exchange(bench.all(Connect), 0)
        elif isinstance(command, Connect):
            native.exchange([command], 0)
