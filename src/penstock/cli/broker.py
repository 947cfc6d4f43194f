"""`penstock broker`: the embedded broker in the foreground."""

from __future__ import annotations

import os
import signal
import sys
import threading
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.output import CommandError, complain
from penstock.cli.target import default_data_dir
from penstock.devbroker import DataFolderError, DevCluster, serve


class Fsync(StrEnum):
    """When records are forced to disk."""

    never = "never"
    always = "always"


def broker(
    dir: Annotated[
        Path | None, typer.Option(help="Data folder; by default a folder of yours.", show_default=False)
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Keep nothing on disk.")] = False,
    host: Annotated[
        str, typer.Option(help="Address to listen on; anybody who reaches it may do everything.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port of the first node; 0: free ones.", min=0)] = 9092,
    nodes: Annotated[int, typer.Option(help="Brokers that act as one cluster.", min=1)] = 1,
    partitions: Annotated[int, typer.Option(help="Of topics that are created by being used.", min=1)] = 1,
    fsync: Annotated[Fsync, typer.Option(help="When to force records to disk.")] = Fsync.never,
    until_eof: Annotated[bool, typer.Option("--until-eof", hidden=True, help="Stop when stdin ends.")] = False,
) -> None:
    """Run an embedded broker in the foreground, until Ctrl-C; prints host:port when it is ready."""
    if memory and dir is not None:
        raise CommandError("--memory and --dir exclude each other", code=2)
    folder = None if memory else dir or default_data_dir()
    where = "in memory" if folder is None else f"on {folder}"

    def ready(servers: str) -> None:
        print(servers, flush=True)
        complain(f"embedded broker {where}, {nodes} node{'s' if nodes > 1 else ''}; Ctrl-C stops it")
        if until_eof:
            threading.Thread(target=_stop_at_eof, name="penstock-broker-eof", daemon=True).start()

    try:
        cluster = DevCluster(
            nodes=nodes, host=host, port=port, data_dir=folder, num_partitions=partitions, fsync=fsync.value
        )
        serve(cluster, ready)
    except (DataFolderError, OSError, ValueError) as error:
        raise CommandError(str(error)) from error


def _stop_at_eof() -> None:
    """Whoever started this process holds the other end of stdin: when they are gone, however, so is this."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
