"""How fast do producers recover? One real Kafka behind the fault proxy, and a producer in a process of its own.

    python tools/chaos/recovery_run.py                      # `make recovery`: all faults, five seeds, both clients
    python tools/chaos/recovery_run.py --seeds 1 --clients penstock --faults reset,refused

Two kinds of runs:

* `reset`, `drop`, `mix`: 40,000 records at 20,000/s over three partitions, while each Produce request meets a fault with
  that chance. Printed: the time until every record is resolved, how many failed, how many faults there were; the median of
  the seeds by time.
* `refused`, `cut`, `frozen`: a steady load, and 100 faults of the whole broker one after the other. Printed: the time from
  the end of a fault to the first acknowledgment after it. The bound is one reconnect backoff (reconnect.backoff.max.ms,
  1,000 ms, at most) and three round trips.

All settings are the clients' defaults, but for idempotence (librdkafka's default is none) and a delivery timeout of 60 s.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "kafka"))

from fault_proxy import FaultProxy
from fault_rules import Plan, Rule, Target
from kafka_cluster import KafkaCluster

CLIENTS: Final = ("penstock", "confluent")
RECORDS: Final = 40_000
RATE: Final = 20_000
PARTITIONS: Final = 3
FAULTS: Final = 100
MIX: Final[tuple[dict[str, Any], ...]] = (
    {"reset": "request"},
    {"reset": "answer"},
    {"drop": "close"},
    {"close": True},
    {"error": 6},  # NOT_LEADER_OR_FOLLOWER
    {"error": 7, "after_append": True},  # REQUEST_TIMED_OUT
    {"answer_delay_ms": 50},
)
PER_REQUEST: Final[Mapping[str, tuple[float, tuple[dict[str, Any], ...]]]] = {
    "reset": (0.5, ({"reset": "request"},)),
    "drop": (0.5, ({"drop": "close"},)),
    "mix": (0.2, MIX),
}
WHOLE_BROKER: Final[Mapping[str, Callable[[FaultProxy], None]]] = {
    "refused": lambda proxy: (proxy.refuse(), proxy.sever())[0],
    "cut": lambda proxy: proxy.cut(),
    "frozen": lambda proxy: proxy.freeze(),
}
_WORKER: Final = Path(__file__).with_name("recovery_client.py")


class Chances(Plan):
    """Each Produce request meets one of `faults` with a chance, once it is `armed`."""

    def __init__(self, chance: float, faults: Sequence[Mapping[str, Any]], seed: int) -> None:
        super().__init__()
        self._random, self._chance, self._faults = Random(seed), chance, faults
        self.armed = False
        self.count = 0

    def take(self, api: str | None, node: int, targets: Callable[[], Iterable[Target]]) -> Rule | None:
        """The rule for a whole request."""
        if api != "Produce" or not self.armed or self._random.random() >= self._chance:
            return None
        self.count += 1
        return Rule(api="Produce", **self._random.choice(self._faults))


class Client:
    """A producer's process. It is told a line, and answers with one."""

    settings: ClassVar[Sequence[str]] = ()
    """`name=value`, for Penstock only."""

    def __init__(self, name: str, servers: str, topic: str) -> None:
        command = [sys.executable, str(_WORKER), name, servers, topic, str(PARTITIONS), *self.settings]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask("warm")

    def tell(self, what: str) -> None:
        """Begin something."""
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)

    def answer(self) -> Any:
        """The end of it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the client ended: {self._process.wait()}")
        return json.loads(line)

    def ask(self, what: str) -> Any:
        """Both."""
        self.tell(what)
        return self.answer()

    def end(self) -> None:
        """Let the process end."""
        self.tell("end")
        self._process.wait(60)


def per_request(kafka: KafkaCluster, fault: str, client: str, seed: int) -> dict[str, Any]:
    """One run under faults of single requests."""
    topic = f"{fault}-{client}-{seed}"
    kafka.create_topic(topic, PARTITIONS, 1)
    plan = Chances(*PER_REQUEST[fault], seed)
    with FaultProxy({node.node_id: node.address for node in kafka.nodes.values()}, plan) as proxy:
        worker = Client(client, proxy.bootstrap_servers, topic)
        plan.armed = True
        result: dict[str, Any] = worker.ask(f"run {RECORDS} {RATE}")
        plan.armed = False
        worker.end()
    return {**result, "faults": plan.count}


def whole_broker(kafka: KafkaCluster, fault: str, client: str, seed: int, faults: int) -> list[float]:
    """How long after the end of each fault the first acknowledgment came, ms."""
    topic = f"{fault}-{client}-{seed}"
    kafka.create_topic(topic, PARTITIONS, 1)
    random, healed = Random(seed), []
    with FaultProxy({node.node_id: node.address for node in kafka.nodes.values()}) as proxy:
        worker = Client(client, proxy.bootstrap_servers, topic)
        worker.tell("load")
        time.sleep(1)
        for _ in range(faults):
            WHOLE_BROKER[fault](proxy)
            time.sleep(random.uniform(0.02, 1.5))
            healed.append(time.monotonic())
            proxy.heal()
            time.sleep(1.5)
        acknowledged: list[float] = worker.ask("stop")
        worker.end()
    waits = []
    for at in healed:
        after = next((time_ for time_ in acknowledged if time_ > at), None)
        waits.append(float("inf") if after is None else 1000 * (after - at))
    return sorted(waits)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="recovery_run.py", description="Measure how fast producers recover.")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="runs of each (default 5)")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="comma-separated")
    parser.add_argument("--faults", default=",".join([*PER_REQUEST, *WHOLE_BROKER]), help="comma-separated")
    parser.add_argument("--count", type=int, default=FAULTS, help=f"faults of a whole broker (default {FAULTS})")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of Penstock's")
    arguments = parser.parse_args()
    Client.settings = arguments.set
    clients, faults = arguments.clients.split(","), arguments.faults.split(",")
    with KafkaCluster(heap_mb=512) as kafka:
        for fault in [name for name in faults if name in PER_REQUEST]:
            _rows(kafka, fault, clients, arguments.seeds)
        runs = [(fault, client) for fault in faults if fault in WHOLE_BROKER for client in clients]
        with ThreadPoolExecutor(len(runs) or 1) as pool:  # side by side: they mostly wait
            found = pool.map(lambda run: whole_broker(kafka, *run, 1, arguments.count), runs)
        for (fault, client), waits in zip(runs, found, strict=True):
            p99 = waits[max(0, math.ceil(0.99 * len(waits)) - 1)]
            print(
                f"{fault:8} {client:10} first acknowledgment after {statistics.median(waits):.1f} ms (median), "
                f"{p99:.1f} ms (p99), {waits[-1]:.1f} ms (worst of {len(waits)})",
                flush=True,
            )
    return 0


def _rows(kafka: KafkaCluster, fault: str, clients: Sequence[str], seeds: int) -> None:
    medians = {}
    found: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
    for seed in range(1, seeds + 1):  # by turns: the machine's moods meet all clients
        for client in clients:
            found[client].append(per_request(kafka, fault, client, seed))
    for client, results in found.items():
        middle = sorted(results, key=lambda result: result["seconds"])[len(results) // 2]
        medians[client] = middle["seconds"]
        every = ", ".join(f"{result['seconds']:.1f}" for result in results)
        failed = sum(result["failed"] for result in results)
        chance = PER_REQUEST[fault][0]
        print(
            f"{fault:5} {chance}  {client:10} {middle['seconds']:6.2f} s  {middle['faults']:4} faults  "
            f"{failed} of {RECORDS * seeds:,} failed  (all: {every} s)",
            flush=True,
        )
    if len(medians) == len(CLIENTS):
        print(f"{fault:5} {chance}  ratio      {medians['penstock'] / medians['confluent']:6.2f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
