"""The model of a Kafka cluster: the embedded broker's handlers and logs, with replication that takes time.

The embedded broker has one log per partition, as if replication took no time. Here a batch that was appended is replicated
later, and acknowledged only then; a leader that stops before that may lose it (`truncation`) or leave it to its successor,
and the client gets NOT_LEADER_OR_FOLLOWER in both cases, as from Kafka's delayed produce. Acknowledged records are never
truncated: the oracle relies on that guarantee.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from penstock.devbroker.context import CloseConnection, Context
from penstock.devbroker.dispatch import encode
from penstock.devbroker.handlers import HANDLERS, api_versions
from penstock.devbroker.producers import ProducerStates
from penstock.devbroker.settings import BrokerSettings
from penstock.devbroker.state import ClusterState
from penstock.devbroker.topics import Partition
from penstock.protocol.message import replace
from penstock.protocol.messages import index
from penstock.protocol.messages.init_producer_id import InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponse
from penstock.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.records import BatchHeader, decode_batch, split_batches
from penstock.protocol.versions import decode_request_header
from simulation.oracles import Wire
from simulation.plan import AFTER_APPEND, FATAL, IDENTITY_ERRORS, MAY_SPLIT_BELOW, REFUSALS, Plan
from simulation.world import MS, World
from support.oracle import Logged

PORT = 9092
PROBE = 1_000_000
"""Numbers of the records that are sent after the faults have ended."""
_NOT_LEADER = 6
_REQUEST_TIMED_OUT = 7
_DUPLICATE = 46
_WHOLE = 1 << 40


def ip(node_id: int) -> str:
    """The address of a node."""
    return f"10.0.0.{node_id}"


@dataclass(slots=True, eq=False)
class Waiting:
    """A batch that is appended and not replicated yet; its answer can still become an error."""

    partition: Partition
    topic_id: UUID
    base_offset: int
    ready_us: int
    error: int = 0


@dataclass(slots=True)
class Reply:
    """The answer to a request, sent at `ready_us`. `finish` encodes the state of that time; None: no answer."""

    ready_us: int
    finish: Callable[[], bytes] | None = None
    close: str = ""


class Forgiving(ProducerStates):
    """For rebuilding a log whose batches were checked before."""

    def find_duplicate(self, header: BatchHeader) -> None:
        """None is."""

    def check(self, header: BatchHeader) -> None:
        """All may."""


class _Context(Context):
    """A handler's context, with faults per partition."""

    errors: dict[tuple[str, int], tuple[int, bool]]

    def error_before(self, topic: str = "", partition: int = -1) -> int:
        code, after = self.errors.get((topic, partition), (0, False))
        return 0 if after else code

    def error_after(self, topic: str = "", partition: int = -1) -> int:
        code, after = self.errors.get((topic, partition), (0, False))
        return code if after else 0


@dataclass(slots=True)
class Node:
    """The model's state of a broker beyond the embedded one."""

    frozen_until_us: int = 0
    cut_until_us: int = 0
    stale_until_us: int = 0
    stale_view: dict[tuple[str, int], tuple[int, int]] = field(default_factory=dict)
    stale_ids: dict[str, UUID] = field(default_factory=dict)


