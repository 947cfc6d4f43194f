"""The cluster's state: its nodes, topics, leaders and producer ids. It has no sockets and awaits nothing.

All nodes share this state and its logs, as if replication and the controller took no time.
"""

import logging
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from penstock.devbroker import placement
from penstock.devbroker.disk import DataFolder, Json, MemoryFolder
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Faults, Requests
from penstock.devbroker.log import PartitionLog
from penstock.devbroker.settings import BrokerSettings
from penstock.devbroker.topic_config import SETTINGS, check_settings, derive
from penstock.devbroker.topics import NO_LEADER, NodeInfo, Partition, Topic, first_alive, new_topic_id

logger = logging.getLogger(__name__)

PRODUCER_ID_BLOCK: Final = 1000
"""Producer ids are reserved on disk in blocks, so that none is assigned twice, even after a crash."""


class ClusterState:
    """The state that all nodes of a cluster share."""

    def __init__(self, settings: BrokerSettings) -> None:
        """Opens the data folder, if any, and recovers its logs."""
        self.settings = settings
        self.faults = Faults()
        self.requests = Requests()
        self.nodes: dict[int, NodeInfo] = {
            number: NodeInfo(number, settings.advertised_host or settings.host, 0, settings.rack_of(number))
            for number in range(1, settings.nodes + 1)
        }
        self.topics: dict[str, Topic] = {}
        self._by_id: dict[uuid.UUID, Topic] = {}
        self._collisions: dict[str, str] = {}
        self._next_first = 0
        self._folder = MemoryFolder() if settings.data_dir is None else DataFolder(Path(settings.data_dir))
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    # Nodes.

    @property
    def alive(self) -> list[int]:
        """The running nodes, in ascending order."""
        return [node.node_id for node in self.nodes.values() if node.alive]

    @property
    def controller(self) -> int:
        """The node that is announced as controller; any node could be."""
        return min(self.alive, default=-1)

    def in_sync(self, partition: Partition) -> tuple[int, ...]:
        """The replicas on running nodes."""
        return tuple(node for node in partition.replicas if self.nodes[node].alive)

    def nodes_started(self, ports: Mapping[int, int]) -> None:
        """These nodes run on these ports; they become leaders of the partitions without a leader only."""
        for node_id, port in ports.items():
            self.nodes[node_id].port = port
            self.nodes[node_id].alive = True
        alive = self.alive
        leaders = {partition: first_alive(partition.replicas, alive) for partition in self._led_by(NO_LEADER)}
        self._move({partition: leader for partition, leader in leaders.items() if leader != NO_LEADER})

    def node_stopped(self, node_id: int) -> None:
        """The node stops; other replicas take over its partitions."""
        self.nodes[node_id].alive = False
        alive = self.alive
        self._move({partition: first_alive(partition.replicas, alive) for partition in self._led_by(node_id)})

    def _led_by(self, node_id: int) -> list[Partition]:
        return [
            partition for topic in self.topics.values() for partition in topic.partitions if partition.leader == node_id
        ]

    def move_leaders(self, moves: Mapping[tuple[str, int], int]) -> None:
        """Make each node the leader of a (topic, partition), in a new epoch.

        Raises `ValueError` if there is no such partition, or if the node is not one of its running replicas.
        """
        chosen: dict[Partition, int] = {}
        for (name, index), node_id in moves.items():
            partition = self.topics[name].partition(index) if name in self.topics else None
            if partition is None:
                raise ValueError(f"there is no partition {name}-{index}")
            if node_id not in self.in_sync(partition):
                raise ValueError(
                    f"node {node_id} is not a running replica of {name}-{index}: {self.in_sync(partition)}"
                )
            chosen[partition] = node_id
        self._move(chosen)

    def _move(self, moves: Mapping[Partition, int]) -> None:
        for partition, node_id in moves.items():
            partition.lead(node_id)
        # One file per topic, written once, however many partitions moved.
        for name in dict.fromkeys(partition.topic for partition in moves):
            self._save_topic(self.topics[name])

    # Topics.

    def topic_by_id(self, topic_id: uuid.UUID) -> Topic | None:
        """The topic with that id, None if there is none."""
        return self._by_id.get(topic_id)

    def create_topic(
        self,
        name: str,
        partitions: int = -1,
        replication_factor: int = -1,
        configs: Mapping[str, str | None] | None = None,
        assignment: Sequence[tuple[int, ...]] | None = None,
        *,
        validate_only: bool = False,
    ) -> Topic:
        """Create a topic; -1 stands for the broker's default. Raises `RequestError` as Kafka does.

        `assignment`: the replicas of each partition, instead of numbers. The topic exists only if not `validate_only`.
        """
        placement.check_name(name)
        if name in self.topics:
            raise RequestError(ErrorCode.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        other = self._collisions.get(placement.collision_key(name))
        if other is not None:
            raise RequestError(
                ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic '{name}' collides with existing topic: {other}"
            )
        replicas = self._replicas_for(partitions, replication_factor, assignment)
        checked = check_settings(configs or {})
        settings = derive(self.settings.topic_defaults, checked, sync_always=self.settings.fsync == "always")
        topic = Topic(name, new_topic_id(), checked, settings, [])
        topic.partitions = self._partitions(topic, 0, replicas)
        if not validate_only:
            for setting in checked:
                if not SETTINGS[setting].applied:
                    logger.info("topic %s: %s is stored and described, but has no effect", name, setting)
            self._save_topic(topic)
            self._add(topic)
            self._next_first += 1
        return topic

    def _replicas_for(
        self, partitions: int, replication_factor: int, assignment: Sequence[tuple[int, ...]] | None
    ) -> list[tuple[int, ...]]:
        if assignment is not None:
            placement.check_assignment(assignment, list(self.nodes))
            return list(assignment)
        if partitions == -1:
            partitions = self.settings.num_partitions
        if replication_factor == -1:
            replication_factor = self.settings.replication_factor
        if replication_factor <= 0:
            raise RequestError(ErrorCode.INVALID_REPLICATION_FACTOR, "Replication factor must be larger than 0.")
        if partitions <= 0:
            raise RequestError(ErrorCode.INVALID_PARTITIONS, "Number of partitions was set to an invalid value.")
        return placement.place(range(partitions), replication_factor, self.alive, self._next_first)

    def add_partitions(
        self,
        name: str,
        total: int,
        assignment: Sequence[tuple[int, ...]] | None = None,
        *,
        validate_only: bool = False,
    ) -> None:
        """Increase the number of partitions to `total`. Raises `RequestError` as Kafka does."""
        topic = self.topics.get(name)
        if topic is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "")
        count = len(topic.partitions)
        if total <= count:
            raise RequestError(
                ErrorCode.INVALID_PARTITIONS, f"The topic has {count} partitions, {total} were requested."
            )
        factor = len(topic.partitions[0].replicas)
        if assignment is None:
            replicas = placement.place(range(count, total), factor, self.alive, self._next_first)
        else:
            if len(assignment) != total - count:
                raise RequestError(
                    ErrorCode.INVALID_REPLICA_ASSIGNMENT,
                    f"{total - count} partitions are to be added, {len(assignment)} assignments are given",
                )
            placement.check_assignment(assignment, list(self.nodes), factor)
            replicas = list(assignment)
        if not validate_only:
            topic.partitions += self._partitions(topic, count, replicas)
            self._save_topic(topic)

    def delete_topic(self, topic: Topic) -> None:
        """Remove the topic and its records."""
        del self.topics[topic.name], self._by_id[topic.topic_id], self._collisions[placement.collision_key(topic.name)]
        for partition in topic.partitions:
            partition.log.delete()
            partition.wake()
        self._folder.delete_topic(topic.name)

    def _partitions(self, topic: Topic, first: int, replicas: Iterable[tuple[int, ...]]) -> list[Partition]:
        alive = self.alive
        return [
            Partition(topic.name, index, self._log(topic, index), nodes, first_alive(nodes, alive), 0)
            for index, nodes in enumerate(replicas, first)
        ]

    def _log(self, topic: Topic, index: int) -> PartitionLog:
        return PartitionLog(f"{topic.name}-{index}", self._folder.segments(topic.name, index), topic.settings.log)

    def _add(self, topic: Topic) -> None:
        self.topics[topic.name] = topic
        self._by_id[topic.topic_id] = topic
        self._collisions[placement.collision_key(topic.name)] = topic.name

    # Producer ids.

    def next_producer_id(self) -> int:
        """A producer id that was never assigned."""
        if self._producer_id == self._producer_ids_reserved:
            self._producer_ids_reserved += PRODUCER_ID_BLOCK
            self._save_cluster()
        self._producer_id += 1
        return self._producer_id - 1

    # Opening and closing.

    def _load(self) -> None:
        values = self._folder.load_cluster() or {}
        self.cluster_id = str(values.get("cluster_id") or uuid.uuid4().hex[:22])
        self._producer_id = self._producer_ids_reserved = int(values.get("producer_ids_reserved", 0))
        self._save_cluster()
        for name, topic_values in self._folder.load_topics():
            self._load_topic(name, topic_values)

    def _load_topic(self, name: str, values: Json) -> None:
        configs = {str(key): str(value) for key, value in values["configs"].items()}
        settings = derive(self.settings.topic_defaults, configs, sync_always=self.settings.fsync == "always")
        topic = Topic(name, uuid.UUID(values["topic_id"]), configs, settings, [])
        for index, entry in enumerate(values["partitions"]):
            # The cluster may have fewer nodes than before.
            replicas = tuple(node for node in entry["replicas"] if node in self.nodes) or (index % len(self.nodes) + 1,)
            # Its nodes have not started yet. When they start, each partition gets a leader in a new epoch, as in Kafka.
            log = self._log(topic, index)
            topic.partitions.append(Partition(name, index, log, replicas, NO_LEADER, int(entry["leader_epoch"])))
        self._add(topic)
        self._next_first += 1

    def _save_cluster(self) -> None:
        self._folder.save_cluster({"cluster_id": self.cluster_id, "producer_ids_reserved": self._producer_ids_reserved})

    def _save_topic(self, topic: Topic) -> None:
        partitions = [
            {"replicas": list(partition.replicas), "leader": partition.leader, "leader_epoch": partition.leader_epoch}
            for partition in topic.partitions
        ]
        values = {"topic_id": str(topic.topic_id), "configs": topic.configs, "partitions": partitions}
        self._folder.save_topic(topic.name, values)

    def sync(self) -> None:
        """Flush all logs to disk."""
        for topic in self.topics.values():
            for partition in topic.partitions:
                partition.log.sync()

    def close(self) -> None:
        """Flush all logs to disk and close all files."""
        for topic in self.topics.values():
            for partition in topic.partitions:
                partition.log.close()
        self._folder.close()
