"""What both facades have in common: configuration, serializers, interceptors, the partitioner, the engine, metrics.

`send` is native, and each facade has its own (`penstock._native.Sender`, `AsyncSender`); what is here happens once per
producer, or when somebody asks.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from functools import partial
from random import Random
from typing import Any, NamedTuple, Protocol, SupportsIndex, TypeAlias, TypedDict, TypeVar

from penstock import _hubs, _native, serialization
from penstock import partitioner as partitioners
from penstock._lifecycle import Lifecycle, warn_waiting
from penstock._native import Engine, ProducerRecord, RecordMetadata
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

Callback: TypeAlias = Callable[[RecordMetadata | None, KafkaError | None], object]
"""Called once with (metadata, error); metadata is None exactly when error is set."""
SerializerLike: TypeAlias = Serializer[T] | type[Serializer[T]] | Callable[[T], Any]
"""A serializer, a class of one, or a plain function of the value."""
HeaderValue: TypeAlias = bytes | bytearray | memoryview | None
"""What is not bytes is copied when it is given."""
Headers: TypeAlias = Iterable[tuple[str, HeaderValue]] | Mapping[str, HeaderValue]
Column: TypeAlias = Iterable[T] | AsyncIterable[T]
"""One entry per record, for `send_many` in asyncio."""


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


class Wiring(TypedDict):
    """What native `send` has to know of its facade."""

    key_serializer: Callable[[str, Any, Any], bytes | bytearray | memoryview | None]
    value_serializer: Callable[[str, Any, Any], bytes | bytearray | memoryview | None]
    key_fast: str | None
    value_fast: str | None
    partitioner: Callable[[str, Any, bytes | None, Any, bytes | None], SupportsIndex] | None
    interceptors: Any
    warn_waiting: Callable[[str, str, int | None, str], object]
    max_block_ms: int


class Parts(NamedTuple):
    """A producer's inside, before it is started."""

    engine: Engine
    runtime: Runtime
    wiring: Wiring


class Facade:
    """Everything of a producer but `send` and the ways to wait."""

    _life: Lifecycle | None = None

    def _assemble(self, config: ProducerConfig, *, look_up: bool) -> Parts:
        """Configure everything, and start nothing. `look_up`: names may be looked up here, which blocks."""
        self._config = config
        settings = config.settings
        _hubs.settle()
        try:
            if look_up:
                bootstrap = _hubs.run(lambda: bootstrap_endpoints(settings), "penstock-resolver")
            else:
                bootstrap = bootstrap_endpoints(settings, resolve=False)
        except ValueError as error:
            raise ConfigError(str(error), setting="bootstrap.servers") from error
        self._key = self._serializer(settings.key_serializer, is_key=True)
        self._value = self._serializer(settings.value_serializer, is_key=False)
        self._partitioner = partitioners.as_partitioner(settings.partitioner_class)
        if self._partitioner is not None:
            partitioners.configure(self._partitioner, config)
        self._interceptors = InterceptorChain(as_interceptors(settings.interceptor_classes))
        self._interceptors.configure(config)
        engine = make_engine(settings)
        controller = Controller(
            settings, bootstrap, random=Random(), now_ms=engine.now_ms(), software_version=_native.__version__
        )
        runtime = Runtime(engine, controller)
        self._interceptors.report_by(runtime.pass_on)
        wiring = Wiring(
            key_serializer=partial(serialization.serialize, self._key, setting="key.serializer"),
            value_serializer=partial(serialization.serialize, self._value, setting="value.serializer"),
            key_fast=serialization.native_form(self._key),
            value_fast=serialization.native_form(self._value),
            partitioner=None if self._partitioner is None else _Choice(self._partitioner, runtime),
            interceptors=_Interception(self._interceptors) if self._interceptors else None,
            warn_waiting=partial(warn_waiting, runtime),
            max_block_ms=settings.max_block_ms,
        )
        return Parts(engine, runtime, wiring)

    def _start(self, parts: Parts) -> None:
        settings = self._config.settings
        self._metrics = MetricsView(
            window_ms=settings.metrics_sample_window_ms,
            windows=settings.metrics_num_samples,
            version=_native.__version__,
            start_ms=int(time.time() * 1000),  # noqa: TID251 (a time of day, shown as a metric)
        )
        self._flush_ns = 0
        life = Lifecycle(
            parts.engine, parts.runtime, name=settings.client_id, delivery_timeout_ms=settings.delivery_timeout_ms
        )
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

    def metrics(self) -> Metrics:
        """``{group: {name: value}}`` under the Java producer's names; rates look back metrics.num.samples windows.

        Names with more tags than client-id carry them in braces: ``record-send-total{topic=flights}``.
        `penstock.metrics.NOT_APPLICABLE` lists the names that say less than in Java, and why.
        """
        life = self._alive()
        return self._metrics.read(
            life.engine.stats(), flush_ns=self._flush_ns, metadata_age_s=life.runtime.metadata_age_ms / 1000
        )

    def _known_partitions(self, topic: str) -> list[PartitionInfo]:
        return list(self._alive().runtime.cluster.topics.get(topic, ()))

    def _close_extensions(self) -> None:
        """The user's objects; after the last record."""
        serialization.close(self._key)
        serialization.close(self._value)
        self._interceptors.close()
        if self._partitioner is not None:
            partitioners.close(self._partitioner)

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

    def __call__(
        self, topic: str, key: Any, key_bytes: bytes | None, value: Any, value_bytes: bytes | None
    ) -> SupportsIndex:
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
        self.wants_acknowledgements = chain.wants_acknowledgements
        """Without one, native `send` neither wraps callbacks nor adds any."""

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


def make_engine(settings: ProducerSettings, seed: int | None = None) -> Engine:
    """The native engine for these settings; its random choices follow from `seed`."""
    return Engine(
        seed=seed,
        client_id=settings.client_id,
        acks=settings.acks,
        enable_idempotence=settings.enable_idempotence,
        compression_type=settings.compression_type,
        compression_level=settings.compression_level,
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