class Cluster:
    """See the module."""

    def __init__(self, world: World, plan: Plan) -> None:
        """All nodes run, all topics exist."""
        self._world = world
        self._plan = plan
        self.state = ClusterState(
            BrokerSettings(nodes=plan.nodes, auto_create_topics=False, max_message_bytes=plan.max_message_bytes)
        )
        for node_id, node in self.state.nodes.items():
            node.host = ip(node_id)
        self.state.nodes_started(dict.fromkeys(self.state.nodes, PORT))
        self.nodes = {node_id: Node() for node_id in self.state.nodes}
        self.calm = False
        self.wire = Wire(splits=plan.max_message_bytes < MAY_SPLIT_BELOW)
        self.buried: dict[tuple[str, int], list[list[Logged]]] = {}
        """Logs of topics that were deleted."""
        self._waiting: dict[Partition, list[Waiting]] = {}
        for name, partitions in plan.topics.items():
            self.create(name, partitions)

    # ----------------------------------------------------------------------------------------------------- answering

    def answer(self, node_id: int, frame: bytes) -> Reply:
        """The answer of node `node_id` to a request now."""
        world = self._world
        header, reader = decode_request_header(frame)
        handler = HANDLERS[header.request_api_key]
        name, version = handler.api.name, header.request_api_version
        if not handler.supports(version):
            early = encode(api_versions.unsupported_version(), api_versions.API, 0, header.correlation_id)
            return Reply(world.now_us, lambda: bytes(early))
        request = handler.request.read(reader, version)
        context = _Context(self.state, self.state.nodes[node_id], version, header.client_id, HANDLERS)
        context.errors = self._errors(name, request)
        try:
            if isinstance(request, ProduceRequest):
                self.wire.read(request)
                response, waiting = self._produce(context, request)
            else:
                response, waiting = self._other(context, node_id, handler.handle(context, request), request), []
        except CloseConnection as reason:
            return Reply(world.now_us, close=str(reason))
        ready_us = max([world.now_us, *(entry.ready_us for entry in waiting)])
        if isinstance(request, ProduceRequest):
            deadline_us = world.now_us + request.timeout_ms * MS
            if ready_us > deadline_us:
                world.at(deadline_us, lambda: self._time_out(waiting))
                ready_us = deadline_us
        throttle_ms = 0
        if not self.calm and name == "Produce" and world.chance(self._plan.rates.throttle):
            throttle_ms = world.random.randrange(1, 400)
        mangle = name == "Produce" and not self.calm and world.chance(self._plan.rates.mangle_answer)

        def finish() -> bytes:
            final: Any = response
            if isinstance(final, ProduceResponse):
                final = self._with_errors(final, waiting)
                self._note(node_id, version, final)
                final = replace(self._mangled(final) if mangle else final, throttle_time_ms=throttle_ms)
            return bytes(encode(final, handler, version, header.correlation_id))

        return Reply(ready_us, finish)

    def _errors(self, api: str, request: Any) -> dict[tuple[str, int], tuple[int, bool]]:
        """The partitions (or topics, as partition -1) that get an error, and whether it comes after the append."""
        rates, world = self._plan.rates, self._world
        errors: dict[tuple[str, int], tuple[int, bool]] = {}
        if self.calm:
            return errors
        if isinstance(request, ProduceRequest):
            for data in request.topic_data:
                topic = self.state.topics.get(data.name) or self.state.topic_by_id(data.topic_id)
                for part in data.partition_data:
                    place = (topic.name if topic else "", part.index)
                    if world.chance(rates.refusal):
                        errors[place] = (world.random.choice(REFUSALS), False)
                    elif world.chance(rates.error_after_append):
                        errors[place] = (world.random.choice(AFTER_APPEND), True)
                    if world.chance(rates.fatal):
                        errors[place] = (FATAL, False)
        elif isinstance(request, MetadataRequest):
            for topic in request.topics or ():
                if world.chance(rates.metadata_error):
                    errors[topic.name or "", -1] = (world.random.choice((3, 5, 29)), False)
        return errors

    def _other(self, context: Context, node_id: int, handled: Coroutine[Any, Any, Any], request: Any) -> Any:
        node = self.nodes[node_id]
        if isinstance(request, MetadataRequest) and self._world.now_us < node.stale_until_us:
            with_now = {(p.topic, p.index): (p.leader, p.leader_epoch) for p in self.partitions()}
            self._show(node.stale_view)
            try:
                response = _run(handled)
            finally:
                self._show(with_now)
            # A recreated topic has its old id there.
            topics = (
                replace(topic, topic_id=node.stale_ids.get(topic.name, topic.topic_id)) for topic in response.topics
            )
            return replace(response, topics=tuple(topics))
        response = _run(handled)
        if isinstance(response, MetadataResponse):
            return response
        if isinstance(response, InitProducerIdResponse):
            if not self.calm and self._world.chance(self._plan.rates.identity_error):
                code = self._world.random.choice(IDENTITY_ERRORS)
                return replace(response, error_code=code, producer_id=-1, producer_epoch=-1)
            return replace(response, producer_epoch=self._plan.first_epoch)
        low, high = self._plan.produce_versions
        if hasattr(response, "api_keys"):
            keys = tuple(
                replace(key, min_version=low, max_version=high) if key.api_key == index.PRODUCE.key else key
                for key in response.api_keys
            )
            return replace(response, api_keys=keys)
        return response

    def _show(self, view: dict[tuple[str, int], tuple[int, int]]) -> None:
        for partition in self.partitions():
            leader, epoch = view.get((partition.topic, partition.index), (partition.leader, partition.leader_epoch))
            partition.leader, partition.leader_epoch = leader, epoch

    # ----------------------------------------------------------------------------------------------------- replication

    def _produce(self, context: _Context, request: ProduceRequest) -> tuple[ProduceResponse | None, list[Waiting]]:
        ends = {partition: partition.log.end_offset for partition in self.partitions()}
        response = _run(HANDLERS[index.PRODUCE.key].handle(context, request))
        waiting = []
        for partition, end in ends.items():
            if partition.log.end_offset > end:
                waiting.append(self._replicate(partition, end))
            elif self._is_in(request, partition):
                # A duplicate is acknowledged when the batch that it repeats is.
                pending = self._pending(partition)
                waiting += pending
                if not pending and not self.calm and (end * 31 + self._plan.seed) % 7 == 0:
                    # Old brokers report the duplicate without its offset.
                    topic_id = self.state.topics[partition.topic].topic_id
                    waiting.append(Waiting(partition, topic_id, -1, 0, _DUPLICATE))
        return response, waiting

    def _is_in(self, request: ProduceRequest, partition: Partition) -> bool:
        topic = self.state.topics[partition.topic]
        return any(
            partition.index in {part.index for part in data.partition_data}
            for data in request.topic_data
            if data.name == topic.name or data.topic_id == topic.topic_id
        )

    def _pending(self, partition: Partition) -> list[Waiting]:
        now_us = self._world.now_us
        entries = [entry for entry in self._waiting.get(partition, ()) if entry.ready_us > now_us]
        self._waiting[partition] = entries
        return entries

    def _replicate(self, partition: Partition, base_offset: int) -> Waiting:
        typical_us = self._plan.replication_us if len(partition.replicas) > 1 else 0
        earlier = self._pending(partition)
        ready_us = self._world.now_us + self._world.spread(typical_us)
        topic_id = self.state.topics[partition.topic].topic_id
        entry = Waiting(partition, topic_id, base_offset, max([ready_us, *(other.ready_us for other in earlier)]))
        earlier.append(entry)
        return entry

    def _time_out(self, waiting: list[Waiting]) -> None:
        for entry in waiting:
            if entry.ready_us > self._world.now_us:
                entry.error = entry.error or _REQUEST_TIMED_OUT

    def _lose_leader(self, partition: Partition) -> None:
        """Batches that are not replicated may be lost from some point on; all of their answers become errors."""
        pending = self._pending(partition)
        if not pending:
            return
        for entry in pending:
            entry.error, entry.ready_us = entry.error or _NOT_LEADER, self._world.now_us
        self._waiting[partition] = []
        if self._world.chance(self._plan.rates.truncation):
            first = self._world.random.choice(pending).base_offset
            self._world.note(f"{partition.topic}-{partition.index} loses what is not replicated from {first} on")
            self._truncate(partition, first)

    def _truncate(self, partition: Partition, offset: int) -> None:
        log = partition.log
        kept = [pair for pair in split_batches(log.read(0, _WHOLE)) if pair[0].base_offset < offset] if offset else []
        whole = [(header, bytes(batch)) for header, batch in kept]
        log.delete()
        log.producers = forgiving = Forgiving()
        for header, batch in whole:
            fresh = dataclasses.replace(header, base_offset=0)
            log.append(fresh, memoryview(bytes(8) + batch[8:]), header.leader_epoch, 0)
        log.producers = ProducerStates()
        log.producers._producers = forgiving._producers

    def _with_errors(self, response: ProduceResponse, waiting: list[Waiting]) -> ProduceResponse:
        # By name or by id, as in the request; the topic may be deleted by now.
        failed: dict[tuple[str | UUID, int], Waiting] = {}
        for entry in waiting:
            if entry.error:
                failed[entry.partition.topic, entry.partition.index] = failed[entry.topic_id, entry.partition.index] = (
                    entry
                )
        if not failed:
            return response

        def part_of(topic: str | UUID, part: PartitionProduceResponse) -> PartitionProduceResponse:
            entry = failed.get((topic, part.index))
            if entry is None or part.error_code:
                return part
            if entry.error == _DUPLICATE:
                return replace(part, error_code=_DUPLICATE, base_offset=-1)
            return replace(part, error_code=entry.error, error_message="not replicated in time")

        def topic_of(topic: TopicProduceResponse) -> TopicProduceResponse:
            key = topic.name or topic.topic_id
            return replace(topic, partition_responses=tuple(part_of(key, p) for p in topic.partition_responses))

        return replace(response, responses=tuple(map(topic_of, response.responses)))

    def _mangled(self, response: ProduceResponse) -> ProduceResponse:
        topic = self._world.random.choice(response.responses)
        parts = topic.partition_responses
        kind = self._world.random.randrange(3)
        if kind == 0:
            parts = parts[1:]
        elif kind == 1:
            parts = (*parts, parts[0])
        else:
            parts = (*parts, replace(parts[0], index=parts[0].index + 1_000))
        changed = tuple(replace(topic, partition_responses=parts) if t is topic else t for t in response.responses)
        self._world.note(f"a mangled answer ({('left out', 'twice', 'invented')[kind]})")
        return replace(response, responses=changed)

    def _note(self, node_id: int, version: int, response: ProduceResponse) -> None:
        said = ", ".join(
            f"{topic.name or 'by id'}-{part.index}: {part.error_code or ''}@{part.base_offset}"
            for topic in response.responses
            for part in topic.partition_responses
        )
        self._world.note(f"node {node_id} answers Produce {version}: {said}")

    # ----------------------------------------------------------------------------------------------------- operations

    def partitions(self) -> Iterator[Partition]:
        """All of them."""
        for topic in self.state.topics.values():
            yield from topic.partitions

    def create(self, name: str, partitions: int) -> None:
        """Create a topic."""
        replicas = min(3, self._plan.nodes)
        configs = {"min.insync.replicas": "2" if replicas == 3 else "1"}
        self.state.create_topic(name, partitions, replicas, configs)

    def delete(self, name: str) -> int:
        """Delete a topic; returns its number of partitions. Its logs are kept for the oracle."""
        topic = self.state.topics[name]
        for partition in topic.partitions:
            self._lose_leader(partition)
            self.buried.setdefault((name, partition.index), []).append(read_log(partition, self._plan.tasks))
        self.state.delete_topic(topic)
        return len(topic.partitions)

    def move(self, partition: Partition, node_id: int) -> None:
        """Make another replica the leader."""
        self._lose_leader(partition)
        self.state.move_leaders({(partition.topic, partition.index): node_id})

    def stop(self, node_id: int) -> None:
        """Crash a node."""
        for partition in self.partitions():
            if partition.leader == node_id:
                self._lose_leader(partition)
        self.state.node_stopped(node_id)

    def start(self, node_id: int) -> None:
        """Start the node again."""
        self.nodes[node_id] = Node()
        self.state.nodes_started({node_id: PORT})

    def view(self) -> dict[tuple[str, int], tuple[int, int]]:
        """The leader and epoch of each partition."""
        return {(p.topic, p.index): (p.leader, p.leader_epoch) for p in self.partitions()}

    def ids(self) -> dict[str, UUID]:
        """Each topic's id."""
        return {name: topic.topic_id for name, topic in self.state.topics.items()}

    def logs(self) -> dict[object, list[Logged]]:
        """The current content of each partition's log."""
        return {
            (partition.topic, partition.index): read_log(partition, self._plan.tasks) for partition in self.partitions()
        }


def sender_of(number: int, tasks: int = 0) -> str:
    """Records that are sent after the faults have ended have an order of their own: some of the load may follow them.

    `tasks`: the number of tasks that send alternately, each waiting for memory by itself.
    """
    if tasks:
        return f"probe-{number}" if number >= PROBE else f"app-{number % tasks}"
    return "probe" if number >= PROBE else "app"


def read_log(partition: Partition, tasks: int = 0) -> list[Logged]:
    """Its records; a record's value begins with its number."""
    data = partition.log.read(0, _WHOLE)
    logged: list[Logged] = []
    for _, batch in split_batches(data):
        for record in decode_batch(batch)[1]:
            assert record.value is not None
            number = int(record.value.split(b" ", 1)[0])
            logged.append(Logged(sender_of(number, tasks), number, record.offset))
    return logged


def _run(handled: Any) -> Any:
    """Run a handler that awaits nothing."""
    try:
        handled.send(None)
    except StopIteration as end:
        return end.value
    raise ProtocolError("the handler awaits something, which the simulation cannot do")
