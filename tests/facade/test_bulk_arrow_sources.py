"""Data of libraries for `send_arrow` that could be misread: objects, nulls with buffers, indexes, single columns."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import Callable
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from driven import FACADES
from facade_support import Log, arrow_records, run_script
from pyarrow import parquet

from penstock import KafkaProducer
from penstock._native import ArrowRecords
from penstock.testing import AsyncMockProducer, MockProducer


@pytest.fixture(params=FACADES)
def facade(request: pytest.FixtureRequest) -> Any:
    """Every test here holds for both."""
    return request.param


def objects(data: Any, **columns: Any) -> list[Any]:
    """Their values, which are JSON."""
    return [json.loads(row[0]) for row in arrow_records(data, **columns)]


class Wrapped:
    """Data of an unknown library: it has only the Arrow interface."""

    def __init__(self, data: Any) -> None:
        self.data = data
        self.asked = 0

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        self.asked += 1
        return self.data.__arrow_c_stream__(requested_schema)


# ------------------------------------------------------------------------------------------------- objects of Python


def with_objects() -> pl.DataFrame:
    return pl.DataFrame({"a": [1, 2], "id": pl.Series([uuid.UUID(int=5), object()], dtype=pl.Object), "p": [0, 0]})


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"value": "id"},
        {"value": ["a", "id"]},
        {"value": "a", "key": "id"},
        {"value": "a", "key": ["id"]},
        {"value": "a", "headers": "id"},
        {"value": "a", "partition": "id"},
        {"value": "a", "timestamp": "id"},
    ],
)
def test_objects_of_polars_are_refused_by_name(
    producer: KafkaProducer[Any, Any], topic: str, log: Log, columns: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r'column "id" holds Python objects .*convert it first'):
        producer.send_arrow(topic, with_objects(), **columns)
    producer.flush()
    assert log.count(topic) == 0
    with pytest.raises(TypeError, match='column "id" holds Python objects'):
        MockProducer().send_arrow("t", with_objects(), **columns)
    with pytest.raises(TypeError, match='column "id" holds Python objects'):
        asyncio.run(AsyncMockProducer().send_arrow("t", with_objects(), **columns))


def test_a_frame_is_usable_without_its_objects(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    producer.send_arrow(topic, with_objects(), value=["a"], key="a", partition="p").raise_for_errors()
    assert log.values(topic) == [b'{"a":1}', b'{"a":2}']
    with pytest.raises(ValueError, match="there are: a, id, p"):
        producer.send_arrow(topic, with_objects(), value="b")


class Frame(pl.DataFrame):
    """Like an application's own subclass of a frame."""


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Frame, id="a subclass"),
        pytest.param(lambda frame: pl.concat([frame, frame], rechunk=False), id="several chunks"),
        pytest.param(lambda frame: frame.clear(), id="no rows"),
        pytest.param(lambda frame: frame.select("id"), id="nothing else"),
    ],
)
def test_objects_are_found_in_every_frame(make: Callable[[pl.DataFrame], Any]) -> None:
    with pytest.raises(TypeError, match='value: column "id" holds Python objects'):
        ArrowRecords(make(with_objects()))


def test_objects_of_narwhals_and_of_a_lazy_frame() -> None:
    class Shell:
        """Like a frame of narwhals, which is not a test dependency."""

        def to_native(self) -> Any:
            return with_objects()

        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            return with_objects().__arrow_c_stream__()

    Shell.__module__ = "narwhals.dataframe"
    with pytest.raises(TypeError, match='column "id" holds Python objects'):
        ArrowRecords(Shell())
    with pytest.raises(TypeError, match=r"collect\(\) it first"):
        ArrowRecords(with_objects().lazy())  # type: ignore[arg-type]


def test_eight_byte_values_that_are_not_objects_are_sent() -> None:
    table = pa.table({"v": pa.array([b"12345678", None], pa.binary(8))})
    assert [row[0] for row in arrow_records(table, value="v")] == [b"12345678", None]
    assert objects(table) == [{"v": "MTIzNDU2Nzg="}, {"v": None}]


