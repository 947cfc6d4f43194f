"""Producers come and go: no thread, no descriptor stays behind. `make soak` does it a thousand times."""

from __future__ import annotations

from facade_support import run_script

from penstock.devbroker import RunningCluster

CYCLES = """
    import os, sys, time
    from penstock import KafkaProducer

    bootstrap, topic, count = sys.argv[1:]

    def look():
        return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))

    def cycle():
        with KafkaProducer(bootstrap_servers=bootstrap) as producer:
            producer.send(topic, b"value", callback=lambda *_: None)

    cycle()  # what is imported and opened once
    before = look()
    for _ in range(int(count)):
        cycle()
    # A thread that has been joined is gone from the process's list a moment later.
    deadline = time.monotonic() + 20
    while look() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert look() == before, (look(), before)
    print(count)
"""


def test_two_hundred_producers_leave_no_thread_and_no_descriptor(cluster: RunningCluster, topic: str) -> None:
    status, out, err = run_script(CYCLES, cluster.bootstrap_servers, topic, "200")
    assert (status, out.strip()) == (0, "200"), err
    assert sum(cluster.end_offsets(topic).values()) == 201
