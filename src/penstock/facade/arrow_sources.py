"""The data of `send_arrow`, prepared for the native reader.

Some libraries export types through Arrow's C interface in a form that would be misread, or cannot be read. These are
replaced here. Called once per `send_arrow`, before the first row.

No library is imported here: a library that the application has not imported cannot have made its data.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

Path: TypeAlias = tuple[int, ...]
"""A column's index, then the index of a child in each nested type below it (a list's elements are child 0)."""

_UNNAMED_LEVEL: Final = re.compile(r"__index_level_\d+__")
"""pyarrow's name for the levels of a pandas index that have no name."""
_CLEAN: Final = frozenset({"_duckdb", "duckdb", "pandas", "polars", "pyarrow"})
"""Packages whose Null columns can be read: they have no buffers, or `prepare` has replaced them."""

_OBJECTS: Final = "holds Python objects (polars Object), and Arrow would only get their addresses"
_WIDE: Final = "is of the polars type {}, which Arrow does not have (cast it to Decimal, Int64 or String)"


@dataclass(slots=True)
class Prepared:
    """The data to read, and the facts that are missing in its Arrow schema."""

    data: Any
    refused: dict[int, str] = field(default_factory=dict)
    """Columns that cannot be sent: index → reason. Nulls replace them."""
    nulls: list[Path] = field(default_factory=list)
    """Columns of type Null, which are Boolean in the data."""
    unsigned: list[Path] = field(default_factory=list)
    """128-bit decimals that are unsigned integers."""


def prepare(data: Any, index: bool | None, names: Sequence[str]) -> Prepared:
    """Replace what would be misread. `index` as in `send_arrow`; `names`: the columns that the caller named."""
    if _package(data) == "narwhals" and hasattr(data, "to_native"):
        data = data.to_native()  # narwhals wraps a frame of another library
    if polars := _maker(data, "polars", "DataFrame"):
        return _polars_frame(polars, data)
    if polars := _maker(data, "polars", "Series"):
        return _polars_series(polars, data)
    if pandas := _maker(data, "pandas", "DataFrame"):
        return Prepared(_with_index(pandas, data, index, names))
    if _maker(data, "duckdb", "DuckDBPyRelation"):
        unsigned = [path for column, kind in enumerate(data.types) for path in _unsigned(kind, (column,))]
        return Prepared(data, unsigned=unsigned)
    return Prepared(data)


def reread(data: Any) -> Any | None:
    """The same data, exported by pyarrow, whose Null columns have no buffers. Only called for data with such columns.

    None if it is not needed, if pyarrow is not installed, or if the data can be read only once.
    """
    if _package(data) in _CLEAN or hasattr(data, "__next__"):
        return None
    try:
        import pyarrow

        if hasattr(data, "__arrow_c_stream__"):
            return pyarrow.RecordBatchReader.from_stream(data)
        return pyarrow.record_batch(data)
    except Exception:  # no pyarrow, or it refuses this data: the data is read unchanged
        return None


