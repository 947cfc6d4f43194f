"""A small synchronous reader with assigned partitions: what `penstock tail` and proofs read with. Private.

One blocking connection per broker, no threads, no groups, no commits. Records of aborted transactions are not left out
(the isolation level is read_uncommitted); transaction markers are. Compressed batches are read as `protocol.records` does.
"""

from __future__ import annotations

import itertools
import logging
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypeVar

from penstock._native import timeout_s as as_timeout
from penstock.config import parse_bootstrap_servers
from penstock.errors import (
    CorruptRecordError,
    KafkaError,
    NetworkError,
    UnknownTopicOrPartitionError,
    error_for_code,
    is_retriable,
)
from penstock.protocol import records, versions
from penstock.protocol.message import Request, Response
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from penstock.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.primitives import ProtocolError

_log: Final = logging.getLogger(__name__)

Start: TypeAlias = Literal["beginning", "end"] | int
"""Where to begin in each partition: at an end, at offset N, or with the last -N records; clamped to what is there."""

R = TypeVar("R", bound=Response)
T = TypeVar("T")

MAX_FRAME_BYTES: Final = 128 * 1024 * 1024
"""No answer may announce more: nothing is allocated for what a broken or foreign server claims."""

_FETCH_BYTES: Final = 8 * 1024 * 1024
_FETCH_PARTITION_BYTES: Final = 1024 * 1024
_FETCH_WAIT_MS: Final = 500
_BACKOFF_S: Final = 0.1
_RECEIVE_BYTES: Final = 256 * 1024

_EARLIEST: Final = -2
_LATEST: Final = -1

# Topics by name: newer versions have ids instead, or besides, which a reader of one topic has no use for.
_NEWEST_VERSION: Final = {index.FETCH.key: 12, index.DELETE_TOPICS.key: 5}
_FALLBACK_API_VERSIONS: Final = 0
_UNSUPPORTED_VERSION: Final = 35

_LENGTH: Final = struct.Struct(">i")


@dataclass(frozen=True, slots=True)
class ConsumedRecord:
    """One record as it lies in the log. Timestamp: ms since the epoch, -1 for none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Connection:
    """One blocking connection to a broker, whose versions it asks for at once.

    `timeout_s` bounds connecting and each wait for bytes, in seconds. Everything raises `OSError` for a connection that
    broke (a `TimeoutError` is one) and `ProtocolError` for an answer that makes no sense; the connection is of no use
    after either.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        """Connect and negotiate."""
        bounded_s = as_timeout(timeout_s)
        self._max_frame_bytes = max_frame_bytes
        self._correlation_ids = itertools.count(1)
        self._versions: dict[int, tuple[int, int]] = {}
        self._socket = socket.create_connection((host, port), timeout=bounded_s)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._negotiate()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, message: Request, response: type[R]) -> R:
        """Send and wait for the answer."""
        return self.receive(response, self.send(message))

    def send(self, message: Request) -> tuple[int, int]:
        """Send only; returns what `receive` has to know."""
        api = versions.CLIENT_APIS[message.API_KEY]
        if api.key not in self._versions:
            raise ProtocolError(f"the broker does not know the API {api.name}")
        low, high = self._versions[api.key]
        return self._send(message, versions.negotiate(api, low, min(high, _NEWEST_VERSION.get(api.key, high))))

    def receive(self, response: type[R], sent: tuple[int, int]) -> R:
        """The answer to what `send` returned; answers come in the order of the requests."""
        version, correlation_id = sent
        answered, message = versions.decode_response(response, version, self._receive_frame())
        if answered != correlation_id:
            raise ProtocolError(f"the answer is to request {answered}, not to {correlation_id}")
        return message

    def _negotiate(self) -> None:
        ask = ApiVersionsRequest(client_software_name="penstock-reader", client_software_version="1")
        answer = self.receive(ApiVersionsResponse, self._send(ask, ApiVersionsRequest.MAX_VERSION))
        if answer.error_code == _UNSUPPORTED_VERSION:  # an older broker: version 0 is understood by all (KIP-511)
            answer = self.receive(ApiVersionsResponse, self._send(ApiVersionsRequest(), _FALLBACK_API_VERSIONS))
        if answer.error_code:
            raise ProtocolError(f"the broker answered ApiVersions with the error {answer.error_code}")
        self._versions = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}

    def _send(self, message: Request, version: int) -> tuple[int, int]:
        correlation_id = next(self._correlation_ids)
        frame = versions.encode_request(message, version, correlation_id, "penstock-reader")
        self._socket.sendall(_LENGTH.pack(len(frame)) + frame)
        return version, correlation_id

    def _receive_frame(self) -> bytearray:
        (length,) = _LENGTH.unpack(self._receive_exactly(_LENGTH.size))
        if not 0 <= length <= self._max_frame_bytes:
            raise ProtocolError(f"an answer of {length} bytes is announced; at most {self._max_frame_bytes} are taken")
        return self._receive_exactly(length)

    def _receive_exactly(self, size: int) -> bytearray:
        # Grows with what arrives, not with what is announced.
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), _RECEIVE_BYTES))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return data


