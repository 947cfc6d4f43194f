"""The categories of errors (KIP-1050, and the Java client's own): what to do about an error, without its code."""

from __future__ import annotations

from penstock.errors.base import KafkaError


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
