"""Record batches of format 2 (magic 2, KIP-98) in Python, for the private reader and the embedded broker.

The producer's own batches are built natively and do not pass through this file. Layout: Kafka's "Record Batch"
documentation. The codecs are the native ones.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from penstock._native import compress, crc32c, decompress
from penstock.protocol.primitives import Buffer, ProtocolError, Reader, Writer

CODECS: Final = ("none", "gzip", "snappy", "lz4", "zstd")
"""The compression codecs; the index is the number in the attributes."""

HEADER_BYTES: Final = 61
"""The size of a batch's header; the records follow it."""

DEFAULT_MAX_RECORDS_BYTES: Final = 128 * 1024 * 1024
"""How far a batch may grow when decompressed: a few kilobytes of gzip can announce gigabytes."""

# base offset, length, leader epoch, magic, crc, attributes, last offset delta, base timestamp, max timestamp,
# producer id, producer epoch, base sequence, number of records
_HEADER: Final = struct.Struct(">qiibIhiqqqhii")
_INT64: Final = struct.Struct(">q")
_INT32: Final = struct.Struct(">i")
_INT16: Final = struct.Struct(">h")
_LENGTH_END: Final = 12  # the length field counts the bytes after it
_CRC: Final = struct.Struct(">I")
_CRC_AT: Final = 17
_CRC_START: Final = 21  # the checksum covers everything from the attributes on
_MAX_TIMESTAMP_AT: Final = 35

_CODEC_BITS: Final = 0x07
_LOG_APPEND_TIME_BIT: Final = 0x08
_TRANSACTIONAL_BIT: Final = 0x10
_CONTROL_BIT: Final = 0x20

# compression.gzip.level, compression.lz4.level and compression.zstd.level at their defaults
_LEVELS: Final = {"gzip": -1, "snappy": 0, "lz4": 9, "zstd": 3}

# length, attributes, timestamp and offset delta, key, value, number of headers: at least one byte each
_SMALLEST_RECORD: Final = 7


class ChecksumError(ProtocolError):
    """The checksum of a batch does not match its bytes."""


class CodecError(ProtocolError):
    """The batch has an unknown compression codec."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record. Timestamp: ms since the epoch, -1 for none; the offset is absolute."""

    key: bytes | None = None
    value: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp: int = -1
    offset: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchHeader:
    """The header of a batch. Times are ms since the epoch; `size` is the whole batch's, in bytes."""

    base_offset: int
    size: int
    leader_epoch: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int

    @property
    def last_offset(self) -> int:
        """The offset of the last record, also if compaction has removed that record."""
        return self.base_offset + self.last_offset_delta

    @property
    def codec(self) -> str:
        """The compression codec's name; `CodecError` if the number is unknown."""
        number = self.attributes & _CODEC_BITS
        if number >= len(CODECS):
            raise CodecError(f"the batch at offset {self.base_offset} has the unknown compression codec {number}")
        return CODECS[number]

    @property
    def is_log_append_time(self) -> bool:
        """Whether the broker set the timestamps: then every record has `max_timestamp`."""
        return bool(self.attributes & _LOG_APPEND_TIME_BIT)

    @property
    def is_transactional(self) -> bool:
        """Whether the batch belongs to a transaction."""
        return bool(self.attributes & _TRANSACTIONAL_BIT)

    @property
    def is_control(self) -> bool:
        """Whether it is a transaction's end marker instead of application records."""
        return bool(self.attributes & _CONTROL_BIT)


def read_header(buffer: Buffer) -> BatchHeader:
    """The header of the batch at the start of `buffer`; the records may be missing.

    Raises `ProtocolError` if the bytes cannot be a batch of format 2.
    """
    if len(buffer) < HEADER_BYTES:
        raise ProtocolError(f"{len(buffer)} bytes are too few for a batch's header of {HEADER_BYTES}")
    base_offset, length, leader_epoch, magic, crc, attributes, *rest = _HEADER.unpack_from(buffer)
    if magic != 2:
        raise ProtocolError(f"the batch at offset {base_offset} has format {magic}, only format 2 is supported")
    last_offset_delta, base_timestamp, max_timestamp, producer_id, producer_epoch, base_sequence, count = rest
    if length < HEADER_BYTES - _LENGTH_END or last_offset_delta < 0 or base_offset < 0 or count < 0:
        raise ProtocolError(
            f"a batch cannot have offset {base_offset}, length {length}, last offset delta {last_offset_delta} "
            f"and {count} records"
        )
    return BatchHeader(
        base_offset=base_offset,
        size=length + _LENGTH_END,
        leader_epoch=leader_epoch,
        crc=crc,
        attributes=attributes,
        last_offset_delta=last_offset_delta,
        base_timestamp=base_timestamp,
        max_timestamp=max_timestamp,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
        record_count=count,
    )


