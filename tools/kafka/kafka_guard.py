"""Runs one command, and ends it when the process that started the guard ends.

`python kafka_guard.py FOLDER COMMAND...` prints the command's pid, then reads its standard input: each byte is a signal
number to pass on, and its end (the parent closed it, or died, even by SIGKILL) means SIGKILL. FOLDER is removed in that
last case, because the parent cannot do it; an empty word means none.

It is a separate process because PR_SET_PDEATHSIG, set by the parent, would fire when the *thread* that started the command
ends, and a preexec_fn in a process with threads may deadlock. This process keeps its main thread for its whole life, and
starts the command before its second thread, so here both are safe.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

PR_SET_PDEATHSIG = 1


def _die_with_the_guard() -> None:
    # For the case that the guard itself is killed; only Linux can do this.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _obey(child: subprocess.Popen[bytes], orphaned: threading.Event) -> None:
    # os.read, not sys.stdin: a buffered reader held by this thread would disturb the interpreter's exit.
    while order := os.read(0, 1):
        child.send_signal(order[0])  # Popen reaps under a lock, so this never reaches a recycled pid
    orphaned.set()
    child.kill()


def main(folder: str, *command: str) -> int:
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        preexec_fn=_die_with_the_guard if sys.platform == "linux" else None,
    )
    print(child.pid, flush=True)
    orphaned = threading.Event()
    threading.Thread(target=_obey, args=(child, orphaned), daemon=True).start()
    code = child.wait()
    if folder and orphaned.is_set():
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            Path(folder).parent.rmdir()  # the cluster's folder, by the guard of its last node
    return code


if __name__ == "__main__":
    # os._exit: nothing is left to clean up, and the reading thread cannot be joined.
    os._exit(main(*sys.argv[1:]) & 0xFF)
