"""The requests of `penstock topics` to a cluster, and the errors that they raise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from penstock._reader import Cluster
from penstock.errors import KafkaError, NetworkError, error_for_code
from penstock.protocol.message import Request, Response
from penstock.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from penstock.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse
from penstock.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
)
from penstock.protocol.messages.metadata import MetadataResponse, MetadataResponseTopic
from penstock.protocol.primitives import ProtocolError

_TOPIC: Final = 2  # the resource type
_FROM_TOPIC: Final = 1  # a setting's source: the topic itself, not a broker or the default
_TIMEOUT_MS: Final = 10_000

R = TypeVar("R", bound=Response)


class Admin:
    """Topics of a cluster. Use it from one thread. Every method raises `KafkaError`."""

    def __init__(self, bootstrap_servers: str) -> None:
        """Connects at the first request."""
        self._cluster = Cluster(bootstrap_servers)

    def close(self) -> None:
        """Close all connections."""
        self._cluster.close()

    def topics(self) -> list[MetadataResponseTopic]:
        """All topics, internal ones included, by name."""
        return sorted(self._cluster.metadata(None).topics, key=lambda topic: topic.name or "")

    def topic(self, name: str) -> MetadataResponseTopic:
        """One topic. The request does not create it."""
        return _named(self._cluster.metadata([name]), name)

    def topic_configs(self, name: str) -> list[DescribeConfigsResourceResult]:
        """The topic's settings that differ from the broker's own."""
        resource = DescribeConfigsResource(resource_type=_TOPIC, resource_name=name, configuration_keys=None)
        answer = self._request(DescribeConfigsRequest(resources=(resource,)), DescribeConfigsResponse)
        for result in answer.results:
            _raise_for(result.error_code, result.error_message, name)
        return [config for result in answer.results for config in result.configs if config.config_source == _FROM_TOPIC]

    def create(self, name: str, partitions: int, replication_factor: int, configs: Mapping[str, str]) -> None:
        """Create a topic; -1 is the broker's default, also for partitions."""
        topic = CreatableTopic(
            name=name,
            num_partitions=partitions,
            replication_factor=replication_factor,
            configs=tuple(CreatableTopicConfig(name=key, value=value) for key, value in configs.items()),
        )
        request = CreateTopicsRequest(topics=(topic,), timeout_ms=_TIMEOUT_MS)
        for result in self._request(request, CreateTopicsResponse).topics:
            _raise_for(result.error_code, result.error_message, name)

    def delete(self, names: Sequence[str]) -> dict[str, KafkaError]:
        """Delete topics; returns the errors of the topics that were not deleted."""
        request = DeleteTopicsRequest(topic_names=tuple(names), timeout_ms=_TIMEOUT_MS)
        answer = self._request(request, DeleteTopicsResponse)
        return {
            result.name or "": error_for_code(result.error_code, result.error_message, topic=result.name)
            for result in answer.responses
            if result.error_code
        }

    def _request(self, request: Request, response: type[R]) -> R:
        """Send to the controller. A KRaft broker forwards the request, a broker of an older cluster does not."""
        metadata = self._cluster.metadata([])
        nodes = [broker.node_id for broker in metadata.brokers]
        node = metadata.controller_id if metadata.controller_id in nodes else nodes[0]
        with _as_kafka_error(node):
            return self._cluster.node(node).request(request, response)


def _named(metadata: MetadataResponse, name: str) -> MetadataResponseTopic:
    for topic in metadata.topics:
        if topic.name == name:
            _raise_for(topic.error_code, None, name)
            return topic
    raise error_for_code(3, topic=name)


def _raise_for(code: int, message: str | None, topic: str) -> None:
    if code:
        raise error_for_code(code, message, topic=topic)


@contextlib.contextmanager
def _as_kafka_error(node: int) -> Iterator[None]:
    try:
        yield
    except (OSError, ProtocolError) as error:
        raise NetworkError(str(error), broker=node, cause=error) from error
