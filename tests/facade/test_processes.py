"""Forks, exits, signals, warnings: observed from outside of the process."""

from __future__ import annotations

import re
import signal
import subprocess
import time

import pytest
from facade_support import SOON_S, Log, closed_port, run_script, silent_server, start_script

from penstock.devbroker import Faults, RunningCluster

# ------------------------------------------------------------------------------------------------------------------ fork

FORK = """
    import os, sys
    from penstock import KafkaProducer, ProducerForkedError

    bootstrap, topic = sys.argv[1:]
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=60_000, client_id="parent")
    before = [producer.send(topic, b"before %d" % n) for n in range(50)]
    child = os.fork()
    if not child:
        refused = 0
        uses = [
            lambda: producer.send(topic, b"never"),
            lambda: producer.flush(),
            lambda: producer.close(),
            lambda: producer.partitions_for(topic),
            lambda: producer.metrics(),
            lambda: producer.__enter__() and producer.flush(),
        ]
        for use in uses:
            try:
                use()
            except ProducerForkedError as error:
                assert "post_fork" in str(error) and "worker_process_init" in str(error), error
                assert "multiprocessing" in str(error), error
                assert str(error).count("post_fork") == 1, error
                refused += 1
        assert repr(producer)
        print("refused", refused, "of", len(uses))
        with KafkaProducer(bootstrap_servers=bootstrap, client_id="child") as own:
            own.send(topic, b"from the child")
        {ending}
    _, status = os.waitpid(child, 0)
    print("child", os.waitstatus_to_exitcode(status))
    after = [producer.send(topic, b"after %d" % n) for n in range(50)]
    producer.close()
    assert all(future.done() for future in before + after)
    print("parent done")
"""


@pytest.mark.parametrize("ending", ["sys.exit(7)", "del producer, before; import gc; gc.collect(); sys.exit(7)"])
def test_after_a_fork_the_child_raises_and_the_parent_works(
    cluster: RunningCluster, topic: str, log: Log, ending: str
) -> None:
    code, out, err = run_script(
        FORK.replace("{ending}", ending), cluster.bootstrap_servers, topic, options=("-W", "error", "-X", "dev")
    )
    assert (code, err) == (0, "")
    assert out.splitlines() == ["refused 6 of 6", "child 7", "parent done"]
    expected = [b"before %d" % n for n in range(50)] + [b"after %d" % n for n in range(50)]
    values = log.values(topic)
    assert values.count(b"from the child") == 1
    assert [value for value in values if value != b"from the child"] == expected


def test_in_the_child_of_a_fork_pending_futures_raise_and_done_ones_work(
    cluster: RunningCluster, topic: str, log: Log
) -> None:
    code, out, err = run_script(
        """
        import os, sys
        from penstock import KafkaProducer, ProducerForkedError

        producer = KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=60_000)
        done = producer.send(sys.argv[2], b"1")
        producer.flush()
        pending = producer.send(sys.argv[2], b"2")
        child = os.fork()
        if not child:
            assert done.result().offset == 0
            seen = []
            done.add_done_callback(seen.append)
            assert seen == [done]
            refused = 0
            for use in (pending.result, pending.exception, lambda: pending.add_done_callback(seen.append)):
                try:
                    use()
                except ProducerForkedError:
                    refused += 1
            os._exit(0 if refused == 3 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        producer.close()
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "0\n", "")
    assert log.count(topic) == 2


def test_multiprocessing_by_fork_works_with_a_producer_in_each_process(
    cluster: RunningCluster, topic: str, log: Log
) -> None:
    code, out, err = run_script(
        """
        import multiprocessing, sys
        from penstock import KafkaProducer

        def work(number):
            with KafkaProducer(bootstrap_servers=sys.argv[1]) as own:
                own.send(sys.argv[2], b"child %d" % number)

        with KafkaProducer(bootstrap_servers=sys.argv[1]) as producer:
            producer.send(sys.argv[2], b"parent").result(20)
            context = multiprocessing.get_context("fork")
            children = [context.Process(target=work, args=(number,)) for number in range(3)]
            for child in children: child.start()
            for child in children: child.join(); assert child.exitcode == 0
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "", "")
    assert sorted(value or b"" for value in log.values(topic)) == [b"child 0", b"child 1", b"child 2", b"parent"]


# ------------------------------------------------------------------------------------------------------------------ exit


