"""The boundary between the control plane (Python) and the data plane (Rust), in one table.

The control thread calls ``engine.exchange(commands, timeout_ms) -> events``. Nothing else crosses while records flow.
Commands and events are immutable named tuples. Each class and each field has the same name in Rust
(``rust/core/src/boundary/``, ``rust/python/src/runtime/boundary/``). The first engine of a process compares the names, their
order and the texts of each `Literal`; a difference raises. ``tests/unit/test_boundary.py`` sends one sample of each class
through Rust and back.

Rules that the types carry (``DESIGN.md``, "The boundary"):

* The control plane chooses a connection's id and never uses one twice. A late answer cannot be confused with one of a newer
  connection.
* A lane (one partition's queue) belongs to the data plane until it is handed over whole, with nothing in flight, and comes
  back whole. Meanwhile the data plane only applies deadlines to it.
* A topic arrives as one atomic snapshot with a version that only grows.

Times are milliseconds on the engine's monotonic clock, sizes are bytes, ``-1`` means "none" where Kafka uses it.
"""

from typing import Literal, NamedTuple, TypeAlias

Fate: TypeAlias = Literal["unsent", "partly written", "rejected", "unknown"]
"""How far a batch got over all its attempts; the worst counts and only success improves it.

``unsent``: no byte left. ``partly written``: a part of the frame left, so no broker can have read it. ``rejected``: a broker
answered that it did not append. ``unknown``: the answer is lost, or says that the append may have happened.
Only ``unknown`` means *possibly persisted*, and a batch of unknown fate is never renumbered.
"""

Action: TypeAlias = Literal["retry", "fail", "complete", "split"]

FailureKind: TypeAlias = Literal[
    "broker", "timeout", "closed", "purged", "aborted", "refused", "unresolved", "internal"
]
"""Why records fail; with the code it chooses the class of the error (`penstock.errors.delivery_error`).

``broker``: a broker answered with an error code. ``timeout``: delivery.timeout.ms. ``closed``: the producer was closed first.
``purged``: by the application. ``aborted``: with its transaction. ``refused``: it was never buffered. ``unresolved``:
bootstrap.resolve.timeout.ms. ``internal``: a defect of Penstock.
"""


class Trouble(NamedTuple):
    """Why something does not work at present. ``Trouble()`` is false: nothing is wrong.

    ``code`` is Kafka's error code, 0 if no broker has given one. It reaches the user: an error that is raised because of this
    trouble has the error of that code as its cause.
    """

    code: int = 0
    message: str = ""  # human-readable

    def __bool__(self) -> bool:
        """Whether there is any."""
        return bool(self.code or self.message)


# ------------------------------------------------------------------------------------------------ control plane → data plane


class Connect(NamedTuple):
    """Open a TCP connection to one resolved address; answered by `ConnectionOpened` or `ConnectionClosed`."""

    connection_id: int
    broker_id: int  # -1 for a bootstrap address whose node is not known yet
    ip: str
    port: int
    setup_timeout_ms: int


class SendFrame(NamedTuple):
    """Send one opaque control request (without its 4-byte length); answered by `FrameReceived` or `ConnectionClosed`.

    The data plane checks that answers come in order with the right correlation id, and closes the connection when the
    answer takes longer than ``timeout_ms``.
    """

    connection_id: int
    correlation_id: int
    frame: bytes
    timeout_ms: int


class Ready(NamedTuple):
    """The handshake is done: this connection now carries the Produce requests of its broker, in this API version.

    A request that holds a topic without an id (an older broker's metadata) goes in version 12 at most, by names.
    Ignored when the connection is closed. A ready connection of the same broker that is still open is closed first.
    """

    connection_id: int
    produce_version: int


class Close(NamedTuple):
    """Close a connection; batches in flight on it get fate *unknown* (or *partly written*). Answered by `ConnectionClosed`."""

    connection_id: int
    reason: str


class PartitionLeader(NamedTuple):
    """One partition in a `SetTopic` snapshot; the position in the tuple is the partition's number."""

    leader: int  # -1: none known
    leader_epoch: int  # -1: unknown
    local: bool  # its leader is in client.rack (for partitioner.rack.aware)


class SetTopic(NamedTuple):
    """Replace what is known of one topic, atomically. Lanes of new partitions appear; an epoch increase cancels backoff."""

    name: str
    topic_id: bytes  # 16 bytes, zeros when the broker has no topic ids
    version: int  # of this topic's snapshots; an older one is ignored
    partitions: tuple[PartitionLeader, ...]


class FailTopic(NamedTuple):
    """The last metadata answer about a topic was an error.

    ``is_final``: waiting `send` calls raise at once (illegal name, not authorized). Otherwise they wait up to max.block.ms,
    and the error is the cause of their timeout. Lanes that exist keep their records.
    """

    name: str
    trouble: Trouble
    is_final: bool


class ForgetTopic(NamedTuple):
    """Drop an idle topic (metadata.max.idle.ms). Ignored while one of its lanes has records."""

    name: str


class SetStatus(NamedTuple):
    """Why there is no metadata at present (each address with its last error); ``Trouble()`` when all is well.

    A `send` that waits until its timeout, and records that expire, carry it.
    """

    trouble: Trouble


class SetBrokerStatus(NamedTuple):
    """Why a broker that records wait for cannot be reached; ``Trouble()`` when it can be. Its records carry it if they expire."""

    broker_id: int
    trouble: Trouble


