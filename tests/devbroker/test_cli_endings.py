"""Interrupted runs of the command line: signals, a full disk, a reader that leaves, a closed stream."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from cli_process import command, finish, write

from penstock import KafkaProducer
from penstock.cli import main
from penstock.devbroker import DevCluster, RunningCluster

Capture = pytest.CaptureFixture[str]

FULL = "penstock: stdout: No space left on device\n"


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningCluster]:
    with DevCluster.running(auto_create_topics=False) as cluster:
        yield cluster


@pytest.fixture
def topic(broker: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A topic of one partition, on the broker that the environment names; faults end with the test."""
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    name = f"topic-{uuid4().hex[:8]}"
    broker.create_topic(name)
    broker.requests.clear()
    yield name
    broker.faults.clear()


@pytest.fixture
def numbers(broker: RunningCluster, topic: str) -> str:
    """A topic that holds 0, 1 and 2."""
    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        for number in range(3):
            producer.send(topic, b"%d" % number)
    return topic


def await_log_end(broker: RunningCluster, topic: str, count: int) -> None:
    """Read the log's end again and again; the test's time limit ends it."""
    done = threading.Event()
    while sum(broker.end_offsets(topic).values()) < count:
        done.wait(0.01)


# --- signals ---


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "interrupted"),
        (signal.SIGTERM, "terminated by SIGTERM"),
        (signal.SIGHUP, "terminated by SIGHUP"),
    ],
)
def test_after_a_signal_sent_records_are_delivered_and_reported(
    topic: str, broker: RunningCluster, number: signal.Signals, said: str
) -> None:
    with command("produce", "-t", topic, "--json") as process:
        write(process, "one\ntwo\n")
        await_log_end(broker, topic, 2)
        process.send_signal(number)
        code, out, err = finish(process)
    assert code == 128 + number
    assert json.loads(out)["acknowledged"] == 2
    assert err == f"penstock: {said} (2 records were acknowledged)\n"


def test_a_hang_up_that_is_ignored_from_the_start_stays_ignored(topic: str, broker: RunningCluster) -> None:
    with command("produce", "-t", topic, prepare=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) as process:
        write(process, "one\n")
        await_log_end(broker, topic, 1)
        process.send_signal(signal.SIGHUP)
        write(process, "two\n")
        code, out, _ = finish(process)
    assert code == 0
    assert out.startswith("2 of 2 records acknowledged")


def test_a_second_ctrl_c_leaves_at_once(topic: str, broker: RunningCluster) -> None:
    broker.faults.add(api="Produce", topic=topic, drop="silent", times=1000)
    with command("produce", "-t", topic) as process:
        write(process, "one\n")
        broker.requests.wait_for("Produce")
        # Two signals at once may arrive as one: send again until the process ends, as a user does.
        presses = 0
        while process.poll() is None and presses < 40:
            process.send_signal(signal.SIGINT)
            presses += 1
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    assert process.returncode == 130


class CtrlCAtTheEnd(io.BytesIO):
    """A stdin that sends Ctrl-C at its end."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line:
            signal.raise_signal(signal.SIGINT)
        return line


def test_stuck_records_give_one_line_per_reason_and_no_log(
    broker: RunningCluster,
    topic: str,
    capfd: Capture,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker.create_topic(f"{topic}-wide", partitions=3)
    broker.faults.add(api="Produce", topic=f"{topic}-wide", drop="silent", times=1000)
    monkeypatch.setattr("penstock.cli.sending.DRAIN_S", 0.1)
    keys = b"".join(b"k%d:v\n" % number for number in range(30))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(CtrlCAtTheEnd(keys)))
    assert main(["produce", "-t", f"{topic}-wide", "-K", ":"]) == 130
    out, err = capfd.readouterr()
    assert out.startswith("0 of 30 records acknowledged")
    failed, interrupted = err.splitlines()
    assert failed.startswith("penstock: 30 records failed: the producer was closed")
    assert interrupted == "penstock: interrupted (0 records were acknowledged)"
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


# --- stdout ---


def test_a_full_stdout_gives_one_line_on_stderr_and_exit_1(numbers: str, tmp_path: Path) -> None:
    file = tmp_path / "in"
    file.write_bytes(b"x\ny\n")
    commands = (
        ["config"],
        ["topics", "list"],
        ["tail", "-t", numbers, "-o", "beginning", "-e"],
        ["broker", "--memory", "--port", "0"],
        ["--help"],
    )
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(Path("/dev/full").open("w"))
        # In parallel: an interpreter takes long to start.
        running = [stack.enter_context(command(*arguments, stdout=full)) for arguments in commands]
        sending = stack.enter_context(command("produce", str(file), "-t", numbers, stdout=full))
        for arguments, process in zip(commands, running, strict=True):
            code, _, err = finish(process)
            assert (code, err) == (1, FULL), arguments
        code, _, err = finish(sending)
    # The number of acknowledged records is still reported.
    assert code == 1
    summary, problem = err.splitlines(keepends=True)
    assert summary.startswith("penstock: 2 of 2 records acknowledged in ")
    assert problem == FULL


def test_a_closed_stdout_is_an_error_and_a_full_stderr_is_not(numbers: str) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(Path("/dev/full").open("w"))
        closed = [
            stack.enter_context(command(*arguments, prepare=lambda: os.close(1), stdout=None))
            for arguments in (["config"], ["tail", "-t", numbers, "-o", "beginning", "-e"])
        ]
        unheard = stack.enter_context(command("topics", "describe", "nowhere", stderr=full))
        for process in closed:
            code, _, err = finish(process)
            assert (code, err) == (1, "penstock: stdout: it is closed\n")
        assert finish(unheard)[0] == 1


def test_a_reader_that_leaves_early_is_not_a_failure(numbers: str) -> None:
    with command("config") as listing:
        assert listing.stdout is not None
        listing.stdout.close()
        listing.stdout = None
        code, _, err = finish(listing)
    assert (code, err) == (0, "")


# --- tail ---


def test_tail_follows_until_ctrl_c(numbers: str, broker: RunningCluster) -> None:
    with command("tail", "-t", numbers, "-o", "2") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2\n"
        with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
            producer.send(numbers, b"more")
        assert process.stdout.readline() == "more\n"
        process.send_signal(signal.SIGINT)
        assert finish(process) == (130, "", "")


@pytest.mark.parametrize("start", ["beginning", "end"])
def test_tail_ends_when_its_reader_leaves_also_without_records(numbers: str, start: str) -> None:
    with command("tail", "-t", numbers, "-o", start) as process:
        assert process.stdout is not None
        if start == "beginning":
            assert process.stdout.readline() == "0\n"
        process.stdout.close()
        process.stdout = None
        code, _, err = finish(process)
    assert (code, err) == (0, "")


# --- stdin ---


def test_a_closed_stdin_is_reported(topic: str) -> None:
    with command("produce", "-t", topic, prepare=lambda: os.close(0), stdin=None) as process:
        assert finish(process) == (2, "", "penstock: stdin is closed; name a FILE to send\n")
