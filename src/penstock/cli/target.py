"""The brokers of a command: `-b`, `--dev [DIR]`, or the environment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from penstock.cli.arguments import as_text
from penstock.cli.output import CommandError, complain
from penstock.devbroker import DataFolderError, DevCluster

ENVIRONMENT: Final = "PENSTOCK_BOOTSTRAP_SERVERS"

Bootstrap: TypeAlias = Annotated[
    str | None,
    typer.Option("--bootstrap-servers", "-b", metavar="HOST:PORT,...", help=f"Brokers; else {ENVIRONMENT}."),
]
Dev: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="[DIR]", help="Run an embedded broker on this data folder during the command."),
]


def attach_dev_folder(arguments: Sequence[str]) -> list[str]:
    """`--dev` with and without its DIR as `--dev=DIR`, because option parsers have no optional values.

    The next argument is the DIR unless it is an option, `-`, or an existing file (which is the input of `produce`).
    """
    rest = list(arguments)
    attached: list[str] = []
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*attached, argument, *rest]
        if argument == "--dev":
            takes_next = bool(rest) and not rest[0].startswith("-") and not Path(rest[0]).is_file()
            argument = f"--dev={rest.pop(0) if takes_next else ''}"
        attached.append(argument)
    return attached


def default_data_dir() -> Path:
    """The default data folder of `--dev` and `penstock broker`: XDG_DATA_HOME/penstock/dev."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "penstock" / "dev"


@contextmanager
def bootstrap_servers(given: str | None, dev: str | None, *, configured: str | None = None) -> Iterator[str]:
    """The brokers' addresses; an embedded broker runs meanwhile if `dev` is given.

    Args:
        given: `-b`.
        dev: `--dev`; "" for the default folder.
        configured: bootstrap.servers of `-X` or `--config`.

    Raises `CommandError` with exit code 2 if no brokers are given.
    """
    if given is not None and dev is not None:
        raise CommandError("-b and --dev exclude each other", code=2)
    if dev is not None:
        folder = Path(dev) if dev else default_data_dir()
        with embedded(folder) as servers:
            yield servers
        return
    named = given or configured or os.environ.get(ENVIRONMENT)
    if not named:
        raise CommandError(
            f"no brokers given: use -b HOST:PORT, set {ENVIRONMENT}, or run an embedded broker with --dev [DIR]", code=2
        )
    yield as_text(named, ENVIRONMENT)  # arguments have been checked


@contextmanager
def embedded(folder: Path) -> Iterator[str]:
    """An embedded broker in this process, on `folder`."""
    cluster = DevCluster.running(data_dir=folder)
    try:
        cluster.start()
    except (DataFolderError, OSError, ValueError) as error:
        raise CommandError(f"--dev {folder}: {error}") from error
    try:
        complain(f"embedded broker on {folder}")
        yield cluster.bootstrap_servers
    finally:
        cluster.stop()
