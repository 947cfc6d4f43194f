"""`penstock` as a separate process, for tests of signals, pipes and the interpreter's exit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = str(Path(__file__).resolve().parents[2] / "src")

SOON_S = 30.0
"""A limit for steps that take moments: a test reaches it only if something never happens."""


@contextmanager
def command(
    *arguments: str, prepare: Callable[[], Any] = lambda: None, **streams: Any
) -> Iterator[subprocess.Popen[str]]:
    """The process; all streams are pipes unless others are given. `prepare` runs in it before the command does."""

    def before() -> None:
        # A shell that runs the tests in the background makes its jobs ignore Ctrl-C, and our processes inherit that.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        prepare()

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(
        [sys.executable, "-m", "penstock.cli", *arguments],
        text=True,
        env=os.environ | {"PYTHONPATH": SOURCE},
        preexec_fn=before,
        **pipes | streams,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def write(process: subprocess.Popen[str], text: str) -> None:
    """Write to its stdin and flush."""
    assert process.stdin is not None
    process.stdin.write(text)
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit status, stdout and stderr."""
    out, err = process.communicate(timeout=SOON_S)
    return process.returncode, out, err