@pytest.mark.parametrize("kind", [pl.Int128, pl.UInt128])
@pytest.mark.parametrize("nested", [False, True])
def test_integers_that_arrow_does_not_have_are_refused_by_name(kind: Any, nested: bool) -> None:
    frame = pl.DataFrame({"a": [1], "n": pl.Series([2], dtype=kind)})
    if nested:
        frame = frame.with_columns(n=pl.concat_list(pl.struct("n")))
    with pytest.raises(TypeError, match=r'value: column "n" is of the polars type U?Int128, which Arrow does not have'):
        ArrowRecords(frame)
    assert objects(frame, value=["a"]) == [{"a": 1}]


def test_pandas_refuses_its_own_objects_by_name() -> None:
    with pytest.raises((ValueError, TypeError), match="column id with type object"):
        ArrowRecords(pd.DataFrame({"id": [object()]}))
    assert objects(pd.DataFrame({"id": [uuid.UUID(int=5)]})) == [{"id": str(uuid.UUID(int=5))}]


# ------------------------------------------------------------------------------------------------- nulls


def nulls() -> pl.DataFrame:
    frame = pl.DataFrame(
        {
            "id": [1, 2],
            "note": [None, None],
            "struct": [{"x": None, "y": "u"}, {"x": None, "y": None}],
            "list": [[None, None], []],
            "array": pl.Series([[None, None], None], dtype=pl.Array(pl.Null, 2)),
            "deep": [[{"x": [None]}], None],
            "map": pl.Series([{"k": None}, {}], dtype=pl.Map(pl.String, pl.Null)),
        }
    )
    categories = pl.Series(["c", "d"], dtype=pl.Categorical)
    return frame.with_columns(pl.struct("note", c=categories).alias("beside"))


NULLS = [
    {
        "id": 1,
        "note": None,
        "struct": {"x": None, "y": "u"},
        "list": [None, None],
        "array": [None, None],
        "deep": [{"x": [None]}],
        "map": {"k": None},
        "beside": {"note": None, "c": "c"},
    },
    {
        "id": 2,
        "note": None,
        "struct": {"x": None, "y": None},
        "list": [],
        "array": None,
        "deep": None,
        "map": {},
        "beside": {"note": None, "c": "d"},
    },
]


def test_nulls_of_polars_are_sent_at_any_depth(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    producer.send_arrow(topic, nulls()).raise_for_errors()
    producer.send_arrow(topic, nulls(), value=["id"], key="note").raise_for_errors()
    found = log.records(topic)
    assert [json.loads(record.value or b"") for record in found] == [*NULLS, {"id": 1}, {"id": 2}]
    assert [record.key for record in found] == [None] * 4
    assert len(producer.send_arrow(topic, nulls().clear())) == 0
    mock = MockProducer()
    mock.send_arrow("t", nulls())
    assert [json.loads(sent.value or b"") for sent in mock.sent] == NULLS


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Wrapped, id="an unknown library"),
        pytest.param(lambda frame: pl.concat([frame, frame], rechunk=False)[1:3], id="slices of chunks"),
        pytest.param(lambda frame: frame.rename({"note": "^n.*$"}).rename({"^n.*$": "note"}), id="renamed"),
        pytest.param(lambda frame: pa.table(frame), id="pyarrow"),
        pytest.param(lambda frame: pa.RecordBatchReader.from_stream(frame), id="a reader"),
        pytest.param(lambda frame: frame.to_struct("row"), id="a Series of structs"),
    ],
)
def test_nulls_of_polars_through_other_libraries(make: Callable[[pl.DataFrame], Any]) -> None:
    assert sorted(objects(make(nulls())), key=lambda row: row["id"]) == NULLS


def test_nulls_in_columns_named_like_patterns() -> None:
    assert objects(pl.DataFrame({"^a.*$": [None], "": [None], "a": [1]})) == [{"^a.*$": None, "": None, "a": 1}]


def test_a_null_column_in_every_place() -> None:
    for data in (pl.DataFrame({"v": [1, 2], "n": [None, None]}), pa.table({"v": [1, 2], "n": pa.nulls(2)})):
        assert [row[0] for row in arrow_records(data, value="n")] == [None, None]
        assert [row[1] for row in arrow_records(data, key="n")] == [None, None]
        assert [row[1] for row in arrow_records(data, key=["n"])] == [b'{"n":null}'] * 2
        everywhere = arrow_records(data, key="n", partition="n", timestamp="n", headers="n")
        now = everywhere[0][3]
        assert now > 1_700_000_000_000
        assert everywhere == [(b'{"v":%d}' % number, None, None, now, ()) for number in (1, 2)]


