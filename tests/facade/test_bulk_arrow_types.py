"""Arrow types whose values differ from their storage: decimals, UUIDs, booleans of one byte."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from decimal import Context, Decimal
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from driven import FACADES
from facade_support import Log, arrow_records
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import KafkaProducer
from penstock.serialization import UUIDSerializer


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Any:
    """Every test here holds for both."""
    return request.param


def texts(array: Any) -> list[str]:
    """The JSON of each of an array's values."""
    prefix, suffix = '{"v":', "}"
    values = [row[0].decode() for row in arrow_records(pa.table({"v": array}))]
    return [value.removeprefix(prefix).removesuffix(suffix) for value in values]


# ------------------------------------------------------------------------------------------------- decimals


WIDTHS: dict[Callable[..., Any], int] = {pa.decimal32: 4, pa.decimal64: 8, pa.decimal128: 16, pa.decimal256: 32}
PRECISION = {pa.decimal32: 9, pa.decimal64: 18, pa.decimal128: 38, pa.decimal256: 76}


def decimals(kind: Callable[..., Any], precision: int, scale: int, unscaled: list[int | None]) -> Any:
    """An array of any numbers that its width can hold, whatever the precision is."""
    width = WIDTHS[kind]
    data = b"".join((number or 0).to_bytes(width, "little", signed=True) for number in unscaled)
    present = sum(1 << index for index, number in enumerate(unscaled) if number is not None)
    bits = present.to_bytes(len(unscaled) // 8 + 1, "little")
    return pa.Array.from_buffers(kind(precision, scale), len(unscaled), [pa.py_buffer(bits), pa.py_buffer(data)])


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Any, list[int | None], int]:
    kind = draw(st.sampled_from(list(WIDTHS)))
    half = 2 ** (8 * WIDTHS[kind] - 1)
    precision = draw(st.integers(1, PRECISION[kind]))
    scale = draw(st.integers(-20, precision + 20))
    near = st.sampled_from([0, 1, -1, half - 1, -half, 10**precision, -(10**precision) + 1])
    unscaled = st.none() | st.integers(-half, half - 1) | near.filter(lambda number: -half <= number < half)
    numbers = draw(st.lists(unscaled, min_size=1, max_size=20))
    return decimals(kind, precision, scale, numbers), numbers, scale


@given(drawn())
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_every_digit_of_every_decimal(case: tuple[Any, list[int | None], int]) -> None:
    array, numbers, scale = case
    context = Context(prec=200)
    expected = [None if number is None else Decimal(number).scaleb(-scale, context) for number in numbers]
    found = [json.loads(text, parse_int=Decimal, parse_float=Decimal) for text in texts(array)]
    assert found == expected
    for text in texts(array):  # all values of a column have the same scale
        places = len(text.partition(".")[2])
        assert text == "null" or places == max(scale, 0)


@pytest.mark.parametrize("kind", list(WIDTHS))
def test_the_text_of_a_decimal(kind: Callable[..., Any]) -> None:
    numbers = [0, 5, -5, 1_234_567, -1_234_567, None]
    assert texts(decimals(kind, 5, 2, numbers)) == ["0.00", "0.05", "-0.05", "12345.67", "-12345.67", "null"]
    assert texts(decimals(kind, 1, 0, numbers)) == ["0", "5", "-5", "1234567", "-1234567", "null"]
    assert texts(decimals(kind, 2, -3, numbers))[:4] == ["0", "5000", "-5000", "1234567000"]
    assert texts(decimals(kind, 2, 9, numbers))[:4] == ["0.000000000", "0.000000005", "-0.000000005", "0.001234567"]


@pytest.mark.parametrize("kind", list(WIDTHS))
def test_the_limits_of_a_decimal(kind: Callable[..., Any]) -> None:
    half = 2 ** (8 * WIDTHS[kind] - 1)
    assert texts(decimals(kind, 1, 0, [half - 1, -half])) == [str(half - 1), str(-half)]


def runs(values: Any) -> Any:
    """Two rows of the first value, one of the second. (`from_arrays` checks the values.)"""
    ends = pa.array([2, 3], pa.int32())
    kind = pa.run_end_encoded(pa.int32(), values.type)
    return pa.Array.from_buffers(kind, 3, [None], children=[ends, values])


