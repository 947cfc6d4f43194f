"""Waits before the first send: for a broker that answers, the topic, and a partition's leader that can be reached.

A producer waits max.block.ms for the first two and delivery.timeout.ms for the leader, which is right for a service. A
user with a wrong address needs the error sooner, and once.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from typing import Any, Final

from penstock._reader import Cluster
from penstock.cli.interrupts import Interrupts, cut_short
from penstock.cli.options import WAIT_S
from penstock.cli.output import CommandError
from penstock.config import ProducerConfig
from penstock.errors import KafkaError, UnknownTopicOrPartitionError, error_for_code

_LONGEST_ATTEMPT_S: Final = 5.0
_SHORTEST_ATTEMPT_S: Final = 0.5
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 1.0
_LEADER_NOT_AVAILABLE: Final = 5


def await_topic(config: ProducerConfig, topic: str, *, wait_s: float, partition: int | None = None) -> None:
    """Return once `topic` can be sent to: to `partition`, or to any partition. The request may create the topic.

    After `wait_s` seconds raises `CommandError` with the last error (for instance each address and its error). Raises
    `KafkaError` at once for a permanent error: an invalid name, a missing permission.
    """
    deadline = time.monotonic() + wait_s
    attempt_s = min(max(wait_s / 2, _SHORTEST_ATTEMPT_S), _LONGEST_ATTEMPT_S)
    cluster = Cluster(",".join(config.settings.bootstrap_servers), timeout_s=attempt_s)
    pause_s = _FIRST_PAUSE_S
    try:
        while True:
            try:
                _check(cluster, topic, partition)
                return
            except KafkaError as error:
                if not error.retriable:
                    raise
                if time.monotonic() + pause_s >= deadline:
                    raise CommandError(_timeout_text(error, wait_s)) from error
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
    finally:
        cluster.close()


def awaited(
    config: ProducerConfig,
    given: Mapping[str, Any],
    topic: str,
    *,
    wait_s: float | None,
    partition: int | None = None,
) -> tuple[str | None, int]:
    """Await the topic; returns the error, if any, and the exit code.

    `wait_s` None: max.block.ms if it is among the `given` settings, else `WAIT_S`.
    """
    if wait_s is None:
        wait_s = config.settings.max_block_ms / 1000 if "max.block.ms" in given else WAIT_S
    interrupts = Interrupts()
    try:
        with interrupts:
            await_topic(config, topic, wait_s=wait_s, partition=partition)
    except KeyboardInterrupt:
        return cut_short(interrupts.stopped_by or signal.SIGINT)
    except (CommandError, KafkaError) as error:
        return str(error), 1
    return None, 0


def _check(cluster: Cluster, topic: str, partition: int | None) -> None:
    leaders: dict[int, int] = {}
    for answer in cluster.metadata([topic], create=True).topics:
        if answer.error_code:
            raise error_for_code(answer.error_code, topic=topic)
        leaders = {part.partition_index: part.leader_id for part in answer.partitions}
    if partition is not None and partition not in leaders:
        raise UnknownTopicOrPartitionError(
            f"there is no partition {partition}, it has the partitions {sorted(leaders)}", topic=topic
        )
    wanted = leaders.values() if partition is None else [leaders[partition]]
    nodes = sorted({leader for leader in wanted if leader >= 0})
    if not nodes:
        raise error_for_code(_LEADER_NOT_AVAILABLE, topic=topic, partition=partition)
    cluster.reach_one_of(nodes)


def _timeout_text(error: KafkaError, wait_s: float) -> str:
    text = str(error).removesuffix(error.hint).rstrip(". ")
    return f"{text}; waited {wait_s:g} s (--wait). {error.hint}".rstrip()
