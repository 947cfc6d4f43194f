"""A partition's state of idempotent producers, and the checks of their batches.

As Kafka's ProducerStateManager and ProducerAppendInfo (KIP-98, KIP-360):

- a batch whose sequences equal those of one of the producer's last five is a duplicate;
- an epoch older than the current one is refused with INVALID_PRODUCER_EPOCH;
- under a newer epoch the first sequence must be 0;
- under the current epoch the sequence must follow the last one (0 follows 2³¹ - 1);
- an unknown producer may start at any sequence.

Simplification: a producer expires when `MAX_PRODUCERS` others were active after it, not after a time.
"""

from collections import deque
from typing import Final, NamedTuple

from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.protocol.records import BatchHeader

REMEMBERED_BATCHES: Final = 5
MAX_PRODUCERS: Final = 10_000
_SEQUENCES: Final = 1 << 31


class RememberedBatch(NamedTuple):
    """The place of one of a producer's last batches. `append_time` in ms, -1 if the producer set the times."""

    first_sequence: int
    last_sequence: int
    base_offset: int
    append_time: int


class _Producer:
    __slots__ = ("batches", "epoch")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.batches: deque[RememberedBatch] = deque(maxlen=REMEMBERED_BATCHES)


def last_sequence(header: BatchHeader) -> int:
    """The sequence of the batch's last record; 0 follows 2³¹ - 1."""
    return (header.base_sequence + header.last_offset_delta) % _SEQUENCES


class ProducerStates:
    """The producers of one partition."""

    def __init__(self) -> None:
        """Starts empty."""
        self._producers: dict[int, _Producer] = {}

    def __len__(self) -> int:
        """How many producers are known."""
        return len(self._producers)

    def find_duplicate(self, header: BatchHeader) -> RememberedBatch | None:
        """The appended batch that `header` repeats, if it is one of the producer's last five."""
        producer = self._producers.get(header.producer_id)
        if producer is None or producer.epoch != header.producer_epoch:
            return None
        sequences = (header.base_sequence, last_sequence(header))
        return next((batch for batch in producer.batches if batch[:2] == sequences), None)

    def check(self, header: BatchHeader) -> None:
        """Raise `RequestError` if the batch, which is not a duplicate, may not be appended now."""
        producer = self._producers.get(header.producer_id)
        if producer is None:
            return
        who = f"producer {header.producer_id}, epoch {header.producer_epoch}, sequence {header.base_sequence}"
        if header.producer_epoch < producer.epoch:
            raise RequestError(ErrorCode.INVALID_PRODUCER_EPOCH, f"{who}: the partition has epoch {producer.epoch}")
        if header.producer_epoch > producer.epoch:
            if header.base_sequence != 0:
                raise RequestError(
                    ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{who}: a new epoch (after {producer.epoch}) starts at 0"
                )
        elif producer.batches and header.base_sequence != (producer.batches[-1].last_sequence + 1) % _SEQUENCES:
            last = producer.batches[-1].last_sequence
            raise RequestError(ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER, f"{who}: the last sequence is {last}")

    def update(self, header: BatchHeader, base_offset: int, append_time: int) -> None:
        """Store a batch that was appended; also at recovery, which checks nothing."""
        producer = self._producers.pop(header.producer_id, None)
        if producer is None or producer.epoch != header.producer_epoch:
            producer = _Producer(header.producer_epoch)
        # Removed and inserted again: the dictionary's order is that of the last use.
        self._producers[header.producer_id] = producer
        producer.batches.append(RememberedBatch(header.base_sequence, last_sequence(header), base_offset, append_time))
        if len(self._producers) > MAX_PRODUCERS:
            del self._producers[next(iter(self._producers))]
