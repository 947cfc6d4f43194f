"""The APIs and versions of this client, and the encoding of requests and responses.

Sans-IO: this file uses no sockets. A frame on the wire is a 4-byte big-endian length and then the result of
`encode_request`, or the argument of `decode_response`; the caller handles the length.
"""

from typing import Final, TypeVar

from penstock.protocol.message import Api, Request, Response
from penstock.protocol.messages import index
from penstock.protocol.messages.headers import RequestHeader, ResponseHeader
from penstock.protocol.primitives import Buffer, ProtocolError, Reader, Writer

R = TypeVar("R", bound=Response)

CLIENT_APIS: Final = {
    api.key: api
    for api in (
        index.PRODUCE,
        index.FETCH,
        index.LIST_OFFSETS,
        index.METADATA,
        index.FIND_COORDINATOR,
        index.SASL_HANDSHAKE,
        index.API_VERSIONS,
        index.CREATE_TOPICS,
        index.DELETE_TOPICS,
        index.INIT_PRODUCER_ID,
        index.SASL_AUTHENTICATE,
        index.CREATE_PARTITIONS,
        index.DESCRIBE_CLUSTER,
        index.DESCRIBE_CONFIGS,
    )
}
"""API key → the API in all versions of the definitions (Produce: 3 to 13)."""


_UNSUPPORTED_VERSION: Final = 35


class NoCommonVersionError(ProtocolError):
    """Broker and client have no version of an API in common."""


def request_header_version(api: Api, version: int) -> int:
    """The version of the header before a request (KIP-482: 2 carries tagged fields)."""
    return 2 if version >= api.flexible_from else 1


def response_header_version(api: Api, version: int) -> int:
    """The version of the header before a response.

    ApiVersions always has version 0: a broker that does not support the request's version answers with version 0 of the
    response, and the client cannot know that before it has read the header (KIP-511).
    """
    return 1 if version >= api.flexible_from and api.key != index.API_VERSIONS.key else 0


def negotiate(api: Api, broker_min: int, broker_max: int) -> int:
    """The highest version of `api` that both this client and the broker support.

    `broker_min` and `broker_max` come from the broker's ApiVersions response. Raises `NoCommonVersionError` if there is
    none.
    """
    version = min(api.max_version, broker_max)
    if version < max(api.min_version, broker_min):
        raise NoCommonVersionError(
            f"{api.name} (API key {api.key}): this client supports versions {api.min_version} to {api.max_version}, "
            f"the broker {broker_min} to {broker_max}"
        )
    return version


def encode_request(message: Request, version: int, correlation_id: int, client_id: str | None) -> bytes:
    """Header and body of a request, without the 4-byte length of the frame."""
    message.check_version(version)
    header = RequestHeader(
        request_api_key=message.API_KEY,
        request_api_version=version,
        correlation_id=correlation_id,
        client_id=client_id,
    )
    writer = Writer()
    header.write(writer, 2 if version >= message.FLEXIBLE_FROM else 1)
    message.write(writer, version)
    return writer.getvalue()


def decode_response(message: type[R], version: int, frame: Buffer) -> tuple[int, R]:
    """Correlation id and body of a response of `version`; `frame` is without its 4-byte length.

    Raises `ProtocolError` for anything malformed, bytes left over included. Record batches in the answer are views of
    `frame`. An ApiVersions response with the error UNSUPPORTED_VERSION is read in version 0, whatever was requested: it
    lists the versions that the broker supports (KIP-511).
    """
    message.check_version(version)
    reader = Reader(frame)
    api = index.APIS[message.API_KEY]
    header = ResponseHeader.read(reader, response_header_version(api, version))
    if api is index.API_VERSIONS and Reader(frame[reader.position :]).int16() == _UNSUPPORTED_VERSION:
        version = 0
    response = message.read(reader, version)
    reader.end(f"{message.__name__} version {version}")
    return header.correlation_id, response


def decode_request_header(frame: Buffer) -> tuple[RequestHeader, Reader]:
    """The header of a request, and a reader at the start of its body; `frame` is without its 4-byte length.

    For the broker's side. The header's version follows from the API and version in its first bytes; an API or version
    that the definitions here lack raises `ProtocolError`, except for ApiVersions: from version 3 on its header is read
    as version 2, since a client uses its newest version first and must get an answer.
    """
    peek = Reader(frame)
    key, version = peek.int16(), peek.int16()
    api = index.APIS.get(key)
    if api is None:
        raise ProtocolError(f"there is no API with key {key} here")
    if version < 0 or (version > api.max_version and api is not index.API_VERSIONS):
        raise ProtocolError(
            f"{api.name} (API key {key}) has no version {version} here, only {api.min_version} to {api.max_version}"
        )
    reader = Reader(frame)
    return RequestHeader.read(reader, request_header_version(api, version)), reader


def encode_response(message: Response, version: int, correlation_id: int) -> bytes:
    """Header and body of a response, without the 4-byte length of the frame; for the broker's side."""
    message.check_version(version)
    writer = Writer()
    header_version = response_header_version(index.APIS[message.API_KEY], version)
    ResponseHeader(correlation_id=correlation_id).write(writer, header_version)
    message.write(writer, version)
    return writer.getvalue()
