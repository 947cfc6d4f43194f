"""Runs a row: rounds in which every contestant runs once, each in a fresh process; the first round is for warming up only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from bench.figures import derived, order, overlaid
from bench.link import RunningLink
from bench.outages import recovery_figures
from bench.places import Kafka, Place, places_of
from bench.row import Row
from bench.surroundings import ROOT, BuildError, MissingToolError, peer

TIMEOUT_S = 600.0
PEERS = {"java", "franz-go", "blaster"}

Runs = dict[str, list[dict[str, Any]]]


class NotRunError(Exception):
    """A contestant cannot run here: the row has the reason."""


class FailedError(NotRunError):
    """A contestant could run and failed: the row has the reason, and the next benchmark runs it again."""


ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""Of a contestant. Installed packages are compiled already; a source tree may be compiled by its first run."""


def run_row(row: Row, pairs: int, quick: bool, kafka: Kafka) -> dict[str, Any]:
    """All rounds of a row. A contestant that cannot run is left out, with the reason stored."""
    not_run: dict[str, str] = {}
    failed = False
    commands: dict[str, list[str]] = {}
    places: dict[str, Place] = {}
    link: RunningLink | None = None
    topic = f"bench-{row.name.replace('^', '')}-{time.monotonic_ns()}"
    runs: Runs = {label: [] for label in row.contestants}
    with ExitStack() as stack:
        for label, contestant in row.contestants.items():
            try:
                commands[label] = _command(contestant.client)
                if not places:
                    places, link = places_of(row, quick, kafka, topic, stack)
            except (MissingToolError, BuildError) as why:
                not_run[label] = str(why)
                failed |= isinstance(why, BuildError)
        for number in range(pairs + 1):
            for label in order(list(row.contestants), number):
                if label in not_run or not _wanted(row, label, not_run):
                    continue
                places[label].prepare(number)
                try:
                    measured = _run(commands[label], overlaid(row, label, quick), topic, places[label])
                    measured |= places[label].met(number)
                except NotRunError as why:
                    # Without one of its runs a contestant has no pairs: it is left out, the others continue.
                    not_run[label] = str(why)
                    failed |= isinstance(why, FailedError)
                    continue
                if number:
                    runs[label].append(measured)
                print(f"  {row.name} {number}/{pairs} {label}: {_brief(measured)}", file=sys.stderr)
        totals = None if link is None else link.totals()
    return {
        "row": row.name,
        "title": row.title,
        "pairs": pairs,
        "runs": {label: made for label, made in runs.items() if label not in not_run and len(made) == pairs},
        "not_run": not_run,
        "failed": failed,
        **({} if totals is None else {"link": totals}),
    }


def _wanted(row: Row, label: str, not_run: Mapping[str, str]) -> bool:
    """Whether a contestant is left to compare it with."""
    return any(
        label in (line.us, line.them) and line.us not in not_run and line.them not in not_run for line in row.lines
    )


def _command(client: str) -> list[str]:
    return peer(client) if client in PEERS else [sys.executable, "-m", "bench.worker", client]


def _run(command: list[str], task: dict[str, Any], topic: str, place: Place) -> dict[str, Any]:
    before = 0 if place.sink is None else place.sink.records()
    task = {**task, **place.task, "bootstrap": place.bootstrap, "topic": topic}
    try:
        with place.disturbed() as player:
            done = subprocess.run(
                place.command([*command, json.dumps(task)]),
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
                env=ENVIRONMENT,
            )
    except subprocess.TimeoutExpired:
        raise FailedError(f"did not end within {TIMEOUT_S:.0f} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(done.stderr, file=sys.stderr)
        raise FailedError(f"failed (exit {done.returncode}): {last}")
    measured: dict[str, Any] = json.loads(done.stdout)
    if "not_run" in measured:
        raise NotRunError(measured["not_run"])
    if player is not None:
        measured |= recovery_figures(measured.pop("acked_at"), player.ends)
        if "recovery_p99_ms" not in measured:
            raise FailedError("no outage ended while it sent")
    if measured["failures"] and not task.get("may_fail"):
        raise FailedError(f"{measured['failures']:,} of {measured['count']:,} records failed")
    if place.sink is not None and (came := place.sink.records() - before) < measured["count"]:
        raise FailedError(f"says {measured['count']:,} records, of which {came:,} reached the sink")
    return derived(measured)


def _brief(measured: dict[str, Any]) -> str:
    shown = f"{measured['messages_per_s']:,.0f}/s, CPU {measured['cpu_us_per_message']:.2f} µs"
    for figure in ("p50_ms", "p99_ms", "start_ms", "import_ms", "steady_rss_mib", "recovery_p50_ms", "recovery_p99_ms"):
        if figure in measured:
            shown += f", {figure} {measured[figure]:.3g}"
    if "faults" in measured:
        shown += f", {measured['faults']} faults in {measured['seconds']:.1f} s"
    if measured["failures"]:
        shown += f", {measured['failures']:,} failed"
    return shown
