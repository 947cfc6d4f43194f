"""Greenlets: producers in processes patched by gevent and eventlet, before the import, after it, and while a producer runs.

Patching cannot be undone, so each test is a program (`greenlet_world.py` is imported by it). A program that blocks, which
these tests look for, is ended after 30 s and prints its stacks.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from facade_support import SOON_S, Log, MakeTopic, closed_port, finish, silent_server, start_script

from penstock.devbroker import Faults, RunningCluster

HERE = str(Path(__file__).parent)
LIBRARIES = ["gevent", "eventlet"]
MOMENTS = ["before", "import", "made"]
"""When the process is patched: before Penstock is imported, after that, or after a producer was created."""


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if importlib.util.find_spec(name) is None:
        assert os.environ.get("CI") != "true", f"{name} is pinned in requirements/dev.txt"
        pytest.skip(f"{name} is not installed")
    return name


def run_program(code: str, library: str, moment: str, *arguments: str) -> list[str]:
    """The lines that a program prints; stderr must stay empty."""
    preamble = f"import sys; sys.path.insert(0, {HERE!r})\nimport greenlet_world as world\n"
    process = start_script(preamble + textwrap.dedent(code), library, moment, *arguments)
    status, out, err = finish(process)
    assert (status, err) == (0, ""), out + err
    return out.splitlines()


EVERYTHING = """
    import logging
    import queue
    import threading
    import time

    world.at("before")
    from penstock import KafkaProducer, KafkaTimeoutError, as_completed, wait

    world.at("import")
    logging.getLogger("penstock").addHandler(logging.NullHandler())
    unreachable_address, bootstrap, topic = world.ARGUMENTS
    unreachable = KafkaProducer(bootstrap_servers=unreachable_address, max_block_ms=300)
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=1)
    if world.WHEN == "made":
        producer.send(topic, b"early").result()
        world.at("made")
    pulse = world.Pulse()

    def send_to_nowhere():
        began = time.monotonic()
        try:
            unreachable.send("any", b"value")
        except KafkaTimeoutError:
            return time.monotonic() - began

    took, beats = pulse.beats(send_to_nowhere)
    assert 0.3 <= took < 10 and beats > 5, (took, beats)
    unreachable.close()

    # Futures, in one greenlet and in many.
    future = producer.send(topic, b"one")
    assert future.result(timeout=20).offset >= 0
    assert future.exception() is None
    greenlets = [world.spawn(lambda n: producer.send(topic, b"%d" % n).result().offset, n) for n in range(100)]
    assert len(set(world.join(greenlets))) == 100

    # Callbacks run in the application's main thread, and may use its queues and events.
    reported = queue.Queue()
    went = threading.Event()

    def callback(metadata, error):
        world.sleep(0.001)
        reported.put((metadata.topic, error, world.on_main_thread()))
        went.set()

    producer.send(topic, b"two", callback=callback)
    assert reported.get(timeout=20) == (topic, None, True)
    assert went.wait(20)
    future = producer.send(topic, b"three")
    future.add_done_callback(lambda done: reported.put((done is future, world.on_main_thread())))
    assert reported.get(timeout=20) == (True, True)

    # Several futures.
    futures = [producer.send(topic, b"four") for _ in range(50)]
    assert sorted(map(id, as_completed(futures, timeout=20))) == sorted(map(id, futures))
    for which in ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"):
        assert wait([producer.send(topic, b"five") for _ in range(3)], 20, which).done

    # Many records.
    result = producer.send_many(topic, [b"six"] * 1000)
    result.raise_for_errors()
    assert min(result.offsets) >= 0
    seen = []
    result.add_done_callback(seen.append)
    assert seen == [result]

    # Flush and close; a second close waits for the first, which may be in another greenlet.
    producer.send(topic, b"seven", callback=lambda *_: (world.sleep(0.01), reported.put("flushed")))
    producer.flush(20)
    assert reported.get_nowait() == "flushed"
    assert producer.metrics()["producer-metrics"]["waiting-threads"] == 0
    producer.send(topic, b"eight", callback=lambda *_: reported.put("closed"))
    world.join([world.spawn(producer.close), world.spawn(producer.close)])
    assert producer.closed and reported.get(timeout=20) == "closed"
    print("done")
