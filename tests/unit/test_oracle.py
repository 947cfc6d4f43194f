"""The oracle must find what it is there to find: one broken promise at a time."""

from __future__ import annotations

import pytest

from support.oracle import Logged, Outcome, Told, judge


def told(number: int, outcome: Outcome = "acknowledged", offset: int = -1) -> Told:
    return Told("t-0", "a", number, outcome, offset)


def logged(*numbers: int, first: int = 0) -> dict[object, list[Logged]]:
    return {"t-0": [Logged("a", number, first + at) for at, number in enumerate(numbers)]}


def test_what_is_promised_and_there_is_fine() -> None:
    records = [told(1, offset=0), told(2), told(3, "not persisted"), told(4, "possibly persisted"), told(5)]
    assert judge(records, logged(1, 2, 4, 5)).ok
    verdict = judge(records, logged(1, 2, 4, 5))
    assert verdict.persisted_though_failed == 1
    assert "5 records: 3 acknowledged, 1 not persisted, 1 possibly persisted; nothing broken" in str(verdict)
    assert judge(records, logged(1, 2, 5)).ok, "possibly persisted: either way"


@pytest.mark.parametrize(
    ("records", "log", "violation"),
    [
        ([told(1)], logged(), "lost"),
        ([told(1)], logged(1, 1), "doubled"),
        ([told(1, "possibly persisted")], logged(1, 1), "doubled"),
        ([told(1), told(2)], logged(2, 1), "reordered"),
        ([told(1, "possibly persisted"), told(2)], logged(2, 1), "reordered"),
        ([told(1, "not persisted")], logged(1), "false failure"),
        ([told(1, offset=7)], logged(1), "misplaced"),
        ([told(1, "unresolved")], logged(), "unresolved"),
        ([told(1)], logged(1, 9), "unknown"),
    ],
)
def test_each_broken_promise_is_found(records: list[Told], log: dict[object, list[Logged]], violation: str) -> None:
    verdict = judge(records, log)
    assert dict(verdict.violations) == {violation: 1}
    assert f"{violation}: record" in str(verdict)


def test_senders_and_partitions_have_an_order_each() -> None:
    records = [
        Told("t-0", "a", 1, "acknowledged"),
        Told("t-0", "b", 0, "acknowledged"),
        Told("t-1", "a", 0, "acknowledged"),
    ]
    logs: dict[object, list[Logged]] = {"t-0": [Logged("a", 1, 0), Logged("b", 0, 1)], "t-1": [Logged("a", 0, 0)]}
    assert judge(records, logs).ok


def test_a_topic_made_again_may_have_lost_what_it_held() -> None:
    records = [told(1, offset=0), told(2, offset=1), told(3, offset=0)]
    assert judge(records, logged(3)).violations["lost"] == 2
    assert judge(records, logged(3), cut={"t-0": -1}).ok
    assert judge([told(1, offset=3), told(2, offset=5)], logged(2, first=5), cut={"t-0": 5}).ok
    assert judge([told(1, offset=6)], logged(), cut={"t-0": 5}).violations["lost"] == 1


def test_single_records_may_be_forgiven_for_being_lost_and_for_nothing_else() -> None:
    records = [told(1), told(2), told(3)]
    verdict = judge(records, logged(3), forgive=lambda record: record.number < 3)
    assert verdict.ok
    assert verdict.forgiven == 2
    assert judge(records, logged(3), forgive=lambda record: record.number < 2).violations == {"lost": 1}
    assert judge(records, logged(2, 1, 3), forgive=lambda _: True).violations == {"reordered": 1}


def test_what_failed_may_come_late_where_nothing_fences_it() -> None:
    records = [told(1, "possibly persisted"), told(2), told(3)]
    assert judge(records, logged(2, 1, 3)).violations["reordered"] == 1
    assert judge(records, logged(2, 1, 3), unfenced=True).ok
    assert judge(records, logged(1, 3, 2), unfenced=True).violations["reordered"] == 1, "what was acknowledged may not"


def test_examples_are_few() -> None:
    verdict = judge([told(number) for number in range(100)], logged())
    assert verdict.violations["lost"] == 100
    assert len(verdict.examples) == 5
