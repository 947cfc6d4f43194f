"""Oracles beside the one of the logs: what must hold at every step, not only at the end.

| oracle | the guarantee |
|---|---|
| `Memory` | batches are charged for what they hold, and all of them together for no more than buffer.memory |
| `Wire` | a batch that was on the wire once is the same in every later request: no record more, none less |
| `Deadlines` | no record fails of its deadline before its own delivery.timeout.ms |
"""

from __future__ import annotations

from typing import Final, Protocol

from penstock._native import SteppedEngine
from penstock.errors import KafkaError, KafkaTimeoutError
from penstock.protocol.messages.produce import ProduceRequest
from penstock.protocol.records import decode_batch, split_batches
from simulation.world import MS, World

EXPIRED: Final = "not delivered: after "
"""How the message of a record begins that ran out of delivery.timeout.ms."""

_HEADER: Final = 61
"""Bytes of a batch before its records."""


class Memory:
    """buffer.memory: what is charged, and what is held."""

    def __init__(self, engine: SteppedEngine, total: int, *, splits: bool) -> None:
        """`splits`: batches may be split. Each child has a header of its own, which the whole batch was not charged for."""
        self._engine = engine
        self._total = total
        self._splits = splits

    def check(self) -> None:
        """Raises `AssertionError`."""
        taken = self._total - self._engine.available_memory
        charged, held, uncharged = self._engine.holdings
        assert 0 <= taken <= self._total, f"{taken} of {self._total} bytes of buffer.memory are taken"
        assert charged <= taken, (
            f"batches are charged {charged} bytes, of which only {taken} are taken from buffer.memory"
        )
        if not self._splits:
            assert not uncharged, f"a batch holds {uncharged} bytes more than it is charged ({held} in all)"


class Wire:
    """The batches of all requests that a broker has read."""

    def __init__(self, *, splits: bool) -> None:
        """`splits`: a broker may refuse a batch as too large. Then the same records come again in smaller batches."""
        self._splits = splits
        self._seen: dict[tuple[str | object, int, int], bytes] = {}
        self.broken: list[str] = []

    def read(self, request: ProduceRequest) -> None:
        """Compare the batches of a request with those that began with the same record."""
        for topic in request.topic_data:
            for part in topic.partition_data:
                for _, batch in split_batches(part.records or b""):
                    self._compare(topic.name or topic.topic_id, part.index, bytes(batch))

    def _compare(self, topic: str | object, partition: int, batch: bytes) -> None:
        numbers = _numbers(batch)
        for number in numbers:
            # By record, so that one that has changed from batch to batch is found, too.
            before = self._seen.get((topic, partition, number))
            if (
                before is not None
                and before != batch[_HEADER:]
                and not (self._splits and len(before) > len(batch) - _HEADER)
            ):
                self.broken.append(
                    f"a batch changed between attempts: record {number} of {topic}-{partition} was in one with"
                    f" {len(before)} bytes of records, and is in one with {len(batch) - _HEADER}"
                )
                return
        self._seen.update(dict.fromkeys(((topic, partition, number) for number in numbers), batch[_HEADER:]))


def _numbers(batch: bytes) -> list[int]:
    return [int((record.value or b"0").split(b" ", 1)[0]) for record in decode_batch(batch)[1]]


class Timed(Protocol):
    """A record, as the client keeps it."""

    number: int
    sent_us: int

    def resolved(self) -> tuple[KafkaError | None] | None:
        """None while it is unresolved, else its error in a tuple."""


class Deadlines:
    """When records fail of their deadline."""

    def __init__(self, world: World, delivery_timeout_ms: int) -> None:
        """None was sent yet."""
        self._world = world
        self._timeout_us = delivery_timeout_ms * MS
        self._waiting: list[Timed] = []
        self._sent = 0
        self._resolved = 0
        self.broken: list[str] = []

    def sent(self, record: Timed) -> None:
        """A record was buffered."""
        self._sent += 1
        self._waiting.append(record)

    def check(self, unresolved: int) -> None:
        """Look for records that failed since the last call. `unresolved`: the engine's count."""
        resolved = self._sent - unresolved
        if resolved == self._resolved:
            return
        self._resolved = resolved
        waiting = []
        for record in self._waiting:
            result = record.resolved()
            if result is None:
                waiting.append(record)
            elif is_expiry(result[0]):
                self._judge(record)
        self._waiting = waiting

    def _judge(self, record: Timed) -> None:
        early_us = record.sent_us + self._timeout_us - self._world.now_us
        if early_us > 0:
            self.broken.append(f"record {record.number} failed of its deadline {early_us / MS:.3f} ms too early")


def is_expiry(error: KafkaError | None) -> bool:
    """Whether a record failed because its delivery.timeout.ms was over."""
    return isinstance(error, KafkaTimeoutError) and str(error).startswith(EXPIRED)
