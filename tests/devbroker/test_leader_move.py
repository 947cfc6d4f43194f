"""A thousand leaders move at once while records for all of them are in flight: one hand-over, not a thousand.

`pytest -s tests/devbroker/test_leader_move.py` prints the figures. The pause of a lane is the time from the move to the
acknowledgment of the record that was in flight; it includes the broker's own delay, and its thread shares our GIL.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from penstock import KafkaProducer, ProducerRecord
from penstock.devbroker import DevCluster, RunningCluster
from support.judges import read_with_confluent
from support.sent import Sent, check

PARTITIONS = 1_000
DELAY_MS = 100
ROUNDS = 5  # records for each partition: in flight when its leader moves, waiting behind that, sent afterwards
TIMEOUT_S = 60

RecordProperty = Callable[[str, object], None]


@pytest.fixture
def three() -> Iterator[RunningCluster]:
    with DevCluster.running(nodes=3) as cluster:
        cluster.create_topic("big", partitions=PARTITIONS)
        yield cluster


def moves(cluster: RunningCluster, node: int) -> dict[tuple[str, int], int]:
    """Moves all partitions of `node` to the other two nodes."""
    led = [number for number, (leader, _) in cluster.leaders("big").items() if leader == node]
    others = [other for other in (1, 2, 3) if other != node]
    return {("big", number): others[place % 2] for place, number in enumerate(led)}


@pytest.mark.parametrize("everybody", [False, True], ids=["one node's", "all"])
def test_a_thousand_partitions_follow_their_leaders(
    everybody: bool, three: RunningCluster, record_property: RecordProperty
) -> None:
    """The control thread handles a few exchanges, however many partitions move.

    The bound is 50: for each of the three nodes a hand-over (a second one if a lane's batches were answered in different
    passes of the I/O thread), a metadata request and its answer, the opening and handshake of a new connection, and
    timers. One hand-over per partition would be hundreds.
    """
    with KafkaProducer(
        bootstrap_servers=three.bootstrap_servers, linger_ms=0, delivery_timeout_ms=60_000, request_timeout_ms=30_000
    ) as producer:
        assert producer._life is not None
        runtime = producer._life.runtime
        sent: list[Sent] = []
        # Connections, identity and each leader's first answer.
        settle(producer, sent, b"before")
        quiet_ms = settle(producer, sent, b"and again")
        moving = (
            {("big", number): leader % 3 + 1 for number, (leader, _) in three.leaders("big").items()}
            if everybody
            else moves(three, 1)
        )
        done_ms: dict[int, float] = {}

        def note(number: int) -> Callable[..., None]:
            return lambda *_: done_ms.setdefault(number, time.perf_counter() * 1000)

        wakeups = runtime.wakeups
        # Requests must be in flight when the leaders move: each node delays its next ones.
        for node in (1, 2, 3):
            three.faults.add(api="Produce", node=node, delay_ms=DELAY_MS)
        three.requests.clear()
        pending = []

        def send_round(turn: int) -> None:
            for number in range(PARTITIONS):
                record = ProducerRecord("big", b"%d %d" % (turn, number), key=b"%d" % number, partition=number)
                callback = note(number) if turn == 0 else None
                pending.append((record, producer.send(record, callback=callback)))

        send_round(0)
        for node in (1, 2, 3):
            three.requests.wait_for("Produce", node=node)
        send_round(1)
        three.move_leaders(moving)
        moved_ms = time.perf_counter() * 1000
        sent += [(record, future.result(TIMEOUT_S)) for record, future in pending]
        pending.clear()
        for turn in range(2, ROUNDS):
            send_round(turn)
        sent += [(record, future.result(TIMEOUT_S)) for record, future in pending]
        producer.flush(TIMEOUT_S)
        used = runtime.wakeups - wakeups
        pauses = sorted(done_ms[number] - moved_ms for _, number in moving)
        metadata = three.requests.count("Metadata")
        requests = three.requests.count("Produce")
    figures = {
        "partitions moved": len(moving),
        "a record for each without a move ms": round(quiet_ms, 1),
        "delay of the broker ms": DELAY_MS,
        "pause p50 ms": round(pauses[len(pauses) // 2], 1),
        "pause max ms": round(pauses[-1], 1),
        "exchanges": used,
        "Metadata requests": metadata,
        "Produce requests": requests,
    }
    for name, value in figures.items():
        record_property(name, value)
    print("\n" + ", ".join(f"{name}: {value}" for name, value in figures.items()))
    assert len(moving) >= PARTITIONS // 3
    assert used <= 50
    check(sent, read_with_confluent(three.bootstrap_servers, "big", len(sent)), resent=True)


def settle(producer: KafkaProducer[bytes, bytes], sent: list[Sent], value: bytes) -> float:
    """Sends a record for each partition; returns how long that takes when no leader moves, in ms."""
    began = time.perf_counter()
    records = [ProducerRecord("big", value, partition=number) for number in range(PARTITIONS)]
    futures = [producer.send(record) for record in records]
    sent += [(record, future.result(TIMEOUT_S)) for record, future in zip(records, futures, strict=True)]
    return (time.perf_counter() - began) * 1000
