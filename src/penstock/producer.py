"""`KafkaProducer`: the blocking facade, and the protocol that it and its test double share.

`send` itself is native (`penstock._native.Sender`); what is here happens once per producer, or when somebody asks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from random import Random
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias, TypeVar, Unpack, overload

from penstock import _native, serialization
from penstock import partitioner as partitioners
from penstock._lifecycle import Lifecycle, warn_waiting
from penstock._native import BulkResult, DeliveryFuture, Engine, ProducerRecord, RecordMetadata, Sender
from penstock._options import ProducerOptions
from penstock.config import ProducerConfig, ProducerSettings
from penstock.control.controller import Controller
from penstock.control.metadata import PartitionInfo
from penstock.control.runtime import Runtime, bootstrap_endpoints
from penstock.errors import ConfigError, KafkaError
from penstock.interceptor import InterceptorChain, as_interceptors
from penstock.metrics import Metrics, MetricsView
from penstock.partitioner import TopicView
from penstock.serialization import Serializer

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
K_contra = TypeVar("K_contra", contravariant=True)
V_contra = TypeVar("V_contra", contravariant=True)
KS = TypeVar("KS")
VS = TypeVar("VS")

Callback: TypeAlias = Callable[[RecordMetadata | None, KafkaError | None], object]
"""Called once with (metadata, error); metadata is None exactly when error is set."""
SerializerLike: TypeAlias = Serializer[T] | type[Serializer[T]] | Callable[[T], Any]
"""A serializer, a class of one, or a plain function of the value."""
Headers: TypeAlias = Iterable[tuple[str, bytes | None]] | Mapping[str, bytes | None]


class ArrowStream(Protocol):
    """Tables, data frames, readers: the Arrow PyCapsule interface for streams."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """A capsule of the data."""
        ...


class ArrowArray(Protocol):
    """Record batches: the Arrow PyCapsule interface for arrays."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """A capsule of the schema and one of the data."""
        ...


ArrowData: TypeAlias = ArrowStream | ArrowArray
"""What `send_arrow` takes: of pyarrow, polars, DuckDB, pandas and others, none of which is imported."""

INTERRUPT_DRAIN_S = 5.0
"""Ctrl-C inside a `with` block: what is buffered gets this long."""


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
        partition: int | None = None,
        timestamp: int | datetime | None = None,
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
        timestamps: Iterable[int | datetime | None] | None = None,
        partition: int | None = None,
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
        partition: int | str | None = None,
        timestamp: str | None = None,
        headers: str | None = None,
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


class KafkaProducer(Sender[K, V]):
    """Sends records to Kafka: batches, retries, idempotence and acknowledgments are its business, not yours.

    Safe to be shared by threads, and best shared: one producer per process is the fast way. Not to be carried over a
    fork.

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
        self._life: Lifecycle | None = None
        self._config = ProducerConfig(
            config, key_serializer=key_serializer, value_serializer=value_serializer, **options
        )
        settings = self._config.settings
        try:
            bootstrap = bootstrap_endpoints(settings)
        except ValueError as error:
            raise ConfigError(str(error), setting="bootstrap.servers") from error
        self._key = self._serializer(settings.key_serializer, is_key=True)
        self._value = self._serializer(settings.value_serializer, is_key=False)
        self._partitioner = partitioners.as_partitioner(settings.partitioner_class)
        if self._partitioner is not None:
            partitioners.configure(self._partitioner, self._config)
        self._interceptors = InterceptorChain(as_interceptors(settings.interceptor_classes))
        self._interceptors.configure(self._config)
        engine = make_engine(settings)
        controller = Controller(
            settings, bootstrap, random=Random(), now_ms=engine.now_ms(), software_version=_native.__version__
        )
        runtime = Runtime(engine, controller)
        self._attach(
            engine,
            key_serializer=partial(serialization.serialize, self._key, setting="key.serializer"),
            value_serializer=partial(serialization.serialize, self._value, setting="value.serializer"),
            key_fast=_fast_path(self._key),
            value_fast=_fast_path(self._value),
            partitioner=None if self._partitioner is None else _Choice(self._partitioner, runtime),
            interceptors=_Interception(self._interceptors) if self._interceptors else None,
            warn_waiting=warn_waiting,
            max_block_ms=settings.max_block_ms,
        )
        self._metrics = MetricsView(
            window_ms=settings.metrics_sample_window_ms,
            windows=settings.metrics_num_samples,
            version=_native.__version__,
            start_ms=int(time.time() * 1000),  # noqa: TID251 (a time of day, shown as a metric)
        )
        self._flush_ns = 0
        life = Lifecycle(engine, runtime, name=settings.client_id, delivery_timeout_ms=settings.delivery_timeout_ms)
        life.start()
        self._life = life

    @property
    def config(self) -> ProducerConfig:
        """The configuration in force."""
        return self._config

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._life is None or self._life.closed

    def flush(self, timeout: float | None = None) -> None:
        """Deliver every record sent before this call, and run its callbacks. What is sent meanwhile does not prolong it.

        Args:
            timeout: seconds; None waits as long as delivery takes (at most delivery.timeout.ms).

        Raises:
            KafkaTimeoutError: time ran out; it says how many records are left. They are still on their way.
            DeliveryError: records failed whose future nobody had asked and that had no callback.
            KafkaError: called inside a callback.
            ValueError: the timeout is negative.
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
            timeout: seconds; what is not delivered by then fails as `ProducerClosedError`. None waits as long as
                delivery takes; 0 gives up at once.

        Failures that nobody asked about are logged. Inside a callback it does not wait, as in Java.

        Raises:
            ValueError: the timeout is negative; nothing is closed.
        """
        if self._life is None:
            return
        self._life.engine.check_fork()
        was_closed = self._life.closed
        self._life.close(timeout)
        if not was_closed:
            serialization.close(self._key)
            serialization.close(self._value)
            self._interceptors.close()
            if self._partitioner is not None:
                partitioners.close(self._partitioner)

    def partitions_for(self, topic: str) -> list[PartitionInfo]:
        """The partitions of a topic: leader, replicas, in-sync and offline replicas.

        Waits up to max.block.ms for a topic that is not known yet.

        Raises:
            KafkaTimeoutError: the topic did not appear in time.
            InvalidTopicError, TopicAuthorizationError: as the cluster says.
        """
        life = self._alive()
        self._await_topic(topic, "partitions_for")
        return list(life.runtime.cluster.topics.get(topic, ()))

    def metrics(self) -> Metrics:
        """``{group: {name: value}}`` under the Java producer's names; rates look back metrics.num.samples windows.

        Names with more tags than client-id carry them in braces: ``record-send-total{topic=flights}``.
        `penstock.metrics.NOT_APPLICABLE` lists the names that say less than in Java, and why.
        """
        life = self._alive()
        return self._metrics.read(
            life.engine.stats(), flush_ns=self._flush_ns, metadata_age_s=life.runtime.metadata_age_ms / 1000
        )

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

    def __del__(self) -> None:
        """A producer that is dropped unclosed says so, and is drained in the background."""
        life = getattr(self, "_life", None)
        if life is None or life.closed or life.engine.is_foreign():
            return
        warnings.warn(f"unclosed {self!r}; use `with` or close()", ResourceWarning, stacklevel=2, source=self)
        life.abandon()

    def __repr__(self) -> str:
        """Client id, bootstrap servers and state."""
        settings = self._config.settings
        state = "closed" if self.closed else "open"
        return f"<{type(self).__name__} {settings.client_id} on {','.join(settings.bootstrap_servers)}, {state}>"

    def _alive(self) -> Lifecycle:
        if self._life is None:
            raise KafkaError("the producer was not initialised")
        self._life.engine.check_fork()
        return self._life

    def _serializer(self, given: Any, *, is_key: bool) -> Serializer[Any]:
        made = serialization.as_serializer(given, setting="key.serializer" if is_key else "value.serializer")
        serialization.configure(made, self._config, is_key)
        return made


