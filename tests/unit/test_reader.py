"""The reader's side of the wire, against servers that misbehave."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from penstock._reader import Cluster, Connection, Reader
from penstock.errors import NetworkError
from penstock.protocol import versions
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.primitives import ProtocolError


@contextmanager
def server(answer: Callable[[bytes], bytes | None]) -> Iterator[int]:
    """A listener that answers each frame with `answer(frame)`, or closes the connection when that is None."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer, peer.makefile("rb") as stream:
                    while head := stream.read(4):
                        reply = answer(stream.read(struct.unpack(">i", head)[0]))
                        if reply is None:
                            break
                        peer.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def framed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


def api_versions(correlation_id: int, version: int, *, error_code: int = 0) -> bytes:
    keys = (ApiVersion(api_key=18, min_version=0, max_version=0), ApiVersion(api_key=3, min_version=0, max_version=9))
    return framed(
        versions.encode_response(ApiVersionsResponse(error_code=error_code, api_keys=keys), version, correlation_id)
    )


def test_an_oversized_frame_is_refused_before_anything_is_allocated_for_it() -> None:
    with server(lambda _: struct.pack(">i", 2**31 - 1)) as port, pytest.raises(ProtocolError, match="2147483647 bytes"):
        Connection("127.0.0.1", port, timeout_s=5)


def test_a_negative_length_is_refused() -> None:
    with server(lambda _: struct.pack(">i", -1)) as port, pytest.raises(ProtocolError, match="-1 bytes"):
        Connection("127.0.0.1", port, timeout_s=5)


def test_garbage_is_a_protocol_error() -> None:
    with server(lambda _: framed(b"HTTP/1.1 400 Bad Request")) as port, pytest.raises(ProtocolError):
        Connection("127.0.0.1", port, timeout_s=5)


def test_a_closed_connection_is_a_connection_error() -> None:
    with server(lambda _: None) as port, pytest.raises(ConnectionError, match="closed the connection"):
        Connection("127.0.0.1", port, timeout_s=5)


def test_an_answer_to_another_request_is_refused() -> None:
    with server(lambda _: api_versions(77, 5)) as port, pytest.raises(ProtocolError, match="request 77"):
        Connection("127.0.0.1", port, timeout_s=5)


def test_an_older_broker_is_asked_again_in_version_0() -> None:
    asked: list[int] = []

    def answer(frame: bytes) -> bytes:
        version, correlation_id = struct.unpack_from(">hi", frame, 2)
        asked.append(version)
        return api_versions(correlation_id, 0, error_code=35 if version else 0)

    with server(answer) as port:
        connection = Connection("127.0.0.1", port, timeout_s=5)
        connection.close()
    assert asked == [ApiVersionsRequest.MAX_VERSION, 0]


def test_no_broker_reachable_names_each_address_with_its_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(NetworkError, match=rf"127\.0\.0\.1:{port}: .*refused"):
        Cluster(f"127.0.0.1:{port}", timeout_s=1).metadata(None)


def test_a_lasting_error_is_raised() -> None:
    with server(lambda _: None) as port, Reader(f"127.0.0.1:{port}", "t", timeout_s=0.3) as reader:
        with pytest.raises(NetworkError, match="closed the connection"):
            next(iter(reader))
