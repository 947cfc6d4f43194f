"""`ProducerRecord` and `RecordMetadata`: frozen values."""

from __future__ import annotations

import copy
import pickle
from array import array
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from types import GenericAlias, MappingProxyType
from typing import Any

import numpy as np
import pytest

from penstock import ProducerRecord, RecordMetadata

RECORD = ProducerRecord(
    "flights", b"v", key=b"k", partition=3, timestamp=1_700_000_000_123, headers=[("a", b"1"), ("b", None)]
)
METADATA = RecordMetadata("flights", 3, 17, 1_700_000_000_123, 1, -1)


@pytest.mark.parametrize("field", ["topic", "value", "key", "partition", "timestamp", "headers", "new"])
def test_a_record_cannot_be_changed(field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(RECORD, field, None)
    with pytest.raises(AttributeError):
        delattr(RECORD, field)


def test_a_record_has_its_fields_and_the_rest_is_none() -> None:
    assert (RECORD.topic, RECORD.value, RECORD.key) == ("flights", b"v", b"k")
    assert (RECORD.partition, RECORD.timestamp) == (3, 1_700_000_000_123)
    assert RECORD.headers == (("a", b"1"), ("b", None))
    bare = ProducerRecord("flights")
    assert (bare.value, bare.key, bare.partition, bare.timestamp, bare.headers) == (None, None, None, None, ())


@pytest.mark.parametrize(
    "change",
    [{"topic": "t"}, {"value": b""}, {"key": None}, {"partition": None}, {"timestamp": 0}, {"headers": ()}],
)
def test_records_are_equal_by_content(change: dict[str, Any]) -> None:
    same = RECORD.replace()
    assert same == RECORD
    assert hash(same) == hash(RECORD)
    other = RECORD.replace(**change)
    assert other != RECORD
    assert RECORD != "flights"
    (name, value), *_ = change.items()
    assert getattr(other, name) == value


def test_a_record_is_hashable_exactly_if_its_contents_are() -> None:
    assert len({RECORD, RECORD.replace(), RECORD.replace(value="other")}) == 2
    with pytest.raises(TypeError, match="unhashable"):
        hash(ProducerRecord("flights", {"a": 1}))


def test_the_representation_of_a_record_is_the_call_that_makes_it() -> None:
    assert repr(ProducerRecord("flights")) == "ProducerRecord('flights')"
    assert eval(repr(RECORD)) == RECORD
    assert "key=b'k'" in repr(RECORD)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_records_and_metadata_survive_pickling_and_copying(protocol: int) -> None:
    for original in (RECORD, ProducerRecord("bare"), METADATA):
        assert pickle.loads(pickle.dumps(original, protocol)) == original
        assert copy.copy(original) == original
        assert copy.deepcopy(original) == original


def test_an_aware_datetime_becomes_milliseconds_since_the_epoch() -> None:
    east = timezone(timedelta(hours=2))
    assert ProducerRecord("t", timestamp=datetime(1970, 1, 1, 2, tzinfo=east)).timestamp == 0
    moment = datetime(2026, 11, 24, 3, 4, 5, 678_901, tzinfo=UTC)
    assert ProducerRecord("t", timestamp=moment).timestamp == 1_795_489_445_678
    last = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    assert ProducerRecord("t", timestamp=last).timestamp == 253_402_300_799_999


def test_a_naive_datetime_is_refused_with_a_hint() -> None:
    with pytest.raises(ValueError, match="naive datetime; give it a time zone"):
        ProducerRecord("t", timestamp=datetime(2026, 1, 1))


@pytest.mark.parametrize(
    "headers",
    [
        [("a", b"1"), ("b", None)],
        (["a", b"1"], ["b", None]),
        {"a": b"1", "b": None},
        MappingProxyType({"a": b"1", "b": None}),
        iter([("a", b"1"), ("b", None)]),
    ],
)
def test_headers_are_pairs_or_a_mapping(headers: Any) -> None:
    assert ProducerRecord("t", headers=headers).headers == (("a", b"1"), ("b", None))


@pytest.mark.parametrize(
    "given",
    [bytearray(b"ab"), memoryview(b"ab"), memoryview(bytearray(b"a-b-"))[::2], memoryview(array("H", [0x6261]))],
    ids=["bytearray", "memoryview", "every other byte", "two-byte items"],
)
def test_header_values_that_are_like_bytes_are_copied(given: Any) -> None:
    record = ProducerRecord("t", headers={"a": given})
    assert record == ProducerRecord("t", headers=[("a", b"ab")])
    assert hash(record) == hash(ProducerRecord("t", headers=[("a", b"ab")]))
    assert type(record.headers[0][1]) is bytes
    assert record.replace(headers=[("b", given)]).headers == (("b", b"ab"),)


def test_a_header_value_that_was_released_is_refused() -> None:
    view = memoryview(b"ab")
    view.release()
    with pytest.raises(ValueError, match="released"):
        ProducerRecord("t", headers={"a": view})


class Three:
    """Converts to a number, as numpy's types do."""

    def __index__(self) -> int:
        return 3


class Broken:
    def __index__(self) -> int:
        raise LookupError("broken")


NUMBERS = [np.int64(3), np.uint8(3), np.array(3), IntEnum("Number", {"THREE": 3}).THREE, Three()]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda it: type(it).__name__)
def test_an_object_with_index_is_a_number(number: Any) -> None:
    record = ProducerRecord("t", partition=number, timestamp=number)
    assert record == ProducerRecord("t", partition=3, timestamp=3)
    assert (type(record.partition), type(record.timestamp)) == (int, int)
    assert record.replace(partition=number) == record


