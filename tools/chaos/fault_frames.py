"""Kafka's frames in the fault proxy: reads requests and changes answers. No sockets, no clock.

Penstock's Python codec reads and writes them here; its data plane has another one, in Rust. A frame of an unknown API or
version stays opaque and passes unchanged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from fault_rules import Rule, Target

from penstock.protocol.message import Request, Response, replace
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from penstock.protocol.messages.fetch import FetchRequest, FetchResponse
from penstock.protocol.messages.find_coordinator import FindCoordinatorRequest, FindCoordinatorResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponse
from penstock.protocol.messages.produce import (
    PartitionProduceResponse,
    ProduceRequest,
    ProduceResponse,
    TopicProduceResponse,
)
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.versions import (
    decode_request_header,
    decode_response,
    encode_request,
    encode_response,
)

Address = tuple[str, int]
TopicNames = MutableMapping[UUID, str]
"""Topic id → name, from metadata answers; it resolves requests that name topics by id."""

INVENTED_PARTITION = 9_999
_UNSUPPORTED_VERSION = 35

_KNOWN: Mapping[int, tuple[type[Request], type[Response]]] = {
    request.API_KEY: (request, response)
    for request, response in (
        (ProduceRequest, ProduceResponse),
        (FetchRequest, FetchResponse),
        (MetadataRequest, MetadataResponse),
        (FindCoordinatorRequest, FindCoordinatorResponse),
        (ApiVersionsRequest, ApiVersionsResponse),
        (InitProducerIdRequest, InitProducerIdResponse),
        (DescribeClusterRequest, DescribeClusterResponse),
    )
}
# Their answers have addresses: the proxy must be able to read every version that a client uses.
_WITH_ADDRESSES = (
    index.PRODUCE.key,
    index.FETCH.key,
    index.METADATA.key,
    index.FIND_COORDINATOR.key,
    index.DESCRIBE_CLUSTER.key,
)


@dataclass(slots=True)
class Asked:
    """A request: its frame without the length, and its decoded parts."""

    frame: bytes
    key: int
    version: int
    correlation_id: int
    client_id: str | None = None
    message: Request | None = None
    """None: opaque."""
    refused: list[TopicProduceResponse] = field(default_factory=list)
    """Answers for partitions of a Produce request that were not forwarded to the broker."""

    @property
    def api(self) -> str:
        known = index.APIS.get(self.key)
        return known.name if known is not None else f"api {self.key}"

    @property
    def is_answered(self) -> bool:
        """Every request is, except Produce with acks=0."""
        return not (isinstance(self.message, ProduceRequest) and self.message.acks == 0)

    def targets(self, names: Mapping[UUID, str]) -> list[Target]:
        """The topics and partitions of the request."""
        match self.message:
            case ProduceRequest(topic_data=topics):
                return [
                    (_name(topic.name, topic.topic_id, names), partition.index)
                    for topic in topics
                    for partition in topic.partition_data
                ]
            case MetadataRequest(topics=asked) if asked is not None:
                return [(topic.name or names.get(topic.topic_id, ""), -1) for topic in asked]
            case _:
                return []


def read_request(frame: bytes) -> Asked:
    """The decoded parts of a request; never raises: the broker answers invalid requests."""
    if len(frame) < 8:
        return Asked(frame, -1, -1, -1)
    key, version, correlation_id = struct.unpack_from(">hhi", frame)
    asked = Asked(frame, key, version, correlation_id)
    if key not in _KNOWN:
        return asked
    try:
        header, reader = decode_request_header(frame)
        asked.client_id = header.client_id
        asked.message = _KNOWN[key][0].decode(frame[reader.position :], version)
    except ProtocolError:
        pass  # opaque
    return asked


def refuse(asked: Asked, rule: Rule, names: Mapping[UUID, str]) -> bool:
    """Remove the partitions with an error from the request. False: nothing is left to forward."""
    request = asked.message
    if not isinstance(request, ProduceRequest):
        return True  # opaque
    remaining = []
    for topic in request.topic_data:
        name = _name(topic.name, topic.topic_id, names)
        kept = tuple(part for part in topic.partition_data if not rule.fits((name, part.index)))
        refused = tuple(
            PartitionProduceResponse(index=part.index, error_code=rule.error, base_offset=-1)
            for part in topic.partition_data
            if rule.fits((name, part.index))
        )
        if refused:
            asked.refused.append(
                TopicProduceResponse(name=topic.name, topic_id=topic.topic_id, partition_responses=refused)
            )
        if kept:
            remaining.append(replace(topic, partition_data=kept))
    if remaining:
        asked.message = replace(request, topic_data=tuple(remaining))
        asked.frame = encode_request(asked.message, asked.version, asked.correlation_id, asked.client_id)
    return bool(remaining)


def answer_alone(asked: Asked) -> bytes:
    """The answer to a Produce request of which nothing was forwarded."""
    return encode_response(ProduceResponse(responses=tuple(asked.refused)), asked.version, asked.correlation_id)


def change_answer(
    frame: bytes, asked: Asked, rule: Rule | None, addresses: Mapping[int, Address], names: TopicNames
) -> bytes:
    """The answer for the client: every broker with its address at the proxy, changed as the rule says.

    An answer without changes is returned as it is, byte for byte.
    """
    if asked.message is None:
        return frame
    if rule is None and asked.key not in (*_WITH_ADDRESSES, index.API_VERSIONS.key):
        return frame
    try:
        correlation_id, came = decode_response(_KNOWN[asked.key][1], asked.version, frame)
    except ProtocolError:
        return frame  # the client will notice
    if isinstance(came, ApiVersionsResponse) and came.error_code == _UNSUPPORTED_VERSION:
        return frame  # in version 0, whatever was requested
    answer = _readdressed(came, addresses, names)
    if asked.refused:
        assert isinstance(answer, ProduceResponse)
        answer = replace(answer, responses=_merged(answer.responses, asked.refused))
    if rule is not None and rule.changes_answer:
        answer = _CHANGES.get(type(answer), _with_error)(answer, rule, names)
        if rule.throttle_time_ms:
            answer = _replaced(answer, throttle_time_ms=rule.throttle_time_ms)
    return frame if answer == came else encode_response(answer, asked.version, correlation_id)


# ------------------------------------------------------------------------------------------------------------- addresses


def _readdressed(answer: Response, addresses: Mapping[int, Address], names: TopicNames) -> Response:
    match answer:
        case MetadataResponse():
            names.update({topic.topic_id: topic.name for topic in answer.topics if topic.topic_id.int and topic.name})
            return replace(answer, brokers=_here(answer.brokers, "node_id", addresses))
        case DescribeClusterResponse():
            return replace(answer, brokers=_here(answer.brokers, "broker_id", addresses))
        case FindCoordinatorResponse():
            (single,) = _here((answer,), "node_id", addresses)
            return replace(single, coordinators=_here(answer.coordinators, "node_id", addresses))
        case ProduceResponse():
            return replace(answer, node_endpoints=_here(answer.node_endpoints, "node_id", addresses))
        case FetchResponse():
            return replace(answer, node_endpoints=_here(answer.node_endpoints, "node_id", addresses))
        case ApiVersionsResponse():
            return replace(answer, api_keys=tuple(_capped(offer) for offer in answer.api_keys))
        case _:
            return answer


T = TypeVar("T")


def _here(nodes: tuple[T, ...], id_field: str, addresses: Mapping[int, Address]) -> tuple[T, ...]:
    def moved(node: Any) -> Any:
        address = addresses.get(getattr(node, id_field))
        # A coordinator that could not be found has no host.
        return replace(node, host=address[0], port=address[1]) if address is not None and node.host else node

    return tuple(map(moved, nodes))


def _capped(offer: Any) -> Any:
    """No version beyond those that the codec can read, for APIs whose answers have addresses."""
    if offer.api_key not in _WITH_ADDRESSES:
        return offer
    return replace(offer, max_version=min(offer.max_version, index.APIS[offer.api_key].max_version))


# --------------------------------------------------------------------------------------------------------------- changes


def _changed_produce(answer: ProduceResponse, rule: Rule, names: Mapping[UUID, str]) -> ProduceResponse:
    topics = []
    shape = rule.shape
    for topic in answer.responses:
        name = _name(topic.name, topic.topic_id, names)
        partitions: list[PartitionProduceResponse] = []
        for answered in topic.partition_responses:
            partition = answered
            for each in (rule, *rule.also):
                if each.error and each.after_append and each.fits((name, partition.index)):
                    # As a broker that times out waiting for replicas: the offset of the append stays in the answer.
                    partition = replace(partition, error_code=each.error)
            if not rule.fits((name, partition.index)):
                partitions.append(partition)
                continue
            if shape == "omit":
                shape = None
                continue
            partitions.append(partition)
            if shape == "repeat":
                shape = None
                partitions.append(partition)
        if shape == "invent":
            shape = None
            partitions.append(PartitionProduceResponse(index=INVENTED_PARTITION, base_offset=0))
        topics.append(replace(topic, partition_responses=tuple(partitions)))
    return replace(answer, responses=tuple(topics))


def _changed_metadata(answer: MetadataResponse, rule: Rule, _names: Mapping[UUID, str]) -> MetadataResponse:
    def wrong(topic: Any) -> Any:
        if not rule.error or rule.topic not in (None, topic.name):
            return topic
        if rule.partition is None:
            return replace(topic, error_code=rule.error, partitions=())
        partitions = tuple(
            replace(each, error_code=rule.error, leader_id=-1) if each.partition_index == rule.partition else each
            for each in topic.partitions
        )
        return replace(topic, partitions=partitions)

    return replace(answer, topics=tuple(map(wrong, answer.topics)))


def _changed_coordinator(
    answer: FindCoordinatorResponse, rule: Rule, _names: Mapping[UUID, str]
) -> FindCoordinatorResponse:
    if not rule.error:
        return answer
    if answer.coordinators:
        lost = tuple(replace(each, error_code=rule.error, node_id=-1) for each in answer.coordinators)
        return replace(answer, coordinators=lost)
    return replace(answer, error_code=rule.error, node_id=-1)


def _with_error(answer: Response, rule: Rule, _names: Mapping[UUID, str]) -> Response:
    if not rule.error:
        return answer
    if isinstance(answer, InitProducerIdResponse):
        return replace(answer, error_code=rule.error, producer_id=-1, producer_epoch=-1)
    changed: Response = _replaced(answer, error_code=rule.error)
    return changed


_CHANGES: Mapping[type[Response], Callable[[Any, Rule, Mapping[UUID, str]], Response]] = {
    ProduceResponse: _changed_produce,
    MetadataResponse: _changed_metadata,
    FindCoordinatorResponse: _changed_coordinator,
}


def _replaced(answer: Any, **fields: Any) -> Any:
    return replace(answer, **fields)


def _merged(
    answered: tuple[TopicProduceResponse, ...], refused: list[TopicProduceResponse]
) -> tuple[TopicProduceResponse, ...]:
    """One entry per topic, as a broker writes it."""
    topics = {(topic.name, topic.topic_id): topic for topic in answered}
    for topic in refused:
        there = topics.get((topic.name, topic.topic_id))
        before = there.partition_responses if there is not None else ()
        topics[topic.name, topic.topic_id] = replace(topic, partition_responses=before + topic.partition_responses)
    return tuple(topics.values())


def _name(name: str, topic_id: UUID, names: Mapping[UUID, str]) -> str:
    return name or names.get(topic_id, str(topic_id))
