"""The simulation, as far as `make test` runs it: a fixed budget of seeds, and that a seed is a seed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulation.plan import BULK_SEEDS, TEMPERS, draw
from simulation.run import simulate

ROOT = Path(__file__).resolve().parents[2]
BUDGET_S = 60.0
BULK_BUDGET_S = 15.0
SEEDS = 400


@pytest.mark.timeout(600)
def test_no_promise_is_broken() -> None:
    """As many seeds as fit into the budget, each kind of trouble at least once; `make simulate` runs more."""
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
    """In other processes, with other hash seeds and other addresses: the same trace to the last line."""
    code = "from simulation.run import simulate; print(*(simulate(seed).digest for seed in (7, 8, 9)))"

    def digests(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout

    assert digests("1") == digests("2")


def test_seeds_differ_and_know_every_temper() -> None:
    assert {str(draw(seed)) for seed in range(50)} == {str(draw(seed)) for seed in range(50)}
    assert len({str(draw(seed)) for seed in range(50)}) == 50
    assert simulate(1).digest != simulate(2).digest


def test_no_promise_is_broken_in_bulk() -> None:
    """Seeds whose application sends by `send_many`."""
    seeds = (seed for seed in range(BULK_SEEDS, BULK_SEEDS + 200) if draw(seed).bulk)
    deadline = time.monotonic() + BULK_BUDGET_S
    for tried, seed in enumerate(seeds):
        if tried >= len(TEMPERS) and time.monotonic() > deadline:
            break
        result = simulate(seed)
        assert result.ok, f"{result}\nreplay it: make simulate SEEDS={seed}"


def test_seeds_from_before_bulk_are_as_they_were() -> None:
    assert not any(draw(seed).bulk for seed in range(BULK_SEEDS - 500, BULK_SEEDS))
