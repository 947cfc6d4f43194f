"""The choice of a version, and the frames of requests and responses."""

import pytest

from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.metadata import MetadataResponse
from penstock.protocol.messages.sasl_handshake import SaslHandshakeRequest, SaslHandshakeResponse
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.versions import (
    CLIENT_APIS,
    NoCommonVersionError,
    decode_request_header,
    decode_response,
    encode_request,
    encode_response,
    negotiate,
    request_header_version,
    response_header_version,
)


@pytest.mark.parametrize(
    ("broker", "chosen"), [((0, 7), 7), ((3, 13), 13), ((0, 99), 13), ((13, 20), 13), ((0, 3), 3), ((9, 9), 9)]
)
def test_the_highest_common_version_is_chosen(broker: tuple[int, int], chosen: int) -> None:
    assert negotiate(index.PRODUCE, *broker) == chosen


@pytest.mark.parametrize("broker", [(0, 2), (14, 20)])
def test_without_a_common_version_the_error_names_both_ranges(broker: tuple[int, int]) -> None:
    with pytest.raises(NoCommonVersionError, match=rf"Produce .* 3 to 13, the broker {broker[0]} to {broker[1]}"):
        negotiate(index.PRODUCE, *broker)


def test_the_client_produces_with_versions_3_to_13() -> None:
    assert (CLIENT_APIS[0].min_version, CLIENT_APIS[0].max_version) == (3, 13)


@pytest.mark.parametrize(
    ("api", "version", "request_header", "response_header"),
    [
        (index.PRODUCE, 8, 1, 0),
        (index.PRODUCE, 9, 2, 1),
        (index.SASL_HANDSHAKE, 1, 1, 0),
        (index.API_VERSIONS, 2, 1, 0),
        (index.API_VERSIONS, 5, 2, 0),
    ],
)
def test_header_versions(api: index.Api, version: int, request_header: int, response_header: int) -> None:
    assert request_header_version(api, version) == request_header
    assert response_header_version(api, version) == response_header


def test_a_request_is_its_header_and_its_body() -> None:
    plain = encode_request(SaslHandshakeRequest(mechanism="PLAIN"), 1, 7, "me")
    assert plain.hex() == "0011" + "0001" + "00000007" + "00026d65" + "0005504c41494e"
    flexible = encode_request(ApiVersionsRequest(client_software_name="p"), 3, 7, None)
    assert flexible.hex() == "0012" + "0003" + "00000007" + "ffff" + "00" + "0270" + "01" + "00"


@pytest.mark.parametrize("version", [0, 8, 9, 13])
def test_a_response_is_read_back_with_its_correlation_id(version: int) -> None:
    frame = encode_response(MetadataResponse(controller_id=-1), version, 42)
    assert decode_response(MetadataResponse, version, frame) == (42, MetadataResponse())


def test_bytes_after_a_response_are_an_error() -> None:
    with pytest.raises(ProtocolError, match="left over"):
        decode_response(SaslHandshakeResponse, 0, encode_response(SaslHandshakeResponse(), 0, 1) + b"\0")


def test_an_unsupported_api_versions_request_is_answered_in_version_0() -> None:
    frame = encode_response(ApiVersionsResponse(error_code=35), 0, 9)
    assert decode_response(ApiVersionsResponse, 5, frame) == (9, ApiVersionsResponse(error_code=35))


@pytest.mark.parametrize("frame", [b"", b"\0\0\0\1", b"\0\0\0\1\0"])
def test_cut_off_responses_are_protocol_errors(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_response(ApiVersionsResponse, 4, frame)


def test_a_request_header_is_read_and_the_body_follows() -> None:
    header, reader = decode_request_header(encode_request(SaslHandshakeRequest(mechanism="X"), 1, 5, "me"))
    assert (header.request_api_key, header.request_api_version, header.correlation_id) == (17, 1, 5)
    assert SaslHandshakeRequest.read(reader, 1) == SaslHandshakeRequest(mechanism="X")


def test_the_header_of_a_future_api_versions_request_is_read() -> None:
    header, _ = decode_request_header(bytes.fromhex("0012" + "0063" + "00000007" + "ffff" + "00"))
    assert (header.request_api_version, header.correlation_id) == (99, 7)


@pytest.mark.parametrize("frame", ["", "0012", "0012ffff00000007ffff", "03e70000", "0003006300000007ffff00"])
def test_request_headers_that_cannot_be_read_are_protocol_errors(frame: str) -> None:
    with pytest.raises(ProtocolError):
        decode_request_header(bytes.fromhex(frame))