"""


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_method_works_while_other_greenlets_run(
    library: str, moment: str, cluster: RunningCluster, topic: str, log: Log
) -> None:
    with closed_port() as unreachable_address:
        assert run_program(EVERYTHING, library, moment, unreachable_address, cluster.bootstrap_servers, topic) == [
            "done"
        ]
    assert log.count(topic) == 1 + 100 + 2 + 50 + 9 + 1000 + 2 + (moment == "made")


INTERRUPTED = """
    world.at("before")
    import gc
    import types
    from penstock import KafkaProducer, KafkaTimeoutError, ProducerClosedError, _hub_channels, wait

    silent, bootstrap, slow, topic = world.ARGUMENTS
    pulse = world.Pulse()

    # While a topic is awaited.
    unanswered = KafkaProducer(bootstrap_servers=silent)
    for use in (lambda: unanswered.send("any", b"1"), lambda: unanswered.send_many("any", [b"1"]),
                lambda: unanswered.partitions_for("any")):
        assert world.within(0.05, use) == "interrupted"
    sending = world.spawn(unanswered.send, "any", b"1")
    world.sleep(0.02)
    world.kill(sending)
    outcome = []

    def send_until_closed():
        try:
            unanswered.send("any", b"1")
        except ProducerClosedError:
            outcome.append("closed")

    world.spawn(send_until_closed)
    world.sleep(0.02)
    unanswered.close()
    world.until(lambda: outcome)

    # While a record is in flight: it stays in flight. Answers take a second.
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, batch_size=1000, buffer_memory=4000,
                             max_in_flight_requests_per_connection=1)
    future = producer.send(slow, b"x" * 500)
    for use in (future.result, future.exception, producer.flush, lambda: wait([future], return_when="FIRST_COMPLETED")):
        _, beats = pulse.beats(lambda: world.within(0.03, use))
        assert not future.done() and beats > 2, beats
    for use in (lambda: future.result(0.03), lambda: producer.flush(0.03)):
        try:
            _, beats = pulse.beats(use)
        except (TimeoutError, KafkaTimeoutError):
            assert not future.done()
    waiting = world.spawn(future.result)
    world.sleep(0.01)
    world.kill(waiting)
    assert future.result().offset == 0

    # While a send waits for buffer memory: an interrupted one passes it on.
    futures = []

    def send(count):
        for _ in range(count):
            futures.append(producer.send(topic, b"x" * 900))

    blocking = producer.send(slow, b"x" * 900)
    senders = [world.spawn(send, 10) for _ in range(20)]
    producer_metrics = lambda: producer.metrics()["producer-metrics"]
    world.until(lambda: producer_metrics()["waiting-threads"] >= 10)
    for number, sender in enumerate(senders):
        if number % 2:
            world.kill(sender)
    # If memory becomes free meanwhile, the interrupted send may have got it already.
    assert world.within(0.001, lambda: send(1)) in ("interrupted", None)
    alive = [sender for number, sender in enumerate(senders) if not number % 2]
    world.join(alive)
    producer.flush()
    assert len(futures) >= 100 and all(future.exception() is None for future in futures)
    metrics = producer_metrics()
    assert metrics["waiting-threads"] == 0, metrics["waiting-threads"]
    assert metrics["buffer-available-bytes"] == metrics["buffer-total-bytes"] == 4000

    # An interrupted close continues in the background.
    producer.send(slow, b"last")
    assert world.within(0.02, producer.close) == "interrupted"
    producer.close()

    # The native code holds nothing of these waits any more.
    world.sleep(0.01)
    gc.collect()
    methods = [thing for thing in gc.get_objects() if isinstance(thing, types.MethodType)]
    assert not [method for method in methods if isinstance(method.__self__, _hub_channels.Waiter)]
    print(len(futures))
"""


def test_waits_can_be_interrupted_without_leaks(
    library: str, cluster: RunningCluster, faults: Faults, new_topic: MakeTopic, log: Log
) -> None:
    slow, topic = new_topic(), new_topic()
    faults.add("Produce", topic=slow, delay_ms=300, times=100)
    with silent_server() as silent:
        lines = run_program(INTERRUPTED, library, "before", silent, cluster.bootstrap_servers, slow, topic)
    assert log.count(topic) == int(lines[0])
    assert log.count(slow) == 3


CROWD = """
    world.at("before")
    from penstock import KafkaProducer

    bootstrap, topic = world.ARGUMENTS
    pulse = world.Pulse()
    called = []
    with KafkaProducer(bootstrap_servers=bootstrap, batch_size=2000, buffer_memory=8000, linger_ms=1) as producer:
        def work(number):
            for index in range(20):
                producer.send(topic, b"x" * 300, key=b"%d" % number, callback=lambda *_: called.append(1))
            future = producer.send(topic, b"last", key=b"%d" % number)
            return producer.send_many(topic, [b"y" * 300] * 20).result().done() and future.result().partition >= 0

        if world.LIBRARY == "gevent":
            from gevent.pool import Pool
            outcomes = Pool(100).map(work, range(200))
        else:
            outcomes = list(world.library.GreenPool(100).imap(work, range(200)))
        assert outcomes == [True] * 200
        producer.flush()
        assert len(called) == 4000
        metrics = producer.metrics()["producer-metrics"]
        assert metrics["bufferpool-wait-time-ns-total"] > 0
    assert pulse.count > 10
    print("done")
