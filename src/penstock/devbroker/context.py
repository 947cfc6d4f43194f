"""The context of a request, and the description of a handler."""

import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Fault, Target
from penstock.devbroker.placement import MAX_PARTITIONS_PER_REQUEST
from penstock.devbroker.state import ClusterState
from penstock.devbroker.topics import NodeInfo, Partition, Topic
from penstock.protocol.message import Api, Request, Response


class CloseConnection(Exception):  # noqa: N818  (a decision, not an error of this program)
    """The connection must be closed; the reason is logged."""


@dataclass(slots=True)
class Context:
    """A request's node, cluster, scripted fault and limits."""

    state: ClusterState
    node: NodeInfo
    version: int
    client_id: str | None
    offered: "Mapping[int, Handler]"
    fault: Fault | None = None
    partitions_left: int = MAX_PARTITIONS_PER_REQUEST

    def spend_partitions(self, count: int) -> None:
        """Raise POLICY_VIOLATION if the request creates more partitions than one request may, as in Kafka."""
        if count > self.partitions_left:
            raise RequestError(
                ErrorCode.POLICY_VIOLATION, f"one request may create {MAX_PARTITIONS_PER_REQUEST} partitions at most"
            )
        self.partitions_left -= max(count, 1)

    def error_before(self, topic: str = "", partition: int = -1) -> int:
        """The scripted error to answer with instead of handling the request, or 0."""
        fault = self.fault
        return fault.error if fault and fault.error and not fault.after_append and self._hits(topic, partition) else 0

    def error_after(self, topic: str = "", partition: int = -1) -> int:
        """The scripted error to answer with after the request was handled, or 0."""
        fault = self.fault
        return fault.error if fault and fault.error and fault.after_append and self._hits(topic, partition) else 0

    def _hits(self, topic: str, partition: int) -> bool:
        return self.fault is not None and self.fault.fits((topic, partition))

    def find_topic(self, name: str | None, topic_id: uuid.UUID, *, by_id: bool) -> Topic | None:
        """The topic, by its id in the versions that have no names."""
        return self.state.topic_by_id(topic_id) if by_id else self.state.topics.get(name or "")

    def leader_error(self, partition: Partition, current_epoch: int = -1) -> ErrorCode:
        """NONE if this node leads the partition and the client's leader epoch (-1: none) is current."""
        if current_epoch > partition.leader_epoch:
            return ErrorCode.UNKNOWN_LEADER_EPOCH
        if 0 <= current_epoch < partition.leader_epoch:
            return ErrorCode.FENCED_LEADER_EPOCH
        if partition.leader != self.node.node_id:
            return ErrorCode.NOT_LEADER_OR_FOLLOWER
        return ErrorCode.NONE

    def topic_name(self, topic_id: uuid.UUID) -> str:
        """The name of the topic with that id, "" if there is none."""
        topic = self.state.topic_by_id(topic_id)
        return topic.name if topic else ""


Handle = Callable[[Context, Any], Awaitable[Response | None]]
Targets = Callable[[Context, Any], Iterable[Target]]


def no_targets(_: Context, __: Any) -> Iterable[Target]:
    """For requests without a topic."""
    return ()


@dataclass(frozen=True, slots=True)
class Handler:
    """One API: its versions and the function that answers. None as an answer: the request expects no answer."""

    api: Api
    request: type[Request]
    handle: Handle
    targets: Targets = no_targets
    max_version: int | None = None
    announced_min_version: int | None = None

    @property
    def latest(self) -> int:
        """The highest version offered."""
        return self.api.max_version if self.max_version is None else self.max_version

    @property
    def announced_earliest(self) -> int:
        """The lowest version that ApiVersions announces."""
        return self.api.min_version if self.announced_min_version is None else self.announced_min_version

    def supports(self, version: int) -> bool:
        """Whether the version is offered."""
        return self.api.min_version <= version <= self.latest


def now_ms() -> int:
    """The time, in ms since the epoch."""
    return time.time_ns() // 1_000_000
