"""The reader against the embedded broker: its start, its end, and its recovery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import Producer

from penstock._reader import ConsumedRecord, Reader, Start
from penstock.devbroker import DevCluster, RunningCluster
from penstock.errors import KafkaError, UnknownTopicOrPartitionError


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with DevCluster.running(nodes=3) as running:
        running.create_topic("numbers", partitions=2)
        fill(running, "numbers", {0: range(10), 1: range(100, 104)})
        yield running


def fill(cluster: RunningCluster, topic: str, values: dict[int, Sequence[int]]) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap_servers})
    for partition, numbers in values.items():
        for number in numbers:
            producer.produce(
                topic, b"%d" % number, key=b"k", partition=partition, timestamp=number + 1, headers=[("h", b"x")]
            )
    assert producer.flush(30) == 0


def read(cluster: RunningCluster, topic: str = "numbers", **options: object) -> list[ConsumedRecord]:
    with Reader(cluster.bootstrap_servers, topic, until_end=True, **options) as reader:  # type: ignore[arg-type]
        return list(reader)


def values(records: list[ConsumedRecord], partition: int) -> list[int]:
    return [int(record.value or b"") for record in records if record.partition == partition]


@pytest.mark.parametrize(
    ("start", "first", "second"),
    [
        ("beginning", range(10), range(100, 104)),
        ("end", [], []),
        (3, range(3, 10), [103]),
        (99, [], []),
        (-2, [8, 9], [102, 103]),
        (-7, range(3, 10), range(100, 104)),
    ],
)
def test_each_partition_is_read_from_its_start_to_its_end(
    cluster: RunningCluster, start: Start, first: Sequence[int], second: Sequence[int]
) -> None:
    records = read(cluster, start=start)
    assert (values(records, 0), values(records, 1)) == (list(first), list(second))


def test_a_record_has_all_its_fields(cluster: RunningCluster) -> None:
    assert read(cluster, start=-1, partitions=[1]) == [
        ConsumedRecord("numbers", 1, 3, 104, b"k", b"103", (("h", b"x"),))
    ]


def test_an_absent_topic_or_partition_is_an_error(cluster: RunningCluster) -> None:
    with pytest.raises(UnknownTopicOrPartitionError, match="partitions \\[0, 1\\]"):
        read(cluster, partitions=[2])
    with pytest.raises(KafkaError, match="nowhere"):
        read(cluster, "nowhere")


def test_leaders_may_move_while_it_reads(cluster: RunningCluster) -> None:
    cluster.create_topic("moving", partitions=1)
    fill(cluster, "moving", {0: range(5)})
    with Reader(cluster.bootstrap_servers, "moving") as reader:
        records = iter(reader)
        assert [next(records).offset for _ in range(5)] == [0, 1, 2, 3, 4]
        leader, _ = cluster.leaders("moving")[0]
        cluster.move_leader("moving", 0, leader % 3 + 1)
        fill(cluster, "moving", {0: range(5, 8)})
        assert [next(records).offset for _ in range(3)] == [5, 6, 7]


def test_a_fetch_whose_answer_is_lost_is_sent_again(cluster: RunningCluster) -> None:
    cluster.faults.add(api="Fetch", close=True)
    assert values(read(cluster), 1) == [100, 101, 102, 103]
