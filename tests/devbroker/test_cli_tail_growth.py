"""`penstock tail` while its topic grows."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Iterator

import pytest
from cli_process import command, finish

from penstock import KafkaProducer
from penstock._reader import Reader
from penstock.cli import main
from penstock.cli import tail as tail_command
from penstock.devbroker import DevCluster, RunningCluster


@pytest.fixture
def cluster() -> Iterator[RunningCluster]:
    with DevCluster.running() as running:
        running.create_topic("grows", partitions=1)
        yield running


@pytest.mark.parametrize("start", ["beginning", "end", "-1"])
def test_new_partitions_are_read_and_reported_once(cluster: RunningCluster, start: str) -> None:
    servers = cluster.bootstrap_servers
    arguments = ["-t", "grows", "-o", start, "-b", servers, "-X", "metadata.max.age.ms=50"]
    with command("tail", *arguments) as process, KafkaProducer(bootstrap_servers=servers) as producer:
        assert process.stdout is not None
        cluster.requests.wait_for("Fetch", timeout=30)
        cluster.add_partitions("grows", 3)
        producer.send("grows", b"in 1", partition=1)
        assert process.stdout.readline() == "in 1\n"
        producer.send("grows", b"in 2", partition=2)
        assert process.stdout.readline() == "in 2\n"
        producer.send("grows", b"in 0", partition=0)
        assert process.stdout.readline() == "in 0\n"
        process.send_signal(signal.SIGINT)
        code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err == "penstock: topic grows has 2 new partitions (1 to 2), read from the beginning\n"


def test_metadata_is_refreshed_every_five_seconds_by_default(
    cluster: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[object] = []

    class Noted(Reader):
        def __init__(self, *arguments: object, **options: object) -> None:
            given.append(options["metadata_max_age_s"])
            super().__init__(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tail_command, "Reader", Noted)
    for options in ([], ["-X", "metadata.max.age.ms=250"], ["-X", "metadata_max_age_ms=300000"]):
        assert main(["tail", "-t", "grows", "-e", "-b", cluster.bootstrap_servers, *options]) == 0
    assert given == [5.0, 0.25, 300.0]
    assert inspect.signature(Reader).parameters["metadata_max_age_s"].default == 5.0
