"""franz-go's fake cluster (kfake) as a judge: brokers that are neither ours nor Kafka's, with faults on demand.

Its source is `tests/interop/kfake`; it is built once per content into `.cache/` and runs as one process per cluster. Its
difference to Kafka: an answer with an error leaves the base offset at 0, where Kafka writes -1.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import kafka_artifacts
import pytest

SOURCES = Path(__file__).resolve().parent.parent / "interop" / "kfake"
CACHE = kafka_artifacts.REPOSITORY / ".cache" / "kfake"
BUILD_TIMEOUT_S = 600.0
PRODUCE, METADATA, INIT_PRODUCER_ID = 0, 3, 22


class KFakeError(AssertionError):
    """The cluster refuses a command, with its text."""


class Fault:
    """Installed faults: how often they were applied."""

    def __init__(self, cluster: KFake, number: int) -> None:
        self._cluster, self._number = cluster, number

    def hits(self) -> int:
        """The number of requests that they answered so far (or saw, if they only observe)."""
        return int(self._cluster.ask("hits", id=self._number))

    def wait(self, count: int = 1, timeout_s: float = 30.0) -> None:
        """Wait until they have answered so many requests; `KFakeError` after `timeout_s`."""
        self._cluster.ask("wait", id=self._number, count=count, timeout_s=timeout_s)

    def remove(self) -> None:
        """Remove the faults."""
        self._cluster.ask("remove", id=self._number)


class KFake:
    """One cluster of kfake, for the time of the context."""

    def __init__(
        self,
        *,
        brokers: int = 3,
        partitions: int = 1,
        auto_create: bool = False,
        max_produce_version: int | None = None,
    ) -> None:
        """`partitions`: of auto-created topics; `max_produce_version`: that of an older broker."""
        self._config = {
            "brokers": brokers,
            "partitions": partitions,
            "auto_create": auto_create,
            "max_produce_version": max_produce_version,
        }
        self.bootstrap_servers = ""

    def __enter__(self) -> KFake:
        self._process = subprocess.Popen(
            [str(built()), json.dumps(self._config)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.bootstrap_servers = ",".join(self._answer())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send one command, as `main.go` lists them; `KFakeError` if it fails."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def fault(
        self, key: int, code: int, *, count: int = 1, topic: str = "", partitions: list[int] | None = None
    ) -> Fault:
        """Answer the next `count` requests (-1: until removed) with an error, instead of carrying them out.

        Codes 7 and 20 of Produce are answered after the request was carried out, as brokers do.
        """
        number = self.ask("fault", key=key, code=code, count=count, topic=topic, partitions=partitions or [])
        return Fault(self, number)

    def observe(self, key: int, *, topic: str = "") -> Fault:
        """Count requests without changing them."""
        return Fault(self, self.ask("fault", key=key, count=-1, topic=topic, observe=True))

    @contextlib.contextmanager
    def cut(self, key: int) -> Iterator[None]:
        """While it is active, such requests are not carried out, and their connections are closed."""
        number = self.ask("cut", key=key)
        yield
        self.ask("mend", id=number)

    def create_topic(self, topic: str, partitions: int = 1) -> None:
        """Create a topic with a new id."""
        self.ask("create_topic", topic=topic, count=partitions)

    def delete_topic(self, topic: str) -> None:
        """Delete a topic with its records."""
        self.ask("delete_topic", topic=topic)

    def topic_id(self, topic: str) -> str:
        """In hexadecimal digits."""
        return str(self.ask("topic_id", topic=topic))

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise KFakeError(f"kfake ended with exit code {self._process.wait(10)}")
        result = json.loads(line)
        if "error" in result:
            raise KFakeError(result["error"])
        return result["value"]


def built() -> Path:
    """The program; new sources are built. Without Go the test is skipped, or fails if CI=true."""
    go = shutil.which("go")
    if go is None:
        message = "kfake needs Go 1.26 (`go` is not on PATH)"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*")):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    program = CACHE / digest.hexdigest()[:16] / "kfake"
    if program.exists():
        return program
    with kafka_artifacts.exclusive(CACHE / "lock"):
        if not program.exists():
            _build(go, program)
    return program


def _build(go: str, program: Path) -> None:
    staging = Path(tempfile.mkdtemp(prefix="building-", dir=CACHE))
    try:
        done = subprocess.run(
            [go, "build", "-trimpath", "-o", str(staging / "kfake"), "."],
            cwd=SOURCES,
            capture_output=True,
            text=True,
            timeout=BUILD_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"kfake does not build:\n{done.stderr}")
        program.parent.mkdir(parents=True, exist_ok=True)
        (staging / "kfake").rename(program)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
