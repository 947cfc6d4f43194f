"""What can go wrong: one tree under `KafkaError`.

Names are the Java client's with `Exception` replaced by `Error`; `TimeoutException` is `KafkaTimeoutError`, because it
would shadow the builtin (which it also is). The branches follow KIP-1050 as the Java client's classes do:

    KafkaError
    ├── ApiError                         what a broker may answer
    │   ├── RetriableError               the same request may succeed later
    │   │   └── RefreshRetriableError    … once the metadata is refreshed
    │   │       └── InvalidMetadataError … because what the client believed about the cluster is out of date
    │   ├── AbortableError               the transaction is lost, the producer is not
    │   ├── ApplicationRecoverableError  the producer is lost, a new one may go on
    │   └── InvalidConfigurationError    only a changed configuration (or permission) helps
    │       ├── AuthenticationError
    │       └── AuthorizationError
    └── ConfigError, SerializationError, ProducerClosedError, DeliveryError, …    what the client itself finds

As in Java, `InvalidConfigurationError` is a category and also the class of one code (40, INVALID_CONFIG). Settings that
the producer refuses before it starts are `ConfigError`.

Each instance says what happened (`str(error)`), and as attributes: `code`, `name`, `retriable`, `possibly_persisted`,
`topic`, `partition`, `broker`, `attempts`, `stage`, `cause`, `hint`. All survive copying and pickling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

_MAX_TOPIC_LENGTH: Final = 249
_TOPIC_SHOWN: Final = 60


class KafkaError(Exception):
    """Base of all errors of Penstock.

    Args:
        message: what happened, for people.
        code: Kafka's error code; by default the class's.
        name: Kafka's name of the code; by default the class's.
        topic: the topic concerned.
        partition: its partition.
        broker: the broker concerned: its id, or text such as "1 (host:9092)".
        attempts: how many times the record was put on the wire.
        stage: where a record's journey ended: "metadata", "buffer", "linger", "in flight" or "retry".
        possibly_persisted: whether the record may be in the log in spite of this error.
        cause: the error behind this one; also `__cause__`.
        hint: what to change; by default the class's.
    """

    code: int | None = None
    """Kafka's error code; None for what only a client can find."""
    name: str | None = None
    """Kafka's name of the code, such as NOT_LEADER_OR_FOLLOWER."""
    retriable: bool = False
    """Whether the same operation may succeed later."""
    possibly_persisted: bool = False
    """Whether the record may be in the log in spite of this error; False means that it is not."""
    topic: str | None = None
    partition: int | None = None
    broker: int | str | None = None
    attempts: int | None = None
    stage: str | None = None
    cause: BaseException | None = None
    hint: str = ""
    """What to change, as a sentence; empty where there is no general advice."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        name: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        broker: int | str | None = None,
        attempts: int | None = None,
        stage: str | None = None,
        possibly_persisted: bool | None = None,
        cause: BaseException | None = None,
        hint: str | None = None,
    ) -> None:
        """All but the message are keywords, and all are optional."""
        super().__init__(message)
        self._set(
            code=code,
            name=name,
            topic=topic,
            partition=partition,
            broker=broker,
            attempts=attempts,
            stage=stage,
            possibly_persisted=possibly_persisted,
            hint=hint,
        )
        if cause is not None:
            self.cause = self.__cause__ = cause

    @property
    def message(self) -> str:
        """What happened, without where and what to change."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        """What happened, where, and what to change."""
        text = self.message or self.name or type(self).__name__
        where = ", ".join(self._where())
        if where:
            text = f"{text.rstrip('.')} ({where})"
        return f"{text.rstrip('.')}. {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles carry every attribute, whatever the signature of a subclass's constructor."""
        return _restore, (type(self), self.args, dict(self.__dict__))

    def _set(self, **given: Any) -> None:
        # Only what was given: everything else stays the class's, and an error is one small object.
        for attribute, value in given.items():
            if value is not None:
                setattr(self, attribute, value)

    def _where(self) -> Iterable[str]:
        if self.topic is not None:
            yield f"topic {_shown(self.topic)}"
        if self.partition is not None:
            yield f"partition {self.partition}"
        if self.broker is not None:
            yield f"broker {self.broker}"
        if self.attempts is not None:
            yield f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        if self.stage is not None:
            yield f"stage: {self.stage}"
        if self.possibly_persisted:
            yield "possibly persisted"
        elif self.stage is not None:  # only of a record does it say anything
            yield "not persisted"


def _shown(topic: str) -> str:
    """A topic's name; what cannot be one is quoted, and shortened: whoever uses the wrong variable may send a novel."""
    if len(topic) > _MAX_TOPIC_LENGTH:
        return f"{topic[:_TOPIC_SHOWN]!r}…"
    return topic if topic.isprintable() and topic.split() == [topic] else repr(topic)


def _restore(cls: type[KafkaError], args: tuple[Any, ...], state: dict[str, Any]) -> KafkaError:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, a base of KafkaTimeoutError, leaves them to __init__
    error.__dict__.update(state)
    error.__cause__ = error.cause
    return error


# --- Categories (KIP-1050, and the Java client's own) ---


class ApiError(KafkaError):
    """What a broker may answer, and what the client answers in its place."""


class RetriableError(ApiError):
    """The same request may succeed later; the producer retries by itself within delivery.timeout.ms."""

    retriable = True


class RefreshRetriableError(RetriableError):
    """The same request may succeed once the metadata (or the coordinator's place) is refreshed."""


class InvalidMetadataError(RefreshRetriableError):
    """What the client believed about the cluster is out of date."""


class AbortableError(ApiError):
    """The transaction has to be aborted; the producer can go on with a new one."""


class ApplicationRecoverableError(ApiError):
    """The producer cannot go on; the application may with a new one."""

    hint = "Close this producer and create a new one."


class InvalidConfigurationError(ApiError):
    """Only a changed configuration or permission helps; also the answer INVALID_CONFIG (40) itself."""

    code: int | None = 40
    name: str | None = "INVALID_CONFIG"


class AuthenticationError(InvalidConfigurationError):
    """The broker and the client did not accept one another."""

    code: int | None = None
    name: str | None = None


class AuthorizationError(InvalidConfigurationError):
    """The principal may not do this."""

    code: int | None = None
    name: str | None = None


# --- What the client itself finds: no error codes ---


class KafkaTimeoutError(RetriableError, TimeoutError):
    """Time ran out: the producer's for a record, or the broker's for its replicas. Also a builtin `TimeoutError`."""

    code: int | None = 7
    name: str | None = "REQUEST_TIMED_OUT"
    hint = (
        "Check the network and the load of the brokers; max.block.ms, request.timeout.ms and delivery.timeout.ms "
        "bound the waiting."
    )


