"""DeleteTopics, versions 1 to 6 (by name or id from 6).

Simplification: records are deleted at once, file.delete.delay.ms is ignored.
"""

import uuid
from collections.abc import Iterable
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.devbroker.faults import Target
from penstock.protocol.messages import index
from penstock.protocol.messages.delete_topics import (
    DeletableTopicResult,
    DeleteTopicsRequest,
    DeleteTopicsResponse,
    DeleteTopicState,
)
from penstock.protocol.primitives import ZERO_UUID

_IDS_FROM: Final = 6


async def handle(context: Context, request: DeleteTopicsRequest) -> DeleteTopicsResponse:
    """Delete the topics, each independently."""
    return DeleteTopicsResponse(responses=tuple(_delete(context, asked) for asked in _asked(context, request)))


def _asked(context: Context, request: DeleteTopicsRequest) -> Iterable[DeleteTopicState]:
    if context.version >= _IDS_FROM:
        return request.topics
    return [DeleteTopicState(name=name) for name in request.topic_names]


def _delete(context: Context, asked: DeleteTopicState) -> DeletableTopicResult:
    by_id = asked.name is None
    topic = context.find_topic(asked.name, asked.topic_id, by_id=by_id)
    if not by_id and asked.topic_id != ZERO_UUID:
        return _result(context, asked.name, asked.topic_id, ErrorCode.INVALID_REQUEST, "both name and id are given")
    if topic is None:
        code = ErrorCode.UNKNOWN_TOPIC_ID if by_id else ErrorCode.UNKNOWN_TOPIC_OR_PARTITION
        return _result(context, asked.name, asked.topic_id, code, "there is no such topic")
    injected = context.error_before(topic.name)
    if injected:
        return _result(context, topic.name, topic.topic_id, injected, "a scripted fault")
    context.state.delete_topic(topic)
    return _result(context, topic.name, topic.topic_id, context.error_after(topic.name), None)


def _result(
    context: Context, name: str | None, topic_id: uuid.UUID, code: int, message: str | None
) -> DeletableTopicResult:
    return DeletableTopicResult(
        name=name,
        topic_id=topic_id if context.version >= _IDS_FROM else ZERO_UUID,
        error_code=code,
        error_message=message if context.version >= 5 and code else None,
    )


def _targets(context: Context, request: DeleteTopicsRequest) -> Iterable[Target]:
    return ((asked.name or context.topic_name(asked.topic_id), -1) for asked in _asked(context, request))


API: Final = Handler(index.DELETE_TOPICS, DeleteTopicsRequest, handle, _targets)
