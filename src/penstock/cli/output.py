"""Results on stdout, everything else on stderr; failures without tracebacks, of writing too."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it."""


_BYTE: Final = re.compile("[\udc80-\udcff]")
"""A byte of the command line or of a file name that is not UTF-8 (PEP 383)."""


class CommandError(Exception):
    """Ends a command with a message for people on stderr; `code` is the exit code."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        """`code`: 1 if it failed, 2 if it was asked wrongly."""
        super().__init__(message)
        self.code = code


class OutputError(CommandError):
    """Results do not get to stdout: it is full, closed, or a pipe whose reader has left (then `reader_left`)."""

    def __init__(self, reason: OSError | str) -> None:
        """`reason`: what writing raised, or words."""
        super().__init__(f"stdout: {(reason.strerror or reason) if isinstance(reason, OSError) else reason}")
        self.reader_left = isinstance(reason, OSError) and reason.errno == errno.EPIPE


def printable(text: str) -> str:
    """With a byte that is not UTF-8 as people write it: \\xe9."""
    return _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)


@contextmanager
def lenient_output() -> Iterator[None]:
    """Meanwhile stdout escapes what its encoding does not have, as stderr always does: an ASCII terminal is no failure."""
    out = sys.stdout
    before = out.errors if isinstance(out, io.TextIOWrapper) else None
    if not isinstance(out, io.TextIOWrapper) or before not in ("strict", "surrogateescape"):  # the latter in locale C
        yield
        return
    with contextlib.suppress(OSError):
        out.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):  # it cannot be flushed, or is closed
            out.reconfigure(errors=before)


def complain(message: str) -> None:
    """One line on stderr. Where there is none any more (a closed terminal), nobody is left to be told."""
    if sys.stderr is None:
        return
    try:
        print(f"penstock: {printable(message)}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


@contextmanager
def writing() -> Iterator[TextIO]:
    """stdout, flushed at the end: what is written has arrived, or `OutputError` says why not.

    Flushed here and not at exit, where the interpreter could only print a traceback. Nothing but writing belongs inside.
    """
    if sys.stdout is None:
        raise OutputError("it is closed")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except OSError as error:
        _discard(sys.stdout)
        raise OutputError(error) from error


def print_line(line: str) -> None:
    """One line on stdout."""
    with writing() as out:
        print(line, file=out)


def print_json(value: Any) -> None:
    """One line of JSON on stdout; escaped as JSON has it where the characters cannot be written."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value)
    print_line(text)


def print_rows(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on a terminal; in a pipe, lines of cells between tabs, without headings."""
    with writing() as out:
        console = Console(file=out)
        if not console.is_terminal:
            for row in rows:
                print("\t".join(map(str, row)), file=out)
            return
        table = Table(*headings, box=None, header_style="bold", pad_edge=False)
        for row in rows:
            table.add_row(*(escape(str(cell)) for cell in row))
        console.print(table)


def reader_watch() -> Callable[[], None]:
    """A function that raises `OutputError` once nobody reads stdout any more: whoever writes seldom learns it by writing.

    As `tail -f` of GNU: a pipe or terminal whose other end is gone polls as an error.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or something of the caller's in its place
        return lambda: None
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are reported always

    def check() -> None:
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            raise OutputError(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    return check


def _discard(stream: TextIO) -> None:
    """After a failed write: what is left in the buffer must not fail once more, at the interpreter's exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
