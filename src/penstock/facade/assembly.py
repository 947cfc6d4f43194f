"""`Facade`: everything that both producers share, except `send` and the ways to wait.

It assembles a producer from its configuration: serializers, partitioner, interceptors, engine, controller, runtime,
metrics. `send` is native, and each producer has its own (`penstock._native.Sender`, `AsyncSender`). Nothing here runs
once per record.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any, NamedTuple, SupportsIndex, TypedDict

from penstock import _hubs, _native, serialization
from penstock import partitioner as partitioners
from penstock._native import Engine
from penstock.config import ProducerConfig
from penstock.control.cluster_view import PartitionInfo
from penstock.control.controller import Controller
from penstock.control.runtime import Runtime, bootstrap_endpoints
from penstock.errors import ConfigError, KafkaError, ProducerClosedError
from penstock.facade.extensions import Interception, PartitionChoice
from penstock.facade.lifecycle import Lifecycle, warn_waiting
from penstock.facade.socket_buffers import warn_if_limited
from penstock.interceptor import InterceptorChain, as_interceptors
from penstock.metrics import Metrics, MetricsView
from penstock.serialization import Serializer

INTERRUPT_DRAIN_S = 5.0
"""After Ctrl-C inside a `with` block, buffered records have this many seconds to be delivered."""


class Wiring(TypedDict):
    """The objects and functions that native `send` calls, and its settings: the arguments of `Sender._attach`."""

    key_serializer: Callable[[str, Any, Any], bytes | bytearray | memoryview | None]
    value_serializer: Callable[[str, Any, Any], bytes | bytearray | memoryview | None]
    key_fast: str | None
    value_fast: str | None
    partitioner: Callable[[str, Any, bytes | None, Any, bytes | None], SupportsIndex] | None
    interceptors: Any
    warn_waiting: Callable[[str, str, int | None, str], object]
    max_block_ms: int


class Parts(NamedTuple):
    """The parts of a producer before it is started."""

    engine: Engine
    runtime: Runtime
    wiring: Wiring


class Facade:
    """The base of both producers."""

    _life: Lifecycle | None = None

    def _assemble(self, config: ProducerConfig, *, look_up: bool) -> Parts:
        """Configure everything, and start nothing. `look_up`: resolve the bootstrap servers here, which blocks.

        Raises:
            ConfigError: a serializer, the partitioner or an interceptor is refused, or no bootstrap server resolves.
        """
        self._config = config
        settings = config.settings
        _hubs.prepare()
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
        warn_if_limited(settings)
        engine = Engine(settings)
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
            partitioner=None if self._partitioner is None else PartitionChoice(self._partitioner, runtime),
            interceptors=Interception(self._interceptors) if self._interceptors else None,
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
        self._stats = parts.engine.stats_reader()
        self._flush_ns = 0
        life = Lifecycle(
            parts.engine, parts.runtime, name=settings.client_id, delivery_timeout_ms=settings.delivery_timeout_ms
        )
        life.start()
        self._life = life

    @property
    def config(self) -> ProducerConfig:
        """The checked configuration of this producer."""
        return self._config

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._life is None or self._life.closed

    def metrics(self) -> Metrics:
        """Values under the Java producer's names: ``{group: {name: value}}``.

        Rates and averages are over the last metrics.num.samples windows of metrics.sample.window.ms each. A name with
        more tags than client-id has them in braces: ``record-send-total{topic=flights}``. `penstock.metrics.NOT_APPLICABLE`
        lists the names with less information than in Java, and why.

        Raises:
            ProducerForkedError: the producer was created in a parent process.

        Java: `KafkaProducer.metrics`.
        """
        life = self._alive()
        return self._metrics.read(
            self._stats.read(), flush_ns=self._flush_ns, metadata_age_s=life.runtime.metadata_age_ms / 1000
        )

    def purge(self, topic: str | None = None) -> int:
        """Give up the records that are buffered and were never sent: they fail at once, with `RecordPurgedError`.

        They are certainly not in the log. Records that were sent are not touched: they are delivered, or fail, as
        without this call. So are records for which `send` still waits (for their topic, or for memory): they are not
        buffered yet. The call does not wait. A flush that waits for purged records ends, and does not raise for them:
        this call has reported them. It may be called in callbacks, on any thread, and while `close` waits.

        Args:
            topic: only records of this topic; None: of all topics.

        Returns:
            How many records were purged.

        Raises:
            ProducerClosedError: the producer is closed.
            ProducerForkedError: the producer was created in a parent process.

        librdkafka: `rd_kafka_purge` with `RD_KAFKA_PURGE_F_QUEUE`. Java has nothing like it.
        """
        life = self._alive()
        if life.ended:
            raise ProducerClosedError("the producer is closed")
        return life.engine.purge(topic)

    def _known_partitions(self, topic: str) -> list[PartitionInfo]:
        return list(self._alive().runtime.cluster.topics.get(topic, ()))

    def _close_extensions(self) -> None:
        """Close serializers, interceptors and partitioner, after the last record."""
        serialization.close(self._key)
        serialization.close(self._value)
        self._interceptors.close()
        if self._partitioner is not None:
            partitioners.close(self._partitioner)

    def __del__(self) -> None:
        """A producer that is dropped without `close` warns, and is drained in the background."""
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
