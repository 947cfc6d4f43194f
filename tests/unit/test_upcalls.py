"""Native code looks up names in `penstock._upcalls` only, and each name exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock import _upcalls

NATIVE = Path(__file__).parents[2] / "rust/python/src"
LIST = NATIVE / "runtime/upcalls.rs"
ASKED = re.findall(r'^    [A-Z_]+ = "(\w+)"$', LIST.read_text(encoding="utf-8"), re.MULTILINE)


def test_native_code_uses_exactly_the_names_that_exist() -> None:
    assert len(ASKED) == len(set(ASKED)) > 20
    assert set(ASKED) == {*_upcalls.WHERE, "asyncio_used"}


@pytest.mark.parametrize("name", ASKED)
def test_a_name_that_native_code_uses_exists(name: str) -> None:
    assert getattr(_upcalls, name) is not None


def test_another_name_does_not() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = _upcalls.nothing


def test_no_other_native_file_imports() -> None:
    importing = {
        path.relative_to(NATIVE).as_posix()
        for path in NATIVE.rglob("*.rs")
        if re.search(r"\bpy\.import\(|\.import\(py\b|\bPyModule::import", path.read_text(encoding="utf-8"))
    }
    assert importing == {"runtime/upcalls.rs", "lib.rs"}, "lib.rs compares interpreters before there is a module"


def test_nothing_is_imported_for_it() -> None:
    script = (
        "import sys, penstock._upcalls; print(*sorted({'asyncio', 'uuid', 'array', 'penstock.aio'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert "asyncio" not in found.stdout
    assert "penstock.aio" not in found.stdout
