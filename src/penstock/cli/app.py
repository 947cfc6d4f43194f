"""The commands. This file alone decides about exit codes and error messages."""

from __future__ import annotations

import errno
import logging
import math
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from penstock._native import __version__
from penstock.cli import bench, broker, config, produce, tail, topics
from penstock.cli.arguments import read_arguments
from penstock.cli.output import (
    INTERRUPTED,
    CommandError,
    OutputError,
    complain,
    lenient_output,
    print_line,
    writing,
)
from penstock.cli.target import attach_dev_folder
from penstock.errors import ConfigError, KafkaError

app = typer.Typer(
    name="penstock",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

_HIDDEN: Final = re.compile(r" \(\d+ more of these since\)$")
_CANNOT_WRITE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EPIPE)


def _show_version(wanted: bool) -> None:
    if wanted:
        print_line(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Produce to Kafka, read topics, and run an embedded broker."""


app.command("produce")(produce.produce)
app.command("bench")(bench.bench)
app.command("tail")(tail.tail)
app.add_typer(topics.app, name="topics")
app.command("broker")(broker.broker)
app.command("config")(config.config)


class _Repeats(logging.Filter):
    """Drops messages that were logged in the last minutes. A producer repeats every ten seconds that a broker is down."""

    _AGAIN_S: Final = 600.0
    _MOST: Final = 1_000

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        # The suffix that a producer adds when it has suppressed messages itself.
        message = _HIDDEN.sub("", record.getMessage())
        if record.created - self._logged_at.get(message, -math.inf) < self._AGAIN_S:
            return False
        if len(self._logged_at) >= self._MOST:
            self._logged_at.clear()
        self._logged_at[message] = record.created
        return True


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    shown = logging.StreamHandler(sys.stderr)
    shown.addFilter(_Repeats())
    logging.basicConfig(handlers=[shown], level=logging.WARNING, format="penstock: %(message)s")
    with lenient_output():
        code = _run(arguments)
        # The commands flush what they print. Typer does not flush usage and help.
        try:
            if sys.stdout is not None:
                with writing():
                    pass
        except OutputError as failure:
            return code or _report(failure)
        return code


def _run(arguments: Sequence[str]) -> int:
    try:
        app(read_arguments(typer.main.get_command(app), attach_dev_folder(arguments)), prog_name="penstock")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CommandError as failure:
        return _report(failure)
    except ConfigError as error:
        complain(str(error))
        return 2
    except KafkaError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        # The commands handle their own errors. This one is Typer's: its help met a full disk or a closed pipe.
        if error.errno not in _CANNOT_WRITE:
            raise
        return _report(OutputError(error))
    return 0


def _report(failure: CommandError) -> int:
    if isinstance(failure, OutputError) and failure.reader_left:  # `| head` has read enough: not a failure
        return 0
    complain(str(failure))
    return failure.code
