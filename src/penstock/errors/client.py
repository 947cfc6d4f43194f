"""Errors that the client itself finds. They have no code, except the timeout, which a broker may also answer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from penstock.errors.base import KafkaError
from penstock.errors.categories import ApiError, AuthenticationError, RetriableError


class KafkaTimeoutError(RetriableError, TimeoutError):
    """A timeout expired: the producer's for a record, or the broker's for its replicas. Also a builtin `TimeoutError`."""

    code: int | None = 7
    name: str | None = "REQUEST_TIMED_OUT"
    hint = (
        "Check the network and the load of the brokers; max.block.ms, request.timeout.ms and delivery.timeout.ms "
        "limit the waiting time."
    )


class BufferExhaustedError(KafkaTimeoutError):
    """The buffer had no room for the record within max.block.ms; nothing was buffered."""

    code: int | None = None
    name: str | None = None
    hint = "Send more slowly, raise buffer.memory or max.block.ms, or find out why the brokers are slow."


class DisconnectError(RetriableError):
    """The connection was closed while a request was in flight."""


class SslAuthenticationError(AuthenticationError):
    """The TLS handshake failed."""


class TransactionAbortedError(ApiError):
    """The record belonged to a transaction that was aborted before it was sent."""


class ConfigError(KafkaError, ValueError):
    """A setting is unknown, has the wrong type, is out of range, is not supported, or contradicts another one.

    Args:
        message: the problem.
        setting: the setting's dotted name; None if several contradict one another.
        context: see `KafkaError`.
    """

    setting: str | None = None

    def __init__(self, message: str = "", *, setting: str | None = None, **context: Any) -> None:
        """All arguments are optional; all except the message are keywords."""
        super().__init__(message, **context)
        self._set(setting=setting)


class SerializationError(KafkaError):
    """A key or value could not be turned into bytes; nothing was sent.

    Args:
        message: the problem.
        setting: "key.serializer" or "value.serializer".
        context: see `KafkaError`.
    """

    setting: str | None = None

    def __init__(self, message: str = "", *, setting: str | None = None, **context: Any) -> None:
        """All arguments are optional; all except the message are keywords."""
        super().__init__(message, **context)
        self._set(setting=setting)


class ProducerClosedError(KafkaError):
    """The producer is closed, or was closed before the record was delivered."""

    hint = "Create a new producer; flush() before close() to wait for everything."


class RecordPurgedError(KafkaError):
    """The application purged the record before it was sent (`KafkaProducer.purge`); it is not in the log."""

    hint = "Send it again if it is still wanted."


class ProducerForkedError(KafkaError):
    """The producer was created in the parent process; its threads and connections did not survive the fork."""

    hint = (
        "Create the producer in the child process: in gunicorn's post_fork hook, in Celery's worker_process_init signal, "
        "or in multiprocessing's target function."
    )


class DeliveryError(KafkaError):
    """Records failed that had no callback and whose future was not read; raised by `flush()` and at the end of `with`.

    Args:
        message: by default made from `count` and `errors`.
        count: how many records failed.
        errors: the errors of the first ones.
        context: see `KafkaError`; `cause` is the first error unless given.
    """

    count: int = 0
    errors: tuple[BaseException, ...] = ()
    hint = "Read the future, or give a callback, to handle a failed record yourself."

    def __init__(
        self, message: str = "", *, count: int | None = None, errors: Iterable[BaseException] = (), **context: Any
    ) -> None:
        """All arguments are optional; all except the message are keywords."""
        first = tuple(errors)
        total = len(first) if count is None else count
        if first:
            context.setdefault("cause", first[0])
            message = message or f"{_records(total)} not delivered; the first error: {first[0]}"
        super().__init__(message or f"{_records(total)} not delivered", **context)
        self._set(count=total, errors=first)


class InternalError(KafkaError):
    """The producer itself failed, by a defect in Penstock."""

    hint = "Please report this with the log; close this producer and create a new one."


def _records(count: int) -> str:
    return "1 record was" if count == 1 else f"{count} records were"