"""


def test_two_hundred_greenlets_share_a_small_buffer(
    library: str, cluster: RunningCluster, new_topic: MakeTopic, log: Log
) -> None:
    topic = new_topic(3)
    assert run_program(CROWD, library, "before", cluster.bootstrap_servers, topic) == ["done"]
    assert log.count(topic) == 200 * 41


HUB = """
    import time
    world.at("before")
    from penstock import KafkaProducer

    bootstrap, topic = world.ARGUMENTS
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
    world.sleep(0.01)

    # The hub's own greenlet cannot yield. A call in it must still end.
    called = []
    outcome = world.in_hub(lambda: producer.send(topic, b"1", callback=lambda *_: called.append(1)).result().offset)
    world.until(lambda: outcome)
    assert outcome[0] >= 0, outcome
    world.until(lambda: called)

    # In the hub a flush does not wait for a callback that needs the hub.
    producer.send(topic, b"2", callback=lambda *_: (called.append(2), world.sleep(0.2), called.append(3)))
    world.until(lambda: called[-1] == 2)
    outcome = world.in_hub(producer.flush)
    world.until(lambda: outcome)
    assert outcome == [None] and called[-1] == 2, (outcome, called)
    world.until(lambda: called[-1] == 3)

    # While the hub is blocked, another thread runs new callbacks: here the hub waits for memory that they hold.
    other = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, batch_size=1000, buffer_memory=3000, max_block_ms=9000)
    outcome = world.in_hub(lambda: (
        [other.send(topic, b"x" * 900, callback=lambda *_: called.append(4)) for _ in range(12)], other.close(), "through"))
    world.until(lambda: outcome)
    assert outcome[0][-1] == "through", outcome
    world.until(lambda: called.count(4) == 12)

    if world.LIBRARY == "gevent":
        # An idle producer keeps no hub alive.
        assert world.library.wait(timeout=20), "still something to do"

    # Two closes, the second in the hub while the first greenlet waits.
    producer.send(topic, b"4", callback=lambda *_: world.sleep(0.1))
    closing = world.spawn(producer.close)
    world.sleep(0.001)
    outcome = world.in_hub(producer.close)
    world.until(lambda: outcome)
    assert outcome == [None]
    world.join([closing])
    print("done")
"""


def test_the_hubs_own_greenlet_is_never_waited_for(library: str, cluster: RunningCluster, topic: str) -> None:
    assert run_program(HUB, library, "before", cluster.bootstrap_servers, topic) == ["done"]


LOGS = """
    import logging, threading
    world.at("before")
    from penstock import KafkaProducer

    unreachable_address, bootstrap, topic = world.ARGUMENTS
    threads = set()
    seen = []

    class Slow(logging.Handler):
        def emit(self, record):
            # Another greenlet runs while this one holds the handler's lock, which is a greenlet's lock.
            world.sleep(0.002)
            threads.add(world.thread_number())
            seen.append(record.name)

    logging.basicConfig(level=logging.DEBUG, handlers=[Slow()])

    def chatter():
        while True:
            logging.info("something")
            world.sleep(0)

    for _ in range(3):
        world.spawn(chatter)
    producer = KafkaProducer(bootstrap_servers=unreachable_address, max_block_ms=500)
    try:
        producer.send("any", b"value")
    except Exception:
        pass
    world.until(lambda: "penstock.control" in seen)  # connection refused
    producer.close()

    def broken(metadata, error):
        raise ValueError("by design")

    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send(topic, b"value", callback=broken)
    producer.flush()
    world.until(lambda: "penstock.producer" in seen)
    producer.send(topic, b"value", callback=lambda *_: logging.warning("called"))
    producer.close()
    assert len(threads) == 1, threads
    print("done")
    import os
    os._exit(0)  # the loggers log on
