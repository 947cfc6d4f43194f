"""The list of the peers' scenarios names tests that exist, and every method of Java's once."""

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
    """One item of a list, and its two sub-items."""

    there: str
    behaviour: str
    here: str


def sections() -> dict[str, list[Row]]:
    """Heading → the rows below it."""
    found: dict[str, list[Row]] = {}
    for section in re.split(r"^#+ ", TABLE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        for item in re.split(r"^\* ", body, flags=re.MULTILINE)[1:]:
            parts = (" ".join(part.split()) for part in re.split(r"^  \* ", item, flags=re.MULTILINE))
            found.setdefault(heading, []).append(Row(*parts))
    return found


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
    named = Counter(name for row in sections()[java_class] for name in re.findall(r"`(\w+)`", row.there))
    assert [name for name, times in named.items() if times > 1] == []
    assert len(named) == METHODS[java_class]


@pytest.mark.parametrize("number", [68, 76, 90, 94, *range(103, 108), 117, 143, 144, 146, 151, 152])
def test_every_test_of_librdkafka_is_there(number: int) -> None:
    assert any(f"{number:04}" in row.there for row in sections()["librdkafka"])


def test_every_row_names_tests_that_exist_or_says_why_there_is_none() -> None:
    short = files()
    for rows in sections().values():
        for row in rows:
            references = re.findall(r"`(\w+)::(\w+)`", row.here)
            assert references or row.here.startswith(("Not built:", "Does not apply:")), row
            for file, test in references:
                assert test in names_in(short[file]), f"{short[file]} has no {test}"


def test_every_listed_file_is_used() -> None:
    used = {file for rows in sections().values() for row in rows for file in re.findall(r"`(\w+)::", row.here)}
    assert used == set(files())
