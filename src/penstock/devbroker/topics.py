"""Topics and partitions of a cluster."""

import asyncio
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from penstock.devbroker.log import PartitionLog
from penstock.devbroker.topic_config import TopicSettings

NO_LEADER: Final = -1


@dataclass(slots=True, eq=False)
class Partition:
    """One partition. All nodes share its log: only the leader changes."""

    topic: str
    index: int
    log: PartitionLog
    replicas: tuple[int, ...]
    leader: int
    leader_epoch: int
    waiters: set[asyncio.Event] = field(default_factory=set)
    """Fetches that wait for records, or for another change of their answer."""

    def __post_init__(self) -> None:
        """A leader's epoch starts when it becomes leader, not with its first batch."""
        if self.leader != NO_LEADER:
            self.log.epochs.note(self.leader_epoch, self.log.end_offset)

    def wake(self) -> None:
        """Let the waiting fetches read again."""
        for waiter in self.waiters:
            waiter.set()

    def lead(self, node: int) -> None:
        """Make `node` (or `NO_LEADER`) the leader, in a new epoch."""
        self.leader = node
        self.leader_epoch += 1
        if node != NO_LEADER:
            self.log.epochs.note(self.leader_epoch, self.log.end_offset)
        self.wake()


@dataclass(slots=True, eq=False)
class Topic:
    """One topic; `configs` are its own settings, `settings` the effective ones."""

    name: str
    topic_id: uuid.UUID
    configs: dict[str, str]
    settings: TopicSettings
    partitions: list[Partition]

    def partition(self, index: int) -> Partition | None:
        """The partition with that number, None if there is none."""
        return self.partitions[index] if 0 <= index < len(self.partitions) else None


@dataclass(slots=True)
class NodeInfo:
    """A broker as announced in metadata."""

    node_id: int
    host: str
    port: int
    rack: str | None = None
    alive: bool = False


def new_topic_id() -> uuid.UUID:
    """A random id."""
    return uuid.uuid4()


def first_alive(replicas: Iterable[int], alive: Iterable[int]) -> int:
    """The first of `replicas` that is alive, `NO_LEADER` if none is."""
    living = set(alive)
    return next((node for node in replicas if node in living), NO_LEADER)
