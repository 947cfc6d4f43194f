"""A minimal client: one blocking connection, one request at a time, any bytes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

from penstock.protocol.message import Request, Response
from penstock.protocol.messages.create_topics import CreatableTopic, CreateTopicsRequest, CreateTopicsResponse
from penstock.protocol.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.messages.produce import (
    PartitionProduceData,
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceData,
)
from penstock.protocol.primitives import ZERO_UUID
from penstock.protocol.records import Record, encode_batch, split_batches
from penstock.protocol.versions import decode_response, encode_request

R = TypeVar("R", bound=Response)
CLIENT_ID = "raw-client"


class ClosedError(Exception):
    """The broker closed the connection instead of answering."""


class RawClient:
    """A connection to one broker."""

    def __init__(self, bootstrap: str, timeout: float = 20.0) -> None:
        host, port = bootstrap.split(",")[0].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self._stream = self.socket.makefile("rb")
        self._correlation_id = 0

    def __enter__(self) -> RawClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._stream.close()
        self.socket.close()

    def send_frame(self, frame: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)

    def receive_frame(self) -> bytes:
        try:
            head = self._stream.read(4)
            if len(head) < 4:
                raise ClosedError
            return self._stream.read(struct.unpack(">i", head)[0])
        except ConnectionResetError:
            raise ClosedError from None

    def send(self, request: Request, version: int) -> int:
        """Send without waiting; returns the correlation id."""
        self._correlation_id += 1
        self.send_frame(encode_request(request, version, self._correlation_id, CLIENT_ID))
        return self._correlation_id

    def receive(self, response: type[R], version: int) -> tuple[int, R]:
        """The next answer: correlation id and body."""
        return decode_response(response, version, self.receive_frame())

    def ask(self, request: Request, response: type[R], version: int) -> R:
        expected = self.send(request, version)
        correlation_id, answer = self.receive(response, version)
        assert correlation_id == expected
        return answer

    # Requests that nearly every test uses.

    def produce(
        self, topic: str, batch: bytes | None, *, partition: int = 0, version: int = 12, acks: int = -1
    ) -> PartitionProduceResponse:
        request = produce_request(topic, batch, partition=partition, acks=acks)
        answer = self.ask(request, ProduceResponse, version)
        return answer.responses[0].partition_responses[0]

    def fetch(
        self, topic: str, offset: int, *, partition: int = 0, version: int = 12, max_wait_ms: int = 0, **values: Any
    ) -> PartitionData:
        request = fetch_request(topic, offset, partition=partition, max_wait_ms=max_wait_ms, **values)
        return self.ask(request, FetchResponse, version).responses[0].partitions[0]

    def create_topic(self, name: str, partitions: int = 1, replication_factor: int = 1) -> UUID:
        topic = CreatableTopic(name=name, num_partitions=partitions, replication_factor=replication_factor)
        answer = self.ask(CreateTopicsRequest(topics=(topic,)), CreateTopicsResponse, 7)
        assert answer.topics[0].error_code == 0, answer.topics[0].error_message
        return answer.topics[0].topic_id

    def metadata(self, *topics: str, version: int = 12, create: bool = False) -> MetadataResponse:
        asked = tuple(MetadataRequestTopic(name=topic) for topic in topics)
        request = MetadataRequest(topics=asked, allow_auto_topic_creation=create)
        return self.ask(request, MetadataResponse, version)


def produce_request(topic: str | UUID, batch: bytes | None, *, partition: int = 0, acks: int = -1) -> ProduceRequest:
    """A request with one batch."""
    data = TopicProduceData(
        name="" if isinstance(topic, UUID) else topic,
        topic_id=topic if isinstance(topic, UUID) else ZERO_UUID,
        partition_data=(PartitionProduceData(index=partition, records=batch),),
    )
    return ProduceRequest(acks=acks, timeout_ms=10_000, topic_data=(data,))


def fetch_request(
    topic: str | UUID,
    offset: int,
    *,
    partition: int = 0,
    max_wait_ms: int = 0,
    min_bytes: int = 1,
    max_bytes: int = 1 << 20,
    partition_max_bytes: int = 1 << 20,
    current_leader_epoch: int = -1,
) -> FetchRequest:
    """A request for one partition."""
    part = FetchPartition(
        partition=partition,
        fetch_offset=offset,
        partition_max_bytes=partition_max_bytes,
        current_leader_epoch=current_leader_epoch,
    )
    named = FetchTopic(
        topic="" if isinstance(topic, UUID) else topic,
        topic_id=topic if isinstance(topic, UUID) else ZERO_UUID,
        partitions=(part,),
    )
    return FetchRequest(max_wait_ms=max_wait_ms, min_bytes=min_bytes, max_bytes=max_bytes, topics=(named,))


def batch_of(*values: bytes, timestamp: int = 1_700_000_000_000, step: int = 0, **header: Any) -> bytes:
    """A batch with these values, the first at `timestamp` (ms), each next one `step` later."""
    records = [Record(value=value, timestamp=timestamp + index * step) for index, value in enumerate(values)]
    return encode_batch(records, **header)


def sequenced(count: int, first: int, *, producer_id: int, epoch: int = 0) -> bytes:
    """A batch of an idempotent producer with `count` records whose first sequence is `first`."""
    values = [b"%d" % (first + index) for index in range(count)]
    return batch_of(*values, producer_id=producer_id, producer_epoch=epoch, base_sequence=first)


def offsets_in(records: bytes | bytearray | memoryview | None) -> list[tuple[int, int]]:
    """First and last offset of each batch."""
    return [(header.base_offset, header.last_offset) for header, _ in split_batches(records or b"", allow_partial=True)]


def patched(batch: bytes, position: int, replacement: Sequence[int]) -> bytes:
    """The batch with other bytes at `position`; its checksum stays as it was."""
    copy = bytearray(batch)
    copy[position : position + len(replacement)] = bytes(replacement)
    return bytes(copy)


def resealed(batch: bytes, position: int, replacement: Sequence[int]) -> bytes:
    """The batch with other bytes at `position` and a correct checksum."""
    from penstock._native import crc32c

    copy = bytearray(patched(batch, position, replacement))
    copy[17:21] = struct.pack(">I", crc32c(bytes(copy[21:])))
    return bytes(copy)