def split_batches(buffer: Buffer, *, allow_partial: bool = False) -> Iterator[tuple[BatchHeader, memoryview]]:
    """The consecutive batches in `buffer`: header and the whole batch's bytes, as a view.

    A broker cuts the answer to Fetch at a size, which can leave a partial batch at the end: with `allow_partial` it is
    dropped, without it raises `ProtocolError`. Checksums are not verified, see `check_crc`.
    """
    view = memoryview(buffer)
    while view:
        if allow_partial and len(view) < HEADER_BYTES:
            return
        header = read_header(view)
        if header.size > len(view):
            if allow_partial:
                return
            raise ProtocolError(
                f"the batch at offset {header.base_offset} takes {header.size} bytes, {len(view)} remain"
            )
        yield header, view[: header.size]
        view = view[header.size :]


def check_crc(header: BatchHeader, batch: Buffer) -> None:
    """Raise `ChecksumError` if the bytes of `batch` do not match its checksum."""
    actual = crc32c(memoryview(batch)[_CRC_START:])
    if actual != header.crc:
        raise ChecksumError(
            f"the batch at offset {header.base_offset} has the checksum {header.crc:#010x}, "
            f"its bytes have {actual:#010x}"
        )


def decode_batch(
    batch: Buffer, *, max_records_bytes: int = DEFAULT_MAX_RECORDS_BYTES
) -> tuple[BatchHeader, list[Record]]:
    """Header and records of exactly one batch, its checksum verified.

    Raises `ChecksumError`, `CodecError` or another `ProtocolError`, also if the decompressed records exceed
    `max_records_bytes` when decompressed.
    """
    header = read_header(batch)
    if header.size != len(batch):
        raise ProtocolError(f"the batch at offset {header.base_offset} takes {header.size} bytes, not {len(batch)}")
    check_crc(header, batch)
    reader = Reader(_decompress(header, memoryview(batch)[HEADER_BYTES:], max_records_bytes))
    if header.record_count * _SMALLEST_RECORD > reader.remaining:
        raise ProtocolError(f"{header.record_count} records are announced in {reader.remaining} bytes")
    records = [_read_record(header, reader) for _ in range(header.record_count)]
    reader.end(f"the records of the batch at offset {header.base_offset}")
    return header, records


def _decompress(header: BatchHeader, data: memoryview, limit: int) -> Buffer:
    codec = header.codec
    if codec == "none":
        return data
    try:
        return decompress(codec, data, limit)
    except OverflowError:
        raise ProtocolError(
            f"the batch at offset {header.base_offset} is more than {limit} bytes decompressed"
        ) from None
    except ValueError as error:
        raise ProtocolError(f"the batch at offset {header.base_offset} is not {codec}: {error}") from None


def _read_record(header: BatchHeader, outer: Reader) -> Record:
    reader = Reader(outer.raw(outer.varint()))
    reader.int8()  # attributes: none are defined
    timestamp = header.base_timestamp + reader.varlong()
    offset = header.base_offset + reader.varint()
    key = _read_bytes(reader)
    value = _read_bytes(reader)
    count = reader.varint()
    # A header takes at least two bytes: the lengths of its key and its value.
    if not 0 <= count * 2 <= reader.remaining:
        raise ProtocolError(f"{count} headers are announced in {reader.remaining} bytes")
    headers = tuple([(_read_header_key(reader), _read_bytes(reader)) for _ in range(count)])
    reader.end("a record")
    return Record(key, value, headers, header.max_timestamp if header.is_log_append_time else timestamp, offset)


def _read_bytes(reader: Reader) -> bytes | None:
    size = reader.varint()
    # Java reads every negative length as null.
    return None if size < 0 else bytes(reader.raw(size))


