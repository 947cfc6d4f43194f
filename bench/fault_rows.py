"""Rows with faults: a proxy before a real Kafka breaks connections and loses answers, by the same plan for each. Data only."""

from __future__ import annotations

from bench.default_rows import IDEMPOTENCE
from bench.faults import DROP, MIX, RESET, Faults
from bench.row import IDEMPOTENT, US, Contestant, Line, Row, Target


def _row(name: str, title: str, faults: Faults) -> Row:
    """40,000 records at 20,000/s, until the last result; the rounds have different seeds."""
    return Row(
        f"faults-{name}",
        f"100 B, 40,000 records at 20,000/s, 3 partitions, all at defaults; {title}",
        {US: Contestant("penstock:open_loop"), IDEMPOTENT: Contestant("confluent:open_loop", IDEMPOTENCE)},
        (Line(US, IDEMPOTENT, (Target("seconds", at_most=1.2), Target("delivered", at_least=1.0))),),
        {"defaults": True, "rate": 20_000, "duration_s": 2, "size": 100, "may_fail": True},
        partitions=3,
        faults=faults,
        only_full=True,
    )


FAULT_ROWS = [
    _row("reset", "each Produce request is cut with chance 0.5, the connection reset", Faults(0.5, (RESET,))),
    _row(
        "drop",
        "the answer of each Produce request is lost with chance 0.5, the connection closed",
        Faults(0.5, (DROP,)),
    ),
    _row("mix", "one of six faults with chance 0.2", Faults(0.2, MIX)),
]
