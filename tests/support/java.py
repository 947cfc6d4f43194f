"""Java as a judge: Kafka's own code, called over a pipe.

The judge's source is `tests/interop/java`; it is compiled once per content into `.cache/` and runs as one JVM for the
whole session. Vectorised methods answer a failed item with a `JavaError` in its place; a command that fails as a whole
raises it.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import kafka_artifacts

from support.judges import IncompleteReadError, Record

SOURCES = Path(__file__).resolve().parent.parent / "interop" / "java"
CACHE = kafka_artifacts.REPOSITORY / ".cache" / "java-judge"
COMPILE_TIMEOUT_S = 120.0
CALL_TIMEOUT_S = 60.0

Json = Any


class JavaError(Exception):
    """An exception of Java: `type` is the class name, `message` its text, `cause` the next of the chain."""

    def __init__(self, kind: str, message: str, cause: JavaError | None = None) -> None:
        super().__init__(f"{kind}: {message}")
        self.type, self.message, self.cause = kind, message, cause

    @staticmethod
    def of(described: Mapping[str, Json]) -> JavaError:
        cause = described.get("cause")
        return JavaError(described["type"], described["message"], JavaError.of(cause) if cause else None)


class JudgeDiedError(RuntimeError):
    """The JVM ended or did not answer in time; the message ends with its output."""


@dataclass(frozen=True, slots=True)
class JavaRecord:
    """A record inside a batch, as Kafka reads it."""

    offset: int
    sequence: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JavaBatch:
    """A record batch, as Kafka reads it. `records` is empty if it is not valid; `error` has the reason."""

    base_offset: int
    last_offset: int
    size: int
    partition_leader_epoch: int
    magic: int
    checksum: int
    compression: str
    timestamp_type: str
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    last_sequence: int
    count: int | None
    transactional: bool
    control: bool
    valid: bool
    delete_horizon_ms: int | None = None
    base_timestamp: int | None = None
    attributes: int | None = None
    records: tuple[JavaRecord, ...] = ()
    error: JavaError | None = None


@dataclass(frozen=True, slots=True)
class JavaBatches:
    """Consecutive batches. `valid_bytes` is below `size` if the rest is not a whole batch (Java ignores it)."""

    batches: tuple[JavaBatch, ...]
    size: int
    valid_bytes: int | None
    error: JavaError | None


@dataclass(frozen=True, slots=True)
class Reencoded:
    """A message that Java read and wrote again; `left` are the bytes that it did not read."""

    data: bytes
    json: Json
    left: int


class JavaJudge:
    """One long-lived JVM that answers requests; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._printed: IO[bytes] | None = None
        self._asked = 0

    def __enter__(self) -> JavaJudge:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the JVM; a later request starts another one."""
        with self._lock:
            self._end()

    def call(self, command: str, *, timeout: float = CALL_TIMEOUT_S, **arguments: Json) -> Json:
        """Send any command of `Judge.java`; the typed methods below convert values and call this."""
        with self._lock:
            if self._process is None:
                self._start()
            assert self._process is not None
            assert self._process.stdin is not None
            self._asked += 1
            question = {"id": self._asked, "command": command, "arguments": arguments}
            try:
                self._process.stdin.write(json.dumps(question).encode() + b"\n")
                self._process.stdin.flush()
                answer = json.loads(self._answers.get(timeout=timeout))
            except (OSError, ValueError, queue.Empty) as error:
                # Out of step or dead: its later answers could not be matched to requests.
                printed = self._end()
                raise JudgeDiedError(f"{command}: {type(error).__name__} after {timeout:g} s at most\n{printed}") from (
                    error
                )
        assert answer["id"] == question["id"]
        if "error" in answer:
            raise JavaError.of(answer["error"])
        return answer["result"]

    # --- keys

    def murmur2(self, keys: Iterable[bytes]) -> list[int]:
        """Kafka's hash of each key: signed, 32 bits."""
        return list(self.call("murmur2", keys=[key.hex() for key in keys]))

    def to_positive(self, numbers: Iterable[int]) -> list[int]:
        return list(self.call("to_positive", numbers=list(numbers)))

    def partition_for_key(self, keys: Iterable[bytes], partitions: int) -> list[int]:
        """The built-in partitioner's partition for each serialized key."""
        return list(self.call("partition_for_key", keys=[key.hex() for key in keys], partitions=partitions))

    # --- serializers

    def serialize(self, items: Iterable[Mapping[str, Json]]) -> list[bytes | JavaError | None]:
        """The bytes that Kafka's serializers write for values.

        Each item is `{"serializer": "String" | "ByteArray" | …, "value": …}` with, where it fits, "encoding" (String),
        "position" (ByteBuffer) and "inner" (List: the elements' serializer). Bytes are hex text, UUIDs text, floats
        numbers or Java's text for them ("NaN", "-Infinity").
        """
        answers = self.call("serialize", items=list(items))
        return [_failure(answer) or _unhex(answer["hex"]) for answer in answers]

    # --- batches

    def decode_batches(self, data: Iterable[bytes]) -> list[JavaBatches]:
        """Each item, batches back to back as Produce or a log carries them, taken apart and checked by Kafka."""
        return [_batches(answer) for answer in self.call("decode_batches", data=[item.hex() for item in data])]

    # --- configuration

    def config_table(self) -> list[dict[str, Json]]:
        """ProducerConfig's definition, sorted by name.

        Rows: name, type, importance, validator (its text), validator_class, display, group, internal, required and,
        unless required, default (typed) and default_text.
        """
        return list(self.call("config_table"))

    def config_parse(self, items: Iterable[tuple[str, Json]]) -> list[Json | JavaError]:
        """Each (name, value), validated by type and validator alone: the parsed value, or Java's error."""
        answers = self.call("config_parse", items=[list(item) for item in items])
        return [_failure(answer) or answer["value"] for answer in answers]

    def producer_config(self, configs: Iterable[Mapping[str, Json]]) -> list[dict[str, Json] | JavaError]:
        """Each configuration through `new ProducerConfig`: all values after its post-processing, or the error.

        Missing serializers are set to those of byte arrays.
        """
        answers = self.call("producer_config", configs=[dict(config) for config in configs])
        return [_failure(answer) or answer["values"] for answer in answers]

    def open_producer(self, configs: Iterable[Mapping[str, Json]]) -> list[JavaError | None]:
        """Each configuration through `new KafkaProducer`, closed at once: None, or the error (causes in its chain).

        This has the checks that ProducerConfig leaves out: bootstrap servers, delivery.timeout.ms against the rest.
        """
        answers = self.call("open_producer", configs=[dict(config) for config in configs])
        return [_failure(answer) for answer in answers]

    # --- protocol

    def api_versions(self) -> list[dict[str, Json]]:
        """Every API: api_key, name, lowest, highest, unstable, request_header and response_header by version."""
        return list(self.call("api_versions"))

    def reencode(self, items: Iterable[tuple[int, int, bool, bytes]]) -> list[Reencoded | JavaError]:
        """Each (API key, version, is request, bytes) read by Kafka's codec and written again.

        API key -1 is the request or response header, its version the header's. `json` is the content in Kafka's form.
        """
        questions = [[key, version, is_request, data.hex()] for key, version, is_request, data in items]
        answers = self.call("reencode", items=questions)
        return [
            _failure(answer) or Reencoded(bytes.fromhex(answer["hex"]), answer["json"], answer["left"])
            for answer in answers
        ]

    def encode(self, items: Iterable[tuple[int, int, bool, Json]]) -> list[bytes | JavaError]:
        """Each (API key, version, is request, content in Kafka's JSON form) written by Kafka's codec."""
        answers = self.call("encode", items=[list(item) for item in items])
        return [_failure(answer) or bytes.fromhex(answer["hex"]) for answer in answers]

    # --- clients

    def produce(
        self,
        bootstrap: str,
        records: Iterable[Mapping[str, Any]],
        config: Mapping[str, Json] | None = None,
        timeout: float = CALL_TIMEOUT_S,
    ) -> list[dict[str, Json] | JavaError]:
        """Send records with Java's producer and wait for all.

        Records: topic and optionally partition, timestamp, key, value (bytes or None), headers (pairs). Answers: topic,
        partition, offset, timestamp, serialized_key_size, serialized_value_size.
        """
        answers = self.call(
            "produce",
            timeout=timeout,
            bootstrap=bootstrap,
            config=dict(config or {}),
            records=[_outgoing(record) for record in records],
        )
        return [_failure(answer) or answer for answer in answers]

    def consume(
        self,
        bootstrap: str,
        topic: str,
        expected: int | None = None,
        timeout: float = 30.0,
        partitions: Sequence[int] | None = None,
        config: Mapping[str, Json] | None = None,
    ) -> list[Record]:
        """`judges.read_all` with Java's consumer; `config` has the settings under test (isolation.level, …).

        The judge's heap holds the whole answer: use it for 10⁵ records, not for 10⁷.
        """
        answer = self.call(
            "consume",
            timeout=timeout + CALL_TIMEOUT_S,
            bootstrap=bootstrap,
            topic=topic,
            expected=expected or 0,
            timeout_ms=int(timeout * 1000),
            partitions=None if partitions is None else list(partitions),
            config=dict(config or {}),
        )
        records = [_record(record) for record in answer["records"]]
        if not answer["complete"]:
            raise IncompleteReadError("Java", topic, records, expected, timeout)
        return sorted(records, key=lambda record: record.partition)

    # --- the process

    def _start(self) -> None:
        command = [kafka_artifacts.java(), "-Xmx1g", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        command += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]
        command += ["-cp", f"{compiled()}{os.pathsep}{kafka_artifacts.classpath()}", "penstock.judge.Judge"]
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 (as long-lived as the process)
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._printed,
            start_new_session=True,  # Ctrl-C is for pytest, which then closes us
        )
        self._answers = queue.SimpleQueue()
        assert self._process.stdout is not None
        threading.Thread(
            target=_pump, args=(self._process.stdout, self._answers), name="java-judge-answers", daemon=True
        ).start()

    def _end(self) -> str:
        if self._process is None or self._printed is None:
            return ""
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()  # the JVM ends at the end of stdin
            self._process.wait(2)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        self._printed.seek(0)
        printed = self._printed.read().decode(errors="replace")
        self._printed.close()
        self._process = self._printed = None
        return printed


