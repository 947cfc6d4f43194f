"""Fixtures for all tests: a real Kafka, topics in it, and Java as a judge.

No judge is skipped: without Java or Maven, the tests that need them fail and name the missing program.
"""

from __future__ import annotations

import contextlib
import re
import signal
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

# The Kafka harness and the fault proxy are tools first (`make kafka`, `make chaos`, bench/), not packages to install.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools" / "kafka"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools" / "chaos"))
# bench/ is a package of the checkout, run as `python -m bench`.
sys.path.append(str(Path(__file__).resolve().parent.parent))

import kafka_artifacts
from kafka_cluster import KafkaCluster

from support import kfake as kfake_judge
from support.fixtures import TopicFactory
from support.java import JavaJudge, compiled

# A shell starts background jobs with Ctrl-C ignored; Python keeps that, and so do the processes that tests start. This
# runs before the tests' modules are imported, since some of their imports (polars) install a handler of their own.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use the real Kafka, also through fixtures, before `-m` is applied.

    `make test` has two workers (pytest-xdist). Tests that share the Kafka, or the JVM that judges, share a worker.
    """
    for item in items:
        if "kafka" in _fixtures(item):
            item.add_marker(pytest.mark.kafka)
        if _needs_jars(item):
            item.add_marker(pytest.mark.xdist_group("kafka" if item.get_closest_marker("kafka") else "java"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download and compile before the first test: that may take minutes, more than a test's time limit."""
    if session.config.option.collectonly:
        return
    # An error here occurs again in the fixtures, where it is a failed test with its reason.
    if any(map(_needs_jars, session.items)):
        with contextlib.suppress(Exception):
            kafka_artifacts.libs()
            compiled()
    if any("kfake" in _fixtures(item) for item in session.items):
        with contextlib.suppress(Exception, pytest.skip.Exception, pytest.fail.Exception):
            kfake_judge.built()


def _fixtures(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def _needs_jars(item: pytest.Item) -> bool:
    return "java" in _fixtures(item) or item.get_closest_marker("kafka") is not None


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaCluster]:
    """A real Apache Kafka of one node, shared by the session; topics are not created automatically."""
    with KafkaCluster(short_lived=True) as cluster:
        yield cluster


@pytest.fixture
def kafka_topic(kafka: KafkaCluster, request: pytest.FixtureRequest) -> TopicFactory:
    """A factory of topics for one test, named after it: `kafka_topic(partitions=3)`."""
    label = re.sub(r"[^a-zA-Z0-9_-]+", "-", request.node.name)[:80]

    def create(partitions: int = 1, *, replication_factor: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"{label}-{uuid.uuid4().hex[:8]}"
        kafka.create_topic(name, partitions, replication_factor, config)
        return name

    return create


@pytest.fixture(scope="session")
def java() -> Iterator[JavaJudge]:
    """Kafka's Java code as a judge; its JVM starts with the first request."""
    with JavaJudge() as judge:
        yield judge


@pytest.fixture
def kfake() -> Iterator[kfake_judge.KFake]:
    """franz-go's fake cluster, one per test: three brokers and no topic."""
    with kfake_judge.KFake() as cluster:
        yield cluster