def levels_left_out(metadata: str, index: bool | None) -> list[str]:
    """The columns that are levels of a pandas index, and are not to become fields of a row.

    `metadata`: the schema's entry by pandas or pyarrow, as JSON. With `index` None these are the levels without a name.
    """
    if index:
        return []
    try:
        columns = json.loads(metadata)["index_columns"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []  # not written by pandas
    # A range is described by a dict, not stored as a column.
    stored = [name for name in columns if isinstance(name, str)] if isinstance(columns, list) else []
    return stored if index is False else [name for name in stored if _UNNAMED_LEVEL.fullmatch(name)]


def _maker(data: Any, package: str, kind: str) -> Any | None:
    """The library, if the data is an instance of its class `kind`; else None."""
    module: Any = sys.modules.get(package)
    return module if isinstance(data, getattr(module, kind, ())) else None


def _package(data: Any) -> str:
    return type(data).__module__.partition(".")[0]


def _with_index(pandas: Any, frame: Any, index: bool | None, names: Sequence[str]) -> Any:
    """The frame; if its index is wanted as a column, in a form that is exported as one.

    pandas keeps an index as a range where it can, and exports a range as metadata only. Without this, filtering rows
    would decide whether there is a column.
    """
    level = frame.index
    if not isinstance(level, pandas.RangeIndex):
        return frame
    named = level.name is not None
    asked = (str(level.name) if named else "__index_level_0__") in names
    if not (asked or index or (named and index is None)):
        return frame
    shallow = frame.copy(deep=False)
    shallow.index = pandas.Index(level.to_numpy(), name=level.name)
    return shallow


def _unsigned(kind: Any, path: Path) -> list[Path]:
    """The columns of type UHUGEINT. DuckDB exports them as it does HUGEINT, as 128-bit decimals: values from 2**127 on
    would be read as negative.
    """
    if kind.id == "uhugeint":
        return [path]
    if kind.id in ("list", "array"):
        return _unsigned(kind.children[0][1], (*path, 0))
    if kind.id == "struct":
        return [found for number, (_, child) in enumerate(kind.children) for found in _unsigned(child, (*path, number))]
    if kind.id == "map":  # entries, then keys and values
        return [found for number in (0, 1) for found in _unsigned(kind.children[number][1], (*path, 0, number))]
    return []


def _polars_frame(polars: Any, frame: Any) -> Prepared:
    prepared = Prepared(frame)
    changed = []
    for column, (name, kind) in enumerate(frame.schema.items()):
        cleaned = _cleaned(polars, kind, (column,), prepared)
        if column in prepared.refused:
            # Its values are not exported. (Objects cannot be cast, either.)
            changed.append(polars.repeat(None, frame.height, dtype=polars.Boolean, eager=True).alias(name))
        elif cleaned is not kind:
            changed.append(frame.get_column(name).cast(cleaned))
    if changed:
        prepared.data = frame.with_columns(changed)
    return prepared


def _polars_series(polars: Any, series: Any) -> Prepared:
    """A Series of structs is read as rows; any other type is refused later."""
    prepared = Prepared(series)
    if series.dtype == polars.Struct:
        fields = [
            polars.Field(child.name, _cleaned(polars, child.dtype, (column,), prepared))
            for column, child in enumerate(series.dtype.fields)
        ]
        if prepared.refused or prepared.nulls:
            prepared.data = series.cast(polars.Struct(fields))
    return prepared


def _cleaned(polars: Any, kind: Any, path: Path, prepared: Prepared) -> Any:
    """The type with replacements for the types that would be misread; the same object if there are none."""

    def child(of: Any, *step: int) -> Any:
        return _cleaned(polars, of, (*path, *step), prepared)

    if kind == polars.Null:
        prepared.nulls.append(path)  # polars exports a buffer, but Arrow's Null has none
        return polars.Boolean
    if kind == polars.Object:
        prepared.refused[path[0]] = _OBJECTS
        return polars.Boolean
    if str(kind) in ("Int128", "UInt128"):
        prepared.refused[path[0]] = _WIDE.format(kind)
        return polars.Boolean
    if kind == polars.List:
        inner = child(kind.inner, 0)
        return kind if inner is kind.inner else polars.List(inner)
    if kind == polars.Array:
        inner = child(kind.inner, 0)
        return kind if inner is kind.inner else polars.Array(inner, kind.size)
    if kind == polars.Struct:
        fields = [polars.Field(one.name, child(one.dtype, number)) for number, one in enumerate(kind.fields)]
        same = all(new.dtype is old.dtype for new, old in zip(fields, kind.fields, strict=True))
        return kind if same else polars.Struct(fields)
    if hasattr(polars, "Map") and kind == polars.Map:  # entries, then keys and values
        key, value = child(kind.key, 0, 0), child(kind.value, 0, 1)
        return kind if key is kind.key and value is kind.value else polars.Map(key, value)
    if hasattr(kind, "ext_storage"):
        storage = kind.ext_storage()
        inner = child(storage)
        return kind if inner is storage else inner
    return kind