class BufferExhaustedError(KafkaTimeoutError):
    """The buffer had no room for the record within max.block.ms; nothing was buffered."""

    code: int | None = None
    name: str | None = None
    hint = "Send more slowly, raise buffer.memory or max.block.ms, or find out why the brokers are slow."


class DisconnectError(RetriableError):
    """The connection was closed while a request was under way."""


class SslAuthenticationError(AuthenticationError):
    """The TLS handshake failed."""


class TransactionAbortedError(ApiError):
    """The record belonged to a transaction that was aborted before it was sent."""


class ConfigError(KafkaError, ValueError):
    """A setting is unknown, of the wrong type or out of range, not supported, or at odds with another one.

    Args:
        message: what is wrong with it.
        setting: the setting's name, dotted; None if several are at odds.
        context: see `KafkaError`.
    """

    setting: str | None = None

    def __init__(self, message: str = "", *, setting: str | None = None, **context: Any) -> None:
        """All but the message are keywords, and all are optional."""
        super().__init__(message, **context)
        self._set(setting=setting)


class SerializationError(KafkaError):
    """A key or value could not be turned into bytes; nothing was sent.

    Args:
        message: what is wrong with it.
        setting: "key.serializer" or "value.serializer".
        context: see `KafkaError`.
    """

    setting: str | None = None

    def __init__(self, message: str = "", *, setting: str | None = None, **context: Any) -> None:
        """All but the message are keywords, and all are optional."""
        super().__init__(message, **context)
        self._set(setting=setting)


class ProducerClosedError(KafkaError):
    """The producer is closed, or was closed before the record was delivered."""

    hint = "Create a new producer; flush() before close() to wait for everything."


class ProducerForkedError(KafkaError):
    """The producer was created in the parent process; its threads and connections did not survive the fork."""

    hint = (
        "Create the producer in the child process: in gunicorn's post_fork hook, in Celery's worker_process_init signal, "
        "or in multiprocessing's target function."
    )


class DeliveryError(KafkaError):
    """Records failed whose future nobody asked and that had no callback; raised by `flush()` and on leaving `with`.

    Args:
        message: made from `count` and `errors` if empty.
        count: how many records failed.
        errors: the errors of the first ones.
        context: see `KafkaError`; `cause` is the first error unless given.
    """

    count: int = 0
    errors: tuple[BaseException, ...] = ()
    hint = "Keep the future, or give a callback, to handle a failed record yourself."

    def __init__(
        self, message: str = "", *, count: int | None = None, errors: Iterable[BaseException] = (), **context: Any
    ) -> None:
        """All but the message are keywords, and all are optional."""
        first = tuple(errors)
        total = len(first) if count is None else count
        if first:
            context.setdefault("cause", first[0])
            message = message or f"{_records(total)} not delivered; the first error: {first[0]}"
        super().__init__(message or f"{_records(total)} not delivered", **context)
        self._set(count=total, errors=first)


class InternalError(KafkaError):
    """The producer itself failed: a defect in Penstock. The producer cannot go on."""

    hint = "Please report this with the log; close this producer and create a new one."


def _records(count: int) -> str:
    return "1 record was" if count == 1 else f"{count} records were"


# --- From codes to errors ---


def error_name(code: int) -> str:
    """Kafka's name of an error code: `error_name(3)` is "UNKNOWN_TOPIC_OR_PARTITION", and "NONE" is 0's."""
    known = ERROR_BY_CODE.get(code)
    if known is not None and known.name is not None:
        return known.name
    return "NONE" if code == 0 else f"UNKNOWN_ERROR_{code}"


def error_for_code(code: int, message: str | None = None, **context: Any) -> KafkaError:
    """The error for a broker's answer.

    Args:
        code: any error code but 0; one that Kafka 4.4 does not know gives an `UnknownServerError` with that code.
        message: what the broker said besides, if anything.
        context: the keywords of `KafkaError`.
    """
    known = ERROR_BY_CODE.get(code)
    if known is None:
        context.setdefault("hint", "The broker is newer than this client; an update may know the code.")
        context = {"code": code, "name": error_name(code), **context}
        return UnknownServerError(message or f"the broker answered with the unknown error code {code}", **context)
    name, words = known.name or "", message or known.__doc__ or ""
    # What comes from the control plane may begin with the name: log lines are made of the same words.
    return known(words if words.split(" ", 1)[0].rstrip(":;") == name else f"{name}: {words}", **context)


def is_retriable(code: int) -> bool:
    """Whether the same request may succeed later; unknown codes are not."""
    return code in RETRIABLE_CODES


def needs_refresh(code: int) -> bool:
    """Whether the metadata (or the coordinator's place) has to be refreshed before trying again."""
    return code in REFRESH_CODES


_TIMED_OUT_WHILE: Final = {
    "linger": "waiting in the buffer, never sent",
    "in flight": "waiting for the broker's answer",
    "retry": "waiting to be sent again",
}

_TIMED_OUT_HINT: Final = {
    "linger": "Check that the partition has a leader and that the brokers keep up, or raise delivery.timeout.ms.",
    "in flight": "Check the network and the brokers' load, or raise request.timeout.ms and delivery.timeout.ms.",
    "retry": "Remove what the last error names, or raise delivery.timeout.ms.",
}


