"""Write the tables of error codes into DESIGN.md, or check that what is there is what would be written.

    python -m codegen.error_tables            writes the part of DESIGN.md between the markers
    python -m codegen.error_tables --check    writes nothing; exits 1 if that part differs

The tables are `penstock.control.error_table`: the documentation is rendered from what decides.
"""

import argparse
import sys
from enum import Enum
from pathlib import Path

from penstock import errors
from penstock.control.error_table import TABLES, Row, Table

ROOT = Path(__file__).resolve().parent.parent
DESIGN = Path("DESIGN.md")
TESTS = "tests/unit/control/test_error_tables.py"
BEGIN = "<!-- error tables: written by `python -m codegen.error_tables` -->"
END = "<!-- error tables: end -->"


def render(table: Table[Enum]) -> str:
    """One table in Markdown, the defaults last."""
    lines = [f"**{table.place}** (`{table.test}`)", "", "| error | what follows | source, remark |", "|---|---|---|"]
    lines += [
        f"| {row.code} {errors.error_name(row.code)} | {row.outcome.value} | {remark(row)} |"
        for row in sorted(table.rows, key=lambda row: row.code)
    ]
    defaults = {table.refresh: ["refresh"]}
    defaults.setdefault(table.retriable, []).append("retriable")
    defaults.setdefault(table.other, []).append("neither")
    kinds = {("refresh", "retriable", "neither"): "any other"}
    lines += [
        f"| *{kinds.get(tuple(names), 'any other: ' + ' or '.join(names))}* | {outcome.value} | |"
        for outcome, names in defaults.items()
    ]
    return "\n".join(lines)


def remark(row: Row[Enum]) -> str:
    """The last column."""
    return "; ".join(part for part in (row.source, row.appended.value) if part)


def rendered() -> str:
    """Everything between the markers."""
    return "\n\n".join([f"Tests: `{TESTS}`.", *(render(table) for table in TABLES)])


def replaced(text: str) -> str:
    """The document with the tables as they are now; raises if it has not both markers once, in order."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or BEGIN in after or END in before + after:
        raise ValueError(f"{DESIGN} must have {BEGIN!r} and {END!r} once, in this order")
    return f"{before}{BEGIN}\n\n{rendered()}\n\n{END}{after}"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 on any difference")
    check = parser.parse_args().check
    path = ROOT / DESIGN
    present = path.read_text(encoding="utf-8")
    wanted = replaced(present)
    if present == wanted:
        return 0
    if check:
        print(
            f"differs from penstock.control.error_table: {DESIGN}; run `python -m codegen.error_tables`",
            file=sys.stderr,
        )
        return 1
    path.write_text(wanted, encoding="utf-8")
    print(f"written: {DESIGN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
