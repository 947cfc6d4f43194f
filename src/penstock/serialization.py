"""From values to bytes: Kafka's serializers, with the same bytes as Java's (`org.apache.kafka.common.serialization`).

A serializer is an object with `serialize(topic, headers, data)`, or a class of such objects, or a plain callable that
takes the value alone. None never reaches it: a null key or value (a tombstone) stays one. Numbers are big-endian.
"""

# Callers are not always type-checked: what the annotations rule out is what this file has to catch.
# mypy: warn-unreachable=False

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeAlias, TypeVar

from penstock.errors import ConfigError, SerializationError

if TYPE_CHECKING:
    from uuid import UUID

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

Headers: TypeAlias = "Sequence[tuple[str, bytes | None]]"
"""A record's headers, as a serializer sees them."""
BytesLike: TypeAlias = "bytes | bytearray | memoryview"
"""What a serializer may return, besides None."""


class Serializer(Protocol[T_contra]):
    """Turns keys or values into bytes.

    It may also have `configure(configs, is_key)`, called once with the whole configuration before use, and `close()`,
    called when the producer closes.
    """

    def serialize(self, topic: str, headers: Headers, data: T_contra, /) -> BytesLike | None:
        """The bytes of `data`, which is never None; None makes the key null or the value a tombstone."""


# --- Serializers ---


class _Base(Generic[T_contra]):
    """What the serializers below have in common: they need no configuration and hold nothing."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def configure(self, configs: Mapping[str, Any], is_key: bool, /) -> None:
        """Nothing to configure."""

    def close(self) -> None:
        """Nothing to close."""


class StringSerializer(_Base[str]):
    """`str` in an encoding, UTF-8 by default; what it cannot express is an error (Java puts a "?" in its place)."""

    __slots__ = ("encoding",)

    def __init__(self, encoding: str = "utf-8") -> None:
        """Raises `ConfigError` if Python does not know the encoding."""
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
            return _none_only("a str", data)
        return data.encode(self.encoding)


class ByteArraySerializer(_Base[BytesLike]):
    """Bytes as they are."""

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: BytesLike, /) -> bytes | None:
        """The same bytes; what can change is copied."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            return _none_only("bytes, bytearray or memoryview", data)
        return bytes(data)


class BytesSerializer(ByteArraySerializer):
    """Bytes as they are; Java's class of this name takes its own `Bytes`, of which Python has no need."""

    __slots__ = ()


class ByteBufferSerializer(_Base[BytesLike]):
    """Any buffer, such as a `memoryview`, an `array` or a NumPy array: its bytes in C order.

    Java takes a `ByteBuffer` from its start to its limit; a slice of a `memoryview` says the same here.
    """

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: BytesLike, /) -> bytes | None:
        """The buffer's bytes."""
        try:
            return memoryview(data).tobytes()
        except TypeError:
            return _none_only("an object with the buffer protocol", data)


class _IntegerOf(_Base[int]):
    """A signed integer of a fixed size."""

    __slots__ = ()

    _size: int

    def serialize(self, topic: str, headers: Headers, data: int, /) -> bytes | None:
        """Two's complement, big-endian."""
        if not isinstance(data, int) or isinstance(data, bool):
            return _none_only("an int", data)
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


class _FloatOf(_Base[float]):
    """A number in an IEEE 754 format."""

    __slots__ = ()

    _format: struct.Struct
    _nan: bytes

    def serialize(self, topic: str, headers: Headers, data: float, /) -> bytes | None:
        """IEEE 754, big-endian; every NaN is written as the same one."""
        if not isinstance(data, (float, int)) or isinstance(data, bool):
            return _none_only("a float", data)
        if data != data:  # Java's doubleToLongBits knows one NaN
            return self._nan
        try:
            return self._format.pack(data)
        except (OverflowError, struct.error):  # the latter for an int beyond any float
            raise SerializationError(f"{_shown(data)} does not fit into {8 * self._format.size} bits") from None


class FloatSerializer(_FloatOf):
    """A number in 32 bits: rounded to the nearest; one too large for that is an error."""

    __slots__ = ()
    _format = struct.Struct(">f")
    _nan = b"\x7f\xc0\x00\x00"


class DoubleSerializer(_FloatOf):
    """A number in 64 bits."""

    __slots__ = ()
    _format = struct.Struct(">d")
    _nan = b"\x7f\xf8\x00\x00\x00\x00\x00\x00"


class BooleanSerializer(_Base[bool]):
    """`bool` in one byte, 0 or 1."""

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: bool, /) -> bytes | None:
        """One byte."""
        if not isinstance(data, bool):
            return _none_only("a bool", data)
        return b"\x01" if data else b"\x00"


