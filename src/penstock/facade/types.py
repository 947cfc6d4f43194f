"""The types in the signatures of both producers: callbacks, serializers, headers, columns, Arrow data."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from penstock._native import RecordMetadata
from penstock.errors import KafkaError
from penstock.serialization import Serializer

T = TypeVar("T")

Callback: TypeAlias = Callable[[RecordMetadata | None, KafkaError | None], object]
"""Called once with (metadata, error); metadata is None exactly when error is set."""
SerializerLike: TypeAlias = Serializer[T] | type[Serializer[T]] | Callable[[T], Any]
"""A serializer, a class of one, or a plain function of the value."""
HeaderValue: TypeAlias = bytes | bytearray | memoryview | None
"""A bytearray or a memoryview is copied by the call."""
Headers: TypeAlias = Iterable[tuple[str, HeaderValue]] | Mapping[str, HeaderValue]
"""A record's headers as a user gives them: pairs (a key may repeat), or a mapping."""
Column: TypeAlias = Iterable[T] | AsyncIterable[T]
"""One entry per record, for `send_many` in asyncio."""


class ArrowStream(Protocol):
    """Tables, data frames, readers: the Arrow PyCapsule interface for streams."""

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """A capsule of the data."""
        ...


class ArrowArray(Protocol):
    """Record batches: the Arrow PyCapsule interface for arrays."""

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        """A capsule of the schema and one of the data."""
        ...


ArrowData: TypeAlias = ArrowStream | ArrowArray
"""The data for `send_arrow`: of pyarrow, polars, DuckDB, pandas and others. Penstock imports none of them."""
