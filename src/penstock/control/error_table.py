"""The meaning of each error code, for each answer that carries one: the tables that the control plane decides by.

There is one table for each place of an error code. A row is a code that Kafka (4.4, and older brokers that we support) may
put there, its consequence, and the source of that rule. Every other code has the table's default, by the kind of Java's
exception for the code (KIP-1050): *refresh* (`InvalidMetadataException` and similar), *retriable*, or neither. Codes that
Kafka 4.4 does not have are neither, as in Java. Classes named as sources are the Java client's unless marked as the
broker's.

`python -m codegen.error_tables` renders this file into docs/error-codes.md;
`tests/unit/control/test_error_tables.py` steps every row through the code that acts on it.
"""

from enum import Enum
from typing import Final, Generic, NamedTuple, TypeVar

from penstock import errors
from penstock.control.boundary import Fate

Outcome_co = TypeVar("Outcome_co", bound=Enum, covariant=True)


class Appended(Enum):
    """The meaning of an error code of a Produce answer for the append; the value is the remark in the documentation."""

    NO = ""
    PERHAPS = "fate unknown"
    WITH_OFFSET = "fate unknown with an offset"


class Row(NamedTuple, Generic[Outcome_co]):
    """One error code in one place."""

    code: int
    outcome: Outcome_co
    source: str
    """Where the rule comes from, and a remark."""
    appended: Appended = Appended.NO
    """Produce only. The data plane decides by a list of its own (`Fate::of_answer`); a test compares the two."""


class Table(Generic[Outcome_co]):
    """The consequence of an error code in one place of one answer; `test` names the test that steps each row."""

    def __init__(
        self,
        *,
        place: str,
        test: str,
        rows: tuple[Row[Outcome_co], ...],
        refresh: Outcome_co,
        retriable: Outcome_co,
        other: Outcome_co,
    ) -> None:
        """`rows` are for single codes; `refresh`, `retriable` and `other` are the defaults."""
        self.place = place
        self.test = test
        self.rows = rows
        self.refresh = refresh
        self.retriable = retriable
        self.other = other
        self._by_code = {row.code: row for row in rows}

    def fate(self, code: int, base_offset: int) -> Fate:
        """The meaning of this error code for the append; a code that Kafka 4.4 does not have has none."""
        row = self._by_code.get(code)
        appended = row.appended if row else Appended.NO if code in errors.ERROR_BY_CODE else Appended.PERHAPS
        doubtful = appended is Appended.PERHAPS or (appended is Appended.WITH_OFFSET and base_offset >= 0)
        return "unknown" if doubtful else "rejected"

    def outcome(self, code: int) -> Outcome_co:
        """The consequence of a code, by its row or by default."""
        row = self._by_code.get(code)
        if row is not None:
            return row.outcome
        if errors.needs_refresh(code):
            return self.refresh
        return self.retriable if errors.is_retriable(code) else self.other


# ------------------------------------------------------------------------------------------------------------- Produce


class ProduceOutcome(Enum):
    """The consequence of an error for a batch; the value is the text in the documentation."""

    DONE = "with an offset: complete; not answered yet: retry as is"
    RETRY = "retry after backoff"
    REFRESH = "refresh metadata, retry after backoff; at once if a newer leader is known"
    FAIL = "fail this batch"
    SPLIT = "more than one record: split and retry at once; one record, or fate unknown: fail"
    DUPLICATE = "complete without an offset"
    GAP = "as *new epoch*, but behind a batch that failed: retry; successors are renumbered to close the gap"
    NEW_EPOCH = "behind a batch that is retried: retry as is; else new epoch and retry, or fail if its fate is unknown"
    LOST_STATE = "without log start in the answer: retry as is; else as *new epoch*"
    FATAL = "idempotent: the producer fails; otherwise this batch fails"


_P = ProduceOutcome

