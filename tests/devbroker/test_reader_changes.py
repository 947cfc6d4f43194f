"""The reader while its topic changes: partitions are added, the topic is recreated, records are removed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeAlias
from uuid import uuid4

import pytest

from penstock import KafkaProducer, _reader
from penstock._reader import Reader, Start
from penstock.devbroker import DevCluster, RunningCluster
from penstock.errors import KafkaError, UnknownTopicOrPartitionError


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    with DevCluster.running(nodes=3, auto_create_topics=False) as running:
        yield running


@pytest.fixture
def topic(cluster: RunningCluster) -> Iterator[str]:
    """A topic of one partition that holds old-0 and old-1."""
    name = f"topic-{uuid4().hex[:8]}"
    cluster.create_topic(name, partitions=1)
    fill(cluster, name, 0, "old-0", "old-1")
    cluster.requests.clear()
    yield name
    cluster.faults.clear()


def fill(cluster: RunningCluster, topic: str, partition: int, *values: str) -> None:
    with KafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
        for value in values:
            producer.send(topic, value.encode(), partition=partition)


@pytest.fixture
def watch(cluster: RunningCluster) -> Iterator[Watch]:
    """A `Watching` of a topic of this cluster."""
    with ExitStack() as stack:

        def begin(topic: str, *steps: Callable[[], object], **options: object) -> Watching:
            watching = Watching(cluster, topic, *steps, **options)
            stack.enter_context(watching.reader)
            return watching

        yield begin


class Watching:
    """A reader with steps between its requests: `steps[n]` runs before the request after the n-th."""

    def __init__(self, cluster: RunningCluster, topic: str, *steps: Callable[[], object], **options: object) -> None:
        self.notices: list[str] = []
        self._steps = list(steps)
        self._requests = 0
        given = {"metadata_max_age_s": 0.0, "between": self._between, "notice": self.notices.append} | options
        self.reader = Reader(cluster.bootstrap_servers, topic, **given)  # type: ignore[arg-type]
        self.records = iter(self.reader)

    def _between(self) -> None:
        self._requests += 1
        if self._requests > 1 and self._steps:  # by then it has its start position
            self._steps.pop(0)()

    def take(self, count: int) -> list[str]:
        return [(next(self.records).value or b"").decode() for _ in range(count)]


Watch: TypeAlias = Callable[..., Watching]


@pytest.mark.parametrize("start", ["beginning", "end", 1, -1, 99])
def test_partitions_that_are_added_are_read_from_their_beginning(
    cluster: RunningCluster, topic: str, watch: Watch, start: Start
) -> None:
    def grow() -> None:
        cluster.add_partitions(topic, 2)
        fill(cluster, topic, 1, "new-0", "new-1")

    watching = watch(topic, grow, start=start)
    before = {"beginning": ["old-0", "old-1"], "end": [], 1: ["old-1"], -1: ["old-1"], 99: []}[start]
    assert sorted(watching.take(len(before) + 2)) == sorted([*before, "new-0", "new-1"])
    assert watching.notices == [f"topic {topic} has 1 new partition (1), read from the beginning"]


def test_each_growth_is_reported_once(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    def grow(total: int, *filled: int) -> Callable[[], None]:
        def growing() -> None:
            cluster.add_partitions(topic, total)
            for partition in filled:
                fill(cluster, topic, partition, f"in-{partition}")

        return growing

    watching = watch(topic, grow(4, 1, 3), lambda: None, grow(6, 5), start="end")
    assert sorted(watching.take(3)) == ["in-1", "in-3", "in-5"]
    fill(cluster, topic, 2, "late")
    assert watching.take(1) == ["late"]
    assert watching.notices == [
        f"topic {topic} has 3 new partitions (1 to 3), read from the beginning",
        f"topic {topic} has 2 new partitions (4 to 5), read from the beginning",
    ]


def test_a_reader_of_one_partition_gets_no_other(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    def grow() -> None:
        cluster.add_partitions(topic, 2)
        fill(cluster, topic, 1, "not wanted")
        fill(cluster, topic, 0, "wanted")

    watching = watch(topic, grow, lambda: None, lambda: None, start="end", partitions=[0])
    assert watching.take(1) == ["wanted"]
    fill(cluster, topic, 0, "more")
    assert watching.take(1) == ["more"]
    assert watching.notices == []


def test_reading_to_the_current_end_ignores_new_partitions(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    def grow() -> None:
        cluster.add_partitions(topic, 2)
        fill(cluster, topic, 1, "later")

    watching = watch(topic, grow, until_end=True)
    assert [record.value for record in watching.records] == [b"old-0", b"old-1"]
    assert watching.notices == []


def test_partitions_are_checked_when_the_metadata_is_old_and_not_before(
    cluster: RunningCluster, topic: str, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = 0.0
    monkeypatch.setattr(_reader.time, "monotonic", lambda clock=_reader.time.monotonic: clock() + passed)

    def grow() -> None:
        cluster.add_partitions(topic, 2)
        fill(cluster, topic, 1, "new")
        fill(cluster, topic, 0, "old-2")
        cluster.requests.clear()

    watching = watch(topic, grow, start="end", metadata_max_age_s=1_000)
    assert watching.take(1) == ["old-2"]
    assert cluster.requests.count("Metadata") == 0
    passed = 1_001
    assert watching.take(1) == ["new"]
    assert cluster.requests.count("Metadata") == 1


def test_a_new_partition_without_a_leader_does_not_delay_the_others(
    cluster: RunningCluster, topic: str, watch: Watch
) -> None:
    fault = None

    def grow() -> None:
        nonlocal fault
        fault = cluster.faults.add(api="ListOffsets", topic=topic, partition=1, error=5, times=1_000)
        cluster.add_partitions(topic, 2)
        fill(cluster, topic, 1, "new")
        fill(cluster, topic, 0, "old-2")

    watching = watch(topic, grow, start="end")
    assert watching.take(1) == ["old-2"]
    fill(cluster, topic, 0, "old-3")
    assert watching.take(1) == ["old-3"]
    assert fault is not None
    assert fault.met > 0
    cluster.faults.clear()
    assert watching.take(1) == ["new"]
    assert len(watching.notices) == 1


def test_leaders_move_while_the_topic_grows(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    def change() -> None:
        if len(cluster.leaders(topic)) < 3:
            cluster.add_partitions(topic, 3)
        for partition, (leader, _) in cluster.leaders(topic).items():
            cluster.move_leader(topic, partition, leader % 3 + 1)
            fill(cluster, topic, partition, f"in-{partition}")

    watching = watch(topic, change, change, start="end")
    assert sorted(watching.take(6)) == ["in-0", "in-0", "in-1", "in-1", "in-2", "in-2"]
    assert len(watching.notices) == 1


@pytest.mark.parametrize("max_age_s", [0.0, float("inf")], ids=["found by metadata", "found by a fetch"])
@pytest.mark.parametrize("start", ["beginning", "end"])
def test_a_recreated_topic_is_read_from_its_beginning(
    cluster: RunningCluster, topic: str, watch: Watch, start: Start, max_age_s: float
) -> None:
    """Topics have ids: a recreated topic is detected, although it has a record at the position of the next request."""

    def recreate() -> None:
        cluster.delete_topic(topic)
        cluster.create_topic(topic, partitions=2)
        fill(cluster, topic, 0, "new-0", "new-1", "new-2")
        fill(cluster, topic, 1, "new-3")

    steps = [lambda: None, recreate]  # the second request detects the change, the first reads
    watching = watch(topic, *steps, start=start, metadata_max_age_s=max_age_s)
    if start == "beginning":
        assert watching.take(2) == ["old-0", "old-1"]
    assert sorted(watching.take(4)) == ["new-0", "new-1", "new-2", "new-3"]
    assert watching.notices == [f"topic {topic} was deleted and created again; it is read from the beginning"]


def test_a_recreated_topic_with_fewer_partitions(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    cluster.add_partitions(topic, 3)
    fill(cluster, topic, 2, "old-2")

    def recreate() -> None:
        cluster.delete_topic(topic)
        cluster.create_topic(topic, partitions=1)
        fill(cluster, topic, 0, "new")

    watching = watch(topic, recreate, start="end")
    assert watching.take(1) == ["new"]
    cluster.add_partitions(topic, 2)
    fill(cluster, topic, 1, "added")
    assert watching.take(1) == ["added"]
    assert len(watching.notices) == 2


def test_a_recreated_topic_keeps_the_requested_partition(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    def recreate() -> None:
        cluster.delete_topic(topic)
        cluster.create_topic(topic, partitions=2)
        fill(cluster, topic, 1, "not wanted")
        fill(cluster, topic, 0, "new")

    watching = watch(topic, recreate, start="end", partitions=[0])
    assert watching.take(1) == ["new"]
    fill(cluster, topic, 0, "more")
    assert watching.take(1) == ["more"]


def test_a_deleted_or_recreated_topic_is_an_error_before_its_end(
    cluster: RunningCluster, topic: str, watch: Watch
) -> None:
    gone = watch(topic, lambda: cluster.delete_topic(topic), start="end", timeout_s=0.3)
    with pytest.raises(UnknownTopicOrPartitionError):
        gone.take(1)

    cluster.create_topic(topic, partitions=1)
    fill(cluster, topic, 0, "old")

    def recreate() -> None:
        cluster.delete_topic(topic)
        cluster.create_topic(topic, partitions=1)

    with pytest.raises(KafkaError, match="created again while it was read"):
        watch(topic, recreate, until_end=True).take(1)


def test_records_that_were_removed_before_they_were_read(cluster: RunningCluster, watch: Watch) -> None:
    name = f"short-{uuid4().hex[:8]}"
    cluster.create_topic(name, partitions=1, configs={"segment.bytes": "1048576", "retention.bytes": "1048576"})
    fill(cluster, name, 0, "first")

    def outrun() -> None:
        for number in range(1, 7):
            fill(cluster, name, 0, f"{number} {'x' * 700_000}")

    watching = watch(name, outrun)  # at the first record
    offset = next(watching.records).offset
    assert offset > 1
    assert [next(watching.records).offset for _ in range(6 - offset)] == list(range(offset + 1, 7))
    assert watching.notices == [
        f"topic {name}, partition 0: the records 0 to {offset - 1} were removed before they were read"
    ]


@pytest.mark.parametrize(("has_ids", "expected"), [(True, "at the new end"), (False, "old-0")])
def test_a_log_that_ends_before_the_position(
    cluster: RunningCluster, topic: str, watch: Watch, has_ids: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A truncated log, or a recreated topic without topic ids; the embedded broker has neither: the position is moved."""
    if not has_ids:
        monkeypatch.setattr(_reader, "ZERO_UUID", Everything())

    watching = watch(topic, start="beginning")
    watching._steps.append(lambda: watching.reader._positions.update({0: 99}))
    watching._steps.append(lambda: fill(cluster, topic, 0, "at the new end"))
    assert watching.take(1) == [expected]
    assert len(watching.notices) == 1


