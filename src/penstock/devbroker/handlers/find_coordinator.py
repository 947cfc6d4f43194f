"""FindCoordinator, versions 0 to 6.

Simplification: there are no coordinators. For a group the answer is COORDINATOR_NOT_AVAILABLE: a consumer that has a
group id but only reads assigned partitions can work without. For a transactional id it is
TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which a producer reports at once; it does not retry it.
"""

from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.protocol.messages import index
from penstock.protocol.messages.find_coordinator import (
    Coordinator,
    FindCoordinatorRequest,
    FindCoordinatorResponse,
)

_GROUP, _TRANSACTION = 0, 1
_SEVERAL_FROM: Final = 4
_ANSWERS: Final = {
    _GROUP: (ErrorCode.COORDINATOR_NOT_AVAILABLE, "there are no consumer groups on this development broker"),
    _TRANSACTION: (
        ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        "there are no transactions on this development broker",
    ),
}


async def handle(context: Context, request: FindCoordinatorRequest) -> FindCoordinatorResponse:
    """Answer that there is no coordinator."""
    known = _ANSWERS.get(request.key_type, (ErrorCode.INVALID_REQUEST, "there is no such type of coordinator"))
    code: int = context.error_before() or context.error_after() or known[0]
    if context.version < _SEVERAL_FROM:
        return FindCoordinatorResponse(
            error_code=code, error_message=known[1] if context.version >= 1 else None, node_id=-1, port=-1
        )
    return FindCoordinatorResponse(
        coordinators=tuple(
            Coordinator(key=key, node_id=-1, port=-1, error_code=code, error_message=known[1])
            for key in request.coordinator_keys
        )
    )


API: Final = Handler(index.FIND_COORDINATOR, FindCoordinatorRequest, handle)
