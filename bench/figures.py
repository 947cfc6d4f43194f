"""From measurements to figures: what is derived, medians, ratios of pairs, verdicts. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bench.rows import Line, Row, Target

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
}
"""Figures by name: how a table calls them, and how many digits follow the point."""


class Comparison(NamedTuple):
    """One figure of one line: medians, the median of the pairs' ratios, and the verdict (None: nothing to judge)."""

    figure: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    target: Target
    met: bool | None


def derived(measured: Mapping[str, Any]) -> dict[str, Any]:
    """A measurement with the figures that follow from it."""
    return {
        **measured,
        "messages_per_s": measured["count"] / measured["seconds"],
        "cpu_us_per_message": measured["cpu_seconds"] / measured["count"] * 1e6,
    }


def compare(runs: Runs, line: Line) -> list[Comparison]:
    """The figures of a line. Ratios are of runs that followed each other: a machine that drifts leaves those comparable."""
    compared = []
    for target in line.targets:
        ours = [run[target.figure] for run in runs[line.us]]
        theirs = [run[target.figure] for run in runs[line.them]]
        ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
        ratio = statistics.median(ratios)
        compared.append(
            Comparison(
                target.figure,
                statistics.median(ours),
                statistics.median(theirs),
                ratio,
                min(ratios),
                max(ratios),
                target,
                verdict(ratio, target),
            )
        )
    return compared


def verdict(ratio: float, target: Target) -> bool | None:
    """Whether a ratio keeps its bounds. It is judged as measured, never as rounded for print."""
    if target.at_least is None and target.at_most is None:
        return None
    return (target.at_least is None or ratio >= target.at_least) and (target.at_most is None or ratio <= target.at_most)


def order(labels: Sequence[str], number: int) -> list[str]:
    """Who runs when in round `number`: forwards, then backwards, so that nobody always follows the same neighbour."""
    return list(labels) if number % 2 == 0 else list(reversed(labels))


def overlaid(row: Row, label: str, quick: bool) -> dict[str, Any]:
    """The task of one contestant: the row's, then its own; each with what the quick run changes."""
    contestant = row.contestants[label]
    layers = [row.task, row.quick if quick else {}, contestant.task, contestant.quick if quick else {}]
    task: dict[str, Any] = {"partitions": row.partitions}
    for layer in layers:
        task |= layer
    return task
