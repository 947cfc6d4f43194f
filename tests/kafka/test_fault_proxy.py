"""Each fault of the proxy, in front of a real broker: the producer's records, the log, and the oracle's comparison.

No test is decided by the clock. Delays are just longer than the timeouts that must expire.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer as ConfluentProducer
from fault_proxy import FaultProxy
from fault_rules import Rule
from kafka_cluster import KafkaCluster

from penstock import DeliveryFuture, KafkaError, KafkaProducer, ProducerRecord
from support.fixtures import TopicFactory
from support.judges import Record, read_with_confluent, read_with_kafka_python
from support.oracle import Logged, Reported, Verdict, judge, reported_by
from support.sent import Sent, check

PARTITIONS = 3
TIMEOUT_S = 60
SENDER = "the test"
FAST: dict[str, Any] = {"linger_ms": 5, "retry_backoff_ms": 10, "reconnect_backoff_ms": 10}


@pytest.fixture
def proxy(kafka: KafkaCluster) -> Iterator[FaultProxy]:
    with FaultProxy({node.node_id: node.address for node in kafka.nodes.values()}) as proxy:
        yield proxy


class Bench:
    """One producer behind the proxy, one topic, numbered records, and the oracle's verdict on them."""

    def __init__(self, proxy: FaultProxy, kafka: KafkaCluster, topic: str) -> None:
        self.proxy, self._kafka, self.topic = proxy, kafka, topic
        self._number = 0
        self.sent: list[tuple[int, int, DeliveryFuture]] = []

    def producer(self, **options: Any) -> KafkaProducer[bytes, bytes]:
        return KafkaProducer(bootstrap_servers=self.proxy.bootstrap_servers, **{**FAST, **options})

    def send(self, producer: KafkaProducer[bytes, bytes], count: int = 30) -> list[DeliveryFuture]:
        """Numbered records for all partitions in rotation; most of them share requests."""
        futures = []
        for _ in range(count):
            number, self._number = self._number, self._number + 1
            partition = number % PARTITIONS
            future = producer.send(ProducerRecord(self.topic, b"%d" % number, partition=partition))
            self.sent.append((number, partition, future))
            futures.append(future)
        return futures

    def send_in_one_request(self, producer: KafkaProducer[bytes, bytes], **fault: Any) -> list[DeliveryFuture]:
        """Records for all partitions, which get the fault together.

        They wait behind a request whose answer is late: the producer has at most one in flight. Linger alone is not enough,
        because a thread that is delayed between two sends makes two requests of them.
        """
        self.proxy.plan.add(api="Produce", answer_delay_ms=1_000)
        late = self.proxy.notes.counts()["Produce answer delay"] + 1
        (first,) = self.send(producer, 1)
        self.proxy.notes.wait_for("answer delay", late)
        self.proxy.plan.add(api="Produce", **fault)
        futures = self.send(producer)
        assert not first.done(), "the records were not sent within a second"
        return futures

    def delivered(self, producer: KafkaProducer[bytes, bytes], count: int = 30) -> None:
        """Send, and check that all records are acknowledged."""
        for future in self.send(producer, count):
            future.result(TIMEOUT_S)

    def wait_for_log(self, records: int) -> None:
        """Wait until the topic has that many records."""
        read_with_confluent(self._kafka.bootstrap_servers, self.topic, records, TIMEOUT_S)

    def verdict(self, log_has: int | None = None) -> Verdict:
        """Call it after the producer is closed. `log_has`: wait until the log has that many records."""
        reported: list[Reported] = [
            reported_by(partition, SENDER, number, future) for number, partition, future in self.sent
        ]
        expected = sum(record.outcome == "acknowledged" for record in reported) if log_has is None else log_has
        logs: dict[object, list[Logged]] = {}
        for record in read_with_confluent(self._kafka.bootstrap_servers, self.topic, expected, TIMEOUT_S):
            assert record.value is not None
            logs.setdefault(record.partition, []).append(Logged(SENDER, int(record.value), record.offset))
        return judge(reported, logs)

    def check_all_acknowledged(self) -> None:
        verdict = self.verdict()
        assert verdict.ok, str(verdict)
        assert set(verdict.outcomes) == {"acknowledged"}, str(verdict)


