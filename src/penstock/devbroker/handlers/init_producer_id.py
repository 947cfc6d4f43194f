"""InitProducerId, versions 0 to 5 (6 is a preview that Kafka does not offer by default either).

Each request of an idempotent producer gets a new id with epoch 0.

Simplification: no transactions. A transactional id is refused with TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which every
client treats as permanent; it does not retry it.
"""

from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.protocol.messages import index
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse


async def handle(context: Context, request: InitProducerIdRequest) -> InitProducerIdResponse:
    """Assign a producer id."""
    error = context.error_before()
    if not error and request.transactional_id is not None:
        invalid = not request.transactional_id
        error = ErrorCode.INVALID_REQUEST if invalid else ErrorCode.TRANSACTIONAL_ID_AUTHORIZATION_FAILED
    producer_id = -1 if error else context.state.next_producer_id()
    error = error or context.error_after()
    if error:
        return InitProducerIdResponse(error_code=error, producer_id=-1, producer_epoch=-1)
    return InitProducerIdResponse(producer_id=producer_id, producer_epoch=0)


API: Final = Handler(index.INIT_PRODUCER_ID, InitProducerIdRequest, handle, max_version=5)
