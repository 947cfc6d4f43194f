"""One seed, from its plan to the verdict."""

from __future__ import annotations

import itertools
import traceback
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from unittest import mock

from penstock.facade import loops
from simulation.client import Client
from simulation.cluster import PROBE, Cluster
from simulation.nemesis import Nemesis
from simulation.network import Network
from simulation.plan import Plan, draw
from simulation.world import MS, S, World
from support.oracle import Logged, Reported, Verdict, judge

MAX_STEPS = 200_000  # a whole seed takes about 10,000


@dataclass(slots=True)
class Result:
    """The result of a seed."""

    plan: Plan
    verdict: Verdict
    digest: str
    virtual_s: float
    broken: list[str] = field(default_factory=list)
    """Guarantees beyond the oracle's: deadlines, callbacks, memory, recovery."""
    trace: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """All guarantees were kept."""
        return self.verdict.ok and not self.broken

    def __str__(self) -> str:
        """The plan and its result."""
        return "\n  ".join([str(self.plan), str(self.verdict), *self.broken])


def simulate(
    seed: int, *, temper: str | None = None, compression: str | None = None, keep_trace: bool = False
) -> Result:
    """Run a seed. The same seed gives the same digest, on any machine."""
    plan = draw(seed, temper=temper, compression=compression)
    world = World(seed, keep_trace=keep_trace)
    try:
        # An event loop processes due work in slices, which must not depend on the wall clock.
        looks = itertools.count()
        with mock.patch.object(loops, "time", SimpleNamespace(monotonic=lambda: next(looks) * 0.4 * loops.SLICE_S)):
            return _simulate(plan, world)
    except BaseException as error:  # a panic of the engine is not an Exception
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        # An assertion of the code or of the simulation failed: a find like any other.
        where = traceback.extract_tb(error.__traceback__)[-1]
        broken = [f"crash: {type(error).__name__} in {where.name}: {error}"]
        return Result(plan, Verdict(), world.digest, world.now_us / S, broken, world.trace)


def _simulate(plan: Plan, world: World) -> Result:
    cluster = Cluster(world, plan)
    client = Client(world, plan)
    client.network = Network(world, plan, cluster, client.stepped, client.socket_changed, client.watch)
    nemesis = Nemesis(world, plan, cluster, client)
    world.on_time = client.stepped.set_now_us
    client.start()
    nemesis.start()
    _load(world, plan, cluster, client)
    world.at(plan.calm_ms * MS, nemesis.calm_down)
    settings = client.config.settings
    # Long enough for every record's deadline, every backoff and every request's timeout to end.
    recovered_us = (plan.calm_ms + settings.delivery_timeout_ms + 12_000) * MS
    if plan.abandon:
        world.at(plan.duration_ms * MS, client.close)
        _run_until(world, plan, recovered_us)
        return _judge(world, plan, cluster, client, [])
    _run_until(world, plan, recovered_us)
    probes = [(name, p.index) for name, t in sorted(cluster.state.topics.items()) for p in t.partitions]
    for attempt in range(40):  # a topic that is not cached must be requested, and max.block.ms is 0
        missing = [pair for pair in probes if not any(_is_probe(sent, pair) for sent in client.sent)]
        if not missing:
            break
        for at, (topic, partition) in enumerate(missing):
            client.send(PROBE + 1_000 * attempt + at, topic, partition, None, 0)
        _run_until(world, plan, world.now_us + 500 * MS)
    _run_until(world, plan, world.now_us + settings.delivery_timeout_ms * MS + S)
    # A deadline may be shorter than finding the new leader: the second record uses what the first one found.
    for partition, probe in enumerate([sent for sent in client.sent if sent.number >= PROBE and sent.failed()]):
        client.send(2 * PROBE + partition, probe.topic, probe.partition, None, 0)
        _run_until(world, plan, world.now_us + settings.delivery_timeout_ms * MS + S)
    return _judge(world, plan, cluster, client, probes)


def _is_probe(sent: object, pair: tuple[str, int]) -> bool:
    return getattr(sent, "number", 0) >= PROBE and (getattr(sent, "topic", ""), getattr(sent, "partition", -1)) == pair


