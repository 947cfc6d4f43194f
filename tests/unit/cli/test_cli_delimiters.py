"""CSV with other delimiters than the comma, and files that are taken for another kind of CSV."""

from __future__ import annotations

import io
import json

import pytest

from penstock.cli import main
from penstock.cli.inputs import CsvSource, Entry, InputError

Capture = pytest.CaptureFixture[str]


def csv(data: bytes, **options: object) -> tuple[list[Entry], list[str]]:
    """The entries, and the warnings."""
    warned: list[str] = []
    source = CsvSource(io.BytesIO(data), "in.csv", warn=warned.append, **options)  # type: ignore[arg-type]
    return list(source), warned


@pytest.mark.parametrize("delimiter", [";", "\t", "|", " ", "§", "\x01", "'"])
def test_any_character_may_be_the_delimiter(delimiter: str) -> None:
    text = 'id,"a,b",c\n1,"x,""y""\nz",\n'.replace(",", delimiter)
    (entry,), warned = csv(text.encode(), key="id", delimiter=delimiter)
    row = {"id": "1", f"a{delimiter}b": f'x{delimiter}"y"\nz', "c": ""}
    assert entry == (b"1", json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode())
    assert warned == []


def test_with_another_delimiter_a_comma_is_text() -> None:
    entries, warned = csv(b"name;price\na,b;1,5\n", delimiter=";", infer=True)
    assert entries == [(None, b'{"name":"a,b","price":"1,5"}')]
    assert warned == []


def test_a_row_of_empty_cells_is_not_a_blank_line() -> None:
    source = CsvSource(io.BytesIO(b"\n\na\tb\n\t\n \n1\t2\n"), "in.tsv", delimiter="\t")
    assert [value for _, value in source] == [b'{"a":"","b":""}', b'{"a":"1","b":"2"}']
    assert source.blank_lines == 3


@pytest.mark.parametrize(
    ("header", "delimiter", "advice"),
    [
        ("id;name", ",", "if semicolons separate the cells, use --delimiter ';'"),
        ("id\tname", ",", r"if tabs separate the cells, use --delimiter '\t'"),
        ("a b\tc;d\te", ",", r"if tabs separate the cells, use --delimiter '\t'"),
        ("id|name", ",", "if bars separate the cells, use --delimiter '|'"),
        ("id,name", ";", "if commas separate the cells, use --delimiter ','"),
        ('id;"name"', ",", "if semicolons separate the cells, use --delimiter ';'"),
        ("sep=;", ",", "if semicolons separate the cells, use --delimiter ';'"),
    ],
)
def test_a_header_of_one_column_with_another_delimiter_warns(header: str, delimiter: str, advice: str) -> None:
    _, warned = csv(f"\ufeff\n{header}\nx\ny\n".encode(), delimiter=delimiter)
    (said,) = warned
    assert said.startswith("in.csv:2: the header is one column, ")
    assert said.endswith(advice)


@pytest.mark.parametrize(
    "data", ["id\n1;2\n", '"id;name"\n1\n', '"id;\nna;me"\n1\n', "a;b,c\n1,2\n", "id,name\n1,2\n", "id\n"]
)
def test_other_headers_do_not_warn(data: str) -> None:
    assert csv(data.encode())[1] == []


def test_an_unreadable_header_gets_the_same_advice() -> None:
    with pytest.raises(
        InputError, match=r"^in\.csv:1: not CSV: .*; if semicolons separate the cells, use --delimiter ';'$"
    ):
        csv(b'"id";"name"\n"1";"2"\n')
    with pytest.raises(InputError, match=r"^in\.csv:2: not CSV: [^;]*$"):
        csv(b'id,name\n"1"x;2\n')


# --- the option ---


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "--delimiter : not one character"),
        ("::", "--delimiter ::: not one character"),
        ("\\n", "--delimiter \\n: not one character"),
        ("\\", ""),
        ('"', "--delimiter '\"': quotes and line ends have their own meaning in CSV"),
        ("\n", "--delimiter '\\n': quotes and line ends have their own meaning in CSV"),
        ("\r", "--delimiter '\\r': quotes and line ends have their own meaning in CSV"),
    ],
)
def test_an_invalid_delimiter_is_refused(given: str, message: str, capsys: Capture) -> None:
    arguments = ["produce", __file__, "-t", "x", "-b", "127.0.0.1:1", "--wait", "0", "--format", "csv"]
    code = main([*arguments, f"--delimiter={given}"])
    err = capsys.readouterr().err
    if message:
        assert (code, err) == (2, f"penstock: {message}\n")
    else:
        assert code == 1
        assert "no broker can be reached" in err


@pytest.mark.parametrize("format", ["lines", "jsonl", "parquet", "arrow"])
def test_delimiter_is_refused_for_other_formats(format: str, capsys: Capture) -> None:
    arguments = ["produce", __file__, "-t", "x", "-b", "127.0.0.1:1", "--format", format, "--delimiter", ","]
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"penstock: --delimiter does not go with --format {format}\n"
