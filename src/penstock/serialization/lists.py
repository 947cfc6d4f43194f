"""`ListSerializer`: Java's format of lists."""

# Callers are not always type-checked: this file catches what the annotations rule out.
# mypy: warn-unreachable=False

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, TypeVar

from penstock.errors import SerializationError
from penstock.serialization.given import as_serializer
from penstock.serialization.protocol import BytesLike, Headers, Serializer, close, configure
from penstock.serialization.serializers import (
    BaseSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    LongSerializer,
    ShortSerializer,
    UUIDSerializer,
    none_only,
)

T = TypeVar("T")

# By exact class: a subclass may write another size.
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


class ListSerializer(BaseSerializer["Iterable[T | None]"], Generic[T]):
    """A list; another serializer writes its elements. None is a null element.

    Java's format begins with a byte for the layout. For elements of a fixed size (integers, floats, UUID) there follow:
    the number of null elements, their indexes, the number of elements, and the bytes of the others. For all other
    elements: the number of elements, then each with its size before it, -1 for null. Numbers are 32 bits.
    """

    __slots__ = ("_fixed", "inner")

    def __init__(self, inner: Serializer[T] | type[Serializer[T]] | Callable[[T], BytesLike | None]) -> None:
        """`inner` writes the elements: a serializer, a class of one, or a function."""
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
            return none_only("a list", data)
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
            # A null among fixed-size elements would shift all later ones; Java fails here, too.
            raise SerializationError(f"{self.inner!r} returned {type(written).__name__} for an element, not bytes")
        return bytes(written)
