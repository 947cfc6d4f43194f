"""Chaos: three real Kafka brokers behind the fault proxy, several producers, a nemesis, a foreign consumer, an oracle.

    python tools/chaos/chaos_run.py --seconds 300 --seed 7      # `make chaos` with CHAOS_SECONDS and SEED
    python tools/chaos/chaos_run.py --seed 7 --plan 20          # only print the nemesis' steps

Ends with a report, and with status 1 if a guarantee was broken: one of the oracle's, a future later than
delivery.timeout.ms plus the tolerance, or a producer that does not recover after the cluster. The plan follows from the
seed; its effect on the records depends on the machine's pace, too.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, Final

# The cluster's harness and the oracle, which are not installed packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools" / "kafka"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

from chaos_nemesis import Nemesis
from chaos_schedule import DECK, deck_of, steps
from chaos_traffic import COMMON, COMPRESSED, IN_BULK, IN_LOOPS, TEMPERS, Figures, LoopProducer, Sender, figures, parse
from fault_proxy import FaultProxy
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer
from support.judges import read_with_confluent
from support.oracle import Logged, Reported, Verdict, judge
from support.oracle import Outcome as Word

TOPICS: Final = {"orders": 6, "clicks": 3, "fickle": 2}
FICKLE: Final = "fickle"
RECOVERY_S: Final = 120.0
"""How long a producer may take to recover in a healthy cluster."""
READ_S: Final = 300.0
HEAP_MB: Final = 320


@dataclasses.dataclass(slots=True)
class Report:
    """The steps, the faults and the results of a run."""

    seed: int
    seconds: float
    steps: dict[str, int]
    faults: dict[str, int]
    figures: Figures
    verdict: Verdict
    broken: list[str]
    """Broken guarantees beyond the oracle's."""

    @property
    def ok(self) -> bool:
        """No guarantee was broken."""
        return self.verdict.ok and not self.broken

    def __str__(self) -> str:
        """The text for users."""
        result, violations = self.figures, self.verdict.violations
        rows = [
            ("seed, time", f"{self.seed}, {self.seconds:.0f} s"),
            ("records sent", f"{result.sent:,}"),
            ("acknowledged", f"{result.acknowledged:,}"),
            ("failed, not persisted", f"{result.not_persisted:,}"),
            (
                "failed, possibly persisted",
                f"{result.possibly_persisted:,} ({self.verdict.persisted_though_failed:,} are in the log)",
            ),
            ("refused by send()", f"{result.refused:,}"),
            ("failed, by producer", _listed({temper: result.failed_by[temper] for temper in TEMPERS})),
            ("errors", _listed(result.errors, 12)),
            ("steps of the nemesis", f"{sum(self.steps.values())}: {_listed(self.steps)}"),
            ("faults by the proxy", f"{sum(self.faults.values())}: {_listed(self.faults)}"),
            ("lost with a deleted topic", f"{self.verdict.forgiven:,}"),
            ("longest gap between acks", f"{result.longest_gap_s:.1f} s"),
            ("worst overrun of a deadline", f"{result.worst_overrun_s * 1000:+,.0f} ms"),
            ("lost", f"{violations['lost']}"),
            ("duplicated", f"{violations['doubled']}"),
            ("reordered", f"{violations['reordered']}"),
            ("other broken guarantees", _listed({k: v for k, v in violations.items() if k not in _NAMED}) or "none"),
        ]
        lines = [f"  {name:28} {value}" for name, value in rows]
        lines += [f"  BROKEN: {what}" for what in [*self.broken, *self.verdict.examples]]
        return "\n".join(["chaos: " + ("nothing broken" if self.ok else "GUARANTEES BROKEN"), *lines])

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "ok": self.ok,
            **self.figures._asdict(),
            "persisted_though_failed": self.verdict.persisted_though_failed,
            "forgiven": self.verdict.forgiven,
            "lost": self.verdict.violations["lost"],
            "duplicated": self.verdict.violations["doubled"],
            "reordered": self.verdict.violations["reordered"],
            "violations": dict(self.verdict.violations),
            "broken": [*self.broken, *self.verdict.examples],
            "steps": self.steps,
            "faults": self.faults,
        }


_NAMED: Final = ("lost", "doubled", "reordered")