def delivery_error(
    *,
    code: int,
    kind: str,
    stage: str,
    topic: str,
    partition: int,
    broker: int,
    attempts: int,
    possibly_persisted: bool,
    message: str | None,
    elapsed_ms: int,
    record_error: str | None,
    batch_ms: int | None = None,
    blamed: int = 0,
) -> KafkaError:
    """Why a record that was accepted is not known to be delivered; called by native code for its future.

    Args:
        code: the broker's error code; for other kinds the last one seen, 0 if none.
        kind: a `penstock.control.boundary.FailureKind`.
        stage: where its journey ended, see `KafkaError`.
        topic: the record's topic.
        partition: the record's partition; -1 while it had none.
        broker: the id of the last broker concerned; -1 if none.
        attempts: how many times the record was put on the wire.
        possibly_persisted: whether it may be in the log in spite of this.
        message: what the broker or the engine said besides.
        elapsed_ms: milliseconds from `send` to the failure.
        record_error: what the broker said about this very record (KIP-467); None if it blamed no or another record.
        batch_ms: milliseconds since the first `send` of its batch, if that was another one: `elapsed_ms` is then
            known to within 50 ms.
        blamed: how many records of the batch the broker blamed.
    """
    context: dict[str, Any] = {
        "topic": topic,
        "partition": None if partition < 0 else partition,
        "broker": None if broker < 0 else broker,
        "attempts": attempts,
        "stage": stage,
        "possibly_persisted": possibly_persisted,
    }
    said = f": {message}" if message else ""
    if kind == "broker" and blamed and record_error is None:
        culprits = "a record" if blamed == 1 else f"{blamed} records"
        text = f"not delivered: the broker refused its batch for {culprits} in it, not for this one"
        return KafkaError(text, cause=error_for_code(code, message), hint="Send it again.", **context)
    if kind == "refused":
        return KafkaError(message or "not buffered", **context)
    if kind == "broker" and code != 0:
        if blamed > 1:
            code = 87  # INVALID_RECORD: the answer has one code for all of them, and the words tell them apart
        words = [text for text in (message, record_error) if text]
        return error_for_code(code, "; ".join(dict.fromkeys(words)) or None, **context)
    if (kind == "broker" and message) or kind == "unresolved":
        # "broker": it follows from another batch's failure.
        return KafkaError(f"not delivered{said}", **context)
    earlier_ms = 0 if batch_ms is None else batch_ms - elapsed_ms
    elapsed = f"about {elapsed_ms} ms" if earlier_ms else f"{elapsed_ms} ms"
    last = error_for_code(code, message) if code else None
    last_seen = f"; the last error was {error_name(code)}{said}" if code else said
    if kind == "timeout":
        doing = _TIMED_OUT_WHILE.get(stage, f"in stage {stage!r}")
        if earlier_ms:
            text = (
                f"not delivered: after {elapsed} the record failed with its batch, which began {earlier_ms} ms before it"
                f" and after {batch_ms} ms (delivery.timeout.ms) was still {doing}{last_seen}"
            )
        else:
            text = f"not delivered: after {elapsed} the record was still {doing}{last_seen}"
        return KafkaTimeoutError(text, cause=last, hint=_TIMED_OUT_HINT.get(stage), **context)
    if kind == "closed":
        text = f"the producer was closed {elapsed} after send, before the record was acknowledged{last_seen}"
        return ProducerClosedError(text, cause=last, **context)
    if kind == "aborted":
        text = f"the transaction was aborted before the record was sent{last_seen}"
        return TransactionAbortedError(text, cause=last, **context)
    text = f"the producer failed {elapsed} after send, before the record was delivered ({kind}){last_seen}"
    return InternalError(text, cause=last, **context)


def not_buffered(error: BaseException, topic: str) -> KafkaError:
    """What keeps one of many records out of the buffer, if it is no `KafkaError`: an entry of `BulkResult.errors`."""
    return KafkaError(f"not sent: {type(error).__name__}: {error}", topic=topic, stage="buffer", cause=error)


def bulk_error(*, errors: Mapping[int, KafkaError], records: int) -> DeliveryError:
    """What `BulkResult.raise_for_errors` raises."""
    first = tuple(error for _, error in zip(range(5), errors.values(), strict=False))
    return DeliveryError(
        f"{len(errors)} of {records} records not delivered; the first error, of record {next(iter(errors))}: {first[0]}",
        count=len(errors),
        errors=first,
        hint="`errors` of the result has the error of each record by its index.",
    )


_ABSENT_TOPIC_HINT: Final = {
    3: "Create the topic, or check its name; the brokers answer, but do not know it.",
    5: "Wait until the topic's partitions have leaders: it may just have been created, or its brokers are down.",
}


def metadata_timeout(
    *,
    topic: str,
    partition: int | None,
    partitions: int,
    waited_ms: int,
    code: int,
    message: str,
    status: str,
    status_code: int = 0,
) -> KafkaTimeoutError:
    """A topic, or a partition of it, that did not appear within max.block.ms; called by native code for `send`.

    Args:
        topic: its name.
        partition: the partition that was asked for; None: any.
        partitions: how many the topic has, as far as is known; 0: it is not known.
        waited_ms: max.block.ms.
        code: the last metadata answer's error code about the topic; 0 if there was none.
        message: the same as text.
        status: why metadata cannot be had; empty if it can.
        status_code: Kafka's error code of that; 0 if there is none. The error's cause, unless the topic has one.
    """
    if partition is not None and partitions:
        known = "1 partition (0)" if partitions == 1 else f"{partitions} partitions (0 to {partitions - 1})"
        text = f"partition {partition} of topic {topic} does not exist: it has {known}; waited max.block.ms = {waited_ms} ms"
        hint = "Send to a partition that exists, or add partitions to the topic."
    else:
        text = f"topic {topic} is not in the cluster's metadata after max.block.ms = {waited_ms} ms"
        hint = "Check that bootstrap.servers names the right cluster and that its brokers can be reached from here."
    if code:
        text = f"{text}; the last metadata answer: {message} (error {code})"
        hint = _ABSENT_TOPIC_HINT.get(code, "Remove what the answer names, or raise max.block.ms.")
    if status:
        text = f"{text}; {status}"
    if code:
        cause: KafkaError | None = error_for_code(code, topic=topic)
    else:
        cause = error_for_code(status_code, status) if status_code else None
    return KafkaTimeoutError(
        text, topic=topic, partition=partition, stage="metadata", attempts=0, cause=cause, hint=hint
    )


def buffer_exhausted(
    *,
    topic: str,
    needed: int,
    used: int,
    total: int,
    waited_ms: int,
    oldest: tuple[str, int, int, int, int, int, str] | None,
    status: str,
    status_code: int = 0,
) -> BufferExhaustedError:
    """The buffer had no room for a record within max.block.ms; called by native code for `send`.

    Args:
        topic: the record's topic.
        needed: bytes that were waited for.
        used: bytes of buffer.memory in use.
        total: buffer.memory.
        waited_ms: max.block.ms.
        oldest: of the oldest batch in the buffer: topic, partition, age in ms, attempts, broker (-1: none), last error code
            (0: none) and message; None if nothing but callbacks keeps the memory.
        status: why metadata cannot be had; empty if it can.
        status_code: Kafka's error code of that; 0 if there is none. The error's cause, unless the oldest batch has one.
    """
    text = f"no buffer space for {needed} bytes within max.block.ms = {waited_ms} ms"
    cause = error_for_code(status_code, status) if status_code else None
    hint = None
    if oldest is None:
        text = f"{text}: {used} of buffer.memory = {total} bytes belong to records whose callbacks have not run yet"
        hint = (
            "Make the callbacks faster, or have another thread do their work; or raise buffer.memory or max.block.ms."
        )
    else:
        where, partition, age_ms, attempts, broker, code, message = oldest
        to = "no leader" if broker < 0 else f"broker {broker}"
        sent = "not sent yet" if attempts == 0 else f"sent {attempts} time{'' if attempts == 1 else 's'}"
        text = (
            f"{text}: {used} of buffer.memory = {total} bytes are in use by records that are not acknowledged yet;"
            f" the oldest is {age_ms} ms old and {sent} ({to}, topic {where}, partition {partition})"
        )
        if code:
            cause = error_for_code(code, message or None, topic=where, partition=partition)
            text = f"{text}; its last error was {error_name(code)}{f': {message}' if message else ''}"
    if status:
        text = f"{text}; {status}"
    return BufferExhaustedError(text, topic=topic, stage="buffer", attempts=0, cause=cause, hint=hint)


