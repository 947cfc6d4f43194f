"""The command line against the embedded broker: records arrive unchanged, and bad input is always reported."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
from cli_process import command
from pyarrow import feather, parquet

from penstock.cli import main
from penstock.devbroker import DevCluster, RunningCluster


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningCluster]:
    with DevCluster.running(auto_create_topics=False) as cluster:
        yield cluster


@pytest.fixture
def topic(broker: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """A topic with three partitions, on the broker that the environment names."""
    monkeypatch.setenv("PENSTOCK_BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    name = f"topic-{uuid4().hex[:8]}"
    broker.create_topic(name, partitions=3)
    return name


Capture = pytest.CaptureFixture[str]


def read(topic: str, capfd: Capture) -> list[dict[str, Any]]:
    """The records of the topic, by partition and offset."""
    capfd.readouterr()
    assert main(["tail", "-t", topic, "-o", "beginning", "-e", "--json"]) == 0
    return sorted(map(json.loads, capfd.readouterr().out.splitlines()), key=lambda r: (r["partition"], r["offset"]))


def values(topic: str, capfd: Capture) -> list[str]:
    return [record["value"] for record in read(topic, capfd)]


def write(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


# --- produce ---


def test_lines_with_keys_and_headers(topic: str, tmp_path: Path, capfd: Capture) -> None:
    file = write(tmp_path, "in.txt", "a:1\nb:ö\na:\n".encode())
    assert main(["produce", file, "-t", topic, "-K", ":", "-p", "1", "-H", "h=x=y", "-H", "h="]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("3 of 3 records acknowledged")
    assert err == ""
    headers = [{"name": "h", "value": "x=y"}, {"name": "h", "value": ""}]
    assert [(r["partition"], r["key"], r["value"], r["headers"]) for r in read(topic, capfd)] == [
        (1, "a", "1", headers),
        (1, "b", "ö", headers),
        (1, "a", "", headers),
    ]


def test_lines_from_stdin(topic: str, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\ntwo\n")))
    assert main(["produce", "-", "-t", topic, "-p", "0"]) == 0
    assert values(topic, capfd) == ["one", "two"]


def test_csv_as_json_with_numbers_nulls_and_keys(topic: str, tmp_path: Path, capfd: Capture) -> None:
    file = write(tmp_path, "in.csv", b"tail,delay,note\nN1,-4.50,x\nNA,NA,007\n")
    options = ["--format", "csv", "--key", "tail", "--infer", "--null", "NA", "-p", "2"]
    assert main(["produce", file, "-t", topic, *options]) == 0
    assert [(record["key"], record["value"]) for record in read(topic, capfd)] == [
        ("N1", '{"tail":"N1","delay":-4.50,"note":"x"}'),
        (None, '{"tail":null,"delay":null,"note":"007"}'),
    ]


def test_json_lines_are_sent_unchanged(topic: str, tmp_path: Path, capfd: Capture) -> None:
    file = write(tmp_path, "in.jsonl", b'{"id": 7}\n{"id":"x"}\n')
    assert main(["produce", file, "-t", topic, "--format", "jsonl", "--key", "id", "-p", "0"]) == 0
    assert [(record["key"], record["value"]) for record in read(topic, capfd)] == [
        ("7", '{"id": 7}'),
        ("x", '{"id":"x"}'),
    ]


COLUMNS = {"id": [7, 8, None], "name": ["x", None, "ü"]}
ROWS = ['{"id":7,"name":"x"}', '{"id":8,"name":null}', '{"id":null,"name":"ü"}']


def _parquet(path: Path) -> None:
    parquet.write_table(pa.table(COLUMNS), path, row_group_size=2)


def _feather(path: Path) -> None:
    feather.write_feather(pa.table(COLUMNS), path)


def _stream(path: Path) -> None:
    table = pa.table(COLUMNS)
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize(("format", "fill"), [("parquet", _parquet), ("arrow", _feather), ("arrow", _stream)])
@pytest.mark.parametrize("rate", [[], ["--rate", "100000"]])
def test_parquet_and_arrow_rows_as_json(
    topic: str, tmp_path: Path, capfd: Capture, format: str, fill: Callable[[Path], None], rate: list[str]
) -> None:
    path = tmp_path / "in"
    fill(path)
    options = ["--format", format, "--key", "name", "-p", "0", "-H", "a=1", *rate]
    assert main(["produce", str(path), "-t", topic, "--json", *options]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["records"], summary["acknowledged"], summary["partitions"]) == (3, 3, {"0": 3})
    assert summary["bytes"] == sum(len(row.encode()) for row in ROWS) + 1 + 2
    records = read(topic, capfd)
    assert [record["value"] for record in records] == ROWS
    assert [record["key"] for record in records] == ["x", None, "ü"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "parquet", "--key", "nome"], 'in: key: there is no column "nome"; there are: id, name'),
        (["--format", "arrow"], "in: not an Arrow file or stream, or damaged"),
        (["--format", "parquet", "--infer"], "--infer does not go with --format parquet"),
    ],
)
def test_errors_about_parquet_files_name_file_and_reason(
    topic: str, tmp_path: Path, capfd: Capture, options: list[str], words: str
) -> None:
    _parquet(tmp_path / "in")
    assert main(["produce", str(tmp_path / "in"), "-t", topic, *options]) != 0
    assert words in capfd.readouterr().err


def test_without_pyarrow_the_error_names_the_extra(
    topic: str, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _parquet(tmp_path / "in")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["produce", str(tmp_path / "in"), "-t", topic, "--format", "parquet"]) == 2
    assert "pip install 'penstock[arrow]'" in capfd.readouterr().err


def test_a_summary_as_json(topic: str, tmp_path: Path, capfd: Capture) -> None:
    file = write(tmp_path, "in.txt", b"".join(b"%d:v\n" % number for number in range(50)))
    assert main(["produce", file, "-t", topic, "-K", ":", "--json", "--rate", "100000"]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["records"], summary["acknowledged"], summary["failed"], summary["bytes"]) == (50, 50, 0, 140)
    assert sum(summary["partitions"].values()) == 50
    assert summary["latency_ms"]["p50"] <= summary["latency_ms"]["p99"]
    assert summary["records_per_second"] > 0
    assert summary["error"] is None


def test_settings_come_from_a_file_and_from_options(topic: str, tmp_path: Path, capfd: Capture) -> None:
    # The Java serializer in the file is ignored: the values are bytes already.
    text = b"linger.ms=1\nmax.request.size=40\n"
    text += b"key.serializer=org.apache.kafka.common.serialization.StringSerializer\n"
    config = write(tmp_path, "producer.properties", text)
    file = write(tmp_path, "in.txt", b"x" * 200 + b"\n")
    assert main(["produce", file, "-t", topic, "--config", config]) == 1
    assert "max.request.size" in capfd.readouterr().err
    assert main(["produce", file, "-t", topic, "--config", config, "-X", "max_request_size=1000"]) == 0


def test_a_file_of_settings_may_name_the_brokers(
    topic: str, broker: RunningCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PENSTOCK_BOOTSTRAP_SERVERS")
    config = write(tmp_path, "producer.properties", f"bootstrap.servers={broker.bootstrap_servers}".encode())
    file = write(tmp_path, "in.txt", b"v\n")
    assert main(["produce", file, "-t", topic, "--config", config]) == 0


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("lines", b"1\n2\n\xff\n", "in:3: not UTF-8: byte 0xff at position 1"),
        ("csv", b"a,b\n1,2\n3,4\n5\n", "in:4: 1 cells in a row, the header has 2"),
        ("jsonl", b"1\n2\n{\n", "in:3: not JSON: "),
    ],
)
def test_bad_input_ends_with_file_line_and_acknowledged_count(
    topic: str, tmp_path: Path, capfd: Capture, format: str, data: bytes, message: str
) -> None:
    file = write(tmp_path, "in", data)
    assert main(["produce", file, "-t", topic, "--format", format, "-p", "0"]) == 1
    out, err = capfd.readouterr()
    assert message in err
    assert "(2 records were acknowledged)" in err
    assert "Traceback" not in err
    assert out.startswith("2 of 2 records acknowledged")
    assert len(values(topic, capfd)) == 2


def test_a_record_too_large_is_named_with_its_line(topic: str, tmp_path: Path, capfd: Capture) -> None:
    file = write(tmp_path, "in", b"small\n" + b"x" * 2000 + b"\n")
    assert main(["produce", file, "-t", topic, "-X", "max.request.size=1000"]) == 1
    err = capfd.readouterr().err
    assert f"{file}:2: " in err
    assert "max.request.size" in err
    assert "(1 records were acknowledged)" in err


def test_an_absent_topic_is_an_error(topic: str, tmp_path: Path, capfd: Capture) -> None:
    file = write(tmp_path, "in", b"v\n")
    assert main(["produce", file, "-t", "nowhere", "-X", "max.block.ms=100"]) == 1
    err = capfd.readouterr().err
    assert "nowhere" in err
    assert "(0 records were acknowledged)" in err


def test_records_that_the_broker_refuses_are_counted(
    topic: str, broker: RunningCluster, tmp_path: Path, capfd: Capture
) -> None:
    broker.faults.add(api="Produce", topic=topic, error=10)  # MESSAGE_TOO_LARGE of one record: it cannot be split
    file = write(tmp_path, "in", b"v\n")
    assert main(["produce", file, "-t", topic, "--json"]) == 1
    out, err = capfd.readouterr()
    summary = json.loads(out)
    assert (summary["acknowledged"], summary["failed"]) == (0, 1)
    assert summary["errors"][0]["records"] == 1
    assert f"1 record failed: {summary['errors'][0]['error']}" in err


@pytest.mark.parametrize(
    ("format", "data"),
    [("csv", b"\na,b\n1,2\n\n3,4\n \t\n"), ("jsonl", b"\n1\n\r\n2\n   \n")],
)
def test_blank_json_lines_are_skipped_and_counted(
    topic: str, tmp_path: Path, capfd: Capture, format: str, data: bytes
) -> None:
    file = write(tmp_path, "in", data)
    assert main(["produce", file, "-t", topic, "--format", format, "-p", "0"]) == 0
    out, err = capfd.readouterr()
    assert out.startswith("2 of 2 records acknowledged")
    assert out.endswith("; 3 blank lines skipped\n")
    assert err == ""
    assert main(["produce", file, "-t", topic, "--format", format, "-p", "0", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["blank_lines"] == 3
    assert len(values(topic, capfd)) == 4


# --- tail ---


@pytest.fixture
def numbers(topic: str, tmp_path: Path, capfd: Capture) -> str:
    """A topic whose partition 0 holds 0 to 9, with keys."""
    file = write(tmp_path, "numbers", b"".join(b"k%d:%d\n" % (number, number) for number in range(10)))
    assert main(["produce", file, "-t", topic, "-K", ":", "-p", "0"]) == 0
    capfd.readouterr()
    return topic


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-o", "beginning", "-c", "3"], "0\n1\n2\n"),
        (["-o", "7", "-e"], "7\n8\n9\n"),
        (["-o", "-2", "-e"], "8\n9\n"),
        (["-o", "end", "-e"], ""),
        (["-o", "-1", "-c", "1", "-K", "="], "k9=9\n"),
        (["-o", "beginning", "-e", "-p", "1"], ""),
        (["-o", "beginning", "-c", "0"], ""),
    ],
)
def test_tail_begins_and_ends_where_the_options_say(
    numbers: str, capfd: Capture, options: list[str], expected: str
) -> None:
    assert main(["tail", "-t", numbers, *options]) == 0
    assert capfd.readouterr() == (expected, "")


def test_tail_prints_bytes_that_are_not_utf_8_as_base64(topic: str, broker: RunningCluster, capfd: Capture) -> None:
    from penstock import KafkaProducer

    with KafkaProducer(bootstrap_servers=broker.bootstrap_servers) as producer:
        producer.send(topic, b"\xff", partition=0, headers=[("h", None)])
    (record,) = read(topic, capfd)
    assert record["value_base64"] == "/w=="
    assert record["headers"] == [{"name": "h", "value": None}]
    assert record["key"] is None


def test_tail_of_an_absent_topic_or_a_bad_offset(topic: str, capfd: Capture) -> None:
    assert main(["tail", "-t", topic, "-o", "middle"]) == 2
    assert "-o middle" in capfd.readouterr().err
    assert main(["tail", "-t", topic, "-p", "7", "-e"]) == 1
    assert "partitions [0, 1, 2]" in capfd.readouterr().err


# --- topics ---


def test_topics_are_created_described_listed_and_deleted(topic: str, capfd: Capture) -> None:
    name = f"{topic}-new"
    assert main(["topics", "create", name, "-p", "2", "-c", "max.message.bytes=5000"]) == 0
    assert capfd.readouterr() == ("", f"penstock: created topic {name}\n")
    assert main(["topics", "describe", name]) == 0
    assert capfd.readouterr().out == "0\t1\t1\t1\n1\t1\t1\t1\nmax.message.bytes=5000\n"
    assert main(["topics", "describe", name, "--json"]) == 0
    described = json.loads(capfd.readouterr().out)
    assert described["partitions"][1] == {"partition": 1, "leader": 1, "replicas": [1], "in_sync": [1], "error": None}
    assert described["configs"] == {"max.message.bytes": "5000"}
    assert main(["topics", "list"]) == 0
    assert f"{name}\t2\t1" in capfd.readouterr().out.splitlines()
    assert main(["topics", "delete", name, "nowhere"]) == 1
    err = capfd.readouterr().err
    assert f"deleted topic {name}" in err
    assert "nowhere" in err
    assert main(["topics", "list", "--json"]) == 0
    assert name not in [json.loads(line)["name"] for line in capfd.readouterr().out.splitlines()]


def test_topic_commands_report_the_brokers_errors(topic: str, capfd: Capture) -> None:
    for arguments, message in (
        (["create", topic], "TOPIC_ALREADY_EXISTS"),
        (["create", "bad name"], "INVALID_TOPIC"),
        (["create", "x", "-r", "9"], "INVALID_REPLICATION_FACTOR"),
        (["describe", "nowhere"], "UNKNOWN_TOPIC_OR_PARTITION"),
    ):
        assert main(["topics", *arguments]) == 1
        assert message in capfd.readouterr().err


# --- broker and --dev ---


def test_the_broker_runs_in_the_foreground_until_ctrl_c(tmp_path: Path) -> None:
    with command("broker", "--port", "0", "--dir", str(tmp_path / "data")) as process:
        assert process.stdout is not None
        servers = process.stdout.readline().strip()
        assert main(["topics", "create", "t", "-b", servers]) == 0
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in err


def test_the_broker_stops_when_its_parent_process_ends() -> None:
    with command("broker", "--port", "0", "--memory", "--until-eof") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        process.stdin.close()
        process.stdin = None
        process.communicate(timeout=30)
    assert process.returncode == 0


def test_a_port_that_is_taken_is_an_error_without_a_traceback(broker: RunningCluster, capfd: Capture) -> None:
    port = broker.bootstrap_servers.rpartition(":")[2]
    assert main(["broker", "--port", port, "--memory"]) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert main(["broker", "--memory", "--dir", "x"]) == 2


def test_dev_keeps_records_in_its_folder(tmp_path: Path, capfd: Capture) -> None:
    data = str(tmp_path / "data")
    file = write(tmp_path, "in", b"one\ntwo\n")
    assert main(["produce", file, "-t", "t", "--dev", data]) == 0
    capfd.readouterr()
    assert main(["tail", "-t", "t", "-o", "beginning", "-e", "--dev", data]) == 0
    assert capfd.readouterr().out == "one\ntwo\n"


def test_dev_on_a_file_is_an_error(tmp_path: Path, capfd: Capture) -> None:
    assert main(["topics", "list", f"--dev={write(tmp_path, 'file', b'')}"]) == 1
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--threads", "3", "--keys", "50"],
        ["--rate", "20000"],
        ["--asyncio", "20", "--keys", "50"],
        ["--asyncio", "3", "--rate", "20000"],
        ["--bulk", "300", "--threads", "2", "--keys", "50"],
        ["--bulk", "100", "--rate", "20000"],
    ],
    ids=["closed", "open", "asyncio", "asyncio-open", "bulk", "bulk-open"],
)
def test_bench_sends_as_many_records_as_its_report_states(
    options: list[str], topic: str, tmp_path: Path, capfd: Capture
) -> None:
    page, picture = tmp_path / "report.html", tmp_path / "report.svg"
    assert main(["bench", "-t", topic, "-n", "4000", "--size", "50", "--json", "--report", str(page), *options]) == 0
    summary = json.loads(capfd.readouterr().out)
    assert (summary["records"], summary["failed"], summary["error"]) == (4_000, 0, None)
    assert summary["latency_ms"]["p50"] > 0
    records = read(topic, capfd)
    assert len(records) == 4_000
    assert {len(record["value"]) for record in records} == {50}
    assert len({record["key"] for record in records}) == (50 if "--keys" in options else 1)
    assert "<svg" in page.read_text()
    assert main(["bench", "-t", topic, "-n", "10", "--report", str(picture)]) == 0
    assert picture.read_text().startswith("<svg")
    assert "10 of 10 records acknowledged" in capfd.readouterr().out


@pytest.mark.parametrize("options", [[], ["--asyncio", "3"]], ids=["thread", "asyncio"])
def test_bench_says_what_limited_a_run(options: list[str], topic: str, capfd: Capture) -> None:
    """Which limit it is depends on the machine; that its figures are those of the run does not."""
    assert main(["bench", "-t", topic, "--seconds", "1.2", "--json", *options]) == 0
    limit = json.loads(capfd.readouterr().out)["limit"]
    assert all(limit[name] for name in ("by", "why", "change"))
    figures = limit["figures"]
    assert figures["seconds"] >= 1.2
    for name in ("sender_cpu", "process_cpu", "io_busy", "in_flight", "latency_ms", "round_trip_ms", "batch_bytes"):
        assert figures[name] > 0, name
    assert figures["most_in_flight"] == 5
    assert main(["bench", "-t", topic, "-n", "10", *options]) == 0
    assert "too short to tell" in capfd.readouterr().out


@pytest.mark.parametrize("number", ["inf", "1e300", "1e10"])
def test_bench_accepts_infinite_seconds_and_rate(number: str, topic: str, capfd: Capture) -> None:
    assert main(["bench", "-t", topic, "-n", "100", "--seconds", number, "--rate", number, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["records"] == 100


@pytest.mark.parametrize("number", ["nan", "-1", "-inf", "soon"])
@pytest.mark.parametrize("command", [["bench", "--seconds"], ["bench", "--rate"], ["produce", "--rate"]])
def test_invalid_seconds_and_rates_are_refused(command: list[str], number: str, topic: str, capfd: Capture) -> None:
    assert main([*command, number, "-t", topic]) == 2
    assert command[1] in capfd.readouterr().err


def test_bench_refuses_impossible_options(topic: str, tmp_path: Path, capfd: Capture) -> None:
    assert main(["bench", "-t", topic, "--report", str(tmp_path / "report.pdf")]) == 2
    assert main(["bench", "-t", topic, "--report", str(tmp_path / "none" / "report.svg")]) == 2
    for option in ("--threads", "--bulk"):
        assert main(["bench", "-t", topic, "--asyncio", "2", option, "2"]) == 2
        assert option in capfd.readouterr().err
    assert main(["bench", "-t", topic, "--compression", "best"]) == 2
    assert "compression.type" in capfd.readouterr().err
    for senders in ("--threads", "--asyncio"):
        assert main(["bench", "-t", "absent", "-n", "10", "-X", "max.block.ms=200", senders, "1"]) == 1
        assert "absent" in capfd.readouterr().err


@pytest.mark.parametrize("options", [["--rate", "1000"], ["--bulk", "5"], ["--asyncio", "2"]], ids=" ".join)
def test_bench_counts_failed_records(options: list[str], broker: RunningCluster, topic: str, capfd: Capture) -> None:
    """Whether a callback, a result, or nothing else reports the failure."""
    small = f"{topic}-small"
    broker.create_topic(small, configs={"max.message.bytes": "200"})
    quick = ["-X", "retry.backoff.ms=1", "-X", "retry.backoff.max.ms=1"]  # batches behind a split back off
    assert main(["bench", "-t", small, "-n", "20", "--size", "1000", "--json", *quick, *options]) == 1
    assert json.loads(capfd.readouterr().out)["failed"] == 20
