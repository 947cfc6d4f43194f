"""Measured rows as a markdown table, with the machine and every client's version and settings. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import UNITS, Comparison, compare
from bench.rows import Line, Row, Target

Done = Mapping[str, Any]


def lines_of(row: Row, done: Done) -> list[tuple[Line, list[Comparison] | str]]:
    """The comparisons of each line of a row, or the reason why there are none."""
    found: list[tuple[Line, list[Comparison] | str]] = []
    for line in row.lines:
        why = [f"{label}: {done['not_run'][label]}" for label in (line.us, line.them) if label in done["not_run"]]
        found.append((line, "; ".join(why) if why else compare(done["runs"], line)))
    return found


def table(rows: Sequence[tuple[Row, Done]]) -> str:
    lines = [
        "| row | case | against | figure | ours | theirs | ratio (range) | target | |",
        "|---|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row, done in rows:
        for line, compared in lines_of(row, done):
            case = row.title if line.us == "Penstock" else f"{row.title}: {line.us}"
            head = f"| {row.name} | {case} | {line.them} "
            if isinstance(compared, str):
                wanted = ", ".join(f"{UNITS[target.figure][0]} {bounds(target)}" for target in line.targets)
                lines.append(f"{head}| | | | | {wanted} | not run: {_cell(compared)} |")
                continue
            for one in compared:
                name, digits = UNITS[one.figure]
                lines.append(
                    f"{head}| {name} | {one.ours:,.{digits}f} | {one.theirs:,.{digits}f} "
                    f"| {one.ratio:.2f}× ({one.low:.2f}–{one.high:.2f}) | {bounds(one.target)} | {word(one.met)} |"
                )
    return "\n".join(lines)


def bounds(target: Target) -> str:
    if target.at_least is not None and target.at_most is not None:
        return f"{target.at_least:.2f}–{target.at_most:.2f}×"
    if target.at_least is not None:
        return f"≥ {target.at_least:.2f}×"
    return f"≤ {target.at_most:.2f}×" if target.at_most is not None else "–"


def word(met: bool | None) -> str:
    return {True: "met", False: "**not met**", None: ""}[met]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())[:200]


def machine_line(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"{machine['python']}; {machine['kafka']}"
    )


def settings(rows: Sequence[tuple[Row, Done]]) -> str:
    """Every client's version and settings, once, with the rows that used them."""
    used: dict[tuple[str, str, str], list[str]] = {}
    for row, done in rows:
        for label, runs in done["runs"].items():
            client = row.contestants[label].client.partition(":")[0]
            shown = ", ".join(f"{name}={value}" for name, value in sorted(runs[0]["settings"].items()))
            names = used.setdefault((client, runs[0]["version"], shown), [])
            if row.name not in names:
                names.append(row.name)
    return "\n".join(
        f"* {client} {version} ({', '.join(names)}): {shown}"
        for (client, version, shown), names in sorted(used.items())
    )


def summary(rows: Sequence[tuple[Row, Done]]) -> str:
    """The number of targets that are met."""
    verdicts = [
        one.met for row, done in rows for _, found in lines_of(row, done) if not isinstance(found, str) for one in found
    ]
    unrun = sum(isinstance(found, str) for row, done in rows for _, found in lines_of(row, done))
    text = f"Targets met: {verdicts.count(True)}, not met: {verdicts.count(False)}"
    return text + (f"; comparisons not run: {unrun}" if unrun else "")


def report(rows: Sequence[tuple[Row, Done]], machine: Mapping[str, Any], commit: str) -> str:
    pairs = sorted({done["pairs"] for _, done in rows})
    counted = f"{pairs[0]} to {pairs[-1]}" if len(pairs) > 1 else str(*pairs)
    return (
        f"{machine_line(machine)}. Commit {commit}.\n\n"
        f"Medians of {counted} interleaved rounds, each run in a fresh process, after one round that does not count; ratios are "
        "medians of the ratios within a round (in parentheses the least and the greatest).\n\n"
        f"{table(rows)}\n\n{summary(rows)}.\n\nVersions and settings:\n\n{settings(rows)}\n"
    )
