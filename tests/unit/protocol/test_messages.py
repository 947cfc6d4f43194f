"""Properties of generated messages beyond round trips (those are in tests/property)."""

import pickle

import pytest
from protocol_catalogue import MESSAGE_VERSIONS, MessageVersion

from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.fetch import FetchRequest
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic
from penstock.protocol.messages.produce import PartitionProduceData, ProduceRequest, TopicProduceData
from penstock.protocol.primitives import ProtocolError


def test_a_message_is_an_immutable_value_without_a_dictionary() -> None:
    request = MetadataRequest(topics=(MetadataRequestTopic(name="a"),))
    with pytest.raises(AttributeError):
        request.topics = None  # type: ignore[misc]
    assert not hasattr(request, "__dict__")
    assert request == pickle.loads(pickle.dumps(request))
    assert hash(request) == hash(MetadataRequest(topics=(MetadataRequestTopic(name="a"),)))


def test_fields_are_keywords_only() -> None:
    with pytest.raises(TypeError):
        ApiVersionsRequest("name")  # type: ignore[misc]


@pytest.mark.parametrize("of", MESSAGE_VERSIONS, ids=str)
def test_class_attributes_agree_with_the_index(of: MessageVersion) -> None:
    message = of.type
    assert message.MIN_VERSION <= of.version <= message.MAX_VERSION
    if of.kind != "header":
        api = index.APIS[message.API_KEY]
        assert (api.min_version, api.max_version) == (message.MIN_VERSION, message.MAX_VERSION)
        assert api.flexible_from == message.FLEXIBLE_FROM
        assert of.name in (f"{api.name}Request", f"{api.name}Response")


@pytest.mark.parametrize("version", [-1, 2, 14])
def test_unknown_versions_are_refused(version: int) -> None:
    with pytest.raises(ProtocolError, match=f"ProduceRequest has no version {version}, only 3 to 13"):
        ProduceRequest().encode(version)
    with pytest.raises(ProtocolError, match="only 3 to 13"):
        ProduceRequest.decode(b"", version)


def test_the_error_about_a_value_names_its_field() -> None:
    request = MetadataRequest(allow_auto_topic_creation=False)
    assert MetadataRequest.decode(request.encode(4), 4) == request
    with pytest.raises(ProtocolError, match=r"MetadataRequest\.allow_auto_topic_creation .* version 3 "):
        request.encode(3)


def test_the_error_about_none_names_its_field() -> None:
    assert MetadataRequest(topics=None).encode(1) == b"\xff\xff\xff\xff"
    with pytest.raises(ProtocolError, match=r"MetadataRequest\.topics is None, .* version 0"):
        MetadataRequest(topics=None).encode(0)


def test_ignorable_fields_are_left_out_of_versions_without_them() -> None:
    assert ApiVersionsRequest(client_software_name="penstock").encode(0) == b""


def test_fields_that_the_version_lacks_are_decoded_as_their_defaults() -> None:
    request = FetchRequest.decode(FetchRequest(max_wait_ms=7).encode(4), 4)
    assert (request.max_wait_ms, request.session_epoch, request.rack_id) == (7, -1, "")


def test_unknown_tagged_fields_are_skipped() -> None:
    response = ApiVersionsResponse(api_keys=(ApiVersion(api_key=3, max_version=1),))
    encoded = response.encode(3)
    assert encoded.endswith(b"\0")
    assert ApiVersionsResponse.decode(encoded[:-1] + b"\x01\x63\x02hi", 3) == response


def test_a_known_tagged_field_must_fill_its_size() -> None:
    encoded = ApiVersionsResponse(zk_migration_ready=True).encode(3)
    assert encoded.endswith(b"\x01\x03\x01\x01")
    with pytest.raises(ProtocolError, match="left over after tagged field 3 of ApiVersionsResponse"):
        ApiVersionsResponse.decode(encoded[:-3] + b"\x03\x02\x01\x01", 3)


def test_records_are_encoded_from_any_bytes_like_object() -> None:
    encoded = {
        ProduceRequest(
            topic_data=(TopicProduceData(name="t", partition_data=(PartitionProduceData(records=records),)),)
        ).encode(3)
        for records in (b"abc", bytearray(b"abc"), memoryview(b"xabc")[1:])
    }
    assert len(encoded) == 1
