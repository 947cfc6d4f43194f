"""The decisions of a seed at its beginning: the settings, the load, and the rates of faults."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from random import Random
from typing import Any

MS = 1_000

# Error codes that a broker may answer before it appends anything, and those that it may answer afterwards.
REFUSALS = (2, 3, 5, 6, 19, 29, 45, 47, 56, 59, 74, 87, 89, 100)
AFTER_APPEND = (6, 7, 20, 56, -1)
IDENTITY_ERRORS = (14, 15, 16, 51)
FATAL = 31
ZSTD_FROM = 7


@dataclass(slots=True)
class Rates:
    """Probabilities per occasion, unless a name says otherwise."""

    refuse_connection: float = 0.0
    black_hole: float = 0.0  # a connection that never comes up, or never answers
    reset_per_request: float = 0.0
    lose_answer: float = 0.0  # appended, and the connection ends
    swallow_answer: float = 0.0  # appended, and nothing comes back
    refusal: float = 0.0  # per partition: an error instead of the append
    error_after_append: float = 0.0  # per partition
    mangle_answer: float = 0.0  # a partition left out, twice, or invented
    garbage: float = 0.0  # bytes that are not an answer
    throttle: float = 0.0
    metadata_error: float = 0.0
    identity_error: float = 0.0
    partial_write: float = 0.0  # the socket accepts a part only
    stall: float = 0.0  # of the control plane, per step
    zombie: float = 0.7  # requests of a dead connection are still processed
    moves_per_s: float = 0.0
    crashes_per_s: float = 0.0
    freezes_per_s: float = 0.0
    cuts_per_s: float = 0.0
    stale_views_per_s: float = 0.0
    recreations_per_s: float = 0.0
    growths_per_s: float = 0.0
    forgotten_producers_per_s: float = 0.0
    truncation: float = 0.5  # a leader that stops loses what was not replicated
    fatal: float = 0.0


@dataclass(slots=True)
class Plan:
    """All initial decisions. Times are ms."""

    seed: int
    settings: dict[str, Any]
    nodes: int
    topics: dict[str, int]
    records: int
    send_interval_us: float
    burst: float  # probability that the next record follows at once
    latency_us: float
    append_us: float
    replication_us: float
    duration_ms: int
    calm_ms: int  # after which no new faults occur
    stall_us: float
    produce_versions: tuple[int, int]
    max_message_bytes: int
    keyed: float
    with_callback: float
    callback_delay_us: float
    first_epoch: int
    abandon: bool  # close(0) at the end of the load instead of waiting for deliveries
    rates: Rates = field(default_factory=Rates)
    link_bytes_per_s: float = 0  # of each connection to a broker; 0: any number
    send_buffer: int = 0  # of each such connection, in bytes
    encode_us: float = 0  # that a codec worker takes for a batch
    purges: float = 0  # probability, per record sent, that the application purges
    bulk: bool = False
    """Records are gathered for a moment and sent with `send_many`."""
    tasks: int = 0
    """Tasks of an asyncio application, which send alternately; 0: the application is not asyncio's."""
    impatience: float = 0.0
    """The share of their sends that time out after a moment."""
    loop_lag_us: int = 0
    """How long the event loop is busy with other work, at most, before it polls."""

    def __str__(self) -> str:
        """The unusual settings."""
        rates = {f.name: getattr(self.rates, f.name) for f in fields(Rates)}
        wrong = ", ".join(f"{name} {value:.3g}" for name, value in rates.items() if value)
        slow = f"; links of {self.link_bytes_per_s:,.0f} B/s, {self.send_buffer} B" if self.send_buffer else ""
        what = f"{self.nodes} nodes, {self.topics}, {self.records} records, {self.settings}"
        return f"seed {self.seed}: {what}{slow}; {wrong}"


TEMPERS = ("calm", "network", "leaders", "answers", "expiry", "crashes", "clusters", "memory", "stalls", "everything")


MAY_SPLIT_BELOW = 1_048_576
"""A topic that takes no batch of this size may refuse one, which is then split."""
SLOW_LINKS = 0.2
"""The share of seeds whose links have a rate and a small send buffer."""
PURGES = 0.15
"""The share of seeds whose application purges now and then."""
BULK_SEEDS = 100_000
"""From here on half of the seeds send in bulk; lower seeds keep their meaning."""
ASYNCIO_SEEDS = 200_000
"""From here on the application is asyncio's."""


