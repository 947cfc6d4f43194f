"""CreateTopics, versions 2 to 7. Any node creates topics; a client needs no controller.

Simplifications: the timeout is ignored, a topic exists at once; most settings are stored without effect (see
`penstock.devbroker.topic_config`).
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Target
from penstock.devbroker.handlers.describe_configs import value_and_source
from penstock.devbroker.topic_config import SETTINGS
from penstock.devbroker.topics import Topic
from penstock.protocol.messages import index
from penstock.protocol.messages.create_topics import (
    CreatableTopic,
    CreatableTopicConfigs,
    CreatableTopicResult,
    CreateTopicsRequest,
    CreateTopicsResponse,
)
from penstock.protocol.primitives import ZERO_UUID

_DETAILS_FROM: Final = 5


async def handle(context: Context, request: CreateTopicsRequest) -> CreateTopicsResponse:
    """Create the topics, each independently."""
    named = Counter(topic.name for topic in request.topics)
    # One answer for all topics of the same name, as in Kafka.
    results = [
        _failed(name, ErrorCode.INVALID_REQUEST, "Duplicate topic name.") for name, times in named.items() if times > 1
    ]
    results += [
        _create(context, asked, validate_only=request.validate_only)
        for asked in request.topics
        if named[asked.name] == 1
    ]
    return CreateTopicsResponse(topics=tuple(results))


def _create(context: Context, asked: CreatableTopic, *, validate_only: bool) -> CreatableTopicResult:
    injected = context.error_before(asked.name)
    if injected:
        return _failed(asked.name, injected, "a scripted fault")
    try:
        assignment = _assignment(asked)
        context.spend_partitions(len(assignment) if assignment else asked.num_partitions)
        topic = context.state.create_topic(
            asked.name,
            asked.num_partitions,
            asked.replication_factor,
            {config.name: config.value for config in asked.configs},
            assignment,
            validate_only=validate_only,
        )
    except RequestError as error:
        return _failed(asked.name, error.code, error.message)
    injected = context.error_after(asked.name)
    if injected:
        return _failed(asked.name, injected, "a scripted fault, after the topic was created")
    return _created(context, topic, validate_only=validate_only)


def _assignment(asked: CreatableTopic) -> list[tuple[int, ...]] | None:
    if not asked.assignments:
        return None
    if asked.num_partitions != -1 or asked.replication_factor != -1:
        raise RequestError(
            ErrorCode.INVALID_REQUEST, "a manual assignment goes with -1 partitions and replication factor -1"
        )
    replicas = {entry.partition_index: entry.broker_ids for entry in asked.assignments}
    if sorted(replicas) != list(range(len(asked.assignments))):
        raise RequestError(
            ErrorCode.INVALID_REPLICA_ASSIGNMENT, "the partitions of a manual assignment must be consecutive from 0 on"
        )
    return [replicas[number] for number in range(len(replicas))]


def _created(context: Context, topic: Topic, *, validate_only: bool) -> CreatableTopicResult:
    if context.version < _DETAILS_FROM:
        return CreatableTopicResult(name=topic.name, error_message=None)
    configs = []
    for name in SETTINGS:
        value, source = value_and_source(context, topic, name)
        configs.append(CreatableTopicConfigs(name=name, value=value, config_source=source))
    return CreatableTopicResult(
        name=topic.name,
        topic_id=ZERO_UUID if validate_only else topic.topic_id,
        error_message=None,
        num_partitions=len(topic.partitions),
        replication_factor=len(topic.partitions[0].replicas),
        configs=tuple(configs),
    )


def _failed(name: str, code: int, message: str) -> CreatableTopicResult:
    return CreatableTopicResult(name=name, error_code=code, error_message=message)


def _targets(_: Context, request: CreateTopicsRequest) -> Iterable[Target]:
    return ((topic.name, -1) for topic in request.topics)


API: Final = Handler(index.CREATE_TOPICS, CreateTopicsRequest, handle, _targets)
