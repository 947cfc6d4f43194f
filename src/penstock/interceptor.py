"""Interceptors: code that sees each record before it is serialized and each outcome before the application does.

As Java's `ProducerInterceptor`: whatever one raises is logged and harms nothing, neither the record nor the others.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from penstock._log import Raised, say
from penstock._native import ProducerRecord
from penstock.errors import ConfigError

if TYPE_CHECKING:
    from penstock._native import RecordMetadata

_log: Final = logging.getLogger(__name__)

Headers: TypeAlias = "Sequence[tuple[str, bytes | None]]"


class ProducerInterceptor:
    """Base of interceptors, or the description of one: any object with some of these methods will do.

    `on_send` runs on the thread that sends, `on_acknowledgement` on the thread of the callbacks, or on the sender's if
    `send` raises; several threads may be in here at once.
    """

    def configure(self, configs: Mapping[str, Any], /) -> None:
        """Called once with the whole configuration, before use."""

    def on_send(self, record: ProducerRecord[Any, Any], /) -> ProducerRecord[Any, Any]:
        """The record to send: this one or another; called before serializing and choosing the partition."""
        return record

    def on_acknowledgement(
        self, metadata: RecordMetadata | None, error: BaseException | None, headers: Headers, /
    ) -> None:
        """A record arrived (`error` is None) or failed (`metadata` is None)."""

    def close(self) -> None:
        """Called when the producer closes."""


class InterceptorChain:
    """All interceptors of a producer, in the order of the configuration; nothing they raise gets out of here.

    Args:
        interceptors: objects as `ProducerInterceptor` describes them.
        clock: seconds that never go back; for rate-limiting the log.
    """

    LOG_EVERY_S: Final = 10.0
    """The same fault of the same interceptor is logged at most this often; the next line tells how many were not."""

    def __init__(self, interceptors: Iterable[Any] = (), *, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is called yet."""
        self._interceptors: Final = tuple(interceptors)
        self._clock: Final = clock
        self._on_send: Final = _methods(self._interceptors, "on_send")
        self._on_acknowledgement: Final = _methods(self._interceptors, "on_acknowledgement")
        self._log: Callable[..., object] = _say
        self._logged: dict[tuple[str, str], tuple[float, int]] = {}  # when last, and how many were left out since

    def report_by(self, log: Callable[..., object]) -> None:
        """Have what they raise logged by `log(logger, level, message, *arguments, raised=…)`, on another thread."""
        self._log = log

    def __bool__(self) -> bool:
        """Whether there is any: without one, the producer takes no detour."""
        return bool(self._interceptors)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._interceptors)

    @property
    def wants_acknowledgements(self) -> bool:
        """Whether any of them has `on_acknowledgement`; if none has, outcomes need not come here."""
        return bool(self._on_acknowledgement)

    def configure(self, configs: Mapping[str, Any]) -> None:
        """Configure each. Unlike the others, an error here goes to the caller: the producer cannot start."""
        for _, method in _methods(self._interceptors, "configure"):
            method(configs)

    def on_send(self, record: ProducerRecord[Any, Any]) -> ProducerRecord[Any, Any]:
        """The record after all interceptors; one that raises, or returns None, is passed over."""
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
        """Tell each interceptor of an outcome."""
        for owner, method in self._on_acknowledgement:
            try:
                method(metadata, error, headers)
            except Exception as raised:
                self._report(owner, "on_acknowledgement", raised)

    def close(self) -> None:
        """Close each, whatever the others raise."""
        self._log = _say  # nothing is sent any more, and the producer's thread for log lines has ended
        for owner, method in _methods(self._interceptors, "close"):
            try:
                method()
            except Exception as error:
                self._report(owner, "close", error)

    def _report(self, owner: Any, method: str, error: Exception) -> None:
        # A fault in an interceptor is one per record. A race here costs a line too many, never a record.
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


def _say(logger: logging.Logger, level: int, message: str, *arguments: object, raised: Raised) -> None:
    say(logger, level, message, *arguments, exc_info=raised)


def as_interceptors(given: Iterable[Any]) -> list[Any]:
    """The interceptors behind `interceptor.classes`: objects, or classes of them; names are resolved already.

    Raises:
        ConfigError: one has none of an interceptor's methods, or its class cannot be instantiated without arguments.
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
    """Each interceptor that has a method of its own of this name, with the method."""
    inherited = getattr(ProducerInterceptor, name)
    found = ((it, getattr(it, name, None)) for it in interceptors)
    return [
        (it, method) for it, method in found if callable(method) and getattr(method, "__func__", None) is not inherited
    ]
