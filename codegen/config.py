"""Write the configuration table and the options' types, or check that the files are up to date.

    python -m codegen.config            writes src/penstock/config/table.py and src/penstock/config/options.py
    python -m codegen.config --check    writes nothing; exits 1 and names each file that differs

`ConfigTable.java` prints the definition of Kafka's own code: names, types, defaults, importance and validators. Kafka's
prose is not copied. Needs a JDK, Maven for the first run, and Ruff, pinned in requirements/dev.txt, for the format.
"""

import re
import sys
from pathlib import Path

from codegen.from_java import Row, heading, rows_of, run

TABLE = Path("src/penstock/config/table.py")
OPTIONS = Path("src/penstock/config/options.py")


def number(text: str) -> str:
    return str(float(text)) if "." in text else str(int(text))


def validator(row: Row) -> str | None:
    """The constructor call for a row's validator; raises `ValueError` for a validator that is new to Penstock."""
    kind, text = row.get("validator"), row.get("validator_text", "")
    listed = re.search(r"\[(.*)]", text)
    if kind is None:
        return None
    if kind == "Range":
        bounds = [bound for bound in text.strip("[]").split(",") if bound != "..."]
        return f"Range({', '.join(map(number, bounds))})"
    if kind == "LambdaValidator" and (match := re.fullmatch(r"\[(-?\d+),\.\.\.,(-?\d+)] or (-?\d+)", text)):
        return f"RangeOr({', '.join(map(number, match.groups()))})"
    if kind == "ValidString" and listed:
        return f"OneOf({tuple(listed[1].split(', '))!r})"
    if kind == "CaseInsensitiveValidString" and listed:  # Java prints a set, whose order has no meaning
        return f"OneOfIgnoringCase({tuple(sorted(listed[1].split(', ')))!r})"
    if kind == "NonEmptyString":
        return "NonEmptyString()"
    if kind == "ValidList" and not (row["allows_null"] or row["allows_duplicates"] or row["allows_empty_entry"]):
        return f"Items(allows_empty={row['allows_empty']})"
    raise ValueError(f"{row['name']} has a validator that codegen/config.py cannot express: {kind} {text}")


def render_table(rows: list[Row]) -> str:
    names = "Items, NonEmptyString, OneOf, OneOfIgnoringCase, Range, RangeOr, Setting"
    lines = [heading("codegen.config", "The settings of Kafka's producer: name, type, importance, default, validator.")]
    lines += ["from typing import Final", "", f"from penstock.config.definition import {names}", ""]
    lines.append("SETTINGS: Final = (")
    for row in rows:
        default = tuple(row["default"]) if isinstance(row["default"], list) else row["default"]
        arguments = [repr(row["name"]), repr(row["type"]), repr(row["importance"]), repr(default)]
        rule = validator(row)
        arguments += [rule] if rule else []
        arguments += [f"{flag}=True" for flag in ("required", "internal") if row[flag]]
        lines.append(f"    Setting({', '.join(arguments)}),")
    return "\n".join([*lines, ")", '"""Sorted by name."""', ""])


TYPES = {
    "BOOLEAN": "bool",
    "STRING": "str",
    "INT": "int",
    "SHORT": "int",
    "LONG": "int",
    "DOUBLE": "float",
    "PASSWORD": "str | Password",
    "LIST": "str | Sequence[str]",
}
# Settings that accept more than their type: objects in place of class names, and acks as a number.
SPECIAL_TYPES = {"interceptor.classes": "str | Sequence[object]", "acks": 'Literal["all", "-1", "0", "1", -1, 0, 1]'}
# The producer has parameters of these names: they carry the types of keys and values, which a TypedDict cannot.
OWN_PARAMETERS = ("key.serializer", "value.serializer")


def option_type(row: Row) -> str:
    if row["name"] in SPECIAL_TYPES:
        return SPECIAL_TYPES[row["name"]]
    if row["type"] == "CLASS":
        return "object"  # a class, an instance, a function, a name, or None
    python = TYPES[row["type"]]
    if row.get("validator") == "ValidString":
        listed = re.search(r"\[(.*)]", row["validator_text"])
        assert listed
        python = f"Literal[{', '.join(map(repr, listed[1].split(', ')))}]"
    return python if row["required"] or row["default"] is not None else f"{python} | None"


def render_options(rows: list[Row]) -> str:
    lines = [heading("codegen.config", "The producer's settings as keyword options, for editors and type checkers.")]
    lines += ["from collections.abc import Sequence", "from typing import Literal", ""]
    lines += ["from penstock.config.definition import Password", "from penstock.config.own import OwnOptions", "", ""]
    lines += ["class ProducerOptions(OwnOptions, total=False):"]
    lines += ['    """The configuration\'s names with underscores for dots; `penstock config` lists them."""', ""]
    lines += [
        f"    {row['name'].replace('.', '_')}: {option_type(row)}" for row in rows if row["name"] not in OWN_PARAMETERS
    ]
    return "\n".join([*lines, ""])


def generate() -> dict[Path, str]:
    """Both generated files and their text. The rows are those of `ProducerConfig.configDef()`, sorted by name."""
    rows = rows_of("ConfigTable.java")
    return {TABLE: render_table(rows), OPTIONS: render_options(rows)}


if __name__ == "__main__":
    sys.exit(run("codegen.config", (__doc__ or "").splitlines()[0], generate))