def _run_until(world: World, plan: Plan, until_us: int) -> None:
    for _ in range(MAX_STEPS):
        if not world.step(until_us):
            return
    raise AssertionError(f"seed {plan.seed}: the producer spins")


def _load(world: World, plan: Plan, cluster: Cluster, client: Client) -> None:
    """The application: sends until all records are out, flushes and purges now and then."""
    numbers = iter(range(plan.records))
    purging = Random(f"purge {plan.seed}")

    def send_next() -> None:
        number = next(numbers, None)
        if number is None:
            return
        topic = world.random.choice(sorted(plan.topics))
        known = cluster.state.topics.get(topic)
        count = len(known.partitions) if known else plan.topics[topic]
        partition: int | None = world.random.randrange(count)
        key = None
        if world.chance(plan.keyed):
            partition, key = None, b"key-%d" % world.random.randrange(10)
        client.send(number, topic, partition, key, world.random.choice([0, 10, 60, 200]))
        if world.chance(0.02):
            client.flush()
        if purging.random() < plan.purges:
            client.purge(purging.choice([None, topic]))
        delay_us = 0 if world.chance(plan.burst) else world.spread(plan.send_interval_us / (1 - plan.burst))
        world.after(delay_us, send_next)

    world.after(world.spread(5 * MS), send_next)


def _judge(world: World, plan: Plan, cluster: Cluster, client: Client, probes: list[tuple[str, int]]) -> Result:
    reported, logs = client.reported(), cluster.logs()
    # A producer that starts near its last epoch soon gets another id.
    unfenced = plan.first_epoch > 0
    verdict = judge(_without_buried(reported, logs, cluster), logs, unfenced=unfenced)
    for place, buried in cluster.buried.items():
        for log in buried:
            _judge_buried(verdict, place, log, reported, logs, unfenced)
    result = Result(plan, verdict, world.digest, world.now_us / S, trace=world.trace)
    result.broken += [f"late: {late}" for late in client.late[:3]]
    if plan.with_callback or plan.tasks:
        result.broken += client.broken_callbacks()[:3]
    result.broken += client.end()[:3]
    result.broken += [*cluster.wire.broken[:3], *client.deadlines.broken[:3]]
    result.broken += client.watch.broken[:3]
    available, total = client.stepped.available_memory, client.config.settings.buffer_memory
    if available != total:
        result.broken.append(f"memory: {total - available} of {total} bytes did not come back")
    if client.fatal:
        if not plan.rates.fatal:
            result.broken.append(f"fatal: {client.fatal}")
    else:
        reached = {(t.place) for t in reported if t.number >= PROBE and t.outcome == "acknowledged"}
        result.broken += [f"not recovered: {topic}-{index}" for topic, index in probes if (topic, index) not in reached]
    return result


def _without_buried(reported: list[Reported], logs: dict[object, list[Logged]], cluster: Cluster) -> list[Reported]:
    """Acknowledged records in the log of a deleted topic may be missing in the current one."""
    buried = {(place, entry.number) for place, old in cluster.buried.items() for log in old for entry in log}
    there = {(place, entry.number) for place, log in logs.items() for entry in log}
    return [
        record
        for record in reported
        if record.outcome != "acknowledged"
        or (record.place, record.number) in there
        or (record.place, record.number) not in buried
    ]


def _judge_buried(
    verdict: Verdict,
    place: object,
    log: list[Logged],
    reported: list[Reported],
    logs: dict[object, list[Logged]],
    unfenced: bool,
) -> None:
    """A deleted log must be in order, too; a record in it may have been acknowledged by the recreated topic."""
    numbers = {entry.number for entry in log}
    again = {entry.number for entry in logs.get(place, ())}
    mine = [
        record._replace(outcome="possibly persisted") if record.number in again else record
        for record in reported
        if record.place == place and record.number in numbers
    ]
    other = judge([record._replace(offset=-1) for record in mine], {place: log}, unfenced=unfenced)
    verdict.violations.update(other.violations)
    verdict.examples += [f"{example} (in a deleted log)" for example in other.examples]