class Chaos:
    """One run.

    Args:
        seed: of the schedule and of the senders.
        seconds: how long the nemesis works; None: until it has carried out `count` steps.
        deck: the kinds of steps to draw from, each as often as it is to happen.
        rate: records per second and sender, without faults.
        in_loops, in_bulk, compressed: which of `TEMPERS` use asyncio, send by `send_many`, compress.
        tolerance_s: how much later than delivery.timeout.ms a callback may run.
        keep: a folder where the brokers' data and logs stay.
    """

    def __init__(
        self,
        *,
        seed: int,
        seconds: float | None = None,
        count: int | None = None,
        nodes: int = 3,
        deck: Sequence[str] = deck_of(DECK),
        rate: float = 250,
        in_loops: Sequence[str] = IN_LOOPS,
        in_bulk: Sequence[str] = IN_BULK,
        compressed: Sequence[str] = COMPRESSED,
        tolerance_s: float = 5,
        keep: Path | None = None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._seed, self._seconds, self._count, self._nodes, self._deck = seed, seconds, count, nodes, deck
        self._rate, self._tolerance_s, self._keep, self._say = rate, tolerance_s, keep, say
        self._in_loops, self._in_bulk, self._compressed = in_loops, in_bulk, compressed
        self._senders: list[Sender] = []
        self._new_since: dict[str, int] = {}
        """By sender: records from this number on belong to the current `fickle` topic."""
        self._broken: list[str] = []

    def run(self) -> Report:
        """Run everything, from an empty cluster to the report."""
        with KafkaCluster(self._nodes, self._keep, heap_mb=HEAP_MB, short_lived=True) as cluster:
            with FaultProxy({node.node_id: node.address for node in cluster.nodes.values()}) as proxy:
                nemesis = Nemesis(cluster, proxy, TOPICS, FICKLE, self._topic_is_new, self._say)
                nemesis.create_topics()
                began = time.monotonic()
                self._traffic(proxy, nemesis, began)
                seconds = time.monotonic() - began
                faults = dict(proxy.notes.counts())
                self._say("reading the logs")
                verdict = self._judge(cluster)
        for sender in self._senders:
            if sender.crash is not None:
                self._broken.append(f"{sender.name}: {sender.crash!r}")
        result = figures(self._senders)
        if result.worst_overrun_s > self._tolerance_s:
            self._broken.append(f"a callback ran {result.worst_overrun_s:.1f} s after its record's delivery.timeout.ms")
        return Report(self._seed, seconds, dict(nemesis.done), faults, result, verdict, self._broken)

    def _traffic(self, proxy: FaultProxy, nemesis: Nemesis, began: float) -> None:
        random = Random(self._seed)
        with ExitStack() as producers:
            for temper, options in TEMPERS.items():
                facade = LoopProducer if temper in self._in_loops else KafkaProducer
                compression = {"compression_type": "lz4"} if temper in self._compressed else {}
                producer: KafkaProducer[bytes, bytes] | LoopProducer = facade(
                    bootstrap_servers=proxy.bootstrap_servers, client_id=temper, **{**COMMON, **options, **compression}
                )
                producers.callback(producer.close, RECOVERY_S)
                for keyed in (True, False):
                    name = f"{temper}-{'keyed' if keyed else 'sticky'}"
                    chance = Random(random.random())
                    self._senders.append(
                        Sender(
                            name,
                            producer,
                            tuple(TOPICS),
                            keyed=keyed,
                            rate=self._rate,
                            random=chance,
                            in_bulk=temper in self._in_bulk,
                        )
                    )
            for sender in self._senders:
                sender.start()

            def enough(steps_done: int) -> bool:
                if self._seconds is not None and time.monotonic() - began >= self._seconds:
                    return True
                return self._count is not None and steps_done >= self._count

            try:
                nemesis.run(steps(self._seed, self._nodes, self._deck), enough)
            finally:
                self._say("healing")
                nemesis.heal()
                for sender in self._senders:
                    sender.finish(RECOVERY_S)
            for sender in self._senders:
                self._recovers(sender)
            for sender in self._senders:
                sender.producer.flush(RECOVERY_S)

    def _topic_is_new(self) -> None:
        self._new_since = {sender.name: sender.count + 1 for sender in self._senders}

    def _recovers(self, sender: Sender) -> None:
        """In a healthy cluster the producer works: a whole round of records is acknowledged."""
        deadline = time.monotonic() + RECOVERY_S
        last = ""
        while time.monotonic() < deadline:
            futures = [sender.send(topic) for topic in TOPICS for _ in range(5)]
            errors = [None if future is None else future.exception(RECOVERY_S) for future in futures]
            if None not in futures and not any(errors):
                return
            last = "; ".join(sorted({str(error) for error in errors if error})) or "send() does not take records"
        self._broken.append(f"{sender.name} does not recover: {last}")

    def _judge(self, cluster: KafkaCluster) -> Verdict:
        logs: dict[Any, list[Logged]] = {}
        for topic in TOPICS:
            for record in read_with_confluent(cluster.bootstrap_servers, topic, timeout=READ_S):
                logs.setdefault((topic, record.partition), []).append(Logged(*parse(record.value), record.offset))

        def belongs_to_a_deleted_topic(record: Reported) -> bool:
            assert isinstance(record.place, tuple)
            return record.place[0] == FICKLE and record.number < self._new_since.get(str(record.sender), 0)

        return judge(reported_by_all(self._senders), logs, forgive=belongs_to_a_deleted_topic)


def reported_by_all(senders: Iterable[Sender]) -> Iterator[Reported]:
    """The result of every record that `send` accepted."""
    for sender in senders:
        for number in range(sender.count):
            outcome = sender.outcomes.get(number)
            if outcome is not None:
                words: Word = "acknowledged"
                if outcome.error:
                    words = "possibly persisted" if outcome.possibly_persisted else "not persisted"
                yield Reported((outcome.topic, outcome.partition), sender.name, number, words, outcome.offset)
            elif number not in sender.refused:
                yield Reported(("?", -1), sender.name, number, "unresolved")


def _listed(counts: Mapping[str, int], at_most: int = 1_000) -> str:
    """The most frequent first."""
    items = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    more = [f"{len(items) - at_most} kinds more"] if len(items) > at_most else []
    return ", ".join([f"{name} × {count}" for name, count in items[:at_most]] + more)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="chaos_run.py", description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300, metavar="S", help="how long the nemesis works (300)")
    parser.add_argument("--seed", type=int, metavar="N", help="of the plan (default: one from the clock, printed)")
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="brokers (3)")
    parser.add_argument("--only", action="append", choices=list(DECK), help="kinds of steps, may be repeated (all)")
    parser.add_argument("--rate", type=float, default=250, metavar="R", help="records/s of each of six senders (250)")
    for option, chosen, what in (
        ("--asyncio", IN_LOOPS, "are asyncio's"),
        ("--bulk", IN_BULK, "send by send_many"),
        ("--compressed", COMPRESSED, "compress"),
    ):
        names = ", ".join(chosen)
        parser.add_argument(
            option,
            action="append",
            choices=[*TEMPERS, "none"],
            help=f"producers that {what}, may be repeated ({names})",
        )
    parser.add_argument("--tolerance-ms", type=float, default=5_000, metavar="MS", help="beyond delivery.timeout.ms")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the brokers' data and logs there")
    parser.add_argument("--plan", type=int, metavar="N", help="only print the first N steps")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    in_loops, in_bulk = arguments.asyncio or IN_LOOPS, arguments.bulk or IN_BULK
    if both := {*in_loops} & {*in_bulk} - {"none"}:
        print(f"the asyncio traffic does not send in bulk: {', '.join(sorted(both))}", file=sys.stderr)
        return 2
    seed = arguments.seed if arguments.seed is not None else secrets.randbelow(1_000_000)
    deck = deck_of(arguments.only or DECK)
    if arguments.plan is not None:
        print(*itertools.islice(steps(seed, arguments.nodes, deck), arguments.plan), sep="\n")
        return 0
    # The results of records are counted here; the producers' own log lines about them would fill the screen.
    logging.getLogger("penstock").setLevel(logging.CRITICAL)
    began = time.monotonic()
    print(f"chaos with seed {seed}", file=sys.stderr)
    report = Chaos(
        seed=seed,
        seconds=arguments.seconds,
        nodes=arguments.nodes,
        deck=deck,
        rate=arguments.rate,
        in_loops=in_loops,
        in_bulk=in_bulk,
        compressed=arguments.compressed or COMPRESSED,
        tolerance_s=arguments.tolerance_ms / 1000,
        keep=arguments.keep,
        say=lambda what: print(f"{time.monotonic() - began:6.1f} s {what}", file=sys.stderr, flush=True),
    ).run()
    print(report)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
