"""Every message in every version: encoding and decoding are inverse, and hostile bytes raise only ProtocolError."""

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.protocol.primitives import ProtocolError

sys.path.append(str(Path(__file__).parents[1] / "unit" / "protocol"))

from protocol_catalogue import MESSAGE_VERSIONS, MessageVersion, values

every_message_version = pytest.mark.parametrize("of", MESSAGE_VERSIONS, ids=str)
deterministic = settings(
    derandomize=True,
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@every_message_version
@deterministic
@given(data=st.data())
def test_an_encoded_message_decodes_to_an_equal_one(of: MessageVersion, data: st.DataObject) -> None:
    message = data.draw(values(of))
    encoded = message.encode(of.version)
    decoded = of.type.decode(encoded, of.version)
    assert decoded == message
    assert decoded.encode(of.version) == encoded


@every_message_version
@deterministic
@given(data=st.data())
def test_truncated_messages_are_refused(of: MessageVersion, data: st.DataObject) -> None:
    encoded = data.draw(values(of)).encode(of.version)
    for size in {0, len(encoded) // 2, len(encoded) - 1, data.draw(st.integers(0, len(encoded)))} - {len(encoded)}:
        if size >= 0:
            with pytest.raises(ProtocolError):
                of.type.decode(encoded[:size], of.version)
    with pytest.raises(ProtocolError, match="left over"):
        of.type.decode(encoded + b"\0", of.version)


@every_message_version
@deterministic
@given(data=st.data())
def test_mutated_bytes_raise_protocol_error_or_decode_to_something_writable(
    of: MessageVersion, data: st.DataObject
) -> None:
    hostile = bytearray(data.draw(values(of)).encode(of.version))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(hostile)))
        hostile[at : at + data.draw(st.integers(0, 4))] = data.draw(_SPLINTERS)
    _decodes_or_refuses(of, bytes(hostile))


@every_message_version
@deterministic
@given(hostile=st.binary(max_size=120))
def test_arbitrary_bytes_raise_protocol_error_or_decode_to_something_writable(
    of: MessageVersion, hostile: bytes
) -> None:
    _decodes_or_refuses(of, hostile)


_SPLINTERS = st.sampled_from(
    [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff\xff\xff\xff\x0f", b"\xff" * 10, b"\xc3\x28", b"\0"]
) | st.binary(max_size=4)


def _decodes_or_refuses(of: MessageVersion, hostile: bytes) -> None:
    try:
        message = of.type.decode(hostile, of.version)
    except ProtocolError:
        return
    assert of.type.decode(message.encode(of.version), of.version) == message
