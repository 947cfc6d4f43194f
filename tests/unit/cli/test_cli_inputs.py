"""Lines, CSV and JSON Lines as keys and values, and the errors about bad input."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.cli import inputs
from penstock.cli.inputs import CsvSource, Entry, InputError, JsonLinesSource, LineSource, RowsToJson


def lines(data: bytes, delimiter: str | None = None) -> list[Entry]:
    return list(LineSource(io.BytesIO(data), "in.txt", delimiter=delimiter))


def csv(data: bytes, **options: object) -> list[Entry]:
    return list(CsvSource(io.BytesIO(data), "in.csv", **options))  # type: ignore[arg-type]


def jsonl(data: bytes, key: str | None = None) -> list[Entry]:
    return list(JsonLinesSource(io.BytesIO(data), "in.jsonl", key=key))


# --- Lines ---


def test_each_line_is_a_value_without_its_end() -> None:
    assert lines("eins\nzwei\r\n\n drei ö".encode()) == [
        (None, b"eins"),
        (None, b"zwei"),
        (None, b""),
        (None, " drei ö".encode()),
    ]


def test_empty_input_has_no_records() -> None:
    assert lines(b"") == []


def test_the_first_delimiter_ends_the_key() -> None:
    assert lines(b"k=>v=>w\n=>\n", "=>") == [(b"k", b"v=>w"), (b"", b"")]


def test_a_line_without_the_delimiter_is_an_error_with_its_number() -> None:
    with pytest.raises(InputError, match=r"^in\.txt:2: the key delimiter ':' is not in the line$"):
        lines(b"a:1\nb\n", ":")


def test_a_byte_order_mark_is_not_a_part_of_the_value() -> None:
    assert lines(b"\xef\xbb\xbfa\nb\n") == [(None, b"a"), (None, b"b")]


@pytest.mark.parametrize("read", [lines, csv, jsonl])
def test_bad_utf_8_is_named_with_its_place(read: object) -> None:
    with pytest.raises(InputError, match=r":2: not UTF-8: byte 0xff at position 2$"):
        read(b"0\n1\xff\n")  # type: ignore[operator]


def test_a_line_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LINE_BYTES", 10)
    assert lines(b"123456789\n") == [(None, b"123456789")]
    with pytest.raises(InputError, match=r"^in\.txt:1: the line is longer than 10 bytes$"):
        lines(b"12345678901\n")


# --- CSV ---


def test_a_row_is_a_json_object_and_a_column_the_key() -> None:
    assert csv(b'id,name\n1,"a ""b"", c"\n2,\n', key="id") == [
        (b"1", b'{"id":"1","name":"a \\"b\\", c"}'),
        (b"2", b'{"id":"2","name":""}'),
    ]


def test_numbers_are_inferred_digit_for_digit() -> None:
    cells = ["0", "-1", "1.50", "1e5", "12345678901234567890", "007", "+1", ".5", "1.", "NaN", "1e999", "1_0", "٣", ""]
    row = RowsToJson([str(number) for number in range(len(cells))], infer=True)(cells)
    assert [text.partition(":")[2] for text in row.decode()[1:-1].split(",")] == [
        *cells[:5],
        *(json.dumps(cell, ensure_ascii=False) for cell in cells[5:]),
    ]


def test_a_null_cell_is_json_null_and_a_null_key_cell_is_no_key() -> None:
    assert csv(b"k,v\nNA,NA\n,x\n", key="k", null="NA", infer=True) == [
        (None, b'{"k":null,"v":null}'),
        (b"", b'{"k":"","v":"x"}'),
    ]


def test_a_percent_sign_in_a_column_name_is_kept() -> None:
    assert csv(b"%s,100%\na,b\n") == [(None, b'{"%s":"a","100%":"b"}')]


def test_rows_may_span_lines_and_errors_name_their_first_line() -> None:
    source = CsvSource(io.BytesIO(b'a,b\n1,"x\ny"\n2\n'), "in.csv")
    entries = iter(source)
    assert next(entries) == (None, b'{"a":"1","b":"x\\ny"}')
    assert source.line == 2
    with pytest.raises(InputError, match=r"^in\.csv:4: 1 cells in a row, the header has 2$"):
        next(entries)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"in\.csv: the file is empty"),
        (b"a,a\n", r"in\.csv:1: the header has the column 'a' twice"),
        (b"a,b\n", r"in\.csv:1: there is no column 'k' for the key; there are: a, b"),
        (b"k,b\n1,2,3\n", r"in\.csv:2: 3 cells"),
        (b"\n \n", r"in\.csv: the file is empty"),
        (b'k,b\n1,2\n" "\n', r"in\.csv:3: 1 cells"),
        (b'k,b\n1,"2\n', r"in\.csv:2: not CSV: unexpected end of data"),
        (b'k,b\n1,"2"3\n', r"in\.csv:2: not CSV: "),
    ],
)
def test_bad_csv_is_an_error(data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        csv(data, key="k")


def test_a_blank_line_in_a_single_column_is_an_empty_cell() -> None:
    assert csv(b"\na\n\n  \n") == [(None, b'{"a":""}'), (None, b'{"a":"  "}')]


def test_blank_lines_between_rows_are_skipped_and_counted() -> None:
    source = CsvSource(io.BytesIO(b'\xef\xbb\xbf\n \na,b\n\r\n1,"x\n\n"\n\t\n2,y\n\n'), "in.csv")
    found = [(source.line, value) for _, value in source]
    assert found == [(5, b'{"a":"1","b":"x\\n\\n"}'), (9, b'{"a":"2","b":"y"}')]
    assert source.blank_lines == 5


def test_line_numbers_in_errors_count_blank_lines() -> None:
    with pytest.raises(InputError, match=r"^in\.csv:4: 1 cells"):
        csv(b"a,b\n\n\n1\n")
    with pytest.raises(InputError, match=r"^in\.jsonl:3: not JSON"):
        jsonl(b"\n\n{\n")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), st.booleans())
def test_a_row_is_encoded_as_json_dumps_would(cells: list[str], infer: bool) -> None:
    columns = [f"column {number}" for number in range(len(cells))]
    parsed = json.loads(RowsToJson(columns, infer=infer)(cells), parse_int=str, parse_float=str)
    assert parsed == dict(zip(columns, cells, strict=True))


def test_the_cache_of_cells_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "_CACHED_CELLS", 3)
    rows = RowsToJson(["a"])
    for number in range(10):
        assert rows([str(number)]) == b'{"a":"%d"}' % number
        assert len(rows._cells) <= 3


# --- JSON Lines ---


def test_a_json_line_is_sent_unchanged() -> None:
    assert jsonl(b'{"a" : 1.50}\r\n[1, 2]\n"x"') == [(None, b'{"a" : 1.50}'), (None, b"[1, 2]"), (None, b'"x"')]


def test_blank_json_lines_are_skipped_and_counted() -> None:
    source = JsonLinesSource(io.BytesIO(b"\xef\xbb\xbf\r\n1\n\n \t \n2\n "), "in.jsonl", key=None)
    assert list(source) == [(None, b"1"), (None, b"2")]
    assert source.blank_lines == 4


def test_each_plain_line_is_a_record_also_a_blank_one() -> None:
    source = LineSource(io.BytesIO(b"a\n\n \n"), "in.txt")
    assert list(source) == [(None, b"a"), (None, b""), (None, b" ")]
    assert source.blank_lines == 0


def test_a_field_is_the_key() -> None:
    data = '{"k":"ö"}\n{"k":1.50}\n{"k":true}\n{"k":null}\n'.encode()
    assert [key for key, _ in jsonl(data, "k")] == ["ö".encode(), b"1.50", b"true", None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"k":1', r"not JSON: Expecting ',' delimiter, column 7"),
        (b'{"k":NaN}', "not JSON: NaN is no JSON value"),
        (b"[" * 100_000, "not JSON: "),
        (b"[1]", "the line is not a JSON object"),
        (b'{"j":1}', "the object has no field 'k'"),
        (b'{"k":[1]}', "an array or object"),
        (b'{"k":"\\ud800"}', "cannot be encoded as UTF-8"),
    ],
)
def test_a_bad_json_line_is_an_error_with_its_number(line: bytes, message: str) -> None:
    with pytest.raises(InputError, match=r"^in\.jsonl:2: .*" + message):
        jsonl(b'{"k":1}\n' + line + b"\n", "k")
