"""The modules that `import penstock` loads. Its time is not tested, but modules that cost time are."""

from __future__ import annotations

import subprocess
import sys

import pytest

import penstock

SLOW = {"asyncio", "concurrent.futures", "dataclasses", "inspect", "ipaddress", "ssl", "json", "typer", "rich"}


def loaded_by(program: str) -> set[str]:
    program = f"import sys; before = set(sys.modules); {program}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_no_slow_module_is_imported() -> None:
    """Each of these takes 1 to 50 ms, and most programs that send have no use for it, or have it already."""
    loaded = loaded_by("import penstock")
    assert "penstock.producer" in loaded
    assert not loaded & SLOW
    assert not {name for name in loaded if name.startswith(("penstock.devbroker", "penstock.testing", "penstock.cli"))}


@pytest.mark.parametrize("name", ["AsyncKafkaProducer", "AsyncProducer"])
@pytest.mark.parametrize(
    "program", ["from penstock import {}", "import penstock; penstock.{}", "from penstock import *; {}"]
)
def test_asyncio_comes_with_its_facade(program: str, name: str) -> None:
    loaded = loaded_by(program.format(name))
    assert {"asyncio", "penstock.aio"} <= loaded


def test_names_that_are_loaded_late_are_available() -> None:
    assert set(penstock.__all__) <= set(dir(penstock))
    for name in penstock.__all__:
        assert getattr(penstock, name) is getattr(penstock, name)
    assert penstock.AsyncKafkaProducer.__module__ == "penstock.aio"
    with pytest.raises(AttributeError, match="module 'penstock' has no attribute 'AsyncProducers'"):
        _ = penstock.AsyncProducers  # type: ignore[attr-defined]
