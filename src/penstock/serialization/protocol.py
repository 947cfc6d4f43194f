"""The protocol of a serializer, and the types in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

T_contra = TypeVar("T_contra", contravariant=True)

Headers: TypeAlias = "Sequence[tuple[str, bytes | None]]"
"""A record's headers, in the form in which a serializer gets them."""
BytesLike: TypeAlias = "bytes | bytearray | memoryview"
"""The types that a serializer may return, besides None."""


class Serializer(Protocol[T_contra]):
    """Turns keys or values into bytes.

    It may also have `configure(configs, is_key)`, called once with the whole configuration before use, and `close()`,
    called when the producer closes.
    """

    def serialize(self, topic: str, headers: Headers, data: T_contra, /) -> BytesLike | None:
        """The bytes of `data`, which is never None. Returning None makes the key null, or the value a tombstone."""


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
