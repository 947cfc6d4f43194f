"""`send_arrow` on the embedded broker, in both facades: data of pyarrow, polars, DuckDB and pandas, and false schemas."""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import struct
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from driven import FACADES, blocking_only
from facade_support import SOON_S, Log, MakeProducer, MakeTopic, arrow_records, numbered
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock import (
    BufferExhaustedError,
    JSONSerializer,
    KafkaProducer,
    ProducerInterceptor,
    ProducerRecord,
    RecordTooLargeError,
)
from penstock._native import ArrowRecords
from penstock.devbroker import Faults, RunningCluster


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Any:
    """Every test here holds for both."""
    return request.param


def values(array: Any) -> list[bytes | None]:
    """A column as the value."""
    return [row[0] for row in arrow_records(pa.table({"v": array}), value="v")]


def as_json(array: Any) -> list[Any]:
    """A column as the only field of the row's JSON."""
    return [json.loads(row[0] or b"")["v"] for row in arrow_records(pa.table({"v": array}))]


# ------------------------------------------------------------------------------------------------- columns to bytes


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.binary_view(), pa.string(), pa.large_string(), pa.string_view()]
)
def test_binary_and_text_are_written_unchanged(kind: Any) -> None:
    given: list[Any] = [b"a", None, b"", "ü".encode() * 40]
    assert values(pa.array([None if v is None else v.decode() for v in given]).cast(kind)) == given
    assert values(pa.array(given, pa.binary()).cast(kind).slice(1, 3)) == given[1:]


@pytest.mark.parametrize(
    ("kind", "code", "given"),
    [
        (pa.int16(), ">h", [-(2**15), 7]),
        (pa.int32(), ">i", [2**31 - 1, -1]),
        (pa.int64(), ">q", [-(2**63), 0]),
        (pa.float32(), ">f", [1.5, -math.inf]),
        (pa.float64(), ">d", [0.1, -0.0]),
    ],
)
def test_numbers_are_written_as_java_s_serializers_do(kind: Any, code: str, given: list[Any]) -> None:
    expected = [struct.pack(code, number) for number in given]
    assert values(pa.array([*given, None], kind)) == [*expected, None]


def test_every_nan_is_written_as_java_s() -> None:
    assert (
        values(pa.array([math.nan, struct.unpack(">d", b"\xff\xf8\0\0\0\0\0\1")[0]])) == [b"\x7f\xf8\0\0\0\0\0\0"] * 2
    )
    assert values(pa.array([math.nan], pa.float32())) == [b"\x7f\xc0\0\0"]


def test_booleans_dictionaries_and_nulls() -> None:
    assert values(pa.array([True, None, False])) == [b"\1", None, b"\0"]
    assert values(pa.array(["a", None, "b", "a"]).dictionary_encode()) == [b"a", None, b"b", b"a"]
    assert values(pa.DictionaryArray.from_arrays(pa.array([0, 1, 0]), pa.array(["x", None]))) == [b"x", None, b"x"]
    assert values(pa.array([b"ab", None], pa.binary(2))) == [b"ab", None]
    assert values(pa.nulls(2)) == [None, None]


# ------------------------------------------------------------------------------------------------- rows to JSON


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array([1, None, -(2**63)]), [1, None, -(2**63)]),
        (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
        (pa.array([0.1, math.nan, math.inf, 1e300, None]), [0.1, None, None, 1e300, None]),
        (pa.array([True, None]), [True, None]),
        (pa.array(['"\\\n\0', "ü鍵", None]), ['"\\\n\0', "ü鍵", None]),
        (pa.array([b"\0\xff", b"", b"abc", None]), ["AP8=", "", "YWJj", None]),
        (pa.array([b"ab"], pa.binary_view()), ["YWI="]),
        (pa.array([dt.date(2024, 2, 29), None]), ["2024-02-29", None]),
        (pa.array([dt.datetime(2024, 2, 29, 1, 2, 3, 4)]), ["2024-02-29T01:02:03.000004"]),
        (pa.array([0], pa.timestamp("s", "UTC")), ["1970-01-01T00:00:00Z"]),
        (pa.array([0], pa.timestamp("ms", "Asia/Tokyo")), ["1970-01-01T09:00:00+09:00"]),
        (pa.array([0], pa.timestamp("ns", "-05:30")), ["1969-12-31T18:30:00-05:30"]),
        (pa.array([dt.time(1, 2, 3)]), ["01:02:03"]),
        (pa.array([1500], pa.duration("ms")), ["PT1.5S"]),
        (pa.array([[1, None], [], None]), [[1, None], [], None]),
        (pa.array([[b"a"]], pa.large_list(pa.binary())), [["YQ=="]]),
        (pa.array([{"a": 1, "b": None}, None]), [{"a": 1, "b": None}, None]),
        (pa.array([[("k", 1), ("l", None)], None], pa.map_(pa.string(), pa.int64())), [{"k": 1, "l": None}, None]),
        (pa.array(["x", None, "x"]).dictionary_encode(), ["x", None, "x"]),
        (pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["x", None])), [None, "x"]),
        (pa.array([[b"x", None]], pa.list_(pa.dictionary(pa.int8(), pa.binary()))), [["eA==", None]]),
        (pa.nulls(1), [None]),
    ],
)
def test_json_of_every_type(array: Any, expected: list[Any]) -> None:
    assert as_json(array) == expected


