"""DescribeConfigs, versions 1 to 4, for topics and for this broker.

Simplifications: a broker describes only the settings that it has; there are no dynamic settings and no documentation;
synonyms are the topic's own value and the default.
"""

from typing import Final

from penstock.devbroker import placement
from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.topic_config import BOOLEAN, INT, SETTINGS, STRING
from penstock.devbroker.topics import Topic
from penstock.protocol.messages import index
from penstock.protocol.messages.describe_configs import (
    DescribeConfigsRequest,
    DescribeConfigsResource,
    DescribeConfigsResourceResult,
    DescribeConfigsResponse,
    DescribeConfigsResult,
    DescribeConfigsSynonym,
)

_TOPIC, _BROKER = 2, 4
SOURCE_TOPIC, SOURCE_STATIC_BROKER, SOURCE_DEFAULT = 1, 4, 5


async def handle(context: Context, request: DescribeConfigsRequest) -> DescribeConfigsResponse:
    """Describe each resource independently."""
    # Each setting once: a small request must not cause an unbounded answer.
    resources = {(resource.resource_type, resource.resource_name): resource for resource in request.resources}
    return DescribeConfigsResponse(results=tuple(_result(context, each, request) for each in resources.values()))


def _result(
    context: Context, resource: DescribeConfigsResource, request: DescribeConfigsRequest
) -> DescribeConfigsResult:
    code, message = int(ErrorCode.NONE), ""
    configs: tuple[DescribeConfigsResourceResult, ...] = ()
    try:
        injected = context.error_before() or context.error_after()
        if injected:
            code, message = injected, "a scripted fault"
        else:
            described = _describe(context, resource, with_synonyms=request.include_synonyms)
            wanted = resource.configuration_keys
            configs = tuple(entry for entry in described if wanted is None or entry.name in wanted)
    except RequestError as error:
        code, message = error.code, error.message
    return DescribeConfigsResult(
        error_code=code,
        error_message=message or None,
        resource_type=resource.resource_type,
        resource_name=resource.resource_name,
        configs=configs,
    )


def _describe(
    context: Context, resource: DescribeConfigsResource, *, with_synonyms: bool
) -> list[DescribeConfigsResourceResult]:
    name = resource.resource_name
    if resource.resource_type == _TOPIC:
        placement.check_name(name)
        topic = context.state.topics.get(name)
        if topic is None:
            raise RequestError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "")
        return [_topic_entry(context, topic, setting, with_synonyms=with_synonyms) for setting in SETTINGS]
    if resource.resource_type == _BROKER:
        if name not in ("", str(context.node.node_id)):
            raise RequestError(ErrorCode.INVALID_REQUEST, f"this is broker {context.node.node_id}, not {name!r}")
        return [] if not name else _broker_entries(context)
    raise RequestError(ErrorCode.INVALID_REQUEST, f"resources of type {resource.resource_type} are not described here")


def value_and_source(context: Context, topic: Topic, name: str) -> tuple[str, int]:
    """The value of a topic setting, and its source."""
    if name in topic.configs:
        return topic.configs[name], SOURCE_TOPIC
    default = SETTINGS[name].default
    value = context.state.settings.topic_defaults.get(name, default)
    return value, SOURCE_DEFAULT if value == default else SOURCE_STATIC_BROKER


def _topic_entry(context: Context, topic: Topic, name: str, *, with_synonyms: bool) -> DescribeConfigsResourceResult:
    value, source = value_and_source(context, topic, name)
    synonyms = [DescribeConfigsSynonym(name=name, value=value, source=source)]
    if source != SOURCE_DEFAULT:
        synonyms.append(DescribeConfigsSynonym(name=name, value=SETTINGS[name].default, source=SOURCE_DEFAULT))
    return DescribeConfigsResourceResult(
        name=name,
        value=value,
        config_source=source,
        synonyms=tuple(synonyms) if with_synonyms else (),
        config_type=SETTINGS[name].kind if context.version >= 3 else 0,
        documentation=None,
    )


def _broker_entries(context: Context) -> list[DescribeConfigsResourceResult]:
    settings = context.state.settings
    entries = (
        ("auto.create.topics.enable", str(settings.auto_create_topics).lower(), BOOLEAN),
        ("broker.rack", context.node.rack, STRING),
        ("default.replication.factor", str(settings.replication_factor), INT),
        ("message.max.bytes", str(settings.max_message_bytes), INT),
        ("node.id", str(context.node.node_id), INT),
        ("num.partitions", str(settings.num_partitions), INT),
        ("socket.request.max.bytes", str(settings.max_request_bytes), INT),
    )
    return [
        DescribeConfigsResourceResult(
            name=name,
            value=value,
            read_only=True,
            config_source=SOURCE_STATIC_BROKER,
            config_type=kind if context.version >= 3 else 0,
            documentation=None,
        )
        for name, value, kind in entries
    ]


API: Final = Handler(index.DESCRIBE_CONFIGS, DescribeConfigsRequest, handle)
