"""The code of a trouble that the control plane reports reaches the user, and `FailProducer` fails in the way that it says."""

from __future__ import annotations

from functools import partial
from typing import get_args

import pytest

from penstock import errors, serialization
from penstock._native import DeliveryFuture, Engine, Sender, SteppedEngine
from penstock.config import ProducerConfig
from penstock.control import boundary
from penstock.control.boundary import (
    FailBuffered,
    FailProducer,
    FailTopic,
    FailureKind,
    PartitionLeader,
    SetBrokerStatus,
    SetStatus,
    SetTopic,
    Trouble,
)

WRONG_PASSWORD = Trouble(58, "one:9092: wrong password")
KNOWN = SetTopic("t", bytes(range(16)), 1, (PartitionLeader(1, 0, False),))


class Rig:
    """A sender on an engine that is stepped by hand; the test is the control plane."""

    def __init__(self, max_block_ms: int = 20, **options: int) -> None:
        settings = ProducerConfig(bootstrap_servers="one:9092", linger_ms=0, **options).settings  # type: ignore[arg-type]
        self.engine = Engine(settings, seed=1)
        self.stepped = SteppedEngine(self.engine)
        value = partial(serialization.serialize, serialization.BytesSerializer(), setting="value.serializer")
        self.sender: Sender[bytes, bytes] = Sender()
        self.sender._attach(
            self.engine,
            key_serializer=value,
            value_serializer=value,
            key_fast="bytes",
            value_fast="bytes",
            partitioner=None,
            interceptors=None,
            warn_waiting=lambda *_: None,
            max_block_ms=max_block_ms,
        )

    def do(self, *commands: boundary.Command) -> None:
        self.engine.exchange(commands, 0)
        self.stepped.run_once()

    def send(self) -> DeliveryFuture:
        return self.sender.send("t", b"v")

    def expire(self) -> None:
        """delivery.timeout.ms passes."""
        self.stepped.set_now_us(200_000_000)
        self.stepped.run_once()


def _wrong_password(error: BaseException | None) -> None:
    assert isinstance(error, errors.KafkaError)
    cause = error.__cause__
    assert isinstance(cause, errors.SaslAuthenticationError)
    assert (cause.code, error.cause) == (58, cause)
    assert "wrong password" in str(cause)
    assert "wrong password" in str(error)


def test_a_send_that_times_out_on_metadata_has_the_code() -> None:
    rig = Rig()
    rig.do(SetStatus(WRONG_PASSWORD))
    with pytest.raises(errors.KafkaTimeoutError, match=r"max\.block\.ms") as raised:
        rig.send()
    _wrong_password(raised.value)


def test_the_code_of_the_topic_comes_first() -> None:
    rig = Rig()
    rig.do(SetStatus(WRONG_PASSWORD), FailTopic("t", Trouble(3, "UNKNOWN_TOPIC_OR_PARTITION"), False))
    with pytest.raises(errors.KafkaTimeoutError) as raised:
        rig.send()
    assert isinstance(raised.value.__cause__, errors.UnknownTopicOrPartitionError)


def test_without_a_trouble_there_is_no_cause() -> None:
    rig = Rig()
    rig.do(SetStatus(WRONG_PASSWORD), SetStatus(Trouble()))
    with pytest.raises(errors.KafkaTimeoutError) as raised:
        rig.send()
    assert raised.value.__cause__ is None


def test_a_final_error_of_a_topic_is_raised_itself() -> None:
    rig = Rig()
    rig.do(FailTopic("t", Trouble(17, "INVALID_TOPIC_EXCEPTION"), True))
    with pytest.raises(errors.InvalidTopicError):
        rig.send()


def test_a_send_that_times_out_on_memory_has_the_code() -> None:
    rig = Rig(buffer_memory=1 << 14, batch_size=1 << 14)
    rig.do(SetStatus(WRONG_PASSWORD), KNOWN)
    rig.sender.send("t", bytes(10_000))
    with pytest.raises(errors.BufferExhaustedError) as raised:
        rig.sender.send("t", bytes(10_000))
    _wrong_password(raised.value)


@pytest.mark.parametrize(
    "status", [SetBrokerStatus(1, WRONG_PASSWORD), SetStatus(WRONG_PASSWORD)], ids=lambda status: type(status).__name__
)
def test_a_record_that_expires_unsent_has_the_code(status: boundary.Command) -> None:
    rig = Rig()
    rig.do(KNOWN, status)
    future = rig.send()
    rig.expire()
    error = future.exception(0)
    assert isinstance(error, errors.KafkaTimeoutError)
    _wrong_password(error)


def test_a_record_that_close_fails_has_the_code() -> None:
    rig = Rig()
    rig.do(KNOWN, SetStatus(WRONG_PASSWORD))
    future = rig.send()
    rig.stepped.shut_down()
    error = future.exception(0)
    assert isinstance(error, errors.ProducerClosedError)
    _wrong_password(error)


@pytest.mark.parametrize(
    ("kind", "code", "future_error", "send_error"),
    [
        ("unresolved", 0, errors.KafkaError, errors.KafkaError),
        ("broker", 31, errors.ClusterAuthorizationError, errors.ClusterAuthorizationError),
        ("broker", 58, errors.SaslAuthenticationError, errors.SaslAuthenticationError),
        ("aborted", 0, errors.TransactionAbortedError, errors.KafkaError),
        ("internal", 0, errors.InternalError, errors.InternalError),
    ],
)
def test_a_fatal_error_is_raised_by_futures_and_send(
    kind: FailureKind, code: int, future_error: type[Exception], send_error: type[Exception]
) -> None:
    rig = Rig()
    rig.do(KNOWN)
    future = rig.send()
    rig.do(FailProducer(kind, Trouble(code, "it is so")))
    assert type(future.exception(0)) is future_error
    assert "it is so" in str(future.exception(0))
    with pytest.raises(send_error, match="it is so") as raised:
        rig.send()
    assert type(raised.value) is send_error


def test_buffered_records_fail_with_the_code_and_later_records_are_taken() -> None:
    rig = Rig()
    rig.do(KNOWN)
    future = rig.send()
    rig.do(FailBuffered("broker", Trouble(31, "not yet")))
    assert isinstance(future.exception(0), errors.ClusterAuthorizationError)
    assert not rig.send().done()


def test_a_failed_control_plane_is_an_internal_error() -> None:
    rig = Rig()
    rig.do(KNOWN)
    future = rig.send()
    rig.engine.fail("the control thread failed")
    rig.stepped.run_once()
    assert isinstance(future.exception(0), errors.InternalError)


def test_each_kind_of_failure_has_an_error_class() -> None:
    expected = {
        "broker": errors.KafkaError,
        "timeout": errors.KafkaTimeoutError,
        "closed": errors.ProducerClosedError,
        "aborted": errors.TransactionAbortedError,
        "purged": errors.RecordPurgedError,
        "refused": errors.KafkaError,
        "unresolved": errors.KafkaError,
        "internal": errors.InternalError,
    }
    assert set(expected) == set(get_args(FailureKind))
    for kind, error in expected.items():
        made = errors.delivery_error(
            code=0,
            kind=kind,
            stage="linger",
            topic="t",
            partition=0,
            broker=-1,
            attempts=0,
            possibly_persisted=False,
            message="so",
            elapsed_ms=1,
            record_error=None,
        )
        assert type(made) is error
        assert kind == "purged" or "so" in str(made), "only the application knows why it purges"
