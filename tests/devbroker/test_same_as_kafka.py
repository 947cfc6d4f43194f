"""The same scripts against the embedded broker and against real Kafka; the results must be equal."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
import scripts_connections
import scripts_fetch
import scripts_produce
import scripts_topics
from kafka_cluster import KafkaCluster
from kafka_scripts import SCRIPTS, prepare
from raw_client import RawClient

from penstock.devbroker import DevCluster

# The imports register the scripts.
MODULES = (scripts_produce, scripts_fetch, scripts_topics, scripts_connections)


@pytest.fixture(scope="module")
def devbroker() -> Iterator[str]:
    with DevCluster.running(auto_create_topics=False) as cluster:
        yield cluster.bootstrap_servers


def check(name: str, bootstrap: str) -> None:
    script, expected = SCRIPTS[name]
    topic = f"same-{uuid.uuid4().hex[:12]}"
    with RawClient(bootstrap) as client:
        prepare(client, topic)
        assert script(client, topic) == expected


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_embedded_broker(name: str, devbroker: str) -> None:
    check(name, devbroker)


@pytest.mark.parametrize("name", SCRIPTS)
def test_real_kafka(name: str, kafka: KafkaCluster) -> None:
    check(name, kafka.bootstrap_servers)
