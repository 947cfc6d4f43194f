"""Partitioners in Python: round robin, and what a producer makes of `partitioner.class`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from penstock import partitioner
from penstock.errors import ConfigError
from penstock.partitioner import RoundRobinPartitioner, TopicView, as_partitioner


def choose(robin: RoundRobinPartitioner, view: TopicView, topic: str = "t") -> int:
    return robin.partition(topic, "key", b"key", "value", b"value", view)


class Fixed:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def partition(self, topic: str, key: Any, key_bytes: Any, value: Any, value_bytes: Any, cluster: Any) -> int:
        return 7

    def configure(self, configs: Any) -> None:
        self.calls.append(configs)

    def close(self) -> None:
        self.calls.append("closed")


class NeedsArguments(Fixed):
    def __init__(self, zone: str) -> None:
        super().__init__()


def test_round_robin_ignores_the_key() -> None:
    robin, view = RoundRobinPartitioner(), TopicView("t", (0, 1, 2), (0, 1, 2))
    assert [choose(robin, view) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]


def test_each_topic_has_its_own_rotation() -> None:
    robin = RoundRobinPartitioner()
    a, b = TopicView("a", (0, 1), (0, 1)), TopicView("b", (0, 1), (0, 1))
    assert [choose(robin, a, "a"), choose(robin, b, "b"), choose(robin, a, "a")] == [0, 0, 1]


def test_partitions_without_a_leader_are_skipped() -> None:
    robin, view = RoundRobinPartitioner(), TopicView("t", (0, 1, 2, 3), (1, 3))
    assert [choose(robin, view) for _ in range(4)] == [1, 3, 1, 3]


def test_without_any_leader_all_partitions_are_used() -> None:
    robin, view = RoundRobinPartitioner(), TopicView("t", (0, 1), ())
    assert [choose(robin, view) for _ in range(3)] == [0, 1, 0]


def test_threads_share_the_rotation_without_skipping() -> None:
    robin, view = RoundRobinPartitioner(), TopicView("t", (0, 1, 2, 3), (0, 1, 2, 3))
    with ThreadPoolExecutor(8) as threads:
        chosen = list(threads.map(lambda _: choose(robin, view), range(4000)))
    assert [chosen.count(number) for number in range(4)] == [1000] * 4


def test_a_view_has_only_its_topic() -> None:
    view = TopicView("t", (0, 1), (1,))
    assert (view.partitions_for_topic("t"), view.available_partitions("t")) == ((0, 1), (1,))
    assert (view.partitions_for_topic("u"), view.available_partitions("u")) == ((), ())


def test_none_means_the_built_in_partitioner() -> None:
    assert as_partitioner(None) is None


def test_a_class_is_instantiated_and_an_object_used() -> None:
    fixed = Fixed()
    assert as_partitioner(fixed) is fixed
    assert isinstance(as_partitioner(Fixed), Fixed)


@pytest.mark.parametrize("given", ["a name", b"bytes", 5, int, lambda: 7, object()], ids=lambda it: type(it).__name__)
def test_anything_else_is_a_configuration_error(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"partitioner\.class = .*not an object with partition"):
        as_partitioner(given)


def test_a_partitioner_class_that_needs_arguments_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="NeedsArguments: it needs arguments"):
        as_partitioner(NeedsArguments)


def test_configure_and_close_are_optional() -> None:
    class Bare:
        partition = Fixed.partition

    fixed = Fixed()
    for one in (fixed, Bare()):
        partitioner.configure(one, {"a": 1})  # type: ignore[arg-type]
        partitioner.close(one)  # type: ignore[arg-type]
    assert fixed.calls == [{"a": 1}, "closed"]
