"""How one setting is read and checked: types and validators as in Java's `ConfigDef` (kafka-clients 4.4).

No setting is named here: the table of all settings is `table.py`, which is generated.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, NamedTuple, Protocol

from penstock.errors import ConfigError

Type = Literal["BOOLEAN", "STRING", "INT", "SHORT", "LONG", "DOUBLE", "LIST", "CLASS", "PASSWORD"]

HIDDEN: Final = "[hidden]"


class Password:
    """A secret; `repr()` and `str()` hide it, and `value` is the text."""

    __slots__ = ("value",)

    def __init__(self, value: str) -> None:
        """Wrap the secret text."""
        self.value: Final = value

    def __repr__(self) -> str:
        """Never the secret."""
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        """Equal by secret."""
        return self.value == other.value if isinstance(other, Password) else NotImplemented

    def __hash__(self) -> int:
        """By secret."""
        return hash(self.value)


class Validator(Protocol):
    """A condition on a parsed value; `str()` gives the valid values in ConfigDef's notation."""

    def check(self, value: Any) -> str | None:
        """The problem with the value; None if it is valid."""


class Range(NamedTuple):
    """At least `low` and, if there is one, at most `high`."""

    low: float
    high: float | None = None

    def check(self, value: Any) -> str | None:
        """ConfigDef compares as doubles: 64-bit values above 2⁵³ lose their low bits, and NaN is never out of range."""
        if value is None:
            return "it must not be null"
        if float(value) < self.low:
            return f"it must be at least {self.low}"
        if self.high is not None and float(value) > self.high:
            return f"it must be at most {self.high}"
        return None

    def __str__(self) -> str:
        """[low,...,high]."""
        return f"[{self.low},...]" if self.high is None else f"[{self.low},...,{self.high}]"


class RangeOr(NamedTuple):
    """Within `low` to `high`, or the one value outside of it that means "the default"."""

    low: int
    high: int
    other: int

    def check(self, value: Any) -> str | None:
        """As Java's `GzipCompression` does."""
        if value is not None and (value == self.other or self.low <= value <= self.high):
            return None
        return f"it must be {self.low} to {self.high}, or {self.other}"

    def __str__(self) -> str:
        """[low,...,high] or other."""
        return f"[{self.low},...,{self.high}] or {self.other}"


class OneOf(NamedTuple):
    """One of these strings, in exactly this spelling."""

    values: tuple[str, ...]

    def check(self, value: Any) -> str | None:
        """Null is not valid."""
        return None if value in self.values else f"it must be one of {', '.join(self.values)}"

    def __str__(self) -> str:
        """[a, b]."""
        return f"[{', '.join(self.values)}]"


class OneOfIgnoringCase(NamedTuple):
    """One of these strings, in upper or lower case; `values` are upper case, sorted."""

    values: tuple[str, ...]

    def check(self, value: Any) -> str | None:
        """Null is not valid."""
        if value is not None and value.upper() in self.values:
            return None
        return f"it must be one of {', '.join(self.values)} (in any case)"

    def __str__(self) -> str:
        """(case insensitive) [A, B]."""
        return f"(case insensitive) [{', '.join(self.values)}]"


class NonEmptyString(NamedTuple):
    """Anything but the empty string."""

    def check(self, value: Any) -> str | None:
        """Null is valid."""
        return "it must not be empty" if value == "" else None

    def __str__(self) -> str:
        """In words."""
        return "non-empty string"


class Items(NamedTuple):
    """A list without empty strings; empty only if `allows_empty`. Duplicates are removed before the check."""

    allows_empty: bool

    def check(self, value: Any) -> str | None:
        """Null is not valid."""
        if value is None:
            return "it must not be null"
        if not value and not self.allows_empty:
            return "it must not be empty"
        if any(item is None or item == "" for item in value):
            return "it has an empty entry"
        return None

    def __str__(self) -> str:
        """In words."""
        return "list" if self.allows_empty else "non-empty list"