# --- One class per error code of Kafka 4.4, in the order of the codes where bases allow ---


class UnknownServerError(ApiError):
    """The broker failed in a way that it did not name."""

    code = -1
    name = "UNKNOWN_SERVER_ERROR"
    hint = "Look into the broker's log."


class OffsetOutOfRangeError(ApiError):
    """The offset lies outside of what the partition's log holds."""

    code = 1
    name = "OFFSET_OUT_OF_RANGE"


class CorruptRecordError(RetriableError):
    """The bytes arrived damaged: the checksum, the size or the content of a batch is wrong."""

    code = 2
    name = "CORRUPT_MESSAGE"
    hint = "If it persists, look for faulty memory or network hardware between here and the broker."


class UnknownTopicOrPartitionError(InvalidMetadataError):
    """The broker does not host this topic or partition."""

    code = 3
    name = "UNKNOWN_TOPIC_OR_PARTITION"
    hint = "Check the topic's name and that it was created, or whether it was deleted meanwhile."


class InvalidFetchSizeError(ApiError):
    """The size to fetch is out of range."""

    code = 4
    name = "INVALID_FETCH_SIZE"


class LeaderNotAvailableError(InvalidMetadataError):
    """The partition has no leader at the moment."""

    code = 5
    name = "LEADER_NOT_AVAILABLE"
    hint = "If it persists, check that enough brokers are up (unclean.leader.election.enable decides about lost ones)."


class NotLeaderOrFollowerError(InvalidMetadataError):
    """The broker asked is not the partition's leader any more."""

    code = 6
    name = "NOT_LEADER_OR_FOLLOWER"


class BrokerNotAvailableError(ApiError):
    """The broker is not available."""

    code = 8
    name = "BROKER_NOT_AVAILABLE"
    hint = "Check that the brokers are up."


class ReplicaNotAvailableError(InvalidMetadataError):
    """The replica asked for is not available."""

    code = 9
    name = "REPLICA_NOT_AVAILABLE"


class RecordTooLargeError(ApiError):
    """The record, or the batch around it, is larger than allowed."""

    code = 10
    name = "MESSAGE_TOO_LARGE"
    hint = (
        "Send smaller records, or raise max.request.size here and message.max.bytes (max.message.bytes of the "
        "topic) on the broker."
    )


class ControllerMovedError(ApiError):
    """The request came from a controller that has been replaced."""

    code = 11
    name = "STALE_CONTROLLER_EPOCH"


class OffsetMetadataTooLargeError(ApiError):
    """The metadata committed with an offset is too large."""

    code = 12
    name = "OFFSET_METADATA_TOO_LARGE"


class NetworkError(InvalidMetadataError):
    """The connection was lost before the answer arrived."""

    code = 13
    name = "NETWORK_EXCEPTION"
    hint = "Check the network and that the broker is up."


class CoordinatorLoadInProgressError(RetriableError):
    """The coordinator is still reading its log."""

    code = 14
    name = "COORDINATOR_LOAD_IN_PROGRESS"


class CoordinatorNotAvailableError(RefreshRetriableError):
    """The coordinator is not available yet."""

    code = 15
    name = "COORDINATOR_NOT_AVAILABLE"
    hint = (
        "If it persists, check that the internal topics (__transaction_state, __consumer_offsets) can be "
        "created and have leaders."
    )


class NotCoordinatorError(RefreshRetriableError):
    """The broker asked is not the coordinator any more."""

    code = 16
    name = "NOT_COORDINATOR"


class InvalidTopicError(InvalidConfigurationError):
    """The topic's name is illegal, or the topic must not be written to."""

    code = 17
    name = "INVALID_TOPIC_EXCEPTION"
    hint = (
        "A name has 1 to 249 characters out of a-z, A-Z, 0-9, '.', '_' and '-', and is neither '.' nor '..'; "
        "internal topics are not written to."
    )


class RecordBatchTooLargeError(InvalidConfigurationError):
    """The batch is larger than a segment of the partition's log."""

    code = 18
    name = "RECORD_LIST_TOO_LARGE"
    hint = "Lower batch.size and max.request.size, or raise segment.bytes of the topic."


class NotEnoughReplicasError(RetriableError):
    """Fewer replicas are in sync than the topic demands; nothing was appended."""

    code = 19
    name = "NOT_ENOUGH_REPLICAS"
    hint = "Bring the missing brokers back, or lower min.insync.replicas of the topic."


class NotEnoughReplicasAfterAppendError(RetriableError):
    """The record was appended, then fewer replicas were in sync than the topic demands."""

    code = 20
    name = "NOT_ENOUGH_REPLICAS_AFTER_APPEND"
    hint = "Bring the missing brokers back, or lower min.insync.replicas of the topic."


class InvalidRequiredAcksError(InvalidConfigurationError):
    """The broker does not know this value of acks."""

    code = 21
    name = "INVALID_REQUIRED_ACKS"
    hint = "Set acks to all, 1 or 0."


class IllegalGenerationError(ApplicationRecoverableError):
    """The generation of the consumer group is not the current one."""

    code = 22
    name = "ILLEGAL_GENERATION"


class InconsistentGroupProtocolError(ApiError):
    """The member's protocols fit none of the group's."""

    code = 23
    name = "INCONSISTENT_GROUP_PROTOCOL"


class InvalidGroupIdError(ApiError):
    """The group id is illegal."""

    code = 24
    name = "INVALID_GROUP_ID"


class UnknownMemberIdError(ApplicationRecoverableError):
    """The coordinator does not know this member."""

    code = 25
    name = "UNKNOWN_MEMBER_ID"


