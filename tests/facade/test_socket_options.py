"""The options of a producer's connections, read from the sockets of this process."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from facade_support import MakeProducer

from penstock.devbroker import RunningCluster

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="descriptors are listed by Linux's /proc")

KAFKAS_SEND_BUFFER = 131_072
KAFKAS_RECEIVE_BUFFER = 32_768


def sizes(cluster: RunningCluster) -> Iterator[tuple[int, int]]:
    """The send and receive buffer of each connection of this process to a broker, as the kernel reports them."""
    ports = {int(server.rpartition(":")[2]) for server in cluster.bootstrap_servers.split(",")}
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile, or no socket
            if not Path(f"/proc/self/fd/{name}").readlink().name.startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as copy:
                if copy.family == socket.AF_INET and copy.getpeername()[1] in ports:
                    options = (socket.SO_SNDBUF, socket.SO_RCVBUF)
                    send, receive = (copy.getsockopt(socket.SOL_SOCKET, option) for option in options)
                    yield send, receive


def test_given_sizes_are_set_also_kafka_s_defaults(
    cluster: RunningCluster, new_producer: MakeProducer, topic: str
) -> None:
    given = new_producer(send_buffer_bytes=KAFKAS_SEND_BUFFER, receive_buffer_bytes=KAFKAS_RECEIVE_BUFFER)
    given.send(topic, b"value").result(20)
    # Linux doubles a size that is set.
    assert (2 * KAFKAS_SEND_BUFFER, 2 * KAFKAS_RECEIVE_BUFFER) in set(sizes(cluster))


def test_sizes_that_are_not_given_are_the_kernel_s(
    cluster: RunningCluster, new_producer: MakeProducer, topic: str
) -> None:
    new_producer().send(topic, b"value").result(20)
    connections = set(sizes(cluster))
    assert connections
    assert not connections & {(2 * KAFKAS_SEND_BUFFER, 2 * KAFKAS_RECEIVE_BUFFER)}
