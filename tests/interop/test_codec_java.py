"""The Java client's generated codec checks ours: every message, every version, bytes and values."""

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.protocol.primitives import ProtocolError

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "unit" / "protocol"), str(HERE.parent.parent / "tools" / "kafka")]

import kafka_artifacts  # noqa: E402
from protocol_catalogue import MESSAGE_VERSIONS, Field, MessageVersion, is_in, values  # noqa: E402

WRITTEN, NOT_WRITTEN, NOT_READ = range(3)
deterministic = settings(
    derandomize=True,
    max_examples=10,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
every_message_version = pytest.mark.parametrize("of", MESSAGE_VERSIONS, ids=str)


class Judge:
    """A Java process that answers questions about encoded messages."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def ask(self, of: MessageVersion, encoded: bytes, *, write: int) -> tuple[int, bytes, str]:
        """Java reads `encoded` in the version of `of` and writes it in `write`: status, bytes, JSON or error."""
        return self._exchange(of, of.version, encoded, write)

    def ask_for_default(self, of: MessageVersion) -> tuple[int, bytes, str]:
        """The bytes that Java writes for a message with default values."""
        return self._exchange(of, -1, b"", of.version)

    def _exchange(self, of: MessageVersion, read: int, encoded: bytes, write: int) -> tuple[int, bytes, str]:
        kind = {"RequestHeader": 2, "ResponseHeader": 3}.get(of.name, ("request", "response", "header").index(of.kind))
        question = struct.pack(">bhhh", kind, of.api_key, read, write) + encoded
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack(">i", len(question)) + question)
        self._process.stdin.flush()
        (size,) = struct.unpack(">i", self._take(4))
        status, written_size = struct.unpack(">bi", self._take(5))
        return status, self._take(written_size), self._take(size - 5 - written_size).decode()

    def _take(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        assert len(data) == size, "the Java judge ended; its error is above"
        return data


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    command = [kafka_artifacts.java(), "-Xmx256m", "-cp", kafka_artifacts.classpath(), str(HERE / "CodecJudge.java")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Judge(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


@every_message_version
@deterministic
@given(data=st.data())
def test_java_reads_our_bytes_as_the_same_values_and_writes_them_again(
    judge: Judge, of: MessageVersion, data: st.DataObject
) -> None:
    message = data.draw(values(of))
    encoded = message.encode(of.version)
    status, written, text = judge.ask(of, encoded, write=of.version)
    assert status == WRITTEN, text
    assert written == encoded
    assert json.loads(text) == _as_java_describes(message, of.fields, of.version)


@every_message_version
def test_defaults_are_java_s(judge: Judge, of: MessageVersion) -> None:
    status, written, _ = judge.ask_for_default(of)
    if status == WRITTEN:
        assert of.type().encode(of.version) == written
    else:
        with pytest.raises(ProtocolError):
            of.type().encode(of.version)


@every_message_version
@deterministic
@given(data=st.data())
def test_values_of_other_versions_are_refused_exactly_as_by_java(
    judge: Judge, of: MessageVersion, data: st.DataObject
) -> None:
    encoded = data.draw(values(of)).encode(of.version)
    other = data.draw(st.integers(of.type.MIN_VERSION, of.type.MAX_VERSION))
    status, written, _ = judge.ask(of, encoded, write=other)
    message = of.type.decode(encoded, of.version)
    if status == WRITTEN:
        assert message.encode(other) == written
    else:
        with pytest.raises(ProtocolError):
            message.encode(other)


def _as_java_describes(message: Any, fields: list[Field], version: int) -> dict[str, Any]:
    described = {}
    default = type(message)()
    for field in fields:
        value = getattr(message, field["name"])
        if not is_in(field["versions"], version) or (field["tagged"] and value == getattr(default, field["name"])):
            continue
        name = field["kafka_name"][0].lower() + field["kafka_name"][1:]
        if field["type"] == "records" and value is not None:
            described[f"{name}SizeInBytes"] = len(value)
        elif value is None:
            described[name] = None
        elif field["array"]:
            described[name] = [_one(element, field, version) for element in value]
        else:
            described[name] = _one(value, field, version)
    return described


def _one(value: Any, field: Field, version: int) -> Any:
    match value:
        case bool() | int() | float() | str():
            return value
        case UUID():
            return base64.urlsafe_b64encode(value.bytes).decode().rstrip("=")
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
    return _as_java_describes(value, field["fields"], version)