class UUIDSerializer(_Base["UUID"]):
    """`uuid.UUID` as its text of 36 characters, in an encoding (UTF-8 by default)."""

    __slots__ = ("encoding",)

    def __init__(self, encoding: str = "utf-8") -> None:
        """Raises `ConfigError` if Python does not know the encoding."""
        self.encoding: Final = StringSerializer(encoding).encoding

    def serialize(self, topic: str, headers: Headers, data: UUID, /) -> bytes | None:
        """The text, lower case."""
        from uuid import UUID  # whoever has such a value has imported it

        if not isinstance(data, UUID):
            return _none_only("a uuid.UUID", data)
        return str(data).encode(self.encoding)


class VoidSerializer(_Base[None]):
    """Nothing but None."""

    __slots__ = ()

    def serialize(self, topic: str, headers: Headers, data: None, /) -> bytes | None:
        """None, for None."""
        return _none_only("None", data)


# By type and not by any relation to it: a subclass may write another size.
_FIXED_SIZE: Final = (
    ShortSerializer,
    IntegerSerializer,
    FloatSerializer,
    LongSerializer,
    DoubleSerializer,
    UUIDSerializer,
)
_FIXED: Final = 0
_VARIABLE: Final = 1
_NULL: Final = -1
_INT32: Final = struct.Struct(">i")


class ListSerializer(_Base["Iterable[T | None]"], Generic[T]):
    """A list whose elements another serializer writes; None is a null element.

    Java's format: a byte for the layout, then, for elements of a fixed size (integers, floats, UUID), the indexes of
    the null ones, the number of elements and the others' bytes; for all else the number of elements, each with its
    size before it, -1 for null. Sizes and indexes are 32 bits.
    """

    __slots__ = ("_fixed", "inner")

    def __init__(self, inner: Serializer[T] | type[Serializer[T]] | Callable[[T], BytesLike | None]) -> None:
        """`inner` writes the elements: anything that would do as a serializer by itself."""
        self.inner: Final = as_serializer(inner, setting="ListSerializer.inner")
        self._fixed: Final = type(self.inner) in _FIXED_SIZE

    def __repr__(self) -> str:
        """With the serializer of the elements."""
        return f"ListSerializer({self.inner!r})"

    def configure(self, configs: Mapping[str, Any], is_key: bool, /) -> None:
        """Configure the serializer of the elements."""
        configure(self.inner, configs, is_key)

    def close(self) -> None:
        """Close the serializer of the elements."""
        close(self.inner)

    def serialize(self, topic: str, headers: Headers, data: Iterable[T | None], /) -> bytes | None:
        """The whole list."""
        if isinstance(data, (str, bytes, bytearray, memoryview, Mapping)) or not isinstance(data, Iterable):
            return _none_only("a list", data)
        elements = [None if element is None else self._element(topic, headers, element) for element in data]
        parts = [bytes([_FIXED if self._fixed else _VARIABLE])]
        if self._fixed:
            nulls = [index for index, element in enumerate(elements) if element is None]
            parts += [_INT32.pack(number) for number in (len(nulls), *nulls)]
        parts.append(_INT32.pack(len(elements)))
        for element in elements:
            if not self._fixed:
                parts.append(_INT32.pack(_NULL if element is None else len(element)))
            if element is not None:
                parts.append(element)
        return b"".join(parts)

    def _element(self, topic: str, headers: Headers, element: T) -> bytes:
        written = self.inner.serialize(topic, headers, element)
        if not isinstance(written, (bytes, bytearray, memoryview)):
            # A null in the middle of fixed-size elements would shift all that follow; Java fails here, too.
            raise SerializationError(f"{self.inner!r} returned {type(written).__name__} for an element, not bytes")
        return bytes(written)


def compact_json(value: Any) -> str:
    """JSON without blanks, in Unicode; NaN and the infinities, which JSON does not have, are errors."""
    import json  # slow to import, and not everybody's format

    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class JSONSerializer(_Base[Any]):
    """Anything that JSON can express, as compact UTF-8.

    Args:
        dumps: what writes the JSON, as `str` or bytes; for instance `orjson.dumps`.
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


def _none_only(wanted: str, data: object) -> bytes | None:
    """None stays None, should it come this far; anything else is of the wrong type."""
    if data is None:
        return None
    raise SerializationError(f"{wanted} is needed, not {type(data).__name__}")


def _shown(number: float) -> str:
    try:
        text = str(number)
    except ValueError:  # Python does not print integers of thousands of digits
        return "the number"
    return text if len(text) < 40 else f"{text[:37]}…"


# --- What a producer makes of what it is given ---


class _FromCallable:
    """A function of the value alone, as in kafka-python and aiokafka."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function: Final = function

    def __repr__(self) -> str:
        return repr(self.function)

    def serialize(self, topic: str, headers: Headers, data: Any, /) -> Any:
        return self.function(data)


class _PassThrough(_Base[BytesLike]):
    """No serializer: bytes pass, all else is an error that says what to do."""

    __slots__ = ("setting",)

    def __init__(self, setting: str) -> None:
        self.setting: Final = setting

    def serialize(self, topic: str, headers: Headers, data: BytesLike, /) -> BytesLike:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise SerializationError(
                "without a serializer, only bytes (bytearray, memoryview) and None pass",
                hint=_serializer_for(data, self.setting),
            )
        return data


