"""A partition's log: segments of record batches, appended at the end and read from any offset.

The disk holds only the batches, as on the wire: the index, the producers and the leader epochs are rebuilt from them
when the log is opened. All bytes are checked then; a torn tail is cut off, with a warning.
"""

import logging
import struct
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from penstock.devbroker.producers import ProducerStates
from penstock.devbroker.segment import Segment, TornTailError
from penstock.devbroker.storage import SegmentStore
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.records import BatchHeader, decode_batch, with_log_append_time

logger = logging.getLogger(__name__)

# Base offset, length, leader epoch: the broker sets them, and the checksum does not cover them.
_PREFIX: Final = struct.Struct(">qii")
_LENGTH_END: Final = 12
# Decoded records take some 30 times the bytes of the smallest records; and a batch can be a decompression bomb.
_MAX_DECODED_BYTES: Final = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Settings of a log. Sizes are bytes; a negative `retention_bytes` is no limit."""

    segment_bytes: int = 1 << 30
    retention_bytes: int = -1
    sync_always: bool = False
    log_append_time: bool = False


@dataclass(frozen=True, slots=True)
class Appended:
    """The place of a batch. `append_time` in ms since the epoch, -1 if the producer set the times."""

    base_offset: int
    append_time: int
    duplicate: bool = False


@dataclass(frozen=True, slots=True)
class TimedOffset:
    """A record found by its time (ms since the epoch), or nothing: then all are -1."""

    offset: int = -1
    timestamp: int = -1
    leader_epoch: int = -1


class LeaderEpochs:
    """The start offset of each leader epoch."""

    def __init__(self) -> None:
        """Start without any."""
        self._epochs: list[int] = []
        self._starts: list[int] = []

    def note(self, epoch: int, offset: int) -> None:
        """The leader of `epoch` starts at `offset`; epochs without records are removed, as in Kafka."""
        if self._epochs and epoch <= self._epochs[-1]:
            return
        while self._starts and self._starts[-1] >= offset:
            self._starts.pop()
            self._epochs.pop()
        self._epochs.append(epoch)
        self._starts.append(offset)

    def at(self, offset: int) -> int:
        """The epoch under which `offset` was written, -1 if unknown."""
        entry = bisect_right(self._starts, offset) - 1
        return self._epochs[entry] if entry >= 0 else -1

    def end_of(self, epoch: int, end_offset: int) -> tuple[int, int]:
        """The largest epoch with records that is not above `epoch`, and the offset after its last record.

        `end_offset` is the log's. An epoch before all others ends where the first of them starts; for one after all
        others the answer is (-1, -1).
        """
        entry = bisect_right(self._epochs, epoch) - 1
        if entry == len(self._epochs) - 1:
            return (epoch, end_offset) if self._epochs and self._epochs[entry] == epoch else (-1, -1)
        return self._epochs[entry] if entry >= 0 else epoch, self._starts[entry + 1]


class PartitionLog:
    """The log of one partition; `name` is for messages."""

    def __init__(self, name: str, store: SegmentStore, settings: LogSettings) -> None:
        """Recovers the segments of `store`."""
        self.name = name
        self.settings = settings
        self.producers = ProducerStates()
        self.epochs = LeaderEpochs()
        self.last_append_time = -1
        self._store = store
        self._segments: list[Segment] = []
        self._unsynced: set[Segment] = set()
        self._recover()

    @property
    def start_offset(self) -> int:
        """The first offset that the log still has."""
        return self._segments[0].base_offset if self._segments else 0

    @property
    def end_offset(self) -> int:
        """The offset of the next record; also the high watermark, since there is no replication."""
        return self._segments[-1].end_offset if self._segments else 0

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def segment_count(self) -> int:
        """How many segments there are."""
        return len(self._segments)

    # Appending.

    def append(self, header: BatchHeader, batch: memoryview, leader_epoch: int, now: int) -> Appended:
        """Append a valid batch; `now` in ms since the epoch.

        Raises `RequestError` if its sequence does not fit, `OSError` if the write fails; the log is then unchanged.
        """
        if header.producer_id >= 0:
            duplicate = self.producers.find_duplicate(header)
            if duplicate is not None:
                return Appended(duplicate.base_offset, duplicate.append_time, duplicate=True)
            self.producers.check(header)
        append_time = -1
        if self.settings.log_append_time:
            append_time = now
            batch = memoryview(with_log_append_time(batch, now))
            header = _at_time(header, now)
        base_offset = self.end_offset
        segment = self._segment_for(header.size)
        prefix = _PREFIX.pack(base_offset, header.size - _LENGTH_END, leader_epoch)
        segment.append(header, base_offset, (prefix, batch[_PREFIX.size :]))
        self._unsynced.add(segment)
        if self.settings.sync_always:
            self.sync()
        self._remember(header, base_offset, leader_epoch)
        return Appended(base_offset, append_time)

    def _remember(self, header: BatchHeader, base_offset: int, leader_epoch: int) -> None:
        self.epochs.note(leader_epoch, base_offset)
        if header.producer_id >= 0:
            append_time = header.max_timestamp if header.is_log_append_time else -1
            self.producers.update(header, base_offset, append_time)

    def _segment_for(self, size: int) -> Segment:
        last = self._segments[-1] if self._segments else None
        if last is not None and (last.size == 0 or last.size + size <= self.settings.segment_bytes):
            return last
        segment = Segment(self.end_offset, self._store.create(self.end_offset))
        self._segments.append(segment)
        if self.settings.sync_always:
            self._store.sync()
        self._retain()
        return segment

    def _retain(self) -> None:
        """Drop the oldest segments beyond the limit, except the active one."""
        limit = self.settings.retention_bytes
        excess = self.size - limit
        while limit >= 0 and len(self._segments) > 1 and excess >= self._segments[0].size:
            segment = self._segments.pop(0)
            excess -= segment.size
            self._unsynced.discard(segment)
            logger.info("%s: offsets up to %d are beyond retention.bytes", self.name, segment.end_offset - 1)
            segment.storage.delete()

    def sync(self) -> None:
        """Return when everything appended is on disk and survives a loss of power."""
        for segment in self._unsynced:
            segment.storage.sync()
        self._unsynced.clear()

    # Reading.

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool = True) -> bytes:
        """Whole batches from the one that contains `offset` on, out of one segment.

        At most `max_bytes`; with `at_least_one` the first batch, however large it is. Empty at the end of the log.
        """
        index = bisect_right(self._segments, offset, key=lambda segment: segment.base_offset) - 1
        for segment in self._segments[max(index, 0) :]:
            if offset < segment.end_offset:
                return segment.read(offset, max_bytes, at_least_one=at_least_one)
        return b""

    def first_not_before(self, timestamp: int) -> TimedOffset:
        """The first record with the time `timestamp` or later."""
        for segment in self._segments:
            found = segment.first_not_before(timestamp)
            if found is not None:
                return _exact(segment, *found, timestamp)
        return TimedOffset()

    def newest(self) -> TimedOffset:
        """The first record with the latest time."""
        newest = max((segment.max_timestamp for segment in self._segments), default=-1)
        return self.first_not_before(newest) if newest >= 0 else TimedOffset()

    # Opening and closing.

    def _recover(self) -> None:
        existing = self._store.existing()
        for number, (base_offset, storage) in enumerate(existing):
            segment = Segment(base_offset, storage)
            try:
                if self._segments and base_offset < self.end_offset:
                    raise TornTailError(0, f"the segment starts before offset {self.end_offset}, where the last ends")
                for header in segment.recover():
                    self._remember(header, header.base_offset, header.leader_epoch)
            except TornTailError as torn:
                self._cut(segment, torn, len(existing) - number - 1)
                for _, later in existing[number + 1 :]:
                    later.delete()
                if segment.size or not self._segments:
                    self._segments.append(segment)
                else:
                    storage.delete()
                break
            self._segments.append(segment)
            storage.close()

    def _cut(self, segment: Segment, torn: TornTailError, later: int) -> None:
        logger.warning(
            "%s: segment %020d: %s; the last %d bytes are cut off%s, the log ends at offset %d",
            self.name,
            segment.base_offset,
            torn,
            segment.size - torn.position,
            f" and {later} later segments removed" if later else "",
            max(segment.end_offset, self.end_offset),
        )
        segment.storage.truncate(torn.position)

    def close(self) -> None:
        """Flush the log to disk and close its files."""
        self.sync()
        for segment in self._segments:
            segment.storage.close()

    def delete(self) -> None:
        """Remove all segments."""
        for segment in self._segments:
            segment.storage.delete()
        self._segments.clear()
        self._unsynced.clear()


def _at_time(header: BatchHeader, timestamp: int) -> BatchHeader:
    values = {name: getattr(header, name) for name in BatchHeader.__slots__}
    return BatchHeader(**{**values, "max_timestamp": timestamp, "attributes": header.attributes | 0x08})


def _exact(segment: Segment, position: int, header: BatchHeader, timestamp: int) -> TimedOffset:
    """The record, or its batch if that cannot be decoded (too large, invalid)."""
    try:
        records = decode_batch(segment.batch(position, header), max_records_bytes=_MAX_DECODED_BYTES)[1]
    except ProtocolError:
        records = []
    for record in records:
        if record.timestamp >= timestamp:
            return TimedOffset(record.offset, record.timestamp, header.leader_epoch)
    return TimedOffset(header.base_offset, header.max_timestamp, header.leader_epoch)
