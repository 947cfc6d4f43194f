"""Creating, changing, deleting and describing topics and the cluster: scripts for both brokers, see `kafka_scripts`."""

from __future__ import annotations

import time
from typing import Any

from kafka_scripts import NEW_ID, create, script
from raw_client import RawClient

from penstock.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
)
from penstock.protocol.messages.create_topics import (
    CreatableReplicaAssignment,
    CreatableTopic,
    CreatableTopicConfig,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from penstock.protocol.messages.delete_topics import DeleteTopicsRequest, DeleteTopicsResponse, DeleteTopicState
from penstock.protocol.messages.describe_cluster import DescribeClusterRequest, DescribeClusterResponse
from penstock.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResponse,
)
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.primitives import ZERO_UUID

# Topics.


@script([(17, -1, -1)] * 7)
def illegal_names(client: RawClient, topic: str) -> Any:
    names = ("", ".", "..", "a/b", "a b", "ä", "x" * 250)
    return [create(client, name=name) for name in names]


@script([(0, 3, 1), (36, -1, -1), (0, 2, 1), (0, 1, 1), 3, (17, -1, -1)])
def topics_are_created_once(client: RawClient, topic: str) -> Any:
    name = topic + ".new"
    seen: list[Any] = [create(client, name=name, num_partitions=3), create(client, name=name)]
    seen.append(create(client, name=name + "2", num_partitions=2, validate_only=True))
    seen.append(create(client, name=name + "3", num_partitions=-1, replication_factor=-1))
    seen.append(client.metadata(name + "2").topics[0].error_code)
    seen.append(create(client, name=topic + "_new"))
    return seen


@script([37, 37, 38, 38, 38, 40, 40, 40, 42, 39, 39, 0])
def topics_that_cannot_be_created(client: RawClient, topic: str) -> Any:
    name = topic + "-other"

    def assigned(*partitions: tuple[int, tuple[int, ...]], **values: Any) -> Any:
        entries = tuple(CreatableReplicaAssignment(partition_index=i, broker_ids=nodes) for i, nodes in partitions)
        return create(client, **{"num_partitions": -1, "replication_factor": -1, "assignments": entries, **values})[0]

    def configured(key: str, value: str | None) -> Any:
        return create(client, name=name, configs=(CreatableTopicConfig(name=key, value=value),))[0]

    return [
        create(client, name=name, num_partitions=0)[0],
        create(client, name=name, num_partitions=-2)[0],
        create(client, name=name, replication_factor=0)[0],
        create(client, name=name, replication_factor=2)[0],
        create(client, name=name, replication_factor=-2)[0],
        configured("no.such.setting", "1"),
        configured("retention.bytes", "many"),
        configured("max.message.bytes", "-5"),
        assigned((0, (1,)), name=name, num_partitions=1),
        assigned((1, (1,)), name=name),
        assigned((0, (1, 1)), name=name),
        assigned((0, (1,)), (1, (1,)), name=name),
    ]


@script([(42,), 1])
def a_name_twice_in_one_request(client: RawClient, topic: str) -> Any:
    asked = CreatableTopic(name=topic + "-twice", num_partitions=1, replication_factor=1)
    answer = client.ask(CreateTopicsRequest(topics=(asked, asked)), CreateTopicsResponse, 7)
    return [tuple(result.error_code for result in answer.topics), len(answer.topics)]


@script([0, 37, 37, 3, 0, 4])
def more_partitions(client: RawClient, topic: str) -> Any:
    seen = []
    for name, count, only in (
        (topic, 3, True),
        (topic, 2, False),
        (topic, 1, False),
        (topic + "x", 3, False),
        (topic, 4, False),
    ):
        asked = CreatePartitionsTopic(name=name, count=count, assignments=None)
        request = CreatePartitionsRequest(topics=(asked,), timeout_ms=10_000, validate_only=only)
        seen.append(client.ask(request, CreatePartitionsResponse, 3).results[0].error_code)
    # Kafka's brokers receive the new partitions a moment after the answer.
    deadline = time.monotonic() + 10
    while (known := len(client.metadata(topic).topics[0].partitions)) < 4 and time.monotonic() < deadline:
        pass
    return [*seen, known]


@script([(0, True), (3, True), (100, True), (0, True), 3])
def topics_are_deleted(client: RawClient, topic: str) -> Any:
    other = topic + "-by-id"
    other_id = client.create_topic(other)

    def delete(asked: DeleteTopicState) -> tuple[int, bool]:
        request = DeleteTopicsRequest(topics=(asked,), timeout_ms=10_000)
        result = client.ask(request, DeleteTopicsResponse, 6).responses[0]
        return result.error_code, result.name in (asked.name, other)

    seen: list[Any] = [delete(DeleteTopicState(name=topic)), delete(DeleteTopicState(name=topic))]
    seen += [delete(DeleteTopicState(topic_id=NEW_ID)), delete(DeleteTopicState(topic_id=other_id))]
    return [*seen, client.metadata(topic).topics[0].error_code]


