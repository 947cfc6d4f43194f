"""Test doubles and a pytest plugin for applications that produce with Penstock.

- `MockProducer`, `AsyncMockProducer`: no broker, no threads; the test decides the result of each record.
- the plugin `penstock.testing.pytest_plugin` (pytest loads it automatically): `penstock_broker`, `penstock_topic`,
  `penstock_producer` and `penstock_async_producer`, real producers on an embedded broker.
"""

from penstock.testing.mock_aio import AsyncMockProducer
from penstock.testing.mock_bulk import AsyncMockBulkResult, MockBulkResult
from penstock.testing.mock_future import AsyncMockDeliveryFuture, MockDeliveryFuture
from penstock.testing.mock_producer import MockProducer
from penstock.testing.mock_record import SentRecord

__all__ = [
    "AsyncMockBulkResult",
    "AsyncMockDeliveryFuture",
    "AsyncMockProducer",
    "MockBulkResult",
    "MockDeliveryFuture",
    "MockProducer",
    "SentRecord",
]
