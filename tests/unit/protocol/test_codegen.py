"""The generator, on an invented definition with the features that the definitions generated here do not use."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from penstock.protocol.primitives import ProtocolError

sys.path.append(str(Path(__file__).parents[3]))

from codegen.definitions import Versions, parse_message, snake_case
from codegen.render import render_module

DEFINITION = """
// A comment, as the definitions have them.
{ "apiKey": 900, "type": "request", "name": "OddRequest", "validVersions": "1-4", "flexibleVersions": "3+",
  "commonStructs": [{ "name": "Pair", "versions": "0+", "fields": [
    { "name": "Left", "type": "int8", "versions": "0+", "default": "0x7f" },
    { "name": "Right", "type": "string", "versions": "3+", "nullableVersions": "3+", "default": "null" }]}],
  "fields": [
    // Versions of its own in the middle.
    { "name": "Middle", "type": "int16", "versions": "2-3" },
    { "name": "Gone", "type": "int16", "versions": "0" },
    { "name": "Maybe", "type": "Pair", "versions": "1+", "nullableVersions": "2-3", "default": "null" },
    { "name": "Pairs", "type": "[]Pair", "versions": "1+", "nullableVersions": "1+", "default": "null" },
    { "name": "From", "type": "float64", "versions": "1+", "default": "0.5" },
    { "name": "Words", "type": "[]string", "versions": "3+", "taggedVersions": "3+", "tag": 1,
      "nullableVersions": "3+" },
    { "name": "Count", "type": "uint32", "versions": "4+", "taggedVersions": "4+", "tag": 0, "default": "7" },
    { "name": "Size", "type": "uint16", "versions": "4+", "ignorable": true }
  ]
}
"""


@pytest.fixture(scope="module")
def odd() -> Any:
    module = SimpleNamespace()
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(compile(render_module([parse_message(DEFINITION)], '"""Odd."""'), "odd.py", "exec"), namespace)
    module.__dict__.update(namespace)
    return module


def test_every_kind_of_field_round_trips(odd: Any) -> None:
    pair = odd.Pair(left=1)
    for version, fields in {
        1: {"maybe": pair},
        2: {"middle": -1, "pairs": (pair, pair)},
        3: {"maybe": odd.Pair(left=2, right="r"), "words": None, "pairs": ()},
        4: {"maybe": pair, "words": ("a", ""), "count": 0xFFFFFFFF, "size": 65535},
    }.items():
        message = odd.OddRequest(**fields)
        assert odd.OddRequest.decode(message.encode(version), version) == message


def test_nullable_structs_are_preceded_by_their_presence(odd: Any) -> None:
    half = "3fe0000000000000"
    assert odd.OddRequest().encode(2).hex() == "0000" + "ff" + "ffffffff" + half
    assert odd.OddRequest(maybe=odd.Pair()).encode(2).hex() == "0000" + "01" + "7f" + "ffffffff" + half


def test_tagged_fields_are_written_in_the_order_of_their_tags(odd: Any) -> None:
    message = odd.OddRequest(maybe=odd.Pair(), words=None, count=1)
    assert message.encode(4).endswith(bytes.fromhex("02" + "0004" + "00000001" + "0101" + "00"))


@pytest.mark.parametrize(
    ("version", "fields", "error"),
    [
        (1, {"maybe": None}, "OddRequest.maybe is None"),
        (4, {"maybe": None}, "OddRequest.maybe is None"),
        (1, {"middle": 1}, "OddRequest.middle"),
        (4, {"middle": 1}, "OddRequest.middle"),
        (2, {"words": ("a",)}, "OddRequest.words"),
        (3, {"count": 8}, "OddRequest.count"),
        (2, {"pairs": [{"right": "r"}]}, "Pair.right"),
    ],
)
def test_values_that_a_version_cannot_encode_are_refused(
    odd: Any, version: int, fields: dict[str, Any], error: str
) -> None:
    fields = {"maybe": odd.Pair()} | fields
    if "pairs" in fields:
        fields["pairs"] = tuple(odd.Pair(**pair) for pair in fields["pairs"])
    with pytest.raises(ProtocolError, match=error):
        odd.OddRequest(**fields).encode(version)


def test_fields_of_removed_versions_and_keywords(odd: Any) -> None:
    assert not hasattr(odd.OddRequest, "gone")
    assert odd.OddRequest().from_ == 0.5


@pytest.mark.parametrize(
    ("text", "low", "high"), [("3", 3, 3), ("3+", 3, 32767), ("3-5", 3, 5), ("none", 0, -1), (None, 0, -1)]
)
def test_version_ranges_are_parsed(text: str | None, low: int, high: int) -> None:
    assert Versions.parse(text) == Versions(low, high)


def test_names_become_snake_case() -> None:
    assert [snake_case(name) for name in ("TimeoutMs", "timeoutMs", "Enable2Pc")] == [
        "timeout_ms",
        "timeout_ms",
        "enable2_pc",
    ]