PRODUCE: Final = Table(
    place="Produce, a partition",
    test="test_a_produce_answer",
    refresh=_P.REFRESH,
    retriable=_P.RETRY,
    other=_P.FAIL,
    rows=(
        Row(-1, _P.FAIL, "Sender.canRetry; the broker does not know itself whether it appended", Appended.PERHAPS),
        Row(0, _P.DONE, "Sender.completeBatch"),
        Row(2, _P.RETRY, "RetriableException; damaged in transit, the next copy need not be"),
        Row(
            3,
            _P.REFRESH,
            "InvalidMetadataException; with an offset: appended by a broker that lost the partition since",
            Appended.WITH_OFFSET,
        ),
        Row(5, _P.REFRESH, "InvalidMetadataException"),
        Row(
            6,
            _P.REFRESH,
            "KIP-951; with an offset: appended by a leader that was deposed before its followers had it",
            Appended.WITH_OFFSET,
        ),
        Row(7, _P.RETRY, "appended, its replicas did not confirm in time", Appended.PERHAPS),
        Row(10, _P.SPLIT, "KIP-126; Sender.completeBatch"),
        Row(
            13,
            _P.REFRESH,
            "never answered, our own code for a lost connection, once the request was written",
            Appended.PERHAPS,
        ),
        Row(17, _P.FAIL, "the topic is one that clients must not write to"),
        Row(18, _P.FAIL, "larger than a segment of the log; Java does not split here"),
        Row(19, _P.RETRY, "below min.insync.replicas, not appended"),
        Row(20, _P.RETRY, "appended, below min.insync.replicas then", Appended.PERHAPS),
        Row(21, _P.FAIL, "ApiException"),
        Row(29, _P.FAIL, "Sender.failBatch; this topic only, the others go on"),
        Row(31, _P.FATAL, "TransactionManager.maybeTransitionToErrorState"),
        Row(32, _P.FAIL, "KIP-467; beyond message.timestamp.before.max.ms or .after.max.ms"),
        Row(35, _P.FATAL, "TransactionManager.maybeTransitionToErrorState"),
        Row(42, _P.FAIL, "ApiException"),
        Row(43, _P.FAIL, "InvalidConfigurationException"),
        Row(45, _P.GAP, "KIP-360; TransactionManager.canRetry"),
        Row(46, _P.DUPLICATE, "Sender.completeBatch; it is in the log, but the broker has forgotten where"),
        Row(47, _P.NEW_EPOCH, "KIP-360; Java fails this batch before it raises the epoch"),
        Row(48, _P.FAIL, "transactions only"),
        Row(49, _P.FATAL, "TransactionManager.maybeTransitionToErrorState; the broker does not know this producer id"),
        Row(51, _P.RETRY, "transactions only: the partition is still being added (KIP-890)"),
        Row(53, _P.FATAL, "TransactionManager.maybeTransitionToErrorState"),
        Row(56, _P.REFRESH, "the disk failed, perhaps between the write and the answer", Appended.PERHAPS),
        Row(59, _P.LOST_STATE, "KIP-360; TransactionManager.canRetry; old brokers"),
        Row(74, _P.REFRESH, "InvalidMetadataException"),
        Row(75, _P.REFRESH, "Java only retries; fresh metadata gets over it sooner"),
        Row(76, _P.FAIL, "ApiException"),
        Row(87, _P.FAIL, "KIP-467: the answer names the records at fault"),
        Row(90, _P.FATAL, "TransactionManager.maybeTransitionToErrorState; another producer has taken over"),
        Row(100, _P.REFRESH, "KIP-516: deleted, or created again with another id"),
        Row(103, _P.REFRESH, "InvalidMetadataException"),
        Row(120, _P.FAIL, "transactions only (KIP-890)"),
    ),
)


# ------------------------------------------------------------------------------------------------------------ Metadata