@pytest.mark.parametrize(
    "ending",
    ["", "sys.exit(0)", "raise SystemExit", "import threading; threading.Thread(target=lambda: None).start()"],
)
def test_buffered_records_are_delivered_at_exit(cluster: RunningCluster, topic: str, log: Log, ending: str) -> None:
    code, out, err = run_script(
        f"""
        import sys
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=60_000)
        for number in range(1000):
            producer.send(sys.argv[2], b"%d" % number)
        {ending}
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "", "")
    assert log.values(topic) == [b"%d" % number for number in range(1000)]


def test_callbacks_run_at_exit(cluster: RunningCluster, topic: str) -> None:
    code, out, err = run_script(
        """
        import sys
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=60_000)
        for number in range(3):
            producer.send(sys.argv[2], b"value", callback=lambda metadata, error: print(metadata.offset, error))
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "0 None\n1 None\n2 None\n", "")


def test_buffered_records_are_delivered_after_an_uncaught_exception(
    cluster: RunningCluster, topic: str, log: Log
) -> None:
    code, _, err = run_script(
        """
        import sys
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=sys.argv[1], linger_ms=60_000)
        producer.send(sys.argv[2], b"value")
        raise LookupError("the application's own")
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert code == 1
    assert "the application's own" in err
    assert log.values(topic) == [b"value"]


def test_at_exit_without_a_broker_the_wait_is_bounded_and_the_loss_logged(
    cluster: RunningCluster, topic: str, faults: Faults
) -> None:
    # Bounded by min(delivery.timeout.ms, 10 s); the former is set short to keep the test short.
    faults.add("Produce", topic=topic, drop="silent", times=100)
    began = time.monotonic()
    code, out, err = run_script(
        """
        import sys
        from penstock import KafkaProducer
        producer = KafkaProducer(
            bootstrap_servers=sys.argv[1], delivery_timeout_ms=1500, request_timeout_ms=1400, linger_ms=0
        )
        for number in range(3):
            producer.send(sys.argv[2], b"value")
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert time.monotonic() - began < 8
    assert (code, out) == (0, "")
    assert "3 records were not delivered" in err or "3 records not acknowledged" in err


def test_exit_with_an_empty_buffer_does_not_wait() -> None:
    with closed_port() as address:
        began = time.monotonic()
        code, out, err = run_script(
            """
            import sys
            from penstock import KafkaProducer
            producer = KafkaProducer(bootstrap_servers=sys.argv[1])
            """,
            address,
        )
    assert (code, out) == (0, "")
    assert time.monotonic() - began < 5
    assert "Traceback" not in err


def test_development_mode_shows_no_warning(cluster: RunningCluster, topic: str, log: Log) -> None:
    code, out, err = run_script(
        """
        import sys, threading
        def use():
            import penstock
            with penstock.KafkaProducer(bootstrap_servers=sys.argv[1]) as one:
                with penstock.KafkaProducer(bootstrap_servers=sys.argv[1]) as two:
                    one.send(sys.argv[2], b"one").result(20)
                    two.send(sys.argv[2], b"two", callback=lambda *outcome: None)
                    two.flush()
                    one.metrics(), one.partitions_for(sys.argv[2])
        # The first import is in a thread: nothing may depend on the main thread.
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()
        """,
        cluster.bootstrap_servers,
        topic,
        options=("-X", "dev", "-W", "error"),
    )
    assert (code, out, err) == (0, "", "")
    assert log.values(topic) == [b"one", b"two"]


def test_an_unclosed_producer_is_reported_in_development_mode(cluster: RunningCluster, topic: str, log: Log) -> None:
    code, out, err = run_script(
        """
        import sys
        from penstock import KafkaProducer
        def forget():
            KafkaProducer(bootstrap_servers=sys.argv[1]).send(sys.argv[2], b"value")
        forget()
        """,
        cluster.bootstrap_servers,
        topic,
        options=("-X", "dev"),
    )
    assert (code, out) == (0, "")
    assert "ResourceWarning: unclosed <KafkaProducer" in err
    assert log.values(topic) == [b"value"]


# ---------------------------------------------------------------------------------------------------------------- Ctrl-C

INTERRUPTED = """
    import penstock, sys, threading
    from penstock import KafkaProducer

    bootstrap, topic, options = sys.argv[1:]
    producer = KafkaProducer(bootstrap_servers=bootstrap, **eval(options))
    {before}
    # The thread can print when the main thread releases the GIL: in its wait.
    entered = threading.Event()
    threading.Thread(target=lambda: entered.wait() and print("waiting"), daemon=True).start()
    try:
        entered.set()
        {wait}
    except KeyboardInterrupt:
        print("interrupted")
    {after}
    producer.close()
    print("done")
"""


def _interrupt(process: subprocess.Popen[str]) -> float:
    """Wait for the line before the wait, send Ctrl-C, and return the time until the process reacts."""
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    return time.monotonic() - began


def _rest(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and the rest of its output."""
    assert process.stdout is not None
    return process.wait(SOON_S), process.stdout.read()


@pytest.mark.parametrize(
    ("options", "before", "wait", "after", "expected"),
    [
        (
            {"request_timeout_ms": 1200},
            "future = producer.send(topic, b'first')",
            "future.result()",
            "future.result(20)",
            [b"first"],
        ),
        (
            {"request_timeout_ms": 1200},
            "future = producer.send(topic, b'first')",
            "producer.flush()",
            "producer.flush()",
            [b"first"],
        ),
        (
            {"request_timeout_ms": 1200},
            "future = producer.send(topic, b'first')",
            "penstock.wait([future])",
            "penstock.wait([future])",
            [b"first"],
        ),
        (
            {"request_timeout_ms": 1200},
            "future = producer.send(topic, b'first')",
            "list(penstock.as_completed([future]))",
            "list(penstock.as_completed([future]))",
            [b"first"],
        ),
        (
            {"request_timeout_ms": 1200, "buffer_memory": 1000, "batch_size": 1000},
            "producer.send(topic, b'first' + bytes(500))",
            "producer.send(topic, b'second' + bytes(500))",
            "producer.send(topic, b'third' + bytes(500))",
            [b"first" + bytes(500), b"third" + bytes(500)],
        ),
        (
            {},
            "producer.partitions_for(topic)",
            "producer.send('never-there', b'value')",
            "producer.send(topic, b'first')",
            [b"first"],
        ),
        (
            {},
            "producer.partitions_for(topic)",
            "producer.partitions_for('never-there')",
            "producer.send(topic, b'first')",
            [b"first"],
        ),
    ],
    ids=["result", "flush", "wait", "as_completed", "send for memory", "send for a topic", "partitions_for"],
)
def test_ctrl_c_interrupts_a_wait_and_leaves_the_producer_usable(
    cluster: RunningCluster,
    topic: str,
    faults: Faults,
    log: Log,
    options: dict[str, object],
    before: str,
    wait: str,
    after: str,
    expected: list[bytes],
) -> None:
    # The first answer is dropped, so that the call waits; the request is repeated after 1.2 s.
    faults.add("Produce", topic=topic, drop="silent")
    if "never-there" in wait:
        faults.clear()
    script = INTERRUPTED.replace("{before}", before).replace("{wait}", wait).replace("{after}", after)
    process = start_script(script, cluster.bootstrap_servers, topic, repr(options))
    try:
        heard_after_s = _interrupt(process)
        assert _rest(process) == (0, "done\n")
    finally:
        process.kill()
        process.communicate()
    assert heard_after_s < 1.0
    assert log.values(topic) == expected


def test_ctrl_c_in_close_fails_pending_records(cluster: RunningCluster, topic: str, faults: Faults) -> None:
    faults.add("Produce", topic=topic, drop="silent", times=10)
    process = start_script(
        """
        import sys, threading
        from penstock import KafkaProducer
        producer = KafkaProducer(bootstrap_servers=sys.argv[1])
        future = producer.send(sys.argv[2], b"value")
        entered = threading.Event()
        threading.Thread(target=lambda: entered.wait() and print("waiting"), daemon=True).start()
        try:
            entered.set()
            producer.close()
        except KeyboardInterrupt:
            print("interrupted")
        print(type(future.exception(5)).__name__, producer.closed)
        """,
        cluster.bootstrap_servers,
        topic,
    )
    try:
        assert _interrupt(process) < 2.0
        assert _rest(process) == (0, "ProducerClosedError True\n")
    finally:
        process.kill()
        process.communicate()


def test_a_broker_that_never_answers_does_not_block_the_exit() -> None:
    with silent_server() as address:
        began = time.monotonic()
        code, out, err = run_script(
            """
            import sys
            from penstock import KafkaProducer, KafkaTimeoutError
            producer = KafkaProducer(bootstrap_servers=sys.argv[1], max_block_ms=500)
            try:
                producer.send("topic", b"value")
            except KafkaTimeoutError as error:
                print(error)
            """,
            address,
        )
    assert code == 0, err
    assert time.monotonic() - began < SOON_S
    assert re.search(r"max\.block\.ms = 500", out)
    assert address in out


def test_exit_with_pending_callbacks_does_not_crash(cluster: RunningCluster, topic: str) -> None:
    code, out, err = run_script(
        """
        import sys, threading
        from penstock import KafkaProducer

        entered, never = threading.Event(), threading.Event()
        producer = KafkaProducer(bootstrap_servers=sys.argv[1])
        producer.send(sys.argv[2], b"first", callback=lambda *_: (entered.set(), never.wait()))
        for _ in range(100):
            producer.send(sys.argv[2], b"value", callback=lambda *_: None)
        assert entered.wait(20)
        producer.close(0.2)
        print("closed")
        """,
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out) == (0, "closed\n"), err
