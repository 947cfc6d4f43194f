"""The base of all generated messages: class attributes, encoding and decoding."""

from typing import Any, ClassVar, Final, NamedTuple, NoReturn, Self, TypeVar

from penstock.protocol.primitives import Buffer, ProtocolError, Reader, Writer


class Api(NamedTuple):
    """One Kafka API: its key, and the versions in the definitions.

    `flexible_from` is the first version with compact types and tagged fields, or 32767 if there is none.
    """

    key: int
    name: str
    module: str
    min_version: int
    max_version: int
    flexible_from: int
    # A preview: brokers offer the last version only with `unstable.api.versions.enable`.
    latest_version_unstable: bool = False


_set: Final = object.__setattr__


class Struct:
    """A message or a part of one: an immutable value, equal by content; its fields are its slots.

    Like a frozen dataclass, without the cost of several dozen of them at every import (a third of the import's time).
    """

    __slots__: tuple[str, ...] = ()

    def _fill(self, *values: object) -> None:
        for name, value in zip(self.__slots__, values, strict=True):
            _set(self, name, value)

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, name) for name in self.__slots__])

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Raises: messages are shared."""
        raise AttributeError(f"{type(self).__name__} is immutable: use replace() to change {name}")

    def __delattr__(self, name: str) -> NoReturn:
        """Refused."""
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        """By class and content."""
        return self._values() == other._values() if type(other) is type(self) else NotImplemented

    def __hash__(self) -> int:
        """By content."""
        return hash(self._values())

    def __repr__(self) -> str:
        """The constructor's call as text."""
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({fields})"

    def __reduce__(self) -> tuple[Any, ...]:
        """For copies and pickles."""
        return _restore, (type(self), self._values())

    def __replace__(self, **changes: Any) -> Self:
        """For `copy.replace` (Python 3.13)."""
        return type(self)(**{name: getattr(self, name) for name in self.__slots__} | changes)


StructT = TypeVar("StructT", bound=Struct)


def _restore(cls: type[StructT], values: tuple[Any, ...]) -> StructT:
    struct = cls.__new__(cls)
    struct._fill(*values)
    return struct


def replace(struct: StructT, **changes: Any) -> StructT:
    """A copy with some fields changed, as `dataclasses.replace`."""
    return struct.__replace__(**changes)


class Message(Struct):
    """A request, a response or a header: an immutable value with the encoding of every version."""

    __slots__ = ()

    API_KEY: ClassVar[int]
    """The API's number, -1 for headers."""
    MIN_VERSION: ClassVar[int]
    MAX_VERSION: ClassVar[int]
    FLEXIBLE_FROM: ClassVar[int]
    """The first version with compact types and tagged fields, or 32767 where there is none."""

    def write(self, writer: Writer, version: int) -> None:
        """Append the message to `writer` in `version`."""
        raise NotImplementedError

    @classmethod
    def read(cls, reader: Reader, version: int) -> Self:
        """Read a message of `version` from `reader`; fields that `version` lacks get their defaults."""
        raise NotImplementedError

    def encode(self, version: int) -> bytes:
        """The message in `version`.

        Raises `ProtocolError` if the version does not exist, if a value does not fit its type, or if a field that the
        version lacks, and that Kafka does not declare ignorable, is set to something other than its default.
        """
        self.check_version(version)
        writer = Writer()
        self.write(writer, version)
        return writer.getvalue()

    @classmethod
    def decode(cls, buffer: Buffer, version: int) -> Self:
        """The message that takes up the whole `buffer`, in `version`; raises `ProtocolError` if it does not.

        Record batches stay views of `buffer` (which therefore must not change); everything else is copied.
        """
        cls.check_version(version)
        reader = Reader(buffer)
        message = cls.read(reader, version)
        reader.end(cls.__name__)
        return message

    @classmethod
    def check_version(cls, version: int) -> None:
        """Raise `ProtocolError` if the version does not exist."""
        if not cls.MIN_VERSION <= version <= cls.MAX_VERSION:
            raise ProtocolError(f"{cls.__name__} has no version {version}, only {cls.MIN_VERSION} to {cls.MAX_VERSION}")


class Request(Message):
    """A message from a client to a broker."""

    __slots__ = ()


class Response(Message):
    """A broker's answer; always in the version of its request."""

    __slots__ = ()