class InvalidSessionTimeoutError(ApiError):
    """The session timeout is out of the broker's range."""

    code = 26
    name = "INVALID_SESSION_TIMEOUT"


class RebalanceInProgressError(ApiError):
    """The group is rebalancing."""

    code = 27
    name = "REBALANCE_IN_PROGRESS"


class InvalidCommitOffsetSizeError(ApiError):
    """The offset commit is too large."""

    code = 28
    name = "INVALID_COMMIT_OFFSET_SIZE"


class TopicAuthorizationError(AuthorizationError):
    """The principal may not do this with the topic."""

    code = 29
    name = "TOPIC_AUTHORIZATION_FAILED"
    hint = "Grant WRITE and DESCRIBE on the topic to this principal."


class GroupAuthorizationError(AuthorizationError):
    """The principal may not do this with the group."""

    code = 30
    name = "GROUP_AUTHORIZATION_FAILED"
    hint = "Grant READ on the group to this principal."


class ClusterAuthorizationError(AuthorizationError):
    """The principal may not do this with the cluster."""

    code = 31
    name = "CLUSTER_AUTHORIZATION_FAILED"
    hint = "For an idempotent producer on a broker before 2.8, grant IDEMPOTENT_WRITE on the cluster to this principal."


class InvalidTimestampError(ApiError):
    """The record's timestamp is out of the topic's range."""

    code = 32
    name = "INVALID_TIMESTAMP"
    hint = (
        "Check the timestamp's unit (milliseconds) and the clock; message.timestamp.before.max.ms and "
        "message.timestamp.after.max.ms of the topic bound it."
    )


class UnsupportedSaslMechanismError(AuthenticationError):
    """The broker does not offer this SASL mechanism."""

    code = 33
    name = "UNSUPPORTED_SASL_MECHANISM"
    hint = "Set sasl.mechanism to one of the broker's sasl.enabled.mechanisms."


class IllegalSaslStateError(AuthenticationError):
    """The request does not fit the state of the SASL exchange."""

    code = 34
    name = "ILLEGAL_SASL_STATE"
    hint = "Check that security.protocol fits the listener of the port in bootstrap.servers."


class UnsupportedVersionError(InvalidConfigurationError):
    """The broker does not support this version of the request."""

    code = 35
    name = "UNSUPPORTED_VERSION"
    hint = "Check the broker's version; Penstock needs 2.1 or newer."


class TopicExistsError(ApiError):
    """The topic exists already."""

    code = 36
    name = "TOPIC_ALREADY_EXISTS"


class InvalidPartitionsError(ApiError):
    """The number of partitions is invalid."""

    code = 37
    name = "INVALID_PARTITIONS"


class InvalidReplicationFactorError(InvalidConfigurationError):
    """The replication factor is below 1 or above the number of brokers."""

    code = 38
    name = "INVALID_REPLICATION_FACTOR"


class InvalidReplicaAssignmentError(ApiError):
    """The assignment of replicas is invalid."""

    code = 39
    name = "INVALID_REPLICA_ASSIGNMENT"


class NotControllerError(RetriableError):
    """The broker asked is not the controller."""

    code = 41
    name = "NOT_CONTROLLER"


class InvalidRequestError(ApiError):
    """The broker could not make sense of the request."""

    code = 42
    name = "INVALID_REQUEST"
    hint = "Look into the broker's log; with a current broker this is a defect in Penstock."


class UnsupportedForMessageFormatError(InvalidConfigurationError):
    """The topic's message format is too old for this request."""

    code = 43
    name = "UNSUPPORTED_FOR_MESSAGE_FORMAT"


class PolicyViolationError(ApiError):
    """The request violates a policy of the cluster."""

    code = 44
    name = "POLICY_VIOLATION"


class OutOfOrderSequenceError(ApiError):
    """The sequence number does not follow the last one that the broker has seen from this producer."""

    code = 45
    name = "OUT_OF_ORDER_SEQUENCE_NUMBER"


class DuplicateSequenceError(ApiError):
    """The broker has this sequence number already."""

    code = 46
    name = "DUPLICATE_SEQUENCE_NUMBER"


class InvalidProducerEpochError(ApplicationRecoverableError):
    """The producer's epoch is older than the one that the broker knows."""

    code = 47
    name = "INVALID_PRODUCER_EPOCH"


class InvalidTxnStateError(ApiError):
    """The transaction is in a state that does not allow this."""

    code = 48
    name = "INVALID_TXN_STATE"


class InvalidPidMappingError(ApplicationRecoverableError):
    """The producer id does not belong to this transactional id (any more)."""

    code = 49
    name = "INVALID_PRODUCER_ID_MAPPING"


class InvalidTxnTimeoutError(ApiError):
    """The transaction timeout is longer than the broker allows."""

    code = 50
    name = "INVALID_TRANSACTION_TIMEOUT"
    hint = "Lower transaction.timeout.ms, or raise transaction.max.timeout.ms on the broker."


class ConcurrentTransactionsError(RetriableError):
    """Another operation of the same transaction is still under way."""

    code = 51
    name = "CONCURRENT_TRANSACTIONS"


class TransactionCoordinatorFencedError(ApiError):
    """The transaction coordinator has been replaced."""

    code = 52
    name = "TRANSACTION_COORDINATOR_FENCED"


class TransactionalIdAuthorizationError(AuthorizationError):
    """The principal may not use this transactional id."""

    code = 53
    name = "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
    hint = "Grant WRITE and DESCRIBE on the transactional id to this principal."


class SecurityDisabledError(ApiError):
    """Security is disabled on the broker."""

    code = 54
    name = "SECURITY_DISABLED"


class OperationNotAttemptedError(ApiError):
    """The broker did not attempt this operation because another one of the request had failed."""

    code = 55
    name = "OPERATION_NOT_ATTEMPTED"


class KafkaStorageError(InvalidMetadataError):
    """The broker could not write to or read from its disk."""

    code = 56
    name = "KAFKA_STORAGE_ERROR"
    hint = "Look into the broker's log and at its disks."


class LogDirNotFoundError(ApiError):
    """The broker does not have this log directory."""

    code = 57
    name = "LOG_DIR_NOT_FOUND"


class SaslAuthenticationError(AuthenticationError):
    """The broker did not accept the credentials."""

    code = 58
    name = "SASL_AUTHENTICATION_FAILED"
    hint = "Check the user, the password or the token, and sasl.mechanism."


class UnknownProducerIdError(OutOfOrderSequenceError):
    """The broker has nothing recorded for this producer id, as after retention deleted its records."""

    code = 59
    name = "UNKNOWN_PRODUCER_ID"


