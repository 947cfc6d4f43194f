"""Refuses the import in every interpreter of a process except the main one.

The native module's state (threads, callbacks, interpreter shutdown) belongs to the process. In a second interpreter,
such as mod_wsgi makes, it would call into the wrong interpreter, and would take that one's shutdown for the process's.
The package imports this file before the native module, so that an error leaves nothing behind.
"""

from __future__ import annotations

import _thread


def _is_main() -> bool:
    try:
        return bool(_thread._is_main_interpreter())  # type: ignore[attr-defined]  # from CPython 3.12 on
    except AttributeError:
        pass
    try:
        interpreters = __import__("_xxsubinterpreters")  # CPython 3.11
    except ImportError:
        return True  # this interpreter has no module for making others
    return bool(interpreters.get_current() == interpreters.get_main())


if not _is_main():
    raise ImportError(
        "penstock can only be imported in the main interpreter of a process, and this is a second one (a subinterpreter)."
        " Under mod_wsgi set `WSGIApplicationGroup %{GLOBAL}`, which runs the application in the main interpreter;"
        " elsewhere run the code that sends in the main interpreter, or in a process of its own.",
        name="penstock",
    )
