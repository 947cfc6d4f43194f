"""Checks that arguments are text. One that is not ends with one line and exit code 2, except where it names a file.

Python represents bytes of the command line that are not UTF-8 as lone surrogates (PEP 383). A file name may have any
bytes, and the system accepts it unchanged. Everything else goes to a broker, where strings are UTF-8, or into a record.
In a locale that has only ASCII, valid UTF-8 arrives as lone surrogates, too, and is decoded here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from penstock.cli.output import CommandError, printable

_PATHS: Final = ("FILE", "DIR", "[DIR]")
"""An option or argument whose metavar is one of these names a file or folder."""


def is_text(text: str) -> bool:
    """Whether UTF-8 can encode it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(given: str, name: str = "") -> str:
    """The argument as text; `CommandError` (code 2) if it is not text. `name` is the option's."""
    if is_text(given):
        return given
    try:
        return os.fsencode(given).decode()
    except UnicodeError:
        raise CommandError(f"{name} {printable(given)}: not UTF-8".lstrip(), code=2) from None


def read_arguments(root: Any, arguments: Sequence[str]) -> list[str]:
    """The arguments as text, and paths unchanged; raises `CommandError` (code 2) for the first one that is neither.

    `root` is the command of the whole program (click's `Command`, or Typer's copy of it).
    """
    if all(map(is_text, arguments)):
        return list(arguments)
    rest = iter(arguments)
    return list(_read(root, rest))


def _read(root: Any, rest: Iterator[str]) -> Iterator[str]:
    command = root
    while (commands := getattr(command, "commands", None)) is not None:
        word = next(rest, None)
        if word is None:
            return
        word = as_text(word)
        yield word
        if not word.startswith("-"):
            command = commands.get(word)
    if command is None:  # the parser reports that the command does not exist
        yield from rest
    else:
        yield from _read_command(command, rest)


def _read_command(command: Any, rest: Iterator[str]) -> Iterator[str]:
    options: Mapping[str, Any] = {name: param for param in command.params for name in param.opts}
    positional = [param for param in command.params if param.param_type_name == "argument"]
    first = positional[0] if positional else None
    for word in rest:
        if word == "--":
            yield word
            break
        if word == "-" or not word.startswith("-"):
            yield _value(first, "", word)
            continue
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if equals:
            yield f"{as_text(name)}={_value(options.get(name), name, value)}"
            continue
        yield as_text(word)
        asking = _takes_next(options, word)
        if asking is not None and (following := next(rest, None)) is not None:
            yield _value(options[asking], asking, following)
    for word in rest:
        yield _value(first, "", word)


def _takes_next(options: Mapping[str, Any], word: str) -> str | None:
    """The option that takes the next argument as its value: `word`, or the last one of several letters."""
    names = [word] if word.startswith("--") else [f"-{letter}" for letter in word[1:]]
    for at, name in enumerate(names):
        if name in options and not getattr(options[name], "is_flag", False):
            return name if at == len(names) - 1 else None  # else the rest of the word is the value
    return None


def _value(param: Any, name: str, value: str) -> str:
    return value if getattr(param, "metavar", None) in _PATHS else as_text(value, name)