@pytest.mark.parametrize(
    "wrong",
    [
        3.0,
        np.float64(3),
        Decimal(3),
        Fraction(3),
        "3",
        b"\x03",
        np.True_,
        np.array([3]),
        np.datetime64(3, "ms"),
        int,
        Three,
    ],
    ids=lambda it: repr(it)[:20],
)
def test_numbers_that_are_not_whole_are_refused_by_a_record(wrong: Any) -> None:
    with pytest.raises(TypeError, match="partition must be an int or None, not <class"):
        ProducerRecord("t", partition=wrong)
    with pytest.raises(TypeError, match="timestamp must be an int"):
        ProducerRecord("t", timestamp=wrong)


@pytest.mark.parametrize("wrong", [np.int64(-1), np.uint64(2**63), 10**30])
def test_a_number_out_of_range_is_refused_by_its_value(wrong: Any) -> None:
    with pytest.raises(ValueError, match=f"between 0 and 2147483647, not {wrong}"):
        ProducerRecord("t", partition=wrong)
    with pytest.raises(ValueError, match="timestamp"):
        ProducerRecord("t", timestamp=wrong)


def test_an_error_of_index_is_raised() -> None:
    for name in ("partition", "timestamp"):
        with pytest.raises(LookupError, match="broken"):
            ProducerRecord("t", **{name: Broken()})


def test_a_header_may_occur_twice() -> None:
    assert ProducerRecord("t", headers=[("a", b"1"), ("a", b"2")]).headers == (("a", b"1"), ("a", b"2"))


def test_a_later_change_of_the_arguments_does_not_change_the_record() -> None:
    given = [("a", b"1")]
    record = ProducerRecord("t", headers=given)
    given.append(("b", b"2"))
    assert record.headers == (("a", b"1"),)


def test_a_record_type_can_be_subscripted_at_runtime() -> None:
    alias = ProducerRecord[str, bytes]
    assert isinstance(alias, GenericAlias)
    assert alias.__origin__ is ProducerRecord
    assert alias.__args__ == (str, bytes)
    assert alias("t", b"v") == ProducerRecord("t", b"v")


def test_metadata_cannot_be_changed_and_is_equal_by_content() -> None:
    with pytest.raises(AttributeError):
        METADATA.offset = 18
    same = RecordMetadata("flights", 3, 17, 1_700_000_000_123, 1, -1)
    assert same == METADATA
    assert hash(same) == hash(METADATA)
    assert RecordMetadata("flights", 3, 18, 1_700_000_000_123, 1, -1) != METADATA


def test_metadata_can_be_represented_and_matched() -> None:
    assert eval(repr(METADATA)) == METADATA
    match METADATA:
        case RecordMetadata(topic, partition, offset):
            assert (topic, partition, offset) == ("flights", 3, 17)


def test_records_have_documentation_that_names_units() -> None:
    assert "ms since the epoch" in (ProducerRecord.__doc__ or "")
    assert "ms since the epoch" in (RecordMetadata.__doc__ or "")
