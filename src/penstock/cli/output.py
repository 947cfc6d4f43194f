"""Results go to stdout, everything else to stderr. Failures have no tracebacks, failures of writing included."""

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
"""The exit code after Ctrl-C, by the convention of shells."""


_BYTE: Final = re.compile("[\udc80-\udcff]")
"""A byte of the command line or of a file name that is not UTF-8 (PEP 383)."""


class CommandError(Exception):
    """Ends a command with a message on stderr; `code` is the exit code."""

    def __init__(self, message: str, *, code: int = 1) -> None:
        """`code`: 1 if the command failed, 2 for wrong usage."""
        super().__init__(message)
        self.code = code


class OutputError(CommandError):
    """stdout cannot be written: it is full, closed, or a pipe whose reader has left (then `reader_left`)."""

    def __init__(self, reason: OSError | str) -> None:
        """`reason`: the error of the write, or a text."""
        super().__init__(f"stdout: {(reason.strerror or reason) if isinstance(reason, OSError) else reason}")
        self.reader_left = isinstance(reason, OSError) and reason.errno == errno.EPIPE


def printable(text: str) -> str:
    """The text with each byte that is not UTF-8 as an escape: \\xe9."""
    return _BYTE.sub(lambda found: f"\\x{ord(found[0]) - 0xDC00:02x}", text)


@contextmanager
def lenient_output() -> Iterator[None]:
    """In this context stdout escapes characters that its encoding does not have, as stderr always does."""
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
    """Write one line to stderr, if there is one: a terminal may be closed."""
    if sys.stderr is None:
        return
    try:
        print(f"penstock: {printable(message)}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)


@contextmanager
def writing() -> Iterator[TextIO]:
    """stdout, flushed at the end: when this returns, everything is written; else it raises `OutputError`.

    The flush is here because at exit the interpreter could only print a traceback. Put only writing into this context.
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
    """One line of JSON on stdout; JSON escapes replace characters that the encoding does not have."""
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
    """Returns a function that raises `OutputError` once stdout has no reader: a command that seldom writes finds out late.

    As GNU's `tail -f` does: a pipe or terminal whose other end is closed polls as an error.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or replaced by the caller
        return lambda: None
    poll = select.poll()
    poll.register(descriptor, 0)  # errors and hang-ups are always reported

    def check() -> None:
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
            raise OutputError(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)))

    return check


def _discard(stream: TextIO) -> None:
    """After a failed write, the rest of the buffer must not fail again at the interpreter's exit."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
