"""Fixtures of the command line's unit tests."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest


def _unhandled(*_: object) -> None:
    raise AssertionError("a signal arrived for which no handler was installed")


@pytest.fixture
def in_the_foreground() -> Iterator[Callable[..., None]]:
    """No signal is ignored, however the tests were started; yields the handler, which keeps a signal from ending them."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, _unhandled) for number in numbers}
    yield _unhandled
    for number, handler in before.items():
        signal.signal(number, handler)
