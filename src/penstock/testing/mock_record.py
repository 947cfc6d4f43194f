"""A record that a mock producer was given."""

from __future__ import annotations

from typing import Any, NamedTuple

from penstock._native import ProducerRecord


class SentRecord(NamedTuple):
    """A record as it would go into the log."""

    record: ProducerRecord[Any, Any]
    """As passed to `send`."""
    partition: int
    key: bytes | None
    value: bytes | None