BEYOND = decimals(pa.decimal128, 5, 2, [1_234_567, None])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.StructArray.from_arrays([BEYOND], ["d"]), ['{"d":12345.67}', '{"d":null}']),
        (pa.ListArray.from_arrays([0, 2, 2], BEYOND), ["[12345.67,null]", "[]"]),
        (pa.LargeListArray.from_arrays([0, 1, 2], BEYOND), ["[12345.67]", "[null]"]),
        (pa.ListViewArray.from_arrays([1, 0], [1, 2], BEYOND), ["[null]", "[12345.67,null]"]),
        (pa.FixedSizeListArray.from_arrays(BEYOND, 2), ["[12345.67,null]"]),
        (pa.MapArray.from_arrays([0, 2], ["a", "b"], BEYOND), ['{"a":12345.67,"b":null}']),
        (pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 0]), BEYOND), ["null", "12345.67", "null", "12345.67"]),
        (runs(BEYOND), ["12345.67", "12345.67", "null"]),
        (pa.ListArray.from_arrays([0, 1], pa.ListArray.from_arrays([0, 2], BEYOND)), ["[[12345.67,null]]"]),
        (decimals(pa.decimal256, 5, 2, [7, 1_234_567, 8]).slice(1, 1), ["12345.67"]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_decimals_in_other_types(array: Any, expected: list[str]) -> None:
    assert texts(array) == expected


def test_decimals_in_keys_and_of_other_libraries(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    producer.send_arrow(topic, pa.table({"d": BEYOND}), key=["d"]).raise_for_errors()
    assert [(r.key, r.value) for r in log.records(topic)] == [(b'{"d":12345.67}',) * 2, (b'{"d":null}',) * 2]
    number = Decimal("-12345678901234567890.10")
    for data in (pl.DataFrame({"v": [number]}), pd.DataFrame({"v": [number]})):
        assert [row[0] for row in arrow_records(data)] == [b'{"v":-12345678901234567890.10}']


HUGE = [0, 10**38, -(10**38), 2**127 - 1, -(2**127)]
UNSIGNED = [0, 10**38, 2**127, 2**128 - 1]


def test_huge_integers_of_duckdb() -> None:
    connection = duckdb.connect()
    for kind, numbers in (("hugeint", HUGE), ("uhugeint", UNSIGNED)):
        rows = ", ".join(f"('{number}'::{kind})" for number in numbers)
        relation = connection.sql(
            f"select n, [n, null] as l, {{'s': n, 'o': 1}} as s, map(['k'], [n]) as m, [n]::{kind}[1] as a "
            f"from (values {rows}) as t(n)"
        )
        expected = [{"n": n, "l": [n, None], "s": {"s": n, "o": 1}, "m": {"k": n}, "a": [n]} for n in numbers]
        assert [json.loads(row[0]) for row in arrow_records(relation)] == expected
        assert [row[1] for row in arrow_records(relation, key=["n"])] == [b'{"n":%d}' % number for number in numbers]
    # Beside each other, with a negative number of the signed type.
    both = connection.sql("select -1::hugeint as h, '340282366920938463463374607431768211455'::uhugeint as u")
    assert arrow_records(both)[0][0] == b'{"h":-1,"u":340282366920938463463374607431768211455}'


# ------------------------------------------------------------------------------------------------- extension types


IDS = [uuid.UUID(int=5), None, uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")]
UUIDS = pa.array([None if one is None else one.bytes for one in IDS], pa.uuid())
TEXTS = ["null" if one is None else f'"{one}"' for one in IDS]


def test_a_uuid_is_text(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    table = pa.table({"id": UUIDS, "v": ["a", "b", "c"]})
    producer.send_arrow(topic, table, key=["id"]).raise_for_errors()
    found = log.records(topic)
    assert [r.key for r in found] == [b'{"id":%s}' % text.encode() for text in TEXTS]
    assert json.loads(found[2].value or b"") == {"id": str(IDS[2]), "v": "c"}
    assert texts(UUIDS) == TEXTS
    assert texts(UUIDS.slice(2)) == TEXTS[2:]


def test_a_uuid_alone_is_written_as_by_the_serializer() -> None:
    expected = [None if one is None else UUIDSerializer().serialize("t", None, one) for one in IDS]
    table = pa.table({"id": UUIDS, "h": pa.MapArray.from_arrays([0, 1, 2, 3], ["x"] * 3, UUIDS)})
    assert [row[:2] for row in arrow_records(table, value="id", key="id")] == [(one, one) for one in expected]
    assert [row[4] for row in arrow_records(table, value="id", headers="h")] == [(("x", one),) for one in expected]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.StructArray.from_arrays([UUIDS], ["id"]), [f'{{"id":{text}}}' for text in TEXTS]),
        (pa.ListArray.from_arrays([0, 2, 3], UUIDS), [f"[{TEXTS[0]},null]", f"[{TEXTS[2]}]"]),
        (pa.LargeListArray.from_arrays([0, 3], UUIDS), [f"[{','.join(TEXTS)}]"]),
        (pa.FixedSizeListArray.from_arrays(UUIDS, 3), [f"[{','.join(TEXTS)}]"]),
        (pa.MapArray.from_arrays([0, 1], ["k"], UUIDS[:1]), [f'{{"k":{TEXTS[0]}}}']),
        (pa.ListArray.from_arrays([0, 1], pa.ListArray.from_arrays([0, 1], UUIDS)), [f"[[{TEXTS[0]}]]"]),
        (
            pa.ListArray.from_arrays([0, 1], pa.StructArray.from_arrays([UUIDS[:1]], ["id"])),
            [f'[{{"id":{TEXTS[0]}}}]'],
        ),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_uuids_in_other_types(array: Any, expected: list[str]) -> None:
    assert texts(array) == expected


def test_uuids_of_other_libraries() -> None:
    expected = [b'{"id":"00000000-0000-0000-0000-000000000005"}']
    connection = duckdb.connect()
    query = "select '00000000-0000-0000-0000-000000000005'::uuid as id"
    assert [row[0] for row in arrow_records(connection.sql(query))] == expected
    connection.execute("set arrow_lossless_conversion = true")
    assert [row[0] for row in arrow_records(connection.sql(query))] == expected
    assert [row[0] for row in arrow_records(pd.DataFrame({"id": [uuid.UUID(int=5)]}))] == expected


def test_sixteen_bytes_without_the_uuid_type_are_bytes() -> None:
    plain = pa.array([b"0123456789abcdef"], pa.binary(16))
    assert texts(plain) == ['"MDEyMzQ1Njc4OWFiY2RlZg=="']
    assert arrow_records(pa.table({"v": plain}), value="v")[0][0] == b"0123456789abcdef"


@pytest.mark.parametrize("storage", [pa.array([b"short"], pa.binary(5)), pa.array(["text"]), pa.array([7])])
@pytest.mark.parametrize("name", [b"arrow.uuid", b"arrow.bool8", b"arrow.unknown", b"", b"\xc3\xa9"])
def test_an_extension_with_another_storage_is_read_as_its_storage(storage: Any, name: bytes) -> None:
    field = pa.field("v", storage.type, metadata={b"ARROW:extension:name": name})

    class Raw:
        """The capsule of a schema that pyarrow refuses to make."""

        def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
            batch = pa.record_batch({"v": storage})
            return pa.schema([field]).__arrow_c_schema__(), batch.__arrow_c_array__()[1]

    assert [row[0] for row in arrow_records(Raw())] == [b'{"v":%s}' % texts(storage)[0].encode()]


def test_booleans_of_a_byte() -> None:
    array = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([0, 1, None, -5], pa.int8()))
    assert texts(array) == ["false", "true", "null", "true"]
    assert [row[0] for row in arrow_records(pa.table({"v": array}), value="v")] == [b"\0", b"\1", None, b"\1"]


def test_other_extensions_are_read_as_their_storage() -> None:
    storage = pa.array(['{"a":1}'])
    as_json = pa.ExtensionArray.from_storage(pa.json_(), storage)
    assert texts(as_json) == ['"{\\"a\\":1}"']
    assert arrow_records(pa.table({"v": as_json}), value="v")[0][0] == b'{"a":1}'
    tensor = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int8(), (2, 1)), pa.array([[1, 2]], pa.list_(pa.int8(), 2))
    )
    assert texts(tensor) == ["[1,2]"]
    opaque = pa.ExtensionArray.from_storage(pa.opaque(pa.binary(), "t", "v"), pa.array([b"a"]))
    assert texts(opaque) == ['"YQ=="']


