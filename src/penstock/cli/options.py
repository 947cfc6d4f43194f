"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import typer

from penstock.cli.arguments import is_text
from penstock.cli.output import CommandError
from penstock.config.properties import decode, parse

WAIT_S: Final = 10.0
"""How long commands wait for a broker at the start, unless they are told otherwise."""


def number(option: str, unit: str, least: float) -> Callable[[Any], float]:
    """A parser of numbers from `least` on, inf included; for anything else, NaN too, a `CommandError` with exit code 2."""

    def parsed(text: Any) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not value >= least:  # what NaN is, too
            raise CommandError(f"{option} {text}: not a number of {unit}, at least {least:g}", code=2)
        return value

    return parsed


Json: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
Wait: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--wait",
        metavar="SECONDS",
        parser=number("--wait", "seconds", 0),
        help=f"How long to wait for a broker, {WAIT_S:g} by default; inf: for ever.",
    ),
]
Rate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="RECORDS",
        parser=number("--rate", "records/s", 0.001),
        help="At most this many records/s; else as fast as it goes.",
    ),
]


def pairs(option: str, given: Iterable[str] | None) -> list[tuple[str, str]]:
    """Each "name=value" as a pair; `CommandError` (code 2) for one without a name or "="."""
    found = []
    for text in given or ():
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise CommandError(f"{option} {text}: not NAME=VALUE", code=2)
        found.append((name, value))
    return found


def settings_of(file: Path | None, given: Iterable[str] | None) -> dict[str, Any]:
    """What `--config` and `-X` say; raises `CommandError` for a file that cannot be read, or is not one of properties."""
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings.update(parse(decode(file.read_bytes())))
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from error
        except ValueError as error:
            raise CommandError(f"{file}: {error}") from error
        for name, value in settings.items():
            if not is_text(name + value):  # "\\ud800" is half a character
                raise CommandError(f"{file}: {name}: there is a surrogate without its other half", code=2)
    # One form of each name, so that -X wins over the file.
    for name, value in pairs("-X", given):
        settings[name.replace("_", ".")] = value
    return settings
