"""Waiting for several deliveries: `wait` and `as_completed`, as in `concurrent.futures`."""

import time
from _queue import Empty
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from penstock import _hubs, _threads
from penstock._native import DeliveryFuture, timeout_s
from penstock.errors import KafkaError

__all__ = ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION", "DoneAndNotDone", "as_completed", "wait"]

# The values of `concurrent.futures`, which is not imported: that takes longer than importing this module.
ALL_COMPLETED: Final = "ALL_COMPLETED"
FIRST_COMPLETED: Final = "FIRST_COMPLETED"
FIRST_EXCEPTION: Final = "FIRST_EXCEPTION"


class DoneAndNotDone(NamedTuple):
    """The result of `wait`, as of `concurrent.futures.wait`."""

    done: set[DeliveryFuture]
    not_done: set[DeliveryFuture]


def _deadline(timeout: float | None) -> float | None:
    seconds = timeout_s(timeout)
    return None if seconds is None else time.monotonic() + seconds


def _remaining(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def wait(
    futures: Iterable[DeliveryFuture], timeout: float | None = None, return_when: str = ALL_COMPLETED
) -> DoneAndNotDone:
    """Wait until all futures are done, until the first one is, or until the first one fails.

    Args:
        futures: the futures to wait for.
        timeout: seconds; None waits without limit. When it expires, the result has what is done so far.
        return_when: ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION.

    Raises:
        ValueError: `return_when` is unknown, or the timeout is negative.
        KafkaError: inside a callback, unless `return_when` is ALL_COMPLETED.

    Source: `concurrent.futures.wait`.
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise ValueError(f"return_when must be ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION, not {return_when!r}")
    deadline = _deadline(timeout)
    pending = set(futures)
    if return_when == ALL_COMPLETED:
        # One native wait after the other: no callbacks are needed, and the last future decides in any case.
        for future in pending:
            try:
                future.exception(_remaining(deadline))
            except TimeoutError:
                break
    else:
        _wait_for_first(pending, deadline, return_when)
    done = {future for future in pending if future.done()}
    return DoneAndNotDone(done, pending - done)


def _refuse_in_callback(what: str) -> None:
    if _hubs.in_callback():
        raise KafkaError(
            f"{what} inside a callback would wait for callbacks that run after it; call it from another thread"
        )


def _wait_for_first(pending: set[DeliveryFuture], deadline: float | None, return_when: str) -> None:
    _refuse_in_callback(f"wait(return_when={return_when})")
    enough = _threads.Event()
    lock = _threads.Lock()
    left = len(pending)
    if not left:
        return

    def on_done(future: DeliveryFuture) -> None:
        nonlocal left
        failed = future.exception() is not None
        with lock:
            left -= 1
            last = left == 0
        if last or failed or return_when == FIRST_COMPLETED:
            enough.set()

    for future in pending:
        future.add_done_callback(on_done)
        if enough.is_set():
            return
    _hubs.wait(enough, _remaining(deadline))


def as_completed(futures: Iterable[DeliveryFuture], timeout: float | None = None) -> Iterator[DeliveryFuture]:
    """The futures in the order in which they are done; each once.

    Args:
        futures: the futures to wait for.
        timeout: seconds from this call; None waits without limit.

    Raises:
        TimeoutError: the builtin one, by the iterator, if the timeout expires before all are done.
        ValueError: at once, if the timeout is negative.
        KafkaError: at once, inside a callback.

    Source: `concurrent.futures.as_completed`.
    """
    _refuse_in_callback("as_completed()")
    deadline = _deadline(timeout)
    pending = set(futures)
    total = len(pending)
    finished: _hubs.Arrivals[DeliveryFuture] = _hubs.Arrivals()
    for future in pending:
        future.add_done_callback(finished.put)

    def generate() -> Iterator[DeliveryFuture]:
        for count in range(total):
            try:
                yield finished.get(_remaining(deadline))
            except Empty:
                raise TimeoutError(f"{total - count} (of {total}) futures unfinished") from None

    return generate()
