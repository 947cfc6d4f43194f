"""The settings of an embedded broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, TypedDict

FsyncPolicy: TypeAlias = Literal["never", "always"] | int
"""When appended batches are flushed to disk: by the system, before each answer, or at an interval in ms."""


class BrokerOptions(TypedDict, total=False):
    """The fields of `BrokerSettings` as keywords, for editors and type checkers."""

    nodes: int
    host: str
    port: int
    advertised_host: str | None
    data_dir: str | Path | None
    racks: Sequence[str | None]
    auto_create_topics: bool
    num_partitions: int
    default_replication_factor: int | None
    max_message_bytes: int
    segment_bytes: int
    retention_bytes: int
    log_append_time: bool
    fsync: FsyncPolicy
    max_request_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerSettings:
    """All options; sizes are bytes.

    - `nodes`: the number of brokers in the cluster; their ids are 1 to `nodes`.
    - `port`: of the first node, the others follow; 0: free ports, chosen by the system.
    - `advertised_host`: the host that clients get, if it is not `host`.
    - `data_dir`: the folder of topics and records; None: they are in memory and end with the broker.
    - `racks`: one per node.
    - `auto_create_topics`, `num_partitions`, `default_replication_factor` (None: 3, or as many as there are nodes),
      `max_message_bytes`, `segment_bytes`, `retention_bytes`, `log_append_time`: as Kafka's settings of these names.
    - `fsync`: "never", "always" or an interval in ms.
    - `max_request_bytes`: Kafka's socket.request.max.bytes; a longer frame closes its connection.
    """

    nodes: int = 1
    host: str = "127.0.0.1"
    port: int = 0
    advertised_host: str | None = None
    data_dir: str | Path | None = None
    racks: Sequence[str | None] = ()
    auto_create_topics: bool = True
    num_partitions: int = 1
    default_replication_factor: int | None = None
    max_message_bytes: int = 1_048_588
    segment_bytes: int = 1 << 30
    retention_bytes: int = -1
    log_append_time: bool = False
    fsync: FsyncPolicy = "never"
    max_request_bytes: int = 100 * 1024 * 1024
    topic_defaults: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Raise `ValueError` for impossible settings."""
        if self.nodes < 1 or self.num_partitions < 1:
            raise ValueError(f"{self.nodes} nodes and {self.num_partitions} partitions: at least one of each is needed")
        if not 0 <= self.port <= 65536 - self.nodes:
            raise ValueError(f"port {self.port}: too few ports above it for {self.nodes} nodes")
        if self.racks and len(self.racks) != self.nodes:
            raise ValueError(f"{len(self.racks)} racks are given for {self.nodes} nodes")
        if not 1 <= self.replication_factor <= self.nodes:
            raise ValueError(f"a replication factor of {self.replication_factor} does not fit {self.nodes} nodes")
        if isinstance(self.fsync, int) and self.fsync <= 0:
            raise ValueError(f"fsync every {self.fsync} ms: use 'never' or 'always'")
        defaults = {
            "max.message.bytes": str(self.max_message_bytes),
            "segment.bytes": str(self.segment_bytes),
            "retention.bytes": str(self.retention_bytes),
            "message.timestamp.type": "LogAppendTime" if self.log_append_time else "CreateTime",
        }
        object.__setattr__(self, "topic_defaults", defaults)

    @property
    def replication_factor(self) -> int:
        """The default of topics."""
        return min(self.nodes, 3) if self.default_replication_factor is None else self.default_replication_factor

    def rack_of(self, node_id: int) -> str | None:
        """The rack of a node."""
        return self.racks[node_id - 1] if self.racks else None
