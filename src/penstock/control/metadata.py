"""What is known of the cluster: brokers, topics, leaders; what is wanted, and when to ask for it.

Rules kept here:

* A topic's leaders never go back: a partition whose answer carries an older leader epoch than is known, under the same
  topic id, keeps what is known (Java's `Metadata.updateLatestMetadata`). A new topic id (a first one, too) or a new
  cluster starts afresh.
* A new topic is asked for alone, at once (KIP-526); everything else that is due asks for all topics in use.
* After a failed or useless answer the next request waits for an exponential backoff; only a topic that was never asked
  for passes that by.
* A topic that had no append for metadata.max.idle.ms is forgotten; a wish is fresh while the engine repeats it.
"""

from collections.abc import Iterable, Mapping
from random import Random
from types import MappingProxyType
from typing import Final, NamedTuple

from penstock import errors
from penstock.control.boundary import Command, FailTopic, ForgetTopic, NodeEndpoint, PartitionLeader, SetTopic
from penstock.control.cluster_view import ClusterView, KnownTopic, Node, PartitionInfo
from penstock.control.error_table import (
    METADATA_CLUSTER,
    METADATA_PARTITION,
    METADATA_TOPIC,
    ClusterOutcome,
    PartitionOutcome,
    TopicOutcome,
)
from penstock.control.settings import Backoff, ControlSettings
from penstock.protocol.messages.metadata import (
    MetadataRequest,
    MetadataRequestTopic,
    MetadataResponse,
    MetadataResponsePartition,
    MetadataResponseTopic,
)
from penstock.protocol.primitives import ProtocolError

WISH_FRESH_MS: Final = 3_000.0
"""The engine repeats a wish about every second while somebody waits; after this long without one nobody does."""

_NO_ID: Final = bytes(16)
_LEADER_NOT_AVAILABLE: Final = 5
_RELIABLE_EPOCHS_SINCE: Final = 9
"""Older brokers (before Kafka 2.4) name old leader epochs during a reassignment (Java: `hasReliableLeaderEpochs`)."""


class _Partition(NamedTuple):
    leader: int
    epoch: int
    error: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline: tuple[int, ...]


_UNKNOWN_PARTITION: Final = _Partition(-1, -1, _LEADER_NOT_AVAILABLE, (), (), ())


class _Topic:
    """A topic that is wanted or known."""

    def __init__(self, name: str, now_ms: float) -> None:
        """Wanted for the first time."""
        self.name = name
        self.wanted_at_ms = now_ms  # of the last wish
        self.wanted = True  # the last wish has not been answered with a final error
        self.wanted_partition = -1
        self.asked = False
        self.id = _NO_ID
        self.version = 0  # of the last snapshot; 0: none yet
        self.partitions: tuple[_Partition, ...] = ()
        self.error = 0
        self.fresh = False  # the last answer about it was plain success, no leader missing
        self.view: KnownTopic | None = None  # made when it is first asked for after a change

    def lacks_partition(self) -> bool:
        """A partition is wanted beyond those known."""
        return self.wanted_partition >= len(self.partitions)