@pytest.fixture
def bench(proxy: FaultProxy, kafka: KafkaCluster, kafka_topic: TopicFactory) -> Bench:
    return Bench(proxy, kafka, kafka_topic(PARTITIONS))


def test_without_rules_the_proxy_changes_nothing(
    proxy: FaultProxy, kafka: KafkaCluster, kafka_topic: TopicFactory
) -> None:
    """Keys, headers, timestamps, large records: content, places and order are as the futures report."""
    topic = kafka_topic(PARTITIONS)
    records: list[ProducerRecord[bytes, bytes]] = [
        ProducerRecord(
            topic,
            b"v" * (1 + number % 5_000),
            key=None if number % 3 else b"key %d" % (number % 50),
            partition=number % PARTITIONS if number % 7 == 0 else None,
            timestamp=1_700_000_000_000 + number if number % 2 else None,
            headers=[("n", b"%d" % number), ("none", None)] if number % 4 == 0 else None,
        )
        for number in range(3_000)
    ]
    with KafkaProducer(bootstrap_servers=proxy.bootstrap_servers, linger_ms=1) as producer:
        futures = [producer.send(record) for record in records]
        sent: list[Sent] = [(record, future.result(TIMEOUT_S)) for record, future in zip(records, futures, strict=True)]
    check(sent, read_with_confluent(kafka.bootstrap_servers, topic, len(sent)))
    assert proxy.notes.all == []


@pytest.mark.parametrize("read", [read_with_confluent, read_with_kafka_python])
def test_foreign_clients_work_through_the_proxy(
    read: Callable[..., list[Record]], proxy: FaultProxy, kafka: KafkaCluster, kafka_topic: TopicFactory
) -> None:
    topic = kafka_topic(PARTITIONS)
    foreign = ConfluentProducer({"bootstrap.servers": proxy.bootstrap_servers, "enable.idempotence": True})
    for number in range(100):
        foreign.produce(topic, value=b"%d" % number, partition=number % PARTITIONS)
    assert foreign.flush(TIMEOUT_S) == 0
    through = read(proxy.bootstrap_servers, topic, 100)
    assert through == read(kafka.bootstrap_servers, topic, 100)
    assert sorted(int(record.value or b"") for record in through) == list(range(100))


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"drop": "close"}, "drop: close"),
        ({"close": True}, "close"),
        ({"reset": "reading"}, "reset: reading"),
        ({"reset": "request"}, "reset: request"),
        ({"reset": "answer"}, "reset: answer"),
        ({"shape": "omit"}, "shape: omit"),
        ({"shape": "repeat"}, "shape: repeat"),
        ({"shape": "invent"}, "shape: invent"),
        ({"error": 2}, "error 2"),  # CORRUPT_MESSAGE
        ({"error": 3}, "error 3"),  # UNKNOWN_TOPIC_OR_PARTITION
        ({"error": 6}, "error 6"),  # NOT_LEADER_OR_FOLLOWER
        ({"error": 19}, "error 19"),  # NOT_ENOUGH_REPLICAS
        ({"error": 45}, "error 45"),  # OUT_OF_ORDER_SEQUENCE_NUMBER, though no record is missing
        ({"error": 47}, "error 47"),  # INVALID_PRODUCER_EPOCH
        ({"error": 59}, "error 59"),  # UNKNOWN_PRODUCER_ID
        ({"error": 100}, "error 100"),  # UNKNOWN_TOPIC_ID
        ({"error": 6, "after_append": True}, "error 6 after append"),  # while it waited for replicas
        ({"error": 7, "after_append": True}, "error 7 after append"),  # REQUEST_TIMED_OUT
        ({"error": 20, "after_append": True}, "error 20 after append"),  # NOT_ENOUGH_REPLICAS_AFTER_APPEND
        ({"error": 56, "after_append": True}, "error 56 after append"),  # KAFKA_STORAGE_ERROR
        ({"throttle_time_ms": 50}, "throttle"),
        ({"trickle_ms": 30}, "trickle"),
        ({"answer_trickle_ms": 30}, "answer trickle"),
        ({"delay_ms": 20}, "delay"),
        ({"answer_delay_ms": 20}, "answer delay"),
    ],
    ids=lambda value: value.replace(": ", "-").replace(" ", "-") if isinstance(value, str) else "",
)
def test_every_record_arrives_once_and_in_order(fault: dict[str, Any], kind: str, bench: Bench) -> None:
    """The first requests of the producer, and some later ones, get the fault; it recovers by itself."""
    bench.proxy.plan.add(api="Produce", times=2, **fault)
    with bench.producer() as producer:
        bench.delivered(producer)
        bench.proxy.plan.add(api="Produce", times=3, **fault)
        for _ in range(5):
            bench.send(producer)
            bench.delivered(producer)
        bench.proxy.notes.wait_for(kind, 5)
    bench.check_all_acknowledged()


