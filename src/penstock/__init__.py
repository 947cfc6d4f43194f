"""Penstock: the Kafka producer for Python. Java's semantics, Python's ease, a native data plane.

from penstock import KafkaProducer

with KafkaProducer(bootstrap_servers="localhost:9092") as producer:
    metadata = producer.send("greetings", b"hello", key=b"k1").result(timeout=10)
"""

from typing import TYPE_CHECKING

from penstock import _interpreter as _interpreter  # first: it may refuse the import
from penstock import errors as errors
from penstock._native import (
    AsyncBulkResult,
    AsyncDeliveryFuture,
    BulkResult,
    DeliveryFuture,
    ProducerRecord,
    RecordMetadata,
)
from penstock._native import __version__ as __version__
from penstock.config import ProducerConfig
from penstock.control.cluster_view import PartitionInfo
from penstock.errors import (
    ApiError,
    AuthenticationError,
    AuthorizationError,
    BufferExhaustedError,
    ConfigError,
    DeliveryError,
    InvalidTopicError,
    KafkaError,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerForkedError,
    RecordPurgedError,
    RecordTooLargeError,
    RetriableError,
    SerializationError,
)
from penstock.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait
from penstock.interceptor import ProducerInterceptor
from penstock.partitioner import Partitioner, RoundRobinPartitioner
from penstock.producer import KafkaProducer, Producer
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
    Serializer,
    ShortSerializer,
    StringSerializer,
    UUIDSerializer,
    VoidSerializer,
)

if TYPE_CHECKING:
    from penstock.aio import AsyncKafkaProducer, AsyncProducer
else:
    # Type checkers do not see this function; with it they would accept any name.

    def __getattr__(name: str) -> object:
        """Import the asyncio facade on first use: asyncio takes longer to import than all the rest."""
        if name not in ("AsyncKafkaProducer", "AsyncProducer"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from penstock.aio import AsyncKafkaProducer, AsyncProducer

        globals().update(AsyncKafkaProducer=AsyncKafkaProducer, AsyncProducer=AsyncProducer)
        return globals()[name]

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})


__all__ = [
    "ALL_COMPLETED",
    "FIRST_COMPLETED",
    "FIRST_EXCEPTION",
    "ApiError",
    "AsyncBulkResult",
    "AsyncDeliveryFuture",
    "AsyncKafkaProducer",
    "AsyncProducer",
    "AuthenticationError",
    "AuthorizationError",
    "BooleanSerializer",
    "BufferExhaustedError",
    "BulkResult",
    "ByteArraySerializer",
    "ByteBufferSerializer",
    "BytesSerializer",
    "ConfigError",
    "DeliveryError",
    "DeliveryFuture",
    "DoubleSerializer",
    "FloatSerializer",
    "IntegerSerializer",
    "InvalidTopicError",
    "JSONSerializer",
    "KafkaError",
    "KafkaProducer",
    "KafkaTimeoutError",
    "ListSerializer",
    "LongSerializer",
    "PartitionInfo",
    "Partitioner",
    "Producer",
    "ProducerClosedError",
    "ProducerConfig",
    "ProducerForkedError",
    "ProducerInterceptor",
    "ProducerRecord",
    "RecordMetadata",
    "RecordPurgedError",
    "RecordTooLargeError",
    "RetriableError",
    "RoundRobinPartitioner",
    "SerializationError",
    "Serializer",
    "ShortSerializer",
    "StringSerializer",
    "UUIDSerializer",
    "VoidSerializer",
    "as_completed",
    "wait",
]
