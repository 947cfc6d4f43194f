"""Producers come and go: no thread, no descriptor stays behind. `make soak` does it a thousand times."""

from __future__ import annotations

from facade_support import run_script

from penstock.devbroker import RunningCluster

CYCLES = """
    import os, sys, threading, time
    from penstock import KafkaProducer

    bootstrap, topic, count = sys.argv[1:]

    def descriptors_once_alone():
        # A thread that has been joined is gone from the process's list a moment later.
        deadline = time.monotonic() + 20
        while len(os.listdir("/proc/self/task")) > 1:
            assert time.monotonic() < deadline, [thread.name for thread in threading.enumerate()]
            time.sleep(0.01)
        return len(os.listdir("/proc/self/fd"))

    def cycle():
        with KafkaProducer(bootstrap_servers=bootstrap) as producer:
            producer.send(topic, b"value", callback=lambda *_: None)

    cycle()  # what is imported and opened once
    before = descriptors_once_alone()
    for _ in range(int(count)):
        cycle()
    assert descriptors_once_alone() == before
    print(count)
"""


def test_two_hundred_producers_leave_no_thread_and_no_descriptor(cluster: RunningCluster, topic: str) -> None:
    status, out, err = run_script(CYCLES, cluster.bootstrap_servers, topic, "200")
    assert (status, out.strip()) == (0, "200"), err
    assert sum(cluster.end_offsets(topic).values()) == 201
