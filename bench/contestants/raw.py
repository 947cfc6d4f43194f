"""What one TCP connection moves to the sink beside the broker (`bench.places.RawSink`): the limit of every client on a link."""

from __future__ import annotations

import socket
import time
from typing import Any

from bench.contestants.common import Measurement, Stopwatch, Task, measurement

RECORD_BYTES = 10
"""Of a record beside its value: lengths, attributes, offset, timestamp. Without it no client could reach the limit."""


def stream(task: Task) -> Measurement:
    """As many bytes as the task's records have on the wire, or as many as go in its seconds."""
    host, _, port = task["raw_tcp"].rpartition(":")
    block = bytes(task["raw_block"])
    per_record = task["size"] + RECORD_BYTES
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # TCP's congestion control as a text that ends with zeros.
        congestion = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
        _send(connection, block, seconds=task.get("warm_up_s", 0.5))
        watch = Stopwatch()
        if task.get("seconds") is not None:
            blocks = _send(connection, block, seconds=task["seconds"])
        else:
            blocks = _send(connection, block, blocks=-(-task["count"] * per_record // len(block)))
        spent = watch.stop()
    shown = {"sockets": "autotuned", "congestion control": congestion, "bytes per record": per_record}
    return measurement("", shown, blocks * len(block) // per_record, spent, 0)


def _send(connection: socket.socket, block: bytes, seconds: float = 0.0, blocks: int | None = None) -> int:
    """Send blocks and wait for their answers, a byte each; returns how many they were."""
    end, sent = time.perf_counter() + seconds, 0
    while sent < blocks if blocks is not None else time.perf_counter() < end:
        connection.sendall(block)
        sent += 1
    answers: Any = 0
    while answers < sent:
        read = len(connection.recv(1 << 16))
        if not read:
            raise ConnectionError("the sink closed the connection")
        answers += read
    return sent
