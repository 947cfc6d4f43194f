"""The nemesis: carries out the schedule's faults on a cluster, through signals, requests and the fault proxy."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import kafka_wire
from chaos_schedule import Step
from fault_proxy import FaultProxy
from fault_rules import Rule
from kafka_cluster import KafkaCluster

REPLICAS = 3
MIN_INSYNC = 2
_DEADLINE_S = 60.0


class Nemesis:
    """Carries out steps, one after the other.

    Args:
        topics: name → number of partitions.
        fickle: the topic that is deleted and created again.
        on_recreated: called when every broker has the new topic and none has the old one.
    """

    def __init__(
        self,
        cluster: KafkaCluster,
        proxy: FaultProxy,
        topics: Mapping[str, int],
        fickle: str,
        on_recreated: Callable[[], object],
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._cluster, self._proxy, self._topics, self._fickle = cluster, proxy, topics, fickle
        self._on_recreated, self._say = on_recreated, say
        self._turns = 0
        self.done: Counter[str] = Counter()
        """The number of steps that were carried out, by kind."""

    def run(self, schedule: Iterator[Step], enough: Callable[[int], bool]) -> None:
        """Run steps until `enough(steps done)`."""
        interrupted = threading.Event()
        for step in schedule:
            if enough(sum(self.done.values())):
                return
            interrupted.wait(step.pause_s)
            self._say(str(step))
            getattr(self, f"_{step.kind}")(step)
            self.done[step.kind] += 1

    def create_topics(self) -> None:
        """Three replicas each; acknowledged records are on at least two."""
        for name in self._topics:
            self._create(name)

    def heal(self) -> None:
        """All brokers run, no fault is active, and every replica is in sync."""
        self._proxy.plan.clear()
        self._proxy.heal()
        for node_id, node in self._cluster.nodes.items():
            if node.running:
                self._cluster.resume(node_id)
            else:
                self._cluster.restart(node_id)
        for topic, partitions in self._topics.items():
            self._reassign(topic, {number: self._replicas(number) for number in range(partitions)})
            self._await_in_sync(topic, self._factor)

    # ------------------------------------------------------------------------------------------------------- network faults

    def _burst(self, step: Step) -> None:
        self._proxy.plan.extend(Rule(**rule) for rule in step.rules)

    def _cut(self, step: Step) -> None:
        self._proxy.cut(step.node)
        self._last(step)
        self._proxy.heal()

    def _freeze(self, step: Step) -> None:
        self._proxy.freeze(step.node)
        self._last(step)
        self._proxy.heal()

    def _unplug(self, step: Step) -> None:
        self._proxy.refuse(step.node)
        self._proxy.sever(step.node)
        self._last(step)
        self._proxy.heal()

    def _blackout(self, step: Step) -> None:
        self._proxy.cut()
        self._last(step)
        self._proxy.heal()

    # ------------------------------------------------------------------------------------------------------------- processes

    def _kill(self, step: Step) -> None:
        node = self._leader(step)
        self._cluster.kill(node)
        self._last(step)
        self._cluster.restart(node)

    def _restart(self, step: Step) -> None:
        self._cluster.shutdown(step.node)
        self._cluster.restart(step.node)

    def _roll(self, _step: Step) -> None:
        for node in self._cluster.nodes:
            # As an operator would do it: the next one only when all replicas are in sync again.
            for topic in self._topics:
                self._await_in_sync(topic, self._factor)
            self._cluster.shutdown(node)
            self._cluster.restart(node)

    def _pause(self, step: Step) -> None:
        self._cluster.pause(step.node)
        try:
            self._last(step)
        finally:
            self._cluster.resume(step.node)

    # ---------------------------------------------------------------------------------------------------------------- topics

    def _move(self, _step: Step) -> None:
        """Other preferred leaders, which take over at once if they are in sync."""
        self._turns += 1
        for topic, partitions in self._topics.items():
            self._reassign(topic, {number: self._replicas(number) for number in range(partitions)})
            with contextlib.suppress(OSError, kafka_wire.WireError):
                kafka_wire.elect_preferred_leaders(self._address(), topic, range(partitions))

    def _evict(self, step: Step) -> None:
        """Records that wait for replicas at the old leader fail with NOT_LEADER_OR_FOLLOWER, whether appended or not."""
        topic = next(iter(self._topics))
        partition = step.partition % self._topics[topic]
        leader = self._leader(step)
        others = [node for node in self._replicas(partition) if node != leader]
        self._reassign(topic, {partition: others})
        with contextlib.suppress(TimeoutError):  # it may wait for a replica that is not in sync; then it is cancelled
            self._await(lambda: self._in_sync(topic)[partition] and self._leader(step) != leader, "no new leader", 15)
        self._reassign(topic, {partition: self._replicas(partition)})

    def _recreate(self, _step: Step) -> None:
        self._await(lambda: all(map(self._serves, self._cluster.nodes)), "a broker does not answer")
        kafka_wire.delete_topic(self._address(), self._fickle)
        self._await(
            lambda: (
                not any(
                    self._fickle in kafka_wire.metadata(node.address, [self._fickle]).topics
                    for node in self._cluster.nodes.values()
                )
            ),
            f"{self._fickle} is not deleted everywhere",
        )
        self._create(self._fickle)
        self._on_recreated()

    # --------------------------------------------------------------------------------------------------------------- helpers

    @property
    def _factor(self) -> int:
        return min(REPLICAS, len(self._cluster.nodes))

    def _create(self, name: str) -> None:
        config = {"min.insync.replicas": str(min(MIN_INSYNC, self._factor)), "unclean.leader.election.enable": "false"}
        self._cluster.create_topic(name, self._topics[name], self._factor, config)

    def _last(self, step: Step) -> None:
        time.sleep(step.lasting_s)

    def _replicas(self, partition: int) -> list[int]:
        """In the order of preference, which `move` reverses."""
        nodes = sorted(self._cluster.nodes)
        first = (partition + self._turns) % len(nodes)
        return (nodes[first:] + nodes[:first])[: self._factor]

    def _leader(self, step: Step) -> int:
        topic, partitions = next(iter(self._topics.items()))
        leader = self._cluster.leaders(topic).get(step.partition % partitions, -1)
        return leader if leader in self._cluster.nodes else 1 + step.partition % len(self._cluster.nodes)

    def _address(self) -> tuple[str, int]:
        for node in self._cluster.nodes.values():
            if node.running and self._serves(node.node_id):
                return node.address
        return self._cluster.nodes[1].address

    def _serves(self, node: int) -> bool:
        try:
            kafka_wire.api_versions(self._cluster.nodes[node].address, timeout_s=2)
        except (OSError, kafka_wire.WireError):
            return False
        return True

    def _await_in_sync(self, topic: str, replicas: int) -> None:
        def enough() -> bool:
            found = self._in_sync(topic)
            return len(found) == self._topics[topic] and all(len(nodes) >= replicas for nodes in found.values())

        self._await(enough, f"{topic}: some partitions have fewer than {replicas} replicas in sync")

    def _in_sync(self, topic: str) -> dict[int, tuple[int, ...]]:
        view = kafka_wire.metadata(self._address(), [topic])
        return {partition.index: partition.in_sync for partition in view.topics.get(topic, [])}

    def _reassign(self, topic: str, replicas: Mapping[int, list[int]]) -> None:
        """A controller that is being elected refuses it: repeat until it is accepted."""

        def accepted() -> bool:
            kafka_wire.reassign(self._address(), topic, replicas, timeout_s=5)
            return True

        self._await(accepted, f"{topic} is not reassigned")

    def _await(self, condition: Callable[[], object], problem: str, timeout_s: float = _DEADLINE_S) -> None:
        deadline = time.monotonic() + timeout_s
        last: Exception | None = None
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except (OSError, KeyError, kafka_wire.WireError) as error:
                last = error
            time.sleep(0.1)
        raise TimeoutError(f"after {timeout_s:g} s: {problem}" + (f" ({last})" if last else ""))
