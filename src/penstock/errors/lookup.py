"""From an error code to its name, its error, and whether to retry."""

from __future__ import annotations

from typing import Any, Final

from penstock.errors.base import KafkaError
from penstock.errors.categories import RefreshRetriableError
from penstock.errors.codes import ERROR_BY_CODE, UnknownServerError

RETRIABLE_CODES: Final = frozenset(code for code, known in ERROR_BY_CODE.items() if known.retriable)
"""Codes after which the same request may succeed later."""

REFRESH_CODES: Final = frozenset(
    code for code, known in ERROR_BY_CODE.items() if issubclass(known, RefreshRetriableError)
)
"""Codes after which the metadata, or the coordinator, has to be looked up again first."""


def error_name(code: int) -> str:
    """Kafka's name of an error code: `error_name(3)` is "UNKNOWN_TOPIC_OR_PARTITION", and "NONE" is 0's."""
    known = ERROR_BY_CODE.get(code)
    if known is not None and known.name is not None:
        return known.name
    return "NONE" if code == 0 else f"UNKNOWN_ERROR_{code}"


def error_for_code(code: int, message: str | None = None, **context: Any) -> KafkaError:
    """The error for a broker's answer.

    Args:
        code: any error code except 0; a code that Kafka 4.4 does not have gives an `UnknownServerError` with that code.
        message: the broker's message, if any; by default the first sentence of the class.
        context: the keywords of `KafkaError`.
    """
    known = ERROR_BY_CODE.get(code)
    if known is None:
        context.setdefault("hint", "The broker is newer than this client; an update may know the code.")
        context = {"code": code, "name": error_name(code), **context}
        return UnknownServerError(message or f"the broker answered with the unknown error code {code}", **context)
    name, text = known.name or "", message or known.__doc__ or ""
    # A message of the control plane may begin with the name, because it is also a log line.
    return known(text if text.split(" ", 1)[0].rstrip(":;") == name else f"{name}: {text}", **context)


def is_retriable(code: int) -> bool:
    """Whether the same request may succeed later; False for unknown codes."""
    return code in RETRIABLE_CODES


def needs_refresh(code: int) -> bool:
    """Whether the metadata, or the coordinator, has to be looked up again before a retry."""
    return code in REFRESH_CODES
