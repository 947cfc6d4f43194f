"""`penstock broker`: the embedded broker in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.output import CommandError, complain, print_line
from penstock.cli.target import default_data_dir
from penstock.devbroker import DataFolderError, DevCluster, serve
from penstock.devbroker.settings import FsyncPolicy


def broker(
    dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data folder; by default one of the user's.", show_default=False)
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep nothing on disk.")] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; every client that can reach it has full access.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port of the first node; 0: any free port.", min=0)] = 9092,
    nodes: Annotated[int, typer.Option(help="Brokers of the cluster.", min=1)] = 1,
    partitions: Annotated[int, typer.Option(help="Partitions of an auto-created topic.", min=1)] = 1,
    fsync: Annotated[
        str, typer.Option(metavar="never|always|MS", help="Force records to disk: before each answer, or every MS ms.")
    ] = "never",
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True, help="Stop when stdin ends.")] = False,
) -> None:
    """Run an embedded broker in the foreground, until Ctrl-C; prints host:port when it is ready."""
    if memory and dir is not None:
        raise CommandError("--memory and --dir exclude each other", code=2)
    if until_eof and sys.stdin is None:
        raise CommandError("--until-eof: stdin is closed", code=2)
    policy = _fsync(fsync)
    folder = None if memory else dir or default_data_dir()
    where = "in memory" if folder is None else f"on {folder}"

    def ready(servers: str) -> None:
        print_line(servers)
        complain(f"embedded broker {where}, {nodes} node{'s' if nodes > 1 else ''}; Ctrl-C stops it")
        if until_eof:
            threading.Thread(target=_stop_at_eof, name="penstock-broker-eof", daemon=True).start()

    try:
        cluster = DevCluster(
            nodes=nodes, host=host, port=port, data_dir=folder, num_partitions=partitions, fsync=policy
        )
        serve(cluster, ready)
    except (DataFolderError, OSError, ValueError) as error:
        raise CommandError(str(error)) from error


def _fsync(given: str) -> FsyncPolicy:
    words: dict[str, FsyncPolicy] = {"never": "never", "always": "always"}
    if given in words:
        return words[given]
    if given.isdecimal() and int(given) > 0:
        return int(given)
    raise CommandError(f"--fsync {given}: not one of never, always, MS (a number of ms, at least 1)", code=2)


def _stop_at_eof() -> None:
    """The parent process holds the other end of stdin: when it ends, however that happens, this process ends, too."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
