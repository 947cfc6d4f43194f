"""The serializer for the user's argument: None, an object, a class of such objects, or a function."""

# Callers are not always type-checked: this file catches what the annotations rule out.
# mypy: warn-unreachable=False

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from penstock.errors import ConfigError, SerializationError
from penstock.serialization.protocol import BytesLike, Headers, Serializer
from penstock.serialization.serializers import BaseSerializer


class _FromCallable:
    """A function of the value alone, as in kafka-python and aiokafka."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function: Final = function

    def __repr__(self) -> str:
        return repr(self.function)

    def serialize(self, topic: str, headers: Headers, data: Any, /) -> Any:
        return self.function(data)


class PassThrough(BaseSerializer[BytesLike]):
    """No serializer was given: bytes pass unchanged, and other types are an error whose hint names a serializer."""

    __slots__ = ("setting",)

    def __init__(self, setting: str) -> None:
        """`setting`: "key.serializer" or "value.serializer", for the hint."""
        self.setting: Final = setting

    def serialize(self, topic: str, headers: Headers, data: BytesLike, /) -> BytesLike:
        """The same object."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise SerializationError(
                "without a serializer, only bytes (bytearray, memoryview) and None pass",
                hint=_serializer_for(data, self.setting),
            )
        return data


def _serializer_for(data: object, setting: str) -> str:
    """A hint: the serializers for a key or value of this type."""
    from uuid import UUID  # imported only for this error

    keyword = setting.replace(".", "_")
    for types, fitting in (
        (str, "StringSerializer()"),
        (bool, "BooleanSerializer() or JSONSerializer()"),
        (int, "IntegerSerializer(), LongSerializer() or JSONSerializer()"),
        (float, "DoubleSerializer() or JSONSerializer()"),
        (UUID, "UUIDSerializer()"),
        ((dict, list, tuple), "JSONSerializer()"),
    ):
        if isinstance(data, types):
            return f"Give {keyword}={fitting}."
    return f"Give {keyword} a function that turns such a {setting.partition('.')[0]} into bytes."


def as_serializer(given: Any, *, setting: str) -> Serializer[Any]:
    """The serializer for a user's argument.

    Args:
        given: None (bytes pass unchanged), an object with `serialize`, a class of such objects, or a function of the
            value alone.
        setting: "key.serializer" or "value.serializer", for error messages.

    Raises:
        ConfigError: it is none of these, or the class needs arguments.
    """
    if given is None:
        return PassThrough(setting)
    made: Any = given
    if isinstance(given, type) and hasattr(given, "serialize"):
        try:
            made = given()
        except Exception as error:
            raise ConfigError(
                f"{setting} = {given.__name__}: it needs arguments ({error}); pass an instance",
                setting=setting,
                cause=error,
            ) from error
    if callable(getattr(made, "serialize", None)):
        serializer: Serializer[Any] = made
        return serializer
    if callable(made):
        return _FromCallable(made)
    raise ConfigError(
        f"{setting} = {given!r}: neither an object with serialize(topic, headers, data) nor a callable",
        setting=setting,
    )
