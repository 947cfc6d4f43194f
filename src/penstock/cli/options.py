"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from penstock._properties import decode, parse
from penstock.cli.output import CommandError

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


def number(value: float | None) -> float | None:
    """For an option that is a number: NaN, which no limit keeps out, is none."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("NaN is not a number")
    return value


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
    # One form of each name, so that -X wins over the file.
    for name, value in pairs("-X", given):
        settings[name.replace("_", ".")] = value
    return settings
