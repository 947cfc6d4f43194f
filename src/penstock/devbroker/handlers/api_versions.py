"""ApiVersions, versions 0 to 5.

An unsupported version gets the answer UNSUPPORTED_VERSION in version 0, so that the client can send the request again (KIP-511).
In version 5 the client names the cluster and node that it expects (KIP-1242); a broker that is another one answers
REBOOTSTRAP_REQUIRED.

Simplification: no features are announced.
"""

import re
from typing import Final

from penstock.devbroker.context import Context, Handler
from penstock.devbroker.errors import ErrorCode
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse

# The allowed form of the client's name and version (KIP-511): in Kafka they become parts of metric names.
_SOFTWARE: Final = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


async def handle(context: Context, request: ApiVersionsRequest) -> ApiVersionsResponse:
    """Return the supported APIs and versions."""
    error = context.error_before() or _expected_broker_error(context, request)
    if error:
        return ApiVersionsResponse(error_code=error)
    keys = tuple(
        ApiVersion(api_key=key, min_version=handler.announced_earliest, max_version=handler.latest)
        for key, handler in sorted(context.offered.items())
    )
    return ApiVersionsResponse(error_code=context.error_after(), api_keys=keys)


def _expected_broker_error(context: Context, request: ApiVersionsRequest) -> int:
    if context.version >= 3:
        names = request.client_software_name, request.client_software_version
        if not all(map(_SOFTWARE.fullmatch, names)):
            return ErrorCode.INVALID_REQUEST
    if request.cluster_id is not None and request.cluster_id != context.state.cluster_id:
        return ErrorCode.REBOOTSTRAP_REQUIRED
    if request.node_id >= 0 and request.node_id != context.node.node_id:
        return ErrorCode.REBOOTSTRAP_REQUIRED
    return ErrorCode.NONE


def unsupported_version() -> ApiVersionsResponse:
    """The answer, in version 0, to an unsupported version."""
    own = ApiVersion(api_key=API.api.key, min_version=API.api.min_version, max_version=API.latest)
    return ApiVersionsResponse(error_code=ErrorCode.UNSUPPORTED_VERSION, api_keys=(own,))


API: Final = Handler(index.API_VERSIONS, ApiVersionsRequest, handle)