def test_headers_that_are_all_empty_or_all_null() -> None:
    for data in (
        pl.DataFrame({"v": ["a", "b"], "h": [[], None]}),
        pa.table({"v": ["a", "b"], "h": pa.array([[], None], pa.list_(pa.null()))}),
        pl.DataFrame(
            {"v": ["a", "b"], "h": [[], None]}, schema_overrides={"h": pl.List(pl.Struct({"k": pl.Null, "v": pl.Null}))}
        ),
    ):
        assert [row[4] for row in arrow_records(data, value="v", headers="h")] == [(), ()]
    named = pl.DataFrame({"v": ["a"], "h": [[{"k": "name", "v": None}]]})
    assert [row[4] for row in arrow_records(named, value="v", headers="h")] == [(("name", None),)]
    with pytest.raises(ValueError, match="the name of a header is null"):
        arrow_records(pl.DataFrame({"v": ["a"], "h": [[None]]}), value="v", headers="h")


def test_nulls_of_an_unknown_library_without_pyarrow_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    frame = pl.DataFrame({"v": [1], "note": [None]})
    assert objects(frame) == [{"v": 1, "note": None}]
    with pytest.raises(ValueError, match=r'column "note" is of type Null.*what pyarrow reads'):
        arrow_records(Wrapped(frame))
    assert objects(Wrapped(frame.drop("note"))) == [{"v": 1}]


def test_data_that_can_be_read_once_is_read_once() -> None:
    class Once(Wrapped):
        def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
            if self.asked:
                raise RuntimeError("it was read")
            return super().__arrow_c_stream__(requested_schema)

    table = pa.table({"v": [1], "n": pa.nulls(1)})
    assert objects(Once(table)) == [{"v": 1, "n": None}]
    plain = Wrapped(table.drop(["n"]))
    assert objects(plain) == [{"v": 1}]
    assert plain.asked == 1


def test_reading_arrow_data_imports_no_library() -> None:
    code = """
        import sys
        from penstock._native import ArrowRecords
        try:
            ArrowRecords([1])
        except TypeError as error:
            print(error)
        print([name for name in ("polars", "pandas", "pyarrow", "duckdb", "numpy") if name in sys.modules])
    """
    status, out, err = run_script(code)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "[]"


# ------------------------------------------------------------------------------------------------- the index of pandas


def filtered() -> pd.DataFrame:
    return pd.DataFrame({"id": [7, 8, 9, 10], "ok": [True, True, False, True]}).query("ok")


