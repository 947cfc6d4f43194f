"""A controller stepped by hand: the events that it gets, and the commands that it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from penstock.config import parse_bootstrap_servers
from penstock.control.boundary import (
    BatchReport,
    Close,
    Connect,
    ConnectionClosed,
    ConnectionOpened,
    FrameReceived,
    LaneReport,
    Ready,
    SendFrame,
)
from penstock.control.commands import Command, Event, Log, Resolve, Resolved
from penstock.control.controller import Controller
from penstock.control.peers import Endpoint
from penstock.protocol import versions
from penstock.protocol.message import Request, Response
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import (
    MetadataRequest,
    MetadataResponse,
    MetadataResponseBroker,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from penstock.protocol.primitives import ZERO_UUID

C = TypeVar("C")
REQUESTS: dict[int, type[Request]] = {3: MetadataRequest, 18: ApiVersionsRequest, 22: InitProducerIdRequest}


@dataclass
class Settings:
    """Kafka's defaults."""

    bootstrap_servers: Sequence[str] = ("one:9092",)
    bootstrap_resolve_timeout_ms: int = 0
    client_id: str = "test"
    client_rack: str = ""
    client_dns_lookup: str = "use_all_dns_ips"
    enable_idempotence: bool = True
    metadata_cluster_check_enable: bool = True
    metadata_max_age_ms: int = 300_000
    metadata_max_idle_ms: int = 300_000
    metadata_recovery_rebootstrap_trigger_ms: int = 300_000
    metadata_recovery_strategy: str = "rebootstrap"
    partitioner_rack_aware: bool = False
    reconnect_backoff_max_ms: int = 1_000
    reconnect_backoff_ms: int = 50
    request_timeout_ms: int = 30_000
    retries: int = 2**31 - 1
    retry_backoff_max_ms: int = 1_000
    retry_backoff_ms: int = 100
    socket_connection_setup_timeout_max_ms: int = 30_000
    socket_connection_setup_timeout_ms: int = 10_000


def brokers(*ids: int) -> tuple[MetadataResponseBroker, ...]:
    """Brokers 1 at 10.0.0.1:9092, and so on; racks a, b, c."""
    return tuple(MetadataResponseBroker(node_id=i, host=f"10.0.0.{i}", port=9092, rack="_abc"[i % 4]) for i in ids)


def topic(name: str, *leaders: int, epoch: int = 1, id: int = 7, error: int = 0) -> MetadataResponseTopic:
    """A topic whose partitions have these leaders."""
    from uuid import UUID

    partitions = tuple(
        MetadataResponsePartition(
            error_code=0 if leader >= 0 else 5,
            partition_index=number,
            leader_id=leader,
            leader_epoch=epoch,
            replica_nodes=(1, 2),
            isr_nodes=(1,),
            offline_replicas=(2,),
        )
        for number, leader in enumerate(leaders)
    )
    return MetadataResponseTopic(
        name=name, topic_id=UUID(int=id) if id else ZERO_UUID, partitions=partitions, error_code=error
    )


def metadata(
    *topics: MetadataResponseTopic, ids: Sequence[int] = (1, 2), cluster: str = "c", error: int = 0
) -> MetadataResponse:
    return MetadataResponse(brokers=brokers(*ids), cluster_id=cluster, topics=topics, error_code=error)


def batch(batch_id: int = 1, base_sequence: int = 0, error: int = 0, **changes: object) -> BatchReport:
    """A batch of ten records, rejected by its broker by default."""
    base = BatchReport(
        batch_id=batch_id,
        base_sequence=base_sequence,
        record_count=10,
        attempts=1,
        fate="rejected",
        error_code=error,
        error_message="",
        lost=False,
        expired=False,
        base_offset=-1,
        current_leader=-1,
        current_leader_epoch=-1,
    )
    return base._replace(**changes)  # type: ignore[arg-type]


def lane(*batches: BatchReport, **changes: object) -> LaneReport:
    """A lane of topic t under identity (9, 0), with nothing acknowledged yet."""
    base = LaneReport(
        topic="t",
        topic_id=bytes(15) + b"\x07",
        partition=0,
        leader=1,
        leader_epoch=1,
        producer_id=9,
        epoch=0,
        last_acked_sequence=-1,
        log_start_offset=0,
        failures=0,
        numbers_used_elsewhere=False,
        batches=batches,
    )
    return base._replace(**changes)  # type: ignore[arg-type]


