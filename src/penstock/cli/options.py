"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from penstock._properties import decode, parse
from penstock.cli.arguments import is_text
from penstock.cli.output import CommandError

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]


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
