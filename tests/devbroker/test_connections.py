"""Invalid bytes, connections that end, and fetches that wait."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from raw_client import CLIENT_ID, ClosedError, RawClient, batch_of, fetch_request, offsets_in, produce_request

from penstock.devbroker import DataFolderError, DevCluster, RunningCluster
from penstock.protocol.messages.fetch import FetchResponse
from penstock.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.produce import ProduceResponse
from penstock.protocol.versions import encode_request

BATCH = batch_of(b"x")


@pytest.mark.parametrize("size", [-1, 0, 7, 100 * 1024 * 1024 + 1, 2**31 - 1])
def test_an_impossible_frame_length_closes_at_once(
    size: int, client: RawClient, cluster: RunningCluster, caplog: pytest.LogCaptureFixture
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RawClient(cluster.bootstrap_servers) as hostile, caplog.at_level(logging.WARNING, "penstock.devbroker"):
        hostile.socket.sendall(struct.pack(">i", size))
        with pytest.raises(ClosedError):
            hostile.receive_frame()
    assert f"a frame announces {size} bytes" in caplog.text
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    assert client.produce("t", BATCH).error_code == 0


def test_a_large_frame_allocates_only_as_its_bytes_arrive(client: RawClient, cluster: RunningCluster) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    others = [RawClient(cluster.bootstrap_servers) for _ in range(20)]
    for other in others:
        other.socket.sendall(struct.pack(">i", 99 * 1024 * 1024) + b"only this")
    assert client.produce("t", BATCH).error_code == 0
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20 * 1024
    for other in others:
        other.close()


def test_the_reason_of_a_close_is_logged(client: RawClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "penstock.devbroker"):
        client.send_frame(struct.pack(">hhih", 9999, 0, 1, -1))
        with pytest.raises(ClosedError):
            client.receive_frame()
    assert "no API with key 9999" in caplog.text


def test_an_unsupported_kafka_api_closes_the_connection(client: RawClient) -> None:
    client.send_frame(struct.pack(">hhih", 11, 5, 1, -1))  # JoinGroup
    with pytest.raises(ClosedError):
        client.receive_frame()


def test_a_request_that_arrives_byte_by_byte_is_answered(client: RawClient) -> None:
    frame = encode_request(produce_request("t", BATCH), 9, 42, CLIENT_ID)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in struct.pack(">i", len(frame)) + frame:
        client.socket.sendall(bytes((byte,)))
    assert client.receive(ProduceResponse, 9)[0] == 42


def test_pipelined_requests_are_answered_in_order(client: RawClient) -> None:
    big = batch_of(b"x" * 700_000)
    received: list[tuple[int, int]] = []

    def receive() -> None:
        for _ in range(50):
            correlation_id, answer = client.receive(ProduceResponse, 9)
            received.append((correlation_id, answer.responses[0].partition_responses[0].base_offset))

    reader = threading.Thread(target=receive)
    reader.start()
    sent = [client.send(produce_request("t", big), 9) for _ in range(50)]
    reader.join()
    assert received == list(zip(sent, range(50), strict=True))


def test_unread_answers_do_not_pile_up(client: RawClient, cluster: RunningCluster) -> None:
    for _ in range(20):
        client.produce("t", batch_of(b"x" * 1_000_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with RawClient(cluster.bootstrap_servers) as lazy:
        cluster.requests.clear()
        for _ in range(100):
            lazy.send(fetch_request("t", 0, max_bytes=1 << 25, partition_max_bytes=1 << 25), 12)
        cluster.requests.wait_for("Fetch")
        assert client.produce("t", BATCH).error_code == 0
        assert cluster.requests.count("Fetch") < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 * 1024


def test_a_fetch_waits_until_records_arrive(client: RawClient, cluster: RunningCluster) -> None:
    with RawClient(cluster.bootstrap_servers) as waiting:
        began = time.monotonic()
        waiting.send(fetch_request("t", 0, max_wait_ms=60_000), 12)
        cluster.requests.wait_for("Fetch")
        client.produce("t", BATCH)
        _, answer = waiting.receive(FetchResponse, 12)
        assert offsets_in(answer.responses[0].partitions[0].records) == [(0, 0)]
        assert time.monotonic() - began < 10


def test_a_fetch_waits_for_min_bytes(client: RawClient, cluster: RunningCluster) -> None:
    with RawClient(cluster.bootstrap_servers) as waiting:
        waiting.send(fetch_request("t", 0, max_wait_ms=60_000, min_bytes=2 * len(BATCH)), 12)
        cluster.requests.wait_for("Fetch")
        client.produce("t", BATCH)
        client.produce("t", BATCH)
        _, answer = waiting.receive(FetchResponse, 12)
        assert offsets_in(answer.responses[0].partitions[0].records) == [(0, 0), (1, 1)]


def test_a_fetch_is_answered_after_max_wait_ms(client: RawClient) -> None:
    began = time.monotonic()
    part = client.fetch("t", 0, max_wait_ms=100)
    assert (part.error_code, offsets_in(part.records)) == (0, [])
    assert 0.09 < time.monotonic() - began < 5


def test_a_waiting_fetch_is_answered_when_its_topic_changes(client: RawClient, cluster: RunningCluster) -> None:
    with RawClient(cluster.bootstrap_servers) as waiting:
        waiting.send(fetch_request("t", 0, max_wait_ms=60_000), 12)
        cluster.requests.wait_for("Fetch")
        cluster.delete_topic("t")
        _, answer = waiting.receive(FetchResponse, 12)
        assert answer.responses[0].partitions[0].error_code == 3


def test_a_client_that_leaves_while_waiting_is_removed(client: RawClient, cluster: RunningCluster) -> None:
    partition = cluster._cluster.state.topics["t"].partitions[0]
    with RawClient(cluster.bootstrap_servers) as waiting:
        waiting.send(fetch_request("t", 0, max_wait_ms=2**31 - 1), 12)
        cluster.requests.wait_for("Fetch")
    deadline = time.monotonic() + 10
    while partition.waiters:
        client.metadata("t")  # a round trip through the broker's loop
        assert time.monotonic() < deadline


def test_groups_and_transactions_are_declined(client: RawClient) -> None:
    def find(kind: int, version: int) -> FindCoordinatorResponse:
        several = version >= 4
        request = FindCoordinatorRequest(
            key="" if several else "k", key_type=kind, coordinator_keys=("k",) if several else ()
        )
        return client.ask(request, FindCoordinatorResponse, version)

    assert [find(kind, 3).error_code for kind in (0, 1, 7)] == [15, 53, 42]
    assert [find(kind, 4).coordinators[0].error_code for kind in (0, 1, 7)] == [15, 53, 42]
    assert find(0, 0).error_code == 15
    request = InitProducerIdRequest(transactional_id="mine", transaction_timeout_ms=1000)
    assert client.ask(request, InitProducerIdResponse, 4).error_code == 53


def test_producer_ids_are_never_assigned_twice(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        with DevCluster.running(data_dir=tmp_path) as cluster, RawClient(cluster.bootstrap_servers) as client:
            for _ in range(3):
                request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1000)
                answer = client.ask(request, InitProducerIdResponse, 4)
                seen.append(answer.producer_id)
                assert (answer.error_code, answer.producer_epoch) == (0, 0)
    assert len(set(seen)) == 9


def test_a_folder_belongs_to_one_broker(tmp_path: Path) -> None:
    with DevCluster.running(data_dir=tmp_path), pytest.raises(DataFolderError, match="in use"):
        DevCluster.running(data_dir=tmp_path).start()
    with DevCluster.running(data_dir=tmp_path):
        pass


def test_a_taken_port_is_an_error_and_releases_the_folder(cluster: RunningCluster, tmp_path: Path) -> None:
    port = int(cluster.bootstrap_servers.rsplit(":", 1)[1])
    with pytest.raises(OSError, match="in use"):
        DevCluster.running(port=port, data_dir=tmp_path).start()
    with DevCluster.running(data_dir=tmp_path):
        pass


def test_a_second_stop_does_nothing(cluster: RunningCluster) -> None:
    cluster.stop()
    cluster.stop()
    with pytest.raises(RuntimeError, match="does not run"):
        cluster.topics()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_broker_process_stops_cleanly(number: signal.Signals, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from penstock.devbroker import DevCluster, serve\n"
        "serve(DevCluster(data_dir=sys.argv[1], fsync=50), lambda servers: print(servers, flush=True))\n"
        "print('stopped')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    try:
        servers = process.stdout.readline().strip()
        with RawClient(servers) as client:
            client.create_topic("kept")
            client.produce("kept", BATCH)
            client.send(fetch_request("kept", 1, max_wait_ms=60_000), 12)
            process.send_signal(number)
            out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (out, err, process.returncode) == ("stopped\n", "", 0)
    with DevCluster.running(data_dir=tmp_path) as again:
        assert again.end_offsets("kept") == {0: 1}


def test_a_killed_broker_keeps_acknowledged_records(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from penstock.devbroker import DevCluster, serve\n"
        "serve(DevCluster(data_dir=sys.argv[1], fsync='always'), lambda servers: print(servers, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    with process.stdout, RawClient(process.stdout.readline().strip()) as client:
        topic_id = client.create_topic("kept", 3)
        offsets = [client.produce("kept", BATCH, partition=2).base_offset for _ in range(10)]
        epoch = client.metadata("kept").topics[0].partitions[2].leader_epoch
        process.kill()
        process.wait()
    with DevCluster.running(data_dir=tmp_path) as again, RawClient(again.bootstrap_servers) as client:
        topic = client.metadata("kept").topics[0]
        assert (offsets, again.end_offsets("kept")) == (list(range(10)), {0: 0, 1: 0, 2: 10})
        assert (topic.topic_id, topic.partitions[2].leader_epoch) == (topic_id, epoch + 1)
