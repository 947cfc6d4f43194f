"""Interceptors: they see everything, and nothing they raise harms a record."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from penstock import ProducerRecord
from penstock.errors import ConfigError, KafkaError
from penstock.interceptor import InterceptorChain, ProducerInterceptor, as_interceptors


class Recorder(ProducerInterceptor):
    """Notes what it sees; adds its letter to the record's value, which is text here."""

    def __init__(self, letter: str = "a") -> None:
        self.letter = letter
        self.seen: list[Any] = []

    def on_send(self, record: Any, /) -> Any:
        return record.replace(value=record.value + self.letter)

    def on_acknowledgement(self, metadata: Any, error: Any, headers: Any, /) -> None:
        self.seen.append((metadata, error, headers))

    def configure(self, configs: Any, /) -> None:
        self.seen.append(configs)

    def close(self) -> None:
        self.seen.append("closed")


class Broken(ProducerInterceptor):
    def on_send(self, record: Any, /) -> Any:
        raise ValueError("broken on_send")

    def on_acknowledgement(self, metadata: Any, error: Any, headers: Any, /) -> None:
        raise ValueError("broken on_acknowledgement")

    def close(self) -> None:
        raise ValueError("broken close")


def record(value: str) -> ProducerRecord[bytes, str]:
    return ProducerRecord("topic", value)


class NeedsArguments(Recorder):
    def __init__(self, url: str, /) -> None:
        super().__init__()


def test_each_interceptor_gets_the_record_of_the_one_before() -> None:
    assert InterceptorChain([Recorder("a"), Recorder("b")]).on_send(record("record ")) == record("record ab")


def test_an_interceptor_that_raises_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    chain = InterceptorChain([Recorder("a"), Broken(), Recorder("b")])
    assert chain.on_send(record("record ")) == record("record ab")
    assert "interceptor Broken.on_send raised ValueError: broken on_send" in caplog.text
    assert caplog.records[0].exc_info is not None


def test_an_interceptor_that_returns_no_record_is_logged_and_skipped(caplog: pytest.LogCaptureFixture) -> None:
    class Forgetful:
        def on_send(self, record: Any) -> None:
            pass

    assert InterceptorChain([Forgetful()]).on_send(record("record")) == record("record")
    assert "on_send returned None" in caplog.text


def test_all_interceptors_get_an_outcome_even_after_one_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    recorder, error, headers = Recorder(), KafkaError("no"), (("source", b"docs"),)
    InterceptorChain([Broken(), recorder]).on_acknowledgement(None, error, headers)
    assert recorder.seen == [(None, error, headers)]
    assert "broken on_acknowledgement" in caplog.text


def test_all_are_closed_even_after_one_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder()
    InterceptorChain([Broken(), recorder]).close()
    assert recorder.seen == ["closed"]
    assert "broken close" in caplog.text


def test_a_fault_that_repeats_is_logged_now_and_then_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    chain = InterceptorChain([Broken()], clock=lambda: now)
    for _ in range(1000):
        chain.on_send(record("record"))
    assert len(caplog.records) == 1
    now = InterceptorChain.LOG_EVERY_S
    chain.on_send(record("record"))
    assert len(caplog.records) == 2
    assert "(and 999 times since the last line)" in caplog.text


def test_different_faults_are_logged_each(caplog: pytest.LogCaptureFixture) -> None:
    chain = InterceptorChain([Broken()], clock=lambda: 0.0)
    chain.on_send(record("record"))
    chain.on_acknowledgement(None, KafkaError("no"))
    assert len(caplog.records) == 2


def test_an_exception_of_configure_reaches_the_caller() -> None:
    class Misconfigured(Recorder):
        def configure(self, configs: Any, /) -> None:
            raise KeyError("url")

    recorder = Recorder()
    with pytest.raises(KeyError):
        InterceptorChain([recorder, Misconfigured()]).configure({"a": 1})
    assert recorder.seen == [{"a": 1}]


def test_methods_are_optional() -> None:
    class OnlySend:
        def on_send(self, record: Any) -> Any:
            return record.replace(value=record.value * 2)

    class OnlyOutcome(ProducerInterceptor):
        def on_acknowledgement(self, metadata: Any, error: Any, headers: Any, /) -> None:
            pass

    chain = InterceptorChain(as_interceptors([OnlySend, OnlyOutcome()]))
    chain.configure({})
    assert chain.on_send(record("ab")) == record("abab")
    chain.on_acknowledgement(None, KafkaError("no"))
    chain.close()
    assert len(chain) == 2
    assert chain.wants_acknowledgements
    assert not InterceptorChain([OnlySend()]).wants_acknowledgements
    assert not InterceptorChain()


@pytest.mark.parametrize("given", [object(), ProducerInterceptor, 5, "name"], ids=["object", "class", "int", "str"])
def test_an_object_without_interceptor_methods_is_a_configuration_error(given: Any) -> None:
    with pytest.raises(ConfigError, match="neither on_send"):
        as_interceptors([given])


def test_an_interceptor_class_that_needs_arguments_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="NeedsArguments needs arguments"):
        as_interceptors([NeedsArguments])


def test_nothing_is_logged_while_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    InterceptorChain([Recorder()]).on_send(record("record"))
    assert not caplog.records
