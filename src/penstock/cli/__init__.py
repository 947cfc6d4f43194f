"""The `penstock` command. Its dependencies are the extra `cli`; nothing here imports them before `main` runs."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from typing import Final

INSTALL: Final = "pip install 'penstock[cli]'"
_NEEDED: Final = ("typer", "rich")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (`sys.argv` by default) and return the exit code: 0, 1 (it failed), 2 (usage) or 130."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        print(f"penstock: the command line needs {' and '.join(missing)}; install with: {INSTALL}", file=sys.stderr)
        return 2
    from penstock.cli.app import run  # needs the extra

    return run(sys.argv[1:] if arguments is None else list(arguments))