class _Choice:
    """What native `send` asks for a partition. It does not know the producer: a cycle would keep it from being dropped."""

    def __init__(self, partitioner: partitioners.Partitioner, runtime: Runtime) -> None:
        self._partitioner = partitioner
        self._runtime = runtime
        self._views: dict[str, tuple[tuple[PartitionInfo, ...], TopicView]] = {}

    def __call__(self, topic: str, key: Any, key_bytes: bytes | None, value: Any, value_bytes: bytes | None) -> int:
        known = self._runtime.cluster.topics.get(topic, ())
        seen = self._views.get(topic)
        if seen is None or seen[0] is not known:
            partitions = tuple(info.partition for info in known)
            available = tuple(info.partition for info in known if info.leader is not None)
            seen = self._views[topic] = (known, TopicView(topic, partitions, available))
        return self._partitioner.partition(topic, key, key_bytes, value, value_bytes, seen[1])


class _Interception:
    """What native `send` asks of interceptors: nothing they do may keep a record from being sent."""

    def __init__(self, chain: InterceptorChain) -> None:
        self._chain = chain

    def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
        return self._chain.on_send(record)

    def wrap(self, record: ProducerRecord[Any, Any], callback: Callback | None) -> Callback:
        """The interceptors hear of the outcome first, then the application (as in Java)."""

        def acknowledged(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            self._chain.on_acknowledgement(metadata, error, record.headers)
            if callback is not None:
                callback(metadata, error)

        return acknowledged

    def on_send_error(self, record: ProducerRecord[Any, Any], error: BaseException) -> None:
        self._chain.on_acknowledgement(None, error, record.headers)


def _fast_path(serializer: Serializer[Any]) -> str | None:
    """What native code may do without calling the serializer."""
    return serialization.native_form(serializer)


def make_engine(settings: ProducerSettings, seed: int | None = None) -> Engine:
    """The native engine for these settings; its random choices follow from `seed`."""
    return Engine(
        seed=seed,
        client_id=settings.client_id,
        acks=settings.acks,
        enable_idempotence=settings.enable_idempotence,
        batch_size=settings.batch_size,
        linger_ms=settings.linger_ms,
        buffer_memory=settings.buffer_memory,
        max_request_size=settings.max_request_size,
        max_in_flight_requests_per_connection=settings.max_in_flight_requests_per_connection,
        delivery_timeout_ms=settings.delivery_timeout_ms,
        request_timeout_ms=settings.request_timeout_ms,
        connections_max_idle_ms=settings.connections_max_idle_ms,
        send_buffer_bytes=settings.send_buffer_bytes,
        receive_buffer_bytes=settings.receive_buffer_bytes,
        partitioner_ignore_keys=settings.partitioner_ignore_keys,
        partitioner_adaptive_partitioning_enable=settings.partitioner_adaptive_partitioning_enable,
        partitioner_availability_timeout_ms=settings.partitioner_availability_timeout_ms,
        partitioner_rack_aware=settings.partitioner_rack_aware,
    )
