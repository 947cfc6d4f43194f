"""The built-in serializers as `send` runs them natively, against the Python ones: the same bytes, the same errors."""

from __future__ import annotations

import enum
import math
import re
import uuid
from typing import Any

import pytest
from facade_support import Log, MakeProducer

from penstock import (
    BooleanSerializer,
    ByteArraySerializer,
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    JSONSerializer,
    KafkaError,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
    VoidSerializer,
    serialization,
)


class Colour(enum.IntEnum):
    RED = 7


class Shout(str):
    __slots__ = ()


class Half(float):
    __slots__ = ()


VALUES: list[Any] = [
    None, b"", b"bytes", bytearray(b"array"), memoryview(b"view"), "", "text", "größer 鍵", "\ud800", Shout("sub"),
    0, -1, 127, -128, 2**15 - 1, 2**15, -(2**15) - 1, 2**31 - 1, 2**31, -(2**31) - 1, 2**63 - 1, 2**63, 10**400, Colour.RED,
    True, False, 0.0, -0.0, 1.5, 3.4e38, 3.5e38, -3.5e38, 1e-50, 1e308, math.nan, math.inf, -math.inf, Half(0.1),
    uuid.UUID(int=0), uuid.UUID("12345678-9abc-def0-1234-56789abcdef0"), [1], {"a": 1}, object(),
]  # fmt: skip

SERIALIZERS: list[Any] = [
    None, StringSerializer(), StringSerializer("UTF8"), StringSerializer("latin-1"), StringSerializer("ascii"),
    StringSerializer("cp1252"), StringSerializer("utf-16"), StringSerializer("utf-8-sig"), BytesSerializer(),
    ByteArraySerializer(), ShortSerializer(), IntegerSerializer(), LongSerializer(), FloatSerializer(), DoubleSerializer(),
    BooleanSerializer(), UUIDSerializer(), UUIDSerializer("utf-16"), VoidSerializer(), JSONSerializer(),
]  # fmt: skip


def outcome(serializer: Any, topic: str, value: Any, setting: str) -> tuple[KafkaError | None, bytes | None]:
    try:
        written = serialization.serialize(serializer, topic, (), value, setting=setting)
    except KafkaError as refused:
        return refused, None
    return None, None if written is None else bytes(written)


@pytest.mark.parametrize("given", SERIALIZERS, ids=repr)
@pytest.mark.parametrize("role", ["key", "value"])
def test_native_serializers_equal_the_python_ones(
    new_producer: MakeProducer, topic: str, log: Log, given: Any, role: str
) -> None:
    setting = f"{role}.serializer"
    python = serialization.as_serializer(given, setting=setting)
    producer = new_producer(linger_ms=0, **({} if given is None else {f"{role}_serializer": given}))
    expected = []
    for value in VALUES:
        record = {"key": value} if role == "key" else {"value": value}
        refused, written = outcome(python, topic, value, setting)
        if refused is None:
            producer.send(topic, **record)
            expected.append(written)
        else:
            with pytest.raises(type(refused), match=f"^{re.escape(str(refused))}$"):
                producer.send(topic, **record)
    producer.flush()
    assert [getattr(found, role) for found in log.records(topic)] == expected


def test_a_subclass_of_a_serializer_is_called(new_producer: MakeProducer, topic: str, log: Log) -> None:
    class Doubled(LongSerializer):
        def serialize(self, topic: str, headers: Any, data: int, /) -> bytes | None:
            return super().serialize(topic, headers, 2 * data)

    producer = new_producer(value_serializer=Doubled())
    producer.send(topic, 4)
    producer.send_many(topic, [5])
    producer.flush()
    assert log.values(topic) == [(8).to_bytes(8), (10).to_bytes(8)]


@pytest.mark.parametrize(
    "headers",
    [
        (("a", b"1"), ("b", None)),
        [("a", b"1"), ("b", None)],
        {"a": b"1", "b": None},
        iter([("a", b"1"), ("b", None)]),
        [["a", b"1"], ("b", None)],
        tuple((f"name {number}", b"x" * number) for number in range(9)),
        [],
        None,
    ],
    ids=["tuple", "list", "dict", "iterator", "of lists", "many", "none", "None"],
)
def test_a_serializer_gets_the_headers_of_every_form(
    new_producer: MakeProducer, topic: str, log: Log, headers: Any
) -> None:
    class Notes:
        seen: Any = None

        def serialize(self, topic: str, headers: Any, data: Any, /) -> bytes:
            Notes.seen = headers
            return b"v"

    new_producer(value_serializer=Notes()).send(topic, 1, headers=headers).result(20)
    [record] = log.records(topic)
    assert type(Notes.seen) is tuple
    assert Notes.seen == record.headers