@pytest.mark.parametrize("api", ["ApiVersions", "Metadata", "InitProducerId"])
@pytest.mark.parametrize(
    "fault",
    [{"close": True}, {"drop": "silent"}, {"reset": "answer"}, {"answer_trickle_ms": 50}, {"error": 15}],
    ids=["close", "silent", "reset", "trickle", "error"],
)
def test_failed_control_requests_are_repeated(api: str, fault: dict[str, Any], bench: Bench) -> None:
    if api == "ApiVersions" and "error" in fault:
        fault = {"reset": "reading"}  # an error code would be permanent: brokers answer only UNSUPPORTED_VERSION
    bench.proxy.plan.add(api=api, **fault)
    with bench.producer(request_timeout_ms=500, socket_connection_setup_timeout_ms=500) as producer:
        bench.delivered(producer)
        assert [note.api for note in bench.proxy.notes.all] == [api]
    bench.check_all_acknowledged()


def test_mixed_results_in_one_answer(bench: Bench) -> None:
    """One partition is refused, one gets an error after its append, one succeeds: each has its own outcome."""
    with bench.producer(max_in_flight_requests_per_connection=1) as producer:
        bench.delivered(producer)
        after = Rule("Produce", topic=bench.topic, partition=2, error=7, after_append=True)  # REQUEST_TIMED_OUT
        bench.send_in_one_request(producer, topic=bench.topic, partition=1, error=29, also=(after,))
        bench.proxy.notes.wait_for("error 29, error 7 after append")
        producer.close()
    late, note = bench.proxy.notes.all
    assert late.kind == "answer delay"
    assert set(note.targets) == {(bench.topic, partition) for partition in range(PARTITIONS)}
    verdict = bench.verdict()
    assert verdict.ok, str(verdict)
    assert verdict.outcomes == {"acknowledged": 51, "not persisted": 10}


def test_a_batch_that_is_too_large_is_split(bench: Bench) -> None:
    with bench.producer(max_in_flight_requests_per_connection=1) as producer:
        bench.delivered(producer)
        for _ in range(3):
            bench.send_in_one_request(producer, error=10)  # MESSAGE_TOO_LARGE; a single record could not be split
            bench.delivered(producer)
    assert bench.proxy.notes.counts() == {"Produce answer delay": 3, "Produce error 10": 3}
    bench.check_all_acknowledged()


def test_an_answer_that_is_never_sent(bench: Bench) -> None:
    """The connection stays open and silent; request.timeout.ms ends it, and the same batches are sent again."""
    with bench.producer(request_timeout_ms=500) as producer:
        bench.delivered(producer)
        bench.proxy.plan.add(api="Produce", drop="silent", times=2)
        for _ in range(3):
            bench.send(producer)
            bench.delivered(producer)
        bench.proxy.notes.wait_for("drop: silent", 2)
    bench.check_all_acknowledged()


def test_a_request_that_is_overtaken_by_its_retry(bench: Bench) -> None:
    """It reaches the broker on the old connection after its retry was answered on a new one: the broker has it already."""
    with bench.producer(request_timeout_ms=500) as producer:
        bench.delivered(producer)
        bench.proxy.plan.add(api="Produce", overtaken_ms=TIMEOUT_S * 1000)
        bench.delivered(producer)
        bench.proxy.notes.wait_for("was overtaken")
        bench.delivered(producer)
    bench.check_all_acknowledged()


