"""Results on stdout, everything else on stderr; failures without tracebacks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""


class CommandError(Exception):
    """Ends a command with a message for people on stderr; `code` is the exit code."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        """`code`: 1 if it failed, 2 if it was asked wrongly."""
        super().__init__(message)
        self.code = code


def complain(message: str) -> None:
    """One line on stderr."""
    print(f"penstock: {message}", file=sys.stderr)


def print_json(value: Any) -> None:
    """One line of JSON on stdout."""
    print(json.dumps(value, ensure_ascii=False))


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; in a pipe, lines of cells between tabs, without headings."""
    console = Console()
    if not console.is_terminal:
        for row in rows:
            print("\t".join(map(str, row)))
        return
    table = Table(*headings, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def close_stdout() -> None:
    """After the reader of a pipe has gone: nothing more can be written, and the interpreter must not try at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
