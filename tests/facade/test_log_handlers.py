"""A log handler that sends to Kafka, on the root logger at DEBUG: it also gets what Penstock itself logs.

Penstock logs nothing on a thread that waits inside one of its calls, and no line causes an endless series of lines.
"""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest
from aio_support import LOOPS, turns
from facade_support import SOON_S, MakeProducer, closed_port, in_thread

from penstock import AsyncKafkaProducer, KafkaProducer, errors
from penstock.devbroker import Faults, RunningCluster
from penstock.errors import KafkaError, KafkaTimeoutError
from penstock.testing import AsyncMockProducer, MockProducer

BLOCK_MS = 2_000
"""The first line about a wait is logged after a second; the default, a minute, is too long for a test."""


class Sending(logging.Handler):
    """Passes each line to `send`, except those of one logger; records who logged what, and in which thread."""

    def __init__(self, send: Callable[[bytes], object], passed_over: str = "") -> None:
        super().__init__()
        self._send = send
        self._passed_over = passed_over
        self.lines: list[str] = []
        self.threads: list[str] = []
        self.deepest = 0
        self.failed: list[KafkaError] = []
        self._depth = threading.local()
        self.begun, self.handled = threading.Semaphore(0), threading.Semaphore(0)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == self._passed_over:
            return
        # Not `self.format`: logging's own error handling must not hide a broken handler.
        depth = self._depth.value = getattr(self._depth, "value", 0) + 1
        self.deepest = max(self.deepest, depth)
        if record.name.startswith("penstock"):
            self.lines.append(record.getMessage())
            self.threads.append(threading.current_thread().name)
            self.begun.release()
        try:
            if depth < 20:  # bounds the recursion if the test fails
                self._send(record.getMessage().encode())
        except KafkaError as error:
            self.failed.append(error)
        finally:
            self._depth.value = depth - 1
            if record.name.startswith("penstock"):
                self.handled.release()


class Unlocked(Sending):
    """A handler that several threads may run at once."""

    def createLock(self) -> None:  # noqa: N802 (its name in logging)
        self.lock = None


def wait_for(event: threading.Semaphore) -> None:
    assert event.acquire(timeout=SOON_S)


@contextmanager
def on_root(handler: logging.Handler) -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


APPLICATION = logging.getLogger("application")
ABSENT = "absent-topic"


def waits_of(producer: KafkaProducer[Any, Any]) -> dict[str, Callable[[bytes], object]]:
    return {
        "send": lambda line: producer.send(ABSENT, line),
        "send_many": lambda line: producer.send_many(ABSENT, [line]),
        "send_arrow": lambda line: producer.send_arrow(ABSENT, pa.table({"line": [line]}), value="line"),
        "partitions_for": lambda _: producer.partitions_for(ABSENT),
    }


@pytest.mark.parametrize("method", ["send", "send_many", "send_arrow", "partitions_for"])
def test_a_send_that_waits_inside_a_handler_does_not_log_itself(new_producer: MakeProducer, method: str) -> None:
    producer = new_producer()
    handler = Unlocked(waits_of(producer)[method], "penstock.control")
    with on_root(handler):
        thread, _ = in_thread(lambda: APPLICATION.warning("hello"))
        wait_for(handler.begun)  # the line about the wait: it is sent, and that send waits as well
        producer.close(0)
        wait_for(handler.handled)
        thread.join(SOON_S)
    assert handler.deepest == 1
    assert [type(error) for error in handler.failed] == [errors.ProducerClosedError] * 2
    assert [line.partition("(")[0] for line in handler.lines] == [method]
    assert handler.threads == ["penstock-log"], "nothing was logged inside the call"


def test_no_broker_at_all(new_producer: MakeProducer) -> None:
    with closed_port() as address:
        producer = new_producer(bootstrap_servers=address, max_block_ms=BLOCK_MS, reconnect_backoff_ms=10)
        handler = Unlocked(lambda line: producer.send("logs", line))
        with on_root(handler):
            began = time.monotonic()
            APPLICATION.warning("hello")
            took_ms = (time.monotonic() - began) * 1000
            producer.close(0)
    # Only one wait; two of them would take twice as long.
    assert BLOCK_MS <= took_ms < 2 * BLOCK_MS
    assert handler.deepest == 1
    # One about the connection, one about the wait: each of them fails on its own and causes no other line.
    assert len(handler.lines) == len(set(handler.lines)) <= 2
    assert set(handler.threads) == {"penstock-log"}


def test_two_producers_do_not_log_each_other_endlessly(new_producer: MakeProducer) -> None:
    one, two = new_producer(), new_producer(max_block_ms=BLOCK_MS)
    handler = Unlocked(lambda line: (one if line == b"hello" else two).send(ABSENT, line), "penstock.control")
    with on_root(handler):
        thread, _ = in_thread(lambda: APPLICATION.warning("hello"))
        wait_for(handler.handled)
        one.close(0)
        thread.join(SOON_S)
        two.close(0)
    assert [type(error) for error in handler.failed] == [KafkaTimeoutError, errors.ProducerClosedError]
    assert handler.deepest == 1
    assert len(handler.lines) == 1, "about the first wait, but not about the wait that this line caused"


