"""The simulation within `make test`: a fixed budget of seeds, and the replay of a seed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from simulation.plan import ASYNCIO_SEEDS, BULK_SEEDS, TEMPERS, draw
from simulation.run import simulate

ROOT = Path(__file__).resolve().parents[2]
# A minute in all.
BUDGET_S = 36.0
BULK_BUDGET_S = 12.0
ASYNCIO_BUDGET_S = 12.0
SEEDS = 400


@pytest.mark.timeout(600)
def test_no_guarantee_is_broken() -> None:
    """As many seeds as fit into the budget, each kind of fault at least once; `make simulate` runs more."""
    began = time.monotonic()
    tried = 0
    for seed in range(SEEDS):
        if tried > 3 * len(TEMPERS) and time.monotonic() - began > BUDGET_S:
            break
        result = simulate(seed, temper=TEMPERS[seed % len(TEMPERS)] if seed < 3 * len(TEMPERS) else None)
        assert result.ok, f"{result}\nreplay it: make simulate SEEDS={seed}{_temper(seed)}"
        tried += 1
    print(f"{tried} seeds")


def _temper(seed: int) -> str:
    return f" TEMPER={TEMPERS[seed % len(TEMPERS)]}" if seed < 3 * len(TEMPERS) else ""


def test_a_seed_replays_exactly() -> None:
    """In other processes, with other hash seeds and other addresses, the trace is the same to the last line."""
    code = (
        "from simulation.run import simulate; print(*(simulate(seed).digest for seed in (7, 8, 9, 200_000, 200_005)))"
    )

    def digests(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert digests("1") == digests("2")


def test_seeds_differ_and_are_deterministic() -> None:
    assert {str(draw(seed)) for seed in range(50)} == {str(draw(seed)) for seed in range(50)}
    assert len({str(draw(seed)) for seed in range(50)}) == 50
    assert simulate(1).digest != simulate(2).digest


def test_some_seeds_have_slow_links_and_most_do_not() -> None:
    slow = [plan for plan in map(draw, range(500)) if plan.send_buffer]
    assert 50 < len(slow) < 150
    assert all(plan.link_bytes_per_s > 0 for plan in slow)


def test_no_guarantee_is_broken_in_bulk() -> None:
    """Seeds whose application sends by `send_many`."""
    _run((seed for seed in range(BULK_SEEDS, BULK_SEEDS + 200) if draw(seed).bulk), BULK_BUDGET_S)


def test_no_guarantee_is_broken_in_event_loops() -> None:
    """Seeds whose application uses asyncio."""
    _run(range(ASYNCIO_SEEDS, ASYNCIO_SEEDS + 200), ASYNCIO_BUDGET_S)


def _run(seeds: Iterable[int], budget_s: float) -> None:
    deadline = time.monotonic() + budget_s
    for tried, seed in enumerate(seeds):
        if tried >= len(TEMPERS) and time.monotonic() > deadline:
            break
        result = simulate(seed)
        assert result.ok, f"{result}\nreplay it: make simulate SEEDS={seed}"


def test_older_seeds_have_neither_bulk_nor_asyncio() -> None:
    assert not any(draw(seed).bulk or draw(seed).tasks for seed in range(BULK_SEEDS - 500, BULK_SEEDS))
    assert not any(draw(seed).tasks for seed in range(ASYNCIO_SEEDS - 500, ASYNCIO_SEEDS))
