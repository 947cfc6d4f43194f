"""Kafka's own serializers check ours: the same values give the same bytes."""

from __future__ import annotations

import math
import random
import struct
import uuid
from typing import Any

from penstock import serialization
from penstock.serialization import (
    BooleanSerializer,
    ByteArraySerializer,
    ByteBufferSerializer,
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    ListSerializer,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
    VoidSerializer,
)
from support.java import JavaError, JavaJudge

SERIALIZERS: dict[str, Any] = {
    "String": StringSerializer,
    "ByteArray": ByteArraySerializer,
    "Bytes": BytesSerializer,
    "ByteBuffer": ByteBufferSerializer,
    "Integer": IntegerSerializer,
    "Short": ShortSerializer,
    "Long": LongSerializer,
    "Float": FloatSerializer,
    "Double": DoubleSerializer,
    "Boolean": BooleanSerializer,
    "UUID": UUIDSerializer,
    "Void": VoidSerializer,
}
chance = random.Random(20240607)


def text() -> str:
    kinds = [(32, 127), (0, 32), (160, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    return "".join(chr(chance.randrange(*chance.choice(kinds))) for _ in range(chance.randrange(12)))


def floats() -> list[float]:
    edges = [0.0, -0.0, 1.0, -1.5, 0.1, math.pi, 1e-45, 5e-324, 2.2250738585072014e-308, math.inf, -math.inf, math.nan]
    return edges + [struct.unpack(">d", chance.randbytes(8))[0] for _ in range(200)]


def integers(bits: int) -> list[int]:
    limit = 1 << bits - 1
    return [0, 1, -1, 127, 128, -129, limit - 1, -limit, *(chance.randrange(-limit, limit) for _ in range(100))]


def values() -> dict[str, list[Any]]:
    blobs = [b"", b"\0", *(chance.randbytes(chance.randrange(40)) for _ in range(50))]
    return {
        "String": ["", "a", "grüß 🚀", "\0", *(text() for _ in range(200))],
        "ByteArray": blobs,
        "Bytes": blobs,
        "ByteBuffer": blobs,
        "Integer": integers(32),
        "Short": integers(16),
        "Long": integers(64),
        "Float": [it for it in floats() if math.isnan(it) or math.isinf(it) or abs(it) < 3.4e38],
        "Double": floats(),
        "Boolean": [True, False],
        "UUID": [
            uuid.UUID(int=0),
            uuid.UUID(int=2**128 - 1),
            *(uuid.UUID(bytes=chance.randbytes(16)) for _ in range(50)),
        ],
        "Void": [],
    }


def as_json(value: Any) -> Any:
    """A value in the judge's form: bytes as hex, floats as Java's text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, float):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), repr(value))
    return [as_json(element) for element in value] if isinstance(value, list) else value


def ours(serializer: Any, value: Any) -> bytes | None:
    written = serialization.serialize(serializer, "topic", (), value, setting="value.serializer")
    return None if written is None else bytes(written)


def test_every_serializer_writes_java_s_bytes(java: JavaJudge) -> None:
    for kind, some in values().items():
        answers = java.serialize({"serializer": kind, "value": as_json(value)} for value in [None, *some])
        assert answers == [ours(SERIALIZERS[kind](), value) for value in [None, *some]], kind


def test_strings_in_other_encodings(java: JavaJudge) -> None:
    for python, name in [("utf-16-be", "UTF-16BE"), ("utf-16-le", "UTF-16LE"), ("iso-8859-1", "ISO-8859-1")]:
        some = ["", "abc", "grüß"]
        answers = java.serialize({"serializer": "String", "encoding": name, "value": value} for value in some)
        assert answers == [ours(StringSerializer(python), value) for value in some]


def test_lists_of_every_kind_with_nulls_among_the_elements(java: JavaJudge) -> None:
    for inner, some in values().items():
        if inner == "ByteBuffer":
            continue  # Java leaves the buffers' positions to the inner serializer; a list cannot show them
        lists: list[list[Any]] = [[], [None], [None, None]]
        if some:
            lists += [[chance.choice([*some, None]) for _ in range(chance.randrange(6))] for _ in range(20)]
        answers = java.serialize({"serializer": "List", "inner": inner, "value": as_json(it)} for it in [None, *lists])
        assert answers == [ours(ListSerializer(SERIALIZERS[inner]()), it) for it in [None, *lists]], inner


def test_the_void_serializer_accepts_only_none(java: JavaJudge) -> None:
    assert java.serialize([{"serializer": "Void", "value": None}]) == [None]
    (answer,) = java.serialize([{"serializer": "Integer", "value": 2**31}])
    assert isinstance(answer, JavaError)
