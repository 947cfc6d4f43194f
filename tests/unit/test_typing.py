"""Types that mypy and pyright infer from serializers, and mistakes that they refuse, from the same snippets."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.xdist_group("typing")  # one worker: the checkers run once

SNIPPET = """
import asyncio
from array import array
from collections.abc import AsyncIterator
from typing import Any, assert_type
from penstock import AsyncBulkResult, AsyncKafkaProducer, AsyncProducer, IntegerSerializer, KafkaProducer, Producer, ProducerRecord
from penstock import RecordMetadata, StringSerializer
from penstock.testing import AsyncMockProducer, MockProducer


class Index:
    def __index__(self) -> int:
        return 1

    def partition(self, *_: Any) -> "Index":
        return self


MockProducer(partitioner=Index())
plain = KafkaProducer({"bootstrap.servers": "localhost:9092"})
assert_type(plain, KafkaProducer[bytes, bytes])
keyed = KafkaProducer(key_serializer=StringSerializer(), linger_ms=5)
assert_type(keyed, KafkaProducer[str, bytes])
both = KafkaProducer(key_serializer=IntegerSerializer(), value_serializer=StringSerializer())
assert_type(both, KafkaProducer[int, str])
future = both.send("topic", "text", key=1)
both.send(ProducerRecord("topic", "text", key=1), callback=lambda metadata, error: None)
assert_type(future.result().offset, int)
producer: Producer[int, str] = both
mock = MockProducer(key_serializer=IntegerSerializer(), value_serializer=StringSerializer())
mocked: Producer[int, str] = mock
for one in (both, producer, mock, mocked):
    one.send("topic", "text", key=1)
    one.send("topic", value="text")
    one.send(topic="topic", value="text", key=1, partition=0, timestamp=5, headers={"h": b""}, callback=None)
    one.send(topic=ProducerRecord("topic", "text", key=1))
    one.send("topic", "text", partition=Index(), timestamp=Index(), headers={"h": bytearray(b"")})
    one.send("topic", "text", headers=[("h", memoryview(b"")), ("h", bytearray(b"")), ("h", b""), ("h", None)])
    one.send_many("topic", ["text"], timestamps=[Index(), 5], partition=Index(), headers=[{"h": memoryview(b"")}])
assert_type(ProducerRecord("topic", partition=Index(), headers={"h": bytearray()}).partition, int | None)
both.send(topic="topic", value="text")
producer.send(topic="topic", value="text")
mock.send(topic="topic", value="text")
producer.flush(timeout=1.5)


async def texts() -> AsyncIterator[str]:
    yield "text"


async def main() -> None:
    several = AsyncKafkaProducer(key_serializer=IntegerSerializer(), value_serializer=StringSerializer())
    assert_type(several, AsyncKafkaProducer[int, str])
    sending: AsyncProducer[int, str] = several
    doubled = AsyncMockProducer(key_serializer=IntegerSerializer(), value_serializer=StringSerializer())
    double: AsyncProducer[int, str] = doubled
    for one in (several, sending, double, doubled):
        future = await one.send("topic", "text", key=1)
        assert_type(await future, RecordMetadata)
        assert_type(await one.send_and_wait("topic", "text", key=1), RecordMetadata)
        await one.send(ProducerRecord("topic", "text", key=1), callback=lambda metadata, error: None)
        await asyncio.gather(future, asyncio.wait_for(future, 1), asyncio.shield(future))
        await asyncio.create_task(one.send("topic", "text"))
        bulk = await one.send_many("topic", texts(), keys=[1, None])
        assert_type(await bulk, AsyncBulkResult)
        assert_type((await asyncio.wait_for(bulk, 1)).offsets, array[int])
        await asyncio.gather(bulk, one.send_many("topic", ["text"]))
        await one.flush(timeout=1.5)
"""
WRONG = {
    "a key of the wrong type": 'both.send("topic", "text", key="one")',
    "a value of the wrong type, to the protocol": 'producer.send(topic="topic", value=b"bytes")',
    "a value of the wrong type, to the mock": 'mock.send(topic="topic", value=b"bytes")',
    "an unknown option": "KafkaProducer(linger_msec=5)",
    "a value of the wrong type, in asyncio": 'AsyncKafkaProducer().send("topic", "text")',
    "a column of the wrong type, in asyncio": 'AsyncKafkaProducer().send_many("topic", ["text"])',
    "a partition that is no whole number": 'both.send("topic", "text", partition=1.0)',
    "a header value of the wrong type": 'both.send("topic", "text", headers={"h": "text"})',
    "an option of the wrong type": 'KafkaProducer(linger_ms="soon")',
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, list[str]]]:
    """Checker → file → its lines of output. Each checker runs once, over both files, beside the other."""
    folder = tmp_path_factory.mktemp("typing")
    (folder / "right.py").write_text(SNIPPET)
    (folder / "wrong.py").write_text(SNIPPET + "\n".join(WRONG.values()) + "\n")
    commands = {
        "mypy": ["mypy", "--strict", "--no-error-summary"],
        "pyright": ["pyright", "--pythonpath", sys.executable],
    }
    files = ("right.py", "wrong.py")
    running = {
        checker: subprocess.Popen(
            [sys.executable, "-m", *command, *files],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for checker, command in commands.items()
    }
    lines = {checker: process.communicate()[0].splitlines() for checker, process in running.items()}
    return {
        checker: {file: [line for line in found if f"{file}:" in line] for file in files}
        for checker, found in lines.items()
    }


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_serializers_decide_the_types_of_key_and_value(checker: str, reported: dict[str, dict[str, list[str]]]) -> None:
    assert reported[checker]["right.py"] == []


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_mistakes_are_found_without_running_anything(checker: str, reported: dict[str, dict[str, list[str]]]) -> None:
    found = reported[checker]["wrong.py"]
    first = len(SNIPPET.splitlines()) + 1
    for number, what in enumerate(WRONG, first):
        assert any(f"wrong.py:{number}:" in line for line in found), f"{checker} lets {what} pass:\n{found}"