def test_a_queue_and_a_listener_do_not_log_each_other_endlessly(new_producer: MakeProducer) -> None:
    producer = new_producer(max_block_ms=BLOCK_MS)
    sending = Unlocked(lambda line: producer.send(ABSENT, line), "penstock.control")
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    listener = logging.handlers.QueueListener(lines, sending)
    listener.start()
    try:
        with on_root(logging.handlers.QueueHandler(lines)):
            APPLICATION.warning("hello")
            wait_for(sending.handled)
    finally:
        listener.stop()
    # The listener's second send waited, too, and was not logged again.
    assert [line.partition("(")[0] for line in sending.lines] == ["send"]
    assert lines.empty()


def raises(*_: object) -> None:
    raise LookupError("on purpose")


@pytest.mark.parametrize("way", ["callback", "done callback", "bulk"])
def test_a_raising_callback_is_not_logged_for_its_own_log_line(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, way: str
) -> None:
    def send(line: bytes) -> None:
        if way == "callback":
            producer.send(topic, line, callback=raises)
        elif way == "done callback":
            producer.send(topic, line).add_done_callback(raises)
        else:
            producer.send_many(topic, [line]).add_done_callback(raises)

    handler = Sending(send)
    with on_root(handler):
        APPLICATION.warning("hello")
        for _ in range(20):
            producer.flush(SOON_S)  # the callbacks of records that were sent because of a line have run
    assert [line.partition(":")[0] for line in handler.lines] == ["a callback raised"]
    assert handler.threads != ["penstock-callbacks"]


def test_a_callback_that_raises_repeatedly_is_logged_at_intervals(
    producer: KafkaProducer[Any, Any], topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(100):
        producer.send(topic, b"value", callback=raises)
    producer.send(topic, b"value", callback=lambda *_: 1 / 0)
    producer.flush(SOON_S)
    logged = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert logged == [LookupError, ZeroDivisionError]


def test_a_handler_may_flush_while_it_holds_its_lock(producer: KafkaProducer[Any, Any], topic: str) -> None:
    """As handlers with a buffer do. Another thread logs the callback's error, and waits for that lock."""

    def send_all(line: bytes) -> None:
        producer.send(topic, line, callback=raises)
        producer.flush()  # without a limit

    handler = Sending(send_all)
    with on_root(handler):
        thread, outcome = in_thread(lambda: APPLICATION.warning("hello"))
        thread.join(SOON_S)
        assert not thread.is_alive()
        wait_for(handler.handled)
    assert outcome == [None]
    assert len(handler.lines) == 1


def test_an_interceptor_that_raises_inside_send(new_producer: MakeProducer, topic: str) -> None:
    class Bad:
        def on_send(self, record: Any) -> Any:
            raise LookupError("on purpose")

    producer = new_producer(interceptor_classes=[Bad()])
    handler = Sending(lambda line: producer.send(topic, line))
    with on_root(handler):
        producer.send(topic, b"value")
        wait_for(handler.handled)
        producer.close(SOON_S)
    assert handler.threads == ["penstock-log"]
    assert handler.deepest == 1


def test_a_producer_that_is_created_for_its_first_log_line(cluster: RunningCluster, topic: str) -> None:
    """Its own configuration logs a line while the producer does not exist yet."""
    made: list[KafkaProducer[Any, Any]] = []
    current: list[KafkaProducer[Any, Any]] = []

    def send(line: bytes) -> None:
        if not current:
            made.append(KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, reconnect_backoff_ms=60))
            current[:] = made[-1:]
        current[0].send(topic, line)

    handler = Sending(send)
    try:
        with on_root(handler):
            APPLICATION.warning("hello")
    finally:
        for producer in made:
            producer.close(SOON_S)
    # The line about the configuration is handled and creates a producer, too; the series ends there.
    assert len(made) == 2
    assert handler.deepest == 2
    assert len(handler.lines) == 1


def test_the_control_plane_waits_for_no_lock_of_logging(
    cluster: RunningCluster, new_producer: MakeProducer, topic: str
) -> None:
    """`logging.config` holds it while it creates handlers, and a handler may send while it is created."""
    with closed_port() as nowhere, logging._lock:  # type: ignore[attr-defined]
        logging.getLogger("penstock.control").manager._clear_cache()  # type: ignore[attr-defined]
        producer = new_producer(bootstrap_servers=[nowhere, cluster.bootstrap_servers.split(",")[0]])
        thread, outcome = in_thread(lambda: producer.send(topic, b"value").result(SOON_S))
        thread.join(SOON_S)
        assert [metadata.offset for metadata in outcome] == [0]


def test_a_handler_may_close_the_producer_that_logs(new_producer: MakeProducer) -> None:
    with closed_port() as address:
        producer = new_producer(bootstrap_servers=address, max_block_ms=BLOCK_MS)
        handler = Sending(lambda _: producer.close(0))
        with on_root(handler):
            with pytest.raises(errors.KafkaError):
                producer.send("logs", b"value")
            wait_for(handler.handled)
    assert producer.closed
    assert handler.failed == []
    assert "penstock-log" in handler.threads


