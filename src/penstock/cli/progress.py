"""A live display on stderr, if that is a terminal; and the progress line."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from penstock.cli.tally import Tally


def progress(tally: Tally, *, total: int | None = None, console: Console | None = None) -> AbstractContextManager[None]:
    """Show the progress of `tally` ten times a second."""
    return live_display(lambda: line(tally, total), refresh_per_second=10, console=console)


@contextmanager
def live_display(
    render: Callable[[], RenderableType], *, refresh_per_second: float, console: Console | None = None
) -> Iterator[None]:
    """Show what `render` returns while the context lasts. Rich's thread calls it; the sender does nothing for it."""
    console = console if console is not None else Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    live = Live(get_renderable=render, console=console, refresh_per_second=refresh_per_second, transient=True)
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
