"""Records from text: lines, CSV and JSON Lines. An error names its file and line; no row is skipped.

Input is read as a stream: at most one row is held in memory, and no row may be longer than `MAX_LINE_BYTES`.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final, Protocol, TypeAlias

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""Keeps an endless line from filling the memory; brokers accept no record of this size by default."""

Entry: TypeAlias = tuple[bytes | None, bytes | None]
"""Key and value."""

# JSON's grammar of numbers, so that the text can be copied to the output: "007", "+1" and ".5" are text.
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")

_DELIMITERS: Final = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}
"""Delimiters of files that are taken for another kind of CSV."""

_CACHED_CELLS: Final = 1 << 16
_LONGEST_CACHED_CELL: Final = 64


class InputError(Exception):
    """The input cannot be read as requested: the file, the line (0: the whole file), and the reason."""

    def __init__(self, name: str, line: int, reason: str) -> None:
        """`reason` is human-readable, without a full stop."""
        super().__init__(f"{name}:{line}: {reason}" if line else f"{name}: {reason}")
        self.name = name
        self.line = line
        self.reason = reason


class Source(Protocol):
    """Entries in the order of the input."""

    name: str

    @property
    def line(self) -> int:
        """The line in which the last entry began, counted from 1."""
        ...

    @property
    def blank_lines(self) -> int:
        """How many lines were skipped because they hold only blanks."""
        ...

    def __iter__(self) -> Iterator[Entry]:
        """The entries; raises `InputError`."""
        ...


class TextLines:
    """The lines of a UTF-8 stream as bytes, line ends included, checked; a byte order mark is dropped."""

    def __init__(self, stream: BinaryIO, name: str) -> None:
        """`name` is the stream's name in error messages."""
        self._stream = stream
        self.name = name
        self.number = 0

    def fail(self, reason: str, line: int | None = None) -> InputError:
        """The error to raise about a line, by default the current one."""
        return InputError(self.name, self.number if line is None else line, reason)

    def __iter__(self) -> Iterator[bytes]:
        """The lines; `number` is that of the last one."""
        while True:
            try:
                raw = self._stream.readline(MAX_LINE_BYTES + 1)
            except OSError as error:
                raise InputError(self.name, self.number + 1, error.strerror or str(error)) from error
            if not raw:
                return
            self.number += 1
            if len(raw) > MAX_LINE_BYTES:
                raise self.fail(f"the line is longer than {MAX_LINE_BYTES:,} bytes")
            if not raw.isascii():
                try:
                    raw.decode()
                except UnicodeDecodeError as error:
                    byte = raw[error.start]
                    raise self.fail(f"not UTF-8: byte 0x{byte:02x} at position {error.start + 1}") from None
            yield raw.removeprefix(codecs.BOM_UTF8) if self.number == 1 else raw


def _without_end(raw: bytes) -> bytes:
    """The line without its end, `\\n` or `\\r\\n`; other blanks belong to the value."""
    return raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")


class LineSource:
    """Each line is a value; with a delimiter, the text before its first occurrence is the key."""

    def __init__(self, stream: BinaryIO, name: str, *, delimiter: str | None = None) -> None:
        """`delimiter`: None for records without keys."""
        self._lines = TextLines(stream, name)
        self._delimiter = delimiter.encode() if delimiter else None
        self.name = name
        self.blank_lines = 0  # a blank line is a record, too

    @property
    def line(self) -> int:
        """The line of the last entry."""
        return self._lines.number

    def __iter__(self) -> Iterator[Entry]:
        """The entries; a line without the delimiter is an error."""
        for raw in self._lines:
            value = _without_end(raw)
            if self._delimiter is None:
                yield None, value
                continue
            key, found, value = value.partition(self._delimiter)
            if not found:
                raise self._lines.fail(f"the key delimiter {self._delimiter.decode()!r} is not in the line")
            yield key, value


class JsonLinesSource:
    """Each line is a JSON text and the value, byte for byte; the key may be one of its fields.

    A string is used as the key unchanged, a number or boolean as written, null means no key; anything else is an error.
    Blank lines are skipped.
    """

    def __init__(self, stream: BinaryIO, name: str, *, key: str | None = None) -> None:
        """`key`: the name of a field that every line must have."""
        self._lines = TextLines(stream, name)
        self._key = key
        self.name = name
        self.blank_lines = 0

    @property
    def line(self) -> int:
        """The line of the last entry."""
        return self._lines.number

    def __iter__(self) -> Iterator[Entry]:
        """The entries."""
        # Numbers stay text: a key keeps them as written, and they are not computed with.
        decode = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant).decode
        for raw in self._lines:
            if not raw.strip():
                self.blank_lines += 1
                continue
            value = _without_end(raw)
            try:
                parsed = decode(value.decode())
            except json.JSONDecodeError as error:
                raise self._lines.fail(f"not JSON: {error.msg}, column {error.colno}") from None
            except (ValueError, RecursionError) as error:
                raise self._lines.fail(f"not JSON: {error}") from None
            yield None if self._key is None else self._key_of(parsed), value

    def _key_of(self, parsed: Any) -> bytes | None:
        if not isinstance(parsed, dict):
            raise self._lines.fail(f"the line is not a JSON object, so it has no field {self._key!r} for the key")
        if self._key not in parsed:
            raise self._lines.fail(f"the object has no field {self._key!r} for the key")
        key = parsed[self._key]
        if key is None:
            return None
        if isinstance(key, bool):
            return b"true" if key else b"false"
        if not isinstance(key, str):
            raise self._lines.fail(f"the field {self._key!r} is an array or object, which cannot be a key")
        try:
            return key.encode()
        except UnicodeEncodeError:
            raise self._lines.fail(f"the field {self._key!r} cannot be encoded as UTF-8") from None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


