"""`KafkaProducer`: the blocking facade, and the protocol that it and its test double share.

`send` itself is native (`penstock._native.Sender`). Nothing here runs once per record.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self, SupportsIndex, TypeVar, Unpack, overload

from penstock._native import BulkResult, DeliveryFuture, ProducerRecord, Sender
from penstock.config import ProducerConfig
from penstock.config.options import ProducerOptions
from penstock.control.cluster_view import PartitionInfo
from penstock.facade.assembly import INTERRUPT_DRAIN_S, Facade
from penstock.facade.types import ArrowData, Callback, Headers, SerializerLike
from penstock.metrics import Metrics

K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_contra = TypeVar("V_contra", contravariant=True)
KS = TypeVar("KS")
VS = TypeVar("VS")


class Producer(Protocol[K_contra, V_contra]):
    """The methods of `KafkaProducer` and `penstock.testing.MockProducer`: a type for applications to depend on."""

    @overload
    def send(self, topic: ProducerRecord[Any, Any], *, callback: Callback | None = None) -> DeliveryFuture: ...
    @overload
    def send(
        self,
        topic: str,
        value: V_contra | None = None,
        *,
        key: K_contra | None = None,
        partition: SupportsIndex | None = None,
        timestamp: SupportsIndex | datetime | None = None,
        headers: Headers | None = None,
        callback: Callback | None = None,
    ) -> DeliveryFuture: ...
    def send_many(
        self,
        topic: str,
        values: Iterable[V_contra | None],
        *,
        keys: Iterable[K_contra | None] | None = None,
        headers: Iterable[Headers | None] | None = None,
        timestamps: Iterable[SupportsIndex | datetime | None] | None = None,
        partition: SupportsIndex | None = None,
    ) -> BulkResult:
        """Buffer many records of one topic."""
        ...

    def send_arrow(
        self,
        topic: str,
        data: ArrowData,
        *,
        value: str | Sequence[str] | None = None,
        key: str | Sequence[str] | None = None,
        partition: SupportsIndex | str | None = None,
        timestamp: str | None = None,
        headers: str | None = None,
        index: bool | None = None,
    ) -> BulkResult:
        """Buffer the rows of Arrow data."""
        ...

    def flush(self, timeout: float | None = None) -> None:
        """Deliver everything sent before this call."""
        ...

    def purge(self, topic: str | None = None) -> int:
        """Fail what is buffered and was never sent."""
        ...

    def close(self, timeout: float | None = None) -> None:
        """Deliver the buffered records, then end."""
        ...

    def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic."""
        ...

    def metrics(self) -> Metrics:
        """Values under the Java producer's names."""
        ...


class KafkaProducer(Sender[K, V], Facade):
    """Sends records to Kafka; it batches, retries, and keeps order and uniqueness (idempotence) by itself.

    Threads may share it, and should: one producer per process is fastest. It must not be used after a fork. A call that
    waits in a greenlet (gevent, eventlet) lets other greenlets run.

    Args:
        config: Kafka's names and values, or a `ProducerConfig`.
        key_serializer: a serializer, a class of one, or a function from a key to bytes. Without one, keys are
            bytes-like or None.
        value_serializer: the same for values.
        options: the same names as in `config` with underscores for dots; they win.

    Raises:
        ConfigError: a setting is unknown, invalid or not supported, or no bootstrap server can be resolved; no thread
            was started.
        KafkaError: the producer's threads could not be started.

    Java: `org.apache.kafka.clients.producer.KafkaProducer`.
    """

    @overload
    def __init__(
        self: KafkaProducer[bytes, bytes],
        config: Mapping[str, Any] | None = None,
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: KafkaProducer[KS, bytes],
        config: Mapping[str, Any] | None = None,
        *,
        key_serializer: SerializerLike[KS],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: KafkaProducer[bytes, VS],
        config: Mapping[str, Any] | None = None,
        *,
        value_serializer: SerializerLike[VS],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: KafkaProducer[KS, VS],
        config: Mapping[str, Any] | None = None,
        *,
        key_serializer: SerializerLike[KS],
        value_serializer: SerializerLike[VS],
        **options: Unpack[ProducerOptions],
    ) -> None: ...
    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        key_serializer: Any = None,
        value_serializer: Any = None,
        **options: Unpack[ProducerOptions],
    ) -> None:
        """Check the configuration, resolve the bootstrap servers, and start."""
        parts = self._assemble(
            ProducerConfig(config, key_serializer=key_serializer, value_serializer=value_serializer, **options),
            look_up=True,
        )
        self._attach(parts.engine, **parts.wiring)
        self._start(parts)

    def flush(self, timeout: float | None = None) -> None:
        """Deliver every record sent before this call. Records sent meanwhile do not prolong it.

        The callbacks of these records have run when it returns.

        Args:
            timeout: seconds; None and infinity wait as long as delivery takes (at most delivery.timeout.ms).

        Raises:
            KafkaTimeoutError: the timeout expired; the text has the number of records left, which are still being sent.
            DeliveryError: records failed that had no callback and whose future was not read.
            KafkaError: it was called inside a callback.
            ProducerForkedError: the producer was created in a parent process.
            ValueError: the timeout is negative or NaN.

        Java: `KafkaProducer.flush`.
        """
        life = self._alive()
        began = time.monotonic_ns()
        try:
            life.flush(timeout)
        finally:
            self._flush_ns += time.monotonic_ns() - began

    def close(self, timeout: float | None = None) -> None:
        """Take no more records, deliver the buffered ones, and end. A second call does nothing more.

        Failures of records without a callback, whose future was not read, are logged. Inside a callback it does not wait,
        as in Java.

        Args:
            timeout: seconds; records that are not delivered by then fail with `ProducerClosedError`. None and infinity
                wait as long as delivery takes; 0 does not wait.

        Raises:
            ProducerForkedError: the producer was created in a parent process.
            ValueError: the timeout is negative or NaN; nothing is closed.

        Java: `KafkaProducer.close`.
        """
        if self._life is None:
            return
        self._life.engine.check_fork()
        was_closed = self._life.closed
        self._life.close(timeout)
        if not was_closed:
            self._close_extensions()

    def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic, each with leader, replicas, in-sync replicas and offline replicas.

        Waits up to max.block.ms for a topic that is not in the metadata yet.

        Raises:
            KafkaTimeoutError: the topic did not appear in time.
            InvalidTopicError, TopicAuthorizationError: the cluster's answer about the topic.
            ProducerClosedError: the producer is closed.
            ProducerForkedError: the producer was created in a parent process.

        Java: `KafkaProducer.partitionsFor`.
        """
        self._alive()
        self._await_topic(topic)
        return self._known_partitions(topic)

    def __enter__(self) -> Self:
        """The producer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close. Without an exception, `DeliveryError` is raised as by `flush`; with one, failures are logged."""
        if kind is None and not self.closed:
            try:
                self.flush()
            finally:
                self.close()
        elif kind is not None and issubclass(kind, KeyboardInterrupt):
            # After Ctrl-C the user does not want to wait for delivery.timeout.ms.
            self.close(INTERRUPT_DRAIN_S)
        else:
            self.close()
