"""Compares sent records with those that a judge read: none missing, none twice, offsets and order as guaranteed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

from penstock import ProducerRecord, RecordMetadata
from support.judges import Record, by_partition

Sent = tuple[ProducerRecord[bytes, bytes], RecordMetadata]
"""A record, and the result of its future."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(moment: datetime) -> int:
    """An aware datetime in Kafka's form: whole milliseconds since the epoch."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def check(sent: Sequence[Sent], read: Iterable[Record], *, ordered: bool = True, resent: bool = False) -> None:
    """Every record is where its future reports it, with its content; there are no others.

    `sent` is in the order of the sends (of each thread): offsets must rise in that order within every partition, which
    is stronger than order per key. Not `ordered`: without idempotence and with several requests in flight, a retried
    batch may come behind its successors, as in Java. `resent`: answers may have been lost. For a duplicate batch, Kafka
    returns the latest of the batch's timestamps as if that were the append time, and Java's RecordMetadata has the same
    value.
    """
    found = {(record.partition, record.offset): record for record in read}
    reported = {(metadata.partition, metadata.offset): (record, metadata) for record, metadata in sent}
    assert len(reported) == len(sent), "two futures report the same place"
    assert found.keys() == reported.keys()
    for place, (record, metadata) in reported.items():
        there = found[place]
        assert (there.key, there.value, there.headers) == (record.key, record.value, record.headers)
        assert there.timestamp == metadata.timestamp or (resent and there.timestamp < metadata.timestamp)
        if record.timestamp is not None:
            assert there.timestamp == record.timestamp
        if record.partition is not None:
            assert there.partition == record.partition
        assert metadata.serialized_key_size == _size(record.key)
        assert metadata.serialized_value_size == _size(record.value)
    for partition, records in by_partition(found.values()).items():
        offsets = [metadata.offset for _, metadata in sent if metadata.partition == partition]
        assert not ordered or offsets == sorted(offsets), f"partition {partition} is not in the order of the sends"
        assert len(records) == len(offsets)


def _size(data: bytes | None) -> int:
    return -1 if data is None else len(data)
