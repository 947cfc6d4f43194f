"""Kafka's serializers of single values, with the same bytes as Java's, and JSON.

Numbers are big-endian. Java: `org.apache.kafka.common.serialization`.
"""

# Callers are not always type-checked: this file catches what the annotations rule out.
# mypy: warn-unreachable=False

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from penstock.errors import ConfigError, SerializationError
from penstock.serialization.protocol import BytesLike, Headers

if TYPE_CHECKING:
    from uuid import UUID

T_contra = TypeVar("T_contra", contravariant=True)


class BaseSerializer(Generic[T_contra]):
    """Base of the serializers below, which need no configuration and hold no resources."""

    __slots__ = ()

    def __repr__(self) -> str:
        """The state after construction."""
        return f"{type(self).__name__}()"

    def configure(self, configs: Mapping[str, Any], is_key: bool, /) -> None:
        """Nothing to configure."""

    def close(self) -> None:
        """Nothing to close."""


class StringSerializer(BaseSerializer[str]):
    """`str` in an encoding, UTF-8 by default. A character that the encoding lacks is an error (Java writes "?")."""

    __slots__ = ("encoding",)

    def __init__(self, encoding: str = "utf-8") -> None:
        """Raises `ConfigError` if Python does not have the encoding."""
        try:
            "".encode(encoding)
        except LookupError as error:
            raise ConfigError(f"StringSerializer({encoding!r}): unknown encoding", cause=error) from error
        self.encoding: Final = encoding

    def __repr__(self) -> str:
        """With its encoding."""
        return f"StringSerializer({self.encoding!r})"

    def serialize(self, topic: str, headers: Headers, data: str, /) -> bytes | None:
        """The encoded text."""
        if not isinstance(data, str):
            return none_only("a str", data)
        return data.encode(self.encoding)


class ByteArraySerializer(BaseSerializer[BytesLike]):
    """Bytes, unchanged."""

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: BytesLike, /) -> bytes | None:
        """The same bytes; a bytearray or memoryview is copied."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            return none_only("bytes, bytearray or memoryview", data)
        return bytes(data)


class BytesSerializer(ByteArraySerializer):
    """Bytes, unchanged. Java's class of this name takes Java's `Bytes`, which Python does not need."""

    __slots__ = ()


class ByteBufferSerializer(BaseSerializer[BytesLike]):
    """Any buffer, such as a `memoryview`, an `array` or a NumPy array: its bytes in C order.

    Java takes a `ByteBuffer` from its start to its limit; a slice of a `memoryview` has the same meaning here.
    """

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: BytesLike, /) -> bytes | None:
        """The buffer's bytes."""
        try:
            return memoryview(data).tobytes()
        except TypeError:
            return none_only("an object with the buffer protocol", data)


class _IntegerOf(BaseSerializer[int]):
    """A signed integer of a fixed size."""

    __slots__ = ()

    _size: int

    def serialize(self, topic: str, headers: Headers, data: int, /) -> bytes | None:
        """Two's complement, big-endian."""
        if not isinstance(data, int) or isinstance(data, bool):
            return none_only("an int", data)
        try:
            return data.to_bytes(self._size, "big", signed=True)
        except OverflowError:
            raise SerializationError(f"{_shown(data)} does not fit into {8 * self._size} bits") from None


class ShortSerializer(_IntegerOf):
    """`int` in 16 bits."""

    __slots__ = ()
    _size = 2


class IntegerSerializer(_IntegerOf):
    """`int` in 32 bits."""

    __slots__ = ()
    _size = 4


class LongSerializer(_IntegerOf):
    """`int` in 64 bits."""

    __slots__ = ()
    _size = 8


class _FloatOf(BaseSerializer[float]):
    """A number in an IEEE 754 format."""

    __slots__ = ()

    _format: struct.Struct
    _nan: bytes

    def serialize(self, topic: str, headers: Headers, data: float, /) -> bytes | None:
        """IEEE 754, big-endian; every NaN is written as the same one."""
        if not isinstance(data, (float, int)) or isinstance(data, bool):
            return none_only("a float", data)
        if data != data:  # Java's doubleToLongBits has one NaN
            return self._nan
        try:
            return self._format.pack(data)
        except (OverflowError, struct.error):  # the latter for an int beyond any float
            raise SerializationError(f"{_shown(data)} does not fit into {8 * self._format.size} bits") from None


class FloatSerializer(_FloatOf):
    """A number in 32 bits, rounded to the nearest; a number that is too large is an error."""

    __slots__ = ()
    _format = struct.Struct(">f")
    _nan = b"\x7f\xc0\x00\x00"


class DoubleSerializer(_FloatOf):
    """A number in 64 bits."""

    __slots__ = ()
    _format = struct.Struct(">d")
    _nan = b"\x7f\xf8\x00\x00\x00\x00\x00\x00"


class BooleanSerializer(BaseSerializer[bool]):
    """`bool` in one byte, 0 or 1."""

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: bool, /) -> bytes | None:
        """One byte."""
        if not isinstance(data, bool):
            return none_only("a bool", data)
        return b"\x01" if data else b"\x00"


class UUIDSerializer(BaseSerializer["UUID"]):
    """`uuid.UUID` as its text of 36 characters, in an encoding (UTF-8 by default)."""

    __slots__ = ("encoding",)

    def __init__(self, encoding: str = "utf-8") -> None:
        """Raises `ConfigError` if Python does not have the encoding."""
        self.encoding: Final = StringSerializer(encoding).encoding

    def serialize(self, topic: str, headers: Headers, data: UUID, /) -> bytes | None:
        """The text, lower case."""
        from uuid import UUID  # a caller with such a value has imported this module

        if not isinstance(data, UUID):
            return none_only("a uuid.UUID", data)
        return str(data).encode(self.encoding)


class VoidSerializer(BaseSerializer[None]):
    """Nothing but None."""

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: None, /) -> bytes | None:
        """None, for None."""
        return none_only("None", data)


def compact_json(value: Any) -> str:
    """JSON without spaces, in Unicode. NaN and the infinities, which JSON does not have, are errors."""
    import json  # slow to import, and not used by every producer

    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class JSONSerializer(BaseSerializer[Any]):
    """Any value that JSON can express, as compact UTF-8.

    Args:
        dumps: a function that returns the JSON as `str` or bytes, for example `orjson.dumps`.
    """

    __slots__ = ("dumps",)

    def __init__(self, dumps: Callable[[Any], str | bytes] = compact_json) -> None:
        """By default compact JSON that refuses NaN."""
        self.dumps: Final = dumps

    def serialize(self, topic: str, headers: Headers, data: Any, /) -> bytes | None:
        """The JSON text."""
        if data is None:  # a tombstone, not the text "null"
            return None
        text = self.dumps(data)
        return text.encode("utf-8") if isinstance(text, str) else text


def none_only(wanted: str, data: object) -> bytes | None:
    """None for None; any other value has the wrong type and raises."""
    if data is None:
        return None
    raise SerializationError(f"{wanted} is needed, not {type(data).__name__}")


def _shown(number: float) -> str:
    try:
        text = str(number)
    except ValueError:  # Python does not print integers of thousands of digits
        return "the number"
    return text if len(text) < 40 else f"{text[:37]}…"
