"""CreatePartitions, versions 0 to 3.

Simplification: the timeout is ignored, partitions exist at once.
"""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode, RequestError
from penstock.devbroker.faults import Target
from penstock.protocol.messages import index
from penstock.protocol.messages.create_partitions import (
    CreatePartitionsRequest,
    CreatePartitionsResponse,
    CreatePartitionsTopic,
    CreatePartitionsTopicResult,
)


async def handle(context: Context, request: CreatePartitionsRequest) -> CreatePartitionsResponse:
    """Add partitions to each topic independently."""
    named = Counter(topic.name for topic in request.topics)
    results = [
        CreatePartitionsTopicResult(name=name, error_code=ErrorCode.INVALID_REQUEST, error_message="Duplicate topic")
        for name, times in named.items()
        if times > 1
    ]
    results += [
        _add(context, topic, validate_only=request.validate_only) for topic in request.topics if named[topic.name] == 1
    ]
    return CreatePartitionsResponse(results=tuple(results))


def _add(context: Context, asked: CreatePartitionsTopic, *, validate_only: bool) -> CreatePartitionsTopicResult:
    error: int = context.error_before(asked.name)
    message: str | None = "a scripted fault" if error else None
    if not error:
        assignment = [entry.broker_ids for entry in asked.assignments or ()] or None
        try:
            topic = context.state.topics.get(asked.name)
            context.spend_partitions(asked.count - len(topic.partitions) if topic else 0)
            context.state.add_partitions(asked.name, asked.count, assignment, validate_only=validate_only)
        except RequestError as refused:
            error, message = refused.code, refused.message
    return CreatePartitionsTopicResult(
        name=asked.name, error_code=error or context.error_after(asked.name), error_message=message
    )


def _targets(_: Context, request: CreatePartitionsRequest) -> Iterable[Target]:
    return ((topic.name, -1) for topic in request.topics)


API: Final = Handler(index.CREATE_PARTITIONS, CreatePartitionsRequest, handle, _targets)
