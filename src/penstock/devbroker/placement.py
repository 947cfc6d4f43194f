"""Allowed topic names, and the placement of partitions on nodes; pure functions."""

import re
from collections.abc import Sequence
from typing import Final

from penstock.devbroker.errors import ErrorCode, RequestError

MAX_NAME: Final = 249
MAX_PARTITIONS_PER_REQUEST: Final = 10_000
"""The limit of Kafka's controller; it also bounds the memory that one small request can allocate."""

_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")


def check_name(name: str) -> None:
    """Raise INVALID_TOPIC_EXCEPTION for an invalid topic name; a valid one is safe as a folder's name."""
    if not name:
        reason = "it is empty"
    elif name in (".", ".."):
        reason = "it cannot be '.' or '..'"
    elif len(name) > MAX_NAME:
        reason = f"it is {len(name)} characters long, the maximum is {MAX_NAME}"
    elif not _LEGAL.fullmatch(name):
        reason = "it has a character other than ASCII letters, digits, '.', '_' and '-'"
    else:
        return
    raise RequestError(ErrorCode.INVALID_TOPIC_EXCEPTION, f"Topic name is invalid: {reason}")


def collision_key(name: str) -> str:
    """Names with an equal key must not exist together: Kafka's metrics do not distinguish '.' and '_'."""
    return name.replace(".", "_")


def place(partitions: range, replication_factor: int, nodes: Sequence[int], first: int) -> list[tuple[int, ...]]:
    """Replicas of each partition, the preferred leader first: round robin, starting with the node at index `first`.

    Raises INVALID_REPLICATION_FACTOR if there are too few nodes. Racks are ignored.
    """
    if not 0 < replication_factor <= len(nodes):
        raise RequestError(
            ErrorCode.INVALID_REPLICATION_FACTOR,
            f"the replication factor is {replication_factor}, and {len(nodes)} brokers are registered",
        )
    return [
        tuple(nodes[(first + partition + replica) % len(nodes)] for replica in range(replication_factor))
        for partition in partitions
    ]


def check_assignment(
    assignment: Sequence[tuple[int, ...]], nodes: Sequence[int], replication_factor: int | None = None
) -> None:
    """Raise INVALID_REPLICA_ASSIGNMENT if the client's choice of replicas is impossible.

    `replication_factor`: that of the topic's other partitions, if there are any.
    """
    expected = replication_factor
    for replicas in assignment:
        if expected is None:
            expected = len(replicas)
        if not replicas or len(replicas) != expected:
            raise RequestError(
                ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"{replicas} are not {expected} replicas, at least one"
            )
        if len(set(replicas)) != len(replicas):
            raise RequestError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"a broker is listed twice in {replicas}")
        unknown = sorted(set(replicas) - set(nodes))
        if unknown:
            raise RequestError(ErrorCode.INVALID_REPLICA_ASSIGNMENT, f"there is no broker {unknown[0]}")
