"""The demo's comparison finds each kind of difference."""

from __future__ import annotations

import pytest

from penstock.cli.proof import Differences, Seen, compare

SENT = [(b"a", b"1"), (b"b", b"2"), (None, b"3"), (b"a", None)]
GOOD = [Seen(0, 1, b"a", b"1"), Seen(0, 4, b"a", None), Seen(1, 2, b"b", b"2"), Seen(1, 3, None, b"3")]


def found(seen: list[Seen], acknowledged: dict[int, int] | None = None) -> Differences:
    return compare(SENT, {0: 2, 1: 2} if acknowledged is None else acknowledged, seen)


def test_equal_records_have_no_differences() -> None:
    assert found(GOOD) == Differences(0, [])


def test_partitions_may_be_read_in_any_order() -> None:
    assert not found([GOOD[2], GOOD[0], GOOD[3], GOOD[1]]).count


@pytest.mark.parametrize(
    ("seen", "message"),
    [
        (GOOD[:-1], "1 rows are missing, the first one is row 3"),
        ([*GOOD, GOOD[3]], "row 3 is stored 2 times"),
        ([*GOOD, GOOD[3]], "partition 1 holds 3 records, 2 were acknowledged"),
        ([*GOOD[:3], Seen(1, 3, None, b"x")], "row 3: key or value differs from the sent one"),
        ([*GOOD[:3], Seen(1, 3, b"", b"3")], "row 3: key or value differs from the sent one"),
        ([GOOD[1], GOOD[0], *GOOD[2:]], "partition 0: row 1 comes after row 4"),
        ([GOOD[1], GOOD[0], *GOOD[2:]], "key b'a': row 1 comes after row 4"),
        ([GOOD[0], *GOOD[2:], Seen(1, 4, b"a", None)], "key b'a' is in the partitions 0 and 1"),
        ([*GOOD, Seen(1, 0, None, b"?")], "a record of no row that was sent (0)"),
        ([*GOOD, Seen(1, 5, None, b"?")], "a record of no row that was sent (5)"),
        ([], "4 rows are missing, the first one is row 1"),
    ],
)
def test_each_kind_of_difference_is_reported(seen: list[Seen], message: str) -> None:
    differences = found(seen)
    assert differences.count
    assert any(message in text for text in differences.shown)


def test_counts_of_acknowledgments_must_equal_those_of_the_log() -> None:
    assert found(GOOD, {0: 2, 1: 1, 5: 1}).shown == [
        "partition 1 holds 2 records, 1 were acknowledged",
        "partition 5 holds 0 records, 1 were acknowledged",
    ]


def test_many_differences_are_counted_and_few_are_shown() -> None:
    differences = compare([], {}, [Seen(0, 0, None, None)] * 100)
    assert differences.count == 101
    assert len(differences.shown) == 10
