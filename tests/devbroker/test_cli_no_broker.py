"""The command line without a broker or a leader: one error with address and reason, within the time to wait."""

from __future__ import annotations

import json
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cli_process import command, finish, write

from penstock import KafkaProducer
from penstock._reader import Cluster
from penstock.cli import main
from penstock.devbroker import DevCluster, RunningCluster
from penstock.errors import NetworkError

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def closed() -> str:
    """The address of a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningCluster]:
    with DevCluster.running(auto_create_topics=False) as cluster:
        cluster.create_topic("t", partitions=2)
        yield cluster


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "in.txt"
    path.write_bytes(b"one\ntwo\n")
    return str(path)


COMMANDS = [
    ["produce", "FILE", "-t", "t", "--wait", "0.4"],
    ["bench", "-t", "t", "-n", "10", "--wait", "0.4"],
    ["bench", "-t", "t", "-n", "10", "--wait", "0.4", "--asyncio", "2"],
    ["tail", "-t", "t", "--wait", "0.4"],
    ["tail", "-t", "t", "-e", "-o", "beginning", "-p", "0", "--wait", "0.4"],
    ["topics", "list"],
    ["topics", "create", "t"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_refused_connection_is_one_line_with_address_and_reason(
    arguments: list[str], closed: str, file: str, capfd: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    assert main([file if it == "FILE" else it for it in arguments] + ["-b", closed]) == 1
    _, err = capfd.readouterr()
    assert err.startswith("penstock: ")
    assert err.count("\n") == err.count(closed) == err.count("Connection refused") == 1
    assert [it.getMessage() for it in caplog.records if it.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("arguments", COMMANDS[:5], ids=" ".join)
def test_a_server_that_does_not_answer(arguments: list[str], silent: str, file: str, capfd: Capture) -> None:
    assert main([file if it == "FILE" else it for it in arguments] + ["-b", silent]) == 1
    _, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert f"{silent}: no answer within 0.5 s" in err


@pytest.mark.parametrize("arguments", COMMANDS[:5], ids=" ".join)
def test_an_unknown_host_name(arguments: list[str], file: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert main([file if it == "FILE" else it for it in arguments] + ["-b", "nowhere.test:9092"]) == 1
    _, err = capfd.readouterr()
    assert err.count("\n") == 1
    assert "nowhere.test:9092: Name or service not known" in err


def test_the_summary_has_the_error(closed: str, file: str, capfd: Capture) -> None:
    assert main(["produce", file, "-t", "t", "-b", closed, "--wait", "0", "--json"]) == 1
    out, err = capfd.readouterr()
    summary = json.loads(out)
    assert (summary["records"], summary["acknowledged"]) == (0, 0)
    assert summary["error"] in err
    assert err.endswith("(0 records were acknowledged)\n")


def at_first_pause(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Call `act` while the command waits."""
    actions = [act]
    pause = time.sleep

    def sleep(seconds: float) -> None:
        if actions:
            actions.pop()()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", sleep)