def _serializer_for(data: object, setting: str) -> str:
    """What to give for a key or value of this type."""
    from uuid import UUID  # costs nothing until something is wrong

    keyword = setting.replace(".", "_")
    for types, fitting in (
        (str, "StringSerializer()"),
        (bool, "BooleanSerializer() or JSONSerializer()"),
        (int, "IntegerSerializer(), LongSerializer() or JSONSerializer()"),
        (float, "DoubleSerializer() or JSONSerializer()"),
        (UUID, "UUIDSerializer()"),
        ((dict, list, tuple), "JSONSerializer()"),
    ):
        if isinstance(data, types):
            return f"Give {keyword}={fitting}."
    return f"Give {keyword} a function that turns such a {setting.partition('.')[0]} into bytes."


def as_serializer(given: Any, *, setting: str) -> Serializer[Any]:
    """The serializer behind what a user gave.

    Args:
        given: None (bytes pass as they are), an object with `serialize`, a class of such objects, or a callable that
            takes the value alone.
        setting: "key.serializer" or "value.serializer", for error messages.

    Raises:
        ConfigError: it is none of these, or the class cannot be instantiated without arguments.
    """
    if given is None:
        return _PassThrough(setting)
    made: Any = given
    if isinstance(given, type) and hasattr(given, "serialize"):
        try:
            made = given()
        except Exception as error:
            raise ConfigError(
                f"{setting} = {given.__name__}: it needs arguments ({error}); pass an instance",
                setting=setting,
                cause=error,
            ) from error
    if callable(getattr(made, "serialize", None)):
        serializer: Serializer[Any] = made
        return serializer
    if callable(made):
        return _FromCallable(made)
    raise ConfigError(
        f"{setting} = {given!r}: neither an object with serialize(topic, headers, data) nor a callable",
        setting=setting,
    )


def passes_bytes(serializer: Serializer[Any]) -> bool:
    """Whether `bytes` come out as they went in, so that the call can be spared."""
    return type(serializer) in (_PassThrough, ByteArraySerializer, BytesSerializer)


def native_form(serializer: Serializer[Any]) -> str | None:
    """What native code does in a serializer's stead with values of exactly its type; None: nothing.

    By type and not by any relation to it: a subclass may do something else.
    """
    if passes_bytes(serializer):
        return "bytes"
    kind = type(serializer)
    if kind in (StringSerializer, UUIDSerializer):
        encoding = codecs.lookup(serializer.encoding).name  # type: ignore[attr-defined]
        if kind is UUIDSerializer:
            return "uuid" if encoding == "utf-8" or encoding in _LIKE_ASCII else None
        return "utf8" if encoding == "utf-8" else "ascii" if encoding in _LIKE_ASCII else None
    return _NATIVE_FORMS.get(kind)


_LIKE_ASCII: Final = frozenset({"ascii", "cp1252", *(f"iso8859-{part}" for part in (1, 2, 9, 15))})
"""Encodings, as `codecs.lookup` names them, that write ASCII as ASCII does."""

_NATIVE_FORMS: Final[Mapping[type, str]] = {
    ShortSerializer: "short",
    IntegerSerializer: "integer",
    LongSerializer: "long",
    FloatSerializer: "float",
    DoubleSerializer: "double",
    BooleanSerializer: "boolean",
}


def configure(serializer: Serializer[Any], configs: Mapping[str, Any], is_key: bool) -> None:
    """Call `configure(configs, is_key)` if the serializer has it."""
    method = getattr(serializer, "configure", None)
    if method is not None:
        method(configs, is_key)


def close(serializer: Serializer[Any]) -> None:
    """Call `close()` if the serializer has it."""
    method = getattr(serializer, "close", None)
    if method is not None:
        method()


def serialize(
    serializer: Serializer[Any], topic: str, headers: Headers, data: Any, *, setting: str
) -> BytesLike | None:
    """What goes into the record: bytes, or None for None.

    Raises:
        SerializationError: the serializer raised (then with its error as the cause) or did not return bytes; names
            topic, type and setting.
    """
    if data is None:
        return None
    try:
        written = serializer.serialize(topic, headers, data)
    except Exception as error:
        raise serialization_error(error, topic, data, setting=setting) from error
    if written is None or isinstance(written, (bytes, bytearray, memoryview)):
        return written
    what = f"{serializer!r} returned {type(written).__name__}, not bytes or None"
    raise serialization_error(SerializationError(what), topic, data, setting=setting)


def serialization_error(error: Exception, topic: str, data: object, *, setting: str) -> SerializationError:
    """The error that a user sees for what a serializer raised, which becomes its cause."""
    if isinstance(error, SerializationError):
        what, hint = error.message, error.hint
    else:
        what, hint = f"{type(error).__name__}: {error}", ""
    role = setting.partition(".")[0]
    return SerializationError(
        f"a {role} of type {type(data).__name__} cannot be serialized ({setting}): {what}",
        topic=topic,
        setting=setting,
        cause=error,
        hint=hint,
    )