LATE = {"request_timeout_ms": 1_000, "delivery_timeout_ms": 2_500}


def test_a_request_that_arrives_after_its_record_expired(bench: Bench) -> None:
    """The record is possibly persisted, and it is in the log; later records arrive in order."""
    producer = bench.producer(**LATE)
    bench.delivered(producer)
    bench.proxy.plan.add(api="Produce", delay_ms=4_000)
    bench.proxy.plan.add(api="Produce", close=True, times=1_000)
    (future,) = bench.send(producer, 1)  # only one: several could make two requests, of which only the first arrives
    error = future.exception(TIMEOUT_S)
    assert isinstance(error, KafkaError)
    assert error.possibly_persisted
    bench.wait_for_log(31)
    bench.proxy.plan.clear()
    bench.delivered(producer)
    producer.close()
    verdict = bench.verdict(log_has=61)
    assert verdict.ok, str(verdict)
    assert verdict.outcomes == {"acknowledged": 60, "possibly persisted": 1}
    assert verdict.persisted_though_failed == 1


def test_a_request_that_arrives_after_its_successors(bench: Bench) -> None:
    """They have a higher epoch by then: the broker refuses the late request, and the order is kept."""
    producer = bench.producer(**LATE)
    bench.delivered(producer)
    bench.proxy.plan.add(api="Produce", overtaken_ms=TIMEOUT_S * 1000)
    bench.proxy.plan.add(api="Produce", close=True, times=1_000)
    errors = [future.exception(TIMEOUT_S) for future in bench.send(producer)]
    assert all(isinstance(error, KafkaError) and error.possibly_persisted for error in errors)
    bench.proxy.plan.clear()
    bench.delivered(producer)
    bench.proxy.notes.wait_for("was overtaken")
    bench.proxy.notes.wait_for("answered late")
    bench.delivered(producer)
    producer.close()
    verdict = bench.verdict()
    assert verdict.ok, str(verdict)
    assert verdict.outcomes == {"acknowledged": 90, "possibly persisted": 30}
    assert verdict.persisted_though_failed == 0


def test_a_leader_that_resigns_after_the_append(bench: Bench) -> None:
    """A leader that waits for its followers and loses the partition answers NOT_LEADER_OR_FOLLOWER, *after* the append.

    A failure after that may be in the log. One record, because with several a second request could get the error alone.
    """
    producer = bench.producer(**LATE)
    bench.delivered(producer)
    bench.proxy.plan.add(api="Produce", error=6, after_append=True)
    bench.proxy.plan.add(api="Produce", error=6, times=10_000)
    (future,) = bench.send(producer, 1)
    assert isinstance(future.exception(TIMEOUT_S), KafkaError)
    producer.close()
    verdict = bench.verdict(log_has=31)
    assert verdict.ok, str(verdict)
    assert verdict.outcomes == {"acknowledged": 30, "possibly persisted": 1}
    assert verdict.persisted_though_failed == 1


@pytest.mark.parametrize("what", ["cut", "freeze", "refuse", "sever"])
def test_an_unreachable_broker(what: str, bench: Bench) -> None:
    """Half-open, frozen, refusing or resetting; then the network recovers, and everything arrives once."""
    with bench.producer(request_timeout_ms=500, socket_connection_setup_timeout_ms=500) as producer:
        bench.delivered(producer)
        assert bench.proxy.connections
        if what == "refuse":
            bench.proxy.refuse()
            bench.proxy.sever()
        else:
            getattr(bench.proxy, what)()
        futures = bench.send(producer)
        resolved = threading.Event()
        futures[0].add_done_callback(lambda _: resolved.set())
        if what != "sever":
            assert not resolved.wait(1.2), "longer than two requests may take"
        bench.proxy.heal()
        for future in futures:
            future.result(TIMEOUT_S)
        bench.delivered(producer)
    bench.check_all_acknowledged()
