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
"""How long commands wait for a broker at the start, by default."""


def number(option: str, unit: str, least: float) -> Callable[[Any], float]:
    """A parser of numbers from `least` up, inf included; anything else, also NaN, is a `CommandError` with exit code 2."""

    def parsed(text: Any) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not value >= least:  # true for NaN, too
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
        help=f"How many seconds to wait for a broker, {WAIT_S:g} by default; inf: no limit.",
    ),
]
Rate: TypeAlias = Annotated[
    float | None,
    typer.Option(
        metavar="RECORDS",
        parser=number("--rate", "records/s", 0.001),
        help="At most this many records/s; no limit by default.",
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
    """The settings of `--config` and `-X`; raises `CommandError` if the file cannot be read or is not a properties file."""
    settings: dict[str, Any] = {}
    if file is not None:
        try:
            settings.update(parse(decode(file.read_bytes())))
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}") from error
        except ValueError as error:
            raise CommandError(f"{file}: {error}") from error
        for name, value in settings.items():
            if not is_text(name + value):  # "\\ud800" is half of a surrogate pair
                raise CommandError(f"{file}: {name}: has a lone surrogate", code=2)
    # Names are normalized, so that -X overrides the file.
    for name, value in pairs("-X", given):
        settings[name.replace("_", ".")] = value
    return settings
