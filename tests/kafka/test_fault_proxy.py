"""Each fault that the proxy knows, in front of a real broker: the producer's records, the log, and the oracle between.

Times: nothing here is judged by the clock. Delays are only so long as to be longer than a timeout that must strike.
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
from support.oracle import Logged, Told, Verdict, judge, told_of
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
    """One producer behind the proxy, one topic; numbered records, and what the oracle says of them."""

    def __init__(self, proxy: FaultProxy, kafka: KafkaCluster, topic: str) -> None:
        self.proxy, self._kafka, self.topic = proxy, kafka, topic
        self._number = 0
        self.sent: list[tuple[int, int, DeliveryFuture]] = []

    def producer(self, **options: Any) -> KafkaProducer[bytes, bytes]:
        return KafkaProducer(bootstrap_servers=self.proxy.bootstrap_servers, **{**FAST, **options})

    def send(self, producer: KafkaProducer[bytes, bytes], count: int = 30) -> list[DeliveryFuture]:
        """Numbered records for all partitions in turn; most of them share requests."""
        futures = []
        for _ in range(count):
            number, self._number = self._number, self._number + 1
            partition = number % PARTITIONS
            future = producer.send(ProducerRecord(self.topic, b"%d" % number, partition=partition))
            self.sent.append((number, partition, future))
            futures.append(future)
        return futures

    def send_in_one_request(self, producer: KafkaProducer[bytes, bytes], **fault: Any) -> list[DeliveryFuture]:
        """Records for all partitions, which meet the fault together.

        They pile up behind a request whose answer is late: the producer has at most one of them in flight. Lingering
        alone would not do, because a thread that is held up between two sends makes two requests of them.
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
        """Send, and all of it is acknowledged."""
        for future in self.send(producer, count):
            future.result(TIMEOUT_S)

    def wait_for_log(self, records: int) -> None:
        """Until the topic holds so many, whoever sent them."""
        read_with_confluent(self._kafka.bootstrap_servers, self.topic, records, TIMEOUT_S)

    def verdict(self, log_has: int | None = None) -> Verdict:
        """To be asked when the producer is closed. `log_has`: wait until the log holds so many."""
        told: list[Told] = [told_of(partition, SENDER, number, future) for number, partition, future in self.sent]
        expected = sum(record.outcome == "acknowledged" for record in told) if log_has is None else log_has
        logs: dict[object, list[Logged]] = {}
        for record in read_with_confluent(self._kafka.bootstrap_servers, self.topic, expected, TIMEOUT_S):
            assert record.value is not None
            logs.setdefault(record.partition, []).append(Logged(SENDER, int(record.value), record.offset))
        return judge(told, logs)

    def judge_all_acknowledged(self) -> None:
        verdict = self.verdict()
        assert verdict.ok, str(verdict)
        assert set(verdict.outcomes) == {"acknowledged"}, str(verdict)


@pytest.fixture
def bench(proxy: FaultProxy, kafka: KafkaCluster, kafka_topic: TopicFactory) -> Bench:
    return Bench(proxy, kafka, kafka_topic(PARTITIONS))


def test_without_rules_it_is_not_there(proxy: FaultProxy, kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    """Keys, headers, timestamps, large records: content, places and order are what the futures say."""
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
def test_foreign_clients_work_through_it(
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
        ({"error": 45}, "error 45"),  # OUT_OF_ORDER_SEQUENCE_NUMBER, though nothing is missing
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
def test_every_record_is_there_once_in_order(fault: dict[str, Any], kind: str, bench: Bench) -> None:
    """The first requests of the producer, and some in the midst of its work, meet the fault; it recovers by itself."""
    bench.proxy.plan.add(api="Produce", times=2, **fault)
    with bench.producer() as producer:
        bench.delivered(producer)
        bench.proxy.plan.add(api="Produce", times=3, **fault)
        for _ in range(5):
            bench.send(producer)
            bench.delivered(producer)
        bench.proxy.notes.wait_for(kind, 5)
    bench.judge_all_acknowledged()


@pytest.mark.parametrize("api", ["ApiVersions", "Metadata", "InitProducerId"])
@pytest.mark.parametrize(
    "fault",
    [{"close": True}, {"drop": "silent"}, {"reset": "answer"}, {"answer_trickle_ms": 50}, {"error": 15}],
    ids=["close", "silent", "reset", "trickle", "error"],
)
def test_control_requests_fail_and_come_again(api: str, fault: dict[str, Any], bench: Bench) -> None:
    if api == "ApiVersions" and "error" in fault:
        fault = {"reset": "reading"}  # an error would be the end of it: brokers have but UNSUPPORTED_VERSION to say
    bench.proxy.plan.add(api=api, **fault)
    with bench.producer(request_timeout_ms=500, socket_connection_setup_timeout_ms=500) as producer:
        bench.delivered(producer)
        assert [note.api for note in bench.proxy.notes.all] == [api]
    bench.judge_all_acknowledged()


def test_mixed_results_in_one_answer(bench: Bench) -> None:
    """One partition is refused for good, one is told an error after its append, one is fine: each has its own outcome."""
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
            bench.send_in_one_request(producer, error=10)  # MESSAGE_TOO_LARGE; alone a record could not be split
            bench.delivered(producer)
    assert bench.proxy.notes.counts() == {"Produce answer delay": 3, "Produce error 10": 3}
    bench.judge_all_acknowledged()


def test_an_answer_that_is_never_sent(bench: Bench) -> None:
    """The connection stays open and silent; request.timeout.ms ends it, and the same batches come again."""
    with bench.producer(request_timeout_ms=500) as producer:
        bench.delivered(producer)
        bench.proxy.plan.add(api="Produce", drop="silent", times=2)
        for _ in range(3):
            bench.send(producer)
            bench.delivered(producer)
        bench.proxy.notes.wait_for("drop: silent", 2)
    bench.judge_all_acknowledged()


def test_a_request_that_is_overtaken_by_its_own_repetition(bench: Bench) -> None:
    """It reaches the broker on the old connection after it was answered on a new one: the broker has it already."""
    with bench.producer(request_timeout_ms=500) as producer:
        bench.delivered(producer)
        bench.proxy.plan.add(api="Produce", overtaken_ms=TIMEOUT_S * 1000)
        bench.delivered(producer)
        bench.proxy.notes.wait_for("was overtaken")
        bench.delivered(producer)
    bench.judge_all_acknowledged()


LATE = {"request_timeout_ms": 1_000, "delivery_timeout_ms": 2_500}


def test_a_request_that_arrives_after_its_record_expired(bench: Bench) -> None:
    """It is possibly persisted, and so it is; what follows goes on in order."""
    producer = bench.producer(**LATE)
    bench.delivered(producer)
    bench.proxy.plan.add(api="Produce", delay_ms=4_000)
    bench.proxy.plan.add(api="Produce", close=True, times=1_000)
    (future,) = bench.send(producer, 1)  # one, because several might make two requests, and the first alone arrives
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
    """They travel under a higher epoch by then: the broker refuses the latecomer, and the order is kept."""
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


def test_a_broker_that_takes_the_append_and_then_gives_its_leadership_up(bench: Bench) -> None:
    """A leader that waits for its followers and loses the partition answers NOT_LEADER_OR_FOLLOWER, *after* the append.

    What fails after that may be in the log. One record, because of several a second request might meet the rejection alone.
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
def test_a_broker_out_of_reach(what: str, bench: Bench) -> None:
    """Half-open, frozen, refusing or resetting; then the network heals, and everything arrives once."""
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
    bench.judge_all_acknowledged()
