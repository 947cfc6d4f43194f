"""DescribeCluster, versions 0 to 2.

Simplifications: there are no controllers to describe (endpoint type 2) and no fenced brokers.
"""

from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.devbroker.handlers.metadata import ALL_CLUSTER_OPERATIONS
from penstock.protocol.messages import index
from penstock.protocol.messages.describe_cluster import (
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)

_BROKERS, _CONTROLLERS = 1, 2


async def handle(context: Context, request: DescribeClusterRequest) -> DescribeClusterResponse:
    """Return the brokers."""
    error = context.error_before() or context.error_after()
    if not error and request.endpoint_type != _BROKERS:
        mismatch = request.endpoint_type == _CONTROLLERS
        error = ErrorCode.MISMATCHED_ENDPOINT_TYPE if mismatch else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE
    if error:
        return DescribeClusterResponse(error_code=error, error_message="only brokers can be described here")
    state = context.state
    wanted = request.include_cluster_authorized_operations
    return DescribeClusterResponse(
        cluster_id=state.cluster_id,
        controller_id=state.controller,
        brokers=tuple(
            DescribeClusterBroker(broker_id=node.node_id, host=node.host, port=node.port, rack=node.rack)
            for node in state.nodes.values()
            if node.alive
        ),
        cluster_authorized_operations=ALL_CLUSTER_OPERATIONS if wanted else -(1 << 31),
    )


API: Final = Handler(index.DESCRIBE_CLUSTER, DescribeClusterRequest, handle)