def test_a_filter_that_raises_does_not_stop_later_lines(
    producer: KafkaProducer[Any, Any], topic: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uncaught: list[object] = []
    monkeypatch.setattr("threading.excepthook", lambda what: uncaught.append(what.exc_type))

    def raise_again(_: object) -> bool:
        raise ZeroDivisionError("in the filter")

    logger = logging.getLogger("penstock.producer")
    logger.addFilter(raise_again)
    try:
        producer.send(topic, b"value", callback=raises)
        producer.flush(SOON_S)
    finally:
        logger.removeFilter(raise_again)
    producer.send(topic, b"value", callback=lambda: None)  # type: ignore[arg-type, misc]
    producer.flush(SOON_S)
    assert uncaught == [ZeroDivisionError]
    assert "positional argument" in caplog.text


# ---------------------------------------------------------------------------------------------------------------- asyncio


def run_loop(kind: str, main: Any) -> Any:
    """With the loop's own exception handler, which logs."""
    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        return runner.run(asyncio.wait_for(main, SOON_S))


def test_tasks_that_send_lines_and_wait(cluster: RunningCluster) -> None:
    async def main() -> Sending:
        loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[Any]]()
        producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(
            bootstrap_servers=cluster.bootstrap_servers, max_block_ms=BLOCK_MS
        )

        def send(line: bytes) -> None:
            # From any thread, as asyncio's documentation describes.
            loop.call_soon_threadsafe(lambda: tasks.add(loop.create_task(producer.send_and_wait(ABSENT, line))))

        handler = Sending(send, "penstock.control")
        with on_root(handler):
            handler.setLevel(logging.INFO)  # asyncio itself logs each loop at DEBUG
            APPLICATION.warning("hello")
            await turns()
            while len(tasks) < 2 or not all(task.done() for task in tasks):
                await asyncio.sleep(0.01)
            await producer.close(0)
        assert {type(task.exception()) for task in tasks} == {KafkaTimeoutError}
        return handler

    handler = run_loop("asyncio", main())
    assert [line.partition("(")[0] for line in handler.lines] == ["send"]


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("way", ["callback", "done callback"])
def test_a_raising_callback_in_a_loop_is_not_logged_for_its_own_log_line(
    kind: str, way: str, cluster: RunningCluster, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> tuple[Sending, int]:
        producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)
        await producer.partitions_for(topic)
        calls = 0

        def fails(*_: object) -> None:
            nonlocal calls
            calls += 1
            raise LookupError("on purpose")

        def send(line: bytes) -> None:
            if way == "callback":
                _ = producer.send(topic, line, callback=fails)  # not awaited: the record is buffered
            else:
                sent = producer.send(topic, line)
                with pytest.raises(StopIteration) as done:
                    sent.send(None)
                done.value.value.add_done_callback(fails)

        handler = Sending(send)
        with on_root(handler):
            handler.setLevel(logging.INFO)
            APPLICATION.warning("hello")
            for _ in range(20):
                await producer.flush(SOON_S)
                await turns()
            await producer.close(SOON_S)
        return handler, calls

    _, calls = run_loop(kind, main())
    assert calls == 2, "for the application's line, and for the line about it"
    assert [record.name for record in caplog.records if "Exception in callback" in record.getMessage()] == ["asyncio"]


def test_the_applications_exception_handler_gets_each_error(cluster: RunningCluster, topic: str) -> None:
    async def main() -> list[Any]:
        contexts: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: contexts.append(context["exception"]))
        async with AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers) as producer:
            for _ in range(30):
                await producer.send(topic, b"value", callback=raises)
        return contexts

    assert [type(error) for error in run_loop("asyncio", main())] == [LookupError] * 30


# ------------------------------------------------------------------------------------------------------------------ mocks


def test_a_mock_whose_callback_raises_inside_send() -> None:
    mock = MockProducer[Any, Any]()
    handler = Sending(lambda line: mock.send("logs", line, callback=raises))
    with on_root(handler):
        APPLICATION.warning("hello")
    assert handler.deepest == 2
    assert handler.lines == ["the callback of a record raised"]
    assert [sent.value for sent in mock.sent] == [b"hello", b"the callback of a record raised"]


def test_an_asyncio_mock_whose_callback_raises_inside_send() -> None:
    async def main() -> None:
        mock = AsyncMockProducer[Any, Any]()

        def send(line: bytes) -> None:
            coroutine = mock.send("logs", line, callback=raises)
            with pytest.raises(StopIteration):
                coroutine.send(None)

        handler = Sending(send)
        with on_root(handler):
            handler.setLevel(logging.INFO)
            APPLICATION.warning("hello")
            await turns(20)
        assert [sent.value for sent in mock.sent][:1] == [b"hello"]
        assert len(mock.sent) == 2, "the application's line, and the line about it"

    asyncio.run(main())
