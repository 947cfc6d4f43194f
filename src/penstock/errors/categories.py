"""The categories of errors (KIP-1050, and the Java client's own): they tell how to react, without a list of codes."""

from __future__ import annotations

from penstock.errors.base import KafkaError


class ApiError(KafkaError):
    """The answer of a broker, or an error that the client reports in its place."""


class RetriableError(ApiError):
    """The same request may succeed later; the producer retries by itself within delivery.timeout.ms."""

    retriable = True


class RefreshRetriableError(RetriableError):
    """The same request may succeed once the metadata, or the coordinator, is looked up again."""


class InvalidMetadataError(RefreshRetriableError):
    """The client's metadata is out of date."""


class AbortableError(ApiError):
    """The transaction has to be aborted; the producer can continue with a new one."""


class ApplicationRecoverableError(ApiError):
    """The producer has failed; the application may create a new one."""

    hint = "Close this producer and create a new one."


class InvalidConfigurationError(ApiError):
    """Only a changed configuration or permission helps; also the class of the code INVALID_CONFIG (40)."""

    code: int | None = 40
    name: str | None = "INVALID_CONFIG"


class AuthenticationError(InvalidConfigurationError):
    """Authentication between broker and client failed."""

    code: int | None = None
    name: str | None = None


class AuthorizationError(InvalidConfigurationError):
    """The principal lacks the permission."""

    code: int | None = None
    name: str | None = None
