"""kio, an independent codec, checks ours in both directions, for every version that it has."""

import io
import sys
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kio.index import UnknownEntity, load_request_schema, load_response_schema
from kio.records.readers import read_batch
from kio.records.schema import NewRecordBatch, RecordHeader
from kio.records.schema import Record as KioRecord
from kio.records.writers import write_new_batch
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer

from penstock.protocol.primitives import ZERO_UUID

sys.path.append(str(Path(__file__).parents[1] / "unit" / "protocol"))

from protocol_catalogue import MESSAGE_VERSIONS, Field, MessageVersion, values

from penstock.protocol.records import Record, decode_batch, encode_batch

# kio 0.6.5 was generated from older definitions; its missing versions are listed, so that no other one is left out.
NOT_IN_KIO = {
    *(MessageVersion(f"ApiVersions{kind.capitalize()}", 18, kind, 5) for kind in ("request", "response")),
}
JUDGED = [of for of in MESSAGE_VERSIONS if of.kind != "header" and of not in NOT_IN_KIO]

deterministic = settings(
    derandomize=True, max_examples=10, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _kio_range(field: Field) -> st.SearchStrategy[Any] | None:
    """kio turns error codes into an enumeration, and times into timedelta or datetime: a smaller range."""
    if field["name"].endswith("error_code"):
        return st.sampled_from([0, -1, 3, 35, 100])
    if field["name"].endswith("_ms"):
        return st.integers(0, 10**9)
    return None


@pytest.mark.parametrize("of", JUDGED, ids=str)
@deterministic
@given(data=st.data())
def test_kio_writes_the_same_bytes_for_the_same_values_and_reads_ours(of: MessageVersion, data: st.DataObject) -> None:
    message = data.draw(values(of, _kio_range))
    encoded = message.encode(of.version)
    kio_type = _kio_type(of)
    twin = _twin(message, kio_type)
    with io.BytesIO() as buffer:
        entity_writer(kio_type)(buffer, twin)
        assert buffer.getvalue() == encoded
    read, size = entity_reader(kio_type)(encoded, 0)
    assert (read, size) == (twin, len(encoded))


@pytest.mark.parametrize("of", sorted(NOT_IN_KIO), ids=str)
def test_the_listed_missing_versions_are_missing(of: MessageVersion) -> None:
    with pytest.raises(UnknownEntity):
        _kio_type(of)


@cache
def _kio_type(of: MessageVersion) -> Any:
    load = load_request_schema if of.kind == "request" else load_response_schema
    return load(of.api_key, of.version)


@cache
def _hints(kio_type: Any) -> dict[str, Any]:
    return get_type_hints(kio_type)


def _twin(message: Any, kio_type: Any) -> Any:
    """The message as kio's dataclass, which has only the fields of its version, and richer types."""
    arguments = {}
    for field in fields(kio_type):
        renamed = field.name if hasattr(message, field.name) else f"{field.name}_ms"
        value = getattr(message, renamed)
        inner = _element_type(_hints(kio_type)[field.name])
        convert = _converter(field.metadata.get("kafka_type"), inner)
        arguments[field.name] = tuple(map(convert, value)) if isinstance(value, tuple) else convert(value)
    return kio_type(**arguments)


def _element_type(hint: Any) -> Any:
    """tuple[X, ...] | None → X"""
    while arguments := [it for it in get_args(hint) if it not in (type(None), Ellipsis)]:
        hint = arguments[0]
    return hint


def _converter(kafka_type: str | None, kio_type: Any) -> Any:
    match kafka_type:
        case None:
            return lambda value: None if value is None else _twin(value, kio_type)
        case "uuid":
            return lambda value: None if value == ZERO_UUID else value
        case "error_code":
            return ErrorCode
        case "timedelta_i32" | "timedelta_i64":
            return lambda value: timedelta(milliseconds=value)
        case "datetime_i64":
            return lambda value: None if value == -1 else _EPOCH + timedelta(milliseconds=value)
    return lambda value: value


_some_bytes = st.none() | st.binary(max_size=20)
_some_records = st.lists(
    st.builds(
        Record,
        key=_some_bytes,
        value=_some_bytes,
        headers=st.lists(st.tuples(st.text(max_size=5), _some_bytes), max_size=3).map(tuple),
        # kio computes with floating-point seconds: whole ones survive that.
        timestamp=st.integers(0, 1 << 32).map(lambda seconds: seconds * 1000),
    ),
    min_size=1,
    max_size=5,
)


@settings(deterministic, max_examples=100)
@given(records=_some_records, base_offset=st.integers(0, 1 << 40))
def test_kio_writes_the_same_record_batch_and_reads_ours(records: list[Record], base_offset: int) -> None:
    twins = tuple(
        KioRecord(
            attributes=0,
            timestamp=_EPOCH + timedelta(milliseconds=record.timestamp),
            offset=base_offset + index,
            key=record.key,
            value=record.value,
            headers=tuple(RecordHeader(key=key.encode(), value=value) for key, value in record.headers),
        )
        for index, record in enumerate(records)
    )
    batch = NewRecordBatch(
        producer_id=7, producer_epoch=1, partition_leader_epoch=3, base_sequence=9, records=twins, attributes=0
    )
    ours = encode_batch(
        records, base_offset=base_offset, leader_epoch=3, producer_id=7, producer_epoch=1, base_sequence=9
    )
    read, size = read_batch(ours, 0)
    assert (read.records, size) == (twins, len(ours))
    with io.BytesIO() as buffer:
        write_new_batch(buffer, batch)
        # kio sets the base offset of a new batch to 0, as producers do; the checksum does not cover it.
        assert buffer.getvalue()[8:] == ours[8:]
        assert decode_batch(buffer.getvalue())[0].producer_id == 7
