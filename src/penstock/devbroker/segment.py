"""One segment of a partition's log: consecutive record batches, and a sparse index of them in memory."""

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from penstock._native import crc32c
from penstock.devbroker.storage import Storage
from penstock.protocol.primitives import Buffer, ProtocolError
from penstock.protocol.records import HEADER_BYTES, BatchHeader, read_header

INDEX_INTERVAL_BYTES: Final = 4096
"""The least number of bytes between two entries of the index, like Kafka's index.interval.bytes."""

_LENGTH: Final = struct.Struct(">i")
_LENGTH_AT: Final = 8
_LENGTH_END: Final = 12
_CRC_START: Final = 21
_CHECK_BYTES: Final = 1024 * 1024
_BEGINNING_OF_TIME: Final = -(1 << 63)


class TornTailError(Exception):
    """From `position` on, the segment's bytes are not batches that follow the ones before."""

    def __init__(self, position: int, reason: str) -> None:
        """`reason`: the fault at that position."""
        super().__init__(f"{reason} at byte {position}")
        self.position = position


class Segment:
    """Batches from `base_offset` on. `end_offset` is the offset after the last record."""

    def __init__(self, base_offset: int, storage: Storage) -> None:
        """`recover` reads what `storage` already holds."""
        self.base_offset = base_offset
        self.end_offset = base_offset
        self.storage = storage
        self.max_timestamp = -1
        # Parallel lists, an entry per indexed batch; `_times` has the newest timestamp before it.
        self._offsets = array("q")
        self._positions = array("q")
        self._times = array("q")

    @property
    def size(self) -> int:
        """In bytes."""
        return self.storage.size

    def append(self, header: BatchHeader, base_offset: int, parts: Sequence[Buffer]) -> None:
        """Append a batch with the base offset `base_offset` and the bytes of `parts`."""
        position = self.storage.size
        self.storage.append(parts)
        self._note(header, base_offset, position)

    def _note(self, header: BatchHeader, base_offset: int, position: int) -> None:
        if not self._positions or position - self._positions[-1] >= INDEX_INTERVAL_BYTES:
            self._times.append(self.max_timestamp if self._positions else _BEGINNING_OF_TIME)
            self._offsets.append(base_offset)
            self._positions.append(position)
        self.end_offset = base_offset + header.last_offset_delta + 1
        self.max_timestamp = max(self.max_timestamp, header.max_timestamp)

    def recover(self) -> Iterator[BatchHeader]:
        """Check and index all bytes; yields each good batch's header, raises `TornTailError` at a bad one."""
        position = 0
        while position < self.size:
            header = self._checked(position)
            self._note(header, header.base_offset, position)
            yield header
            position += header.size

    def _checked(self, position: int) -> BatchHeader:
        left = self.size - position
        try:
            header = read_header(self.storage.read(position, HEADER_BYTES))
        except ProtocolError as error:
            raise TornTailError(position, str(error)) from None
        if header.size > left:
            raise TornTailError(position, f"a batch of {header.size} bytes is cut off after {left}")
        if header.base_offset < self.end_offset:
            raise TornTailError(position, f"offset {header.base_offset} follows offset {self.end_offset - 1}")
        # In pieces: an invalid length is detected only by the checksum.
        crc = 0
        for start in range(position + _CRC_START, position + header.size, _CHECK_BYTES):
            crc = crc32c(self.storage.read(start, min(_CHECK_BYTES, position + header.size - start)), crc)
        if crc != header.crc:
            raise TornTailError(position, f"the checksum of the batch at offset {header.base_offset} is wrong")
        return header

    def headers(self, position: int = 0) -> Iterator[tuple[int, BatchHeader]]:
        """Position and header of each batch from the one at `position` on."""
        while position < self.size:
            header = read_header(self.storage.read(position, HEADER_BYTES))
            yield position, header
            position += header.size

    def batch(self, position: int, header: BatchHeader) -> bytes:
        """All the bytes of the batch at `position`."""
        return self.storage.read(position, header.size)

    def read(self, offset: int, max_bytes: int, *, at_least_one: bool) -> bytes:
        """Whole batches, the first of which contains `offset` or is the next one after it.

        At most `max_bytes`; but with `at_least_one` the first batch, however large it is.
        """
        for position, header in self.headers(self._position_before(offset)):
            if header.last_offset >= offset:
                if header.size > max_bytes:
                    return self.batch(position, header) if at_least_one else b""
                data = self.storage.read(position, max_bytes)
                return data if position + len(data) == self.size else data[: _whole_batches(data)]
        return b""

    def first_not_before(self, timestamp: int) -> tuple[int, BatchHeader] | None:
        """Position and header of the first batch whose newest record is at `timestamp` (in ms) or later."""
        if timestamp > self.max_timestamp:
            return None
        # Every batch before the last entry with an older time is too old.
        entry = max(bisect_left(self._times, timestamp) - 1, 0)
        start = self._positions[entry] if self._positions else 0
        return next((found for found in self.headers(start) if found[1].max_timestamp >= timestamp), None)

    def _position_before(self, offset: int) -> int:
        entry = bisect_right(self._offsets, offset) - 1
        return self._positions[entry] if entry >= 0 else 0


def _whole_batches(data: bytes) -> int:
    """How many bytes of `data` are whole batches."""
    end = 0
    while end + _LENGTH_END <= len(data):
        size = _LENGTH_END + int(_LENGTH.unpack_from(data, end + _LENGTH_AT)[0])
        if end + size > len(data):
            break
        end += size
    return end
