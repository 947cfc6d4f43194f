"""Control requests and their answers: the connection, the end of waiting, and answers without a request."""

from __future__ import annotations

import pytest
from control_harness import Bench, Settings, metadata, topic

from penstock.control import requests
from penstock.control.boundary import Close, Connect, ConnectionWanted, FrameReceived, Ready, SendFrame, TopicWanted
from penstock.control.peers import Peer
from penstock.control.purposes import purposes
from penstock.control.requests import Awaited, ControlRequest
from penstock.protocol import versions
from penstock.protocol.message import replace
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponse


class Request:
    """One that a test sends on a connection, as re-authentication will, and its answers."""

    def __init__(self, bench: Bench, connect: Connect) -> None:
        self.answers: list[ApiVersionsResponse] = []
        self.lost: list[float] = []
        self._bench = bench
        awaited = Awaited(requests.API_VERSIONS, 3, self._answered, self.lost.append)
        self.peer = peer_of(bench, connect)
        self.frame = bench.controller._connections.request(self.peer, ApiVersionsRequest(), awaited)

    def _answered(self, response: ApiVersionsResponse, version: int) -> None:
        self.answers.append(response)

    def answer(self, response: ApiVersionsResponse) -> None:
        body = versions.encode_response(response, 3, self.frame.correlation_id)
        self._bench.step(FrameReceived(self.frame.connection_id, self.frame.correlation_id, body))


def peer_of(bench: Bench, connect: Connect) -> Peer:
    return next(p for p in bench.controller._connections.peers() if p.connection_id == connect.connection_id)


def data_connection(bench: Bench) -> Connect:
    """One that carries records."""
    bench.start(topic("t", 1))
    bench.step(ConnectionWanted(1))
    data = bench.one(Connect)
    bench.handshake(data)
    assert bench.one(Ready)
    return data


# ---------------------------------------------------------------------------------------------- on every connection


def test_an_answer_on_a_data_connection_finds_its_request() -> None:
    """As re-authentication needs it (KIP-368). Before, it closed the connection, and requests in flight were lost."""
    bench = Bench()
    request = Request(bench, data_connection(bench))
    answer = bench.api_versions()
    request.answer(answer)
    assert request.answers == [answer]
    assert not bench.all(Close)
    assert request.peer.state == "open"


def test_requests_on_one_connection_do_not_affect_another() -> None:
    bench = Bench()
    request = Request(bench, data_connection(bench))
    bench.step(TopicWanted("u", -1))
    ask = bench.find(MetadataRequest)
    bench.answer(ask, metadata(topic("u", 1)))
    request.answer(bench.api_versions())
    assert len(request.answers) == 1
    assert not [command for command in bench.commands if isinstance(command, Close)]


def test_a_request_is_lost_with_its_connection_and_once() -> None:
    bench = Bench()
    data = data_connection(bench)
    request = Request(bench, data)
    bench.close(data, "reset")
    assert request.lost == [bench.now_ms]
    request.answer(bench.api_versions())
    assert (len(request.lost), request.answers) == (1, [])


def test_an_answer_with_the_correlation_id_of_another_connection_is_unexpected() -> None:
    bench = Bench()
    data = data_connection(bench)
    bench.step(TopicWanted("u", -1))
    ask = bench.find(MetadataRequest)
    bench.step(FrameReceived(data.connection_id, ask.correlation_id, b""))
    assert bench.one(Close) == Close(data.connection_id, f"unexpected response, correlation id {ask.correlation_id}")
    bench.answer(ask, metadata(topic("u", 1)))
    assert not bench.all(Close), "the request is where it was sent"


@pytest.mark.parametrize("stage", ["handshake", "control", "data"])
def test_an_unexpected_answer_closes_its_connection_with_that_reason(stage: str) -> None:
    bench = Bench()
    if stage == "data":
        connect = data_connection(bench)
    elif stage == "control":
        connect = bench.start(topic("t", 1))
    else:
        connect = bench.connect_control()
        bench.open(connect)
    bench.step(FrameReceived(connect.connection_id, 77_777, b""))
    assert bench.one(Close) == Close(connect.connection_id, "unexpected response, correlation id 77777")


def test_answers_on_a_connection_that_is_being_closed_are_ignored() -> None:
    """Before, each of them closed it again, with a reason that hid the first."""
    bench = Bench()
    data = data_connection(bench)
    request = Request(bench, data)
    bench.step(FrameReceived(data.connection_id, 77_777, b""))
    assert bench.one(Close)
    request.answer(bench.api_versions())
    bench.step(FrameReceived(data.connection_id, 77_778, b""))
    assert not bench.all(Close)
    assert request.answers == []
    bench.close(data, expected=True)
    assert "correlation id 77777" in bench.logs()
    assert request.lost == [bench.now_ms]


def test_a_malformed_answer_is_a_lost_request() -> None:
    bench = Bench()
    data = data_connection(bench)
    request = Request(bench, data)
    bench.step(FrameReceived(data.connection_id, request.frame.correlation_id, b"\x00"))
    assert bench.one(Close).reason.startswith("malformed answer to ApiVersions: ")
    assert request.lost == []
    bench.close(data, expected=True)
    assert request.lost == [bench.now_ms]


# ---------------------------------------------------------------------------------------------------------- the table


def row(due_ms: float | None) -> ControlRequest[MetadataResponse]:
    return ControlRequest(
        requests.METADATA,
        purposes(Settings()).control,
        due_ms=lambda now_ms: due_ms,
        build=lambda now_ms: MetadataRequest(),
        answered=lambda response, version: None,
        lost=lambda now_ms: None,
    )


@pytest.mark.parametrize(("due_ms", "due"), [(None, False), (5, True), (6, True), (7, False)])
def test_a_row_is_due_from_its_time_on(due_ms: float | None, due: bool) -> None:
    assert row(due_ms).is_due(6) is due


@pytest.mark.parametrize(("version", "throttle_ms"), [(5, 0), (6, 300), (13, 300)])
def test_a_newer_broker_expects_the_client_to_wait(version: int, throttle_ms: int) -> None:
    """KIP-219."""
    response = replace(metadata(), throttle_time_ms=300)
    assert requests.METADATA.throttle_ms(response, version) == throttle_ms


def test_a_new_request_needs_one_new_row() -> None:
    """A request like the ones that telemetry will add: the controller sends it, and gives it its answer."""
    bench = Bench()
    bench.start(topic("t", 1))
    control = bench.controller._requests[0].purpose
    due: list[float | None] = [bench.now_ms]
    answers: list[ApiVersionsResponse] = []

    def build(now_ms: float) -> ApiVersionsRequest:
        due[0] = None
        return ApiVersionsRequest()

    answered = lambda response, version: answers.append(response)  # noqa: E731
    lost = lambda now_ms: None  # noqa: E731
    new = ControlRequest(requests.API_VERSIONS, control, lambda now_ms: due[0], build, answered, lost)
    bench.controller._requests += (new,)
    bench.step()
    frame = bench.find(ApiVersionsRequest)
    assert isinstance(frame, SendFrame)
    bench.answer(frame, bench.api_versions())
    assert len(answers) == 1
    due[0] = bench.now_ms + 500
    assert bench.controller.next_wakeup_ms() == due[0]


def test_purposes_differ_in_data() -> None:
    control, data = purposes(Settings())
    assert control.needs == (index.METADATA, index.INIT_PRODUCER_ID)
    assert purposes(Settings(enable_idempotence=False)).control.needs == (index.METADATA,)
    assert data.needs == (index.PRODUCE,)
    assert data.carries_records
    assert not control.carries_records
