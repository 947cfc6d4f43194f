"""`KafkaError`: the base of all errors, their attributes and text; copies and pickles keep both."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

_MAX_TOPIC_LENGTH: Final = 249
_TOPIC_SHOWN: Final = 60


class KafkaError(Exception):
    """Base of all errors of Penstock.

    Args:
        message: the description of the failure, one sentence.
        code: Kafka's error code; by default the class's.
        name: Kafka's name of the code; by default the class's.
        topic: the topic.
        partition: its partition.
        broker: the broker: its id, or text such as "1 (host:9092)".
        attempts: how often the record was sent.
        stage: where the record was when it failed: "metadata", "buffer", "linger", "in flight" or "retry".
        possibly_persisted: whether the record may be in the log despite this error.
        cause: the error that led to this one; also `__cause__`.
        hint: the advice; by default the class's.
    """

    code: int | None = None
    """Kafka's error code; None for an error that the client itself finds."""
    name: str | None = None
    """Kafka's name of the code, such as NOT_LEADER_OR_FOLLOWER."""
    retriable: bool = False
    """Whether the same operation may succeed later."""
    possibly_persisted: bool = False
    """Whether the record may be in the log despite this error; False: it is not."""
    topic: str | None = None
    partition: int | None = None
    broker: int | str | None = None
    attempts: int | None = None
    stage: str | None = None
    cause: BaseException | None = None
    hint: str = ""
    """The advice, one sentence; empty if there is none in general."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        name: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        broker: int | str | None = None,
        attempts: int | None = None,
        stage: str | None = None,
        possibly_persisted: bool | None = None,
        cause: BaseException | None = None,
        hint: str | None = None,
    ) -> None:
        """All arguments are optional; all except the message are keywords."""
        super().__init__(message)
        self._set(
            code=code,
            name=name,
            topic=topic,
            partition=partition,
            broker=broker,
            attempts=attempts,
            stage=stage,
            possibly_persisted=possibly_persisted,
            hint=hint,
        )
        if cause is not None:
            self.cause = self.__cause__ = cause

    @property
    def message(self) -> str:
        """The description of the failure, without the place and the hint."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        """The message, the place and the hint."""
        text = self.message or self.name or type(self).__name__
        where = ", ".join(self._where())
        if where:
            text = f"{text.rstrip('.')} ({where})"
        return f"{text.rstrip('.')}. {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles carry every attribute, whatever the signature of a subclass's constructor."""
        return _restore, (type(self), self.args, dict(self.__dict__))

    def _set(self, **given: Any) -> None:
        # Only what was given: the rest is read from the class, and an instance stays small.
        for attribute, value in given.items():
            if value is not None:
                setattr(self, attribute, value)

    def _where(self) -> Iterable[str]:
        if self.topic is not None:
            yield f"topic {_shown(self.topic)}"
        if self.partition is not None:
            yield f"partition {self.partition}"
        if self.broker is not None:
            yield f"broker {self.broker}"
        if self.attempts is not None:
            yield f"{self.attempts} attempt{'' if self.attempts == 1 else 's'}"
        if self.stage is not None:
            yield f"stage: {self.stage}"
        if self.possibly_persisted:
            yield "possibly persisted"
        elif self.stage is not None:  # has a meaning for records only
            yield "not persisted"


def _shown(topic: str) -> str:
    """A topic's name. An invalid name is quoted and shortened: by mistake it may be a long text."""
    if len(topic) > _MAX_TOPIC_LENGTH:
        return f"{topic[:_TOPIC_SHOWN]!r}…"
    return topic if topic.isprintable() and topic.split() == [topic] else repr(topic)


def _restore(cls: type[KafkaError], args: tuple[Any, ...], state: dict[str, Any]) -> KafkaError:
    error = cls.__new__(cls, *args)
    error.args = args  # OSError, a base of KafkaTimeoutError, leaves them to __init__
    error.__dict__.update(state)
    error.__cause__ = error.cause
    return error
