"""From measurements to figures: derived values, medians, ratios of pairs, verdicts. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.row import Line, Row, Target

Runs = Mapping[str, Sequence[Mapping[str, Any]]]

UNITS = {
    "messages_per_s": ("messages/s", 0),
    "cpu_us_per_message": ("CPU µs/message", 2),
    "p50_ms": ("p50 ms", 3),
    "p99_ms": ("p99 ms", 3),
    "p99_9_ms": ("p99.9 ms", 3),
    "start_ms": ("start ms", 1),
    "import_ms": ("import ms", 1),
    "steady_rss_mib": ("RSS MiB", 0),
    "seconds": ("time s", 1),
    "recovery_p50_ms": ("recovery p50 ms", 1),
    "recovery_p99_ms": ("recovery p99 ms", 1),
    "delivered": ("delivered", 4),
    "faults": ("faults met", 0),
}
"""Figures by name: the name in a table, and the number of digits after the point."""


class Comparison(NamedTuple):
    """One figure of one line: medians, the median of the pairs' ratios, and the verdict (None: no target)."""

    figure: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    target: Target
    met: bool | None


def derived(measured: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement with the derived figures."""
    return {
        **measured,
        "messages_per_s": measured["count"] / measured["seconds"],
        "cpu_us_per_message": measured["cpu_seconds"] / measured["count"] * 1e6,
        "delivered": 1 - measured["failures"] / measured["count"],
    }


def compare(runs: Runs, line: Line) -> list[Comparison]:
    """The figures of a line. Ratios compare consecutive runs: they stay comparable when the machine's speed drifts."""
    compared = []
    for target in line.targets:
        ours = [run[target.figure] for run in runs[line.us]]
        theirs = [run[target.figure] for run in runs[line.them]]
        # A client with few requests may meet no fault at all.
        ratios = [mine / other if other else math.inf for mine, other in zip(ours, theirs, strict=True)]
        ratio = statistics.median(ratios)
        met = verdict(ratio, target)
        if target.ours_at_most is not None:
            met = statistics.median(ours) <= target.ours_at_most
        if met is False and target.or_of and (of_limit := _share(runs, line.us, target)) is not None:
            met = of_limit >= target.or_at_least
        compared.append(
            Comparison(
                target.figure,
                statistics.median(ours),
                statistics.median(theirs),
                ratio,
                min(ratios),
                max(ratios),
                target,
                met,
            )
        )
    return compared


def _share(runs: Runs, us: str, target: Target) -> float | None:
    """The median share of the limit that ours reaches; None if the limit was not measured."""
    if target.or_of not in runs:
        return None
    pairs = zip(runs[us], runs[target.or_of], strict=True)
    shares: list[float] = [mine[target.figure] / limit[target.figure] for mine, limit in pairs]
    return statistics.median(shares)


def verdict(ratio: float, target: Target) -> bool | None:
    """Whether a ratio is within its bounds. The unrounded ratio counts."""
    if target.at_least is None and target.at_most is None:
        return None
    return (target.at_least is None or ratio >= target.at_least) and (target.at_most is None or ratio <= target.at_most)


def order(labels: Sequence[str], number: int) -> list[str]:
    """The order of contestants in round `number`: forwards, then backwards, so that none always follows the same one."""
    return list(labels) if number % 2 == 0 else list(reversed(labels))


def overlaid(row: Row, label: str, quick: bool) -> dict[str, Any]:
    """The task of one contestant: the row's, then its own; each with the changes of the quick run."""
    contestant = row.contestants[label]
    layers = [row.task, row.quick if quick else {}, contestant.task, contestant.quick if quick else {}]
    task: dict[str, Any] = {"partitions": row.partitions}
    for layer in layers:
        task |= layer
    return task
