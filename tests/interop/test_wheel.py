"""The wheel in an empty environment, on every CPython of this machine: no Rust, no dependencies, no source tree."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import pytest

from support.interpreters import BIN, MINOR_VERSIONS, WHOLE, needed, run, smoke

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.xdist_group("wheel")  # one worker: the wheel is built once

PROGRAM = """
import sys
from pathlib import Path

import penstock
from penstock.devbroker import DevCluster
from penstock.testing import MockProducer

assert Path(penstock.__file__).is_relative_to(sys.prefix), penstock.__file__
with DevCluster.running() as cluster:
    cluster.create_topic("greetings", 1)
    with penstock.KafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        print(producer.send("greetings", b"hello").result(30).offset, len(MockProducer().history()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For this machine's libc: `make test-packaging` builds the one for older ones."""
    folder = tmp_path_factory.mktemp("wheel")
    command = (BIN / "maturin", "build", "--release", "--quiet", "--out", folder)
    try:
        run(*command, cwd=ROOT)
    except AssertionError as error:
        # maturin 1.16 did not find the library that it had just staged below target/, in two of six runs.
        if "lib_native" not in str(error):
            raise
        run(*command, cwd=ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.timeout(600)
def test_the_wheel_is_abi3_and_runs_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    environment = tmp_path / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    # Without an index and without dependencies: the wheel needs no other package.
    run(BIN / "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel)
    done = subprocess.run(
        [python, "-c", PROGRAM], cwd=tmp_path, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["0", "0"], 0), done.stderr
    result = subprocess.run(
        [environment / "bin" / "penstock", "--version"], capture_output=True, text=True, check=False
    )
    assert "pip install 'penstock[cli]'" in result.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize("minor", MINOR_VERSIONS, ids=lambda minor: f"3.{minor}")
def test_the_wheel_works_on_python(minor: int, wheel: Path, tmp_path: Path) -> None:
    result = smoke(needed(minor), wheel, tmp_path)
    assert result.pop("build") == ["abi3", "optimized", "without-reference-pool"]
    assert result == WHOLE
