"""The oracle must find each broken promise, one at a time."""

from __future__ import annotations

import pytest

from support.oracle import Logged, Outcome, Reported, judge


def reported(number: int, outcome: Outcome = "acknowledged", offset: int = -1) -> Reported:
    return Reported("t-0", "a", number, outcome, offset)


def logged(*numbers: int, first: int = 0) -> dict[object, list[Logged]]:
    return {"t-0": [Logged("a", number, first + at) for at, number in enumerate(numbers)]}


def test_acknowledged_records_in_the_log_are_no_violation() -> None:
    records = [
        reported(1, offset=0),
        reported(2),
        reported(3, "not persisted"),
        reported(4, "possibly persisted"),
        reported(5),
    ]
    assert judge(records, logged(1, 2, 4, 5)).ok
    verdict = judge(records, logged(1, 2, 4, 5))
    assert verdict.persisted_though_failed == 1
    assert "5 records: 3 acknowledged, 1 not persisted, 1 possibly persisted; nothing broken" in str(verdict)
    assert judge(records, logged(1, 2, 5)).ok, "possibly persisted: either way"


@pytest.mark.parametrize(
    ("records", "log", "violation"),
    [
        ([reported(1)], logged(), "lost"),
        ([reported(1)], logged(1, 1), "doubled"),
        ([reported(1, "possibly persisted")], logged(1, 1), "doubled"),
        ([reported(1), reported(2)], logged(2, 1), "reordered"),
        ([reported(1, "possibly persisted"), reported(2)], logged(2, 1), "reordered"),
        ([reported(1, "not persisted")], logged(1), "false failure"),
        ([reported(1, offset=7)], logged(1), "misplaced"),
        ([reported(1, "unresolved")], logged(), "unresolved"),
        ([reported(1)], logged(1, 9), "unknown"),
    ],
)
def test_each_kind_of_violation_is_found(
    records: list[Reported], log: dict[object, list[Logged]], violation: str
) -> None:
    verdict = judge(records, log)
    assert dict(verdict.violations) == {violation: 1}
    assert f"{violation}: record" in str(verdict)


def test_each_sender_and_partition_has_its_own_order() -> None:
    records = [
        Reported("t-0", "a", 1, "acknowledged"),
        Reported("t-0", "b", 0, "acknowledged"),
        Reported("t-1", "a", 0, "acknowledged"),
    ]
    logs: dict[object, list[Logged]] = {"t-0": [Logged("a", 1, 0), Logged("b", 0, 1)], "t-1": [Logged("a", 0, 0)]}
    assert judge(records, logs).ok


def test_a_recreated_topic_may_have_lost_its_records() -> None:
    records = [reported(1, offset=0), reported(2, offset=1), reported(3, offset=0)]
    assert judge(records, logged(3)).violations["lost"] == 2
    assert judge(records, logged(3), cut={"t-0": -1}).ok
    assert judge([reported(1, offset=3), reported(2, offset=5)], logged(2, first=5), cut={"t-0": 5}).ok
    assert judge([reported(1, offset=6)], logged(), cut={"t-0": 5}).violations["lost"] == 1


def test_forgiven_records_may_be_lost_but_nothing_else() -> None:
    records = [reported(1), reported(2), reported(3)]
    verdict = judge(records, logged(3), forgive=lambda record: record.number < 3)
    assert verdict.ok
    assert verdict.forgiven == 2
    assert judge(records, logged(3), forgive=lambda record: record.number < 2).violations == {"lost": 1}
    assert judge(records, logged(2, 1, 3), forgive=lambda _: True).violations == {"reordered": 1}


def test_unfenced_records_may_be_appended_late() -> None:
    records = [reported(1, "possibly persisted"), reported(2), reported(3)]
    assert judge(records, logged(2, 1, 3)).violations["reordered"] == 1
    assert judge(records, logged(2, 1, 3), unfenced=True).ok
    assert judge(records, logged(1, 3, 2), unfenced=True).violations["reordered"] == 1, "acknowledged records may not"


def test_examples_are_few() -> None:
    verdict = judge([reported(number) for number in range(100)], logged())
    assert verdict.violations["lost"] == 100
    assert len(verdict.examples) == 5