class RowsToJson:
    """Converts rows of text to compact JSON objects in UTF-8, for `produce --format csv` and the demo.

    With `infer`, a cell that is a JSON number becomes one, digit for digit; a cell equal to `null` becomes null.
    """

    def __init__(self, columns: Sequence[str], *, infer: bool = False, null: str | None = None) -> None:
        """`columns` are the fields' names, one per cell."""
        fields = (json.dumps(name, ensure_ascii=False).replace("%", "%%") + ":%s" for name in columns)
        self._template = "{" + ",".join(fields) + "}"
        self._cells = _Cells(infer=infer, null=null)

    def __call__(self, row: Sequence[str]) -> bytes:
        """One row; it must have as many cells as there are columns."""
        return (self._template % tuple(map(self._cells.__getitem__, row))).encode()


class _Cells(dict[str, str]):
    """Cell → JSON text, cached: values repeat in a column, and a look-up costs a tenth of the conversion."""

    def __init__(self, *, infer: bool, null: str | None) -> None:
        super().__init__()
        self._infer = infer
        self._null = null

    def __missing__(self, cell: str) -> str:
        if cell == self._null:
            text = "null"
        elif self._infer and _NUMBER.fullmatch(cell) and math.isfinite(float(cell)):
            text = cell
        else:
            text = json.dumps(cell, ensure_ascii=False)
        if len(cell) <= _LONGEST_CACHED_CELL:
            if len(self) >= _CACHED_CELLS:
                self.clear()
            self[cell] = text
        return text


class CsvSource:
    """CSV with a header row (RFC 4180): each row becomes a JSON object, the key is one column's text.

    A row with too few or too many cells is an error. A null key cell makes a record without a key. Blank lines between rows
    are skipped; but in a file of one column, each is a row. If a header of one column holds another common delimiter,
    `warn` is called once: that delimiter may be the right one.
    """

    def __init__(
        self,
        stream: BinaryIO,
        name: str,
        *,
        key: str | None = None,
        infer: bool = False,
        null: str | None = None,
        delimiter: str = ",",
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        """`key`: a column's name; `infer` and `null`: see `RowsToJson`; `delimiter`: one character, between cells."""
        self._lines = TextLines(stream, name)
        self._delimiter = delimiter
        self._warn = warn
        self._key = key
        self._infer = infer
        self._null = null
        self._begins = 0
        self._raw = b""
        self.name = name
        self.blank_lines = 0

    @property
    def line(self) -> int:
        """The line in which the last row began."""
        return self._begins

    def __iter__(self) -> Iterator[Entry]:
        """The entries, one per row after the header."""
        csv.field_size_limit(MAX_LINE_BYTES)
        rows = csv.reader(self._texts(), strict=True, delimiter=self._delimiter)
        columns = self._next(rows, skip_blank=True, is_header=True)
        if columns is None:
            raise InputError(self.name, 0, "the file is empty; CSV needs a header row")
        self._check(columns)
        at = None if self._key is None else columns.index(self._key)
        to_json = RowsToJson(columns, infer=self._infer, null=self._null)
        while (row := self._next(rows, skip_blank=len(columns) > 1)) is not None:
            # The csv module reads a blank line as no cells at all; in a file of one column it is an empty cell.
            cells = row or [""]
            if len(cells) != len(columns):
                raise self._lines.fail(f"{len(row)} cells in a row, the header has {len(columns)}", self._begins)
            yield None if at is None or cells[at] == self._null else cells[at].encode(), to_json(cells)

    def _texts(self) -> Iterator[str]:
        for raw in self._lines:
            self._raw = raw
            yield raw.decode()

    def _next(self, rows: Any, *, skip_blank: bool, is_header: bool = False) -> list[str] | None:
        while True:
            self._begins = self._lines.number + 1
            try:
                row: list[str] | None = next(rows, None)
            except csv.Error as error:
                raise self._lines.fail(f"not CSV: {error}{self._advice() if is_header else ''}") from None
            # A blank line within quotes is a part of a row.
            if row is None or not (skip_blank and self._begins == self._lines.number and self._is_blank()):
                return row
            self.blank_lines += 1

    def _is_blank(self) -> bool:
        # Tabs between empty cells are a row where the tab is the delimiter.
        return not self._raw.strip() and self._delimiter.encode() not in self._raw

    def _advice(self) -> str:
        """The delimiter to try if the current line holds another one than the given one; "" if it does not."""
        held = self._raw.decode()
        counts = {other: held.count(other) for other in _DELIMITERS if other != self._delimiter and other in held}
        if not counts or self._delimiter in held:
            return ""
        likely = max(counts, key=counts.__getitem__)
        typed = "\\t" if likely == "\t" else likely
        return f"; if {_DELIMITERS[likely]} separate the cells, use --delimiter '{typed}'"

    def _check(self, columns: list[str]) -> None:
        # A quoted header is a name and not cells; only a quoted one can have several lines.
        is_quoted = self._raw.lstrip().startswith(b'"') or self._begins < self._lines.number
        advice = self._advice() if len(columns) == 1 and not is_quoted else ""
        if advice:
            name = columns[0][:_LONGEST_CACHED_CELL]
            self._warn(f"{self.name}:{self._lines.number}: the header is one column, {name!r}{advice}")
        twice = sorted({name for name in columns if columns.count(name) > 1})
        if twice:
            raise self._lines.fail(f"the header has the column {twice[0]!r} twice")
        if self._key is not None and self._key not in columns:
            raise self._lines.fail(f"there is no column {self._key!r} for the key; there are: {', '.join(columns)}")
