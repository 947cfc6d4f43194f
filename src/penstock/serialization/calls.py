"""How a producer calls a serializer: with errors that name topic, type and setting; or natively, in its place."""

# Callers are not always type-checked: this file catches what the annotations rule out.
# mypy: warn-unreachable=False

from __future__ import annotations

import codecs
from collections.abc import Mapping
from typing import Any, Final

from penstock.errors import SerializationError
from penstock.serialization.given import PassThrough
from penstock.serialization.protocol import BytesLike, Headers, Serializer
from penstock.serialization.serializers import (
    BooleanSerializer,
    ByteArraySerializer,
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
)


def passes_bytes(serializer: Serializer[Any]) -> bool:
    """Whether `bytes` pass unchanged, so that no call is needed."""
    return type(serializer) in (PassThrough, ByteArraySerializer, BytesSerializer)


def native_form(serializer: Serializer[Any]) -> str | None:
    """The native code's name for a serializer that it replaces, for values of exactly the serializer's type; else None.

    The serializer must have exactly this class: a subclass may behave differently.
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
"""Encodings, by their name in `codecs.lookup`, in which ASCII text has the same bytes as in ASCII."""

_NATIVE_FORMS: Final[Mapping[type, str]] = {
    ShortSerializer: "short",
    IntegerSerializer: "integer",
    LongSerializer: "long",
    FloatSerializer: "float",
    DoubleSerializer: "double",
    BooleanSerializer: "boolean",
}


def serialize(
    serializer: Serializer[Any], topic: str, headers: Headers, data: Any, *, setting: str
) -> BytesLike | None:
    """The bytes for the record, or None for None.

    Raises:
        SerializationError: the serializer raised (its error is the cause) or did not return bytes. The text names topic,
            type and setting.
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
    """The error for the user; `error`, which the serializer raised, is its cause."""
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
