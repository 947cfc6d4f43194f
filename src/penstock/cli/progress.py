"""The live progress line, on stderr and only if that is a terminal."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from penstock.cli.tally import Tally


@contextmanager
def progress(tally: Tally, *, total: int | None = None, console: Console | None = None) -> Iterator[None]:
    """Show the progress of `tally`; Rich's thread reads it ten times a second, the sender does nothing for it."""
    shown = console if console is not None else Console(stderr=True)
    if not shown.is_terminal:
        yield
        return
    live = Live(get_renderable=lambda: line(tally, total), console=shown, refresh_per_second=10, transient=True)
    live.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal may be closed
            live.stop()


def line(tally: Tally, total: int | None) -> RenderableType:
    """Bar, records, MB/s, acknowledged, in flight."""
    tally.settle()
    sent, acknowledged, failed = tally.sent, tally.acknowledged, tally.failed
    grid = Table.grid(padding=(0, 2))
    bar = ProgressBar(
        total=total, completed=acknowledged, width=30, pulse=total is None, animation_time=time.monotonic()
    )
    cells: list[RenderableType] = [
        bar,
        f"{sent:,} records" if total is None else f"{sent:,} of {total:,} records",
        f"{tally.bytes / 1e6 / max(tally.seconds, 1e-9):,.1f} MB/s",
        f"{acknowledged:,} acknowledged",
        f"{max(sent - acknowledged - failed, 0):,} in flight",
    ]
    if failed:
        cells.append(f"[red]{failed:,} failed[/red]")
    grid.add_row(*cells)
    return grid