def test_an_unnamed_index_is_not_a_field(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    frame = filtered()
    expected = [{"id": number, "ok": True} for number in (7, 8, 10)]
    for data in (frame, frame.reset_index(drop=True), pa.Table.from_pandas(frame), pa.RecordBatch.from_pandas(frame)):
        producer.send_arrow(topic, data).raise_for_errors()
    assert [json.loads(record.value or b"") for record in log.records(topic)] == expected * 4
    mock = MockProducer()
    mock.send_arrow("t", frame)
    assert [json.loads(sent.value or b"") for sent in mock.sent] == expected


@pytest.mark.parametrize(
    ("index", "fields"),
    [
        (pd.Index([3, 5]), {None: [], True: ["__index_level_0__"], False: []}),
        (pd.RangeIndex(2), {None: [], True: ["__index_level_0__"], False: []}),
        (pd.Index([3, 5], name="n"), {None: ["n"], True: ["n"], False: []}),
        (pd.RangeIndex(2, name="n"), {None: ["n"], True: ["n"], False: []}),
        (pd.MultiIndex.from_tuples([("x", 1), ("y", 2)]), {None: [], True: ["__index_level_0__", "__index_level_1__"]}),
        (
            pd.MultiIndex.from_tuples([("x", 1), ("y", 2)], names=["n", None]),
            {None: ["n"], True: ["n", "__index_level_1__"], False: []},
        ),
        # The name of a column: the column is the field.
        (pd.Index([3, 5], name="v"), {None: [], False: []}),
        (pd.RangeIndex(2, name="v"), {None: [], False: []}),
        (pd.DatetimeIndex(["2024-01-01", "2024-01-02"], name="at"), {None: ["at"], False: []}),
    ],
)
@pytest.mark.parametrize("table", [False, True], ids=["a frame", "a table of one"])
def test_the_index_argument_selects_levels(index: Any, fields: dict[bool | None, list[str]], table: bool) -> None:
    frame = pd.DataFrame({"v": ["a", "b"]}, index=index)
    for choice, names in fields.items():
        if table and isinstance(index, pd.RangeIndex):
            names = []  # pyarrow stores a range as metadata: there is no such column
        rows = objects(pa.Table.from_pandas(frame) if table else frame, index=choice)
        assert [list(row) for row in rows] == [["v", *names]] * 2
        assert [row["v"] for row in rows] == ["a", "b"]
    assert frame.index is index


def test_the_values_of_a_level() -> None:
    ranged = pd.DataFrame({"v": ["a", "b", "c"]}, index=pd.RangeIndex(10, 4, -2, name="n"))
    assert objects(ranged) == [{"v": "a", "n": 10}, {"v": "b", "n": 8}, {"v": "c", "n": 6}]
    assert objects(ranged.iloc[[0, 2, 1]]) == [{"v": "a", "n": 10}, {"v": "c", "n": 6}, {"v": "b", "n": 8}]
    assert isinstance(ranged.index, pd.RangeIndex)
    assert objects(ranged.rename_axis(None), index=True)[1] == {"v": "b", "__index_level_0__": 8}


@pytest.mark.parametrize("name", ["n", None])
@pytest.mark.parametrize("index", [None, False, True])
def test_a_level_that_is_named_by_the_caller_is_found(name: str | None, index: bool | None) -> None:
    """In each form in which pandas stores the index."""
    column = name or "__index_level_0__"
    for level in (pd.RangeIndex(1, 3, name=name), pd.Index([1, 2], name=name)):
        frame = pd.DataFrame({"v": ["a", "b"]}, index=level)
        keys = [row[1] for row in arrow_records(frame, key=column, value="v", index=index)]
        assert keys == [number.to_bytes(8) for number in (1, 2)]
        assert objects(frame, value=[column, "v"], index=index)[0] == {column: 1, "v": "a"}
    assert [row[0] for row in arrow_records(frame, key=column, index=False)] == [b'{"v":"a"}', b'{"v":"b"}']


def test_a_column_of_that_name_stays() -> None:
    assert objects(pa.table({"__index_level_0__": [1]})) == [{"__index_level_0__": 1}]
    assert objects(pa.table({"__index_level_0__": [1]}), index=False) == [{"__index_level_0__": 1}]
    assert objects(pl.from_arrow(pa.Table.from_pandas(filtered())))[0] == {"id": 7, "ok": True, "__index_level_0__": 0}
    for level in (None, pd.Index([3, 5])):
        frame = pd.DataFrame({"__index_level_0__": [1, 2], "v": [1, 2]}, index=level)
        assert objects(frame) == [{"__index_level_0__": 1, "v": 1}, {"__index_level_0__": 2, "v": 2}]


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b'{"index_columns": 5}',
        b'{"index_columns": null}',
        b'{"index_columns": [5, null, ["v"], {"kind": "range"}]}',
        b'{"index_columns": {"v": 1}}',
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("index", [None, False])
def test_metadata_that_is_not_pandas_s_is_ignored(metadata: bytes, index: bool | None) -> None:
    table = pa.table({"v": [1]}).replace_schema_metadata({b"pandas": metadata})
    assert objects(table, index=index) == [{"v": 1}]


def test_a_frame_of_nothing_but_its_index() -> None:
    empty = pd.DataFrame(index=pd.Index([3, 5]))
    with pytest.raises(ValueError, match="there is no column left to write"):
        ArrowRecords(empty)
    assert objects(empty, index=True) == [{"__index_level_0__": 3}, {"__index_level_0__": 5}]


@pytest.mark.parametrize("wrong", [1, "yes", []])
def test_index_must_be_true_false_or_none(producer: KafkaProducer[Any, Any], topic: str, wrong: Any) -> None:
    with pytest.raises(TypeError, match="index must be True, False or None, not <class"):
        producer.send_arrow(topic, filtered(), index=wrong)


def test_index_in_both_facades_and_mocks(producer: KafkaProducer[Any, Any], topic: str, log: Log) -> None:
    frame = filtered().rename_axis("n")
    producer.send_arrow(topic, frame, index=False, key="n").raise_for_errors()
    expected = [(record.value, record.key) for record in log.records(topic)]
    assert expected[0] == (b'{"id":7,"ok":true}', bytes(8))
    mock, other = MockProducer(), AsyncMockProducer()
    mock.send_arrow("t", frame, index=False, key="n")
    asyncio.run(other.send_arrow("t", frame, index=False, key="n"))
    for sent in (mock.sent, other.sent):
        assert [(record.value, record.key) for record in sent] == expected


def test_parquet_that_pandas_wrote(tmp_path: Any) -> None:
    for name in (None, "n"):
        filtered().rename_axis(name).to_parquet(tmp_path / "in")
        for batch in parquet.ParquetFile(tmp_path / "in").iter_batches():
            assert list(objects(batch)[0]) == ["id", "ok", *([name] if name else [])]


# ------------------------------------------------------------------------------------------------- not a table


def columns_alone() -> list[Any]:
    kinds: list[Any] = [
        pa.array([1]),
        pa.array([], pa.null()),
        pa.chunked_array([["a"], ["b"]]),
        pl.Series([1]),
        pl.Series(["a"]),
        pl.Series([None]),
        pl.Series([[1]]),
        pl.Series([object()], dtype=pl.Object),
        pd.Series([1]),
        pd.Series(["a"]),
        pd.Index([1]).to_series(),
        pa.array(["a"]).dictionary_encode(),
    ]
    return kinds


@pytest.mark.parametrize("data", columns_alone(), ids=lambda data: type(data).__name__)
def test_a_single_column_is_not_a_table(producer: KafkaProducer[Any, Any], topic: str, data: Any) -> None:
    with pytest.raises(TypeError, match=r"data must be a table, frame or record batch.*a single column of type"):
        producer.send_arrow(topic, data)


@pytest.mark.parametrize(
    "data",
    [
        np.array([1]),
        pd.Index([1]),
        [{"a": 1}],
        {"a": [1]},
        "a",
        b"a",
        iter([1]),
        None,
        pa.schema([("a", pa.int8())]),
        pa.scalar(1),
        ModuleType("pyarrow"),
    ],
    ids=lambda data: type(data).__name__,
)
def test_data_without_columns_is_not_a_table(producer: KafkaProducer[Any, Any], topic: str, data: Any) -> None:
    with pytest.raises(
        TypeError, match=r"data must be a table, frame or record batch: anything with __arrow_c_stream__"
    ):
        producer.send_arrow(topic, data)


@pytest.mark.parametrize(
    "make",
    [
        pa.array,
        lambda rows: pa.chunked_array([pa.array(rows)]),
        lambda rows: pl.Series(rows),
        lambda rows: duckdb.connect().from_arrow(pa.table({"s": rows})).select("s.a"),
    ],
    ids=["pyarrow.Array", "pyarrow.ChunkedArray", "polars.Series", "duckdb"],
)
def test_structs_are_rows(make: Callable[[list[Any]], Any]) -> None:
    assert objects(make([{"a": 1}, {"a": None}])) == [{"a": 1}, {"a": None}]


@pytest.mark.parametrize(
    "data",
    [
        pa.array([{"a": 1}, None]),
        pa.chunked_array([pa.array([{"a": 1}, None])]),
        pl.Series([{"a": 1}, None]),
        pl.Series([{"a": None}, None]),
    ],
    ids=["pyarrow.Array", "pyarrow.ChunkedArray", "polars.Series", "polars.Series with Null"],
)
def test_a_null_struct_is_not_a_row(producer: KafkaProducer[Any, Any], topic: str, data: Any) -> None:
    """Its fields would be sent as nulls, or as the values beneath."""
    with pytest.raises(
        ValueError, match="row 1 of a batch is null as a whole: a column of structs with nulls is no table"
    ):
        producer.send_arrow(topic, data)
