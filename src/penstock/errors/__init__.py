"""All errors of Penstock: one tree under `KafkaError`.

Names are the Java client's with `Exception` replaced by `Error`; `TimeoutException` is `KafkaTimeoutError`, because it
would shadow the builtin, which is one of its bases. The branches follow KIP-1050 as the Java client's classes do:

    KafkaError
    ├── ApiError                         the answer of a broker
    │   ├── RetriableError               the same request may succeed later
    │   │   └── RefreshRetriableError    … once the metadata is refreshed
    │   │       └── InvalidMetadataError … because the client's metadata is out of date
    │   ├── AbortableError               the transaction must be aborted; the producer can continue
    │   ├── ApplicationRecoverableError  the producer has failed; a new one may work
    │   └── InvalidConfigurationError    only a changed configuration (or permission) helps
    │       ├── AuthenticationError
    │       └── AuthorizationError
    └── ConfigError, SerializationError, ProducerClosedError, DeliveryError, …    found by the client itself

As in Java, `InvalidConfigurationError` is a category and also the class of one code (40, INVALID_CONFIG). A setting that
the producer refuses before it starts raises `ConfigError`.

`str(error)` has the message, the place and the hint. The attributes of each instance are `code`, `name`,
`retriable`, `possibly_persisted`, `topic`, `partition`, `broker`, `attempts`, `stage`, `cause` and `hint`. Copies and
pickles keep them.

Where to look: `base.py` (attributes and text), `categories.py`, `client.py` (no codes), `codes.py` (a class per code of
Kafka, generated; its texts are in `codegen/error_texts.py`), `lookup.py` (code → error), `records.py` (failed records).
"""

from penstock.errors import codes as _codes
from penstock.errors.base import KafkaError
from penstock.errors.categories import (
    AbortableError,
    ApiError,
    ApplicationRecoverableError,
    AuthenticationError,
    AuthorizationError,
    InvalidConfigurationError,
    InvalidMetadataError,
    RefreshRetriableError,
    RetriableError,
)
from penstock.errors.client import (
    BufferExhaustedError,
    ConfigError,
    DeliveryError,
    DisconnectError,
    InternalError,
    KafkaTimeoutError,
    ProducerClosedError,
    ProducerForkedError,
    RecordPurgedError,
    SerializationError,
    SslAuthenticationError,
    TransactionAbortedError,
)
from penstock.errors.codes import *  # noqa: F403  (a class per code; `__all__` of that file names them)
from penstock.errors.lookup import (
    REFRESH_CODES,
    RETRIABLE_CODES,
    error_for_code,
    error_name,
    is_retriable,
    needs_refresh,
)
from penstock.errors.records import buffer_exhausted, bulk_error, delivery_error, metadata_timeout, not_buffered

__all__ = [
    "REFRESH_CODES",
    "RETRIABLE_CODES",
    "AbortableError",
    "ApiError",
    "ApplicationRecoverableError",
    "AuthenticationError",
    "AuthorizationError",
    "BufferExhaustedError",
    "ConfigError",
    "DeliveryError",
    "DisconnectError",
    "InternalError",
    "InvalidConfigurationError",
    "InvalidMetadataError",
    "KafkaError",
    "KafkaTimeoutError",
    "ProducerClosedError",
    "ProducerForkedError",
    "RecordPurgedError",
    "RefreshRetriableError",
    "RetriableError",
    "SerializationError",
    "SslAuthenticationError",
    "TransactionAbortedError",
    "buffer_exhausted",
    "bulk_error",
    "delivery_error",
    "error_for_code",
    "error_name",
    "is_retriable",
    "metadata_timeout",
    "needs_refresh",
    "not_buffered",
]
__all__ += _codes.__all__


def _publish() -> None:
    """Tracebacks and pickles name this module, not the file that a class is written in."""
    for it in globals().values():
        if isinstance(it, type) and issubclass(it, KafkaError):
            it.__module__ = __name__


_publish()
