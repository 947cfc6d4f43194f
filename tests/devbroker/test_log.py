"""The log: segments, reading, recovery, retention."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from raw_client import batch_of, offsets_in, sequenced

from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.log import LogSettings, PartitionLog
from penstock.devbroker.storage import MemorySegments, OpenFiles, SegmentFolder, SegmentStore
from penstock.protocol.records import HEADER_BYTES, read_header

NOW = 1_800_000_000_000
TIME = 1_700_000_000_000


def open_log(folder: Path | None, **settings: object) -> PartitionLog:
    store: SegmentStore = MemorySegments() if folder is None else SegmentFolder(folder, OpenFiles(limit=2))
    return PartitionLog("t-0", store, LogSettings(**settings))  # type: ignore[arg-type]


def append(log: PartitionLog, batch: bytes, epoch: int = 0) -> int:
    return log.append(read_header(batch), memoryview(batch), epoch, NOW).base_offset


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(params=["memory", "files"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "t" / "0" if request.param == "files" else None


def test_a_batch_is_read_back_with_its_offset_and_leader_epoch(folder: Path | None) -> None:
    log = open_log(folder)
    batch = batch_of(b"a", b"b")
    assert [append(log, batch), append(log, batch, epoch=7)] == [0, 2]
    data = log.read(2, 1 << 20)
    header = read_header(data)
    assert (header.base_offset, header.leader_epoch, header.crc) == (2, 7, read_header(batch).crc)
    assert data[HEADER_BYTES:] == batch[HEADER_BYTES:]


def test_every_offset_finds_its_batch(folder: Path | None) -> None:
    log = open_log(folder, segment_bytes=20_000)
    for number in range(100):
        append(log, batch_of(*[b"x" * (number * 7 % 900)] * (number % 5 + 1)))
    assert log.segment_count > 3
    for offset in range(log.end_offset):
        first, last = offsets_in(log.read(offset, 1))[0]
        assert first <= offset <= last
    assert log.read(log.end_offset, 1 << 20) == b""


def test_a_read_returns_whole_batches_within_the_limit(folder: Path | None) -> None:
    log = open_log(folder)
    batch = batch_of(b"x" * 5000)
    for _ in range(5):
        append(log, batch)
    assert offsets_in(log.read(1, 3 * len(batch) - 1)) == [(1, 1), (2, 2)]
    assert len(log.read(0, 3 * len(batch))) == 3 * len(batch)
    assert offsets_in(log.read(1, 10)) == [(1, 1)]
    assert log.read(1, 10, at_least_one=False) == b""


def test_segments_are_named_by_their_first_offset(tmp_path: Path) -> None:
    log = open_log(tmp_path, segment_bytes=2500)
    for _ in range(5):
        append(log, batch_of(b"x" * 1000))
    assert files(tmp_path) == [f"{offset:020d}.log" for offset in (0, 2, 4)]


def test_the_disk_has_only_the_batches(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(3):
        append(log, batch_of(b"a", b"b"))
    assert (tmp_path / f"{0:020d}.log").read_bytes() == log.read(0, 1 << 20)


def test_a_reopened_log_has_its_whole_state(tmp_path: Path) -> None:
    log = open_log(tmp_path, segment_bytes=1000)
    batches = [sequenced(2, 2 * number, producer_id=9) for number in range(20)]
    for number, batch in enumerate(batches):
        append(log, batch, epoch=number // 10)
    log.close()
    again = open_log(tmp_path, segment_bytes=1000)
    assert (again.start_offset, again.end_offset, again.size) == (0, 40, log.size)
    assert [again.read(offset, 1) for offset in range(40)] == [log.read(offset, 1) for offset in range(40)]
    assert again.epochs.end_of(0, again.end_offset) == (0, 20)
    assert append(again, batches[-1]) == 38  # a duplicate
    with pytest.raises(RequestError) as refused:
        append(again, sequenced(1, 77, producer_id=9, epoch=0))
    assert refused.value.code == ErrorCode.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert append(again, sequenced(1, 40, producer_id=9)) == 40


BATCH = batch_of(b"some value")
TAILS = {
    "half a header": BATCH[:30],
    "half a batch": BATCH[:-4],
    "zeros": bytes(200),
    "a wrong checksum": b"\0" * 7 + b"\2" + BATCH[8:-3] + b"???",
    "an offset that goes back": BATCH,
    "a length that is too long": b"\0" * 7 + b"\2" + b"\x7f\xff\xff\xff" + BATCH[12:],
    "rubbish": b"these bytes are not a record batch, but there are enough of them for a batch header",
}


@pytest.mark.parametrize("tail", TAILS)
def test_a_torn_tail_is_cut_off_and_logged(tail: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(tmp_path)
    for _ in range(2):
        append(log, BATCH)
    log.close()
    path = tmp_path / f"{0:020d}.log"
    good = path.read_bytes()
    path.write_bytes(good + TAILS[tail])
    with caplog.at_level(logging.WARNING, "penstock.devbroker"):
        again = open_log(tmp_path)
    assert (again.end_offset, path.read_bytes()) == (2, good)
    assert f"the last {len(TAILS[tail])} bytes are cut off" in caplog.text
    assert append(again, BATCH) == 2
    assert offsets_in(again.read(0, 1 << 20)) == [(0, 0), (1, 1), (2, 2)]


def test_every_cut_leaves_the_batches_before_it(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for _ in range(3):
        append(log, BATCH)
    log.close()
    path = tmp_path / f"{0:020d}.log"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        again = open_log(tmp_path)
        again.close()
        assert (again.end_offset, path.stat().st_size) == (size // len(BATCH), size - size % len(BATCH))


def test_segments_behind_a_torn_one_are_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = open_log(tmp_path, segment_bytes=len(BATCH))
    for _ in range(4):
        append(log, BATCH)
    log.close()
    (tmp_path / f"{1:020d}.log").write_bytes(BATCH[:-1])
    again = open_log(tmp_path)
    assert (again.end_offset, files(tmp_path)) == (1, [f"{0:020d}.log"])
    assert "2 later segments removed" in caplog.text


def test_a_failed_append_leaves_the_log_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)
    append(log, BATCH)

    def half(descriptor: int, parts: tuple[bytes, memoryview]) -> int:
        written = os_write(descriptor, bytes(parts[1][:5]))
        assert written == 5
        raise OSError("no space left")

    import os

    os_write = os.write
    with monkeypatch.context() as broken:
        broken.setattr(os, "writev", half)
        with pytest.raises(OSError, match="no space"):
            append(log, sequenced(1, 0, producer_id=1))
    assert (log.end_offset, (tmp_path / f"{0:020d}.log").stat().st_size) == (1, len(BATCH))
    assert append(log, sequenced(1, 0, producer_id=1)) == 1


def test_a_short_write_is_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "writev", lambda descriptor, parts: os.write(descriptor, bytes(parts[0])[:7]))
    log = open_log(tmp_path)
    append(log, BATCH)
    assert log.read(0, 1000)[16:] == BATCH[16:]


def test_the_oldest_segments_are_removed_beyond_retention_bytes(folder: Path | None) -> None:
    log = open_log(folder, segment_bytes=2 * len(BATCH), retention_bytes=4 * len(BATCH))
    for _ in range(20):
        append(log, BATCH)
    assert (log.start_offset, log.end_offset) == (14, 20)
    assert offsets_in(log.read(14, 1 << 20))[0] == (14, 14)
    if folder is not None:
        log.close()
        assert open_log(folder).start_offset == 14


def test_a_time_finds_its_record(folder: Path | None) -> None:
    log = open_log(folder, segment_bytes=5000)
    for number in range(50):
        append(log, batch_of(b"x" * 300, b"y", timestamp=TIME + number * 100, step=10))
    assert [log.first_not_before(TIME + number * 100 + 5).offset for number in range(50)] == list(range(1, 100, 2))
    assert log.first_not_before(0).offset == 0
    assert log.first_not_before(TIME + 4911).offset == -1
    assert (log.newest().offset, log.newest().timestamp) == (99, TIME + 4910)


def test_times_may_be_out_of_order() -> None:
    log = open_log(None)
    for time in (500, 100, 900, 200, 900):
        append(log, batch_of(b"x" * 3000, timestamp=TIME + time))
    assert [log.first_not_before(TIME + time).offset for time in (1, 501, 900)] == [0, 2, 2]
    assert log.newest().offset == 2


def test_a_time_in_an_undecodable_batch_finds_the_batch() -> None:
    from raw_client import resealed

    log = open_log(None)
    append(log, resealed(batch_of(b"a", b"b", timestamp=TIME, step=10), 21, b"\0\3"))  # says lz4
    found = log.first_not_before(TIME + 5)
    assert (found.offset, found.timestamp) == (0, TIME + 10)


def test_epochs_without_records_are_removed() -> None:
    log = open_log(None)
    for epoch in (1, 2, 5):
        log.epochs.note(epoch, log.end_offset)
    append(log, BATCH, epoch=5)
    log.epochs.note(8, log.end_offset)
    seen = [log.epochs.end_of(epoch, 1) for epoch in (0, 1, 5, 6, 8, 9)]
    assert seen == [(0, 0), (1, 0), (5, 1), (5, 1), (8, 1), (-1, -1)]
    assert (log.epochs.at(0), log.epochs.at(5)) == (5, 8)


def test_few_files_stay_open(tmp_path: Path) -> None:
    opened = OpenFiles(limit=3)
    logs = [PartitionLog(f"t-{n}", SegmentFolder(tmp_path / str(n), opened), LogSettings()) for n in range(10)]
    for log in logs * 2:
        append(log, BATCH)
    assert [log.end_offset for log in logs] == [2] * 10
    assert len(opened._descriptors) == 3
    for log in logs:
        log.close()
    assert not opened._descriptors
