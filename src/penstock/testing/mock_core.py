"""What both mock producers do: serialize, choose partitions, keep, complete. All but their ways to wait."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sized
from datetime import datetime
from functools import partial
from itertools import chain, repeat
from operator import index
from typing import Any, Final, Generic, NamedTuple, SupportsIndex, TypeVar

from penstock import serialization
from penstock._log import Repeats, log_line
from penstock._native import ArrowRecords, ProducerRecord, RecordMetadata, partition_for_key, timeout_s
from penstock.control.cluster_view import Node, PartitionInfo
from penstock.errors import DeliveryError, KafkaError, KafkaTimeoutError, ProducerClosedError, RecordPurgedError
from penstock.facade.types import Callback, Headers
from penstock.metrics import Metrics
from penstock.partitioner import Partitioner, TopicView
from penstock.testing.mock_bulk import Entries
from penstock.testing.mock_future import AsyncMockDeliveryFuture, MockDeliveryFuture
from penstock.testing.mock_record import SentRecord

_log: Final = logging.getLogger(__name__)

_NODE: Final = Node(0, "mock", 0)
_ERRORS_KEPT: Final = 10

K = TypeVar("K")
V = TypeVar("V")


class Pending(NamedTuple):
    """A record that is not completed yet."""

    sent: SentRecord
    timestamp: int
    future: MockDeliveryFuture | AsyncMockDeliveryFuture
    callback: Callback | None


class Mock(Generic[K, V]):
    """The common part of both mocks: everything except their ways to wait."""

    def __init__(
        self,
        auto_complete: bool = True,
        *,
        key_serializer: Any = None,
        value_serializer: Any = None,
        partitioner: Partitioner | None = None,
        partitions: SupportsIndex | Mapping[str, int] = 1,
        clock_ms: Callable[[], int] | None = None,
    ) -> None:
        """Starts nothing."""
        self.auto_complete = auto_complete
        self.send_error: BaseException | None = None
        self.flush_error: BaseException | None = None
        self.close_error: BaseException | None = None
        self.partitions_for_error: BaseException | None = None
        self.metrics_values: Metrics = {}
        self._key = serialization.as_serializer(key_serializer, setting="key.serializer")
        self._value = serialization.as_serializer(value_serializer, setting="value.serializer")
        self._partitioner = partitioner
        self._partitions = partitions
        self._clock_ms = clock_ms or (lambda: time.time_ns() // 1_000_000)
        self._lock = threading.Lock()
        self._sent: list[SentRecord] = []
        self._pending: deque[Pending] = deque()
        self._unnoticed: list[tuple[MockDeliveryFuture | AsyncMockDeliveryFuture, KafkaError]] = []
        self._offsets: Counter[tuple[str, int]] = Counter()
        self._closed = False
        self._repeats = Repeats()

    # --- Read by the test ---

    @property
    def sent(self) -> list[SentRecord]:
        """Every record sent since the last `clear`, with its partition and serialized key and value."""
        with self._lock:
            return list(self._sent)

    def history(self) -> list[ProducerRecord[K, V]]:
        """Every record sent since the last `clear`, as passed to `send`, acknowledged or not."""
        return [sent.record for sent in self.sent]

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._closed

    @property
    def flushed(self) -> bool:
        """Whether no record is pending."""
        return not self._pending

    # --- Called by the test ---

    def complete_next(self) -> bool:
        """Acknowledge the oldest pending record; False if there is none."""
        return self._complete_next(None)

    def error_next(self, error: KafkaError) -> bool:
        """Fail the oldest pending record with `error`; False if there is none."""
        return self._complete_next(error)

    def clear(self) -> None:
        """Drop all records; pending futures are never done (as in Java). Offsets go on."""
        with self._lock:
            self._sent.clear()
            self._pending.clear()
            self._unnoticed.clear()

    def metrics(self) -> Metrics:
        """The value of `metrics_values`."""
        return self.metrics_values

    def purge(self, topic: str | None = None) -> int:
        """Fail all pending records, or those of one topic, with `RecordPurgedError`; returns how many they were."""
        self._check_open()
        with self._lock:
            purged = [pending for pending in self._pending if topic in (None, pending.sent.record.topic)]
            kept = (pending for pending in self._pending if topic not in (None, pending.sent.record.topic))
            self._pending = deque(kept)
        for pending in purged:
            error = RecordPurgedError(
                "the application purged the record",
                topic=pending.sent.record.topic,
                partition=pending.sent.partition,
                attempts=0,
                stage="linger",
            )
            self._resolve(pending, None, error)
        return len(purged)

    # --- Internal ---

    def _buffer(
        self,
        topic: Any,
        value: Any,
        key: Any,
        partition: SupportsIndex | None,
        timestamp: SupportsIndex | datetime | None,
        headers: Headers | None,
        callback: Callback | None,
    ) -> MockDeliveryFuture | AsyncMockDeliveryFuture:
        if callback is not None and not callable(callback):
            raise TypeError(f"callback is not callable: {type(callback)}")
        if not isinstance(topic, ProducerRecord):
            record = ProducerRecord(topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers)
        elif any(field is not None for field in (value, key, partition, timestamp, headers)):
            raise TypeError("send(record) takes no other argument than callback")
        else:
            record = topic
        future, _ = self._send(record, callback, serialized=False)
        return future

    def _send(
        self, record: ProducerRecord[Any, Any], callback: Callback | None, *, serialized: bool
    ) -> tuple[MockDeliveryFuture | AsyncMockDeliveryFuture, SentRecord]:
        self._check_open()
        if self.send_error is not None:
            raise self.send_error
        pending = self._prepare(record, callback, serialized=serialized)
        with self._lock:
            self._check_open()
            self._sent.append(pending.sent)
            self._pending.append(pending)
        if self.auto_complete:
            self.complete_next()
        return pending.future, pending.sent

    def _send_entry(self, topic: str, entry: tuple[Any, ...], partition: SupportsIndex | None) -> Any:
        value, key, headers, timestamp = entry
        record = ProducerRecord(topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers)
        return self._send(record, None, serialized=False)

    def _send_rows(self, topic: str, rows: ArrowRecords, entries: Entries[Any]) -> None:
        for value, key, partition, timestamp, headers in chain.from_iterable(iter(rows.take, [])):
            record = ProducerRecord(topic, value, key=key, partition=partition, timestamp=timestamp, headers=headers)
            entries.take(partial(self._send, record, None, serialized=True))

    def _flush(self, timeout: float | None) -> None:
        timeout_s(timeout)  # raises as the real producer does
        self._check_open()
        if self.flush_error is not None:
            raise self.flush_error
        for _ in range(len(self._pending)):
            self.complete_next()
        with self._lock:
            errors = [error for future, error in self._unnoticed if not future.noticed]
            self._unnoticed.clear()
        if errors:
            raise DeliveryError(count=len(errors), errors=errors[:_ERRORS_KEPT])

    def _close(self, timeout: float | None) -> None:
        gave_up = timeout_s(timeout) == 0
        if self.close_error is not None:
            raise self.close_error
        with self._lock:
            already, self._closed = self._closed, True
        if already:
            return
        while self._complete_next(ProducerClosedError("the producer was closed") if gave_up else None):
            pass
        serialization.close(self._key)
        serialization.close(self._value)

    def _partitions_for(self, topic: str) -> list[PartitionInfo]:
        self._check_open()
        if self.partitions_for_error is not None:
            raise self.partitions_for_error
        nodes = (_NODE,)
        return [PartitionInfo(topic, number, _NODE, nodes, nodes, ()) for number in range(self._count(topic))]

    def _new_future(self) -> MockDeliveryFuture | AsyncMockDeliveryFuture:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise ProducerClosedError("the producer is closed")

    def _prepare(self, record: ProducerRecord[Any, Any], callback: Callback | None, *, serialized: bool) -> Pending:
        topic, headers = record.topic, record.headers
        key, value = record.key, record.value
        if not serialized:
            key = serialization.serialize(self._key, topic, headers, key, setting="key.serializer")
            value = serialization.serialize(self._value, topic, headers, value, setting="value.serializer")
        key_bytes = None if key is None else bytes(key)
        value_bytes = None if value is None else bytes(value)
        partition = self._partition(record, key_bytes, value_bytes)
        timestamp = self._clock_ms() if record.timestamp is None else record.timestamp
        future = self._new_future()
        future.noticed = callback is not None
        return Pending(SentRecord(record, partition, key_bytes, value_bytes), timestamp, future, callback)

    def _partition(self, record: ProducerRecord[Any, Any], key: bytes | None, value: bytes | None) -> int:
        count = self._count(record.topic)
        partition = record.partition
        if partition is None and self._partitioner is not None:
            every = tuple(range(count))
            view = TopicView(record.topic, every, every)
            chosen = self._partitioner.partition(record.topic, record.key, key, record.value, value, view)
            return _chosen_partition(chosen, record.topic, count)
        if partition is None:
            return 0 if key is None else partition_for_key(key, count)
        if not 0 <= partition < count:
            raise KafkaTimeoutError(
                f"there is no partition {partition}, only 0 to {count - 1}",
                topic=record.topic,
                partition=partition,
                stage="metadata",
                hint="Send to a partition that exists, or add partitions to the topic.",
            )
        return partition

    def _count(self, topic: str) -> int:
        if not isinstance(self._partitions, Mapping):
            return index(self._partitions)
        if topic not in self._partitions:
            raise KafkaTimeoutError("the topic does not exist", topic=topic, stage="metadata")
        return index(self._partitions[topic])

    def _complete_next(self, error: KafkaError | None) -> bool:
        with self._lock:
            if not self._pending:
                return False
            pending = self._pending.popleft()
            metadata = None if error is not None else self._metadata(pending)
            if error is not None and not pending.future.noticed:
                self._unnoticed.append((pending.future, error))
        self._resolve(pending, metadata, error)
        return True

    def _resolve(self, pending: Pending, metadata: RecordMetadata | None, error: KafkaError | None) -> None:
        # Without the lock: callbacks may send. The future completes first, as in the real producer.
        pending.future.complete(metadata, error)
        if pending.callback is not None:
            self._call(pending, pending.callback, metadata, error)

    def _call(
        self, pending: Pending, callback: Callback, metadata: RecordMetadata | None, error: KafkaError | None
    ) -> None:
        try:
            callback(metadata, error)
        except Exception as raised:
            log_line(_log, logging.ERROR, "the callback of a record raised", exc_info=raised)

    def _metadata(self, pending: Pending) -> RecordMetadata:
        record, partition, key, value = pending.sent
        offset = self._offsets[record.topic, partition]
        self._offsets[record.topic, partition] += 1
        sizes = (-1 if data is None else len(data) for data in (key, value))
        return RecordMetadata(record.topic, partition, offset, pending.timestamp, *sizes)


def aligned(*columns: Any) -> list[Any]:
    """The columns of `send_many`; a column that was not given is endless."""
    counts = {len(column) for column in columns if isinstance(column, Sized)}
    if len(counts) > 1:
        raise ValueError(f"values, keys, headers and timestamps of different lengths: {sorted(counts)}")
    return [repeat(None) if column is None else column for column in columns]


def _chosen_partition(chosen: Any, topic: str, count: int) -> int:
    """The result of a partitioner, with the checks of the real producer."""
    try:
        partition = index(chosen)
    except TypeError as error:
        raise TypeError(f"the partitioner returned {chosen!r}, not the number of a partition") from error
    if not 0 <= partition < count:
        raise ValueError(f"the partitioner chose partition {partition} of {topic}, which has {count} partitions")
    return partition