class ClusterOutcome(Enum):
    """The consequence of the error of a whole Metadata answer."""

    TAKE = "take it in; without brokers: ignore it, request again after backoff"
    REBOOTSTRAP = "return to bootstrap.servers; metadata.recovery.strategy=none: request again after backoff"


METADATA_CLUSTER: Final = Table(
    place="Metadata, the whole answer",
    test="test_a_metadata_answer_as_a_whole",
    refresh=ClusterOutcome.TAKE,
    retriable=ClusterOutcome.TAKE,
    other=ClusterOutcome.TAKE,
    rows=(
        Row(
            0, ClusterOutcome.TAKE, "NetworkClient.handleSuccessfulResponse; a broker that is starting names no brokers"
        ),
        Row(129, ClusterOutcome.REBOOTSTRAP, "KIP-1102; NetworkClient.handleSuccessfulResponse"),
    ),
)


class TopicOutcome(Enum):
    """The consequence of the error of a topic."""

    TAKE = "take its partitions in"
    REQUEST_AGAIN = "callers go on waiting, known partitions stay; request again after backoff"
    REFUSE = "callers that wait for it fail at once, known partitions stay"


_T = TopicOutcome

METADATA_TOPIC: Final = Table(
    place="Metadata, a topic",
    test="test_a_metadata_answer_about_a_topic",
    refresh=_T.REQUEST_AGAIN,
    retriable=_T.REQUEST_AGAIN,
    other=_T.REQUEST_AGAIN,
    rows=(
        Row(0, _T.TAKE, "Metadata.handleMetadataResponse; without partitions: as LEADER_NOT_AVAILABLE"),
        Row(-1, _T.REQUEST_AGAIN, "ProducerMetadata; a caller requests again until max.block.ms"),
        Row(3, _T.REQUEST_AGAIN, "InvalidMetadataException; not there yet, or not for us to see"),
        Row(5, _T.REQUEST_AGAIN, "InvalidMetadataException; it is just being made"),
        Row(17, _T.REFUSE, "KafkaProducer.waitOnMetadata: an illegal name"),
        Row(29, _T.REFUSE, "KafkaProducer.waitOnMetadata; this topic only, and the next `send` requests again"),
        Row(38, _T.REQUEST_AGAIN, "auto.create.topics.enable with too few brokers yet; old brokers"),
    ),
)


class PartitionOutcome(Enum):
    """The consequence of the error of a partition. Its epoch and leader count in any case, so that no epoch is missed."""

    TAKE = "take it in"
    STALE = "take it in; request again after backoff"


METADATA_PARTITION: Final = Table(
    place="Metadata, a partition",
    test="test_a_metadata_answer_about_a_partition",
    refresh=PartitionOutcome.STALE,
    retriable=PartitionOutcome.TAKE,
    other=PartitionOutcome.TAKE,
    rows=(
        Row(0, PartitionOutcome.TAKE, "Metadata.updateLatestMetadata; without a leader: request again after backoff"),
        Row(5, PartitionOutcome.STALE, "InvalidMetadataException; no leader at present"),
        Row(9, PartitionOutcome.STALE, "InvalidMetadataException; a replica's broker is down, the leader need not be"),
        Row(72, PartitionOutcome.STALE, "InvalidMetadataException; the leader does not listen where we can reach it"),
    ),
)


# --------------------------------------------------------------------------------------------------------- ApiVersions


class VersionsOutcome(Enum):
    """The consequence of the error of an ApiVersions answer."""

    OPEN = "the connection is open, if there are common versions; else close, backoff"
    DOWNGRADE = (
        "request in the version that the answer offers, at least one lower; refused in version 0: close, backoff"
    )
    CLOSE = "close, backoff"
    REBOOTSTRAP = "close; return to bootstrap.servers, unless metadata.recovery.strategy=none"


_V = VersionsOutcome

