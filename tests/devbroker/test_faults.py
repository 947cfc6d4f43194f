"""Scripted faults, and the list of requests."""

from __future__ import annotations

import threading
import time

import pytest
from raw_client import ClosedError, RawClient, batch_of, produce_request, sequenced

from penstock.devbroker import Faults, Requests, RunningCluster, SeenRequest
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.messages.produce import ProduceResponse

BATCH = batch_of(b"x")


def test_an_error_occurs_as_often_as_scripted(cluster: RunningCluster, client: RawClient) -> None:
    fault = cluster.faults.add(api="Produce", error=19, times=2)
    assert [client.produce("t", BATCH).error_code for _ in range(3)] == [19, 19, 0]
    assert cluster.end_offsets("t") == {0: 1, 1: 0}
    assert (fault.met, cluster.faults.pending) == (2, [])


def test_faults_apply_in_order(cluster: RunningCluster, client: RawClient) -> None:
    for error in (7, 6, 5):
        cluster.faults.add(api="Produce", error=error)
    assert [client.produce("t", BATCH).error_code for _ in range(4)] == [7, 6, 5, 0]


def test_an_error_after_the_append(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", error=20, after_append=True)
    batch = sequenced(1, 0, producer_id=5)
    assert client.produce("t", batch).error_code == 20
    assert cluster.end_offsets("t")[0] == 1
    again = client.produce("t", batch)
    assert (again.error_code, again.base_offset) == (0, 0)


def test_an_answer_that_is_lost_with_its_connection(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", drop="close")
    with pytest.raises(ClosedError):
        client.produce("t", BATCH)
    assert cluster.end_offsets("t")[0] == 1


def test_an_answer_that_is_never_sent(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", drop="silent")
    client.send(produce_request("t", BATCH), 9)
    second = client.send(produce_request("t", BATCH), 9)
    correlation_id, answer = client.receive(ProduceResponse, 9)
    assert (correlation_id, answer.responses[0].partition_responses[0].base_offset) == (second, 1)


def test_a_connection_that_is_closed_before_the_request_is_handled(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", close=True)
    with pytest.raises(ClosedError):
        client.produce("t", BATCH)
    assert cluster.end_offsets("t")[0] == 0


def test_a_delay_applies_to_its_connection_only(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", delay_ms=300)
    began = time.monotonic()
    client.send(produce_request("t", BATCH), 9)
    cluster.requests.wait_for("Produce")
    with RawClient(cluster.bootstrap_servers) as other:
        other.metadata("t")
        assert time.monotonic() - began < 0.3
    client.receive(ProduceResponse, 9)
    assert time.monotonic() - began >= 0.3


def test_the_answer_has_the_scripted_throttle_time(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", throttle_time_ms=1234)
    answers = [client.ask(produce_request("t", BATCH), ProduceResponse, 9) for _ in range(2)]
    assert [answer.throttle_time_ms for answer in answers] == [1234, 0]


def test_a_fault_for_one_partition_applies_to_it_only(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", topic="t", partition=1, error=19)
    asked = [client.produce("t", BATCH, partition=number).error_code for number in (0, 0, 1, 1)]
    assert asked == [0, 0, 19, 0]


def test_a_fault_for_one_client_applies_to_it_only(cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api="Produce", client_id="another-client", error=19)
    assert client.produce("t", BATCH).error_code == 0
    assert len(cluster.faults.pending) == 1
    cluster.faults.clear()
    assert cluster.faults.pending == []


def test_a_fault_also_matches_a_topic_by_its_id(cluster: RunningCluster, client: RawClient) -> None:
    topic_id = client.metadata("t").topics[0].topic_id
    cluster.faults.add(api="Produce", topic="t", error=19)
    answer = client.ask(produce_request(topic_id, BATCH), ProduceResponse, 13)
    assert answer.responses[0].partition_responses[0].error_code == 19


@pytest.mark.parametrize("api", ["Metadata", "Fetch", "InitProducerId"])
def test_errors_can_be_scripted_for_every_api(api: str, cluster: RunningCluster, client: RawClient) -> None:
    cluster.faults.add(api=api, error=15)
    if api == "Metadata":
        request = MetadataRequest(topics=(MetadataRequestTopic(name="t"),))
        code = client.ask(request, MetadataResponse, 12).topics[0].error_code
    elif api == "Fetch":
        code = client.fetch("t", 0, max_wait_ms=5000).error_code
    else:
        asked = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=1)
        code = client.ask(asked, InitProducerIdResponse, 4).error_code
    assert code == 15


def test_a_fault_for_zero_times_is_refused() -> None:
    with pytest.raises(ValueError, match="not 0 times"):
        Faults().add(api="Produce", times=0)


def test_requests_are_counted_and_listed(cluster: RunningCluster, client: RawClient) -> None:
    cluster.requests.clear()
    fault = cluster.faults.add(api="Produce", error=7)
    for version in (9, 12):
        client.produce("t", BATCH, version=version)
    client.fetch("t", 0)
    seen = cluster.requests.latest("Produce")
    assert seen == [SeenRequest("Produce", version, 1, "raw-client") for version in (9, 12)]
    assert [request.fault for request in seen] == [fault, None]
    counted = cluster.requests
    assert (counted.count("Produce"), counted.count(), counted.count(node=1), counted.count(node=2)) == (2, 3, 3, 0)


def test_waiting_for_a_request_ends_when_it_arrives_or_times_out() -> None:
    requests = Requests()
    with pytest.raises(TimeoutError, match="0 Produce requests"):
        requests.wait_for("Produce", timeout=0.01)
    other = threading.Thread(target=lambda: requests.note(SeenRequest("Produce", 9, 1, None)))
    other.start()
    requests.wait_for("Produce")
    other.join()


def test_a_dropped_fetch_loses_only_its_answer(cluster: RunningCluster, client: RawClient) -> None:
    client.produce("t", BATCH)
    cluster.faults.add(api="Fetch", drop="close")
    with pytest.raises(ClosedError):
        client.fetch("t", 0)
    with RawClient(cluster.bootstrap_servers) as other:
        assert other.fetch("t", 0).high_watermark == 1
