"""`make test-packaging`: the packages as users get them, in empty environments.

`make wheel` built the wheel into PENSTOCK_PACKAGES. A missing interpreter is skipped, by name.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from support.interpreters import BIN, MINOR_VERSIONS, SMOKE, WHOLE, needed, run, smoke

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(os.environ.get("PENSTOCK_PACKAGES", ROOT / "target" / "packages"))

MANYLINUX2014_GLIBC = (2, 17)

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def wheel() -> Path:
    wheels = list(PACKAGES.glob("penstock-*-manylinux*.whl"))
    assert len(wheels) == 1, f"{wheels} in {PACKAGES}; `make test-packaging` builds one"
    return wheels[0]


# ------------------------------------------------------------------------------------------------------------ the wheel


def test_the_wheel_supports_cpython_3_11_and_linux_of_2014(wheel: Path) -> None:
    assert re.fullmatch(r"penstock-[\d.]+-cp311-abi3-manylinux2014_\w+\.manylinux_2_17_\w+\.whl", wheel.name)


def test_the_module_needs_an_old_glibc_and_no_other_library(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        module = file.read("penstock/_native.abi3.so")
    assert module[:4] == b"\x7fELF"
    versions = {
        tuple(map(int, found.split(b"."))) for found in re.findall(rb"\0GLIBC_(\d+\.\d+(?:\.\d+)?)(?=\0)", module)
    }
    assert versions, "the module names its glibc versions"
    assert max(versions) <= MANYLINUX2014_GLIBC
    assert b"GLIBCXX_" not in module
    libraries = set(re.findall(rb"\0((?:lib|ld-)[\w.+-]*\.so(?:\.\d+)*)(?=\0)", module))
    assert {library.split(b".")[0] for library in libraries} <= {
        b"libc", b"libm", b"libpthread", b"libdl", b"librt", b"libutil", b"libgcc_s", b"ld-linux-x86-64", b"ld-linux-aarch64",
    }  # fmt: skip


def test_the_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as file:
        names = set(file.namelist())
    assert {"penstock/py.typed", "penstock/_native.pyi", "penstock/__init__.py"} <= names
    info = {name.partition("/")[2] for name in names if ".dist-info/" in name}
    assert {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"} <= info
    assert {name.partition("/")[0].rpartition(".")[2] for name in names} == {"penstock", "dist-info"}
    assert [name for name in names if name.endswith(".so")] == ["penstock/_native.abi3.so"]
    assert not any(name.endswith(".pyc") for name in names)
    assert wheel.stat().st_size < 5_000_000, "with debugging symbols it is twice as large"


@pytest.mark.parametrize("minor", MINOR_VERSIONS, ids=lambda minor: f"3.{minor}")
def test_the_wheel_works_with(minor: int, wheel: Path, tmp_path: Path) -> None:
    result = smoke(needed(minor), wheel, tmp_path)
    assert result.pop("build") == ["abi3", "optimized", "without-reference-pool"]
    assert result == WHOLE


# ------------------------------------------------------------------------------------------------------------ the sdist


def test_a_build_from_the_sdist_is_as_fast_as_one_from_the_repository(tmp_path: Path) -> None:
    run(BIN / "maturin", "sdist", "--out", tmp_path, cwd=ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    # Outside of the repository: cargo reads the settings of every parent folder, too.
    with tarfile.open(sdist) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    (source,) = (tmp_path / "unpacked").iterdir()
    assert not any((above / ".cargo" / "config.toml").exists() for above in source.parents)
    for path in source.rglob("*"):
        os.utime(path)  # an sdist's times are constant: cargo would take a changed source for an old one
    # The build of `make build` is reused: only our two crates are compiled again.
    environment = {name: value for name, value in os.environ.items() if "RUSTFLAGS" not in name}
    environment |= {"CARGO_TARGET_DIR": str(ROOT / "target"), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    # As pip does it for a user, except that the environment with maturin is ours.
    options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", tmp_path)
    run(BIN / "pip", "wheel", *options, source, cwd=tmp_path, env=environment)
    (built,) = tmp_path.glob("*.whl")
    result = smoke(Path(sys.executable), built, tmp_path)
    assert result.pop("build") == ["abi3", "optimized", "without-reference-pool"]
    assert result == WHOLE


# ------------------------------------------------------------------------------------------------ without the stable ABI


def test_without_the_stable_abi_it_is_built_for_one_version(tmp_path: Path) -> None:
    python = needed(13)
    run(
        BIN / "maturin", "build", "--release", "--quiet", "--no-default-features", "--interpreter", python,
        "--out", tmp_path, cwd=ROOT,
    )  # fmt: skip
    (built,) = tmp_path.glob("*.whl")
    assert "-cp313-cp313-" in built.name
    result = smoke(python, built, tmp_path)
    assert result.pop("build") == ["optimized", "without-reference-pool"]
    assert result == WHOLE


def test_the_crate_compiles_for_a_cpython_without_a_gil(tmp_path: Path) -> None:
    # Replaces PyO3's questions to the interpreter, so that none is needed.
    described = tmp_path / "python.txt"
    described.write_text(
        "implementation=CPython\nversion=3.14\nshared=true\nabi3=false\npointer_width=64\n"
        "build_flags=Py_GIL_DISABLED\nsuppress_build_script_link_lines=true\n"
    )
    command = ["cargo", "check", "--quiet", "--package", "penstock-python", "--no-default-features"]
    run(
        *command, "--features", "pyo3/extension-module", cwd=ROOT,
        env=os.environ | {"PYO3_CONFIG_FILE": str(described), "CARGO_TARGET_DIR": str(ROOT / "target")},
    )  # fmt: skip


def test_a_free_threaded_cpython_enables_its_gil_at_the_import(tmp_path: Path) -> None:
    python = needed(14, free_threaded=True)
    options = ("--release", "--quiet", "--no-default-features", "--interpreter", python, "--out", tmp_path)
    run(BIN / "maturin", "build", *options, cwd=ROOT)
    (built,) = tmp_path.glob("*.whl")
    assert "-cp314-cp314t-" in built.name
    run(python, "-m", "venv", "--without-pip", tmp_path / "environment")
    alone = tmp_path / "environment" / "bin" / "python"
    run(BIN / "pip", "--python", alone, "install", "--quiet", "--no-index", "--no-deps", built)
    # CPython warns about it, and then works as before.
    asked = "import warnings; warnings.simplefilter('ignore'); import penstock, sys; print(sys._is_gil_enabled())"
    assert run(alone, "-c", asked, cwd=tmp_path).strip() == "True"
    assert json.loads(run(alone, SMOKE, cwd=tmp_path))["offsets"] == WHOLE["offsets"]