class Everything:
    """Equal to everything: no topic has an id."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def test_a_temporary_out_of_range_error_is_retried(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    cluster.faults.add(api="Fetch", topic=topic, error=1)
    watching = watch(topic)
    assert watching.take(2) == ["old-0", "old-1"]
    assert watching.notices == []


def test_a_failed_metadata_request_is_ignored(cluster: RunningCluster, topic: str, watch: Watch) -> None:
    def grow() -> None:
        cluster.faults.add(api="Metadata", close=True)
        cluster.add_partitions(topic, 2)
        fill(cluster, topic, 1, "new")

    watching = watch(topic, grow)
    assert sorted(watching.take(3)) == ["new", "old-0", "old-1"]
    assert len(watching.notices) == 1


def test_a_short_timeout_does_not_reconnect_while_no_records_arrive(
    cluster: RunningCluster, topic: str, watch: Watch
) -> None:
    """A broker without new records answers after half a second."""

    def begin() -> None:
        cluster.requests.clear()

    idle: list[Callable[[], object]] = [lambda: None] * 3
    watching = watch(topic, begin, *idle, lambda: fill(cluster, topic, 0, "at last"), start="end", timeout_s=0.1)
    assert watching.take(1) == ["at last"]
    asked = [request.api for request in cluster.requests.latest() if request.client_id == "penstock-reader"]
    assert "Fetch" in asked
    assert "ApiVersions" not in asked  # it has not connected again
