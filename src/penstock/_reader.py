"""A small synchronous reader with assigned partitions, for `penstock tail` and for tests. Private.

It has one blocking connection per broker, no groups and no commits. It returns records of aborted transactions (the
isolation level is read_uncommitted), but no transaction markers. `protocol.records` decodes the batches.

Changes of the topic while it is read (Java has one setting for all of these, `auto.offset.reset`):

| change | the reader continues | because |
|---|---|---|
| partitions are added | at their beginning, wherever the others began | none of their records was read |
| the topic is deleted and created again | at the beginning of the new one | none of its records was read |
| records are removed before they were read | at the first record that is left | the others are gone |
| the log is truncated before the position (unclean election) | at the new end | the records before it were read |

Each change is reported once. With `until_end`, added partitions are not read, and a deleted topic is an error. A partition
that was given by number and does not exist is always an error.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, TypeAlias, TypeVar
from uuid import UUID

from penstock._cluster import Cluster, Connection
from penstock._native import timeout_s as as_timeout
from penstock.errors import (
    CorruptRecordError,
    KafkaError,
    NetworkError,
    UnknownTopicOrPartitionError,
    error_for_code,
    is_retriable,
)
from penstock.protocol import records
from penstock.protocol.messages.fetch import FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData
from penstock.protocol.messages.list_offsets import (
    ListOffsetsPartition,
    ListOffsetsRequest,
    ListOffsetsResponse,
    ListOffsetsTopic,
)
from penstock.protocol.messages.metadata import MetadataResponseTopic
from penstock.protocol.primitives import ZERO_UUID, ProtocolError

__all__ = ["Cluster", "Connection", "ConsumedRecord", "Reader", "Start"]

_log: Final = logging.getLogger("penstock.reader")

Start: TypeAlias = Literal["beginning", "end"] | int
"""Where to begin in each partition: at its beginning or end, at offset N, or with the last -N records. An offset outside of
the log is moved to its nearest end."""

T = TypeVar("T")

_FETCH_BYTES: Final = 8 * 1024 * 1024
_FETCH_PARTITION_BYTES: Final = 1024 * 1024
_FETCH_WAIT_MS: Final = 500
_BACKOFF_S: Final = 0.1
_LONGEST_ATTEMPT_S: Final = 10.0
_SHORTEST_ATTEMPT_S: Final = 0.5
_SHORTEST_REQUEST_S: Final = 2.0
"""Well above _FETCH_WAIT_MS, after which a broker without new records answers."""
_LEADERLESS_S: Final = 1.0
"""The time between two metadata requests while a new partition has no leader."""

_EARLIEST: Final = -2
_LATEST: Final = -1

_OFFSET_OUT_OF_RANGE: Final = 1
_FETCH_BY_NAME: Final = 12
"""The last version of Fetch with names of topics. Later versions have ids, by which a recreated topic is detected."""


@dataclass(frozen=True, slots=True)
class ConsumedRecord:
    """One record of the log. Timestamp: ms since the epoch, -1 for none."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Reader:
    """The records of a topic's partitions, each partition in order; iterate over it. For one thread.

    Args:
        bootstrap_servers: as the producer's setting.
        topic: its name; the topic must exist.
        partitions: their numbers; None for all, including those that are added later.
        start: where to begin, see `Start`; partitions that are added later are read from their beginning.
        until_end: stop at the end that the log had when reading began; otherwise wait for more without limit.
        timeout_s: how long to retry after errors without success in between, in seconds; inf: without limit.
        start_timeout_s: the same until reading begins; None: `timeout_s`.
        metadata_max_age_s: how often to check for added partitions, in seconds; inf: never.
        between: called before each request, about twice a second while nothing is new; an exception of it ends reading.
        notice: called with a sentence when the topic changes (see the module); by default it is logged.

    Raises, on iteration:
        KafkaError: a broker's error that no retry can solve, an unreadable record, or errors for `timeout_s` seconds.
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
        start_timeout_s: float | None = None,
        metadata_max_age_s: float = 5.0,
        between: Callable[[], object] | None = None,
        notice: Callable[[str], object] = _log.warning,
    ) -> None:
        """No request is sent before the iteration begins."""
        self._between = between
        self._notice = notice
        self._timeout_s = _patience_s(timeout_s)
        self._start_timeout_s = self._timeout_s if start_timeout_s is None else _patience_s(start_timeout_s)
        # Two attempts fit into the time: after the first one there may be another leader, or another address of a name.
        self._cluster = Cluster(
            bootstrap_servers,
            timeout_s=min(max(self._start_timeout_s / 2, _SHORTEST_ATTEMPT_S), _LONGEST_ATTEMPT_S),
            request_timeout_s=min(max(self._timeout_s / 2, _SHORTEST_REQUEST_S), _LONGEST_ATTEMPT_S),
        )
        self._topic = topic
        self._wanted = None if partitions is None else tuple(partitions)
        self._start = start
        self._until_end = until_end
        self._metadata_max_age_s = metadata_max_age_s
        self._topic_id = ZERO_UUID
        self._former_ids: set[UUID] = set()
        self._leaders: dict[int, int] = {}
        self._leaders_doubtful = True
        self._asked_at = 0.0  # time of the last metadata answer
        self._begun = False
        self._positions: dict[int, int] = {}
        self._new: set[int] = set()
        """Partitions to be read from their beginning, whose first offset is not known yet."""
        self._ends: dict[int, int] = {}
        self._failing_since: float | None = None

    def __enter__(self) -> Self:
        """The reader itself."""
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
        """From the start; a second iterator continues where the first one stopped."""
        while not self._begun:
            self._attempt(self._find_positions)
        while not self._until_end or self._waiting():
            for data in self._attempt(self._read_on) or ():
                yield from self._records(data)

    def _waiting(self) -> dict[int, int]:
        """The positions of the partitions that are not yet read to their end."""
        if not self._until_end:
            return self._positions
        return {partition: at for partition, at in self._positions.items() if at < self._ends[partition]}

    # --- Errors and retries ---

    def _attempt(self, step: Callable[[], T]) -> T | None:
        """The result of `step`. None after an error that a retry may solve: it has paused, and will refresh the leaders."""
        if self._between is not None:
            self._between()
        began = time.monotonic()
        try:
            result = step()
        except (OSError, ProtocolError, KafkaError) as error:
            if isinstance(error, KafkaError) and not self._may_retry(error):
                raise
            self._note_error(error, began)
            return None
        self._failing_since = None
        return result

    def _may_retry(self, error: KafkaError) -> bool:
        # At the start, an unknown topic is probably a wrong name. Later, another broker may host it.
        return error.retriable and (self._begun or not isinstance(error, UnknownTopicOrPartitionError))

    def _note_error(self, error: Exception, began: float) -> None:
        if self._failing_since is None:
            self._failing_since = began
            _log.info("topic %s: %s; trying again", self._topic, error)
        limit_s = self._timeout_s if self._begun else self._start_timeout_s
        if time.monotonic() - self._failing_since >= limit_s:
            if isinstance(error, KafkaError):
                raise error
            raise NetworkError(f"reading topic {self._topic}: {error}", cause=error) from error
        self._leaders_doubtful = True
        self._cluster.close()  # their connections may still receive answers to abandoned requests
        time.sleep(_BACKOFF_S)

    # --- Leaders ---

    def _find_leaders(self) -> None:
        answer = self._cluster.metadata([self._topic])
        self._asked_at = time.monotonic()
        for topic in answer.topics:
            if topic.error_code:
                raise error_for_code(topic.error_code, topic=self._topic)
            if topic.topic_id not in self._former_ids:  # otherwise this broker does not have the new topic yet
                self._take_topic(topic)
        self._leaders_doubtful = False
        missing = sorted(set(self._wanted or ()) - set(self._leaders))
        if missing:
            known = sorted(self._leaders)
            raise UnknownTopicOrPartitionError(
                f"there is no partition {missing[0]}, it has the partitions {known}", topic=self._topic
            )

    def _take_topic(self, topic: MetadataResponseTopic) -> None:
        leaders = {part.partition_index: part.leader_id for part in topic.partitions}
        is_another = ZERO_UUID not in (self._topic_id, topic.topic_id) and self._topic_id != topic.topic_id
        if is_another:
            self._former_ids.add(self._topic_id)
            self._begin_anew()
        if topic.topic_id != ZERO_UUID:  # zero is the answer of an old broker among new ones
            self._topic_id = topic.topic_id
        # A broker with older metadata may leave out partitions that others have named.
        self._leaders |= leaders
        if not self._begun or self._until_end:
            return
        wanted = leaders if self._wanted is None else {*self._wanted} & {*leaders}
        added = sorted(set(wanted) - set(self._positions) - self._new)
        self._new.update(added)
        if added and not is_another:
            count = "1 new partition" if len(added) == 1 else f"{len(added)} new partitions"
            self._notice(f"topic {self._topic} has {count} ({_ranges(added)}), read from the beginning")

    def _begin_anew(self) -> None:
        if self._until_end and self._begun:
            raise KafkaError("the topic was deleted and created again while it was read", topic=self._topic)
        if self._begun:
            self._notice(f"topic {self._topic} was deleted and created again; it is read from the beginning")
        self._leaders.clear()
        self._positions.clear()
        self._new.clear()

    def _leaders_are_due(self) -> bool:
        if self._leaders_doubtful:
            return True
        if self._wanted is not None or self._until_end:
            return bool(self._new)
        max_age_s = min(self._metadata_max_age_s, _LEADERLESS_S) if self._new else self._metadata_max_age_s
        return time.monotonic() - self._asked_at >= max_age_s

    # --- Where to begin ---

    def _find_positions(self) -> None:
        self._find_leaders()
        wanted = self._leaders if self._wanted is None else self._wanted
        first = self._list_offsets(wanted, _EARLIEST)
        last = self._list_offsets(wanted, _LATEST)
        self._ends = last
        self._positions = {partition: self._begin(first[partition], last[partition]) for partition in wanted}
        self._begun = True

    def _begin(self, first: int, last: int) -> int:
        if isinstance(self._start, str):
            return first if self._start == "beginning" else last
        asked = self._start if self._start >= 0 else last + self._start
        return min(max(asked, first), last)

    def _begin_new(self) -> None:
        """Find the first offsets of new partitions. A partition without a leader yet does not delay the others."""
        for leader, led in self._by_leader(self._new).items():
            try:
                first = self._list_offsets(led, _EARLIEST)
            except (OSError, ProtocolError, KafkaError) as error:
                if isinstance(error, KafkaError) and not error.retriable:
                    raise
                _log.info("topic %s, new partitions %s of leader %d: %s", self._topic, _ranges(led), leader, error)
                continue
            self._positions |= first
            self._new.difference_update(first)

    def _list_offsets(self, partitions: Iterable[int], timestamp: int) -> dict[int, int]:
        found = {}
        for leader, led in self._by_leader(partitions).items():
            asked = tuple(ListOffsetsPartition(partition_index=part, timestamp=timestamp) for part in led)
            request = ListOffsetsRequest(replica_id=-1, topics=(ListOffsetsTopic(name=self._topic, partitions=asked),))
            answer = self._cluster.request(leader, request, ListOffsetsResponse)
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

    def _read_on(self) -> list[PartitionData]:
        if self._leaders_are_due():
            self._find_leaders()
            self._begin_new()
        waiting = self._waiting()
        if not waiting:
            raise ConnectionError(f"none of the new partitions {_ranges(sorted(self._new))} can be read yet")
        return self._fetch(waiting)

    def _fetch(self, waiting: Mapping[int, int]) -> list[PartitionData]:
        newest = _FETCH_BY_NAME if self._topic_id == ZERO_UUID else None
        sent = []
        # All requests are sent before the first answer is awaited: a broker without new records does not delay the others.
        for leader, led in self._by_leader(waiting).items():
            connection = self._cluster.node(leader)
            request = self._fetch_request({partition: waiting[partition] for partition in led})
            sent.append((leader, connection, connection.send(request, newest=newest)))
        fetched: list[PartitionData] = []
        for leader, connection, ticket in sent:
            answer = connection.receive(FetchResponse, ticket)
            if answer.error_code:
                raise error_for_code(answer.error_code, topic=self._topic, broker=leader)
            fetched += (
                part for topic in answer.responses for part in topic.partitions if part.partition_index in waiting
            )
        return self._without_errors(fetched)

    def _fetch_request(self, positions: Mapping[int, int]) -> FetchRequest:
        asked = tuple(
            FetchPartition(partition=partition, fetch_offset=at, partition_max_bytes=_FETCH_PARTITION_BYTES)
            for partition, at in positions.items()
        )
        topic = FetchTopic(topic=self._topic, topic_id=self._topic_id, partitions=asked)
        return FetchRequest(max_wait_ms=_FETCH_WAIT_MS, min_bytes=1, max_bytes=_FETCH_BYTES, topics=(topic,))

    def _without_errors(self, fetched: list[PartitionData]) -> list[PartitionData]:
        """The partitions without an error. Raises the error if no partition has records, so that lasting errors are noticed."""
        good = []
        for part in fetched:
            if not part.error_code:
                good.append(part)
                continue
            if part.error_code == _OFFSET_OUT_OF_RANGE:
                self._find_again(part.partition_index)
                continue
            error = error_for_code(part.error_code, topic=self._topic, partition=part.partition_index)
            if not is_retriable(part.error_code):
                raise error
            self._leaders_doubtful = True
            if len(fetched) == 1 or not any(not other.error_code and other.records for other in fetched):
                raise error
        return good

    def _find_again(self, partition: int) -> None:
        """The log does not have the position any more: continue at its beginning or end."""
        first = self._list_offsets([partition], _EARLIEST)[partition]
        last = self._list_offsets([partition], _LATEST)[partition]
        at = self._positions[partition]
        if first <= at <= last:
            raise ProtocolError(f"offset {at} was out of range, but partition {partition} has {first} to {last}")
        where = f"topic {self._topic}, partition {partition}"
        if at < first:
            self._notice(f"{where}: the records {at} to {first - 1} were removed before they were read")
            self._positions[partition] = first
        elif self._topic_id == ZERO_UUID:
            # Without topic ids a recreated topic looks like a truncated log, and is more frequent.
            self._notice(f"{where}: the log ends at {last}, before {at}; it is read from its beginning")
            self._positions[partition] = first
        else:
            self._notice(f"{where}: the log was cut off at {last}, before {at}; reading goes on there")
            self._positions[partition] = last
        if self._until_end:
            self._ends[partition] = min(self._ends[partition], last)

    def _records(self, data: PartitionData) -> Iterator[ConsumedRecord]:
        partition = data.partition_index
        end = self._ends[partition] if self._until_end else None
        try:
            for _, batch in records.split_batches(data.records or b"", allow_partial=True):
                header, decoded = records.decode_batch(batch)
                for record in () if header.is_control else decoded:
                    # A fetch returns the whole batch that contains its offset.
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
                # After compaction, and with markers, the last offsets of a batch have no records.
                self._positions[partition] = max(self._positions[partition], header.last_offset + 1)
        except ProtocolError as error:
            raise CorruptRecordError(str(error), topic=self._topic, partition=partition, cause=error) from error


def _patience_s(timeout_s: float) -> float:
    bounded_s = as_timeout(timeout_s)
    return math.inf if bounded_s is None else bounded_s


def _ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as text: "1, 3 to 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)
