"""The errors of records, as native code asks for them: not delivered, not buffered, many at once, waited in vain."""

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
        kind: "broker" (it refused), "timeout", "closed", "aborted" (with its transaction), "refused" (never
            buffered, one of many) or "internal".
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
    if kind == "broker" and message:
        return KafkaError(f"not delivered{said}", **context)  # it follows from another batch's failure
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
    *, topic: str, partition: int | None, partitions: int, waited_ms: int, code: int, message: str, status: str
) -> KafkaTimeoutError:
    """A topic, or a partition of it, that did not appear within max.block.ms; called by native code for `send`.

    Args:
        topic: its name.
        partition: the partition that was asked for; None: any.
        partitions: how many the topic has, as far as is known; 0: it is not known.
        waited_ms: max.block.ms.
        code: the last metadata answer's error code about the topic; 0 if there was none.
        message: the same in words.
        status: why metadata cannot be had; empty if it can.
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
    cause = error_for_code(code, topic=topic) if code else None
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
    """
    text = f"no buffer space for {needed} bytes within max.block.ms = {waited_ms} ms"
    cause = hint = None
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
