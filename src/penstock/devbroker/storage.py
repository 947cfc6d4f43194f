"""Storage for a segment's bytes: a file or memory.

Files are opened on demand, and a bounded number stays open: tests often have a thousand partitions, and systems a
limit of 1,024 descriptors.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from penstock.protocol.primitives import Buffer

MAX_OPEN_FILES: Final = 256


class Storage(Protocol):
    """Bytes with append at the end and truncation. `size` is their number."""

    size: int

    def append(self, parts: Sequence[Buffer]) -> None:
        """Add all of `parts`, or nothing and raise `OSError`."""

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on; fewer only where the bytes end."""
        ...

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes."""

    def sync(self) -> None:
        """Return when everything appended is on disk and survives a loss of power."""

    def close(self) -> None:
        """Close the descriptor; the storage stays usable."""

    def delete(self) -> None:
        """Remove the bytes."""


class MemoryStorage:
    """Bytes in memory."""

    def __init__(self) -> None:
        """Start empty."""
        self._buffer = bytearray()
        self.size = 0

    def append(self, parts: Sequence[Buffer]) -> None:
        """Add all of `parts`."""
        for part in parts:
            self._buffer += part
        self.size = len(self._buffer)

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on."""
        # The view is released at once: a bytearray cannot grow while it has one.
        with memoryview(self._buffer) as view:
            return bytes(view[position : position + size])

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes."""
        del self._buffer[size:]
        self.size = len(self._buffer)

    def sync(self) -> None:
        """Does nothing in memory."""

    def close(self) -> None:
        """Nothing to close."""

    def delete(self) -> None:
        """Drop the bytes."""
        self.truncate(0)


class OpenFiles:
    """The descriptors of recently used files, at most `limit` of them."""

    def __init__(self, limit: int = MAX_OPEN_FILES) -> None:
        """`limit`: how many descriptors stay open."""
        self._limit = limit
        self._descriptors: OrderedDict[Path, int] = OrderedDict()

    def descriptor(self, path: Path) -> int:
        """An open descriptor of `path`, for reading and appending; a missing file is created.

        Valid until the next call, which may close it.
        """
        descriptor = self._descriptors.get(path)
        if descriptor is not None:
            self._descriptors.move_to_end(path)
            return descriptor
        while len(self._descriptors) >= self._limit:
            os.close(self._descriptors.popitem(last=False)[1])
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._descriptors[path] = descriptor
        return descriptor

    def close(self, path: Path) -> None:
        """Close the descriptor of `path` if it is open."""
        descriptor = self._descriptors.pop(path, None)
        if descriptor is not None:
            os.close(descriptor)


class FileStorage:
    """Bytes in a file.

    Its calls block, and the broker makes them in the event loop's thread. An append goes to the page cache, which takes
    about as long as a handover to another thread and back. Nothing is awaited between the choice of an offset and its
    write: a partition stays in order without a lock or a queue. Only fsync can be slow; the option `always` accepts that.
    """

    def __init__(self, path: Path, files: OpenFiles) -> None:
        """The folder must exist; the file may be missing."""
        self.path = path
        self._files = files
        self.size = path.stat().st_size if path.exists() else 0

    def append(self, parts: Sequence[Buffer]) -> None:
        """Add all of `parts`, or nothing and raise `OSError`."""
        total = sum(len(part) for part in parts)
        descriptor = self._files.descriptor(self.path)
        try:
            written = os.writev(descriptor, parts)
            if written < total:
                # Rare (a signal, a nearly full disk): the copy does not matter.
                rest = memoryview(b"".join(parts))[written:]
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
        except OSError:
            os.ftruncate(descriptor, self.size)
            raise
        self.size += total

    def read(self, position: int, size: int) -> bytes:
        """At most `size` bytes from `position` on."""
        if position >= self.size or size <= 0:
            return b""
        return os.pread(self._files.descriptor(self.path), min(size, self.size - position), position)

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes, durably."""
        descriptor = self._files.descriptor(self.path)
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
        self.size = size

    def sync(self) -> None:
        """Flush to disk."""
        if self.size:
            os.fsync(self._files.descriptor(self.path))

    def close(self) -> None:
        """Close the descriptor."""
        self._files.close(self.path)

    def delete(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.size = 0


class SegmentStore(Protocol):
    """The segments of one partition: existing and new ones."""

    def existing(self) -> list[tuple[int, Storage]]:
        """Base offset and storage of each segment, the oldest first."""
        ...

    def create(self, base_offset: int) -> Storage:
        """An empty segment that starts at `base_offset`."""
        ...

    def sync(self) -> None:
        """Return when the segments' file names survive a loss of power."""


class MemorySegments:
    """Segments in memory."""

    def existing(self) -> list[tuple[int, Storage]]:
        """Always empty."""
        return []

    def create(self, base_offset: int) -> Storage:
        """An empty segment."""
        return MemoryStorage()

    def sync(self) -> None:
        """Does nothing in memory."""


class SegmentFolder:
    """Segments in a folder, named by their base offset in 20 digits; the first segment creates the folder."""

    def __init__(self, folder: Path, files: OpenFiles) -> None:
        """`files`: the descriptors shared by all partitions."""
        self.folder = folder
        self._files = files

    def existing(self) -> list[tuple[int, Storage]]:
        """The segments by ascending base offset."""
        if not self.folder.is_dir():
            return []
        paths = sorted(path for path in self.folder.glob("*.log") if path.stem.isdecimal() and len(path.stem) == 20)
        return [(int(path.stem), FileStorage(path, self._files)) for path in paths]

    def create(self, base_offset: int) -> Storage:
        """A new file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileStorage(self.folder / f"{base_offset:020d}.log", self._files)

    def sync(self) -> None:
        """Flush the entries of the folder and of its parent to disk."""
        sync_folder(self.folder)
        sync_folder(self.folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush the entries of `folder` to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
