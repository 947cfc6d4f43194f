"""The application of `test_greenlets.py` under gunicorn: one producer per worker, created in its first request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any

from penstock import KafkaProducer

BOOTSTRAP, TOPIC = os.environ["PENSTOCK_TEST_BOOTSTRAP"], os.environ["PENSTOCK_TEST_TOPIC"]
_producers: dict[int, KafkaProducer[bytes, bytes]] = {}


def producer() -> KafkaProducer[bytes, bytes]:
    if os.getpid() not in _producers:
        _producers[os.getpid()] = KafkaProducer(bootstrap_servers=BOOTSTRAP, linger_ms=20)
    return _producers[os.getpid()]


def sleep() -> bytes:
    """Blocks this greenlet and no other."""
    time.sleep(0.3)
    return b"slept"


def send() -> bytes:
    """Sends and waits."""
    return b"%d" % producer().send(TOPIC, b"sent").result(10).offset


def with_block() -> bytes:
    """A producer of this request."""
    with KafkaProducer(bootstrap_servers=BOOTSTRAP) as own:
        future = own.send(TOPIC, b"own")
    return b"%d" % future.result().offset


def leave() -> bytes:
    """Sends and does not wait: delivered when the worker ends, at the latest."""
    producer().send(TOPIC, b"left")
    return b"left"


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    body = {"/sleep": sleep, "/send": send, "/with": with_block, "/leave": leave}[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