class ReassignmentInProgressError(ApiError):
    """A reassignment of the partition is under way."""

    code = 60
    name = "REASSIGNMENT_IN_PROGRESS"


class DelegationTokenDisabledError(ApiError):
    """Delegation tokens are disabled on the broker."""

    code = 61
    name = "DELEGATION_TOKEN_AUTH_DISABLED"


class DelegationTokenNotFoundError(ApiError):
    """The broker does not have this delegation token."""

    code = 62
    name = "DELEGATION_TOKEN_NOT_FOUND"


class DelegationTokenOwnerMismatchError(ApiError):
    """The delegation token belongs to another principal."""

    code = 63
    name = "DELEGATION_TOKEN_OWNER_MISMATCH"


class UnsupportedByAuthenticationError(ApiError):
    """A connection authenticated like this may not ask for delegation tokens."""

    code = 64
    name = "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"


class DelegationTokenAuthorizationError(AuthorizationError):
    """The principal may not do this with the delegation token."""

    code = 65
    name = "DELEGATION_TOKEN_AUTHORIZATION_FAILED"


class DelegationTokenExpiredError(ApiError):
    """The delegation token has expired."""

    code = 66
    name = "DELEGATION_TOKEN_EXPIRED"


class InvalidPrincipalTypeError(ApiError):
    """The principal's type is not supported."""

    code = 67
    name = "INVALID_PRINCIPAL_TYPE"


class GroupNotEmptyError(ApiError):
    """The group still has members."""

    code = 68
    name = "NON_EMPTY_GROUP"


class GroupIdNotFoundError(ApiError):
    """The group does not exist."""

    code = 69
    name = "GROUP_ID_NOT_FOUND"


class FetchSessionIdNotFoundError(RetriableError):
    """The broker does not have this fetch session."""

    code = 70
    name = "FETCH_SESSION_ID_NOT_FOUND"


class InvalidFetchSessionEpochError(RetriableError):
    """The epoch of the fetch session is not the expected one."""

    code = 71
    name = "INVALID_FETCH_SESSION_EPOCH"


class ListenerNotFoundError(InvalidMetadataError):
    """The leader has no listener of the name that the request came in by."""

    code = 72
    name = "LISTENER_NOT_FOUND"
    hint = "Check that every broker has the listener that bootstrap.servers points at."


class TopicDeletionDisabledError(ApiError):
    """The broker does not delete topics."""

    code = 73
    name = "TOPIC_DELETION_DISABLED"
    hint = "Set delete.topic.enable on the broker."


class FencedLeaderEpochError(InvalidMetadataError):
    """The leader epoch of the request is older than the broker's."""

    code = 74
    name = "FENCED_LEADER_EPOCH"


class UnknownLeaderEpochError(RetriableError):
    """The leader epoch of the request is newer than the broker's."""

    code = 75
    name = "UNKNOWN_LEADER_EPOCH"


class UnsupportedCompressionTypeError(ApiError):
    """The broker or the topic does not take this compression."""

    code = 76
    name = "UNSUPPORTED_COMPRESSION_TYPE"
    hint = "Choose another compression.type; zstd needs a broker of 2.1 or newer."


class StaleBrokerEpochError(ApiError):
    """The epoch of the broker is not the current one."""

    code = 77
    name = "STALE_BROKER_EPOCH"


class OffsetNotAvailableError(RetriableError):
    """The leader cannot tell its newest offset yet."""

    code = 78
    name = "OFFSET_NOT_AVAILABLE"


class MemberIdRequiredError(ApiError):
    """The group wants a member id before joining."""

    code = 79
    name = "MEMBER_ID_REQUIRED"


class PreferredLeaderNotAvailableError(InvalidMetadataError):
    """The preferred leader is not available."""

    code = 80
    name = "PREFERRED_LEADER_NOT_AVAILABLE"


class GroupMaxSizeReachedError(ApiError):
    """The group has as many members as it may have."""

    code = 81
    name = "GROUP_MAX_SIZE_REACHED"


class FencedInstanceIdError(ApplicationRecoverableError):
    """Another client has taken this static member's or producer's place."""

    code = 82
    name = "FENCED_INSTANCE_ID"


class EligibleLeadersNotAvailableError(InvalidMetadataError):
    """No replica is eligible to lead."""

    code = 83
    name = "ELIGIBLE_LEADERS_NOT_AVAILABLE"


class ElectionNotNeededError(InvalidMetadataError):
    """The partition needs no election."""

    code = 84
    name = "ELECTION_NOT_NEEDED"


class NoReassignmentInProgressError(ApiError):
    """No reassignment is under way."""

    code = 85
    name = "NO_REASSIGNMENT_IN_PROGRESS"


class GroupSubscribedToTopicError(ApiError):
    """The group is subscribed to the topic whose offsets should be deleted."""

    code = 86
    name = "GROUP_SUBSCRIBED_TO_TOPIC"


class InvalidRecordError(InvalidConfigurationError):
    """The broker found the record, or another one of its batch, invalid."""

    code = 87
    name = "INVALID_RECORD"
    hint = "A compacted topic refuses records without a key; else see the broker's words."


class UnstableOffsetCommitError(RetriableError):
    """Offsets of an unfinished transaction are pending."""

    code = 88
    name = "UNSTABLE_OFFSET_COMMIT"


class ThrottlingQuotaExceededError(RetriableError):
    """The quota was exceeded."""

    code = 89
    name = "THROTTLING_QUOTA_EXCEEDED"
    hint = "Send less, or raise the client's quota."


class ProducerFencedError(ApplicationRecoverableError):
    """A newer producer with the same id has taken over."""

    code = 90
    name = "PRODUCER_FENCED"
    hint = "Close this producer and create a new one. With a transactional.id, run one producer per id."


class ResourceNotFoundError(ApiError):
    """The resource does not exist."""

    code = 91
    name = "RESOURCE_NOT_FOUND"


class DuplicateResourceError(ApiError):
    """The request names a resource twice."""

    code = 92
    name = "DUPLICATE_RESOURCE"


class UnacceptableCredentialError(ApiError):
    """The credential is not acceptable."""

    code = 93
    name = "UNACCEPTABLE_CREDENTIAL"


class InconsistentVoterSetError(ApiError):
    """The set of voters differs between the nodes."""

    code = 94
    name = "INCONSISTENT_VOTER_SET"


class InvalidUpdateVersionError(ApiError):
    """The version to update to is invalid."""

    code = 95
    name = "INVALID_UPDATE_VERSION"