class Cluster:
    """Who leads what, and a connection to each broker that is asked for; for one thread."""

    def __init__(self, bootstrap_servers: str, *, timeout_s: float = 10.0) -> None:
        """`bootstrap_servers` as the producer's setting; `timeout_s` bounds each attempt, in seconds."""
        self._bootstrap = parse_bootstrap_servers([entry.strip() for entry in bootstrap_servers.split(",")])
        self._timeout_s = timeout_s
        self._addresses: dict[int, tuple[str, int]] = {}
        self._connections: dict[tuple[str, int], Connection] = {}

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def metadata(self, topics: Iterable[str] | None) -> MetadataResponse:
        """What the first broker that answers says of `topics` (None: of all); nothing is created by asking.

        Raises `NetworkError` with each address's error if none answers.
        """
        asked = None if topics is None else tuple(MetadataRequestTopic(name=name) for name in topics)
        request = MetadataRequest(topics=asked, allow_auto_topic_creation=False)
        failures = []
        for address in dict.fromkeys([*self._addresses.values(), *self._bootstrap]):
            try:
                answer = self._at(address).request(request, MetadataResponse)
            except (OSError, ProtocolError) as error:
                self._drop(address)
                failures.append(f"{address[0]}:{address[1]}: {error}")
                continue
            self._addresses = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
            return answer
        raise NetworkError(f"no broker can be reached: {'; '.join(failures)}", hint="Check the address and the broker.")

    def node(self, node_id: int) -> Connection:
        """The connection to a broker named by the last metadata; `OSError` if there is no such broker, or no way."""
        address = self._addresses.get(node_id)
        if address is None:
            raise ConnectionError(f"the address of broker {node_id} is not known")
        return self._at(address)

    def _at(self, address: tuple[str, int]) -> Connection:
        if address not in self._connections:
            self._connections[address] = Connection(*address, timeout_s=self._timeout_s)
        return self._connections[address]

    def _drop(self, address: tuple[str, int]) -> None:
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.close()


