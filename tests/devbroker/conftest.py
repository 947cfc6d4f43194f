"""Fixtures for the embedded broker's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from raw_client import RawClient

from penstock.devbroker import DevCluster, RunningCluster


@pytest.fixture
def cluster() -> Iterator[RunningCluster]:
    """One node, in memory, with a topic `t` of two partitions."""
    with DevCluster.running() as running:
        running.create_topic("t", partitions=2)
        yield running


@pytest.fixture
def client(cluster: RunningCluster) -> Iterator[RawClient]:
    with RawClient(cluster.bootstrap_servers) as raw:
        yield raw
