"""`penstock` as a process, with bytes that are not UTF-8 on its command line, and terminals with few characters."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli_process import command, finish

from penstock import KafkaProducer
from penstock.cli import main
from penstock.devbroker import DevCluster, RunningCluster

Capture = pytest.CaptureFixture[str]

NAME = os.fsdecode(b"caf\xe9.csv")


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningCluster]:
    with DevCluster.running(auto_create_topics=False) as cluster:
        cluster.create_topic("t", partitions=1)
        yield cluster


@pytest.fixture(autouse=True)
def _brokers_in_the_environment(broker: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", broker.bootstrap_servers)


def test_the_bytes_of_an_argument_are_shown() -> None:
    runs = [
        ["produce", "-t", "t", "-K", os.fsdecode(b"\xb1")],
        ["tail", "-t", "t", "-e", "-K", os.fsdecode(b"\xb1")],
        [os.fsdecode(b"\xb1")],
    ]
    with ExitStack() as stack:
        for process in [stack.enter_context(command(*arguments)) for arguments in runs]:
            code, out, err = finish(process)
            assert (code, out, err.count("\n")) == (2, "", 1)
            assert err.endswith("\\xb1: not UTF-8\n")


def test_files_may_have_any_name(broker: RunningCluster, tmp_path: Path, capfd: Capture) -> None:
    (tmp_path / NAME).write_bytes(b"a;b\n1;2\n")
    settings = tmp_path / os.fsdecode(b"caf\xe9.properties")
    settings.write_text("linger.ms=0\n")
    options = ["--format", "csv", "--config", str(settings), "-t", "t"]
    assert main(["produce", str(tmp_path / NAME), *options, "--delimiter", ";"]) == 0
    assert capfd.readouterr().err == ""
    assert main(["produce", str(tmp_path / NAME), *options, "--key", "a", "--json"]) == 1
    out, err = capfd.readouterr()
    assert "caf\\xe9.csv:1: the header is one column" in err
    assert json.loads(out)["error"].encode(errors="surrogateescape").count(b"caf\xe9.csv:1: there is no column") == 1
    report = tmp_path / os.fsdecode(b"caf\xe9.html")
    assert main(["bench", "-t", "t", "-n", "10", "--report", str(report)]) == 0
    assert "<svg" in report.read_text()


def test_data_folders_may_have_any_name(tmp_path: Path, capfd: Capture) -> None:
    folder = str(tmp_path / os.fsdecode(b"d\xe9v"))
    (tmp_path / "in").write_bytes(b"value\n")
    assert main(["produce", str(tmp_path / "in"), "-t", "t", "--dev", folder]) == 0
    assert "embedded broker on " in capfd.readouterr().err
    assert main(["tail", "-t", "t", "-o", "beginning", "-e", f"--dev={folder}"]) == 0
    assert capfd.readouterr().out == "value\n"
    with command("broker", "--port", "0", "--dir", folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("127.0.0.1:")
        process.send_signal(signal.SIGINT)
        code, _, err = finish(process)
    assert code == 0
    assert "d\\xe9v" in err


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_ascii_terminal_gets_escapes_and_no_traceback(
    environment: dict[str, str], broker: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = f"text-{len(environment)}"
    broker.create_topic(topic)
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        producer.send(topic, "größe".encode())
    (tmp_path / "in.csv").write_bytes("größe\n1,2\n".encode())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    produce = ["produce", str(tmp_path / "in.csv"), "-t", "t", "--format", "csv", "--key", "grösse", "--json"]
    with ExitStack() as stack:
        config, help_, failed, tail = (
            finish(stack.enter_context(command(*arguments)))
            for arguments in (["config"], ["--help"], produce, ["tail", "-t", topic, "-o", "0", "-e", "--json"])
        )
    assert config[0] == 0
    assert "\\u2713 works" in config[1]
    assert (help_[0], help_[2]) == (0, "")
    assert failed[0] == 1
    assert "grösse" in json.loads(failed[1])["error"]
    assert "gr\\xf6sse" in failed[2]
    assert (tail[0], json.loads(tail[1])["value"]) == (0, "größe")  # a value is written byte for byte