def test_decimals_keep_their_digits() -> None:
    array = pa.array([decimal.Decimal("12345678901234567890.10")])
    assert arrow_records(pa.table({"v": array}))[0][0] == b'{"v":12345678901234567890.10}'


def test_the_value_argument_selects_columns() -> None:
    table = pa.table(
        {
            "id": [1],
            "p": [2],
            "at": [5],
            "name": ["x"],
            "h": pa.array([[("a", b"b")]], pa.map_(pa.string(), pa.binary())),
        }
    )
    every = {"id": 1, "p": 2, "at": 5, "name": "x"}
    [row] = arrow_records(table, key="id", timestamp="at", headers="h")
    assert json.loads(row[0] or b"") == every
    assert row[1:] == ((1).to_bytes(8), None, 5, (("a", b"b"),))
    [row] = arrow_records(table, partition="p", headers="h")
    assert json.loads(row[0] or b"") == {name: value for name, value in every.items() if name != "p"}
    assert row[2] == 2
    [row] = arrow_records(table, value=["name", "id"], key=["p"], partition=7)
    assert row == (b'{"name":"x","id":1}', b'{"p":2}', 7, None, ())


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_timestamps_of_any_unit(unit: Any, zone: str | None) -> None:
    array = pa.array([86_400, 0, None]).cast(pa.timestamp("s", zone)).cast(pa.timestamp(unit, zone))
    assert [row[3] for row in arrow_records(pa.table({"t": array, "v": [1, 2, 3]}), timestamp="t")][:2] == [
        86_400_000,
        0,
    ]


@pytest.mark.parametrize(
    "kind",
    [
        pa.map_(pa.string(), pa.binary()),
        pa.map_(pa.large_string(), pa.string()),
        pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())])),
        pa.large_list(pa.struct([("name", pa.string_view()), ("content", pa.binary_view())])),
    ],
)
def test_headers_of_every_shape(kind: Any) -> None:
    pairs = [[("a", b"1"), ("ü", None), ("a", b"")], None, [], [("z", b"z")]]
    if pa.types.is_map(kind):
        array = pa.array(
            [None if row is None else [(k, v if v is None else v.decode()) for k, v in row] for row in pairs],
            pa.map_(pa.string(), pa.string()),
        ).cast(kind)
    else:
        names = [field.name for field in kind.value_type]
        array = pa.array(
            [None if row is None else [dict(zip(names, pair, strict=True)) for pair in row] for row in pairs], kind
        )
    table = pa.table({"h": array, "v": [1, 2, 3, 4]})
    expected = [tuple(row or ()) for row in pairs]
    assert [row[4] for row in arrow_records(table, value="v", headers="h")] == expected
    assert [row[4] for row in arrow_records(table.slice(1), value="v", headers="h")] == expected[1:]


# ------------------------------------------------------------------------------------------------- errors of the schema


SHOWN = pa.table({"a": [1], "l": [[1]], "s": ["x"], "i": pa.array([None], pa.month_day_nano_interval()), "f": [1.5]})


