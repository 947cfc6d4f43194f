"""What `import penstock` loads: time is not tested, but what costs time is."""

from __future__ import annotations

import subprocess
import sys

SLOW = {"asyncio", "concurrent.futures", "dataclasses", "inspect", "ipaddress", "ssl", "json", "typer", "rich"}


def test_nothing_slow_is_imported_by_the_way() -> None:
    """Each of these takes 1 to 50 ms, and most programs that send have no use for it, or have it already."""
    program = "import sys; before = set(sys.modules); import penstock; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "penstock.producer" in loaded
    assert not loaded & SLOW
    assert not {name for name in loaded if name.startswith(("penstock.devbroker", "penstock.testing", "penstock.cli"))}
