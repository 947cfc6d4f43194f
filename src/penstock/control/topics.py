"""One topic as the newest answers show it: its partitions, leaders and epochs.

* Leaders never go back: a partition whose answer carries an older leader epoch than the known one, under the same topic id,
  keeps its known leader (Java's `Metadata.updateLatestMetadata`). A new topic id (a first one, too) starts epochs again.
* A hint of a Produce answer (KIP-951) counts if its epoch is newer and its broker has an address.
"""

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from penstock import errors
from penstock.control.boundary import FailTopic, PartitionLeader, SetTopic, Trouble
from penstock.control.cluster_view import KnownTopic, Node, PartitionInfo
from penstock.control.error_table import METADATA_PARTITION, METADATA_TOPIC, PartitionOutcome, TopicOutcome
from penstock.protocol.messages.metadata import MetadataResponsePartition, MetadataResponseTopic

NO_ID: Final = bytes(16)
_LEADER_NOT_AVAILABLE: Final = 5


class Partition(NamedTuple):
    """One partition; brokers are ids."""

    leader: int
    epoch: int
    error: int
    replicas: tuple[int, ...]
    isr: tuple[int, ...]
    offline: tuple[int, ...]

    def is_stale(self) -> bool:
        """Whether the answer makes another request necessary."""
        return self.leader < 0 or METADATA_PARTITION.outcome(self.error) is PartitionOutcome.STALE


_UNKNOWN_PARTITION: Final = Partition(-1, -1, _LEADER_NOT_AVAILABLE, (), (), ())


class Topic:
    """A topic that is wanted or known. Times are milliseconds on the engine's clock."""

    def __init__(self, name: str, now_ms: float) -> None:
        """Wanted for the first time."""
        self.name = name
        self.wanted_at_ms = now_ms  # the last time
        self.wanted = True  # no final error has come since
        self.wanted_partition = -1  # beyond those known; -1: any
        self.requested = False  # at least once
        self.id = NO_ID
        self.version = 0  # of the last snapshot; 0: none yet
        self.partitions: tuple[Partition, ...] = ()
        self.error = 0
        self.fresh = False  # the last answer was plain success, no leader missing
        self._view: KnownTopic | None = None  # made at its first use after a change

    def want(self, partition: int, now_ms: float) -> None:
        """A call waits for it, or for a partition of it (-1: any)."""
        self.wanted_at_ms, self.wanted = now_ms, True
        self.wanted_partition = partition if partition >= len(self.partitions) else -1

    def is_incomplete(self) -> bool:
        """Whether nothing is known of it, or not the wanted partition."""
        return self.version == 0 or self.wanted_partition >= len(self.partitions)

    def take(self, answer: MetadataResponseTopic, *, reliable_epochs: bool) -> FailTopic | bool:
        """Take an answer: the error, or whether the data plane needs a new snapshot."""
        failed_before = self.error != 0
        self.error = answer.error_code or (0 if answer.partitions else _LEADER_NOT_AVAILABLE)
        self.fresh = False
        outcome = METADATA_TOPIC.outcome(self.error)
        if outcome is not TopicOutcome.TAKE:
            final = outcome is TopicOutcome.REFUSE
            # After a final error it is requested again only if a call needs it again.
            self.wanted = not final
            return FailTopic(self.name, Trouble(self.error, errors.error_name(self.error)), final)
        topic_id = answer.topic_id.bytes
        if topic_id == NO_ID:
            topic_id = self.id  # an older broker has no ids; the known one stays
        # A first id counts as another one: before it, nothing shows whether the topic was created again (as Java).
        recreated = self.id != topic_id
        partitions = _in_order(answer.partitions, reliable_epochs)
        if not recreated:
            partitions = tuple(self._newer(number, new) for number, new in enumerate(partitions))
        self.fresh = not any(partition.is_stale() for partition in partitions)
        if self.wanted_partition < len(partitions):
            self.wanted_partition = -1
        unchanged = self.version > 0 and not recreated and self.partitions == partitions
        self.id, self.partitions, self._view = topic_id, partitions, None
        # The data plane has an unchanged one; but after an error it needs a snapshot, which ends the error.
        return not (unchanged and self.fresh and not failed_before)

    def _newer(self, number: int, new: Partition) -> Partition:
        known = self.partitions[number] if number < len(self.partitions) else new
        return known if known.epoch > new.epoch >= 0 else new

    def take_hints(self, hints: Mapping[int, tuple[int, int]], brokers: Mapping[int, Node]) -> bool:
        """Newer leaders, as partition → (leader, epoch): whether any of them changed something."""
        partitions = list(self.partitions)
        for number, (leader, epoch) in hints.items():
            if not 0 <= number < len(partitions) or leader not in brokers:
                continue  # Java ignores a leader without a known address, too
            if epoch > partitions[number].epoch:
                partitions[number] = partitions[number]._replace(leader=leader, epoch=epoch, error=0)
        changed = tuple(partitions) != self.partitions
        self.partitions = tuple(partitions)
        return changed

    def reset(self) -> None:
        """Another cluster answers: nothing that is known of leaders holds there."""
        self.id, self.partitions = NO_ID, ()

    def snapshot(self, version: int, is_local: Callable[[int], bool]) -> SetTopic:
        """For the data plane; `is_local`: whether a broker is in client.rack."""
        self.version = version
        self._view = None
        leaders = tuple(PartitionLeader(p.leader, p.epoch, is_local(p.leader)) for p in self.partitions)
        return SetTopic(self.name, self.id, version, leaders)

    def view(self, brokers: Mapping[int, Node]) -> KnownTopic:
        """For the application."""
        self._view = self._view or self._make_view(brokers)
        return self._view

    def brokers_changed(self) -> None:
        """The next view has other addresses."""
        self._view = None

    def _make_view(self, brokers: Mapping[int, Node]) -> KnownTopic:
        def nodes(ids: tuple[int, ...]) -> tuple[Node, ...]:
            # As Java: a replica on a broker that is not in the answer is shown without an address.
            return tuple(brokers.get(broker_id) or Node(broker_id, "", -1) for broker_id in ids)

        infos = tuple(
            PartitionInfo(self.name, number, brokers.get(p.leader), nodes(p.replicas), nodes(p.isr), nodes(p.offline))
            for number, p in enumerate(self.partitions)
        )
        available = tuple(info.partition for info in infos if info.leader is not None)
        return KnownTopic(infos, tuple(range(len(infos))), available)


def _in_order(answers: tuple[MetadataResponsePartition, ...], reliable_epochs: bool) -> tuple[Partition, ...]:
    """Partitions by number; one that the answer leaves out has no leader.

    There are as many as the answer has. Numbers are contiguous in Kafka, so that a broken number must not make us allocate
    memory, nor a repeated one add a partition.
    """
    found = {
        answer.partition_index: Partition(
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
