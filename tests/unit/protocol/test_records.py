"""Record batches: encoded batches are decoded again, and damage is detected."""

import contextlib
import gzip
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock._native import compress
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.records import (
    CODECS,
    HEADER_BYTES,
    ChecksumError,
    CodecError,
    Record,
    check_crc,
    crc32c,
    decode_batch,
    encode_batch,
    read_header,
    split_batches,
    with_log_append_time,
    with_offset,
)

deterministic = settings(derandomize=True, max_examples=60, deadline=None, database=None)

some_bytes = st.none() | st.binary(max_size=20) | st.just(b"v" * 100)
some_records = st.lists(
    st.builds(
        Record,
        key=some_bytes,
        value=some_bytes,
        headers=st.lists(st.tuples(st.text(max_size=5), some_bytes), max_size=3).map(tuple),
        timestamp=st.integers(-1, 1 << 45),
    ),
    min_size=1,
    max_size=5,
)


@deterministic
@given(records=some_records, codec=st.sampled_from(CODECS), base_offset=st.integers(0, 1 << 40))
def test_records_round_trip_with_consecutive_offsets(records: list[Record], codec: str, base_offset: int) -> None:
    header, decoded = decode_batch(encode_batch(records, codec=codec, base_offset=base_offset))
    assert [(it.key, it.value, it.headers, it.timestamp) for it in decoded] == [
        (it.key, it.value, it.headers, it.timestamp) for it in records
    ]
    assert [it.offset for it in decoded] == list(range(base_offset, base_offset + len(records)))
    assert header.codec == codec
    assert header.last_offset == decoded[-1].offset
    assert header.max_timestamp == max(it.timestamp for it in records)


def test_the_layout_of_a_batch() -> None:
    batch = encode_batch(
        [Record(b"k", b"v", (("h", None),), 1000)],
        base_offset=5,
        leader_epoch=6,
        producer_id=7,
        producer_epoch=8,
        base_sequence=9,
        transactional=True,
    )
    record = "00" + "00" + "00" + "026b" + "0276" + "02" + "0268" + "01"
    rest = "0010" + "00000000" + "00000000000003e8" * 2 + "0000000000000007" + "0008" + "00000009" + "00000001"
    rest += f"{len(record):02x}" + record  # the length is a zigzag varint: twice the bytes, as are the hex digits
    crc = crc32c(bytes.fromhex(rest))
    length = len(rest) // 2 + 9
    assert batch.hex() == "0000000000000005" + f"{length:08x}" + "00000006" + "02" + f"{crc:08x}" + rest


@deterministic
@given(records=some_records, at=st.integers(12, 200), bit=st.integers(0, 7))
def test_a_flipped_bit_is_detected(records: list[Record], at: int, bit: int) -> None:
    batch = bytearray(encode_batch(records))
    at %= len(batch)
    # The broker sets the offset and the leader epoch: the checksum does not cover them.
    if at < 8 or 12 <= at < 16:
        return
    batch[at] ^= 1 << bit
    with pytest.raises(ProtocolError):
        decode_batch(batch)


def _sealed(body: bytes, *, count: int = 1, attributes: int = 0) -> bytes:
    """A batch with any body and a correct checksum."""
    rest = struct.pack(">hiqqqhii", attributes, max(count - 1, 0), 0, 0, -1, -1, -1, count) + body
    return struct.pack(">qiibI", 0, len(rest) + 9, -1, 2, crc32c(rest)) + rest


@pytest.mark.parametrize(
    ("body", "count"),
    [
        (b"", 1),
        (b"\0" * 20, 0x7FFFFFFF),
        (b"\x0e" + b"\0\0\0\0\0\0\0" + b"\0", 1),  # a byte after the last record
        (b"\x10" + b"\0\0\0\1\1\0\0\0", 1),  # a byte after the record's last header
        (b"\x0c" + b"\0\0\0\1\1\x7f", 1),  # -64 headers
        (b"\x0e" + b"\0\0\0\1\1\x7e\0", 1),  # 63 headers in a byte
        (b"\x10" + b"\0\0\0\1\1\2\1\1", 1),  # a header without a key
        (b"\x12" + b"\0\0\0\1\1\2\2\xff\1", 1),  # a header's key that is not UTF-8
        (b"\x0c" + b"\0\0\0\x7e\1\0", 1),  # a key longer than the record
        (b"\x7f\0\0\0\0\0\0\0", 1),  # a record of negative length
    ],
)
def test_malformed_records_under_a_valid_checksum(body: bytes, count: int) -> None:
    with pytest.raises(ProtocolError):
        decode_batch(_sealed(body, count=count))


def test_the_smallest_record() -> None:
    _, (record,) = decode_batch(_sealed(b"\x0c" + b"\0\0\0\1\1\0"))
    assert record == Record(None, None, (), 0, 0)