def _read_header_key(reader: Reader) -> str:
    try:
        return str(reader.raw(reader.varint()), "utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a header's key is not UTF-8: {error.reason}") from None


def encode_batch(
    records: Sequence[Record],
    *,
    base_offset: int = 0,
    leader_epoch: int = -1,
    codec: str = "none",
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    transactional: bool = False,
    control: bool = False,
    log_append_time: int | None = None,
) -> bytes:
    """One batch with at least one record.

    Records get consecutive offsets from `base_offset` on; their own offsets are ignored. With `log_append_time` (ms since
    the epoch) the batch is marked as timed by the broker.
    """
    if not records:
        raise ProtocolError("a batch without records cannot be written")
    base_timestamp = records[0].timestamp
    max_timestamp = max(record.timestamp for record in records) if log_append_time is None else log_append_time
    body = Writer()
    for delta, record in enumerate(records):
        _write_record(body, record, delta, record.timestamp - base_timestamp)
    if codec not in CODECS:
        raise CodecError(f"there is no compression codec {codec}")
    attributes = CODECS.index(codec) | (_LOG_APPEND_TIME_BIT if log_append_time is not None else 0)
    attributes |= (_TRANSACTIONAL_BIT if transactional else 0) | (_CONTROL_BIT if control else 0)
    payload = body.buffer if codec == "none" else compress(codec, _LEVELS[codec], body.buffer)
    # Length and checksum are written last; the checksum does not cover them.
    fields = (base_offset, HEADER_BYTES - _LENGTH_END + len(payload), leader_epoch, 2, 0, attributes, len(records) - 1)
    identity = (producer_id, producer_epoch, base_sequence)
    try:
        header = _HEADER.pack(*fields, base_timestamp, max_timestamp, *identity, len(records))
    except struct.error as error:
        raise ProtocolError(f"a value does not fit into a batch's header: {error}") from None
    batch = bytearray(header + payload)
    _CRC.pack_into(batch, _CRC_AT, crc32c(memoryview(batch)[_CRC_START:]))
    return bytes(batch)


def _write_record(writer: Writer, record: Record, offset_delta: int, timestamp_delta: int) -> None:
    body = Writer()
    body.int8(0)
    body.varlong(timestamp_delta)
    body.varint(offset_delta)
    _write_bytes(body, record.key)
    _write_bytes(body, record.value)
    _write_headers(body, record.headers)
    writer.varint(len(body.buffer))
    writer.raw(body.buffer)


def _write_headers(writer: Writer, headers: Iterable[tuple[str, bytes | None]]) -> None:
    pairs = tuple(headers)
    writer.varint(len(pairs))
    for key, value in pairs:
        try:
            _write_bytes(writer, key.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise ProtocolError(f"the header key {key!r} cannot be encoded as UTF-8: {error.reason}") from None
        _write_bytes(writer, value)


def _write_bytes(writer: Writer, value: bytes | None) -> None:
    writer.varint(-1 if value is None else len(value))
    if value is not None:
        writer.raw(value)


def with_offset(batch: Buffer, base_offset: int, leader_epoch: int) -> bytearray:
    """A copy of a batch as a broker appends it: with `base_offset` and the leader's epoch.

    The checksum covers neither field, so that the broker can set them.
    """
    copy = bytearray(batch)
    try:
        _INT64.pack_into(copy, 0, base_offset)
        _INT32.pack_into(copy, _LENGTH_END, leader_epoch)
    except struct.error as error:
        raise ProtocolError(f"offset {base_offset} or leader epoch {leader_epoch} does not fit: {error}") from None
    return copy


def with_log_append_time(batch: Buffer, timestamp: int) -> bytearray:
    """A copy of a batch as a broker appends it with message.timestamp.type=LogAppendTime, checksum included.

    `timestamp` is in ms since the epoch.
    """
    copy = bytearray(batch)
    _INT16.pack_into(copy, _CRC_START, read_header(batch).attributes | _LOG_APPEND_TIME_BIT)
    _INT64.pack_into(copy, _MAX_TIMESTAMP_AT, timestamp)
    _CRC.pack_into(copy, _CRC_AT, crc32c(memoryview(copy)[_CRC_START:]))
    return copy
