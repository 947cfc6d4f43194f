"""The errors of records, made for native code: not delivered, not buffered, many at once, timed out in `send`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from penstock.errors.base import KafkaError
from penstock.errors.client import (
    BufferExhaustedError,
    DeliveryError,
    InternalError,
    KafkaTimeoutError,
    ProducerClosedError,
    RecordPurgedError,
    TransactionAbortedError,
)
from penstock.errors.lookup import error_for_code, error_name

_TIMED_OUT_WHILE: Final = {
    "linger": "waiting in the buffer, never sent",
    "in flight": "waiting for the broker's answer",
    "retry": "waiting to be sent again",
}

_TIMED_OUT_HINT: Final = {
    "linger": "Check that the partition has a leader and that the brokers keep up, or raise delivery.timeout.ms.",
    "in flight": "Check the network and the brokers' load, or raise request.timeout.ms and delivery.timeout.ms.",
    "retry": "Remove the cause of the last error, or raise delivery.timeout.ms.",
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
    """The error of a record that was buffered, for its future; called by native code.

    Args:
        code: the broker's error code; for other kinds the last one seen, 0 if none.
        kind: a `penstock.control.boundary.FailureKind`.
        stage: where the record was when it failed, see `KafkaError`.
        topic: the record's topic.
        partition: the record's partition; -1 while it had none.
        broker: the id of the last broker it was sent to; -1 if none.
        attempts: how often the record was sent.
        possibly_persisted: whether it may be in the log despite this error.
        message: the message of the broker or of the engine.
        elapsed_ms: milliseconds from `send` to the failure.
        record_error: the broker's message about this record (KIP-467); None if it blamed no record, or another one.
        batch_ms: milliseconds since the first `send` of its batch, if that was another record's; `elapsed_ms` is
            then exact to 50 ms.
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
    if kind == "refused":
        return KafkaError(message or "not buffered", **context)
    if kind == "broker" and (code or message):
        return _refused(code, message, record_error, blamed, context)
    if kind == "unresolved":
        return KafkaError(f"not delivered: {message}", **context)
    elapsed = f"{elapsed_ms} ms" if batch_ms is None or batch_ms == elapsed_ms else f"about {elapsed_ms} ms"
    cause = error_for_code(code, message) if code else None
    reason = f": {message}" if message else ""
    last_seen = f"; the last error was {error_name(code)}{reason}" if code else reason
    if kind == "timeout":
        state = _TIMED_OUT_WHILE.get(stage, f"in stage {stage!r}")
        text = f"not delivered: after {elapsed} the record was still {state}{last_seen}"
        return KafkaTimeoutError(text, cause=cause, hint=_TIMED_OUT_HINT.get(stage), **context)
    if kind == "closed":
        text = f"the producer was closed {elapsed} after send, before the record was acknowledged{last_seen}"
        return ProducerClosedError(text, cause=cause, **context)
    if kind == "purged":
        return RecordPurgedError(
            f"the application purged the record {elapsed} after send, before it was sent", **context
        )
    if kind == "aborted":
        text = f"the transaction was aborted before the record was sent{last_seen}"
        return TransactionAbortedError(text, cause=cause, **context)
    text = f"the producer failed {elapsed} after send, before the record was delivered ({kind}){last_seen}"
    return InternalError(text, cause=cause, **context)


def _refused(
    code: int, message: str | None, record_error: str | None, blamed: int, context: dict[str, Any]
) -> KafkaError:
    """The broker refused the record, its batch, or an earlier batch (then without a code)."""
    if blamed and record_error is None:
        culprits = "a record" if blamed == 1 else f"{blamed} records"
        text = f"not delivered: the broker refused its batch for {culprits} in it, not for this one"
        return KafkaError(text, cause=error_for_code(code, message), hint="Send it again.", **context)
    if not code:
        return KafkaError(f"not delivered: {message}", **context)
    if blamed > 1:
        code = 87  # INVALID_RECORD: the answer has one code for all blamed records; their messages differ
    texts = [text for text in (message, record_error) if text]
    return error_for_code(code, "; ".join(dict.fromkeys(texts)) or None, **context)


def not_buffered(error: BaseException, topic: str) -> KafkaError:
    """The error of one of many records that was not buffered, for `BulkResult.errors`; `error` is no `KafkaError`."""
    return KafkaError(f"not sent: {type(error).__name__}: {error}", topic=topic, stage="buffer", cause=error)


def bulk_error(*, errors: Mapping[int, KafkaError], records: int) -> DeliveryError:
    """The error that `BulkResult.raise_for_errors` raises."""
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
    """A topic or a partition did not appear within max.block.ms; called by native code for `send`.

    Args:
        topic: its name.
        partition: the wanted partition; None: any.
        partitions: how many the topic has; 0: the topic is not in the metadata.
        waited_ms: max.block.ms.
        code: the last metadata answer's error code about the topic; 0 if there was none.
        message: the same as text.
        status: why no metadata arrives; empty if it does.
        status_code: the status's error code, 0 if none: the error's cause, unless the topic has one.
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
        hint = _ABSENT_TOPIC_HINT.get(code, "Remove the cause that the answer names, or raise max.block.ms.")
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
        needed: the bytes that the record needs.
        used: bytes of buffer.memory in use.
        total: buffer.memory.
        waited_ms: max.block.ms.
        oldest: the oldest batch in the buffer: topic, partition, age in ms, attempts, broker (-1: none), last error code
            (0: none) and message; None if only callbacks hold the memory.
        status: why no metadata arrives; empty if it does.
        status_code: the status's error code, 0 if none: the error's cause, unless the oldest batch has one.
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
