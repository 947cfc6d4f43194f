"""The metadata of the cluster: its brokers and topics, which topics are needed, and when to request them.

* A new topic is requested alone, at once (KIP-526); any other request names all topics in use.
* After a failed or useless answer the next request waits for an exponential backoff. Only a topic that was never requested
  does not wait for it.
* A topic without an append for metadata.max.idle.ms is forgotten. The engine repeats that a topic is wanted while a call
  waits for it.

The rules about one topic are in `topics`.
"""

from collections.abc import Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from penstock.config.settings import ProducerSettings
from penstock.control.backoff import Backoff
from penstock.control.boundary import Command, FailTopic, ForgetTopic, NodeEndpoint, SetTopic
from penstock.control.cluster_view import ClusterView, Node
from penstock.control.error_table import METADATA_CLUSTER, ClusterOutcome
from penstock.control.topics import NO_ID, Topic
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.primitives import ProtocolError

WANTED_FRESH_MS: Final = 3_000.0
"""The engine repeats about every second that a topic is wanted. After this long without one, no call waits for it."""

_RELIABLE_EPOCHS_SINCE: Final = 9
"""Older brokers (before Kafka 2.4) name old leader epochs during a reassignment (Java: `hasReliableLeaderEpochs`)."""


class Metadata:
    """See the module. Times are milliseconds on the engine's clock."""

    def __init__(self, settings: ProducerSettings, random: Random, now_ms: float) -> None:
        """Nothing is known; a first request is due at once."""
        self._max_age_ms = settings.metadata_max_age_ms
        self._max_idle_ms = settings.metadata_max_idle_ms
        self._rack = settings.client_rack if settings.partitioner_rack_aware else ""
        self._backoff = Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms)
        self._random = random
        self.cluster_id: str | None = None
        self.brokers: dict[int, Node] = {}
        self._topics: dict[str, Topic] = {}
        # Of the snapshots of all topics: a topic that comes back after `expire` must not begin with old versions again.
        self._last_version = 0
        self._refresh_wanted = True
        self._refreshed_at_ms = now_ms  # the last full answer
        self._not_before_ms = now_ms
        self._failures = 0
        self._in_flight: frozenset[str] | None = None  # topics requested; None: no request is in flight
        self._in_flight_full = False
        self.next_idle_check_ms = now_ms + self._idle_period_ms()

    # --------------------------------------------------------------------------------------------------- wanted topics

    def want(self, name: str, partition: int, now_ms: float) -> None:
        """A call waits for a topic, or for a partition of it (-1: any)."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Topic(name, now_ms)
        topic.want(partition, now_ms)

    def keep(self, names: Iterable[str], now_ms: float) -> None:
        """These topics hold records: they stay known."""
        for name in names:
            if name not in self._topics:
                self.want(name, -1, now_ms)

    def request_refresh(self) -> None:
        """The leaders may have changed: request metadata again, after backoff."""
        self._refresh_wanted = True

    # -------------------------------------------------------------------------------------------------------- requests

    def due_ms(self, now_ms: float) -> float | None:
        """When the next request should be sent; None while one is in flight."""
        if self._in_flight is not None:
            return None
        if any(not topic.requested for topic in self._topics.values()):
            return now_ms
        if self._refresh_wanted or any(self._is_lacking(topic, now_ms) for topic in self._topics.values()):
            return max(now_ms, self._not_before_ms)
        return max(self._refreshed_at_ms + self._max_age_ms, self._not_before_ms)

    @staticmethod
    def _is_lacking(topic: Topic, now_ms: float) -> bool:
        """Whether a topic is requested before its metadata is old."""
        if topic.is_incomplete():
            return topic.wanted and now_ms - topic.wanted_at_ms <= WANTED_FRESH_MS
        return not topic.fresh

    def request(self, now_ms: float) -> MetadataRequest:
        """The request, which is sent now: new topics alone, or all topics in use."""
        new = [topic for topic in self._topics.values() if not topic.requested]
        full = not new or self._refresh_wanted or now_ms >= self._refreshed_at_ms + self._max_age_ms
        requested = list(self._topics.values()) if full else new
        for topic in requested:
            topic.requested = True
        self._in_flight = frozenset(topic.name for topic in requested)
        self._in_flight_full = full
        if full:
            self._refresh_wanted = False
        return MetadataRequest(
            topics=tuple(MetadataRequestTopic(name=name) for name in sorted(self._in_flight)),
            allow_auto_topic_creation=True,
        )

    def failed(self, now_ms: float) -> None:
        """The request got no answer, or a useless one."""
        if self._in_flight is None:
            return
        self._in_flight = None
        self._refresh_wanted = True
        self._back_off(now_ms)

    def answered(self, response: MetadataResponse, version: int, now_ms: float) -> list[Command] | None:
        """Take the answer: the commands for the data plane, or None if the server requires a new bootstrap.

        Raises `ProtocolError`, and takes nothing, if it names a broker with an impossible address.
        """
        requested, full = self._in_flight or frozenset(), self._in_flight_full
        if METADATA_CLUSTER.outcome(response.error_code) is ClusterOutcome.REBOOTSTRAP:
            self.failed(now_ms)
            return None
        if not response.brokers:  # the broker is still starting (Java ignores these answers as well)
            self.failed(now_ms)
            return []
        brokers = [Node(broker.node_id, broker.host, broker.port, broker.rack) for broker in response.brokers]
        for node in brokers:
            if not node.can_be_called():
                raise ProtocolError(f"broker {node.id} cannot be at host {node.host!r}, port {node.port}")
        self._in_flight = None
        self._take_cluster(response.cluster_id, brokers)
        commands: list[Command] = []
        for answer in response.topics:
            topic = self._topics.get(answer.name or "")
            if topic is not None:
                taken = topic.take(answer, reliable_epochs=version >= _RELIABLE_EPOCHS_SINCE)
                if isinstance(taken, FailTopic):
                    commands.append(taken)
                elif taken:
                    commands.append(self._snapshot(topic))
        self._retire(requested, now_ms)
        if full:
            self._refreshed_at_ms = now_ms
        if all(topic.fresh for topic in self._topics.values() if topic.name in requested):
            self._failures = 0
            self._not_before_ms = now_ms + self._backoff.delay_ms(0, self._random)
        else:
            self._back_off(now_ms)
        return commands

    def _take_cluster(self, cluster_id: str | None, brokers: list[Node]) -> None:
        if self.cluster_id is not None and cluster_id not in (None, self.cluster_id):
            for topic in self._topics.values():
                topic.reset()
        self.cluster_id = cluster_id or self.cluster_id
        self._replace_brokers({node.id: node for node in brokers})

    def _retire(self, requested: Iterable[str], now_ms: float) -> None:
        """Drop the topics that are not known and that no call waits for any more."""
        for name in requested:
            topic = self._topics.get(name)
            if topic is not None and not topic.version and now_ms - topic.wanted_at_ms > WANTED_FRESH_MS:
                del self._topics[name]

    # --------------------------------------------------------------------------------------------------- produce hints

    def add_endpoints(self, endpoints: Iterable[NodeEndpoint]) -> bool:
        """Brokers that a Produce answer named (KIP-951); True if that changed anything."""
        named = [Node(endpoint.broker_id, endpoint.host, endpoint.port, endpoint.rack) for endpoint in endpoints]
        brokers = self.brokers | {node.id: node for node in named if node.id >= 0 and node.can_be_called()}
        changed = brokers != self.brokers
        self._replace_brokers(brokers)
        return changed

    def apply_hints(self, name: str, topic_id: bytes, hints: Mapping[int, tuple[int, int]]) -> SetTopic | None:
        """Newer leaders as Produce answers named them, as partition → (leader, epoch): a snapshot if that changed any."""
        topic = self._topics.get(name)
        if topic is None or topic.version == 0 or (topic_id != NO_ID and topic_id != topic.id):
            return None
        return self._snapshot(topic) if topic.take_hints(hints, self.brokers) else None

    def leader_epoch(self, name: str, partition: int) -> int:
        """The newest leader epoch known of a partition with a leader; -1 if there is none."""
        topic = self._topics.get(name)
        if topic is None or not 0 <= partition < len(topic.partitions) or topic.partitions[partition].leader < 0:
            return -1
        return topic.partitions[partition].epoch

    def leads(self, broker_id: int) -> bool:
        """Whether a partition in use has this leader."""
        return any(partition.leader == broker_id for topic in self._topics.values() for partition in topic.partitions)

    # ---------------------------------------------------------------------------------------------------------- ageing

    def expire(self, ages_ms: Mapping[str, int], now_ms: float) -> list[Command]:
        """Forget the topics without an append for metadata.max.idle.ms; ``ages_ms``: since the last append."""
        self.next_idle_check_ms = now_ms + self._idle_period_ms()
        self.keep(ages_ms, now_ms)  # the data plane did not forget one that held a record by then
        commands: list[Command] = []
        for topic in list(self._topics.values()):
            idle_ms = min(float(ages_ms.get(topic.name, 0)), now_ms - topic.wanted_at_ms)
            if topic.name in ages_ms and topic.version and idle_ms >= self._max_idle_ms:
                del self._topics[topic.name]
                commands.append(ForgetTopic(topic.name))
        return commands

    def view(self) -> ClusterView:
        """An immutable picture of the present state."""
        brokers = MappingProxyType(dict(self.brokers))
        views = {topic.name: topic.view(self.brokers) for topic in self._topics.values() if topic.version}
        topics = MappingProxyType({name: view.infos for name, view in views.items()})
        return ClusterView(self.cluster_id, brokers, topics, MappingProxyType(views), self._refreshed_at_ms)

    # ------------------------------------------------------------------------------------------------------- internals

    def _snapshot(self, topic: Topic) -> SetTopic:
        self._last_version += 1
        return topic.snapshot(self._last_version, self._is_local)

    def _is_local(self, broker_id: int) -> bool:
        node = self.brokers.get(broker_id)
        return bool(self._rack) and node is not None and node.rack == self._rack

    def _replace_brokers(self, brokers: dict[int, Node]) -> None:
        if brokers != self.brokers:
            self.brokers = brokers
            for topic in self._topics.values():
                topic.brokers_changed()

    def _back_off(self, now_ms: float) -> None:
        self._not_before_ms = now_ms + self._backoff.delay_ms(self._failures, self._random)
        self._failures += 1

    def _idle_period_ms(self) -> float:
        return max(1_000.0, min(self._max_idle_ms, self._max_age_ms))
