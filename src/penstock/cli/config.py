"""`penstock config`: the producer's settings, and how far Penstock supports each."""

from __future__ import annotations

import difflib
from typing import Annotated, Final

import typer

from penstock.cli.output import CommandError, print_json, print_rows
from penstock.config import ConfigRow, describe

_MARKS: Final = {"working": "✓ works", "planned": "· planned", "jvm-only": "- JVM only"}


def config(
    name: Annotated[str | None, typer.Argument(help="Show one setting in detail.")] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON, one line per setting.")] = False,
) -> None:
    """List the producer's settings, Kafka's and ours: type, default, and whether Penstock supports them."""
    rows = list(describe())
    if name is not None:
        rows = [_find(rows, name)]
    if json:
        for row in rows:
            print_json(row._asdict())
    elif name is not None:
        row = rows[0]
        print_rows(("field", "value"), zip(ConfigRow._fields, (*row[:5], _mark(row), *row[6:]), strict=True))
    else:
        shown = (
            (row.name, row.type.lower(), row.default, row.importance.lower(), _mark(row), row.note) for row in rows
        )
        print_rows(("name", "type", "default", "importance", "status", "note"), shown)


def _mark(row: ConfigRow) -> str:
    # If the default itself is not supported yet, the setting must not look like one that is merely optional.
    return _MARKS[row.status] + ("" if row.default_honoured else ", even its default")


def _find(rows: list[ConfigRow], name: str) -> ConfigRow:
    dotted = name.replace("_", ".")
    for row in rows:
        if row.name == dotted:
            return row
    near = difflib.get_close_matches(dotted, [row.name for row in rows], n=1)
    raise CommandError(f"there is no setting {name!r}" + (f"; did you mean {near[0]}?" if near else ""), code=2)
