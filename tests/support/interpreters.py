"""The CPythons of this machine, and the checks of an installed Penstock in an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

SMOKE = Path(__file__).with_name("smoke.py")
BIN = Path(sys.executable).parent
MINOR_VERSIONS = (11, 12, 13, 14)

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
WHOLE = {"offsets": {**{codec: [0, 1001] for codec in CODECS}, "asyncio": 1001}, "mock": 0}
"""The output of the smoke test, without the build."""


@cache
def interpreter(minor: int, free_threaded: bool = False) -> Path | None:
    """A CPython of that version: on the PATH, or one of pyenv's, the newest first."""
    name = f"python3.{minor}{'t' if free_threaded else ''}"
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    installed = sorted(versions.glob(f"3.{minor}.*/bin/{name}"), reverse=True)
    on_path = shutil.which(name)
    for python in [*installed, *([Path(on_path)] if on_path else [])]:
        # pyenv has a shim for every known version, also for those that are not installed.
        asked = subprocess.run([python, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True)
        if asked.stdout.strip() == str(minor):
            return python
    return None


def needed(minor: int, free_threaded: bool = False) -> Path:
    python = interpreter(minor, free_threaded)
    if python is None:
        pytest.skip(f"this machine has no CPython 3.{minor}{' without a GIL' if free_threaded else ''}")
    return python


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def smoke(python: Path, wheel: Path, folder: Path) -> dict[str, Any]:
    """Install the wheel in an empty environment, and use it there, without compilers on the PATH."""
    run(python, "-m", "venv", "--without-pip", folder / "environment")
    alone = folder / "environment" / "bin" / "python"
    run(BIN / "pip", "--python", alone, "install", "--quiet", "--no-index", "--no-deps", wheel)
    result: dict[str, Any] = json.loads(run(alone, "-W", "error", SMOKE, cwd=folder, env={"PATH": "/nowhere"}))
    return result