"""


def test_log_handlers_and_callbacks_share_locks_with_the_application(
    library: str, cluster: RunningCluster, topic: str
) -> None:
    with closed_port() as unreachable_address:
        assert run_program(LOGS, library, "before", unreachable_address, cluster.bootstrap_servers, topic) == ["done"]


UNPATCHED = """
    import threading
    world.use(patch={partly})
    from penstock import KafkaProducer, as_completed

    bootstrap, slow = world.ARGUMENTS
    pulse = world.Pulse()
    world.sleep(0.01)
    main = world.thread_number()
    called = []
    with KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0) as producer:
        future = producer.send(slow, b"1", callback=lambda *_: called.append(world.thread_number()))
        _, beats = pulse.beats(future.result)
        assert beats > 5, beats
        _, beats = pulse.beats(lambda: list(as_completed([producer.send(slow, b"2")])))
        assert beats > 5, beats
        producer.flush()
    assert called and called[0] != main  # threads are threads here
    print("done")
"""


@pytest.mark.parametrize("partly", ["None", "{'thread': False}"])
def test_without_patched_threads_waits_yield_to_greenlets(
    library: str, partly: str, cluster: RunningCluster, faults: Faults, topic: str
) -> None:
    faults.add("Produce", topic=topic, delay_ms=100, times=100)
    code = UNPATCHED.replace("{partly}", partly)
    assert run_program(code, library, "never", cluster.bootstrap_servers, topic) == ["done"]


FORK = """
    import os
    world.at("before")
    from penstock import KafkaProducer, ProducerForkedError

    bootstrap, topic = world.ARGUMENTS
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50)
    world.spawn(lambda: [producer.send(topic, b"parent").result() for _ in range(3)])
    world.sleep(0.01)
    child = os.fork()
    if not child:
        for use in (lambda: producer.send(topic, b"never"), producer.flush, producer.close):
            try:
                use()
            except ProducerForkedError:
                print("refused", flush=True)
        if world.LIBRARY == "eventlet":
            # The child shares the parent's poller; the program has to replace it in eventlet.
            from eventlet.hubs import use_hub
            use_hub()
        with KafkaProducer(bootstrap_servers=bootstrap) as own:
            called = []
            assert own.send(topic, b"child", callback=lambda *_: called.append(1)).result().offset >= 0
            own.flush()
            assert called
        print("child", flush=True)
        os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        world.sleep(0.01)
    with producer:
        assert producer.send(topic, b"parent").result().offset >= 0
    print("parent")
"""


def test_after_a_fork_child_and_parent_have_their_own_producers(
    library: str, cluster: RunningCluster, topic: str, log: Log
) -> None:
    lines = run_program(FORK, library, "before", cluster.bootstrap_servers, topic)
    assert lines == ["refused", "refused", "refused", "child", "parent"]
    values = log.values(topic)
    assert values.count(b"child") == 1
    assert values.count(b"never") == 0


EXIT = """
    world.at("before")
    from penstock import KafkaProducer

    bootstrap, topic = world.ARGUMENTS
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=60_000)
    world.sleep(0.01)
    for n in range(100):
        producer.send(topic, b"%d" % n, callback=(lambda *_: print("called")) if n == 99 else None)
    world.spawn(producer.send(topic, b"waited for").result)  # never returns
    world.sleep(0.01)
"""


def test_pending_records_are_delivered_at_exit(library: str, cluster: RunningCluster, topic: str, log: Log) -> None:
    assert run_program(EXIT, library, "before", cluster.bootstrap_servers, topic) == ["called"]
    assert log.count(topic) == 101


ASYNCIO = """
    world.at("before")
    import asyncio
    from penstock import AsyncKafkaProducer

    world.at("import")
    bootstrap, topic = world.ARGUMENTS

    async def main():
        called = []
        async with AsyncKafkaProducer(bootstrap_servers=bootstrap) as producer:
            await producer.send_and_wait(topic, b"1", callback=lambda *_: called.append(1))
            futures = [await producer.send(topic, b"2") for _ in range(100)]
            await asyncio.gather(*futures)
            await (await producer.send_many(topic, [b"3"] * 100))
            await producer.flush()
        assert called

    asyncio.run(main())
    print("done")
