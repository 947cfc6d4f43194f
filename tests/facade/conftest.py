"""Fixtures of the facade's tests: one embedded cluster for all tests; topics and producers for each test."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aio_support import producing, run_on
from facade_support import Log, MakeProducer, MakeTopic

from penstock import KafkaProducer
from penstock.devbroker import DevCluster, Faults, RunningCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RunningCluster]:
    """Three nodes, in memory; topics are not created automatically."""
    with DevCluster.running(nodes=3, auto_create_topics=False) as running:
        yield running


@pytest.fixture
def faults(cluster: RunningCluster) -> Iterator[Faults]:
    """The cluster's faults: none at the start, and removed at the end of the test."""
    cluster.faults.clear()
    cluster.requests.clear()
    yield cluster.faults
    cluster.faults.clear()


@pytest.fixture
def new_topic(cluster: RunningCluster, request: pytest.FixtureRequest) -> MakeTopic:
    """A factory of topics for this test only, named after it."""
    label = re.sub(r"[^a-zA-Z0-9_-]+", "-", request.node.name)[:60]

    def create(partitions: int = 1, **configs: str) -> str:
        name = f"{label}-{uuid.uuid4().hex[:8]}"
        dotted = {key.replace("_", "."): value for key, value in configs.items()}
        cluster.create_topic(name, partitions, configs=dotted)
        return name

    return create


@pytest.fixture
def topic(new_topic: MakeTopic) -> str:
    """A topic of one partition."""
    return new_topic()


@pytest.fixture
def facade() -> type[KafkaProducer[Any, Any]]:
    """The class of the producers, for tests that hold for both facades (`driven.FACADES`)."""
    return KafkaProducer


@pytest.fixture
def new_producer(cluster: RunningCluster, facade: type[KafkaProducer[Any, Any]]) -> Iterator[MakeProducer]:
    """A factory of producers for the cluster; open ones are closed without waiting after the test."""
    made: list[KafkaProducer[object, object]] = []

    def create(**options: object) -> KafkaProducer[object, object]:
        options.setdefault("bootstrap_servers", cluster.bootstrap_servers)
        producer = facade(**options)
        made.append(producer)
        return producer

    yield create
    for producer in made:
        producer.close(0)


@pytest.fixture
def producer(new_producer: MakeProducer) -> KafkaProducer[object, object]:
    """A producer with the default settings."""
    return new_producer()


@pytest.fixture
def log(cluster: RunningCluster) -> Log:
    """Reads the cluster's log."""
    return Log(cluster)


@pytest.fixture
def run(kind: str, cluster: RunningCluster) -> Callable[..., Any]:
    """Run `scenario(producer)` on a loop of the test's parameter `kind`."""

    def run(scenario: Callable[..., Any], **options: Any) -> Any:
        async def main() -> Any:
            async with producing(cluster.bootstrap_servers, **options) as producer:
                return await scenario(producer)

        return run_on(kind, main())

    return run
