"""A real file goes into a real Kafka: `make demo` on this cluster, with its own proof by kafka-python."""

from __future__ import annotations

import json

import pytest
from kafka_cluster import KafkaCluster

from penstock.cli import demo

ROWS = 20_000


def test_flights(kafka: KafkaCluster, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--bootstrap", kafka.bootstrap_servers, "--topic", "flights-of-a-test", "--rows", str(ROWS), "--json"]
    assert demo.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["records"], result["acknowledged"], result["failed"]) == (ROWS, ROWS, 0)
    assert sum(result["partitions"].values()) == ROWS
    assert result["proof"]["ok"] is True
