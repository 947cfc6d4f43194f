"""Producers are created and closed: no thread or descriptor leaks. `make soak` does it a thousand times."""

from __future__ import annotations

from facade_support import run_script

from penstock.devbroker import RunningCluster

CYCLES = """
    import gc, os, sys, threading, time
    from penstock import KafkaProducer
    from penstock.control.runtime import Runtime

    bootstrap, topic, count, keep = sys.argv[1:]
    gc.disable()  # a closed and dropped producer must be freed without the collector
    kept = []

    def descriptors_once_alone():
        # A joined thread leaves the process's list a moment later.
        deadline = time.monotonic() + 20
        while len(os.listdir("/proc/self/task")) > 1:
            assert time.monotonic() < deadline, [thread.name for thread in threading.enumerate()]
            time.sleep(0.01)
        return len(os.listdir("/proc/self/fd"))

    def cycle():
        with KafkaProducer(bootstrap_servers=bootstrap) as producer:
            producer.send(topic, b"value", callback=lambda *_: None)
        if keep == "keep":
            kept.append(producer)

    cycle()  # imports and one-time allocations
    before = descriptors_once_alone()
    for _ in range(int(count)):
        cycle()
    after = descriptors_once_alone()
    assert after == before, (before, after)
    print(sum(isinstance(thing, Runtime) for thing in gc.get_objects()))
"""


def test_two_hundred_producers_leak_nothing(cluster: RunningCluster, topic: str) -> None:
    status, out, err = run_script(CYCLES, cluster.bootstrap_servers, topic, "200", "drop")
    assert (status, out.strip()) == (0, "0"), err
    assert sum(cluster.end_offsets(topic).values()) == 201


def test_a_closed_producer_that_is_kept_has_no_descriptor(cluster: RunningCluster, topic: str) -> None:
    status, out, err = run_script(CYCLES, cluster.bootstrap_servers, topic, "5", "keep")
    assert (status, out.strip()) == (0, "6"), err
