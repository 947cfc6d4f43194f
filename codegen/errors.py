"""Write the class of each of Kafka's error codes, or check that the file is up to date.

    python -m codegen.errors            writes src/penstock/errors/codes.py
    python -m codegen.errors --check    writes nothing; exits 1 if that file differs

`ErrorTable.java` prints codes, names and superclasses of Kafka's own code; the texts are ours (`error_texts.py`). Needs a
JDK, Maven for the first run, and Ruff, pinned in requirements/dev.txt, for the format.
"""

import sys
import textwrap
from pathlib import Path

from codegen.error_texts import TEXTS
from codegen.from_java import Row, heading, rows_of, run

CODES = Path("src/penstock/errors/codes.py")
HINT_WIDTH = 105

# Classes that are written by hand, because they have more than a code and a text.
BY_HAND = {"KafkaTimeoutError": "client", "InvalidConfigurationError": "categories"}
# TimeoutError would shadow the builtin.
RENAMED = {"TimeoutException": "KafkaTimeoutError"}
# Java's class is a plain ApiException, KIP-1050 puts it here.
BASES = {"TransactionAbortableError": "AbortableError"}
CATEGORIES = (
    "ApiError",
    "RetriableError",
    "RefreshRetriableError",
    "InvalidMetadataError",
    "AbortableError",
    "ApplicationRecoverableError",
    "InvalidConfigurationError",
    "AuthenticationError",
    "AuthorizationError",
)


def class_name(java: str) -> str:
    """NotLeaderOrFollowerException → NotLeaderOrFollowerError."""
    return RENAMED.get(java) or java.removesuffix("Exception") + "Error"


def base_of(row: Row, known: set[str]) -> str:
    """The nearest of Java's superclasses that Penstock has, too: some exist in Java only."""
    own, *above = map(class_name, row["classes"])
    return BASES.get(own) or next(name for name in above if name in known)


def checked(rows: list[Row]) -> list[Row]:
    """The rows in the order of their codes; raises if the texts do not fit them."""
    rows = sorted(rows, key=lambda row: int(row["code"]))
    wanted = [row["name"] for row in rows if class_name(row["classes"][0]) not in BY_HAND]
    if list(TEXTS) != wanted:
        missing, extra = sorted(set(wanted) - set(TEXTS)), sorted(set(TEXTS) - set(wanted))
        raise ValueError(
            f"codegen/error_texts.py: missing {missing}, not Kafka's {extra}, or not in the order of codes"
        )
    return rows


def literal(text: str) -> str:
    """The text as a string literal, in parts where one line cannot hold it."""
    parts = textwrap.wrap(text, HINT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"({' '.join(repr(f'{part} ') for part in parts[:-1])} {parts[-1]!r})" if len(parts) > 1 else repr(text)


def render(rows: list[Row]) -> str:
    """The source of `codes.py`, not yet formatted."""
    known = set(CATEGORIES)
    classes: list[str] = []
    table = ["ERROR_BY_CODE: Final[dict[int, type[KafkaError]]] = {"]
    for row in checked(rows):
        name = class_name(row["classes"][0])
        table.append(f"    {row['code']}: {name},")
        if name in BY_HAND:
            continue
        text = TEXTS[row["name"]]
        classes += ["", "", f"class {name}({base_of(row, known)}):", f'    """{text.summary}"""', ""]
        classes += [f"    code = {row['code']}", f'    name = "{row["name"]}"']
        classes += [f"    hint = {literal(text.hint)}"] if text.hint else []
        known.add(name)
    table += ["}", '"""Error code → class; complete, without 0 (NONE)."""', ""]
    lines = [heading("codegen.errors", "One class per error code of Kafka, in the order of the codes.")]
    lines += ["from typing import Final", "", "from penstock.errors.base import KafkaError"]
    lines += [f"from penstock.errors.categories import {', '.join(sorted(CATEGORIES))}"]
    lines += [f"from penstock.errors.{file} import {name}" for name, file in BY_HAND.items() if file != "categories"]
    defined = sorted(known.difference(CATEGORIES))
    lines += ["", f"__all__ = {['ERROR_BY_CODE', *defined]!r}"]
    return "\n".join([*lines, *classes, "", "", *table])


def generate() -> dict[Path, str]:
    return {CODES: render(rows_of("ErrorTable.java"))}


if __name__ == "__main__":
    sys.exit(run("codegen.errors", (__doc__ or "").splitlines()[0], generate))
