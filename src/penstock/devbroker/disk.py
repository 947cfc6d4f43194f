"""The data folder: its lock, and the small JSON files beside the logs.

DIR/.lock                                     held while a broker uses the folder
DIR/cluster.json                              cluster id, producer ids that were assigned
DIR/topics/TOPIC/topic.json                   topic id, settings, partitions with replicas, leaders and epochs
DIR/topics/TOPIC/PARTITION/BASE_OFFSET.log    a segment: record batches, nothing else
DIR/trash/                                    topics that are being deleted
"""

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from penstock.devbroker.storage import MemorySegments, OpenFiles, SegmentFolder, SegmentStore, sync_folder

Json: TypeAlias = dict[str, Any]
"""The content of a file; the reader of each file checks it."""

FORMAT: Final = 1


class DataFolderError(RuntimeError):
    """The folder is in use, or another program wrote its content."""


class MemoryFolder:
    """The data folder of a broker that keeps everything in memory."""

    def load_cluster(self) -> Json | None:
        """None: it is always new."""
        return None

    def save_cluster(self, values: Json) -> None:
        """Forgotten."""

    def load_topics(self) -> Iterator[tuple[str, Json]]:
        """None."""
        return iter(())

    def save_topic(self, name: str, values: Json) -> None:
        """Forgotten."""

    def delete_topic(self, name: str) -> None:
        """Nothing to delete."""

    def segments(self, topic: str, partition: int) -> SegmentStore:
        """Segments in memory."""
        return MemorySegments()

    def close(self) -> None:
        """Nothing to close."""


class DataFolder:
    """A folder that one broker process locks while it runs."""

    def __init__(self, folder: Path) -> None:
        """Creates and locks it; raises `DataFolderError` if another process has it."""
        self._folder = folder
        self._topics = folder / "topics"
        self._trash = folder / "trash"
        self._files = OpenFiles()
        self._topics.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise DataFolderError(f"{folder} is in use by another broker") from None
        shutil.rmtree(self._trash, ignore_errors=True)

    def load_cluster(self) -> Json | None:
        """The content that `save_cluster` wrote, None in a new folder."""
        path = self._folder / "cluster.json"
        return _load(path) if path.exists() else None

    def save_cluster(self, values: Json) -> None:
        """Replace the cluster's file."""
        _save(self._folder / "cluster.json", values)

    def load_topics(self) -> Iterator[tuple[str, Json]]:
        """Name and file of each topic, in the order of their names."""
        for folder in sorted(self._topics.iterdir()):
            path = folder / "topic.json"
            if path.exists():
                yield folder.name, _load(path)
            else:  # the process died while it created the topic, before it answered
                shutil.rmtree(folder)

    def save_topic(self, name: str, values: Json) -> None:
        """Replace the topic's file."""
        folder = self._topics / name
        if not folder.exists():
            folder.mkdir()
            sync_folder(self._topics)
        _save(folder / "topic.json", values)

    def delete_topic(self, name: str) -> None:
        """Remove the topic at once; its logs must be closed."""
        self._trash.mkdir(exist_ok=True)
        doomed = self._trash / uuid.uuid4().hex
        # A rename is atomic: the topic exists as a whole, or not at all.
        (self._topics / name).rename(doomed)
        sync_folder(self._topics)
        shutil.rmtree(doomed, ignore_errors=True)

    def segments(self, topic: str, partition: int) -> SegmentStore:
        """The segments of a partition."""
        return SegmentFolder(self._topics / topic / str(partition), self._files)

    def close(self) -> None:
        """Release the folder."""
        os.close(self._lock)


def _load(path: Path) -> Json:
    try:
        values = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DataFolderError(f"{path} is not the JSON that this broker writes: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataFolderError(f"{path} was not written by this version of the broker")
    return values


def _save(path: Path, values: Json) -> None:
    """Replace the file atomically: after a crash it has the old or the new content."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump({"format": FORMAT, **values}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    with contextlib.suppress(OSError):
        sync_folder(path.parent)
