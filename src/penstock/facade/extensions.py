"""The user's partitioner and interceptors, in the form in which native `send` calls them."""

from __future__ import annotations

from typing import Any, SupportsIndex

from penstock._native import ProducerRecord, RecordMetadata
from penstock.control.cluster_view import PartitionInfo
from penstock.control.runtime import Runtime
from penstock.errors import KafkaError
from penstock.facade.types import Callback
from penstock.interceptor import InterceptorChain
from penstock.partitioner import Partitioner, TopicView


class PartitionChoice:
    """Calls the user's partitioner. It does not reference the producer: a cycle would keep that one from being dropped."""

    def __init__(self, partitioner: Partitioner, runtime: Runtime) -> None:
        """The runtime has the partitions of each topic."""
        self._partitioner = partitioner
        self._runtime = runtime
        self._views: dict[str, tuple[tuple[PartitionInfo, ...], TopicView]] = {}

    def __call__(
        self, topic: str, key: Any, key_bytes: bytes | None, value: Any, value_bytes: bytes | None
    ) -> SupportsIndex:
        """The partition of one record. A topic's view is replaced only when its metadata has changed."""
        known = self._runtime.cluster.topics.get(topic, ())
        seen = self._views.get(topic)
        if seen is None or seen[0] is not known:
            partitions = tuple(info.partition for info in known)
            available = tuple(info.partition for info in known if info.leader is not None)
            seen = self._views[topic] = (known, TopicView(topic, partitions, available))
        return self._partitioner.partition(topic, key, key_bytes, value, value_bytes, seen[1])


class Interception:
    """Calls the interceptors. An exception that one raises never prevents a record from being sent."""

    def __init__(self, chain: InterceptorChain) -> None:
        """The chain catches and logs what interceptors raise."""
        self._chain = chain
        self.wants_acknowledgements = chain.wants_acknowledgements
        """False: native `send` calls neither `wrap` nor `on_send_error`, and adds no callback."""

    def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
        """The record to send in place of this one."""
        return self._chain.on_send(record)

    def wrap(self, record: ProducerRecord[Any, Any], callback: Callback | None) -> Callback:
        """A callback that informs the interceptors of the outcome, then the application (the order is Java's)."""

        def acknowledged(metadata: RecordMetadata | None, error: KafkaError | None) -> None:
            self._chain.on_acknowledgement(metadata, error, record.headers)
            if callback is not None:
                callback(metadata, error)

        return acknowledged

    def on_send_error(self, record: ProducerRecord[Any, Any], error: BaseException) -> None:
        """The record was not buffered: `send` raises."""
        self._chain.on_acknowledgement(None, error, record.headers)
