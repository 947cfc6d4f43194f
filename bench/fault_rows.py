"""Rows with faults: a proxy before a real Kafka breaks connections and loses answers, by the same plan for each. Data only."""

from __future__ import annotations

from bench.default_rows import IDEMPOTENCE
from bench.faults import DROP, MIX, RESET, Faults
from bench.outages import Outages
from bench.row import IDEMPOTENT, US, Contestant, Line, Row, Target


def _row(name: str, title: str, faults: Faults) -> Row:
    """40,000 records at 20,000/s, until the last result; each of the five rounds has a seed of its own."""
    return Row(
        f"faults-{name}",
        f"100 B, 40,000 records at 20,000/s, 3 partitions, all at defaults; {title}",
        {US: Contestant("penstock:open_loop"), IDEMPOTENT: Contestant("confluent:open_loop", IDEMPOTENCE)},
        (Line(US, IDEMPOTENT, (Target("seconds", at_most=1.2), Target("delivered", at_least=1.0), Target("faults"))),),
        {"defaults": True, "rate": 20_000, "duration_s": 2, "size": 100, "may_fail": True},
        partitions=3,
        faults=faults,
        only_full=True,
    )


def _outage(name: str, title: str, at_most_ms: float, outages: Outages) -> Row:
    """A hundred outages of 0.3 s; one record each millisecond."""
    return Row(
        f"outage-{name}",
        f"100 outages of 0.3 s, 1,000 records/s, from the end of each to the first acknowledgment; {title}",
        {US: Contestant("penstock:open_loop"), IDEMPOTENT: Contestant("confluent:open_loop", IDEMPOTENCE)},
        (Line(US, IDEMPOTENT, (Target("recovery_p50_ms"), Target("recovery_p99_ms", ours_at_most=at_most_ms))),),
        {
            "defaults": True,
            "rate": 1000,
            "duration_s": round(outages.duration_s),
            "size": 100,
            "may_fail": True,
            "acked_at": True,
        },
        partitions=3,
        outages=outages,
        # A hundred of them are one run's sample.
        pairs=1,
        quick_pairs=1,
        only_full=True,
    )


# What an outage may cost: one reconnect backoff and three round trips. The backoff is reconnect.backoff.ms (50 ms), doubled
# with each attempt that the broker refuses (0.3 s are three), and up to 20 % longer; a connection that was only frozen has
# none. The round trips, with linger and the proxy, take a few ms.
_BACKOFF_MS, _GROWN_BACKOFF_MS, _REST_MS = 60, 240, 15

FAULT_ROWS = [
    _row("reset", "each Produce request is cut with chance 0.5, the connection reset", Faults(0.5, (RESET,))),
    _row(
        "drop",
        "the answer of each Produce request is lost with chance 0.5, the connection closed",
        Faults(0.5, (DROP,)),
    ),
    _row(
        "mix",
        "with chance 0.2 each Produce request meets one of seven faults: it is reset, its answer is reset, its answer is"
        " lost, the connection is closed, NOT_LEADER_OR_FOLLOWER, REQUEST_TIMED_OUT after the append, 50 ms of delay",
        Faults(0.2, MIX),
    ),
    _outage("cut", "bytes vanish, then the connection is reset", _BACKOFF_MS + _REST_MS, Outages("cut", 100)),
    _outage("freeze", "bytes wait", _REST_MS, Outages("freeze", 100)),
    _outage(
        "restart",
        "the connection is reset, new ones are refused, as by a broker that restarts",
        _GROWN_BACKOFF_MS + _REST_MS,
        Outages("restart", 100),
    ),
]
