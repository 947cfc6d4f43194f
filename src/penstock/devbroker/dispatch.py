"""Handles one request frame: header, handler, scripted faults, response frame."""

import asyncio
import logging
import struct
from typing import Final

from penstock.devbroker.context import CloseConnection, Context, Handler
from penstock.devbroker.faults import Fault, SeenRequest
from penstock.devbroker.handlers import HANDLERS, api_versions
from penstock.devbroker.state import ClusterState
from penstock.devbroker.topics import NodeInfo
from penstock.protocol.message import Request, Response, replace
from penstock.protocol.messages.headers import RequestHeader, ResponseHeader
from penstock.protocol.primitives import ProtocolError, Reader, Writer
from penstock.protocol.versions import decode_request_header, response_header_version

logger = logging.getLogger(__name__)

_LENGTH: Final = struct.Struct(">i")


async def answer(state: ClusterState, node: NodeInfo, frame: bytes) -> bytearray | None:
    """The answer to a request with its 4-byte length; None if the request expects no answer.

    Raises `CloseConnection` with the reason if the connection must be closed.
    """
    try:
        header, reader = decode_request_header(frame)
        handler = _handler(header)
        if handler is None:
            # The client's version is too new. It reads an answer of version 0 and sends the request again (KIP-511).
            return encode(api_versions.unsupported_version(), api_versions.API, 0, header.correlation_id)
        request = _decode(handler, header, reader)
    except ProtocolError as error:
        raise CloseConnection(f"malformed or unsupported request: {error}") from None
    context = Context(state, node, header.request_api_version, header.client_id, HANDLERS)
    fault = state.faults.take(
        handler.api.name, node.node_id, header.client_id, lambda: handler.targets(context, request)
    )
    state.requests.note(
        SeenRequest(handler.api.name, context.version, node.node_id, _shortened(header.client_id), fault)
    )
    if fault is None:
        response = await handler.handle(context, request)
    else:
        context.fault = fault
        response = await _with_fault(context, handler, request, fault)
    return None if response is None else encode(response, handler, context.version, header.correlation_id)


def _handler(header: RequestHeader) -> Handler | None:
    """The handler; None for an ApiVersions request in a version that is not offered."""
    handler = HANDLERS.get(header.request_api_key)
    if handler is None:
        raise ProtocolError(f"API key {header.request_api_key} is not offered")
    if handler.supports(header.request_api_version):
        return handler
    if handler is api_versions.API:
        return None
    raise ProtocolError(f"{handler.api.name} version {header.request_api_version} is not offered")


def _shortened(client_id: str | None) -> str | None:
    """Thousands of client ids are kept, and one can be 32 KB long."""
    return None if client_id is None else client_id[:200]


def _decode(handler: Handler, header: RequestHeader, reader: Reader) -> Request:
    request = handler.request.read(reader, header.request_api_version)
    reader.end(f"{handler.api.name} request version {header.request_api_version}")
    return request


async def _with_fault(context: Context, handler: Handler, request: Request, fault: Fault) -> Response | None:
    logger.info("node %d: %s meets %s", context.node.node_id, handler.api.name, fault)
    if fault.close:
        raise CloseConnection(f"a scripted fault before {handler.api.name}")
    if fault.delay_ms:
        await asyncio.sleep(fault.delay_ms / 1000)
    response = await handler.handle(context, request)
    if fault.drop == "close":
        raise CloseConnection(f"a scripted fault after {handler.api.name}")
    if fault.drop == "silent" or response is None:
        return None
    if fault.throttle_time_ms and hasattr(response, "throttle_time_ms"):
        response = replace(response, throttle_time_ms=fault.throttle_time_ms)
    return response


def encode(response: Response, handler: Handler, version: int, correlation_id: int) -> bytearray:
    """The frame of a response; in one buffer, because answers to Fetch are large."""
    writer = Writer()
    writer.int32(0)
    ResponseHeader(correlation_id=correlation_id).write(writer, response_header_version(handler.api, version))
    response.write(writer, version)
    _LENGTH.pack_into(writer.buffer, 0, len(writer.buffer) - _LENGTH.size)
    return writer.buffer