def draw(seed: int, *, temper: str | None = None, compression: str | None = None) -> Plan:
    """The plan of a seed; `temper`: the kind of faults, and compression.type, unless they are random."""
    random = Random(seed * 7919 + 13)
    temper = temper or random.choice(TEMPERS)
    nodes = random.choice([1, 2, 3, 3, 3, 5])
    topics = {f"topic-{number}": random.choice([1, 1, 2, 3, 6]) for number in range(random.choice([1, 1, 2]))}
    duration_ms = random.choice([3_000, 8_000, 15_000])
    records = random.choice([40, 150, 300, 600])
    request_ms = random.choice([300, 1_000, 2_500])
    linger_ms = random.choice([0, 0, 5, 50])
    delivery_ms = linger_ms + request_ms + random.choice([0, 500, 4_000, 20_000])
    if temper == "expiry":
        delivery_ms = linger_ms + request_ms + random.choice([0, 100, 700])
    settings: dict[str, Any] = {
        "client.id": "sim",
        "linger.ms": linger_ms,
        "batch.size": random.choice([0, 100, 300, 300, 1_000, 16_384]),
        "request.timeout.ms": request_ms,
        "delivery.timeout.ms": delivery_ms,
        "max.block.ms": 0,
        "retry.backoff.ms": random.choice([1, 20, 100]),
        "retry.backoff.max.ms": random.choice([100, 1_000]),
        "reconnect.backoff.ms": random.choice([1, 50]),
        "reconnect.backoff.max.ms": random.choice([50, 1_000]),
        "max.in.flight.requests.per.connection": random.choice([1, 2, 5, 5, 5]),
        "metadata.max.age.ms": random.choice([200, 2_000, 300_000]),
        "connections.max.idle.ms": random.choice([100, 1_000, 540_000]),
        "socket.connection.setup.timeout.ms": random.choice([100, 1_000]),
        "socket.connection.setup.timeout.max.ms": 2_000,
        "metadata.recovery.rebootstrap.trigger.ms": random.choice([500, 300_000]),
        "buffer.memory": random.choice([20_000, 100_000, 1_000_000]),
        "max.request.size": random.choice([700, 5_000, 1_048_576]),
    }
    if random.random() < 0.15:
        settings["retries"] = random.choice([1, 2, 5])
    if settings["batch.size"] > settings["buffer.memory"]:
        settings["batch.size"] = 1_000
    plan = Plan(
        seed=seed,
        settings=settings,
        nodes=nodes,
        topics=topics,
        records=records,
        send_interval_us=duration_ms * MS / records,
        burst=random.choice([0.0, 0.5, 0.9]),
        latency_us=random.choice([100, 1_000, 20_000]),
        append_us=random.choice([10, 500, 5_000]),
        replication_us=random.choice([0, 1_000, 30_000]),
        duration_ms=duration_ms,
        calm_ms=duration_ms + random.choice([0, 2_000]),
        stall_us=random.choice([10, 300, 3_000]),
        produce_versions=random.choice([(3, 13), (3, 13), (3, 12), (3, 9), (3, 3)]),
        max_message_bytes=random.choice([1_048_588, 1_048_588, 300]),
        keyed=random.choice([0.0, 0.5, 1.0]),
        with_callback=random.choice([0.0, 0.2, 1.0]),
        callback_delay_us=random.choice([10, 5_000, 200_000]),
        first_epoch=random.choice([0, 0, 0, 0, 32_760, 32_766, 32_767]),
        abandon=random.random() < 0.1,
    )
    plan.bulk = BULK_SEEDS <= seed < ASYNCIO_SEEDS and Random(f"bulk {seed}").random() < 0.5
    _rates(plan, temper, random)
    _compression(plan, compression)
    _link(plan)
    _growth(plan)
    if Random(f"given up {seed}").random() < PURGES:
        plan.purges = 0.02
    if seed >= ASYNCIO_SEEDS:
        _asyncio(plan)
    return plan


def _compression(plan: Plan, codec: str | None) -> None:
    """Drawn separately, so that the other decisions of older seeds stay the same."""
    random = Random(f"compression {plan.seed}")
    drawn = random.choice(["none", "none", "none", "gzip", "snappy", "lz4", "zstd"])
    codec = codec or drawn
    plan.encode_us = random.choice([10, 1_000, 1_000, 100_000])
    if codec == "zstd" and plan.produce_versions[1] < ZSTD_FROM:
        codec = "none"  # such a broker gets no zstd, whatever the producer's setting
    if codec != "none":
        plan.settings["compression.type"] = codec


