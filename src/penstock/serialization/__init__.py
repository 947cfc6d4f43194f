"""From values to bytes: Kafka's serializers, with the same bytes as Java's (`org.apache.kafka.common.serialization`).

A serializer is an object with `serialize(topic, headers, data)`, a class of such objects, or a function of the value
alone. It is never called with None: a null key or value (a tombstone) stays null.
"""

from penstock.serialization.calls import native_form, passes_bytes, serialization_error, serialize
from penstock.serialization.given import as_serializer
from penstock.serialization.lists import ListSerializer
from penstock.serialization.protocol import BytesLike, Headers, Serializer, close, configure
from penstock.serialization.serializers import (
    BooleanSerializer,
    ByteArraySerializer,
    ByteBufferSerializer,
    BytesSerializer,
    DoubleSerializer,
    FloatSerializer,
    IntegerSerializer,
    JSONSerializer,
    LongSerializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
    VoidSerializer,
    compact_json,
)

__all__ = [
    "BooleanSerializer",
    "ByteArraySerializer",
    "ByteBufferSerializer",
    "BytesLike",
    "BytesSerializer",
    "DoubleSerializer",
    "FloatSerializer",
    "Headers",
    "IntegerSerializer",
    "JSONSerializer",
    "ListSerializer",
    "LongSerializer",
    "Serializer",
    "ShortSerializer",
    "StringSerializer",
    "UUIDSerializer",
    "VoidSerializer",
    "as_serializer",
    "close",
    "compact_json",
    "configure",
    "native_form",
    "passes_bytes",
    "serialization_error",
    "serialize",
]
