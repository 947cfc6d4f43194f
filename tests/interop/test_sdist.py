"""The sdist has the files that a build needs, and no others. (`make test-packaging` builds from it.)"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

pytestmark = pytest.mark.xdist_group("wheel")

ROOT = Path(__file__).resolve().parents[2]

NEEDED = [
    "LICENSE",
    "README.md",
    "PKG-INFO",
    "pyproject.toml",
    "Cargo.toml",
    "Cargo.lock",
    # rustflags: without them a build is slower.
    ".cargo/config.toml",
    "rust/core/Cargo.toml",
    "rust/python/Cargo.toml",
]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tarfile.TarFile]:
    folder = tmp_path_factory.mktemp("sdist")
    maturin = Path(sys.executable).with_name("maturin")
    # Not below the target folder in which another worker may build the wheel.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "target")}
    subprocess.run([maturin, "sdist", "--out", folder], cwd=ROOT, check=True, capture_output=True, env=environment)
    (path,) = folder.glob("penstock-*.tar.gz")
    with tarfile.open(path) as file:
        yield file


@pytest.fixture(scope="module")
def names(sdist: tarfile.TarFile) -> set[str]:
    """Relative to the sdist's one folder."""
    paths = [PurePosixPath(name) for name in sdist.getnames()]
    assert len({path.parts[0] for path in paths}) == 1
    return {str(PurePosixPath(*path.parts[1:])) for path in paths}


def tracked(*folders: str) -> set[str]:
    """The repository's files in these folders; without git, all files in them."""
    found = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode == 0 and found.stdout:
        return set(found.stdout.split())
    files = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(ROOT)) for path in files if path.suffix not in (".pyc", ".so")}


def test_the_sdist_has_every_file_of_a_build(names: set[str]) -> None:
    assert {name for name in NEEDED if name not in names} == set()
    # The whole package, with its stub and py.typed, and both crates.
    wanted = tracked("src", "rust/core/src", "rust/python/src")
    assert {"src/penstock/py.typed", "src/penstock/_native.pyi", "rust/python/src/lib.rs"} <= wanted
    assert wanted - names == set()


def test_the_sdist_has_neither_products_nor_tests(names: set[str]) -> None:
    suffixes = {PurePosixPath(name).suffix for name in names}
    assert suffixes & {".so", ".pyd", ".pyc", ".log", ".whl"} == set()
    tops = {PurePosixPath(name).parts[0] for name in names}
    assert tops == {PurePosixPath(name).parts[0] for name in NEEDED} | {"src"}
    assert not any("__pycache__" in name or name.startswith("rust/fuzz") for name in names)


def test_the_sdists_files_equal_those_of_the_repository(sdist: tarfile.TarFile) -> None:
    top = sdist.getnames()[0].partition("/")[0]
    for name in (".cargo/config.toml", "Cargo.lock", "LICENSE", "rust/core/src/lib.rs"):
        file = sdist.extractfile(f"{top}/{name}")
        assert file is not None
        assert file.read() == (ROOT / name).read_bytes(), name
