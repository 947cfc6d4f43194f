"""Runs one command and sees to it that the command never outlives the process that asked for it.

`python kafka_guard.py FOLDER COMMAND...` prints the command's pid, then obeys its standard input: each byte is a signal
number to pass on, and its end (the asker closed it, or died in whatever way, SIGKILL included) is SIGKILL. FOLDER is
removed in that last case, because nobody else is left to do it; an empty word means none.

Why a process of its own: PR_SET_PDEATHSIG set by the asker would fire when the *thread* that started the command ends,
and a preexec_fn in a process with threads may deadlock. This process has its main thread for as long as it lives, and
starts the command before it starts its second thread, so here both are safe.
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
    # For the case that somebody kills the guard itself; only Linux can do this.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _obey(child: subprocess.Popen[bytes], orphaned: threading.Event) -> None:
    # os.read, not sys.stdin: a buffered reader held by this thread would trouble the interpreter's exit.
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
