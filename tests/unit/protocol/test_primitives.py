"""The wire's primitive types: known encodings, round trips, and false lengths."""

import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.protocol.primitives import MAX_STRING_BYTES, ProtocolError, Reader, Writer

deterministic = settings(derandomize=True, max_examples=100, deadline=None, database=None)


def written(write: Callable[[Writer], None]) -> bytes:
    writer = Writer()
    write(writer)
    return writer.getvalue()


@pytest.mark.parametrize(
    ("method", "value", "encoded"),
    [
        ("boolean", True, "01"),
        ("int8", -2, "fe"),
        ("int16", -2, "fffe"),
        ("uint16", 0xFFFE, "fffe"),
        ("int32", 1 << 24, "01000000"),
        ("uint32", 0xFFFFFFFE, "fffffffe"),
        ("int64", -1, "ff" * 8),
        ("float64", 1.5, "3ff8000000000000"),
        ("unsigned_varint", 0, "00"),
        ("unsigned_varint", 300, "ac02"),
        ("unsigned_varint", 0xFFFFFFFF, "ffffffff0f"),
        ("varint", -1, "01"),
        ("varint", 1, "02"),
        ("varint", -(1 << 31), "ffffffff0f"),
        ("varlong", (1 << 63) - 1, "fe" + "ff" * 8 + "01"),
        ("varlong", -(1 << 63), "ff" * 9 + "01"),
    ],
)
def test_known_encodings(method: str, value: Any, encoded: str) -> None:
    assert written(lambda writer: getattr(writer, method)(value)).hex() == encoded
    reader = Reader(bytes.fromhex(encoded))
    assert getattr(reader, method)() == value
    reader.end(method)


@pytest.mark.parametrize(
    ("method", "value", "plain", "compact"),
    [
        ("string", "é", "0002c3a9", "03c3a9"),
        ("string", "", "0000", "01"),
        ("nullable_string", None, "ffff", "00"),
        ("data", b"\x07", "0000000107", "0207"),
        ("nullable_data", None, "ffffffff", "00"),
    ],
)
def test_plain_and_compact_lengths(method: str, value: Any, plain: str, compact: str) -> None:
    for flexible, encoded in ((False, plain), (True, compact)):
        assert written(lambda writer, flexible=flexible: getattr(writer, method)(value, flexible)).hex() == encoded
        assert getattr(Reader(bytes.fromhex(encoded)), method)(flexible) == value


@deterministic
@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_varlongs_round_trip(value: int) -> None:
    assert Reader(written(lambda writer: writer.varlong(value))).varlong() == value


@deterministic
@given(st.floats())
def test_floats_round_trip(value: float) -> None:
    read = Reader(written(lambda writer: writer.float64(value))).float64()
    assert read == value or (math.isnan(read) and math.isnan(value))


@pytest.mark.parametrize(
    ("method", "value"),
    [
        ("int8", 128),
        ("int16", -32769),
        ("uint16", -1),
        ("int32", 1 << 31),
        ("uint32", 1 << 32),
        ("int64", 1 << 63),
        ("int32", "1"),
        ("unsigned_varint", -1),
        ("unsigned_varint", 1 << 32),
        ("varint", 1 << 31),
        ("varlong", -(1 << 63) - 1),
    ],
)
def test_values_that_do_not_fit_are_refused(method: str, value: Any) -> None:
    with pytest.raises(ProtocolError):
        getattr(Writer(), method)(value)


@pytest.mark.parametrize("text", ["x" * (MAX_STRING_BYTES + 1), "é" * (MAX_STRING_BYTES // 2 + 1), "\ud800"])
@pytest.mark.parametrize("flexible", [False, True])
def test_strings_that_are_too_long_or_not_unicode_are_refused(text: str, flexible: bool) -> None:
    with pytest.raises(ProtocolError):
        Writer().string(text, flexible)


@pytest.mark.parametrize(
    ("read", "encoded"),
    [
        (lambda reader: reader.int32(), "000000"),
        (lambda reader: reader.boolean(), ""),
        (lambda reader: reader.uuid(), "00" * 15),
        (lambda reader: reader.string(False), "ffff"),
        (lambda reader: reader.string(False), "fffe"),
        (lambda reader: reader.string(False), "7fff61"),
        (lambda reader: reader.string(False), "0001ff"),
        (lambda reader: reader.string(True), "00"),
        (lambda reader: reader.string(True), "8280021f"),
        (lambda reader: reader.data(False), "7fffffff00"),
        (lambda reader: reader.nullable_data(False), "fffffffe"),
        (lambda reader: reader.data(True), "ffffffff0f00"),
        (lambda reader: reader.array_length(False, 1), "ffffffff"),
        (lambda reader: reader.array_length(False, 1), "80000000"),
        (lambda reader: reader.array_length(False, 1), "7fffffff"),
        (lambda reader: reader.array_length(False, 4), "00000002" + "00" * 7),
        (lambda reader: reader.array_length(True, 1), "00"),
        (lambda reader: reader.unsigned_varint(), "ffffffff1f"),
        (lambda reader: reader.unsigned_varint(), "ffffffffff01"),
        (lambda reader: reader.unsigned_varint(), "ff"),
        (lambda reader: reader.varlong(), "ff" * 9 + "02"),
        (lambda reader: reader.varlong(), "ff" * 11),
        (lambda reader: reader.skip_tagged_fields(), "ffffffff0f"),
        (lambda reader: reader.skip_tagged_fields(), "0100"),
        (lambda reader: reader.skip_tagged_fields(), "01000500"),
        (lambda reader: list(reader.tagged_fields()), "01000500"),
        (lambda reader: reader.raw(-1), "00"),
    ],
)
def test_malformed_bytes_raise_protocol_error(read: Callable[[Reader], object], encoded: str) -> None:
    with pytest.raises(ProtocolError):
        read(Reader(bytes.fromhex(encoded)))


def test_an_array_of_more_than_a_million_elements_is_refused_even_with_enough_bytes() -> None:
    encoded = (1_000_001).to_bytes(4, "big") + bytes(1_000_001)
    with pytest.raises(ProtocolError, match="1000001 elements"):
        Reader(encoded).array_length(False, 1)


def test_a_false_length_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for encoded, read in (
            (b"\x7f\xff\xff\xff", lambda reader: reader.data(False)),
            (b"\x7f\xff\xff\xff", lambda reader: reader.array_length(False, 1)),
        ):
            with pytest.raises(ProtocolError):
                read(Reader(encoded))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_records_are_a_view_of_the_received_bytes() -> None:
    received = bytearray(b"\x00\x00\x00\x02ab")
    view = Reader(received).records(False)
    received[4] = ord("x")
    assert view == b"xb"


def test_readers_of_tagged_fields_are_confined_to_their_bytes() -> None:
    field = Writer()
    field.int8(5)
    encoded = written(lambda writer: writer.tagged_fields([(1, field), (300, Writer())]))
    assert encoded.hex() == "02010105ac0200"
    (first, first_reader), (second, second_reader) = Reader(encoded).tagged_fields()
    assert (first, first_reader.int8(), second, second_reader.remaining) == (1, 5, 300, 0)
    with pytest.raises(ProtocolError):
        first_reader.int8()


def test_any_bytes_like_object_can_be_read() -> None:
    for buffer in (b"\x01\x02", bytearray(b"\x01\x02"), memoryview(b"\x00\x01\x02")[1:]):
        reader = Reader(buffer)
        assert (reader.int16(), reader.position, reader.remaining) == (0x0102, 2, 0)
