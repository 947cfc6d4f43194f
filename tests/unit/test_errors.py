"""The tree of errors: complete, faithful to Kafka's codes, and the same after copying and pickling."""

from __future__ import annotations

import builtins
import copy
import pickle
from typing import Any

import pytest

from penstock import errors
from penstock.errors import ERROR_BY_CODE, KafkaError, delivery_error, error_for_code, error_name

ALL_CLASSES = sorted(
    (it for it in vars(errors).values() if isinstance(it, type) and issubclass(it, KafkaError)),
    key=lambda it: it.__name__,
)
CONTEXT: dict[str, Any] = {
    "code": 6,
    "name": "A_NAME",
    "topic": "orders",
    "partition": 3,
    "broker": "1 (host:9092)",
    "attempts": 4,
    "stage": "retry",
    "possibly_persisted": True,
    "hint": "Do something.",
}
FAILED: dict[str, Any] = {
    "code": 0,
    "kind": "broker",
    "stage": "in flight",
    "topic": "orders",
    "partition": 3,
    "broker": 1,
    "attempts": 2,
    "possibly_persisted": False,
    "message": None,
    "elapsed_ms": 1234,
    "record_error": None,
}
every_class = pytest.mark.parametrize("cls", ALL_CLASSES, ids=lambda it: it.__name__)


def same(one: KafkaError, other: KafkaError) -> bool:
    mine, theirs = dict(vars(one)), dict(vars(other))
    causes = mine.pop("cause", None), theirs.pop("cause", None)
    alike = type(causes[0]) is type(causes[1]) and str(causes[0]) == str(causes[1])
    return type(one) is type(other) and one.args == other.args and mine == theirs and alike


def test_every_error_code_of_kafka_4_4_has_a_class() -> None:
    assert sorted(ERROR_BY_CODE) == [-1, *range(1, 137)]
    assert all(cls.code == code and cls.name for code, cls in ERROR_BY_CODE.items())
    assert len({cls.name for cls in ERROR_BY_CODE.values()}) == len(ERROR_BY_CODE)


@every_class
def test_no_class_shadows_a_builtin_and_each_has_a_docstring(cls: type[KafkaError]) -> None:
    assert not hasattr(builtins, cls.__name__)
    assert cls.__name__.endswith("Error")
    assert cls.__doc__
    assert cls.__module__ == "penstock.errors"


@every_class
def test_pickles_and_copies_carry_every_attribute(cls: type[KafkaError]) -> None:
    error = cls("what happened", cause=OSError(111, "refused"), **CONTEXT)
    error.add_note("seen in a test")
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert same(twin, error)
        assert {name: getattr(twin, name) for name in CONTEXT} == CONTEXT
        assert isinstance(twin.__cause__, OSError)
        assert str(twin) == str(error)


@every_class
def test_a_message_is_optional(cls: type[KafkaError]) -> None:
    assert str(cls())
    assert same(pickle.loads(pickle.dumps(cls())), cls())


def test_a_subclass_with_a_constructor_of_its_own_pickles() -> None:
    error = PickyError("orders", 7)
    assert pickle.loads(pickle.dumps(error)).limit == 7


class PickyError(KafkaError):
    def __init__(self, topic: str, limit: int) -> None:
        super().__init__(f"more than {limit}", topic=topic)
        self.limit = limit


def test_a_missing_attribute_comes_from_the_class() -> None:
    error = errors.RecordTooLargeError("it is 2 bytes")
    assert (error.code, error.name, error.retriable) == (10, "MESSAGE_TOO_LARGE", False)
    assert (error.topic, error.partition, error.broker, error.attempts, error.stage, error.cause) == (None,) * 6
    assert error.possibly_persisted is False
    assert "max.request.size" in error.hint


def test_the_text_has_the_message_the_place_and_the_hint() -> None:
    error = errors.NotEnoughReplicasError("2 replicas are needed.", topic="orders", partition=3, broker=1, attempts=1)
    assert str(error) == (
        "2 replicas are needed (topic orders, partition 3, broker 1, 1 attempt). "
        "Bring the missing brokers back, or lower min.insync.replicas of the topic."
    )
    assert error.message == "2 replicas are needed."


def test_the_text_of_a_failed_record_states_whether_it_may_be_in_the_log() -> None:
    assert str(KafkaError("lost", stage="linger")) == "lost (stage: linger, not persisted)"
    assert str(KafkaError("lost", possibly_persisted=True)) == "lost (possibly persisted)"