# Metadata and Describe requests.


@script([(0, 2), (3, 0), (17, 0), (100, None, 0), (0, 2)])
def metadata_of_topics(client: RawClient, topic: str) -> Any:
    named = client.metadata(topic, topic + "-not", "not/legal").topics
    by_name = {entry.name: entry for entry in named}
    seen: list[Any] = [
        (by_name[name].error_code, len(by_name[name].partitions)) for name in (topic, topic + "-not", "not/legal")
    ]
    asked = tuple(MetadataRequestTopic(topic_id=each, name=None) for each in (NEW_ID, by_name[topic].topic_id))
    answers = client.ask(MetadataRequest(topics=asked, allow_auto_topic_creation=False), MetadataResponse, 12).topics
    by_id = {entry.topic_id: entry for entry in answers}
    unknown, known = by_id[NEW_ID], by_id[by_name[topic].topic_id]
    return [
        *seen,
        (unknown.error_code, unknown.name, len(unknown.partitions)),
        (known.error_code, len(known.partitions)),
    ]


@script([[(42, ""), (42, "t")], [(42, ""), (42, "t")], [(42, "")]])
def topic_ids_in_versions_without_them(client: RawClient, topic: str) -> Any:
    def errors(version: int, *asked: MetadataRequestTopic) -> list[tuple[int, str | None]]:
        request = MetadataRequest(topics=asked, allow_auto_topic_creation=False)
        answer = client.ask(request, MetadataResponse, version)
        return sorted((entry.error_code, (entry.name or "").replace(topic, "t")) for entry in answer.topics)

    nameless, named = MetadataRequestTopic(topic_id=ZERO_UUID, name=None), MetadataRequestTopic(name=topic)
    with_id = MetadataRequestTopic(topic_id=NEW_ID, name=None)
    return [errors(10, nameless, named), errors(11, nameless, named), errors(11, with_id)]


@script([(version, 1, [(0, 1, (1,), (1,)), (1, 1, (1,), (1,))]) for version in range(14)])
def every_version_of_metadata(client: RawClient, topic: str) -> Any:
    seen = []
    for version in range(14):
        create = version < 4  # older versions cannot decline it
        answer = client.metadata(topic, version=version, create=create)
        partitions = [
            (part.partition_index, part.leader_id, part.replica_nodes, part.isr_nodes)
            for part in sorted(answer.topics[0].partitions, key=lambda part: part.partition_index)
        ]
        seen.append((version, len(answer.brokers), partitions))
    return seen


@script([True, True, True, 0])
def all_topics_or_none(client: RawClient, topic: str) -> Any:
    everything = client.ask(MetadataRequest(topics=None), MetadataResponse, 12).topics
    at_first = client.ask(MetadataRequest(topics=()), MetadataResponse, 0).topics
    found = [topic in {entry.name for entry in topics} for topics in (everything, at_first)]
    return [*found, len(everything) == len(at_first), len(client.metadata().topics)]


@script([3576, 8096, -(1 << 31), 8096])
def operations_are_all_authorised(client: RawClient, topic: str) -> Any:
    asked = (MetadataRequestTopic(name=topic),)
    request = MetadataRequest(
        topics=asked, include_cluster_authorized_operations=True, include_topic_authorized_operations=True
    )
    answer = client.ask(request, MetadataResponse, 9)
    without = client.metadata(topic)
    cluster = client.ask(DescribeClusterRequest(include_cluster_authorized_operations=True), DescribeClusterResponse, 1)
    return [
        answer.topics[0].topic_authorized_operations,
        answer.cluster_authorized_operations,
        without.topics[0].topic_authorized_operations,
        cluster.cluster_authorized_operations,
    ]


@script([(0, 1, 1), (114, 0, -1)])
def the_cluster_describes_itself(client: RawClient, topic: str) -> Any:
    answers = [client.ask(DescribeClusterRequest(endpoint_type=kind), DescribeClusterResponse, 1) for kind in (1, 2)]
    return [(answer.error_code, len(answer.brokers), answer.controller_id) for answer in answers]


@script([0, ("1048588", 5), True, 3, 17, 42])
def configs_of_a_topic(client: RawClient, topic: str) -> Any:
    def describe(kind: int, name: str) -> Any:
        resource = DescribeConfigsResource(resource_type=kind, resource_name=name, configuration_keys=None)
        request = DescribeConfigsRequest(resources=(resource,))
        return client.ask(request, DescribeConfigsResponse, 4).results[0]

    described = describe(2, topic)
    entry = next(config for config in described.configs if config.name == "max.message.bytes")
    names = {config.name for config in described.configs}
    return [
        described.error_code,
        (entry.value, entry.config_source),
        {"cleanup.policy", "retention.ms", "segment.bytes", "min.insync.replicas"} <= names,
        describe(2, topic + "-not").error_code,
        describe(2, "not/legal").error_code,
        describe(4, "99").error_code,
    ]