# ------------------------------------------------------------------------------------------------- dictionaries, durations


EMPTY_DICTIONARIES: dict[str, Any] = {
    "pyarrow": pa.table({"v": pa.array([None, None], pa.string()).dictionary_encode()}),
    "pandas": pd.DataFrame({"v": pd.Categorical([None, None])}),
    "polars Categorical": pl.DataFrame({"v": pl.Series([None, None], dtype=pl.Categorical)}),
    "polars Enum": pl.DataFrame({"v": pl.Series([None, None], dtype=pl.Enum([]))}),
}


@pytest.mark.parametrize("data", EMPTY_DICTIONARIES.values(), ids=EMPTY_DICTIONARIES)
def test_a_dictionary_without_values_is_null_in_each_row(data: Any) -> None:
    assert [row[0] for row in arrow_records(data)] == [b'{"v":null}'] * 2
    assert [row[:2] for row in arrow_records(data, value="v", key="v")] == [(None, None)] * 2


def test_an_empty_dictionary_in_a_list_and_amid_a_stream() -> None:
    lists = pa.array([[], [None], None], pa.list_(pa.dictionary(pa.int32(), pa.string())))
    assert texts(lists) == ["[]", "[null]", "null"]
    kind = pa.dictionary(pa.int32(), pa.string())
    batches = [pa.record_batch({"v": pa.array(values, kind)}) for values in (["a"], [None], ["b"])]
    stream = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    assert [row[0] for row in arrow_records(stream)] == [b'{"v":"a"}', b'{"v":null}', b'{"v":"b"}']


def test_a_dictionary_without_a_value_for_a_key_is_refused() -> None:
    broken = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), pa.array([], pa.string()), safe=False)
    with pytest.raises(ValueError, match="Arrow data"):
        arrow_records(pa.table({"v": broken}))


@pytest.mark.parametrize(("number", "unit"), [(2**62, "s"), (-(2**62), "s"), (-(2**63), "ms")])
def test_a_duration_out_of_range_is_an_error_of_its_row(
    number: int, unit: str, producer: KafkaProducer[Any, Any], topic: str, log: Log
) -> None:
    data = pa.table({"d": pa.array([1, number], pa.duration(unit))})
    result = producer.send_arrow(topic, data)
    assert "out of range" in str(result.errors[1])
    producer.flush()
    assert len(log.values(topic)) == 1
