"""Which brokers a command talks to: `-b`, `--dev [DIR]`, or the environment."""

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
    typer.Option(metavar="[DIR]", help="An embedded broker on this data folder, for the length of the command."),
]


def attach_dev_folder(arguments: Sequence[str]) -> list[str]:
    """`--dev` with and without its DIR as `--dev=DIR`, because option parsers have no optional values.

    What follows is the DIR unless it is an option, `-`, or an existing file (which is what to produce).
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
    """Where `--dev` without DIR, and `penstock broker`, keep their data: XDG_DATA_HOME/penstock/dev."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "penstock" / "dev"


@contextmanager
def bootstrap_servers(given: str | None, dev: str | None, *, configured: str | None = None) -> Iterator[str]:
    """The brokers' addresses, while an embedded broker runs if `dev` asks for one.

    Args:
        given: `-b`.
        dev: `--dev`; "" for the default folder.
        configured: what `-X` or `--config` say of bootstrap.servers.

    Raises `CommandError` with exit code 2 if nothing names a broker.
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
            f"no brokers named: use -b HOST:PORT, set {ENVIRONMENT}, or run an embedded broker with --dev [DIR]", code=2
        )
    yield as_text(named, ENVIRONMENT)  # arguments are, by now


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