"""


def test_asyncio_in_a_patched_process(library: str, cluster: RunningCluster, topic: str, log: Log) -> None:
    moment = "before" if library == "gevent" else "import"
    assert run_program(ASYNCIO, library, moment, cluster.bootstrap_servers, topic) == ["done"]
    assert log.count(topic) == 201


THREADS = """
    world.at("before")
    from penstock import KafkaProducer

    bootstrap, topic = world.ARGUMENTS
    # Created at import, used in the library's real threads and in greenlets.
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=0)
    called = []

    def work(number):
        assert not world.on_main_thread()
        return producer.send(topic, b"1", callback=lambda *_: called.append(world.on_main_thread())).result().offset

    if world.LIBRARY == "gevent":
        pool = world.library.get_hub().threadpool
        offsets = pool.map(work, range(20))
    else:
        from eventlet import tpool
        offsets = world.join([world.spawn(tpool.execute, work, n) for n in range(20)])
    assert len(set(offsets)) == 20
    producer.flush()
    assert called == [True] * 20, called
    producer.close()
    print("done")
"""


def test_the_librarys_real_threads_may_use_a_producer(library: str, cluster: RunningCluster, topic: str) -> None:
    assert run_program(THREADS, library, "before", cluster.bootstrap_servers, topic) == ["done"]


def test_names_are_resolved_without_the_hub(library: str, cluster: RunningCluster, topic: str) -> None:
    code = """
        world.at("before")
        import socket

        def used(*arguments, **rest):
            raise AssertionError("the hub resolved a name in a thread of ours")

        used.__module__ = socket.getaddrinfo.__module__
        socket.getaddrinfo = used
        from penstock import ConfigError, KafkaProducer

        port = world.ARGUMENTS[0].split(",")[0].rpartition(":")[2]

        def use():
            with KafkaProducer(bootstrap_servers=f"localhost:{port}") as producer:
                return producer.send(world.ARGUMENTS[1], b"value").result()

        # At once: our threads import modules under locks that are made for greenlets of one thread.
        world.join([world.spawn(use) for _ in range(10)])
        try:
            KafkaProducer(bootstrap_servers="no-such-host.invalid:9092")
        except ConfigError:
            print("done")
    """
    assert run_program(code, library, "before", cluster.bootstrap_servers, topic) == ["done"]


@pytest.mark.parametrize("options", [(), ("--preload",)])
def test_gunicorns_gevent_worker_answers_every_request(
    options: tuple[str, ...], cluster: RunningCluster, topic: str, log: Log
) -> None:
    """With --preload the master imports Penstock, before the fork and before the workers are patched."""
    for name in ("gevent", "gunicorn"):
        if importlib.util.find_spec(name) is None:
            assert os.environ.get("CI") != "true", f"{name} is pinned in requirements/dev.txt"
            pytest.skip(f"{name} is not installed")
    environment = {
        **os.environ,
        "PENSTOCK_TEST_BOOTSTRAP": cluster.bootstrap_servers,
        "PENSTOCK_TEST_TOPIC": topic,
        "PYTHONPATH": HERE,
    }
    # One worker: a second one may still be starting at the end, and gunicorn loses a SIGTERM that arrives then.
    options = ("-k", "gevent", "-w", "1", "-t", "10", "-b", "127.0.0.1:0", "--no-control-socket", *options)
    command = [sys.executable, "-m", "gunicorn", *options]
    server = subprocess.Popen(
        [*command, "gunicorn_app:application"], stderr=subprocess.PIPE, text=True, env=environment, cwd=HERE
    )
    try:
        assert server.stderr is not None
        lines = []
        for line in server.stderr:
            lines.append(line)
            if found := re.search(r"Listening at: http://127.0.0.1:(\d+)", line):
                break
        else:
            pytest.fail("".join(lines))

        def get(path: str) -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=SOON_S)
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                assert answer.status == 200
                return answer.read()
            finally:
                connection.close()

        paths = ["/sleep"] * 4 + ["/send"] * 40 + ["/with"] * 4 + ["/leave"] * 4
        with ThreadPoolExecutor(len(paths)) as pool:
            answers = list(pool.map(get, paths))
        assert answers[:4] == [b"slept"] * 4
        assert len(set(answers[4:48])) == 44
        server.terminate()
        lines += server.communicate(timeout=SOON_S)[1]
        assert server.returncode == 0, "".join(lines)
        assert not re.search("Traceback|CRITICAL|ERROR", "".join(lines)), "".join(lines)
    finally:
        if server.poll() is None:
            server.kill()
            server.communicate()
    assert log.count(topic) == 48
