"""Several nodes as one cluster: leaders, their moves, nodes that stop and start."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw_client import RawClient, batch_of, fetch_request, offsets_in, produce_request, sequenced

from penstock.devbroker import DevCluster, ErrorCode, RequestError, RunningCluster
from penstock.protocol.messages.fetch import FetchResponse
from penstock.protocol.messages.produce import ProduceResponse

BATCH = batch_of(b"x")


@pytest.fixture
def three() -> Iterator[RunningCluster]:
    with DevCluster.running(nodes=3, racks=("a", "b", "c")) as cluster:
        cluster.create_topic("t", partitions=6, replication_factor=2)
        yield cluster


def node(cluster: RunningCluster, number: int) -> RawClient:
    return RawClient(cluster.bootstrap_servers.split(",")[number - 1])


@pytest.mark.parametrize("turns", range(6))
def test_a_connection_that_comes_while_its_node_stops_is_closed(turns: int) -> None:
    async def stop_during_connect() -> bytes:
        async with DevCluster() as cluster:
            host, _, port = cluster.bootstrap_servers.partition(":")
            with socket.create_connection((host, int(port))) as client:
                client.setblocking(False)
                for _ in range(turns):
                    await asyncio.sleep(0)  # one more loop iteration between the listener and the protocol
                await cluster.stop()
                try:
                    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, 1), 5)
                except ConnectionResetError:
                    return b""

    assert asyncio.run(stop_during_connect()) == b""


def test_leaders_are_spread_and_all_nodes_agree(three: RunningCluster) -> None:
    seen = []
    for number in (1, 2, 3):
        with node(three, number) as client:
            answer = client.metadata("t")
        seen.append([(part.leader_id, part.replica_nodes, part.isr_nodes) for part in answer.topics[0].partitions])
        ports = [f"{broker.host}:{broker.port}" for broker in answer.brokers]
        assert ",".join(ports) == three.bootstrap_servers
        assert [broker.rack for broker in answer.brokers] == ["a", "b", "c"]
    assert seen[0] == seen[1] == seen[2]
    assert sorted(leader for leader, _, _ in seen[0]) == [1, 1, 2, 2, 3, 3]
    assert all(len(replicas) == 2 and replicas == in_sync for _, replicas, in_sync in seen[0])


@pytest.mark.parametrize("version", range(3, 13))
def test_the_wrong_node_names_the_right_one(version: int, three: RunningCluster) -> None:
    leader, epoch = three.leaders("t")[0]
    with node(three, leader % 3 + 1) as client:
        answer = client.ask(produce_request("t", BATCH), ProduceResponse, version)
    part = answer.responses[0].partition_responses[0]
    assert part.error_code == 6
    if version < 10:
        assert answer.node_endpoints == ()
        return
    assert (part.current_leader.leader_id, part.current_leader.leader_epoch) == (leader, epoch)
    (endpoint,) = answer.node_endpoints
    assert f"{endpoint.host}:{endpoint.port}" == three.bootstrap_servers.split(",")[leader - 1]


def test_fetching_from_the_wrong_node_names_the_right_one(three: RunningCluster) -> None:
    leader, epoch = three.leaders("t")[0]
    with node(three, leader % 3 + 1) as client:
        topic_id = client.metadata("t").topics[0].topic_id
        answer = client.ask(fetch_request(topic_id, 0, max_wait_ms=60_000), FetchResponse, 17)
    part = answer.responses[0].partitions[0]
    assert (part.error_code, part.current_leader.leader_id, part.current_leader.leader_epoch) == (6, leader, epoch)
    assert [endpoint.node_id for endpoint in answer.node_endpoints] == [leader]


def test_a_leader_moves_with_its_records_and_its_producers(three: RunningCluster) -> None:
    (old, epoch), batches = three.leaders("t")[0], [sequenced(2, first, producer_id=1) for first in (0, 2)]
    with node(three, old) as client:
        assert client.produce("t", batches[0]).base_offset == 0
        new = next(number for number in client.metadata("t").topics[0].partitions[0].replica_nodes if number != old)
        three.move_leader("t", 0, new)
        assert client.produce("t", batches[1]).error_code == 6
        assert client.metadata("t").topics[0].partitions[0].leader_epoch == epoch + 1
    with node(three, new) as client:
        assert [client.produce("t", batch).base_offset for batch in (batches[0], batches[1])] == [0, 2]
        assert offsets_in(client.fetch("t", 0).records) == [(0, 1), (2, 3)]
        stale = client.fetch("t", 0, current_leader_epoch=epoch)
        assert (stale.error_code, stale.current_leader.leader_epoch) == (74, epoch + 1)


def test_a_waiting_fetch_is_answered_when_the_leader_moves(three: RunningCluster) -> None:
    leader, _ = three.leaders("t")[0]
    with node(three, leader) as client:
        other = next(n for n in client.metadata("t").topics[0].partitions[0].replica_nodes if n != leader)
        client.send(fetch_request("t", 0, max_wait_ms=60_000), 12)
        three.requests.wait_for("Fetch")
        three.move_leader("t", 0, other)
        part = client.receive(FetchResponse, 12)[1].responses[0].partitions[0]
    assert (part.error_code, part.current_leader.leader_id) == (6, other)


def test_only_a_running_replica_can_lead(three: RunningCluster) -> None:
    with node(three, 1) as client:
        replicas = client.metadata("t").topics[0].partitions[0].replica_nodes
    (outsider,) = {1, 2, 3} - set(replicas)
    for partition, number in ((0, outsider), (99, 1)):
        with pytest.raises(ValueError, match=r"t-0|t-99"):
            three.move_leader("t", partition, number)


def test_other_nodes_lead_after_a_stop_and_also_after_the_restart(three: RunningCluster) -> None:
    before = three.leaders("t")
    addresses = three.bootstrap_servers
    three.stop_node(2)
    during = three.leaders("t")
    for index, (leader, epoch) in before.items():
        assert (during[index] == (leader, epoch)) == (leader != 2)
    with pytest.raises(ConnectionRefusedError):
        node(three, 2)
    with node(three, 1) as client:
        answer = client.metadata("t")
        assert [broker.node_id for broker in answer.brokers] == [1, 3]
        assert all(2 in part.replica_nodes or not part.offline_replicas for part in answer.topics[0].partitions)
        assert {part.offline_replicas for part in answer.topics[0].partitions} == {(), (2,)}
    three.start_node(2)
    assert (three.leaders("t"), three.bootstrap_servers) == (during, addresses)
    with node(three, 2) as client:
        assert len(client.metadata("t").brokers) == 3


def test_a_partition_without_running_replicas_has_no_leader(three: RunningCluster) -> None:
    three.create_topic("alone", replication_factor=1)
    leader, epoch = three.leaders("alone")[0]
    three.stop_node(leader)
    with node(three, leader % 3 + 1) as client:
        part = client.metadata("alone").topics[0].partitions[0]
        assert (part.error_code, part.leader_id) == (ErrorCode.LEADER_NOT_AVAILABLE, -1)
        refused = client.ask(produce_request("alone", BATCH), ProduceResponse, 12)
        assert refused.responses[0].partition_responses[0].error_code == 6
    three.start_node(leader)
    assert three.leaders("alone") == {0: (leader, epoch + 2)}


def test_acks_all_needs_enough_running_replicas(three: RunningCluster) -> None:
    three.create_topic("safe", replication_factor=3, configs={"min.insync.replicas": "2"})
    codes = []
    for stop in (None, *(n for n in (1, 2, 3) if n != three.leaders("safe")[0][0])):
        if stop is not None:
            three.stop_node(stop)
        with node(three, three.leaders("safe")[0][0]) as client:
            codes.append([client.produce("safe", BATCH, acks=acks).error_code for acks in (-1, 1)])
    assert codes == [[0, 0], [0, 0], [19, 0]]


def test_a_fault_for_one_node_applies_to_that_node_only(three: RunningCluster) -> None:
    three.faults.add(api="Metadata", node=2, error=5)
    codes = []
    for number in (1, 2, 2):
        with node(three, number) as client:
            codes.append(client.metadata("t").topics[0].error_code)
    assert codes == [0, 5, 0]
    assert three.requests.count("Metadata", node=2) == 2


def test_a_thousand_partitions_are_created_quickly(tmp_path: Path) -> None:
    for folder in (None, tmp_path):
        with DevCluster.running(nodes=3, data_dir=folder) as cluster, RawClient(cluster.bootstrap_servers) as client:
            began = time.monotonic()
            cluster.create_topic("big", partitions=1000)
            assert len(client.metadata("big").topics[0].partitions) == 1000
            cluster.move_leaders({("big", number): (number + 1) % 3 + 1 for number in range(1000)})
            assert time.monotonic() - began < 1


def test_topics_records_and_epochs_survive_a_restart_with_fewer_nodes(tmp_path: Path) -> None:
    with DevCluster.running(nodes=3, data_dir=tmp_path) as cluster:
        cluster.create_topic("t", partitions=3, configs={"max.message.bytes": "5000"})
        cluster.create_topic("gone")
        cluster.delete_topic("gone")
        before, identity = cluster.leaders("t"), cluster.cluster_id
        with node(cluster, before[1][0]) as client:
            client.produce("t", BATCH, partition=1)
    with DevCluster.running(nodes=1, data_dir=tmp_path) as cluster:
        assert (cluster.topics(), cluster.end_offsets("t"), cluster.cluster_id) == (
            {"t": 3},
            {0: 0, 1: 1, 2: 0},
            identity,
        )
        assert cluster.leaders("t") == {number: (1, before[number][1] + 1) for number in range(3)}
        with RawClient(cluster.bootstrap_servers) as client:
            assert client.produce("t", batch_of(b"x" * 5000)).error_code == 10
            assert offsets_in(client.fetch("t", 0, partition=1).records) == [(0, 0)]


def test_a_cluster_runs_in_the_loop_of_its_caller() -> None:
    async def run() -> str:
        async with DevCluster(num_partitions=2) as cluster:
            cluster.create_topic("t")
            assert cluster.end_offsets("t") == {0: 0, 1: 0}
            with pytest.raises(RequestError) as refused:
                cluster.create_topic("t")
            assert refused.value.code == ErrorCode.TOPIC_ALREADY_EXISTS
            with pytest.raises(RequestError):
                cluster.end_offsets("not there")
            await cluster.stop_node(1)
            await cluster.start_node(1)
            cluster.add_partitions("t", 5)
            assert cluster.topics() == {"t": 5}
            return cluster.bootstrap_servers

    assert asyncio.run(run()).startswith("127.0.0.1:")


def test_metadata_requests_create_topics_if_enabled() -> None:
    for wanted in (True, False):
        with DevCluster.running(auto_create_topics=wanted, num_partitions=4) as cluster:
            with RawClient(cluster.bootstrap_servers) as client:
                client.metadata("asked", create=False)
                assert cluster.topics() == {}
                client.metadata("asked", "not/legal", create=True)
            assert cluster.topics() == ({"asked": 4} if wanted else {})


@pytest.mark.parametrize(
    "options",
    [{"nodes": 0}, {"racks": ("a", "b")}, {"port": 65536}, {"default_replication_factor": 2}, {"fsync": 0}],
)
def test_impossible_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        DevCluster(**options)  # type: ignore[arg-type]
