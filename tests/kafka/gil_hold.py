"""Run by `test_steady_state.py`: buffer records, let another library hold the GIL for two seconds, print what happened.

    gil_hold.py BOOTSTRAP TOPIC PARTITIONS RECORDS

Prints JSON: the hold's begin and end (ms since the epoch), how long no Python thread ran in between (s), and how many
futures were done before the hold and at its end.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import sys
import threading
import time

from penstock import KafkaProducer

HOLD_S = 2
# The linger of the batches: they are sent well after the hold has begun, and well before it ends.
LINGER_MS = 700


def main() -> None:
    bootstrap, topic, partitions, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    beats: list[float] = []
    stop, beaten = threading.Event(), threading.Event()

    def beat() -> None:
        while not stop.wait(0.01):
            beats.append(time.monotonic())
            beaten.set()

    hold = ctypes.PyDLL(None).sleep  # PyDLL, unlike CDLL, keeps the GIL during the call
    with KafkaProducer(bootstrap_servers=bootstrap, linger_ms=LINGER_MS, max_request_size=20_000) as producer:
        # Connections, identity and the leaders' first answers need the control plane: they are done before.
        for partition in range(partitions):
            producer.send(topic, b"first", partition=partition)
        producer.flush()
        heart = threading.Thread(target=beat)
        heart.start()
        beaten.wait()
        futures = [producer.send(topic, b"%d" % number, partition=number % partitions) for number in range(count)]
        before = sum(future.done() for future in futures)
        began = time.time_ns() // 1_000_000
        hold(HOLD_S)
        ended = time.time_ns() // 1_000_000
        after = sum(future.done() for future in futures)
        # The silence is measured between a beat before the hold and one after it.
        beaten.clear()
        beaten.wait()
        stop.set()
        heart.join()
    silence = max(later - earlier for earlier, later in itertools.pairwise(beats))
    print(json.dumps({"began": began, "ended": ended, "silence": silence, "before": before, "after": after}))


main()