class FeatureUpdateFailedError(ApiError):
    """The feature could not be updated."""

    code = 96
    name = "FEATURE_UPDATE_FAILED"


class PrincipalDeserializationError(ApiError):
    """The broker could not read the forwarded principal."""

    code = 97
    name = "PRINCIPAL_DESERIALIZATION_FAILURE"


class SnapshotNotFoundError(ApiError):
    """The snapshot does not exist."""

    code = 98
    name = "SNAPSHOT_NOT_FOUND"


class PositionOutOfRangeError(ApiError):
    """The position lies outside of the snapshot."""

    code = 99
    name = "POSITION_OUT_OF_RANGE"


class UnknownTopicIdError(InvalidMetadataError):
    """The broker does not know this topic id."""

    code = 100
    name = "UNKNOWN_TOPIC_ID"
    hint = "The topic may have been deleted and created anew."


class DuplicateBrokerRegistrationError(ApiError):
    """Another broker has registered with this id."""

    code = 101
    name = "DUPLICATE_BROKER_REGISTRATION"


class BrokerIdNotRegisteredError(ApiError):
    """No broker has registered with this id."""

    code = 102
    name = "BROKER_ID_NOT_REGISTERED"


class InconsistentTopicIdError(InvalidMetadataError):
    """The topic's id in the log differs from the one in the request."""

    code = 103
    name = "INCONSISTENT_TOPIC_ID"
    hint = "The topic may have been deleted and created anew."


class InconsistentClusterIdError(ApiError):
    """The broker belongs to another cluster than the request."""

    code = 104
    name = "INCONSISTENT_CLUSTER_ID"


class TransactionalIdNotFoundError(ApiError):
    """The transactional id does not exist."""

    code = 105
    name = "TRANSACTIONAL_ID_NOT_FOUND"


class FetchSessionTopicIdError(RetriableError):
    """The fetch session does not use topic ids in the same way."""

    code = 106
    name = "FETCH_SESSION_TOPIC_ID_ERROR"


class IneligibleReplicaError(ApiError):
    """The new replica is not eligible to be in sync."""

    code = 107
    name = "INELIGIBLE_REPLICA"


class NewLeaderElectedError(ApiError):
    """The alteration of partitions succeeded and made another broker the leader."""

    code = 108
    name = "NEW_LEADER_ELECTED"


class OffsetMovedToTieredStorageError(ApiError):
    """The offset has moved to tiered storage."""

    code = 109
    name = "OFFSET_MOVED_TO_TIERED_STORAGE"


class FencedMemberEpochError(ApiError):
    """The member's epoch is fenced."""

    code = 110
    name = "FENCED_MEMBER_EPOCH"


class UnreleasedInstanceIdError(ApiError):
    """Another member still holds this instance id."""

    code = 111
    name = "UNRELEASED_INSTANCE_ID"


class UnsupportedAssignorError(ApiError):
    """The group's assignor is not supported."""

    code = 112
    name = "UNSUPPORTED_ASSIGNOR"


class StaleMemberEpochError(ApiError):
    """The member's epoch is stale."""

    code = 113
    name = "STALE_MEMBER_EPOCH"


class MismatchedEndpointTypeError(ApiError):
    """The request went to an endpoint of the wrong kind (broker or controller)."""

    code = 114
    name = "MISMATCHED_ENDPOINT_TYPE"
    hint = "Point bootstrap.servers at brokers, not at controllers."


class UnsupportedEndpointTypeError(ApiError):
    """The broker does not know this kind of endpoint."""

    code = 115
    name = "UNSUPPORTED_ENDPOINT_TYPE"


class UnknownControllerIdError(ApiError):
    """The controller's id is not known."""

    code = 116
    name = "UNKNOWN_CONTROLLER_ID"


class UnknownSubscriptionIdError(ApiError):
    """The telemetry subscription is not the current one."""

    code = 117
    name = "UNKNOWN_SUBSCRIPTION_ID"


class TelemetryTooLargeError(ApiError):
    """The telemetry is larger than the broker takes."""

    code = 118
    name = "TELEMETRY_TOO_LARGE"


class InvalidRegistrationError(ApiError):
    """The controller found the registration invalid."""

    code = 119
    name = "INVALID_REGISTRATION"


class TransactionAbortableError(AbortableError):
    """The transaction has to be aborted; the producer can go on with a new one."""

    code = 120
    name = "TRANSACTION_ABORTABLE"
    hint = "Abort the transaction and begin anew."


class InvalidRecordStateError(ApiError):
    """The state of the record does not allow this."""

    code = 121
    name = "INVALID_RECORD_STATE"


class ShareSessionNotFoundError(RetriableError):
    """The broker does not have this share session."""

    code = 122
    name = "SHARE_SESSION_NOT_FOUND"


class InvalidShareSessionEpochError(RetriableError):
    """The epoch of the share session is invalid."""

    code = 123
    name = "INVALID_SHARE_SESSION_EPOCH"


class FencedStateEpochError(ApiError):
    """The epoch of the share state is fenced."""

    code = 124
    name = "FENCED_STATE_EPOCH"


class InvalidVoterKeyError(ApiError):
    """The voter's key does not match."""

    code = 125
    name = "INVALID_VOTER_KEY"


class DuplicateVoterError(ApiError):
    """The voter is in the set already."""

    code = 126
    name = "DUPLICATE_VOTER"


class VoterNotFoundError(ApiError):
    """The voter is not in the set."""

    code = 127
    name = "VOTER_NOT_FOUND"


class InvalidRegularExpressionError(ApiError):
    """The regular expression is invalid."""

    code = 128
    name = "INVALID_REGULAR_EXPRESSION"


class RebootstrapRequiredError(ApiError):
    """The client should begin anew with bootstrap.servers."""

    code = 129
    name = "REBOOTSTRAP_REQUIRED"


class StreamsInvalidTopologyError(ApiError):
    """The topology of the streams application is invalid."""

    code = 130
    name = "STREAMS_INVALID_TOPOLOGY"


class StreamsInvalidTopologyEpochError(ApiError):
    """The epoch of the streams topology is invalid."""

    code = 131
    name = "STREAMS_INVALID_TOPOLOGY_EPOCH"


class StreamsTopologyFencedError(ApiError):
    """The epoch of the streams topology is outdated."""

    code = 132
    name = "STREAMS_TOPOLOGY_FENCED"


class ShareSessionLimitReachedError(RetriableError):
    """The broker has as many share sessions as it may have."""

    code = 133
    name = "SHARE_SESSION_LIMIT_REACHED"


class GroupDeletionFailedError(ApiError):
    """The group could not be deleted."""

    code = 134
    name = "GROUP_DELETION_FAILED"