class Reader:
    """The records of a topic's partitions, each partition in order; iterate over it. For one thread.

    Args:
        bootstrap_servers: as the producer's setting.
        topic: its name; it has to exist.
        partitions: which ones; None for all that there are at the start.
        start: where to begin, see `Start`.
        until_end: stop at what was the end when reading began; otherwise wait for more for ever.
        timeout_s: how long trouble in a row is put up with before it is raised, in seconds.
        between: called before each request, twice a second or so while there is nothing new; what it raises ends it.

    Raises, on iteration, `KafkaError`: a broker's error that does not pass, a record that cannot be read, or trouble
    that lasted for `timeout_s`.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        *,
        partitions: Iterable[int] | None = None,
        start: Start = "beginning",
        until_end: bool = False,
        timeout_s: float = 10.0,
        between: Callable[[], object] | None = None,
    ) -> None:
        """Nothing is sent before the first record is asked for."""
        self._between = between
        self._cluster = Cluster(bootstrap_servers, timeout_s=timeout_s)
        self._topic = topic
        self._wanted = None if partitions is None else tuple(partitions)
        self._start = start
        self._until_end = until_end
        self._timeout_s = as_timeout(timeout_s)
        self._leaders: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._trouble_since: float | None = None

    def __enter__(self) -> Self:
        """Nothing more than itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._cluster.close()

    def __iter__(self) -> Iterator[ConsumedRecord]:
        """From the start on; a second iterator goes on where the first one was left."""
        while not self._positions:
            self._attempt(self._find_positions)
        while self._waiting():
            for data in self._attempt(self._fetch) or ():
                yield from self._records(data)

    def _waiting(self) -> dict[int, int]:
        """The positions of the partitions that are not read to their end."""
        if not self._until_end:
            return self._positions
        return {partition: at for partition, at in self._positions.items() if at < self._ends[partition]}

    # --- Trouble ---

    def _attempt(self, step: Callable[[], T]) -> T | None:
        """What `step` returns; None after trouble that may pass, by then with a pause and fresh leaders to come."""
        if self._between is not None:
            self._between()
        try:
            result = step()
        except (OSError, ProtocolError, KafkaError) as error:
            if isinstance(error, KafkaError) and not self._may_pass(error):
                raise
            self._note_trouble(error)
            return None
        self._trouble_since = None
        return result

    def _may_pass(self, error: KafkaError) -> bool:
        # A topic that is not there at the start is a wrong name; one that was there may be with another broker now.
        return error.retriable and (bool(self._positions) or not isinstance(error, UnknownTopicOrPartitionError))

    def _note_trouble(self, error: Exception) -> None:
        now = time.monotonic()
        if self._trouble_since is None:
            self._trouble_since = now
            _log.info("topic %s: %s; trying again", self._topic, error)
        elif self._timeout_s is not None and now - self._trouble_since > self._timeout_s:
            if isinstance(error, KafkaError):
                raise error
            raise NetworkError(f"reading topic {self._topic}: {error}", cause=error) from error
        self._leaders.clear()
        self._cluster.close()  # answers may be under way that nobody waits for any more
        time.sleep(_BACKOFF_S)

    # --- Where to begin ---

    def _find_leaders(self) -> None:
        answer = self._cluster.metadata([self._topic])
        for topic in answer.topics:
            if topic.error_code:
                raise error_for_code(topic.error_code, topic=self._topic)
            self._leaders = {part.partition_index: part.leader_id for part in topic.partitions}
        missing = sorted(set(self._wanted or ()) - set(self._leaders))
        if missing:
            known = sorted(self._leaders)
            raise UnknownTopicOrPartitionError(
                f"there is no partition {missing[0]}, it has the partitions {known}", topic=self._topic
            )

    def _find_positions(self) -> None:
        self._find_leaders()
        wanted = self._leaders if self._wanted is None else self._wanted
        first = self._list_offsets(wanted, _EARLIEST)
        last = self._list_offsets(wanted, _LATEST)
        self._ends = last
        self._positions = {partition: self._begin(first[partition], last[partition]) for partition in wanted}

    def _begin(self, first: int, last: int) -> int:
        if isinstance(self._start, str):
            return first if self._start == "beginning" else last
        asked = self._start if self._start >= 0 else last + self._start
        return min(max(asked, first), last)

    def _list_offsets(self, partitions: Iterable[int], timestamp: int) -> dict[int, int]:
        found = {}
        for leader, led in self._by_leader(partitions).items():
            asked = tuple(ListOffsetsPartition(partition_index=part, timestamp=timestamp) for part in led)
            request = ListOffsetsRequest(replica_id=-1, topics=(ListOffsetsTopic(name=self._topic, partitions=asked),))
            answer = self._cluster.node(leader).request(request, ListOffsetsResponse)
            for part in (part for topic in answer.topics for part in topic.partitions):
                if part.error_code:
                    raise error_for_code(part.error_code, topic=self._topic, partition=part.partition_index)
                found[part.partition_index] = part.offset
        if set(found) != set(partitions):
            raise ProtocolError(f"the offsets of the partitions {sorted(found)} were answered, not of all")
        return found

    def _by_leader(self, partitions: Iterable[int]) -> dict[int, list[int]]:
        leaders: dict[int, list[int]] = {}
        for partition in partitions:
            leaders.setdefault(self._leaders[partition], []).append(partition)
        return leaders

    # --- Fetching ---

    def _fetch(self) -> list[PartitionData]:
        if not self._leaders:
            self._find_leaders()
        waiting = self._waiting()
        sent = []
        # All are asked before the first answer is awaited: one broker without news does not delay another's.
        for leader, led in self._by_leader(waiting).items():
            connection = self._cluster.node(leader)
            sent.append((leader, connection, connection.send(self._fetch_request({p: waiting[p] for p in led}))))
        fetched: list[PartitionData] = []
        for leader, connection, ticket in sent:
            answer = connection.receive(FetchResponse, ticket)
            if answer.error_code:
                raise error_for_code(answer.error_code, topic=self._topic, broker=leader)
            fetched += (
                part for topic in answer.responses for part in topic.partitions if part.partition_index in waiting
            )
        return self._sorted_out(fetched)

    def _fetch_request(self, positions: Mapping[int, int]) -> FetchRequest:
        asked = tuple(
            FetchPartition(partition=partition, fetch_offset=at, partition_max_bytes=_FETCH_PARTITION_BYTES)
            for partition, at in positions.items()
        )
        topic = FetchTopic(topic=self._topic, partitions=asked)
        return FetchRequest(max_wait_ms=_FETCH_WAIT_MS, min_bytes=1, max_bytes=_FETCH_BYTES, topics=(topic,))

    def _sorted_out(self, fetched: list[PartitionData]) -> list[PartitionData]:
        """The partitions that were answered well; raises if none was, so that what keeps failing is noticed."""
        good = []
        for part in fetched:
            if not part.error_code:
                good.append(part)
                continue
            error = error_for_code(part.error_code, topic=self._topic, partition=part.partition_index)
            if not is_retriable(part.error_code):
                raise error
            self._leaders.clear()
            if len(fetched) == 1 or not any(not other.error_code and other.records for other in fetched):
                raise error
        return good

    def _records(self, data: PartitionData) -> Iterator[ConsumedRecord]:
        partition = data.partition_index
        end = self._ends[partition] if self._until_end else None
        try:
            for _, batch in records.split_batches(data.records or b"", allow_partial=True):
                header, decoded = records.decode_batch(batch)
                for record in () if header.is_control else decoded:
                    # A fetch begins with the whole batch that holds its offset.
                    if record.offset < self._positions[partition]:
                        continue
                    if end is not None and record.offset >= end:
                        return
                    self._positions[partition] = record.offset + 1
                    yield ConsumedRecord(
                        self._topic,
                        partition,
                        record.offset,
                        header.max_timestamp if header.is_log_append_time else record.timestamp,
                        record.key,
                        record.value,
                        record.headers,
                    )
                # Compaction and markers leave offsets without records at a batch's end.
                self._positions[partition] = max(self._positions[partition], header.last_offset + 1)
        except ProtocolError as error:
            raise CorruptRecordError(str(error), topic=self._topic, partition=partition, cause=error) from error
