"""The tables of the peers' scenarios name existing tests, and every method of Java's test classes once."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests" / "PEERS.md"
METHODS = {"SenderTest": 76, "RecordAccumulatorTest": 35, "MetadataTest": 29, "NetworkClientTest": 41}
"""Test methods in kafka-clients 4.3.1."""


class Row(NamedTuple):
    """One line of a table."""

    behaviour: str
    origin: str
    here: str


@cache
def rows() -> tuple[Row, ...]:
    """The rows of all subjects."""
    found = []
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 3 and cells[0] != "behaviour":
            found.append(Row(*cells))
    return tuple(found)


def files() -> dict[str, str]:
    """Short name → file."""
    return dict(re.findall(r"^\| (\w+) \| (\S+\.(?:py|rs)) \|$", TABLE.read_text(encoding="utf-8"), re.MULTILINE))


@cache
def names_in(file: str) -> frozenset[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    pattern = r"#\[test\]\s+fn (\w+)\(" if file.endswith(".rs") else r"^\s*(?:async )?def (test_\w+)\("
    return frozenset(re.findall(pattern, text, re.MULTILINE))


@pytest.mark.parametrize("java_class", METHODS)
def test_every_method_is_in_one_row(java_class: str) -> None:
    origins = [row.origin for row in rows() if row.origin.startswith(f"{java_class} ")]
    named = Counter(name for origin in origins for name in re.findall(r"`(\w+)`", origin))
    assert [name for name, times in named.items() if times > 1] == []
    assert len(named) == METHODS[java_class]


@pytest.mark.parametrize("number", [68, 76, 90, 94, *range(103, 108), 117, 143, 144, 146, 151, 152])
def test_every_test_of_librdkafka_is_there(number: int) -> None:
    assert any(f"{number:04}" in row.origin for row in rows() if row.origin.startswith("librdkafka "))


def test_every_row_has_a_known_origin() -> None:
    assert {row.origin.split()[0] for row in rows()} == {*METHODS, "librdkafka"}


def test_every_row_names_existing_tests_or_the_reason_why_there_is_none() -> None:
    short = files()
    for row in rows():
        references = re.findall(r"`(\w+)::(\w+)`", row.here)
        assert references or row.here.startswith(("Not built:", "Does not apply:")), row
        for file, test in references:
            assert test in names_in(short[file]), f"{short[file]} has no {test}"


def test_every_listed_file_is_used() -> None:
    assert {file for row in rows() for file in re.findall(r"`(\w+)::", row.here)} == set(files())
