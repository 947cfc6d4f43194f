"""Checks whether Kafka would append a producer's batch; pure functions of its bytes.

As Kafka's ProduceRequest.validateRecords, UnifiedLog and LogValidator, with one simplification: only the header and the
checksum are checked, not the records. A batch with a right checksum and invalid records is accepted.
"""

import struct
from typing import Final

from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.topic_config import TopicSettings
from penstock.protocol.primitives import Buffer, ProtocolError
from penstock.protocol.records import CODECS, HEADER_BYTES, BatchHeader, ChecksumError, check_crc, read_header

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_LENGTH_END: Final = 12
_MAGIC_AT: Final = 16
_SMALLEST_LENGTH: Final = 14  # of a message in the oldest format
_CODEC_BITS: Final = 0x07
_ZSTD: Final = CODECS.index("zstd")
_ZSTD_FROM: Final = 7  # the version of Produce that introduced it (KIP-110)


def check_batch(header: BatchHeader, batch: memoryview, settings: TopicSettings, now: int) -> None:
    """Raise `RequestError` if Kafka would not append the batch to a topic with `settings`; `now` in ms."""
    if header.base_offset != 0:
        raise RequestError(
            ErrorCode.INVALID_RECORD, f"the base offset of a batch to append must be 0, not {header.base_offset}"
        )
    if header.size > settings.max_message_bytes:
        raise RequestError(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"the batch has {header.size} bytes, max.message.bytes is {settings.max_message_bytes}",
        )
    try:
        check_crc(header, batch)
    except ChecksumError as error:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, str(error)) from None
    _check_fields(header)
    if not settings.log.log_append_time and header.max_timestamp > now + settings.timestamp_after_max_ms:
        raise RequestError(
            ErrorCode.INVALID_TIMESTAMP,
            f"timestamp {header.max_timestamp} is more than {settings.timestamp_after_max_ms} ms after {now}",
        )


def single_batch(records: Buffer | None, version: int) -> tuple[BatchHeader, memoryview]:
    """Header and bytes of the one batch that a produce request of `version` has for a partition."""
    view = memoryview(records if records is not None else b"")
    header = _header(view, version)
    return header, view[: header.size]


def _header(view: memoryview, version: int) -> BatchHeader:
    size = _batch_size(view)
    if size is None:
        raise RequestError(ErrorCode.INVALID_RECORD, "there must be one whole record batch per partition")
    if view[_MAGIC_AT] != 2:
        raise RequestError(ErrorCode.INVALID_RECORD, f"only record batches of format 2 may be produced in v{version}")
    if size < HEADER_BYTES:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, f"a record batch cannot have {size} bytes")
    codec = view[_MAGIC_AT + 6] & _CODEC_BITS
    if codec >= len(CODECS):
        raise RequestError(ErrorCode.UNKNOWN_SERVER_ERROR, f"there is no compression codec {codec}")
    if codec == _ZSTD and version < _ZSTD_FROM:
        raise RequestError(ErrorCode.UNSUPPORTED_COMPRESSION_TYPE, f"zstd needs Produce v{_ZSTD_FROM}, not v{version}")
    if _batch_size(view[size:]) is not None:
        raise RequestError(ErrorCode.INVALID_RECORD, "there must be exactly one record batch per partition")
    try:
        return read_header(view)
    except ProtocolError as error:
        raise RequestError(ErrorCode.INVALID_RECORD, str(error)) from None


def _batch_size(view: memoryview) -> int | None:
    """The size of the first batch in bytes; None if it is not whole."""
    if len(view) < _LENGTH_END:
        return None
    length: int = _LENGTH.unpack_from(view, _LENGTH_AT)[0]
    if length < _SMALLEST_LENGTH:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, f"a record batch cannot have the length {length}")
    if len(view) <= _MAGIC_AT:
        return None
    if view[_MAGIC_AT] > 2:
        raise RequestError(ErrorCode.CORRUPT_MESSAGE, f"there is no record batch format {view[_MAGIC_AT]}")
    size = length + _LENGTH_END
    return size if size <= len(view) else None


def _check_fields(header: BatchHeader) -> None:
    if header.record_count != header.last_offset_delta + 1:
        raise RequestError(
            ErrorCode.INVALID_RECORD,
            f"{header.record_count} records cannot have the last offset delta {header.last_offset_delta}",
        )
    if header.is_control:
        raise RequestError(ErrorCode.INVALID_RECORD, "clients are not allowed to write control records")
    if header.producer_id >= 0 and header.base_sequence < 0:
        raise RequestError(ErrorCode.INVALID_RECORD, f"a producer's sequence cannot be {header.base_sequence}")
    if header.is_transactional:
        raise RequestError(ErrorCode.INVALID_TXN_STATE, "there are no transactions on this development broker")