def test_a_timeout_is_a_builtin_timeout_too() -> None:
    with pytest.raises(TimeoutError, match="too late"):
        raise errors.KafkaTimeoutError("too late")
    assert issubclass(errors.BufferExhaustedError, errors.KafkaTimeoutError)


def test_a_configuration_error_is_a_value_error_too() -> None:
    assert isinstance(errors.ConfigError("no", setting="acks"), ValueError)
    assert errors.ConfigError("no", setting="acks").setting == "acks"


def test_categories_follow_kip_1050() -> None:
    assert errors.is_retriable(19)
    assert not errors.needs_refresh(19)
    assert errors.is_retriable(6)
    assert errors.needs_refresh(6)
    assert not errors.is_retriable(10)
    assert not errors.is_retriable(0)
    assert not errors.is_retriable(999)
    assert issubclass(errors.TransactionAbortableError, errors.AbortableError)
    assert issubclass(errors.ProducerFencedError, errors.ApplicationRecoverableError)
    assert issubclass(errors.TopicAuthorizationError, errors.InvalidConfigurationError)
    assert ERROR_BY_CODE[40] is errors.InvalidConfigurationError


def test_names_of_codes() -> None:
    assert [error_name(code) for code in (0, 3, -1, 999)] == [
        "NONE",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "UNKNOWN_SERVER_ERROR",
        "UNKNOWN_ERROR_999",
    ]


def test_a_code_becomes_its_error_with_the_broker_s_message() -> None:
    error = error_for_code(87, "Compacted topic cannot accept message without key", topic="orders")
    assert type(error) is errors.InvalidRecordError
    assert error.message == "INVALID_RECORD: Compacted topic cannot accept message without key"
    assert error.topic == "orders"


def test_the_name_of_a_code_is_not_repeated() -> None:
    text = "PRODUCER_FENCED from the leader of t-0: a newer one is there"
    assert error_for_code(90, text).message == text
    assert error_for_code(90, "PRODUCER_FENCEDNESS").message == "PRODUCER_FENCED: PRODUCER_FENCEDNESS"


def test_the_hint_of_a_fenced_producer_fits_one_without_transactions_too() -> None:
    hint = error_for_code(90).hint
    assert hint == "Close this producer and create a new one. With a transactional.id, run one producer per id."


def test_a_topic_that_is_no_name_is_quoted_and_shortened() -> None:
    for topic, shown in (
        ("plain", "topic plain"),
        ("", "topic ''"),
        ("two words", "topic 'two words'"),
        ("a" * 249, "topic " + "a" * 249),
        ("a" * 250, f"topic {'a' * 60!r}…"),
    ):
        assert str(KafkaError("no", topic=topic)) == f"no ({shown})"


def test_a_code_without_a_message_gets_an_explanation() -> None:
    assert "not the partition's leader" in str(error_for_code(6))


def test_an_unknown_code_is_an_unknown_server_error_with_that_code() -> None:
    error = error_for_code(999, topic="orders")
    assert type(error) is errors.UnknownServerError
    assert (error.code, error.name, error.retriable, error.topic) == (999, "UNKNOWN_ERROR_999", False, "orders")
    assert "999" in str(error)


def test_a_delivery_error_counts_and_shows_the_first() -> None:
    first = errors.RecordTooLargeError("2 MB")
    error = errors.DeliveryError(count=7, errors=[first])
    assert (error.count, error.errors, error.cause, error.__cause__) == (7, (first,), first, first)
    assert str(error).startswith("7 records were not delivered; the first error: 2 MB")
    assert errors.DeliveryError(count=1).message == "1 record was not delivered"