class StreamsTopologyDescriptionUpdateFailedError(ApiError):
    """The description of the streams topology could not be updated."""

    code = 135
    name = "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED"


class ControllerIdNotRegisteredError(ApiError):
    """No controller has registered with this id."""

    code = 136
    name = "CONTROLLER_ID_NOT_REGISTERED"


ERROR_BY_CODE: Final[dict[int, type[KafkaError]]] = {
    -1: UnknownServerError,
    1: OffsetOutOfRangeError,
    2: CorruptRecordError,
    3: UnknownTopicOrPartitionError,
    4: InvalidFetchSizeError,
    5: LeaderNotAvailableError,
    6: NotLeaderOrFollowerError,
    7: KafkaTimeoutError,
    8: BrokerNotAvailableError,
    9: ReplicaNotAvailableError,
    10: RecordTooLargeError,
    11: ControllerMovedError,
    12: OffsetMetadataTooLargeError,
    13: NetworkError,
    14: CoordinatorLoadInProgressError,
    15: CoordinatorNotAvailableError,
    16: NotCoordinatorError,
    17: InvalidTopicError,
    18: RecordBatchTooLargeError,
    19: NotEnoughReplicasError,
    20: NotEnoughReplicasAfterAppendError,
    21: InvalidRequiredAcksError,
    22: IllegalGenerationError,
    23: InconsistentGroupProtocolError,
    24: InvalidGroupIdError,
    25: UnknownMemberIdError,
    26: InvalidSessionTimeoutError,
    27: RebalanceInProgressError,
    28: InvalidCommitOffsetSizeError,
    29: TopicAuthorizationError,
    30: GroupAuthorizationError,
    31: ClusterAuthorizationError,
    32: InvalidTimestampError,
    33: UnsupportedSaslMechanismError,
    34: IllegalSaslStateError,
    35: UnsupportedVersionError,
    36: TopicExistsError,
    37: InvalidPartitionsError,
    38: InvalidReplicationFactorError,
    39: InvalidReplicaAssignmentError,
    40: InvalidConfigurationError,
    41: NotControllerError,
    42: InvalidRequestError,
    43: UnsupportedForMessageFormatError,
    44: PolicyViolationError,
    45: OutOfOrderSequenceError,
    46: DuplicateSequenceError,
    47: InvalidProducerEpochError,
    48: InvalidTxnStateError,
    49: InvalidPidMappingError,
    50: InvalidTxnTimeoutError,
    51: ConcurrentTransactionsError,
    52: TransactionCoordinatorFencedError,
    53: TransactionalIdAuthorizationError,
    54: SecurityDisabledError,
    55: OperationNotAttemptedError,
    56: KafkaStorageError,
    57: LogDirNotFoundError,
    58: SaslAuthenticationError,
    59: UnknownProducerIdError,
    60: ReassignmentInProgressError,
    61: DelegationTokenDisabledError,
    62: DelegationTokenNotFoundError,
    63: DelegationTokenOwnerMismatchError,
    64: UnsupportedByAuthenticationError,
    65: DelegationTokenAuthorizationError,
    66: DelegationTokenExpiredError,
    67: InvalidPrincipalTypeError,
    68: GroupNotEmptyError,
    69: GroupIdNotFoundError,
    70: FetchSessionIdNotFoundError,
    71: InvalidFetchSessionEpochError,
    72: ListenerNotFoundError,
    73: TopicDeletionDisabledError,
    74: FencedLeaderEpochError,
    75: UnknownLeaderEpochError,
    76: UnsupportedCompressionTypeError,
    77: StaleBrokerEpochError,
    78: OffsetNotAvailableError,
    79: MemberIdRequiredError,
    80: PreferredLeaderNotAvailableError,
    81: GroupMaxSizeReachedError,
    82: FencedInstanceIdError,
    83: EligibleLeadersNotAvailableError,
    84: ElectionNotNeededError,
    85: NoReassignmentInProgressError,
    86: GroupSubscribedToTopicError,
    87: InvalidRecordError,
    88: UnstableOffsetCommitError,
    89: ThrottlingQuotaExceededError,
    90: ProducerFencedError,
    91: ResourceNotFoundError,
    92: DuplicateResourceError,
    93: UnacceptableCredentialError,
    94: InconsistentVoterSetError,
    95: InvalidUpdateVersionError,
    96: FeatureUpdateFailedError,
    97: PrincipalDeserializationError,
    98: SnapshotNotFoundError,
    99: PositionOutOfRangeError,
    100: UnknownTopicIdError,
    101: DuplicateBrokerRegistrationError,
    102: BrokerIdNotRegisteredError,
    103: InconsistentTopicIdError,
    104: InconsistentClusterIdError,
    105: TransactionalIdNotFoundError,
    106: FetchSessionTopicIdError,
    107: IneligibleReplicaError,
    108: NewLeaderElectedError,
    109: OffsetMovedToTieredStorageError,
    110: FencedMemberEpochError,
    111: UnreleasedInstanceIdError,
    112: UnsupportedAssignorError,
    113: StaleMemberEpochError,
    114: MismatchedEndpointTypeError,
    115: UnsupportedEndpointTypeError,
    116: UnknownControllerIdError,
    117: UnknownSubscriptionIdError,
    118: TelemetryTooLargeError,
    119: InvalidRegistrationError,
    120: TransactionAbortableError,
    121: InvalidRecordStateError,
    122: ShareSessionNotFoundError,
    123: InvalidShareSessionEpochError,
    124: FencedStateEpochError,
    125: InvalidVoterKeyError,
    126: DuplicateVoterError,
    127: VoterNotFoundError,
    128: InvalidRegularExpressionError,
    129: RebootstrapRequiredError,
    130: StreamsInvalidTopologyError,
    131: StreamsInvalidTopologyEpochError,
    132: StreamsTopologyFencedError,
    133: ShareSessionLimitReachedError,
    134: GroupDeletionFailedError,
    135: StreamsTopologyDescriptionUpdateFailedError,
    136: ControllerIdNotRegisteredError,
}
"""Error code → class; complete for Kafka 4.4, without 0 (NONE)."""


RETRIABLE_CODES: Final = frozenset(code for code, known in ERROR_BY_CODE.items() if known.retriable)
"""Codes after which the same request may succeed later."""

REFRESH_CODES: Final = frozenset(
    code for code, known in ERROR_BY_CODE.items() if issubclass(known, RefreshRetriableError)
)
"""Codes after which the metadata (or the coordinator's place) has to be refreshed first."""
