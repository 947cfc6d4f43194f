"""The faults of the cluster, and their times."""

from __future__ import annotations

from collections.abc import Callable

from penstock.devbroker.producers import ProducerStates
from simulation.client import Client
from simulation.cluster import Cluster
from simulation.plan import Plan
from simulation.world import MS, S, World


class Nemesis:
    """Draws faults at the plan's rates until the faults must end."""

    def __init__(self, world: World, plan: Plan, cluster: Cluster, client: Client) -> None:
        self._world = world
        self._plan = plan
        self._cluster = cluster
        self._client = client
        self._down: set[int] = set()

    def start(self) -> None:
        """Start drawing."""
        rates = self._plan.rates
        for rate, accident in (
            (rates.moves_per_s, self._move),
            (rates.crashes_per_s, self._crash),
            (rates.freezes_per_s, self._freeze),
            (rates.cuts_per_s, self._cut),
            (rates.stale_views_per_s, self._stale),
            (rates.recreations_per_s, self._recreate),
            (rates.growths_per_s, self._grow),
            (rates.forgotten_producers_per_s, self._forget_producers),
        ):
            if rate:
                self._again(rate, accident)

    def _again(self, per_s: float, accident: Callable[[], None]) -> None:
        def happen() -> None:
            if self._world.now_us < self._plan.calm_ms * MS:
                accident()
                self._again(per_s, accident)

        self._world.after(self._world.spread(S / per_s), happen)

    def calm_down(self) -> None:
        """Mend everything."""
        self._cluster.calm = True
        for node in self._cluster.nodes.values():
            node.frozen_until_us = node.cut_until_us = node.stale_until_us = 0
        for node_id in sorted(self._down):
            self._come_back(node_id)
        for name, partitions in self._plan.topics.items():
            if name not in self._cluster.state.topics:
                self._cluster.create(name, partitions)

    def _duration_us(self) -> int:
        return self._world.random.choice([10 * MS, 300 * MS, 1 * S, 4 * S])

    def _a_node(self) -> int:
        return self._world.random.choice(sorted(self._cluster.nodes))

    def _move(self) -> None:
        partitions = [p for p in self._cluster.partitions() if len(self._cluster.state.in_sync(p)) > 1]
        some = partitions if self._world.chance(0.2) else partitions[:1] and [self._world.random.choice(partitions)]
        for partition in some:
            others = [node for node in self._cluster.state.in_sync(partition) if node != partition.leader]
            if others:
                node_id = self._world.random.choice(others)
                self._cluster.move(partition, node_id)
                self._world.note(f"{partition.topic}-{partition.index} moves to node {node_id}")

    def _crash(self) -> None:
        node_id = self._a_node()
        if node_id in self._down or len(self._down) >= max(1, (len(self._cluster.nodes) - 1) // 2):
            return
        self._world.note(f"node {node_id} crashes")
        self._down.add(node_id)
        self._cluster.stop(node_id)
        self._client.network.node_crashed(node_id)
        self._world.after(self._duration_us(), lambda: self._come_back(node_id))

    def _come_back(self, node_id: int) -> None:
        if node_id in self._down:
            self._world.note(f"node {node_id} is back")
            self._down.discard(node_id)
            self._cluster.start(node_id)

    def _freeze(self) -> None:
        node_id, length_us = self._a_node(), self._duration_us()
        self._world.note(f"node {node_id} freezes for {length_us // MS} ms")
        self._cluster.nodes[node_id].frozen_until_us = self._world.now_us + length_us

    def _cut(self) -> None:
        node_id, length_us = self._a_node(), self._duration_us()
        self._world.note(f"node {node_id} is cut off for {length_us // MS} ms")
        self._cluster.nodes[node_id].cut_until_us = self._world.now_us + length_us

    def _stale(self) -> None:
        node = self._cluster.nodes[self._a_node()]
        node.stale_view, node.stale_ids = self._cluster.view(), self._cluster.ids()
        node.stale_until_us = self._world.now_us + self._duration_us()

    def _recreate(self) -> None:
        names = sorted(self._cluster.state.topics)
        if not names:
            return
        name = self._world.random.choice(names)
        self._world.note(f"{name} is deleted")
        partitions = self._cluster.delete(name)

        def create() -> None:
            if self._down:  # too few nodes for the replicas
                self._world.after(50 * MS, create)
            elif name not in self._cluster.state.topics:
                self._world.note(f"{name} is back")
                self._cluster.create(name, partitions)

        self._world.after(self._world.random.choice([1, 200 * MS, 1 * S]), create)

    def _grow(self) -> None:
        names = sorted(self._cluster.state.topics)
        if names:
            name = self._world.random.choice(names)
            total = len(self._cluster.state.topics[name].partitions) + 1
            if total <= 8 and not self._down:
                self._world.note(f"{name} has {total} partitions now")
                self._cluster.state.add_partitions(name, total)

    def _forget_producers(self) -> None:
        """A broker that lost its producer state; only while nothing is in flight, since Kafka guarantees no more."""
        if self._client.engine.unresolved_records() == 0:
            for partition in self._cluster.partitions():
                partition.log.producers = ProducerStates()
            self._world.note("all partitions forget their producers")
