"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeAlias

import typer

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
