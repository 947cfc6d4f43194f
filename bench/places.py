"""Where a row's contestants send to: a Kafka (here, or behind a link), a null sink, the sink of raw TCP."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, NamedTuple

from bench.faults import Faults
from bench.figures import overlaid
from bench.link import Network, RunningLink
from bench.outages import Outages, Player
from bench.row import Row
from bench.surroundings import HEAP_MB, limits

from fault_proxy import FaultProxy  # isort: skip (neither is this one)
from fault_rules import Rule  # isort: skip
import kafka_wire  # isort: skip (the harness is not a package: bench.surroundings puts it on the path)
from kafka_cluster import HOST, KafkaCluster  # isort: skip

SEGMENT_BYTES, RETENTION_BYTES = 64 << 20, 256 << 20


@dataclass(frozen=True)
class Place:
    """Where one contestant sends to, and what it is started with."""

    bootstrap: str
    sink: Sink | None = None
    network: Network | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    proxy: FaultProxy | None = None
    faults: Faults | None = None
    outages: Outages | None = None

    def disturbed(self) -> AbstractContextManager[Player | None]:
        """Around a run: the outages of the row, if it has any."""
        if self.proxy is None or self.outages is None:
            return nullcontext()
        return Player(self.outages, self.proxy)

    def prepare(self, number: int) -> None:
        """Before a run of round `number`: all contestants of a round meet the same faults."""
        if self.proxy is not None and self.faults is not None:
            self.proxy.plan.clear()
            self.proxy.plan.extend([Rule(**rule) for rule in self.faults.plan(number)])

    def met(self, number: int) -> dict[str, int]:
        """How many faults the run of round `number` has met, as a figure."""
        if self.proxy is None or self.faults is None:
            return {}
        planned = self.faults.plan(number)
        used = planned[: len(planned) - len(self.proxy.plan.pending)]
        return {"faults": sum(len(rule) > 1 for rule in used)}

    def command(self, command: list[str]) -> list[str]:
        """The command that runs a contestant there."""
        return command if self.network is None else self.network.inside(*command)


class Sink:
    """A null sink in a separate process, which ends with its stdin."""

    def __init__(self, partitions: int) -> None:
        self._process = subprocess.Popen(
            [str(limits() / "null-sink"), "--partitions", str(partitions)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.bootstrap_servers: str = f"127.0.0.1:{self._line()['port']}"

    def records(self) -> int:
        """The number of records that it has acknowledged so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._line()["records"])

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line: dict[str, Any] = json.loads(self._process.stdout.readline())
        return line

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class RawSink:
    """Takes bytes over TCP and answers each block with one byte: what a connection moves without a protocol."""

    BLOCK = 1 << 16

    def __init__(self, host: str) -> None:
        self._server = socket.create_server((host, 0))
        self.address = f"{host}:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed, or a client that has ended
            while True:
                stream, _ = self._server.accept()
                with stream, suppress(OSError):
                    self._answer(stream)

    def _answer(self, stream: socket.socket) -> None:
        buffer, received = bytearray(16 * self.BLOCK), 0
        while read := stream.recv_into(buffer):
            before, received = received // self.BLOCK, received + read
            stream.sendall(b"k" * (received // self.BLOCK - before))

    def __enter__(self) -> RawSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)  # ends an accept that waits
        self._server.close()


class _Kind(NamedTuple):
    nodes: int
    host: str
    buffers: str


_HERE = _Kind(1, HOST, "default")


class Kafka:
    """A real Kafka of the kind that a row needs, and the network behind which clients find it.

    Started when the first row needs it, because the rows of the null sink need no JVM beside them; one kind at a time.
    """

    def __init__(self) -> None:
        self._cluster: KafkaCluster | None = None
        self._kind = _HERE
        self._network: Network | None = None

    def network(self) -> Network:
        """The namespace of clients at a distance.

        Raises:
            MissingToolError: this machine does not allow it.
        """
        self._network = self._network or Network()
        return self._network

    def start(self, row: Row) -> str:
        """Start the Kafka of a row, unless it runs; returns its address."""
        if row.distance is not None:
            kind = _Kind(row.nodes, self.network().near, row.broker_buffers)
        else:
            kind = _HERE._replace(nodes=row.nodes)
        if self._cluster is None or kind != self._kind:
            self._stop()
            # A minute of benchmarking fills gigabytes: small segments that are checked often, so that retention can work.
            config = {"log.retention.check.interval.ms": 10_000, "log.segment.delete.delay.ms": 1000}
            if kind.buffers == "autotuned":
                config |= {"socket.send.buffer.bytes": -1, "socket.receive.buffer.bytes": -1}
            heap_mb = HEAP_MB if kind.nodes == 1 else HEAP_MB // 2
            self._cluster, self._kind = KafkaCluster(kind.nodes, heap_mb=heap_mb, config=config, host=kind.host), kind
            self._cluster.start()
        return str(self._cluster.bootstrap_servers)

    def addresses(self) -> dict[int, tuple[str, int]]:
        """By node id."""
        assert self._cluster is not None
        return {node.node_id: node.address for node in self._cluster.nodes.values()}

    def create_topic(self, name: str, row: Row) -> None:
        """Create a topic for a row. Three brokers: each partition is on all of them, and two must have a record."""
        assert self._cluster is not None
        keep = max(SEGMENT_BYTES, RETENTION_BYTES * 6 // max(6, row.partitions))
        config = {"retention.bytes": str(keep), "segment.bytes": str(SEGMENT_BYTES)}
        if row.nodes > 1:
            config["min.insync.replicas"] = "2"
        self._cluster.create_topic(name, row.partitions, min(3, row.nodes), config=config)

    def delete_topic(self, name: str) -> None:
        """Delete a topic; its files go a second later."""
        assert self._cluster is not None
        kafka_wire.delete_topic(self._cluster.nodes[1].address, name)

    def _stop(self) -> None:
        if self._cluster is not None:
            self._cluster.stop()
            self._cluster = None

    def __enter__(self) -> Kafka:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        if self._network is not None:
            self._network.close()


def places_of(
    row: Row, quick: bool, kafka: Kafka, topic: str, stack: ExitStack
) -> tuple[dict[str, Place], RunningLink | None]:
    """Each contestant's target: one Kafka and one topic for all, or a null sink for each number of partitions; the link.

    Raises:
        MissingToolError: the row needs something that this machine does not have.
    """
    if row.sink:
        wanted = {label: int(overlaid(row, label, quick)["partitions"]) for label in row.contestants}
        sinks = {partitions: stack.enter_context(Sink(partitions)) for partitions in sorted(set(wanted.values()))}
        made = {label: sinks[partitions] for label, partitions in wanted.items()}
        return {label: Place(sink.bootstrap_servers, sink) for label, sink in made.items()}, None
    bootstrap = kafka.start(row)
    kafka.create_topic(topic, row)
    stack.callback(kafka.delete_topic, topic)
    if row.faults is not None or row.outages is not None:
        proxy = stack.enter_context(FaultProxy(kafka.addresses()))
        broken = Place(proxy.bootstrap_servers, proxy=proxy, faults=row.faults, outages=row.outages)
        return dict.fromkeys(row.contestants, broken), None
    if row.distance is None:
        return dict.fromkeys(row.contestants, Place(bootstrap)), None
    network = kafka.network()
    link = stack.enter_context(network.link(row.distance))
    raw = stack.enter_context(RawSink(network.near))
    place = Place(bootstrap, network=network, task={"raw_tcp": raw.address, "raw_block": RawSink.BLOCK})
    return dict.fromkeys(row.contestants, place), link
