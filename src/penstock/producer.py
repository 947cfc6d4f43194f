"""`KafkaProducer`: the blocking facade, and the protocol that it and its test double share.

`send` itself is native (`penstock._native.Sender`); what is here happens once per producer, or when somebody asks.
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
    """What `KafkaProducer` and `penstock.testing.MockProducer` have in common: write applications against this."""

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

    def close(self, timeout: float | None = None) -> None:
        """Deliver what is left, then end."""
        ...

    def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """What is known of a topic's partitions."""
        ...

    def metrics(self) -> Metrics:
        """Numbers, under the Java producer's names."""
        ...


class KafkaProducer(Sender[K, V], Facade):
    """Sends records to Kafka: batches, retries, idempotence and acknowledgments are its business, not yours.

    Safe to be shared by threads, and best shared: one producer per process is the fast way. Not to be carried over a
    fork. Whatever waits in a greenlet (gevent, eventlet) lets others run.

    Args:
        config: Kafka's names and values, or a `ProducerConfig`.
        key_serializer: how keys become bytes: a serializer, a class of one, or a plain function of the key.
            Without one, bytes-like and None pass.
        value_serializer: the same for values.
        options: the same names as in `config` with underscores for dots; they win.

    Raises:
        ConfigError: before any thread starts; also when no bootstrap server can be resolved.

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
        """Deliver every record sent before this call, and run its callbacks. What is sent meanwhile does not prolong it.

        Args:
            timeout: seconds; None and infinity wait as long as delivery takes (at most delivery.timeout.ms).

        Raises:
            KafkaTimeoutError: time ran out; it says how many records are left. They are still on their way.
            DeliveryError: records failed whose future nobody had asked and that had no callback.
            KafkaError: called inside a callback.
            ValueError: the timeout is negative or NaN.
        """
        life = self._alive()
        began = time.monotonic_ns()
        try:
            life.flush(timeout)
        finally:
            self._flush_ns += time.monotonic_ns() - began

    def close(self, timeout: float | None = None) -> None:
        """Take no more records, deliver what is buffered, and end. Closing twice is the same as closing once.

        Args:
            timeout: seconds; what is not delivered by then fails as `ProducerClosedError`. None and infinity wait
                as long as delivery takes; 0 gives up at once.

        Failures that nobody asked about are logged. Inside a callback it does not wait, as in Java.

        Raises:
            ValueError: the timeout is negative or NaN; nothing is closed.
        """
        if self._life is None:
            return
        self._life.engine.check_fork()
        was_closed = self._life.closed
        self._life.close(timeout)
        if not was_closed:
            self._close_extensions()

    def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic: leader, replicas, in-sync and offline replicas.

        Waits up to max.block.ms for a topic that is not known yet.

        Raises:
            KafkaTimeoutError: the topic did not appear in time.
            InvalidTopicError, TopicAuthorizationError: as the cluster says.
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
            # Whoever pressed Ctrl-C does not want to wait for delivery.timeout.ms.
            self.close(INTERRUPT_DRAIN_S)
        else:
            self.close()
