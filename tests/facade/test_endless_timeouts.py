"""The values of a `timeout=`, in every call that has one: 0 or more seconds, infinity and values too large for a clock."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from aio_support import LOOPS, run_on
from facade_support import MakeProducer, in_thread

from penstock import FIRST_COMPLETED, AsyncKafkaProducer, KafkaProducer, as_completed, wait
from penstock._native import timeout_s
from penstock._reader import Reader
from penstock.devbroker import Faults, RunningCluster
from penstock.testing import AsyncMockProducer, MockProducer

ENDLESS = [math.inf, 1e10, 1e300, 2**63, 10**400, np.float64(math.inf), np.float32(1e30), np.int64(2**62),
           Decimal("Infinity"), Decimal("1e500"), Fraction(10**400), Fraction(1, 2) * 10**11]  # fmt: skip
NEGATIVE = [-1, -0.001, -math.inf, math.nan, -(10**400), np.float64(math.nan), np.float32(-1), np.int8(-1),
            Decimal("-0.5"), Decimal("NaN"), Fraction(-1, 10**400)]  # fmt: skip
NO_NUMBERS = ["1", b"1", [1], {}, 1j, timedelta(seconds=1), object()]


def name_of(value: object) -> str:
    text = f"{type(value).__name__}-{str(value)[:12]}"
    return text if isinstance(value, (int, float, str, Decimal)) else f"{type(value).__module__}.{text}"[:30]


@pytest.mark.parametrize("timeout", ENDLESS, ids=name_of)
def test_a_timeout_beyond_the_clock_is_none(timeout: Any) -> None:
    assert timeout_s(timeout) is None


@pytest.mark.parametrize("timeout", [0, 0.0, -0.0, 1, 0.25, True, 3e9, np.float32(0.5), np.uint8(7), Fraction(1, 4)])
def test_other_numbers_are_seconds(timeout: Any) -> None:
    found = timeout_s(timeout)
    assert (found, type(found)) == (float(timeout), float)


def test_none_stays_none() -> None:
    assert timeout_s(None) is None


@pytest.mark.parametrize("timeout", NEGATIVE, ids=name_of)
def test_a_negative_timeout_is_refused(timeout: Any) -> None:
    # A fraction may be so small that as a float it is -0.0, which is 0 and allowed.
    if isinstance(timeout, Fraction):
        assert timeout_s(timeout) == 0
        return
    with pytest.raises(ValueError, match="timeout must be None, or 0 or more seconds, not"):
        timeout_s(timeout)


@pytest.mark.parametrize("timeout", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_a_timeout_of_another_type_is_refused(timeout: Any) -> None:
    with pytest.raises(TypeError, match=f"timeout must be None or a number of seconds, not .*{type(timeout).__name__}"):
        timeout_s(timeout)


def test_an_error_of_the_conversion_is_raised() -> None:
    class Broken:
        def __float__(self) -> float:
            raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        timeout_s(Broken())  # type: ignore[arg-type]


Call = Callable[[Any], Any]


def blocking_calls(producer: KafkaProducer[Any, Any], topic: str) -> Mapping[str, Call]:
    def sent() -> Any:
        return producer.send(topic, b"value")

    def waited(timeout: Any, return_when: str) -> None:
        future = sent()
        assert wait([future], timeout, return_when).done == {future}

    return {
        "result": lambda timeout: sent().result(timeout),
        "exception": lambda timeout: sent().exception(timeout),
        "bulk result": lambda timeout: producer.send_many(topic, [b"value"]).result(timeout).raise_for_errors(),
        "wait": lambda timeout: waited(timeout, "ALL_COMPLETED"),
        "wait for the first": lambda timeout: waited(timeout, FIRST_COMPLETED),
        "as_completed": lambda timeout: list(as_completed([sent()], timeout)),
        "flush": producer.flush,
        "close": producer.close,
    }


CALLS = [
    "result",
    "exception",
    "bulk result",
    "wait",
    "wait for the first",
    "as_completed",
    "flush",
    "close",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("timeout", [math.inf, 1e10, 10**400, np.float64(math.inf)], ids=name_of)
def test_an_endless_timeout_is_none(
    producer: KafkaProducer[Any, Any], topic: str, faults: Faults, call: str, timeout: Any
) -> None:
    producer.send(topic, b"value").result(20)
    faults.add("Produce", topic=topic, delay_ms=50)  # so that the call waits
    producer.send(topic, b"value")
    blocking_calls(producer, topic)[call](timeout)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("done", [False, True])
def test_a_negative_timeout_is_refused_by_every_call(
    producer: KafkaProducer[Any, Any], topic: str, call: str, done: bool
) -> None:
    calls = blocking_calls(producer, topic)
    future, bulk = producer.send(topic, b"value"), producer.send_many(topic, [b"value"])
    if done:
        # A negative timeout is refused whether or not the future is done already.
        producer.flush(20)
        calls = {**calls, "result": future.result, "exception": future.exception, "bulk result": bulk.result}
    for timeout in (-1, -0.001, -math.inf, math.nan, -(10**400)):
        with pytest.raises(ValueError, match="timeout must be None, or 0 or more seconds"):
            calls[call](timeout)
    with pytest.raises(TypeError, match="timeout must be None or a number of seconds, not str"):
        calls[call]("soon")
    assert not producer.closed
    producer.send(topic, b"value").result(20)


def test_a_close_with_an_endless_timeout_ends(new_producer: MakeProducer, topic: str) -> None:
    # The defect: one close in eight raised out of the join of the callback thread, and never ended for other threads.
    for timeout in (math.inf, 1e10):
        for _ in range(20):
            producer = new_producer()
            producer.send(topic, b"value")
            producer.close(timeout)
            assert producer._life is not None
            assert producer._life.ended
            producer.close(timeout)


def aio_calls(producer: AsyncKafkaProducer[Any, Any]) -> Mapping[str, Callable[[Any], Awaitable[None]]]:
    return {"flush": producer.flush, "close": producer.close}


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("call", ["flush", "close"])
@pytest.mark.parametrize("timeout", [math.inf, 1e10, 10**400], ids=name_of)
def test_an_endless_timeout_is_none_in_asyncio(
    kind: str, cluster: RunningCluster, topic: str, faults: Faults, call: str, timeout: Any
) -> None:
    async def main() -> None:
        producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(bootstrap_servers=cluster.bootstrap_servers)
        try:
            await producer.send_and_wait(topic, b"value")
            faults.add("Produce", topic=topic, delay_ms=50)
            future = await producer.send(topic, b"value")
            for wrong in (-1, -math.inf, math.nan, -(10**400)):
                with pytest.raises(ValueError, match="timeout must be None, or 0 or more seconds"):
                    await aio_calls(producer)[call](wrong)
            with pytest.raises(TypeError, match="timeout must be None or a number of seconds"):
                await aio_calls(producer)[call]("soon")
            assert not producer.closed
            await aio_calls(producer)[call](timeout)
            assert future.done()
        finally:
            await producer.close(0)

    run_on(kind, main())


def test_the_mocks_accept_the_same_timeouts() -> None:
    mock = MockProducer(auto_complete=False)
    future, bulk = mock.send("t", b"value"), mock.send_many("t", [b"value"])
    calls: list[Call] = [future.result, future.exception, bulk.result, mock.flush, mock.close]
    for call in calls:
        for wrong in (-1, math.nan, -(10**400)):
            with pytest.raises(ValueError, match="timeout must be None, or 0 or more seconds"):
                call(wrong)
        with pytest.raises(TypeError, match="timeout must be None or a number of seconds"):
            call("soon")
    assert not mock.closed
    for call in [future.result, future.exception, bulk.result]:
        with pytest.raises(TimeoutError, match=r"(is|are) pending"):
            call(0)
    mock.flush(math.inf)
    for timeout in (math.inf, 1e10, 10**400):
        assert future.result(timeout).offset == 0
        assert future.exception(timeout) is None
        bulk.result(timeout)
        mock.flush(timeout)
    for timeout in (math.inf, 1e10, 10**400):
        mock.close(timeout)


def test_an_asyncio_mock_accepts_the_same_timeouts() -> None:
    async def main() -> None:
        mock = AsyncMockProducer()
        calls: list[Callable[[Any], Awaitable[None]]] = [mock.flush, mock.close]
        for call in calls:
            for wrong in (-1, math.nan, -(10**400)):
                with pytest.raises(ValueError, match="timeout must be None, or 0 or more seconds"):
                    await call(wrong)
        assert not mock.closed
        for timeout in (math.inf, 10**400):
            await mock.flush(timeout)
        for timeout in (math.inf, 10**400):
            await mock.close(timeout)

    asyncio.run(main())


def test_the_testing_kit_and_the_reader_accept_endless_timeouts(
    producer: KafkaProducer[Any, Any], cluster: RunningCluster, topic: str, faults: Faults
) -> None:
    producer.send(topic, b"value").result(20)
    for timeout in (math.inf, 1e10, 10**400):
        cluster.requests.wait_for("Produce", timeout=timeout)
        with Reader(cluster.bootstrap_servers, topic, until_end=True, timeout_s=timeout) as reader:
            assert [record.value for record in reader] == [b"value"]
    with pytest.raises(ValueError, match="timeout must be"):
        cluster.requests.wait_for("Produce", timeout=-1)
    with pytest.raises(ValueError, match="timeout must be"):
        Reader(cluster.bootstrap_servers, topic, timeout_s=math.nan)


# --------------------------------------------------------------------------------------------------------------- settings

LONG = 2**63 - 1
INT = 2**31 - 1
TIMES = {
    "bootstrap.resolve.timeout.ms": LONG, "connections.max.idle.ms": LONG, "delivery.timeout.ms": INT, "linger.ms": LONG,
    "max.block.ms": LONG, "metadata.max.age.ms": LONG, "metadata.max.idle.ms": LONG,
    "metadata.recovery.rebootstrap.trigger.ms": LONG, "metrics.sample.window.ms": LONG,
    "partitioner.availability.timeout.ms": LONG, "reconnect.backoff.max.ms": LONG, "reconnect.backoff.ms": LONG,
    "request.timeout.ms": INT, "retry.backoff.max.ms": LONG, "retry.backoff.ms": LONG,
    "socket.connection.setup.timeout.max.ms": LONG, "socket.connection.setup.timeout.ms": LONG,
}  # fmt: skip


def test_every_setting_of_a_time_is_tested() -> None:
    from penstock.config.support import support
    from penstock.config.table import SETTINGS

    known = {it.name for it in SETTINGS if it.name.endswith(".ms") and it.type in ("INT", "LONG")}
    assert set(TIMES) == {name for name in known if support(name)[0] == "working"}


@pytest.mark.parametrize("name", [*TIMES, "all"])
def test_the_largest_value_of_a_setting_is_endless(
    cluster: RunningCluster, new_producer: MakeProducer, topic: str, faults: Faults, name: str
) -> None:
    """A record is delivered after an error that is retried, unless the backoff is endless, too."""
    chosen = dict(TIMES) if name == "all" else {name: TIMES[name]}
    if name == "linger.ms":
        chosen["delivery.timeout.ms"] = INT
    producer = new_producer(**{key.replace(".", "_"): value for key, value in chosen.items()})
    if not any("backoff" in key for key in chosen):
        faults.add("Produce", topic=topic, error=19)  # NOT_ENOUGH_REPLICAS
    future = producer.send(topic, b"value")
    producer.flush(20)
    assert future.result(0).offset == 0
    assert producer.metrics()


def test_an_endless_backoff_does_not_stop_the_control_thread(
    new_producer: MakeProducer, new_topic: Callable[[], str], faults: Faults
) -> None:
    stuck, other = new_topic(), new_topic()
    producer = new_producer(retry_backoff_ms=LONG, retry_backoff_max_ms=LONG, reconnect_backoff_ms=LONG)
    faults.add("Produce", topic=stuck, error=19)
    future = producer.send(stuck, b"value")
    # A second topic needs the control thread: it must have survived the decision about the first topic.
    assert producer.send(other, b"value").result(20).offset == 0
    producer.close(0)
    assert future.exception(20) is not None


def test_a_send_that_may_block_endlessly_waits_for_its_topic(
    new_producer: MakeProducer, cluster: RunningCluster
) -> None:
    producer = new_producer(max_block_ms=LONG)
    thread, outcome = in_thread(lambda: producer.send("comes-late", b"value").result(20))
    cluster.requests.wait_for("Metadata")
    cluster.create_topic("comes-late")
    thread.join(20)
    assert [metadata.offset for metadata in outcome] == [0]


def test_an_asyncio_send_that_may_block_endlessly_waits_for_its_topic(cluster: RunningCluster) -> None:
    async def main() -> None:
        producer: AsyncKafkaProducer[Any, Any] = AsyncKafkaProducer(
            bootstrap_servers=cluster.bootstrap_servers, max_block_ms=LONG
        )
        try:
            sending = asyncio.ensure_future(producer.send_and_wait("comes-later", b"value"))
            await asyncio.sleep(0)
            cluster.create_topic("comes-later")
            assert (await sending).offset == 0
        finally:
            await producer.close(0)

    run_on("asyncio", main())


def test_minus_zero_is_zero() -> None:
    assert str(timeout_s(-0.0)) == "0.0"