class SetIdentity(NamedTuple):
    """The producer id and epoch that each lane adopts, sequences from 0, as soon as it is quiescent."""

    producer_id: int
    epoch: int


class BatchDecision(NamedTuple):
    """The decision about one batch of a handed-over lane."""

    batch_id: int
    action: Action
    kind: FailureKind = "broker"  # fail
    code: int = 0  # fail: Kafka's code of the last attempt; 0: none
    message: str = ""  # fail: the last cause, human-readable
    base_offset: int = -1  # complete: -1 if it cannot be known (DUPLICATE_SEQUENCE_NUMBER)


class Renumber(NamedTuple):
    """New numbering for the batches that remain, contiguous from ``first_sequence``; refused if one has unknown fate."""

    producer_id: int
    epoch: int
    first_sequence: int


class ResumeLane(NamedTuple):
    """Give a lane back whole: one decision for every batch that was handed over, in the same order.

    ``split`` children take the batch's place with contiguous sequences. ``delay_ms`` is the backoff before the lane flows.
    """

    topic: str
    partition: int
    decisions: tuple[BatchDecision, ...]
    renumber: Renumber | None
    delay_ms: int


class FailBuffered(NamedTuple):
    """Every record that is buffered now fails with this error; later ones are taken.

    A batch that was sent before stays, because its sequence numbers are used; it counts as expired.
    """

    kind: FailureKind
    trouble: Trouble


class FailProducer(NamedTuple):
    """Fatal: every record that is buffered fails with this error and later sends raise it."""

    kind: FailureKind
    trouble: Trouble


Command: TypeAlias = (
    Connect
    | SendFrame
    | Ready
    | Close
    | SetTopic
    | FailTopic
    | ForgetTopic
    | SetStatus
    | SetBrokerStatus
    | SetIdentity
    | ResumeLane
    | FailBuffered
    | FailProducer
)


# ------------------------------------------------------------------------------------------------ data plane → control plane


class ConnectionOpened(NamedTuple):
    """TCP is up; the handshake (ApiVersions, later SASL) is the control plane's."""

    connection_id: int


class ConnectionClosed(NamedTuple):
    """A connection ended."""

    connection_id: int
    reason: str  # human-readable, e.g. "connection refused", "no answer to Produce within 30000 ms"
    expected: bool  # we closed it ourselves: idle (connections.max.idle.ms) or on command
    requested: bool  # records wait for this broker: connect again (after backoff)
    worked: (
        bool  # a Produce request was answered on it (acks=0: one has left, and the connection lasted a second after it)
    )


class FrameReceived(NamedTuple):
    """The answer to a `SendFrame`, whole, without its 4-byte length."""

    connection_id: int
    correlation_id: int
    frame: bytes


class ConnectionWanted(NamedTuple):
    """Records are ready for a broker that has no connection. Reported once until a `Connect` for it ends or succeeds."""

    broker_id: int


class TopicWanted(NamedTuple):
    """A `send` or `partitions_for` waits for this topic, or for a partition number beyond those known (``partition``)."""

    name: str
    partition: int  # -1: any


class LeaderWanted(NamedTuple):
    """Records are ready for partitions without a leader: refresh metadata. Reported once per topic snapshot."""

    topics: tuple[str, ...]


class BatchReport(NamedTuple):
    """One batch of a handed-over lane."""

    batch_id: int
    base_sequence: int  # -1: not numbered
    record_count: int
    attempts: int
    fate: Fate
    error_code: int  # of the last attempt; 13 (NETWORK_EXCEPTION) for a lost connection; 0: not attempted, or no answer yet known
    error_message: str  # the broker's, or why the connection was lost
    lost: bool  # no broker has answered the last attempt: its connection ended
    expired: bool  # its futures have failed already; the batch stays because its sequence numbers are used
    base_offset: int  # from the answer; -1 if none
    current_leader: int  # KIP-951 hint from the answer; -1 if none
    current_leader_epoch: int


class LaneReport(NamedTuple):
    """A lane handed over: nothing of it is in flight. Batches in sequence order, oldest first."""

    topic: str
    topic_id: bytes
    partition: int
    leader: int  # that was used
    leader_epoch: int
    producer_id: int  # -1: not idempotent, or none adopted yet
    epoch: int
    last_acked_sequence: int  # of the last record acknowledged under this identity; -1: none
    log_start_offset: int  # from the last answer; -1: unknown
    failures: int  # hand-overs in a row without a success between: the exponent for backoff
    numbers_used_elsewhere: bool  # batches of this epoch went to another topic of this name (it was created again)
    batches: tuple[BatchReport, ...]


class NodeEndpoint(NamedTuple):
    """Where a broker listens, as a Produce answer reports it (KIP-951)."""

    broker_id: int
    host: str
    port: int
    rack: str | None


class LanesHandedOver(NamedTuple):
    """The lanes that settled in one pass of the I/O thread, and the endpoints that the answers carried."""

    lanes: tuple[LaneReport, ...]
    endpoints: tuple[NodeEndpoint, ...]


class EngineFailed(NamedTuple):
    """The I/O thread died (a bug). Every future has been failed; the control plane stops."""

    message: str


Event: TypeAlias = (
    ConnectionOpened
    | ConnectionClosed
    | FrameReceived
    | ConnectionWanted
    | TopicWanted
    | LeaderWanted
    | LanesHandedOver
    | EngineFailed
)
