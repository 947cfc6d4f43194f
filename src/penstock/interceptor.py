"""Interceptors: the user's code for each record before it is serialized, and for each outcome before the application.

As with Java's `ProducerInterceptor`, an exception of an interceptor is logged. It affects neither the record nor the other
interceptors.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from penstock._log import Raised, log_line
from penstock._native import ProducerRecord
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from penstock._native import RecordMetadata

_log: Final = logging.getLogger(__name__)

Headers: TypeAlias = "Sequence[tuple[str, bytes | None]]"


class ProducerInterceptor:
    """Base of interceptors. It is optional: an interceptor is any object with some of these methods.

    `on_send` runs on the thread that sends. `on_acknowledgement` runs on the callback thread, or on the sending thread if
    `send` raises. Several threads may call an interceptor at once.
    """

    def configure(self, configs: Mapping[str, Any], /) -> None:
        """Called once with the whole configuration, before use."""

    def on_send(self, record: ProducerRecord[Any, Any], /) -> ProducerRecord[Any, Any]:
        """Return the record to send: this one or another. Called before serialization and the choice of the partition."""
        return record

    def on_acknowledgement(
        self, metadata: RecordMetadata | None, error: BaseException | None, headers: Headers, /
    ) -> None:
        """A record was delivered (`error` is None) or failed (`metadata` is None)."""

    def close(self) -> None:
        """Called when the producer closes."""


class InterceptorChain:
    """All interceptors of a producer, in the order of the configuration. It catches and logs their exceptions.

    Args:
        interceptors: objects with methods of `ProducerInterceptor`.
        clock: a monotonic clock in seconds, which limits the rate of log lines.
    """

    LOG_EVERY_S: Final = 10.0
    """The shortest time between two lines about the same fault; the later line has the number of lines left out."""

    def __init__(self, interceptors: Iterable[Any] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is called yet."""
        self._interceptors: Final = tuple(interceptors)
        self._clock: Final = clock
        self._on_send: Final = _methods(self._interceptors, "on_send")
        self._on_acknowledgement: Final = _methods(self._interceptors, "on_acknowledgement")
        self._log: Callable[..., object] = _log_line
        self._logged: dict[
            tuple[str, str], tuple[float, int]
        ] = {}  # the time of the last line, and how many were left out since

    def report_by(self, log: Callable[..., object]) -> None:
        """Log exceptions with `log(logger, level, message, *arguments, raised=…)`, which writes on another thread."""
        self._log = log

    def __bool__(self) -> bool:
        """Whether there are any interceptors; without them `send` does not call this object."""
        return bool(self._interceptors)

    def __len__(self) -> int:
        """The number of interceptors."""
        return len(self._interceptors)

    @property
    def wants_acknowledgements(self) -> bool:
        """Whether any of them has `on_acknowledgement`; if not, records need no callback for this chain."""
        return bool(self._on_acknowledgement)

    def configure(self, configs: Mapping[str, Any]) -> None:
        """Configure each. An exception here is raised, unlike in the other methods: the producer cannot start."""
        for _, method in _methods(self._interceptors, "configure"):
            method(configs)

    def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
        """The record after all interceptors. The result of an interceptor that raises, or returns no record, is ignored."""
        for owner, method in self._on_send:
            try:
                changed = method(record)
                if not isinstance(changed, ProducerRecord):
                    raise TypeError(f"on_send returned {type(changed).__name__} instead of a ProducerRecord")
                record = changed
            except Exception as error:
                self._report(owner, "on_send", error)
        return record

    def on_acknowledgement(
        self, metadata: RecordMetadata | None, error: BaseException | None, headers: Headers = ()
    ) -> None:
        """Pass an outcome to each interceptor."""
        for owner, method in self._on_acknowledgement:
            try:
                method(metadata, error, headers)
            except Exception as raised:
                self._report(owner, "on_acknowledgement", raised)

    def close(self) -> None:
        """Close each, even if others raise."""
        self._log = _log_line  # the producer's thread for log lines has ended
        for owner, method in _methods(self._interceptors, "close"):
            try:
                method()
            except Exception as error:
                self._report(owner, "close", error)

    def _report(self, owner: Any, method: str, error: Exception) -> None:
        # A faulty interceptor raises for each record, so the rate is limited. A race costs one extra line, never a record.
        fault = (f"{type(owner).__name__}.{method}", type(error).__name__)
        now = self._clock()
        last, left_out = self._logged.get(fault, (None, 0))
        if last is not None and now - last < self.LOG_EVERY_S:
            self._logged[fault] = (last, left_out + 1)
            return
        self._logged[fault] = (now, 0)
        more = f" (and {left_out} times since the last line)" if left_out else ""
        trace = (type(error), error, error.__traceback__)
        self._log(
            _log, logging.WARNING, "interceptor %s raised %s: %s%s", fault[0], fault[1], error, more, raised=trace
        )


def _log_line(logger: logging.Logger, level: int, message: str, *arguments: object, raised: Raised) -> None:
    log_line(logger, level, message, *arguments, exc_info=raised)


def as_interceptors(given: Iterable[Any]) -> list[Any]:
    """The interceptors of `interceptor.classes`: objects, or classes of them; names are imported already.

    Raises:
        ConfigError: one has none of an interceptor's methods, or its class needs arguments.
    """
    return [_as_interceptor(one) for one in given]


def _as_interceptor(given: Any) -> Any:
    made = given
    if isinstance(given, type):
        try:
            made = given()
        except Exception as error:
            raise ConfigError(
                f"interceptor.classes: {given.__name__} needs arguments ({error}); pass an instance",
                setting="interceptor.classes",
                cause=error,
            ) from error
    if not _methods([made], "on_send") and not _methods([made], "on_acknowledgement"):
        raise ConfigError(
            f"interceptor.classes: {given!r} has neither on_send(record) nor "
            "on_acknowledgement(metadata, error, headers)",
            setting="interceptor.classes",
        )
    return made


def _methods(interceptors: Iterable[Any], name: str) -> list[tuple[Any, Callable[..., Any]]]:
    """The interceptors that define this method themselves, each with the method."""
    inherited = getattr(ProducerInterceptor, name)
    found = ((it, getattr(it, name, None)) for it in interceptors)
    return [
        (it, method) for it, method in found if callable(method) and getattr(method, "__func__", None) is not inherited
    ]