class Metadata:
    """The state behind the rules above. Times are milliseconds on the engine's clock."""

    def __init__(self, settings: ControlSettings, random: Random, now_ms: float) -> None:
        """Nothing is known; a first request is due at once."""
        self._max_age_ms = settings.metadata_max_age_ms
        self._max_idle_ms = settings.metadata_max_idle_ms
        self._rack = settings.client_rack if settings.partitioner_rack_aware else ""
        self._backoff = Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms)
        self._random = random
        self.cluster_id: str | None = None
        self.brokers: dict[int, Node] = {}
        self._topics: dict[str, _Topic] = {}
        self._versions = 0  # of all topics: one that comes back after `expire` must not begin with old versions again
        self._refresh_wanted = True
        self._refreshed_at_ms = now_ms  # the last full answer
        self._not_before_ms = now_ms
        self._failures = 0
        self._in_flight: frozenset[str] | None = None  # topics asked for; None: no request is out
        self._in_flight_full = False
        self.next_idle_check_ms = now_ms + self._idle_period_ms()

    # ---------------------------------------------------------------------------------------------------------- wishes

    def want(self, name: str, partition: int, now_ms: float) -> None:
        """Somebody waits for a topic, or for a partition of it (-1: any)."""
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic(name, now_ms)
        topic.wanted_at_ms, topic.wanted = now_ms, True
        topic.wanted_partition = partition if partition >= len(topic.partitions) else -1

    def keep(self, names: Iterable[str], now_ms: float) -> None:
        """These topics hold records: they stay known."""
        for name in names:
            if name not in self._topics:
                self.want(name, -1, now_ms)

    def request_refresh(self) -> None:
        """What is known is doubtful: ask again, after backoff."""
        self._refresh_wanted = True

    # --------------------------------------------------------------------------------------------------------- requests

    def due_ms(self, now_ms: float) -> float | None:
        """When the next request should leave; None while one is out."""
        if self._in_flight is not None:
            return None
        if any(not topic.asked for topic in self._topics.values()):
            return now_ms
        if self._refresh_wanted or self._wishes(now_ms):
            return max(now_ms, self._not_before_ms)
        return max(self._refreshed_at_ms + self._max_age_ms, self._not_before_ms)

    def request(self, now_ms: float) -> MetadataRequest:
        """The request that is due: new topics alone, or all topics in use."""
        new = [topic for topic in self._topics.values() if not topic.asked]
        full = not new or self._refresh_wanted or now_ms >= self._refreshed_at_ms + self._max_age_ms
        asked = list(self._topics.values()) if full else new
        for topic in asked:
            topic.asked = True
        self._in_flight = frozenset(topic.name for topic in asked)
        self._in_flight_full = full
        if full:
            self._refresh_wanted = False
        return MetadataRequest(
            topics=tuple(MetadataRequestTopic(name=name) for name in sorted(self._in_flight)),
            allow_auto_topic_creation=True,
        )

    def failed(self, now_ms: float) -> None:
        """The request got no answer, or one that says nothing."""
        if self._in_flight is None:
            return
        self._in_flight = None
        self._refresh_wanted = True
        self._back_off(now_ms)

    def answered(self, response: MetadataResponse, version: int, now_ms: float) -> list[Command] | None:
        """Take the answer in; the commands that tell the data plane, or None if the server wants a new bootstrap.

        Raises `ProtocolError`, and takes nothing in, if it names a broker that cannot be.
        """
        asked, full = self._in_flight or frozenset(), self._in_flight_full
        if METADATA_CLUSTER.outcome(response.error_code) is ClusterOutcome.REBOOTSTRAP:
            self.failed(now_ms)
            return None
        if not response.brokers:  # a broker that is only starting (Java ignores these answers as well)
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
                commands += self._take_topic(topic, answer, version >= _RELIABLE_EPOCHS_SINCE)
        self._retire(asked, now_ms)
        if full:
            self._refreshed_at_ms = now_ms
        if all(topic.fresh for topic in self._topics.values() if topic.name in asked):
            self._failures = 0
            self._not_before_ms = now_ms + self._backoff.delay_ms(0, self._random)
        else:
            self._back_off(now_ms)
        return commands

    # --------------------------------------------------------------------------------------------------- produce hints

    def add_endpoints(self, endpoints: Iterable[NodeEndpoint]) -> bool:
        """Brokers that a Produce answer named (KIP-951); True if that changed anything."""
        named = [Node(endpoint.broker_id, endpoint.host, endpoint.port, endpoint.rack) for endpoint in endpoints]
        brokers = self.brokers | {node.id: node for node in named if node.id >= 0 and node.can_be_called()}
        changed = brokers != self.brokers
        self._replace_brokers(brokers)
        return changed

    def apply_hints(self, name: str, topic_id: bytes, hints: Mapping[int, tuple[int, int]]) -> SetTopic | None:
        """Newer leaders as Produce answers named them: partition → (leader, epoch); a new snapshot if any is news."""
        topic = self._topics.get(name)
        if topic is None or topic.version == 0 or (topic_id != _NO_ID and topic_id != topic.id):
            return None
        partitions = list(topic.partitions)
        for partition, (leader, epoch) in hints.items():
            if not 0 <= partition < len(partitions) or leader not in self.brokers:
                continue  # Java ignores a leader whose address it does not know, too
            if epoch > partitions[partition].epoch:
                partitions[partition] = partitions[partition]._replace(leader=leader, epoch=epoch, error=0)
        if tuple(partitions) == topic.partitions:
            return None
        topic.partitions = tuple(partitions)
        return self._snapshot(topic)

    def leader_epoch(self, name: str, partition: int) -> int:
        """The newest leader epoch known of a partition with a leader; -1 if there is none."""
        topic = self._topics.get(name)
        if topic is None or not 0 <= partition < len(topic.partitions) or topic.partitions[partition].leader < 0:
            return -1
        return topic.partitions[partition].epoch

    # ---------------------------------------------------------------------------------------------------------- ageing

    def leads(self, broker_id: int) -> bool:
        """Whether a partition in use has this leader."""
        return any(partition.leader == broker_id for topic in self._topics.values() for partition in topic.partitions)

    def expire(self, ages_ms: Mapping[str, int], now_ms: float) -> list[Command]:
        """Forget the topics that were not appended to for metadata.max.idle.ms; ``ages_ms``: since the last append."""
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
        """An immutable picture of what is known now."""
        brokers = MappingProxyType(dict(self.brokers))
        views: dict[str, KnownTopic] = {}
        for topic in self._topics.values():
            if topic.version:
                topic.view = topic.view or self._view(topic)
                views[topic.name] = topic.view
        topics = MappingProxyType({name: view.infos for name, view in views.items()})
        return ClusterView(self.cluster_id, brokers, topics, MappingProxyType(views), self._refreshed_at_ms)

    # ------------------------------------------------------------------------------------------------------- internals

    def _wishes(self, now_ms: float) -> bool:
        """Something that is wanted still lacks."""
        for topic in self._topics.values():
            if topic.version == 0 or topic.lacks_partition():
                if topic.wanted and now_ms - topic.wanted_at_ms <= WISH_FRESH_MS:
                    return True
            elif not topic.fresh:
                return True
        return False

    def _take_cluster(self, cluster_id: str | None, brokers: list[Node]) -> None:
        if self.cluster_id is not None and cluster_id not in (None, self.cluster_id):
            # Another cluster answers under the old addresses: nothing that was known of leaders holds there.
            for topic in self._topics.values():
                topic.id, topic.partitions = _NO_ID, ()
        self.cluster_id = cluster_id or self.cluster_id
        self._replace_brokers({node.id: node for node in brokers})

    def _take_topic(self, topic: _Topic, answer: MetadataResponseTopic, reliable_epochs: bool) -> list[Command]:
        failed_before = topic.error != 0
        topic.error = answer.error_code or (0 if answer.partitions else _LEADER_NOT_AVAILABLE)
        topic.fresh = False
        outcome = METADATA_TOPIC.outcome(topic.error)
        if outcome is not TopicOutcome.TAKE:
            final = outcome is TopicOutcome.REFUSE
            # Who asks again after a final error wants to know whether it still holds: that takes another wish.
            topic.wanted = not final
            return [FailTopic(topic.name, topic.error, errors.error_name(topic.error), final)]
        topic_id = answer.topic_id.bytes
        if topic_id == _NO_ID:
            topic_id = topic.id  # an older broker that knows no ids must not make us forget the one we have
        # A first id counts as another one: without it nobody could tell whether the topic was made anew (as Java).
        recreated = topic.id != topic_id
        partitions = _in_order(answer.partitions, reliable_epochs)
        if not recreated:
            partitions = tuple(
                known
                if index < len(topic.partitions) and (known := topic.partitions[index]).epoch > new.epoch >= 0
                else new
                for index, new in enumerate(partitions)
            )
        topic.fresh = not any(new.leader < 0 or _is_stale(new) for new in partitions)
        if topic.wanted_partition < len(partitions):
            topic.wanted_partition = -1
        unchanged = topic.version > 0 and not recreated and topic.partitions == partitions
        topic.id, topic.partitions, topic.view = topic_id, partitions, None
        if unchanged and topic.fresh and not failed_before:
            return []  # the data plane has it; after an error it must hear that all is well again
        return [self._snapshot(topic)]

    def _retire(self, asked: Iterable[str], now_ms: float) -> None:
        """Let go of wishes that nobody repeats."""
        for name in asked:
            topic = self._topics.get(name)
            if topic is None or topic.version:
                continue
            if now_ms - topic.wanted_at_ms > WISH_FRESH_MS:
                del self._topics[name]

    def _snapshot(self, topic: _Topic) -> SetTopic:
        self._versions += 1
        topic.version = self._versions
        topic.view = None
        leaders = tuple(PartitionLeader(p.leader, p.epoch, self._is_local(p.leader)) for p in topic.partitions)
        return SetTopic(topic.name, topic.id, topic.version, leaders)

    def _is_local(self, broker_id: int) -> bool:
        node = self.brokers.get(broker_id)
        return bool(self._rack) and node is not None and node.rack == self._rack

    def _view(self, topic: _Topic) -> KnownTopic:
        def nodes(ids: tuple[int, ...]) -> tuple[Node, ...]:
            # As Java: a replica on a broker that is not in the answer is shown without an address.
            return tuple(self.brokers.get(broker_id) or Node(broker_id, "", -1) for broker_id in ids)

        infos = tuple(
            PartitionInfo(
                topic.name, number, self.brokers.get(p.leader), nodes(p.replicas), nodes(p.isr), nodes(p.offline)
            )
            for number, p in enumerate(topic.partitions)
        )
        available = tuple(info.partition for info in infos if info.leader is not None)
        return KnownTopic(infos, tuple(range(len(infos))), available)

    def _replace_brokers(self, brokers: dict[int, Node]) -> None:
        if brokers != self.brokers:
            self.brokers = brokers
            for topic in self._topics.values():
                topic.view = None

    def _back_off(self, now_ms: float) -> None:
        self._not_before_ms = now_ms + self._backoff.delay_ms(self._failures, self._random)
        self._failures += 1

    def _idle_period_ms(self) -> float:
        return max(1_000.0, min(self._max_idle_ms, self._max_age_ms))


def _is_stale(partition: _Partition) -> bool:
    return METADATA_PARTITION.outcome(partition.error) is PartitionOutcome.STALE


def _in_order(answers: tuple[MetadataResponsePartition, ...], reliable_epochs: bool) -> tuple[_Partition, ...]:
    """Partitions by number; one that the answer leaves out has no leader.

    There are as many as the answer has: numbers are contiguous in Kafka, so that a nonsense number must not make us
    allocate, nor one that is repeated invent a partition.
    """
    found = {
        answer.partition_index: _Partition(
            answer.leader_id if answer.error_code == 0 or answer.leader_id >= 0 else -1,
            answer.leader_epoch if reliable_epochs else -1,
            answer.error_code,
            answer.replica_nodes,
            answer.isr_nodes,
            answer.offline_replicas,
        )
        for answer in answers
    }
    return tuple(found.get(number, _UNKNOWN_PARTITION) for number in range(len(found)))
