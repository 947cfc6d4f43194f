"""How log lines of ours are written: never from within one of them, and not over and over."""

from __future__ import annotations

import functools
import logging
import threading

import pytest

from penstock._log import LOG_EVERY_S, Repeats, handling, log_line, subject_of
from penstock.control.runtime import _Helper

LOGGER = logging.getLogger("penstock.test")
PATIENCE_S = 20.0


def test_a_line_from_within_a_line_is_dropped_and_the_next_one_is_not(caplog: pytest.LogCaptureFixture) -> None:
    class Talkative(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            assert handling()
            log_line(LOGGER, logging.ERROR, "about %s", record.getMessage())

    handler = Talkative()
    LOGGER.addHandler(handler)
    try:
        log_line(LOGGER, logging.WARNING, "one %d", 1)
        log_line(LOGGER, logging.WARNING, "two")
    finally:
        LOGGER.removeHandler(handler)
    assert not handling()
    assert [record.getMessage() for record in caplog.records] == ["one 1", "two"]
    assert {record.funcName for record in caplog.records} == {
        "test_a_line_from_within_a_line_is_dropped_and_the_next_one_is_not"
    }


def test_other_threads_still_log(caplog: pytest.LogCaptureFixture) -> None:
    class Waiting(logging.Handler):
        def createLock(self) -> None:  # noqa: N802 (its name in logging)
            self.lock = None

        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage() == "one":
                thread = threading.Thread(target=log_line, args=(LOGGER, logging.WARNING, "two"))
                thread.start()
                thread.join(PATIENCE_S)

    handler = Waiting()
    LOGGER.addHandler(handler)
    try:
        log_line(LOGGER, logging.WARNING, "one")
    finally:
        LOGGER.removeHandler(handler)
    assert sorted(record.getMessage() for record in caplog.records) == ["one", "two"]


def test_a_handler_that_raises_leaves_nothing_behind() -> None:
    def broken(_: object) -> bool:
        raise LookupError("on purpose")

    LOGGER.addFilter(broken)
    try:
        with pytest.raises(LookupError):
            log_line(LOGGER, logging.WARNING, "one")
    finally:
        LOGGER.removeFilter(broken)
    assert not handling()


def test_repeats_are_counted() -> None:
    repeats = Repeats()
    assert repeats.more("a", 0.0) == ""
    assert repeats.more("a", 0.1) is None
    assert repeats.more("b", 0.1) == ""
    assert repeats.more("a", LOG_EVERY_S - 0.001) is None
    assert repeats.more("a", LOG_EVERY_S) == " (2 more of these since)"
    assert repeats.more("a", 2 * LOG_EVERY_S) == ""


def test_subjects_do_not_pile_up() -> None:
    repeats = Repeats()
    for number in range(10_000):
        assert repeats.more(str(number), 0.0) == ""
    assert len(repeats._last) <= 1_000


def test_equal_exceptions_are_one_subject() -> None:
    class Callable:
        def __call__(self) -> None: ...

        def method(self) -> None: ...

    def each() -> object:
        return lambda: None

    same = [(each(), each()), (Callable(), Callable()), (Callable().method, Callable().method)]
    same.append((functools.partial(print, 1), functools.partial(print, 2)))
    for one, other in same:
        assert subject_of(one, LookupError("a")) == subject_of(other, LookupError("b"))
        assert subject_of(one, LookupError("a")) != subject_of(one, ValueError("a"))
    assert len({subject_of(one, LookupError()) for one, _ in same}) == len(same)


def test_jobs_run_in_order_on_a_thread_that_ends_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    uncaught: list[object] = []
    monkeypatch.setattr("threading.excepthook", lambda what: uncaught.append(what.exc_type))
    helper, ran = _Helper("helper"), list[object]()
    gate = threading.Event()
    helper.submit(lambda: ran.append((gate.wait(PATIENCE_S), threading.current_thread().name)))
    helper.submit(lambda: 1 / 0)
    for number in range(3):
        helper.submit(lambda number=number: ran.append(number))
    gate.set()
    helper.join(PATIENCE_S)
    assert ran == [(True, "helper"), 0, 1, 2]
    assert uncaught == [ZeroDivisionError]
    assert helper._thread is not None
    assert not helper._thread.is_alive()
    helper.submit(lambda: ran.append("later"))
    helper.join(PATIENCE_S)
    assert ran[-1] == "later"


def test_a_job_may_submit_and_join() -> None:
    helper, ran = _Helper("helper"), list[str]()

    def first() -> None:
        helper.submit(lambda: ran.append("second"))
        helper.join(PATIENCE_S)  # for itself: at once
        ran.append("first")

    helper.submit(first)
    helper.join(PATIENCE_S)
    assert ran == ["first", "second"]


def test_slow_jobs_do_not_pile_up() -> None:
    helper, ran = _Helper("helper"), list[int]()
    begun, gate = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        gate.wait(PATIENCE_S)

    helper.submit(slow)
    assert begun.wait(PATIENCE_S)
    for number in range(5_000):
        helper.submit(lambda number=number: ran.append(number))
    gate.set()
    helper.join(PATIENCE_S)
    assert ran == list(range(4_000, 5_000))


def test_without_a_new_thread_the_waiting_thread_runs_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    helper, ran = _Helper("helper"), list[str]()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        helper.submit(lambda: ran.append("one"))
        helper.submit(lambda: ran.append("two"))
        assert ran == []
        helper.join(PATIENCE_S)
    assert ran == ["one", "two"]
    helper.submit(lambda: ran.append("three"))
    helper.join(PATIENCE_S)
    assert ran[-1] == "three"
