"""Fixtures for tests that need a broker: an embedded one, a topic per test, a producer.

pytest loads this file in every project that has Penstock installed, so it must import quickly: a fixture imports its
modules when it is used.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from penstock import AsyncKafkaProducer, KafkaProducer
    from penstock.devbroker import RunningCluster


@pytest.fixture(scope="session")
def penstock_broker() -> Iterator[RunningCluster]:
    """An embedded broker for the whole session, in memory and on a free port: see `bootstrap_servers` and `faults`."""
    from penstock.devbroker import DevCluster

    with DevCluster.running() as cluster:
        yield cluster


@pytest.fixture
def penstock_topic(penstock_broker: RunningCluster, request: pytest.FixtureRequest) -> str:
    """The name of a topic that was created for this test, with one partition; it begins with the test's name."""
    label = re.sub(r"[^a-zA-Z0-9_-]+", "-", request.node.name)[:80]
    name = f"{label}-{uuid.uuid4().hex[:8]}"
    penstock_broker.create_topic(name, partitions=1)
    return name


@pytest.fixture
def penstock_producer(penstock_broker: RunningCluster) -> Iterator[KafkaProducer[bytes, bytes]]:
    """A producer of bytes on the embedded broker, closed after the test; like `with`, it fails the test on lost records."""
    from penstock import KafkaProducer

    with KafkaProducer(bootstrap_servers=penstock_broker.bootstrap_servers) as producer:
        yield producer


@pytest.fixture
def penstock_async_producer(penstock_broker: RunningCluster) -> Iterator[AsyncKafkaProducer[bytes, bytes]]:
    """The same for asyncio; it needs no running loop, and is closed in its own one."""
    import asyncio

    from penstock import AsyncKafkaProducer

    producer = AsyncKafkaProducer(bootstrap_servers=penstock_broker.bootstrap_servers)
    yield producer

    async def end() -> None:
        async with producer:
            pass

    asyncio.run(end())
