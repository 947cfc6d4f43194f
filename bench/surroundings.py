"""The environment of a run: the programs that are built for it, and a description of the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HERE = ROOT / "bench"
TARGET = ROOT / "target"
sys.path[:0] = [str(ROOT / "tools" / "kafka"), str(ROOT / "tools" / "chaos")]

import kafka_artifacts  # noqa: E402 (the harness is not a package)
from kafka_artifacts import MissingToolError as MissingToolError  # noqa: E402

CODE = ["src/penstock", "rust/core/src", "rust/python", "rust/core/Cargo.toml", "Cargo.toml", "Cargo.lock"]
CODE += [
    "bench/contestants",
    "bench/corpus.py",
    "bench/peers",
    "bench/limits/src",
    "bench/link.py",
    "bench/places.py",
    "bench/faults.py",
]
"""The sources that affect figures: the library, and the benchmark."""

HEAP_MB = 1024


class BuildError(RuntimeError):
    """A program of the benchmark does not build here (for instance, a module cannot be downloaded); the message has the output."""


def _built(command: list[str], cwd: Path, what: str, **environment: str) -> None:
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise BuildError(f"{what} could not be built ({' '.join(command)}):\n{done.stderr}")


@cache
def limits() -> Path:
    """The folder with the null sink and the blaster.

    Raises:
        MissingToolError: no Rust.
        BuildError: it does not build.
    """
    if shutil.which("cargo") is None:
        raise MissingToolError("no Rust (`cargo` is not on PATH)")
    folder = TARGET / "bench-limits"
    _built(
        ["cargo", "build", "--release", "--quiet", "--locked"],
        HERE / "limits",
        "the null sink",
        CARGO_TARGET_DIR=str(folder),
    )
    return folder / "release"


@cache
def peer(client: str) -> list[str]:
    """The command of a contestant that is not Python; the task is its last argument.

    Raises:
        MissingToolError: its toolchain is not installed.
        BuildError: it does not build.
    """
    if client == "blaster":
        return [str(limits() / "blaster")]
    if client == "java":
        classes, source = TARGET / "bench-java", HERE / "peers" / "java" / "JavaPeer.java"
        java = kafka_artifacts.java()
        command = [kafka_artifacts.javac(), "-cp", kafka_artifacts.classpath(), "-d", str(classes), str(source)]
        _built(command, HERE, "the Java contestant")
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        path = f"{classes}{os.pathsep}{kafka_artifacts.classpath()}"
        return [java, "-Xms1g", "-Xmx1g", quiet, "-cp", path, "JavaPeer"]
    if client == "franz-go":
        go = shutil.which("go")
        if go is None:
            raise MissingToolError("no Go (`go` is not on PATH)")
        program = TARGET / "bench-franz"
        _built([go, "build", "-trimpath", "-o", str(program), "."], HERE / "peers" / "franz", "the franz-go contestant")
        return [str(program)]
    raise ValueError(f"no contestant is called {client!r}")


def missing_tools(clients: Iterable[str]) -> list[str]:
    """Missing toolchains of these contestants: when one is installed, its row is measured again."""
    needs = {"java": ["java", "javac"], "franz-go": ["go"], "blaster": ["cargo"]}
    return sorted({tool for client in clients for tool in needs.get(client, []) if shutil.which(tool) is None})


def machine() -> dict[str, Any]:
    """The properties of the machine that affect the figures."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "cpu": model,
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "kafka": f"Apache Kafka {kafka_artifacts.kafka_version()}, one node, {HEAP_MB} MB heap, on the same machine",
    }


def commit() -> str:
    """The checkout's commit, for readers of the JSON."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"
