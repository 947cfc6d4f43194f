"""The simulation's oracles notice what they are for."""

from __future__ import annotations

import pytest

from penstock.errors import KafkaError, KafkaTimeoutError
from penstock.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from penstock.protocol.records import Record, encode_batch
from simulation.oracles import EXPIRED, Deadlines, Memory, Wire
from simulation.world import MS, World


def request(*numbers: int, partition: int = 0, base_sequence: int = 0, filling: bytes = b"v") -> ProduceRequest:
    records = [Record(offset=0, timestamp=1, key=None, value=b"%d " % number + filling) for number in numbers]
    batch = encode_batch(records, producer_id=1, producer_epoch=0, base_sequence=base_sequence)
    part = PartitionProduceData(index=partition, records=batch)
    return ProduceRequest(topic_data=(TopicProduceData(name="t", partition_data=(part,)),))


class TestWire:
    def test_a_batch_may_come_again_with_other_numbers_and_epoch(self) -> None:
        wire = Wire(splits=False)
        for one in (request(1, 2), request(3), request(1, 2, base_sequence=7), request(1, 2, 3, 4, partition=1)):
            wire.read(one)
        assert not wire.broken

    @pytest.mark.parametrize(
        "changed",
        [request(1, 2, 3), request(1), request(0, 1, 2), request(2, 3), request(1, 2, filling=b"w")],
        ids=["grown", "cut", "before it", "moved", "other bytes"],
    )
    def test_any_other_content_is_noticed(self, changed: ProduceRequest) -> None:
        wire = Wire(splits=False)
        wire.read(request(1, 2))
        wire.read(changed)
        (broken,) = wire.broken
        assert broken.startswith("a batch changed between attempts: record ")

    def test_where_batches_are_split_they_may_become_smaller_but_not_larger(self) -> None:
        wire = Wire(splits=True)
        for one in (request(1, 2), request(1), request(2)):
            wire.read(one)
        assert not wire.broken
        wire.read(request(2, 3))
        assert wire.broken


class Engine:
    """What `Memory` looks at."""

    def __init__(self, available: int, charged: int, held: int, uncharged: int) -> None:
        self.available_memory = available
        self.holdings = (charged, held, uncharged)


@pytest.mark.parametrize(
    ("engine", "splits", "broken"),
    [
        (Engine(400, 600, 500, 0), False, ""),
        (Engine(400, 500, 500, 0), False, ""),  # the rest waits for callbacks, or is a worker's
        (Engine(400, 601, 500, 0), False, "are charged 601 bytes"),
        (Engine(1_001, 0, 0, 0), False, "-1 of 1000 bytes"),
        (Engine(400, 600, 700, 5), False, "holds 5 bytes more"),
        (Engine(400, 600, 700, 5), True, ""),
    ],
)
def test_memory(engine: Engine, splits: bool, broken: str) -> None:
    memory = Memory(engine, 1_000, splits=splits)  # type: ignore[arg-type]
    if not broken:
        memory.check()
        return
    with pytest.raises(AssertionError, match=broken):
        memory.check()


class OneRecord:
    """A record that was sent at the beginning."""

    number, sent_us = 7, 0

    def __init__(self) -> None:
        self.error: KafkaError | None = None

    def resolved(self) -> tuple[KafkaError | None] | None:
        return (self.error,) if self.error else None


@pytest.mark.parametrize(
    ("error", "at_us", "early"),
    [
        (KafkaTimeoutError(f"{EXPIRED}99 ms the record was …"), 99 * MS, True),
        (KafkaTimeoutError(f"{EXPIRED}100 ms the record was …"), 100 * MS, False),
        (KafkaError("not delivered: the broker refused it"), 10 * MS, False),
    ],
)
def test_deadlines(error: KafkaError, at_us: int, early: bool) -> None:
    world = World(1)
    deadlines = Deadlines(world, 100)
    record = OneRecord()
    deadlines.sent(record)
    deadlines.check(1)
    world.step(at_us)
    record.error = error
    deadlines.check(0)
    assert bool(deadlines.broken) is early
