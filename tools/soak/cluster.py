"""The second process of the soak: an embedded cluster of three nodes, with faults while they are enabled.

    python tools/soak/cluster.py SEED

It prints its bootstrap.servers, then obeys one word per line on stdin and answers with the same word: ``storm`` (begin
faults, chosen by the seed), ``calm`` (end them: all nodes are up, pending faults are removed). The end of stdin ends it.
"""

from __future__ import annotations

import sys
import threading
from random import Random
from typing import Final

from penstock.devbroker import DevCluster, RunningCluster

NODES: Final = 3
TOPICS: Final = {"idempotent": 6, "plain": 6, "brief": 3}
_PAUSE_S: Final = (0.05, 0.4)
# Errors from which a producer recovers: moved leaders, missing replicas, timeouts, storage, coordinators.
_RETRIABLE: Final = (3, 5, 6, 7, 9, 19, 56, 74, 75)
_AFTER_APPEND: Final = (7, 20)
# Errors that fail a batch at once: a refused record, a missing permission.
_FINAL: Final = (29, 87)


class Storm:
    """A thread that adds faults until it is stopped."""

    def __init__(self, cluster: RunningCluster, random: Random) -> None:
        """Calm."""
        self._cluster = cluster
        self._random = random
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._down: int | None = None

    def begin(self) -> None:
        """Begin the faults."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="storm")
            self._thread.start()

    def end(self) -> None:
        """End the faults."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self._cluster.faults.clear()
        self._revive()
        # Every broker leads a partition again, so that an idle producer always has the same connections.
        self._cluster.move_leaders(
            {(topic, part): part % NODES + 1 for topic, count in TOPICS.items() for part in range(count)}
        )

    def _run(self) -> None:
        while not self._stop.wait(self._random.uniform(*_PAUSE_S)):
            self._one()

    def _revive(self) -> None:
        if self._down is not None:
            self._cluster.start_node(self._down)
            self._down = None

    def _one(self) -> None:
        random, faults = self._random, self._cluster.faults
        if len(faults.pending) > 20:  # faults that match no request must not pile up
            faults.clear()
        kinds = ("error", "after", "lost", "silent", "close", "throttle", "delay", "move", "node", "control", "final")
        match random.choices(kinds, (8, 3, 4, 2, 4, 4, 4, 5, 1, 4, 1))[0]:
            case "error":
                faults.add("Produce", error=random.choice(_RETRIABLE), times=random.randint(1, 4))
            case "after":
                faults.add("Produce", error=random.choice(_AFTER_APPEND), after_append=True)
            case "lost":
                faults.add("Produce", drop="close")
            case "silent":
                faults.add("Produce", drop="silent")
            case "close":
                faults.add(node=random.randint(1, NODES), close=True)
            case "throttle":
                faults.add("Produce", throttle_time_ms=random.randint(1, 300), times=random.randint(1, 3))
            case "delay":
                faults.add("Produce", delay_ms=random.randint(1, 500))
            case "move":
                topic = random.choice(sorted(TOPICS))
                leaders = self._cluster.leaders(topic)
                up = [node for node in range(1, NODES + 1) if node != self._down]
                moves = {(topic, part): random.choice(up) for part in leaders if random.random() < 0.5}
                self._cluster.move_leaders(moves)
            case "node":
                if self._down is None:
                    self._down = random.randint(1, NODES)
                    self._cluster.stop_node(self._down)
                else:
                    self._revive()
            case "control":
                api = random.choice(("Metadata", "InitProducerId", "ApiVersions"))
                faults.add(api, drop=random.choice(("close", "silent")))
            case "final":
                faults.add("Produce", error=random.choice(_FINAL))


def main() -> None:
    """See the module."""
    random = Random(int(sys.argv[1]))
    with DevCluster.running(nodes=NODES, segment_bytes=1 << 20, retention_bytes=4 << 20) as cluster:
        for name, partitions in TOPICS.items():
            cluster.create_topic(name, partitions)
        storm = Storm(cluster, random)
        print(cluster.bootstrap_servers, flush=True)
        for line in sys.stdin:
            (storm.begin if line.strip() == "storm" else storm.end)()
            print(line.strip(), flush=True)
        storm.end()


if __name__ == "__main__":
    main()