def compiled() -> Path:
    """The folder with the judge's classes; new sources are compiled."""
    sources = sorted(SOURCES.glob("*.java"))
    digest = hashlib.sha256(kafka_artifacts.POM.read_bytes())
    for source in sources:
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    target = CACHE / digest.hexdigest()[:16]
    if target.is_dir():
        return target
    with kafka_artifacts.exclusive(CACHE / "lock"):
        if not target.is_dir():
            _compile(sources, target)
    return target


def _compile(sources: list[Path], target: Path) -> None:
    staging = Path(tempfile.mkdtemp(prefix="compiling-", dir=CACHE))
    try:
        command = [kafka_artifacts.javac(), "--release", "17", "-encoding", "UTF-8", "-d", str(staging)]
        command += ["-Xlint:all,-classfile,-processing", "-Werror", "-cp", kafka_artifacts.classpath()]
        done = subprocess.run(
            [*command, *map(str, sources)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the Java judge does not compile:\n{done.stdout}")
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _pump(answers: IO[bytes], into: queue.SimpleQueue[bytes]) -> None:
    """Read lines from the pipe, so that waiting for one can have a deadline; an empty one means that it ended."""
    with answers:
        for line in answers:
            into.put(line)
    into.put(b"")


def _failure(answer: Mapping[str, Json]) -> JavaError | None:
    return JavaError.of(answer["error"]) if "error" in answer else None


def _unhex(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _headers(pairs: Iterable[Sequence[Any]]) -> tuple[tuple[str, bytes | None], ...]:
    return tuple((name, _unhex(value)) for name, value in pairs)


def _record(record: Mapping[str, Json]) -> Record:
    return Record(
        partition=record["partition"],
        offset=record["offset"],
        timestamp=record["timestamp"],
        timestamp_type=record["timestamp_type"],
        key=_unhex(record["key"]),
        value=_unhex(record["value"]),
        headers=_headers(record["headers"]),
    )


def _outgoing(record: Mapping[str, Any]) -> dict[str, Json]:
    key, value = record.get("key"), record.get("value")
    return {
        **{name: record.get(name) for name in ("topic", "partition", "timestamp")},
        "key": None if key is None else key.hex(),
        "value": None if value is None else value.hex(),
        "headers": [[name, None if data is None else data.hex()] for name, data in record.get("headers", ())],
    }


def _batches(answer: Mapping[str, Json]) -> JavaBatches:
    return JavaBatches(
        tuple(_batch(batch) for batch in answer["batches"]),
        answer["size"],
        answer.get("valid_bytes"),
        _failure(answer),
    )


def _batch(batch: Mapping[str, Json]) -> JavaBatch:
    fields = {name: value for name, value in batch.items() if name not in ("records", "error")}
    records = tuple(
        JavaRecord(
            offset=record["offset"],
            sequence=record["sequence"],
            timestamp=record["timestamp"],
            key=_unhex(record["key"]),
            value=_unhex(record["value"]),
            headers=_headers(record["headers"]),
        )
        for record in batch.get("records", ())
    )
    return JavaBatch(**fields, records=records if batch["valid"] else (), error=_failure(batch))