class TestDeliveryError:
    """The error of a failed record, as native code makes it."""

    def test_refused_by_the_broker(self) -> None:
        error = delivery_error(**FAILED | {"code": 10, "message": "too big"})
        assert type(error) is errors.RecordTooLargeError
        assert error.message == "MESSAGE_TOO_LARGE: too big"
        assert (error.topic, error.partition, error.broker, error.attempts, error.stage) == (
            "orders",
            3,
            1,
            2,
            "in flight",
        )

    def test_failed_because_another_batch_failed(self) -> None:
        error = delivery_error(**FAILED | {"message": "an earlier batch of its partition failed"})
        assert type(error) is errors.KafkaError
        assert error.message == "not delivered: an earlier batch of its partition failed"

    def test_the_broker_blamed_this_record(self) -> None:
        error = delivery_error(**FAILED | {"code": 87, "message": "batch refused", "record_error": "no key"})
        assert error.message == "INVALID_RECORD: batch refused; no key"

    def test_the_same_text_is_not_repeated(self) -> None:
        error = delivery_error(**FAILED | {"code": 87, "message": "no key", "record_error": "no key"})
        assert error.message == "INVALID_RECORD: no key"

    def test_a_single_blamed_record_fails_with_the_answer_s_error(self) -> None:
        error = delivery_error(**FAILED | {"code": 32, "message": "refused", "record_error": "too old", "blamed": 1})
        assert type(error) is errors.InvalidTimestampError
        assert error.message == "INVALID_TIMESTAMP: refused; too old"

    def test_of_several_blamed_records_each_is_an_invalid_record(self) -> None:
        """The answer has one code for all of them (Java: `Sender.failBatch`)."""
        error = delivery_error(**FAILED | {"code": 32, "record_error": "no key", "blamed": 2})
        assert type(error) is errors.InvalidRecordError
        assert "no key" in str(error)

    def test_the_other_records_of_a_refused_batch_fail_with_another_error(self) -> None:
        error = delivery_error(**FAILED | {"code": 87, "message": "no key", "blamed": 2})
        assert type(error) is errors.KafkaError
        assert type(error.cause) is errors.InvalidRecordError
        assert "2 records in it, not for this one" in str(error)
        assert (error.possibly_persisted, error.topic, error.stage) == (False, "orders", "in flight")

    def test_expired_after_a_broker_s_error(self) -> None:
        error = delivery_error(**FAILED | {"kind": "timeout", "code": 19, "stage": "retry", "possibly_persisted": True})
        assert type(error) is errors.KafkaTimeoutError
        assert isinstance(error.cause, errors.NotEnoughReplicasError)
        assert error.possibly_persisted
        for text in ("1234 ms", "waiting to be sent again", "NOT_ENOUGH_REPLICAS", "2 attempts", "possibly persisted"):
            assert text in str(error)

    @pytest.mark.parametrize("stage", ["metadata", "buffer", "linger", "in flight", "retry", "elsewhere"])
    def test_expired_in_any_stage(self, stage: str) -> None:
        error = delivery_error(**FAILED | {"kind": "timeout", "stage": stage, "broker": -1, "partition": -1})
        assert error.stage == stage
        assert error.broker is None
        assert error.partition is None
        assert error.cause is None
        assert error.hint

    def test_expired_behind_an_older_record_of_its_batch(self) -> None:
        error = delivery_error(**FAILED | {"kind": "timeout", "stage": "linger", "batch_ms": 120_034})
        assert error.message == (
            "not delivered: after about 1234 ms the record was still waiting in the buffer, never sent"
        )

    def test_expired_as_the_first_of_its_batch(self) -> None:
        error = delivery_error(**FAILED | {"kind": "timeout", "stage": "linger", "batch_ms": 1234})
        assert error.message == "not delivered: after 1234 ms the record was still waiting in the buffer, never sent"

    @pytest.mark.parametrize("kind", ["closed", "internal"])
    def test_a_closed_or_failed_producer_with_an_older_batch(self, kind: str) -> None:
        error = delivery_error(**FAILED | {"kind": kind, "batch_ms": 120_034})
        assert "about 1234 ms after send" in error.message
        assert "120034" not in error.message

    def test_closed_aborted_and_internal(self) -> None:
        kinds = {kind: type(delivery_error(**FAILED | {"kind": kind})) for kind in ("closed", "aborted", "internal")}
        assert kinds == {
            "closed": errors.ProducerClosedError,
            "aborted": errors.TransactionAbortedError,
            "internal": errors.InternalError,
        }

    def test_closing_is_named_once(self) -> None:
        error = delivery_error(**FAILED | {"kind": "closed"})
        assert error.message == "the producer was closed 1234 ms after send, before the record was acknowledged"

    def test_contradictory_arguments_are_an_internal_error_and_no_crash(self) -> None:
        assert type(delivery_error(**FAILED)) is errors.InternalError
        assert type(delivery_error(**FAILED | {"kind": "?"})) is errors.InternalError