@pytest.mark.parametrize(
    ("columns", "kind", "words"),
    [
        ({"value": "b"}, ValueError, 'value: there is no column "b"; there are: a, l, s, i, f'),
        ({"key": ["a", "b"], "value": "a"}, ValueError, 'key: there is no column "b"'),
        ({"value": "l"}, TypeError, 'value: column "l" is of type List.*name it in a list.*or cast it'),
        ({}, TypeError, 'value: column "i" is of type Interval.*no form in JSON; cast it, or leave it out'),
        ({"value": "a", "partition": "s"}, TypeError, 'partition: column "s" is of type Utf8: an integer column'),
        ({"value": "a", "timestamp": "f"}, TypeError, 'timestamp: column "f" is of type Float64: an Arrow timestamp'),
        ({"value": "a", "headers": "s"}, TypeError, 'headers: column "s" is of type Utf8: a map from strings'),
        ({"value": []}, ValueError, "value is an empty list"),
        ({"value": ["a", "a"]}, ValueError, 'more than one column "a"'),
        ({"value": 5}, TypeError, "value must be a column's name, a list of names or None"),
        ({"value": "a", "partition": 1.5}, TypeError, "partition must be a column's name, an int or None"),
        ({"value": "a", "partition": -1}, ValueError, "partition must lie between"),
        ({"value": "a", "timestamp": 5}, TypeError, "timestamp must be a column's name or None"),
    ],
)
def test_errors_of_the_schema_are_raised_before_anything_is_buffered(
    producer: KafkaProducer[Any, Any], topic: str, log: Log, columns: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        producer.send_arrow(topic, SHOWN, **columns)
    producer.flush()
    assert log.count(topic) == 0


def test_two_columns_of_one_name_are_refused() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(ValueError, match='more than one column "a"'):
        ArrowRecords(table, value="a")
    with pytest.raises(ValueError, match='more than one column "a"'):
        ArrowRecords(table)


@pytest.mark.parametrize("data", [5, None, [1], {"a": [1]}, pl.LazyFrame({"a": [1]})])
def test_other_data_than_arrow_s_is_a_type_error(producer: KafkaProducer[Any, Any], topic: str, data: Any) -> None:
    with pytest.raises(TypeError, match="anything with __arrow_c_stream__ or __arrow_c_array__"):
        producer.send_arrow(topic, data)


# ------------------------------------------------------------------------------------------------- libraries


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda table: table, id="pyarrow.Table"),
        pytest.param(lambda table: table.to_batches()[0], id="pyarrow.RecordBatch"),
        pytest.param(lambda table: table.to_reader(max_chunksize=7), id="pyarrow.RecordBatchReader"),
        pytest.param(pl.from_arrow, id="polars.DataFrame"),
        pytest.param(lambda table: duckdb.connect().from_arrow(table), id="duckdb"),
        pytest.param(lambda table: table.to_pandas(), id="pandas.DataFrame"),
    ],
)
def test_data_of_every_library_is_read(producer: KafkaProducer[Any, Any], topic: str, log: Log, make: Any) -> None:
    table = pa.table({"n": list(range(1_000)), "s": [f"text {number}" for number in range(1_000)]})
    result = producer.send_arrow(topic, make(table), key="s")
    result.raise_for_errors()
    assert list(result.offsets) == list(range(1_000))
    found = log.records(topic)
    assert [json.loads(record.value or b"") for record in found] == table.to_pylist()
    assert [record.key for record in found] == [f"text {number}".encode() for number in range(1_000)]


cell: dict[Any, Any] = {
    pa.binary(): st.binary(max_size=40),
    pa.string(): st.text(max_size=20),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(allow_nan=False),
}


@st.composite
def tables(draw: st.DrawFn) -> Any:
    count = draw(st.integers(1, 40))

    def column(kind: Any) -> Any:
        return pa.array(draw(st.lists(st.none() | cell[kind], min_size=count, max_size=count)), kind)

    drawn = {name: column(draw(st.sampled_from(list(cell)))) for name in "kv"}
    at = draw(st.lists(st.integers(0, 10**12), min_size=count, max_size=count))
    heads = draw(
        st.lists(
            st.none() | st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=3),
            min_size=count,
            max_size=count,
        )
    )
    table = pa.table(drawn | {"at": pa.array(at), "h": pa.array(heads, pa.map_(pa.string(), pa.binary()))})
    return pa.Table.from_batches(table.to_batches(max_chunksize=draw(st.integers(1, 50))))


