"""A socket buffer that the kernel limits is told, once per producer, with both sizes and the limit's name."""

from __future__ import annotations

import _socket
import sys
from pathlib import Path

import pytest

from penstock import KafkaProducer
from penstock.config import ProducerConfig, ProducerSettings
from penstock.facade.socket_buffers import granted_by_the_kernel, limited

MORE_THAN_ANY_LIMIT = 2**30
# Nothing listens there: these producers send nothing.
NOBODY = "127.0.0.1:1"


def settings(send: int, receive: int) -> ProducerSettings:
    given = {"send.buffer.bytes": send, "receive.buffer.bytes": receive}
    return ProducerConfig({"bootstrap.servers": NOBODY, **given}).settings


def at_most(limit: int) -> object:
    return lambda _, size: min(size, limit)


@pytest.mark.parametrize(
    ("send", "receive", "expected"),
    [
        (-1, -1, []),
        (1_000, 1_000, []),
        (1_001, -1, [("send.buffer.bytes", 1_001, 1_000, "net.core.wmem_max")]),
        (-1, 5_000, [("receive.buffer.bytes", 5_000, 1_000, "net.core.rmem_max")]),
    ],
)
def test_only_a_size_that_is_set_and_limited_is_told(send: int, receive: int, expected: object) -> None:
    assert list(limited(settings(send, receive), at_most(1_000))) == expected  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_the_kernel_is_asked_what_it_gave() -> None:
    limit = int(Path("/proc/sys/net/core/wmem_max").read_text())
    assert granted_by_the_kernel(_socket.SO_SNDBUF, limit) == limit
    assert granted_by_the_kernel(_socket.SO_SNDBUF, MORE_THAN_ANY_LIMIT) == min(limit, MORE_THAN_ANY_LIMIT)
    assert granted_by_the_kernel(_socket.SO_SNDBUF, 8_192) == 8_192


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_a_producer_logs_the_limit_once(caplog: pytest.LogCaptureFixture) -> None:
    with KafkaProducer(bootstrap_servers=NOBODY, send_buffer_bytes=MORE_THAN_ANY_LIMIT):
        pass
    lines = [record.message for record in caplog.records if "send.buffer.bytes" in record.message]
    (line,) = lines
    assert f"send.buffer.bytes = {MORE_THAN_ANY_LIMIT}, but the kernel gives" in line
    assert "net.core.wmem_max" in line
