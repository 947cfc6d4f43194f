"""Decoding takes memory in proportion to the bytes received, not to the lengths that they announce: in messages, frames and
batches. A hang would exceed the time limit of every test."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import sys
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock._native import crc32c
from penstock._reader import Connection
from penstock.devbroker.connection import Connection as BrokerConnection
from penstock.protocol import records
from penstock.protocol.primitives import ProtocolError

sys.path.append(str(Path(__file__).parents[1] / "unit" / "protocol"))

from protocol_catalogue import MESSAGE_VERSIONS, MessageVersion, values

every_message_version = pytest.mark.parametrize("of", MESSAGE_VERSIONS, ids=str)
deterministic = settings(
    derandomize=True,
    max_examples=3,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)

PER_BYTE = 160
"""An element of a few bytes becomes an object of a few hundred."""
ALWAYS = 64 * 1024
LENGTHS = [b"\xff\xff\xff\xff\x0f", b"\x7f\xff\xff\xff", b"\x00\x0f\x42\x40", b"\xc1\x84\x3d", b"\x7f\xff", b"\xff" * 8]
"""False lengths of a hostile broker: the largest length, and a million, in each encoding."""


def peak_of(work: Callable[[], object]) -> int:
    """The peak memory that Python allocated for `work`, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def decode(of: MessageVersion, data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        of.type.decode(data, of.version)


@every_message_version
def test_a_frame_of_equal_bytes(of: MessageVersion) -> None:
    for filling in (b"\0", b"\1", b"\2", b"\xff", b"\0\1", b"\0\0\0\1"):
        frame = filling * (8_192 // len(filling))
        assert peak_of(lambda frame=frame: decode(of, frame)) <= ALWAYS + PER_BYTE * len(frame), filling


@every_message_version
@deterministic
@given(data=st.data())
def test_a_false_length(of: MessageVersion, data: st.DataObject) -> None:
    honest = data.draw(values(of)).encode(of.version)
    at = data.draw(st.integers(0, len(honest)))
    for length in LENGTHS:
        hostile = honest[:at] + length + honest[at:] + bytes(2_000)
        assert peak_of(lambda hostile=hostile: decode(of, hostile)) <= ALWAYS + PER_BYTE * len(hostile)


def test_a_reader_allocates_for_received_bytes_only() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1024)
                peer.sendall(struct.pack(">i", 100_000_000) + bytes(1_000))

        thread = threading.Thread(target=serve)
        thread.start()

        def connect() -> None:
            with pytest.raises(ConnectionError):
                Connection("127.0.0.1", listener.getsockname()[1], timeout_s=10)

        assert peak_of(connect) < 2_000_000
        thread.join()


class _Transport:
    """The methods that a receiving connection calls."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        """Does nothing here."""


def test_a_broker_allocates_for_received_bytes_only() -> None:
    connection = BrokerConnection(None, 100_000_000, set(), None)  # type: ignore[arg-type]
    connection._transport = _Transport()  # type: ignore[assignment]
    connection.peer = None
    assert peak_of(lambda: connection.data_received(struct.pack(">i", 99_000_000) + bytes(1_000))) < 100_000
    assert not connection._transport.closed  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [-1, 7, 100_000_001, 2**31 - 1])
def test_a_broker_refuses_an_impossible_length_at_once(length: int) -> None:
    connection = BrokerConnection(None, 100_000_000, set(), None)  # type: ignore[arg-type]
    connection._transport = _Transport()  # type: ignore[assignment]
    connection.peer = None
    connection.data_received(struct.pack(">i", length))
    assert connection._transport.closed  # type: ignore[attr-defined]


def batch(packed: bytes, count: int = 1) -> bytes:
    """A batch with the records `packed`, gzip, and a correct checksum."""
    tail = struct.pack(">hiqqqhii", 1, 0, 0, 0, -1, -1, -1, count) + packed
    return struct.pack(">qiibI", 0, 9 + len(tail), 0, 2, crc32c(tail)) + tail


def test_many_tiny_gzip_members_take_no_time() -> None:
    packed = gzip.compress(b"") * 600_000
    with pytest.raises(ProtocolError, match="1 records are announced"):
        records.decode_batch(batch(packed))


def test_a_false_count_of_records_allocates_nothing() -> None:
    hostile = batch(gzip.compress(bytes(100)), 2**31 - 1)

    def refuse() -> None:
        with pytest.raises(ProtocolError, match="records are announced"):
            records.decode_batch(hostile)

    assert peak_of(refuse) < ALWAYS