@pytest.mark.parametrize("facade", FACADES)
@given(table=tables())
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_send_arrow_equals_send_many_of_the_same_data(
    cluster: RunningCluster, facade: type[KafkaProducer[Any, Any]], table: Any
) -> None:
    log = Log(cluster)
    arrow, many = f"arrow-{uuid.uuid4().hex}", f"many-{uuid.uuid4().hex}"
    for topic in (arrow, many):
        cluster.create_topic(topic, 3)

    def written(name: str) -> list[bytes | None]:
        codes = {pa.int32(): ">i", pa.int64(): ">q", pa.float64(): ">d"}
        code = codes.get(table.schema.field(name).type)
        return [
            v if v is None or isinstance(v, bytes) else v.encode() if isinstance(v, str) else struct.pack(code or "", v)
            for v in table.column(name).to_pylist()
        ]

    with facade(bootstrap_servers=cluster.bootstrap_servers, linger_ms=0) as producer:
        one = producer.send_arrow(arrow, table, value="v", key="k", timestamp="at", headers="h")
        keys = written("k")
        two = producer.send_many(
            many,
            written("v"),
            keys=keys,
            timestamps=table.column("at").to_pylist(),
            headers=table.column("h").to_pylist(),
        )
        one.raise_for_errors()
        two.raise_for_errors()
    keyed = [index for index, key in enumerate(keys) if key is not None]
    assert [one.partitions[index] for index in keyed] == [two.partitions[index] for index in keyed]

    def logged(topic: str) -> list[Any]:
        found = [(r.key, r.value, r.timestamp, r.headers) for r in log.records(topic)]
        return sorted(found, key=repr)

    assert logged(arrow) == logged(many)


# ------------------------------------------------------------------------------------------------- streams and errors


def batches(count: int, size: int, asked: list[int] | None = None) -> Iterator[Any]:
    for number in range(count):
        if asked is not None:
            asked.append(number)
        yield pa.record_batch({"v": [b"%d-%d" % (number, row) + b"x" * 100 for row in range(size)]})


SCHEMA = pa.schema([("v", pa.binary())])


def test_a_stream_is_read_only_as_buffer_memory_is_available(
    new_producer: MakeProducer, topic: str, faults: Faults, log: Log
) -> None:
    producer = new_producer(buffer_memory=200_000, max_block_ms=20_000)
    producer.partitions_for(topic)
    for _ in range(3):
        faults.add("Produce", topic=topic, delay_ms=100)
    asked: list[int] = []
    reader = pa.RecordBatchReader.from_batches(SCHEMA, batches(200, 100, asked))
    result = producer.send_arrow(topic, reader, value="v")
    result.raise_for_errors()
    assert log.values(topic) == [row for batch in batches(200, 100) for row in batch.column(0).to_pylist()]


def test_a_buffer_that_stays_full_ends_a_stream(new_producer: MakeProducer, topic: str, faults: Faults) -> None:
    producer = new_producer(buffer_memory=100_000, max_block_ms=200)
    producer.partitions_for(topic)
    faults.add("Produce", topic=topic, drop="silent", times=1_000)
    asked: list[int] = []
    reader = pa.RecordBatchReader.from_batches(SCHEMA, batches(10_000, 100, asked))
    result = producer.send_arrow(topic, reader, value="v")
    assert len(asked) < 20
    assert len(result) == 100 * len(asked)
    producer.close(0)
    assert isinstance(result.errors[len(result) - 1], BufferExhaustedError)


