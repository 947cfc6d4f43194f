"""Serializers: their input, their refusals and the texts of these. Java judges the bytes in tests/interop."""

from __future__ import annotations

import json
import math
import re
import uuid
from array import array
from typing import Any

import pytest

from penstock import serialization
from penstock.errors import ConfigError, SerializationError
from penstock.serialization import (
    BooleanSerializer,
    ByteArraySerializer,
    ByteBufferSerializer,
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    JSONSerializer,
    ListSerializer,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
    VoidSerializer,
    as_serializer,
)

BUILT_IN: list[Any] = [
    StringSerializer(),
    ByteArraySerializer(),
    BytesSerializer(),
    ByteBufferSerializer(),
    IntegerSerializer(),
    ShortSerializer(),
    LongSerializer(),
    FloatSerializer(),
    DoubleSerializer(),
    BooleanSerializer(),
    UUIDSerializer(),
    VoidSerializer(),
    ListSerializer(StringSerializer()),
    JSONSerializer(),
]
every_serializer = pytest.mark.parametrize("serializer", BUILT_IN, ids=repr)


def shown(value: Any) -> str:
    """The same in every process, for pytest-xdist: no addresses."""
    if isinstance(value, int) and abs(value) > 2**64:
        return "a large int"
    return re.sub(" at 0x[0-9a-f]+", "", repr(value))


def written(serializer: Any, data: Any) -> Any:
    return serialization.serialize(
        as_serializer(serializer, setting="value.serializer"), "t", (), data, setting="value.serializer"
    )


def refusal(serializer: Any, data: Any) -> SerializationError:
    with pytest.raises(SerializationError) as caught:
        written(serializer, data)
    return caught.value


@every_serializer
def test_none_stays_none(serializer: Any) -> None:
    assert written(serializer, None) is None
    assert serializer.serialize("t", (), None) is None


@every_serializer
def test_a_value_that_fits_no_format_is_refused_with_topic_type_and_setting(serializer: Any) -> None:
    error = refusal(serializer, object())
    assert error.topic == "t"
    assert error.setting == "value.serializer"
    for text in ("topic t", "type object", "value.serializer"):
        assert text in str(error)


@pytest.mark.parametrize(
    ("serializer", "data", "expected"),
    [
        (StringSerializer(), "grüß", "grüß".encode()),
        (StringSerializer(), "", b""),
        (StringSerializer("utf-16-be"), "ab", b"\0a\0b"),
        (ByteArraySerializer(), bytearray(b"ab"), b"ab"),
        (ByteBufferSerializer(), memoryview(b"abcd")[::2], b"ac"),
        (ByteBufferSerializer(), array("H", [1]), array("H", [1]).tobytes()),
        (ShortSerializer(), -2, b"\xff\xfe"),
        (IntegerSerializer(), 1, b"\0\0\0\1"),
        (LongSerializer(), -(2**63), b"\x80" + bytes(7)),
        (FloatSerializer(), 1.5, b"\x3f\xc0\0\0"),
        (DoubleSerializer(), 1, b"\x3f\xf0" + bytes(6)),
        (DoubleSerializer(), -math.nan, b"\x7f\xf8" + bytes(6)),
        (BooleanSerializer(), True, b"\1"),
        (BooleanSerializer(), False, b"\0"),
        (UUIDSerializer(), uuid.UUID(int=1), b"00000000-0000-0000-0000-000000000001"),
        (JSONSerializer(), {"ä": [1, None, 1.5]}, '{"ä":[1,null,1.5]}'.encode()),
        (ListSerializer(StringSerializer()), ["a", None, ""], b"\1\0\0\0\3\0\0\0\1a\xff\xff\xff\xff\0\0\0\0"),
        (ListSerializer(ShortSerializer()), (7, None), b"\0\0\0\0\1\0\0\0\1\0\0\0\2\0\7"),
        (ListSerializer(IntegerSerializer), [], b"\0" + bytes(8)),
    ],
    ids=shown,
)
def test_bytes(serializer: Any, data: Any, expected: bytes) -> None:
    assert written(serializer, data) == expected


