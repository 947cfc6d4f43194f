"""Broken rules are noticed: see `simulation.mutants`, which also tries those that take a build (`make mutants`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.mutants import MUTANTS, Mutant, catches, mutated

IN_PYTHON = [mutant for mutant in MUTANTS if not mutant.is_native]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_mutant_still_applies(mutant: Mutant) -> None:
    assert mutant.source() != (Path(__file__).parents[2] / mutant.file).read_text()
    assert mutant.seed >= 0 or mutant.test, "its seed is not known: make mutants finds one"


@pytest.mark.parametrize("mutant", IN_PYTHON, ids=lambda mutant: mutant.name)
def test_a_broken_rule_of_the_control_plane_is_noticed(mutant: Mutant, tmp_path: Path) -> None:
    with mutated(mutant, tmp_path) as environment:
        assert catches(mutant, environment, [mutant.seed]) == mutant.seed