def test_a_stream_that_raises_ends_the_call(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    def failing() -> Iterator[Any]:
        yield from batches(3, 10)
        raise OSError("the disk is gone")

    result = producer.send_arrow(topic, pa.RecordBatchReader.from_batches(SCHEMA, failing()), value="v")
    assert list(result.errors) == [30]
    assert "the disk is gone" in str(result.errors[30])
    assert log.count(topic) == 30

    def at_once() -> Iterator[Any]:
        raise OSError("no disk")
        yield

    with pytest.raises(ValueError, match=r"the Arrow data cannot be read: .*no disk"):
        producer.send_arrow(topic, pa.RecordBatchReader.from_batches(SCHEMA, at_once()), value="v")


def test_rows_that_cannot_be_sent_are_entries(
    producer: KafkaProducer[Any, Any], new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(4)
    table = pa.table(
        {
            "v": [b"ok", b"bad partition", b"bad time", b"x" * 2_000_000, b"ok"],
            "p": [1, -3, None, 0, 3],
            "t": [1, 2, -5, None, 4],
        }
    )
    result = producer.send_arrow(topic, table, value="v", partition="p", timestamp="t")
    assert {index: type(error).__name__ for index, error in result.errors.items()} == {
        1: "KafkaError",
        2: "KafkaError",
        3: "RecordTooLargeError",
    }
    assert "partition must lie between 0 and 2147483647, not -3" in str(result.errors[1])
    assert "timestamp must not be negative" in str(result.errors[2])
    assert isinstance(result.errors[3], RecordTooLargeError)
    assert list(result.partitions) == [1, -1, -1, -1, 3]
    assert log.count(topic) == 2
    with pytest.raises(ValueError, match="partition must lie between"):
        producer.send_arrow(topic, table.slice(1), value="v", partition="p")


def test_a_time_out_of_range_is_an_error_of_its_row(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    table = pa.table({"t": pa.array([0, 2**62, 0], pa.timestamp("s"))})
    result = producer.send_arrow(topic, table)
    assert list(result.errors) == [1]
    assert "cannot be written as JSON" in str(result.errors[1])
    assert log.values(topic) == [b'{"t":"1970-01-01T00:00:00"}'] * 2


def test_rows_whose_json_exceeds_a_chunk_are_sent(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    table = pa.table({"v": ["x" * 300_000] * 20, "b": [b"y" * 100_000] * 20})
    producer.send_arrow(topic, table).raise_for_errors()
    text = json.dumps({"v": "x" * 300_000, "b": base64.b64encode(b"y" * 100_000).decode()}, separators=(",", ":"))
    assert log.values(topic) == [text.encode()] * 20


def test_interceptors_see_bytes_and_serializers_do_not(new_producer: MakeProducer, topic: str, log: Log) -> None:
    class Marks(ProducerInterceptor):
        def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
            return record.replace(value=b"<" + record.value + b">")

    producer = new_producer(interceptor_classes=[Marks()], value_serializer=JSONSerializer())
    producer.send_arrow(topic, pa.table({"a": [1, 2]}), key="a").raise_for_errors()
    assert log.values(topic) == [b'<{"a":1}>', b'<{"a":2}>']


@blocking_only
def test_other_threads_run_during_the_call(producer: KafkaProducer[Any, Any], topic: str) -> None:
    seen: list[int] = []
    table = pa.table({"v": numbered(200_000)})
    reader = pa.RecordBatchReader.from_batches(table.schema, iter(table.to_batches(max_chunksize=10_000)))
    thread = threading.Thread(target=lambda: seen.append(len(producer.send_arrow(topic, reader, value="v"))))
    thread.start()
    thread.join(SOON_S)
    assert seen == [200_000]


class Lies:
    """Claims one schema and returns data of another."""

    def __init__(self, schema: Any, data: Any) -> None:
        self.schema, self.data = schema, data

    def __arrow_c_array__(self, requested_schema: Any = None) -> Any:
        return self.schema.__arrow_c_schema__(), self.data.__arrow_c_array__()[1]


@pytest.mark.parametrize(
    ("schema", "data"),
    [
        ([("v", pa.string())], {"v": [1, 2, 3]}),
        ([("v", pa.binary()), ("w", pa.int64())], {"v": [b"x"]}),
        ([("v", pa.list_(pa.int64()))], {"v": [1]}),
        ([("v", pa.struct([("x", pa.int64())]))], {"v": [1]}),
        ([], {"v": [1]}),
    ],
)
def test_data_of_another_schema_than_announced_is_an_error(
    producer: KafkaProducer[Any, Any], topic: str, schema: Any, data: Any
) -> None:
    liar = Lies(pa.schema(schema), pa.record_batch(data))
    with pytest.raises((ValueError, TypeError), match=r"Arrow|column|C Data"):
        producer.send_arrow(topic, liar)


@pytest.mark.parametrize(
    "result", [None, 5, (1, 2), (), object()], ids=["None", "an int", "a pair of ints", "nothing", "an object"]
)
@pytest.mark.parametrize("method", ["__arrow_c_stream__", "__arrow_c_array__"])
def test_objects_that_are_not_capsules_are_refused(
    producer: KafkaProducer[Any, Any], topic: str, method: str, result: Any
) -> None:
    liar = type("Liar", (), {method: lambda self, requested_schema=None: result})()
    with pytest.raises((TypeError, ValueError, IndexError)):
        producer.send_arrow(topic, liar)


def test_text_that_is_not_utf_8_is_refused(producer: KafkaProducer[Any, Any], topic: str) -> None:
    array = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"], pa.binary()).buffers())
    with pytest.raises(ValueError, match="cannot be read"):
        producer.send_arrow(topic, pa.table({"v": array}))


def test_a_capsule_is_used_up_by_its_first_reader(producer: KafkaProducer[Any, Any], topic: str) -> None:
    class Once:
        def __init__(self, capsule: Any) -> None:
            self.capsule = capsule

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return self.capsule

    once = Once(pa.table({"v": [1]}).__arrow_c_stream__())
    producer.send_arrow(topic, once).raise_for_errors()
    with pytest.raises(ValueError):
        producer.send_arrow(topic, once)


def test_a_struct_with_nulls_is_not_a_table(producer: KafkaProducer[Any, Any], topic: str) -> None:
    with pytest.raises(ValueError, match="nulls is no table"):
        producer.send_arrow(topic, pa.array([{"a": 1}, None]))
