"""Fixtures for all tests: a real Kafka, topics in it, and Java as a judge.

No judge is skipped: where Java or Maven is missing, the tests that need them fail and name what is missing.
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
# And bench/ is a package of the checkout, run as `python -m bench`.
sys.path.append(str(Path(__file__).resolve().parent.parent))

import kafka_artifacts
from kafka_cluster import KafkaCluster

from support import kfake as kfake_judge
from support.fixtures import TopicFactory
from support.java import JavaJudge, compiled

# A shell's background jobs are born ignoring Ctrl-C, Python leaves it at that, and so do the processes that tests start. Before
# the tests' modules are imported, since some of what they import (polars) puts a handler of its own in front.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the real Kafka, however indirectly, before `-m` is applied.

    `make test` has two workers (pytest-xdist). Tests that share the Kafka, or the JVM that judges, share a worker.
    """
    for item in items:
        if "kafka" in _fixtures(item):
            item.add_marker(pytest.mark.kafka)
        if _needs_jars(item):
            item.add_marker(pytest.mark.xdist_group("kafka" if item.get_closest_marker("kafka") else "java"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Download and compile before the first test: that may take minutes, which no test's time limit allows for."""
    if session.config.option.collectonly:
        return
    # What goes wrong here goes wrong again in the fixtures, and there it is a failed test with its reason.
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
    """A real Apache Kafka of one node, shared by the session; topics are not created by using them."""
    with KafkaCluster(short_lived=True) as cluster:
        yield cluster


@pytest.fixture
def kafka_topic(kafka: KafkaCluster, request: pytest.FixtureRequest) -> TopicFactory:
    """A factory of topics that no other test sees, named after the test: `kafka_topic(partitions=3)`."""
    label = re.sub(r"[^a-zA-Z0-9_-]+", "-", request.node.name)[:80]

    def create(partitions: int = 1, *, replication_factor: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"{label}-{uuid.uuid4().hex[:8]}"
        kafka.create_topic(name, partitions, replication_factor, config)
        return name

    return create


@pytest.fixture(scope="session")
def java() -> Iterator[JavaJudge]:
    """Kafka's Java code as a judge; its JVM starts with the first question."""
    with JavaJudge() as judge:
        yield judge


@pytest.fixture
def kfake() -> Iterator[kfake_judge.KFake]:
    """franz-go's fake cluster, one for each test: three brokers and no topic."""
    with kfake_judge.KFake() as cluster:
        yield cluster