def _link(plan: Plan) -> None:
    """A few seeds have slow links with small send buffers. Drawn separately, as the codec is."""
    random = Random(f"link {plan.seed}")
    if random.random() < SLOW_LINKS:
        plan.link_bytes_per_s = random.choice([20_000, 100_000, 1_000_000])
        plan.send_buffer = random.choice([500, 4_000, 64_000])


def _growth(plan: Plan) -> None:
    """How far batches grow that cannot be sent, when they leave, how they are charged. Drawn separately, as the codec is."""
    random = Random(f"growth {plan.seed}")
    size = max(1, plan.settings["batch.size"])
    limit = random.choice([None, 0, random.randint(2 * size, 4 * size)])
    if limit is not None:
        plan.settings["penstock.batch.growth.max.bytes"] = limit
    plan.settings["buffer.memory.allocation.strategy"] = random.choice(["full", "incremental"])
    if linger_bytes := random.choice([0, 0, 3 * size]):  # else batch.size is worth sending, since it is given
        plan.settings["penstock.batch.linger.bytes"] = linger_bytes


def _asyncio(plan: Plan) -> None:
    random = Random(f"asyncio {plan.seed}")
    plan.tasks = random.choice([1, 4, 40, plan.records])
    plan.impatience = random.choice([0.0, 0.1, 0.5])
    plan.loop_lag_us = random.choice([10, 1_000, 20_000])
    plan.settings["max.block.ms"] = random.choice([0, 100, 1_000, 10_000])
    if random.random() < 0.5:
        # Otherwise sends almost never wait for memory.
        plan.settings["buffer.memory"] = random.choice([2_000, 5_000])
        plan.settings["batch.size"] = min(plan.settings["batch.size"], 1_000)


def _rates(plan: Plan, temper: str, random: Random) -> None:
    rates = plan.rates
    rates.truncation = random.choice([0.0, 0.5, 1.0])
    rates.zombie = random.choice([0.0, 0.5, 1.0])

    def some(*choices: float) -> float:
        return random.choice([0.0, *choices])

    def is_part(of: str) -> bool:
        return temper in (of, "everything")

    if is_part("network") or temper == "expiry":
        rates.refuse_connection = some(0.1, 0.5)
        rates.black_hole = some(0.05, 0.2)
        rates.reset_per_request = some(0.02, 0.2)
        rates.lose_answer = some(0.02, 0.2)
        rates.swallow_answer = some(0.02, 0.1)
        rates.partial_write = some(0.05, 0.3)
        rates.garbage = some(0.01)
        rates.cuts_per_s = some(0.3)
    if is_part("leaders"):
        rates.moves_per_s = random.choice([0.5, 3.0, 20.0])
        rates.stale_views_per_s = some(0.5, 2.0)
        rates.lose_answer = max(rates.lose_answer, some(0.05))
    if is_part("answers") or temper == "expiry":
        rates.refusal = some(0.05, 0.3)
        rates.error_after_append = some(0.05, 0.3)
        rates.mangle_answer = some(0.05)
        rates.throttle = some(0.1)
        rates.metadata_error = some(0.1, 0.4)
        rates.identity_error = some(0.5)
        rates.fatal = some(0.002) if random.random() < 0.2 else 0.0
    if is_part("crashes"):
        rates.crashes_per_s = random.choice([0.1, 0.5])
        rates.freezes_per_s = some(0.3)
        rates.forgotten_producers_per_s = some(0.3)
    if is_part("clusters"):
        rates.recreations_per_s = some(0.2)
        rates.growths_per_s = some(0.2)
        rates.moves_per_s = max(rates.moves_per_s, some(0.5))
    if is_part("memory"):
        plan.settings["buffer.memory"] = random.choice([5_000, 20_000])
        plan.settings["batch.size"] = min(plan.settings["batch.size"], 1_000)
        plan.with_callback = random.choice([0.2, 1.0])
        rates.lose_answer = max(rates.lose_answer, some(0.1))
    if is_part("stalls"):
        rates.stall = random.choice([0.02, 0.2])
        rates.refusal = max(rates.refusal, some(0.1))
        rates.lose_answer = max(rates.lose_answer, some(0.1))
        rates.moves_per_s = max(rates.moves_per_s, some(2.0))
