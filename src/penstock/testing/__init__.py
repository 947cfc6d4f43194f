"""Test doubles and a pytest plugin for applications that produce with Penstock.

- `MockProducer`: no broker, no threads; the test decides what becomes of each record.
- the plugin `penstock.testing.pytest_plugin` (pytest finds it by itself): `penstock_broker`, `penstock_topic` and
  `penstock_producer`, a real producer on an embedded broker.
"""

from penstock.testing.mock_bulk import MockBulkResult
from penstock.testing.mock_future import MockDeliveryFuture
from penstock.testing.mock_producer import MockProducer, SentRecord

__all__ = ["MockBulkResult", "MockDeliveryFuture", "MockProducer", "SentRecord"]
