"""The asyncio facade and its process: Ctrl-C, exit, fork, a program that does not close."""

from __future__ import annotations

import signal

import pytest
from facade_support import Log, finish, run_script, start_script

from penstock.devbroker import RunningCluster

HEAD = """
import asyncio, os, sys
from penstock import AsyncKafkaProducer, ProducerForkedError
servers, topic = sys.argv[1:]
"""


def script(body: str) -> str:
    return HEAD + body


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_unclosed_producer_delivers_at_exit(cluster: RunningCluster, topic: str, log: Log, loop: str) -> None:
    code, out, err = run_script(
        script(f"""
import {loop}
producer = AsyncKafkaProducer(bootstrap_servers=servers, linger_ms=60000)
async def main():
    for number in range(100):
        await producer.send(topic, b"%d" % number)
{loop}.run(main())
print("over")
"""),
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "over\n", "")
    assert log.values(topic) == [b"%d" % number for number in range(100)]


def test_a_producer_that_main_drops_warns_and_delivers(cluster: RunningCluster, topic: str, log: Log) -> None:
    code, _, err = run_script(
        script("""
async def main():
    producer = AsyncKafkaProducer(bootstrap_servers=servers)
    await producer.send(topic, b"value")
asyncio.run(main())
"""),
        cluster.bootstrap_servers,
        topic,
        options=("-X", "dev"),
    )
    assert code == 0
    assert "ResourceWarning: unclosed <AsyncKafkaProducer" in err
    assert log.values(topic) == [b"value"]


def test_ctrl_c_ends_a_program_that_sends_for_ever(cluster: RunningCluster, topic: str, log: Log) -> None:
    process = start_script(
        script("""
async def main():
    async with AsyncKafkaProducer(bootstrap_servers=servers) as producer:
        await producer.send_and_wait(topic, b"first")
        print("sending")
        while True:
            await producer.send(topic, b"value")
asyncio.run(main())
"""),
        cluster.bootstrap_servers,
        topic,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "sending\n"
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    assert code in (130, -signal.SIGINT, 1)
    assert "KeyboardInterrupt" in err
    assert "panick" not in err
    assert log.values(topic)[0] == b"first"


def test_a_child_raises_and_may_have_a_producer_of_its_own(cluster: RunningCluster, topic: str, log: Log) -> None:
    code, out, err = run_script(
        script("""
producer = AsyncKafkaProducer(bootstrap_servers=servers)
async def send(producer):
    return await producer.send(topic, b"value")
async def both():
    future = await send(producer)
    await future
    return future
future = asyncio.run(both())
if os.fork() == 0:
    async def child():
        assert (await future).offset == 0
        for refused in (lambda: producer.send(topic, b"no"), producer.flush, producer.close):
            try:
                await refused()
            except ProducerForkedError:
                print("refused", flush=True)
        async with AsyncKafkaProducer(bootstrap_servers=servers) as own:
            print((await own.send_and_wait(topic, b"child")).offset, flush=True)
    asyncio.run(child())
    os._exit(0)
os.wait()
async def end():
    print((await producer.send_and_wait(topic, b"parent")).offset)
    await producer.close()
asyncio.run(end())
"""),
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out.split(), err) == (0, ["refused", "refused", "refused", "1", "2"], "")
    assert log.values(topic) == [b"value", b"child", b"parent"]


def test_an_open_loop_with_pending_futures_does_not_block_the_exit(cluster: RunningCluster, topic: str) -> None:
    code, out, err = run_script(
        script("""
loop = asyncio.new_event_loop()
producer = AsyncKafkaProducer(bootstrap_servers=servers, linger_ms=60000)
async def main():
    future = await producer.send(topic, b"value")
    future.add_done_callback(print)
    asyncio.ensure_future(future)
loop.run_until_complete(main())
print("over")
"""),
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out) == (0, "over\n"), err


def test_loops_in_daemon_threads_do_not_disturb_the_exit(cluster: RunningCluster, topic: str) -> None:
    code, out, err = run_script(
        script("""
import threading
producer = AsyncKafkaProducer(bootstrap_servers=servers)
ready = threading.Event()
async def main():
    while True:
        await (await producer.send(topic, b"value"))
        ready.set()
threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
ready.wait()
print("over")
"""),
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out) == (0, "over\n"), err
    assert "Fatal" not in err
    assert "panick" not in err


def test_many_consecutive_loops_leak_no_descriptors(cluster: RunningCluster, topic: str) -> None:
    code, out, err = run_script(
        script("""
import gc
producer = AsyncKafkaProducer(bootstrap_servers=servers)
async def main():
    await producer.send_and_wait(topic, b"value")
def descriptors():
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
asyncio.run(main())
asyncio.run(main())
before = descriptors()
for _ in range(50):
    asyncio.run(main())
print(descriptors() - before)
asyncio.run(producer.close())
"""),
        cluster.bootstrap_servers,
        topic,
    )
    assert (code, out, err) == (0, "0\n", "")
