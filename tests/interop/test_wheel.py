"""The wheel in an environment that has nothing else: no Rust, no dependencies, no source tree."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

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


@pytest.mark.timeout(600)
def test_it_is_abi3_and_runs_where_there_is_nothing_else(tmp_path: Path) -> None:
    maturin = Path(sys.executable).with_name("maturin")
    subprocess.run([maturin, "build", "--release", "--quiet", "--out", tmp_path], cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "-cp311-abi3-" in wheel.name
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    # Without an index and without dependencies: what it needs at run time it brings.
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", wheel], check=True)
    done = subprocess.run(
        [python, "-c", PROGRAM], cwd=tmp_path, env={"PATH": "/nowhere"}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["0", "0"], 0), done.stderr
    told = subprocess.run([environment / "bin" / "penstock", "--version"], capture_output=True, text=True, check=False)
    assert "pip install 'penstock[cli]'" in told.stderr
