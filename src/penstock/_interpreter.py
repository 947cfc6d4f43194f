"""Refuses to be imported in any but the main interpreter of a process.

The native module's state (threads, callbacks, what is known of the interpreter's end) is the process's. In a second
interpreter, such as mod_wsgi makes, it would call into the wrong one, and that one's end would be taken for the process's.
Imported by the package before anything native, so that nothing has happened when it raises.
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
        return True  # an interpreter that can make no others, as far as can be told
    return bool(interpreters.get_current() == interpreters.get_main())


if not _is_main():
    raise ImportError(
        "penstock can only be imported in the main interpreter of a process, and this is a second one (a subinterpreter)."
        " Under mod_wsgi set `WSGIApplicationGroup %{GLOBAL}`, which runs the application in the main interpreter;"
        " elsewhere run the code that sends in the main interpreter, or in a process of its own.",
        name="penstock",
    )