@deterministic
@given(hostile=st.binary(max_size=200), count=st.integers(-1, 5), attributes=st.integers(0, 255))
def test_arbitrary_bodies_raise_protocol_error_only(hostile: bytes, count: int, attributes: int) -> None:
    with contextlib.suppress(ProtocolError):
        decode_batch(_sealed(hostile, count=count, attributes=attributes))


@pytest.mark.parametrize("number", [5, 6, 7])
def test_an_unknown_codec_is_named(number: int) -> None:
    with pytest.raises(CodecError, match=f"unknown compression codec {number}"):
        decode_batch(_sealed(b"\0" * 20, attributes=number))
    with pytest.raises(CodecError, match="no compression codec brotli"):
        encode_batch([Record()], codec="brotli")


def test_gzip_in_several_members_is_one_stream() -> None:
    body = b"\x0c" + b"\0\0\0\1\1\0"
    packed = gzip.compress(body[:3]) + gzip.compress(body[3:])
    assert len(decode_batch(_sealed(packed, attributes=1))[1]) == 1


@pytest.mark.parametrize(
    "packed",
    [b"", b"no", gzip.compress(b"x" * 99)[:-1], gzip.compress(b"x") + b"tail"],
    ids=["empty", "no gzip", "cut", "with a tail"],
)
def test_broken_gzip_is_a_protocol_error(packed: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_batch(_sealed(packed, attributes=1))


@pytest.mark.parametrize("codec", CODECS[1:])
def test_records_of_another_codec_are_a_protocol_error(codec: str) -> None:
    batch = encode_batch([Record(value=b"v" * 99)], codec=codec)
    with pytest.raises(ProtocolError, match=f"not {codec}"):
        decode_batch(_sealed(batch[HEADER_BYTES:-3], attributes=CODECS.index(codec)))


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_decompression_bomb_stops_at_the_limit(codec: str) -> None:
    bomb = _sealed(compress(codec, 9, bytes(10_000_000)), attributes=CODECS.index(codec))
    with pytest.raises(ProtocolError, match="more than 1000 bytes"):
        decode_batch(bomb, max_records_bytes=1000)


def test_batches_are_split_and_a_partial_one_at_the_end_is_left_out_if_allowed() -> None:
    one, two = encode_batch([Record(b"a")]), encode_batch([Record(b"b")] * 2, base_offset=1)
    for cut in (1, HEADER_BYTES - 1, HEADER_BYTES, len(two) - 1):
        whole = one + two[:cut]
        assert [bytes(batch) for _, batch in split_batches(whole, allow_partial=True)] == [one]
        with pytest.raises(ProtocolError):
            list(split_batches(whole))
    assert [(header.base_offset, len(batch)) for header, batch in split_batches(one + two)] == [
        (0, len(one)),
        (1, len(two)),
    ]


@pytest.mark.parametrize("magic", [0, 1, 3])
def test_other_formats_are_refused_by_number(magic: int) -> None:
    batch = bytearray(encode_batch([Record()]))
    batch[16] = magic
    with pytest.raises(ProtocolError, match=f"format {magic}"):
        read_header(batch)


def test_a_broker_sets_offset_and_epoch_without_touching_the_checksum() -> None:
    batch = encode_batch([Record(b"k")])
    appended = with_offset(batch, 1 << 40, 3)
    header = read_header(appended)
    check_crc(header, appended)
    assert (header.base_offset, header.leader_epoch, appended[16:]) == (1 << 40, 3, batch[16:])


def test_a_broker_sets_the_append_time_of_every_record() -> None:
    appended = with_log_append_time(encode_batch([Record(timestamp=1), Record(timestamp=2)]), 99)
    header, records = decode_batch(appended)
    assert header.is_log_append_time
    assert [record.timestamp for record in records] == [99, 99]
    assert decode_batch(encode_batch([Record(timestamp=1)], log_append_time=99))[1][0].timestamp == 99


def test_a_wrong_checksum_raises_checksum_error() -> None:
    batch = bytearray(encode_batch([Record(b"key")]))
    batch[-1] ^= 1
    with pytest.raises(ChecksumError, match="checksum"):
        decode_batch(batch)


def test_an_empty_batch_and_values_that_do_not_fit_cannot_be_written() -> None:
    with pytest.raises(ProtocolError):
        encode_batch([])
    with pytest.raises(ProtocolError):
        encode_batch([Record()], producer_epoch=1 << 15)
    with pytest.raises(ProtocolError):
        with_offset(encode_batch([Record()]), 1 << 63, 0)
    with pytest.raises(ProtocolError):
        encode_batch([Record(headers=(("\ud800", None),))])
