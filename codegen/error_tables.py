"""Write the tables of error codes into docs/error-codes.md, or check that they are up to date.

    python -m codegen.error_tables            writes the part of docs/error-codes.md between the markers
    python -m codegen.error_tables --check    writes nothing; exits 1 if that part differs

The tables are `penstock.control.error_table`; the document is rendered from the tables that decide.
"""

import argparse
import sys
import textwrap
from enum import Enum
from pathlib import Path

from penstock import errors
from penstock.control.error_table import TABLES, Row, Table

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = Path("docs/error-codes.md")
WIDTH = 120
BEGIN = "<!-- error tables: written by `python -m codegen.error_tables` -->"
END = "<!-- error tables: end -->"


def entry(error: str, outcome: str, remark: str = "") -> str:
    """One item of a list: the error and what follows, then the source and the remark on lines of their own."""
    first = textwrap.fill(f"* **{error}**: {outcome}", WIDTH, subsequent_indent="  ", break_long_words=False)
    rest = textwrap.fill(remark, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)
    return f"{first}  \n{rest}" if remark else first


def render(table: Table[Enum]) -> str:
    """One table as a list in Markdown (a row is too long for a line), the defaults last."""
    items = [
        entry(f"{row.code} {errors.error_name(row.code)}", row.outcome.value, remark(row))
        for row in sorted(table.rows, key=lambda row: row.code)
    ]
    defaults = {table.refresh: ["refresh"]}
    defaults.setdefault(table.retriable, []).append("retriable")
    defaults.setdefault(table.other, []).append("neither")
    kinds = {("refresh", "retriable", "neither"): "any other"}
    items += [
        entry(kinds.get(tuple(names), "any other: " + " or ".join(names)), outcome.value)
        for outcome, names in defaults.items()
    ]
    return "\n".join([f"### {table.place}", "", f"`{table.test}`", "", *items])


def remark(row: Row[Enum]) -> str:
    """The source, and whether the append is left open."""
    return "; ".join(part for part in (row.source, row.appended.value) if part)


def rendered() -> str:
    """Everything between the markers."""
    return "\n\n".join(render(table) for table in TABLES)


def replaced(text: str) -> str:
    """The document with the tables as they are now; raises if it has not both markers once, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in before + after:
        raise ValueError(f"{DOCUMENT} must have {BEGIN!r} and {END!r} once, in this order")
    return f"{before}{BEGIN}\n\n{rendered()}\n\n{END}{after}"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on any difference")
    check = parser.parse_args().check
    path = ROOT / DOCUMENT
    present = path.read_text(encoding="utf-8")
    wanted = replaced(present)
    if present == wanted:
        return 0
    if check:
        print(
            f"differs from penstock.control.error_table: {DOCUMENT}; run `python -m codegen.error_tables`",
            file=sys.stderr,
        )
        return 1
    path.write_text(wanted, encoding="utf-8")
    print(f"written: {DOCUMENT}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