@pytest.mark.parametrize(
    "arguments", [["produce", "FILE", "-t", "t", "-p", "0"], ["bench", "-t", "t", "-n", "10"]], ids=" ".join
)
def test_a_broker_that_starts_during_the_wait_is_used(
    arguments: list[str], closed: str, file: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = DevCluster.running(port=int(closed.rpartition(":")[2]))
    at_first_pause(monkeypatch, cluster.start)
    try:
        assert main([file if it == "FILE" else it for it in arguments] + ["-b", closed]) == 0
        assert sum(cluster.end_offsets("t").values()) > 0
    finally:
        cluster.stop()
    assert capfd.readouterr().err == ""


def test_tail_waits_for_a_broker(closed: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = DevCluster.running(port=int(closed.rpartition(":")[2]))

    def start() -> None:
        cluster.start()
        cluster.create_topic("t")
        with KafkaProducer(bootstrap_servers=closed) as producer:
            producer.send("t", b"value")

    at_first_pause(monkeypatch, start)
    try:
        assert main(["tail", "-t", "t", "-o", "beginning", "-e", "-b", closed]) == 0
    finally:
        cluster.stop()
    assert capfd.readouterr() == ("value\n", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_waiting(
    number: signal.Signals, closed: str, file: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in (["produce", file, "-t", "t", "--json"], ["bench", "-t", "t"]):
        at_first_pause(monkeypatch, lambda: signal.raise_signal(number))
        assert main([*arguments, "-b", closed, "--wait", "inf"]) == 128 + number
        said = "interrupted" if number == signal.SIGINT else "terminated by SIGTERM"
        out, err = capfd.readouterr()
        assert said in err
        assert err.count("\n") == 1
        if "--json" in arguments:
            assert json.loads(out)["error"] == said


# --- a broker that answers, but no leader ---


def test_an_absent_topic_and_an_absent_partition(broker: RunningCluster, file: str, capfd: Capture) -> None:
    for options, words in (
        (["-t", "absent"], "topic absent"),
        (["-t", "t", "-p", "7"], "there is no partition 7, it has the partitions [0, 1]"),
    ):
        assert main(["produce", file, *options, "-b", broker.bootstrap_servers, "--wait", "0.2"]) == 1
        err = capfd.readouterr().err
        assert words in err
        assert "waited 0.2 s (--wait)" in err
        assert err.count("\n") == 1


def test_leaders_at_unreachable_addresses(
    broker: RunningCluster, closed: str, file: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like a broker in a container that advertises an address of its own network."""
    asked = Cluster.metadata

    def metadata(cluster: Cluster, topics: list[str], *, create: bool) -> object:
        answer = asked(cluster, topics, create=create)
        cluster._addresses = {node: ("127.0.0.1", int(closed.rpartition(":")[2])) for node in cluster._addresses}
        return answer

    monkeypatch.setattr(Cluster, "metadata", metadata)
    assert main(["produce", file, "-t", "t", "-b", broker.bootstrap_servers, "--wait", "0.2"]) == 1
    err = capfd.readouterr().err
    assert f"no leader can be reached: broker 1 at {closed}: Connection refused" in err
    assert "advertised.listeners" in err
    assert err.count("\n") == 1


def test_a_lost_broker_is_reported_once(file: str) -> None:
    with DevCluster.running() as cluster:
        times = ["-X", "delivery.timeout.ms=3000", "-X", "request.timeout.ms=1000", "-X", "linger.ms=0"]
        with command("produce", "-t", "t", "-b", cluster.bootstrap_servers, *times) as process:
            write(process, "one\n")
            cluster.requests.wait_for("Produce", timeout=30)
            cluster.stop()
            write(process, "two\n")
            code, out, err = finish(process)
    assert code == 1
    assert out.startswith("1 of 2 records acknowledged")
    lost, failed = err.splitlines()  # not a line every few seconds
    assert "closed" in lost
    assert failed.startswith("penstock: 1 record failed: ")
    assert "Connection refused" in failed


# --- all addresses at once ---


def test_a_silent_address_does_not_delay_the_others(broker: RunningCluster, silent: str, closed: str) -> None:
    cluster = Cluster(f"{silent},{closed},{broker.bootstrap_servers}", timeout_s=100)
    assert len(cluster.metadata(["t"]).brokers) == 1
    cluster.close()


def test_a_hanging_name_resolution_does_not_delay_the_others(
    broker: RunningCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *arguments: object, **options: object) -> object:
        if host == "slow.test":
            over.wait()
            raise socket.gaierror(-3, "Temporary failure in name resolution")
        return look_up(host, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        cluster = Cluster(f"slow.test:9092,{broker.bootstrap_servers}", timeout_s=100)
        assert len(cluster.metadata(["t"]).brokers) == 1
        cluster.close()
        with pytest.raises(NetworkError, match=r"slow\.test:9092: no answer within 0\.1 s"):
            Cluster("slow.test:9092", timeout_s=0.1).metadata(None)
    finally:
        over.set()


def test_the_error_lists_every_address_in_order(silent: str, closed: str) -> None:
    with pytest.raises(NetworkError) as raised:
        Cluster(f"{silent},{closed}", timeout_s=0.2).metadata(None)
    assert raised.value.message == (
        f"no broker can be reached: {silent}: no answer within 0.2 s; {closed}: Connection refused"
    )