API_VERSIONS: Final = Table(
    place="ApiVersions",
    test="test_an_api_versions_answer",
    refresh=_V.CLOSE,
    retriable=_V.CLOSE,
    other=_V.CLOSE,
    rows=(
        Row(0, _V.OPEN, "NetworkClient.handleApiVersionsResponse"),
        Row(35, _V.DOWNGRADE, "KIP-511; NetworkClient.handleApiVersionsResponse"),
        Row(42, _V.CLOSE, "KIP-511: the broker refuses our name or version"),
        Row(129, _V.REBOOTSTRAP, "metadata.cluster.check.enable: another cluster or node answers at this address"),
    ),
)


# ------------------------------------------------------------------------------------------------------ InitProducerId


class IdentityOutcome(Enum):
    """The consequence of the error of an InitProducerId answer for a producer without transactional.id."""

    HELD = "adopt it; without a producer id: request again after backoff"
    RETRY = "request again after backoff"
    REFUSED = "every record that is buffered fails, later ones are taken; request again after backoff"
    FATAL = "the producer fails"


_I = IdentityOutcome

INIT_PRODUCER_ID: Final = Table(
    place="InitProducerId",
    test="test_an_init_producer_id_answer",
    refresh=_I.RETRY,
    retriable=_I.RETRY,
    other=_I.FATAL,
    rows=(
        Row(0, _I.HELD, "InitProducerIdHandler"),
        Row(14, _I.RETRY, "InitProducerIdHandler; the broker waits for a block of producer ids"),
        Row(15, _I.RETRY, "InitProducerIdHandler; transactions only"),
        Row(16, _I.RETRY, "InitProducerIdHandler; transactions only"),
        Row(
            31,
            _I.REFUSED,
            "InitProducerIdHandler, Sender.shouldHandleAuthorizationError: permission may be given later",
        ),
        Row(42, _I.FATAL, "InitProducerIdHandler"),
        Row(47, _I.FATAL, "InitProducerIdHandler; transactions only"),
        Row(51, _I.RETRY, "InitProducerIdHandler; transactions only"),
        Row(53, _I.REFUSED, "InitProducerIdHandler, Sender.shouldHandleAuthorizationError; transactions only"),
        Row(90, _I.FATAL, "InitProducerIdHandler; transactions only"),
        Row(120, _I.FATAL, "transactions only, where it is no end (KIP-890)"),
    ),
)


# ----------------------------------------------------------------------------------------------------- FindCoordinator


class CoordinatorOutcome(Enum):
    """The consequence of the error of a FindCoordinator answer. Reserved for transactions; nothing sends the request yet."""

    FOUND = "go to it"
    RETRY = "request again after backoff"
    ABORT = "the transaction has to be aborted"
    FATAL = "the producer fails"


_C = CoordinatorOutcome

FIND_COORDINATOR: Final = Table(
    place="FindCoordinator (reserved for transactions)",
    test="test_a_find_coordinator_answer",
    refresh=_C.RETRY,
    retriable=_C.RETRY,
    other=_C.FATAL,
    rows=(
        Row(0, _C.FOUND, "FindCoordinatorHandler"),
        Row(14, _C.RETRY, "FindCoordinatorHandler"),
        Row(15, _C.RETRY, "FindCoordinatorHandler; its log is just being made, or has no leader"),
        Row(30, _C.ABORT, "FindCoordinatorHandler; sendOffsetsToTransaction for a group that is not ours"),
        Row(42, _C.FATAL, "FindCoordinatorHandler"),
        Row(53, _C.FATAL, "FindCoordinatorHandler"),
        Row(120, _C.ABORT, "FindCoordinatorHandler (KIP-890)"),
    ),
)


TABLES: Final[tuple[Table[Enum], ...]] = (
    PRODUCE,
    METADATA_CLUSTER,
    METADATA_TOPIC,
    METADATA_PARTITION,
    API_VERSIONS,
    INIT_PRODUCER_ID,
    FIND_COORDINATOR,
)
