"""A short run of `make chaos`: the plan is always the same, its effect on the records depends on the machine's pace."""

from __future__ import annotations

import itertools

import pytest
from chaos_run import Chaos
from chaos_schedule import DECK, steps
from chaos_traffic import COMPRESSED, IN_BULK, IN_LOOPS

SEED = (
    1942  # with it the steps that have a duration are short: 15 s in all, and the restart of the broker that is killed
)
DECK_OF_THE_TEST = ("burst", "burst", "burst", "cut", "kill", "pause", "move", "evict", "recreate")


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_chaos_loses_doubles_and_reorders_nothing() -> None:
    # Only guarantees are checked. The deadline's check has a tolerance for a busy machine.
    # One of the producers uses asyncio, one sends in bulk, one compresses.
    assert len({*IN_LOOPS, *IN_BULK, *COMPRESSED}) == 3
    report = Chaos(seed=SEED, count=len(DECK_OF_THE_TEST), deck=DECK_OF_THE_TEST, rate=100, tolerance_s=30).run()
    print(report)
    assert report.ok, str(report)
    assert report.figures.acknowledged > 1_000
    assert sum(report.steps.values()) == len(DECK_OF_THE_TEST)
    assert sum(report.faults.values()) > len(DECK_OF_THE_TEST)


def test_the_same_seed_makes_the_same_plan() -> None:
    def plan(seed: int) -> list[str]:
        return [repr(step) for step in itertools.islice(steps(seed, 3), 200)]

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    kinds = {step.kind for step in itertools.islice(steps(1, 3), sum(DECK.values()))}
    assert kinds == set(DECK), "a deck holds every kind"