class Setting(NamedTuple):
    """One row of the table: Kafka's definition of a setting."""

    name: str
    type: Type
    importance: Literal["HIGH", "MEDIUM", "LOW"]
    default: Any
    validator: Validator | None = None
    required: bool = False
    internal: bool = False

    def parse(self, value: Any) -> Any:
        """The value with this setting's type, valid. Lists become tuples; names of classes stay names.

        Raises:
            ConfigError: the type is wrong, the text is no number, or the validator refuses the value. The message hides
                the value of a secret.
        """
        parsed = None if value is None else _PARSERS[self.type](self, value)
        problem = None if self.validator is None else self.validator.check(parsed)
        if problem is not None:
            raise self.refused(value, problem)
        return parsed

    @property
    def default_text(self) -> str:
        """The default as in a `.properties` file; null for None."""
        return _as_text(self.default)

    def refused(self, value: Any, problem: str) -> ConfigError:
        """A `ConfigError` that names setting, value and problem."""
        shown = HIDDEN if self.type == "PASSWORD" else repr(value)
        return ConfigError(f"{self.name} = {shown}: {problem}", setting=self.name)


# Java's String.trim() removes all characters up to the space; its regular expressions have ASCII whitespace only.
_TRIMMED: Final = "".join(map(chr, range(33)))
_COMMA: Final = re.compile(r"[ \t\n\v\f\r]*,[ \t\n\v\f\r]*")
_INTEGER: Final = re.compile(r"[+-]?\d+")
_DOUBLE: Final = re.compile(
    r"""(?P<sign>[+-]?)(?:(?P<word>NaN|Infinity)
    |(?P<decimal>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[fFdD]?
    |(?P<hex>0[xX](?:[0-9a-fA-F]+\.?|[0-9a-fA-F]*\.[0-9a-fA-F]+)[pP][+-]?[0-9]+)[fFdD]?)""",
    re.VERBOSE,
)


def _boolean(setting: Setting, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip(_TRIMMED).lower()
        if word in ("true", "false"):
            return word == "true"
    raise setting.refused(value, "it must be true or false")


def _string(setting: Setting, value: Any) -> str:
    if not isinstance(value, str):
        raise setting.refused(value, f"it must be a str, not {_type_name(value)}")
    return value.strip(_TRIMMED)


def _password(setting: Setting, value: Any) -> Password:
    return value if isinstance(value, Password) else Password(_string(setting, value))


def _integer(setting: Setting, value: Any) -> int:
    bits = {"SHORT": 16, "INT": 32, "LONG": 64}[setting.type]
    if isinstance(value, str):
        text = value.strip(_TRIMMED)
        # Java's parser takes any Unicode digit of the basic plane, and no underscores or inner blanks.
        if not _INTEGER.fullmatch(text) or max(text) > "\uffff":
            raise setting.refused(value, "it is not an integer")
        if len(text) > 1000:  # Python refuses to convert some of these, with a message of its own
            raise setting.refused(value, "it is not an integer of reasonable length")
        number = int(text)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise setting.refused(value, f"it must be an int, not {_type_name(value)}")
    if not -(1 << bits - 1) <= number < 1 << bits - 1:
        raise setting.refused(value, f"it does not fit into {bits} bits")
    return number


def _double(setting: Setting, value: Any) -> float:
    if isinstance(value, str):
        match = _DOUBLE.fullmatch(value.strip(_TRIMMED))
        if match is None:
            raise setting.refused(value, "it is not a number")
        magnitude = _magnitude(match)
        return -magnitude if match["sign"] == "-" else magnitude
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    raise setting.refused(value, f"it must be a float, not {_type_name(value)}")


def _magnitude(match: re.Match[str]) -> float:
    if match["hex"] is None:
        return float(match["word"] or match["decimal"])
    try:
        return float.fromhex(match["hex"])
    except OverflowError:
        return float("inf")


def _list(setting: Setting, value: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        text = value.strip(_TRIMMED)
        return _distinct(_COMMA.split(text)) if text else ()
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return _distinct(value)
    raise setting.refused(value, f"it must be a list, or a str with commas, not {_type_name(value)}")


def _distinct(items: Sequence[Any]) -> tuple[Any, ...]:
    # By equality, because objects (interceptors) may not be hashable; these lists are short.
    return tuple(item for at, item in enumerate(items) if item not in items[:at])


def _class(setting: Setting, value: Any) -> Any:
    # Java takes a class or its name; here an instance is accepted, too. The code that uses the object checks its methods.
    return value.strip(_TRIMMED) if isinstance(value, str) else value


def _as_text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _type_name(value: Any) -> str:
    return type(value).__name__


_PARSERS: Final = {
    "BOOLEAN": _boolean,
    "STRING": _string,
    "PASSWORD": _password,
    "INT": _integer,
    "SHORT": _integer,
    "LONG": _integer,
    "DOUBLE": _double,
    "LIST": _list,
    "CLASS": _class,
}