@pytest.mark.parametrize(
    ("serializer", "data", "text"),
    [
        (StringSerializer(), b"ab", "a str is needed"),
        (StringSerializer("ascii"), "ä", "UnicodeEncodeError"),
        (StringSerializer(), "\ud800", "UnicodeEncodeError"),
        (ByteArraySerializer(), "ab", "bytes"),
        (IntegerSerializer(), True, "an int is needed, not bool"),
        (IntegerSerializer(), 1.0, "an int is needed, not float"),
        (IntegerSerializer(), 2**31, "32 bits"),
        (ShortSerializer(), -(2**15) - 1, "16 bits"),
        (LongSerializer(), 2**63, "64 bits"),
        (LongSerializer(), 10**5000, "64 bits"),
        (FloatSerializer(), 1e39, "32 bits"),
        (DoubleSerializer(), 10**400, "64 bits"),
        (DoubleSerializer(), True, "a float is needed, not bool"),
        (BooleanSerializer(), 1, "a bool is needed, not int"),
        (UUIDSerializer(), str(uuid.UUID(int=1)), "a uuid.UUID is needed"),
        (VoidSerializer(), "x", "None is needed"),
        (ListSerializer(StringSerializer()), "abc", "a list is needed"),
        (ListSerializer(StringSerializer()), [1], "a str is needed, not int"),
        (ListSerializer(lambda element: None), ["a"], "returned NoneType"),
        (JSONSerializer(), math.nan, "ValueError"),
        (JSONSerializer(), [math.inf], "ValueError"),
        (JSONSerializer(), object(), "TypeError"),
        (JSONSerializer(), "\ud800", "UnicodeEncodeError"),
        (None, "ab", "value_serializer=StringSerializer()"),
        (None, 5, "Give value_serializer=IntegerSerializer(), LongSerializer() or JSONSerializer()."),
        (None, True, "Give value_serializer=BooleanSerializer() or JSONSerializer()."),
        (None, 0.5, "Give value_serializer=DoubleSerializer() or JSONSerializer()."),
        (None, uuid.UUID(int=1), "Give value_serializer=UUIDSerializer()."),
        (None, {"a": 1}, "Give value_serializer=JSONSerializer()."),
        (None, object(), "Give value_serializer a function that turns such a value into bytes."),
    ],
    ids=shown,
)
def test_refusals(serializer: Any, data: Any, text: str) -> None:
    assert text in str(refusal(serializer, data))


def test_an_unknown_encoding_is_a_configuration_error() -> None:
    for make in (StringSerializer, UUIDSerializer):
        with pytest.raises(ConfigError, match="klingon"):
            make("klingon")


def test_json_can_be_written_by_another_function() -> None:
    assert written(JSONSerializer(dumps=json.dumps), {"a": [1, 2]}) == b'{"a": [1, 2]}'
    assert written(JSONSerializer(dumps=lambda value: b"bytes, as orjson's"), 1) == b"bytes, as orjson's"


class Upper:
    """An object as Java's: it gets topic and headers, too."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def serialize(self, topic: str, headers: Any, data: str) -> bytes:
        self.calls.append((topic, headers))
        return data.upper().encode()

    def configure(self, configs: Any, is_key: bool) -> None:
        self.calls.append((configs, is_key))

    def close(self) -> None:
        self.calls.append("closed")


class NeedsArguments(Upper):
    def __init__(self, registry: str) -> None:
        super().__init__()


def test_an_object_with_serialize_gets_topic_and_headers() -> None:
    upper = Upper()
    headers = (("source", b"docs"),)
    assert (
        serialization.serialize(
            as_serializer(upper, setting="key.serializer"), "t", headers, "a", setting="key.serializer"
        )
        == b"A"
    )
    assert upper.calls == [("t", headers)]


def test_a_class_is_instantiated() -> None:
    assert written(Upper, "a") == b"A"
    with pytest.raises(ConfigError, match=r"value\.serializer = NeedsArguments: it needs arguments .*pass an instance"):
        as_serializer(NeedsArguments, setting="value.serializer")


def test_a_callable_takes_the_value_alone() -> None:
    assert written(str.encode, "a") == b"a"
    assert written(lambda value: None, "a") is None


@pytest.mark.parametrize("given", [5, "utf-8", object()])
def test_anything_else_is_a_configuration_error(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"key\.serializer = ") as caught:
        as_serializer(given, setting="key.serializer")
    assert caught.value.setting == "key.serializer"


@pytest.mark.parametrize("data", [b"ab", bytearray(b"ab"), memoryview(b"ab")], ids=lambda it: type(it).__name__)
def test_without_a_serializer_bytes_pass_untouched(data: Any) -> None:
    assert written(None, data) is data


def test_the_exception_of_a_serializer_is_the_cause() -> None:
    def fail(value: Any) -> bytes:
        raise KeyError("column")

    error = refusal(fail, {"a": 1})
    assert isinstance(error.cause, KeyError)
    assert error.__cause__ is error.cause
    assert "a value of type dict cannot be serialized (value.serializer): KeyError: 'column'" in str(error)


def test_a_result_that_is_no_bytes_is_refused() -> None:
    assert "returned str, not bytes" in str(refusal(lambda value: "text", 1))


def test_configure_and_close_are_optional() -> None:
    upper, plain = Upper(), as_serializer(str.encode, setting="key.serializer")
    for one in (upper, plain, ListSerializer(upper)):
        serialization.configure(one, {"a": 1}, True)
        serialization.close(one)
    assert upper.calls == [({"a": 1}, True), "closed"] * 2


def test_the_message_names_key_or_value() -> None:
    with pytest.raises(SerializationError, match="a key of type int"):
        serialization.serialize(StringSerializer(), "t", (), 1, setting="key.serializer")