@dataclass
class Bench:
    """A controller, the time, and all its commands."""

    settings: Settings = field(default_factory=Settings)
    seed: int = 1
    now_ms: float = 1_000.0
    commands: list[Command] = field(default_factory=list)
    last: list[Command] = field(default_factory=list)  # of the last step
    broker_versions: dict[int, tuple[int, int]] = field(
        default_factory=lambda: {a.key: (a.min_version, a.max_version) for a in index.APIS.values()}
    )

    def __post_init__(self) -> None:
        endpoints = [Endpoint(*pair) for pair in parse_bootstrap_servers(self.settings.bootstrap_servers)]
        self.controller = Controller(
            self.settings, endpoints, random=Random(self.seed), now_ms=self.now_ms, software_version="1.0"
        )
        self.sent: dict[int, tuple[int, type[Request], int]] = {}  # correlation id → connection, request type, version

    # ------------------------------------------------------------------------------------------------- stepping

    def step(self, *events: Event, after_ms: float = 0) -> list[Command]:
        self.now_ms += after_ms
        self.last = self.controller.step(events, self.now_ms)
        self.commands += self.last
        for command in self.last:
            if isinstance(command, SendFrame):
                header, _ = versions.decode_request_header(command.frame)
                kind = REQUESTS[header.request_api_key]
                self.sent[command.correlation_id] = (command.connection_id, kind, header.request_api_version)
        return self.last

    def sleep(self) -> list[Command]:
        """Step at the time that the controller set."""
        at_ms = self.controller.next_wakeup_ms()
        assert at_ms is not None
        self.now_ms = max(self.now_ms, at_ms)
        return self.step()

    def all(self, kind: type[C]) -> list[C]:
        """The commands of the last step, of one kind."""
        return [command for command in self.last if isinstance(command, kind)]

    def one(self, kind: type[C]) -> C:
        found = self.all(kind)
        assert len(found) == 1, f"{kind.__name__}: {found}, of {self.last}"
        return found[0]

    def logs(self) -> str:
        return "\n".join(log.message for log in self.all(Log))

    # -------------------------------------------------------------------------------------------- brokers' answers

    def resolve(self, *addresses: str, host: str = "one", port: int = 9092, error: str = "") -> list[Command]:
        return self.step(Resolved(host, port, addresses, error))

    def open(self, connect: Connect) -> SendFrame:
        """TCP is up; the ApiVersions request that follows."""
        self.step(ConnectionOpened(connect.connection_id))
        return self.one(SendFrame)

    def request(self, frame: SendFrame) -> Request:
        """The request in a frame."""
        header, reader = versions.decode_request_header(frame.frame)
        return REQUESTS[header.request_api_key].read(reader, header.request_api_version)

    def answer(self, frame: SendFrame, response: Response, version: int | None = None) -> list[Command]:
        _, _, sent_version = self.sent[frame.correlation_id]
        body = versions.encode_response(response, sent_version if version is None else version, frame.correlation_id)
        return self.step(FrameReceived(frame.connection_id, frame.correlation_id, body))

    def api_versions(self) -> ApiVersionsResponse:
        keys = tuple(ApiVersion(api_key=k, min_version=a, max_version=b) for k, (a, b) in self.broker_versions.items())
        return ApiVersionsResponse(api_keys=keys)

    def handshake(self, connect: Connect) -> list[Command]:
        """From `Connect` to an open connection."""
        return self.answer(self.open(connect), self.api_versions())

    def close(self, connect: Connect, reason: str = "connection refused", **kw: bool) -> list[Command]:
        expected, requested, worked = (kw.get(name, False) for name in ("expected", "requested", "worked"))
        return self.step(ConnectionClosed(connect.connection_id, reason, expected, requested, worked))

    def find(self, kind: type[Request]) -> SendFrame:
        """The request of this kind among the commands of the last step."""
        found = [frame for frame in self.all(SendFrame) if self.sent[frame.correlation_id][1] is kind]
        assert len(found) == 1, f"{kind.__name__}: {found}"
        return found[0]

    # ---------------------------------------------------------------------------------------------------- set-ups

    def connect_control(self) -> Connect:
        """Up to the control connection's `Connect`, at the first bootstrap address."""
        self.step()
        self.one(Resolve)
        self.resolve("10.0.0.1")
        return self.one(Connect)

    def start(self, *topics: MetadataResponseTopic, identity: tuple[int, int] = (9, 0)) -> Connect:
        """Up to known metadata and identity; the control connection."""
        for each in topics:
            self.controller._metadata.want(each.name or "", -1, self.now_ms)
        connect = self.connect_control()
        self.handshake(connect)
        frames = {self.sent[frame.correlation_id][1]: frame for frame in self.all(SendFrame)}
        self.answer(frames[MetadataRequest], metadata(*topics))
        if InitProducerIdRequest in frames:
            answer = InitProducerIdResponse(producer_id=identity[0], producer_epoch=identity[1])
            self.answer(frames[InitProducerIdRequest], answer)
        return connect


__all__ = ["Bench", "Close", "Endpoint", "Ready", "Settings", "batch", "brokers", "lane", "metadata", "topic"]
