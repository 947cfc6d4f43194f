"""The lists of the peers' scenarios name existing tests, and every method of Java's test classes once."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
LISTS = ROOT / "tests" / "PEERS.md"
METHODS = {"SenderTest": 76, "RecordAccumulatorTest": 35, "MetadataTest": 29, "NetworkClientTest": 41}
"""Test methods in kafka-clients 4.3.1."""


class Item(NamedTuple):
    """One item of a list, and its two sub-items."""

    behaviour: str
    origin: str
    here: str


@cache
def items() -> tuple[Item, ...]:
    """The items of all subjects."""
    found = []
    for section in re.split(r"^## ", LISTS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for item in re.split(r"^\* ", section, flags=re.MULTILINE)[1:]:
            parts = (" ".join(part.split()) for part in re.split(r"^  \* ", item, flags=re.MULTILINE))
            found.append(Item(*parts))
    return tuple(found)


def files() -> dict[str, str]:
    """Short name → file."""
    return dict(re.findall(r"^\| (\w+) \| (\S+\.(?:py|rs)) \|$", LISTS.read_text(encoding="utf-8"), re.MULTILINE))


@cache
def names_in(file: str) -> frozenset[str]:
    text = (ROOT / file).read_text(encoding="utf-8")
    pattern = r"#\[test\]\s+fn (\w+)\(" if file.endswith(".rs") else r"^\s*(?:async )?def (test_\w+)\("
    return frozenset(re.findall(pattern, text, re.MULTILINE))


@pytest.mark.parametrize("java_class", METHODS)
def test_every_method_is_in_one_item(java_class: str) -> None:
    origins = [item.origin for item in items() if item.origin.startswith(f"{java_class} ")]
    named = Counter(name for origin in origins for name in re.findall(r"`(\w+)`", origin))
    assert [name for name, times in named.items() if times > 1] == []
    assert len(named) == METHODS[java_class]


@pytest.mark.parametrize("number", [68, 76, 86, 90, 94, *range(103, 108), 117, 143, 144, 146, 151, 152])
def test_every_test_of_librdkafka_is_listed(number: int) -> None:
    assert any(f"{number:04}" in item.origin for item in items() if item.origin.startswith("librdkafka "))


def test_every_item_has_a_known_origin() -> None:
    assert {item.origin.split()[0] for item in items()} == {*METHODS, "librdkafka"}


def test_every_item_names_existing_tests_or_the_reason_why_there_is_none() -> None:
    short = files()
    for item in items():
        references = re.findall(r"`(\w+)::(\w+)`", item.here)
        assert references or item.here.startswith(("Not built:", "Does not apply:")), item
        for file, test in references:
            assert test in names_in(short[file]), f"{short[file]} has no {test}"


def test_every_listed_file_is_used() -> None:
    assert {file for item in items() for file in re.findall(r"`(\w+)::", item.here)} == set(files())
