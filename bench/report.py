"""Measured rows as a markdown table, with the machine and every client's version and settings. Pure functions.

Lines have at most 120 characters, as `make check` demands of docs/benchmarks.md.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from bench.figures import UNITS, Comparison, compare
from bench.row import Line, Row, Target

Done = Mapping[str, Any]


def lines_of(row: Row, done: Done) -> list[tuple[Line, list[Comparison] | str]]:
    """The comparisons of each line of a row, or the reason why there are none."""
    found: list[tuple[Line, list[Comparison] | str]] = []
    for line in row.lines:
        why = [f"{label}: {done['not_run'][label]}" for label in (line.us, line.them) if label in done["not_run"]]
        found.append((line, "; ".join(why) if why else compare(done["runs"], line)))
    return found


def titles(rows: Sequence[tuple[Row, Done]]) -> str:
    """The load of each row, and its link."""
    return "\n".join(_item(f"**{row.name}**: {row.title}{_link(row, done)}") for row, done in rows)


def _link(row: Row, done: Done) -> str:
    if row.distance is None:
        return ""
    text = f"; link: {row.distance}; the broker's socket buffers: {row.broker_buffers}"
    if totals := done.get("link"):
        late = max(direction["late_us"] for direction in totals.values())
        dropped = sum(direction["dropped"] for direction in totals.values())
        text += f"; on average up to {late:.0f} µs late, {dropped:,.0f} packets dropped"
    return text


def table(rows: Sequence[tuple[Row, Done]]) -> str:
    """One line for each figure against each other client."""
    lines = [
        "| row | against | figure | ours | theirs | ratio (range) | target | |",
        "|---|---|---|--:|--:|--:|--:|---|",
    ]
    for row, done in rows:
        for line, compared in lines_of(row, done):
            head = f"| {_name(row, line)} | {line.them} "
            if isinstance(compared, str):
                lines += [
                    f"{head}| {UNITS[target.figure][0]} | | | | {bounds(target)} | not run |" for target in line.targets
                ]
                continue
            for one in compared:
                name, digits = UNITS[one.figure]
                lines.append(
                    f"{head}| {name} | {one.ours:,.{digits}f} | {one.theirs:,.{digits}f} "
                    f"| {one.ratio:.2f}× ({one.low:.2f}–{one.high:.2f}) | {bounds(one.target)} | {word(one.met)} |"
                )
    return "\n".join(lines)


def missing(rows: Sequence[tuple[Row, Done]]) -> str:
    """Why a comparison was not run, as a list; empty if all were."""
    return "\n".join(
        _item(f"not run: {_name(row, line)} against {line.them}: {' '.join(why.split())[:200]}")
        for row, done in rows
        for line, why in lines_of(row, done)
        if isinstance(why, str)
    )


def _name(row: Row, line: Line) -> str:
    return row.name if line.us == "Penstock" else f"{row.name}: {line.us}"


def _item(text: str) -> str:
    return textwrap.fill(f"* {text}", 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def bounds(target: Target) -> str:
    if target.ours_at_most is not None:
        return f"ours ≤ {target.ours_at_most:g}"
    if target.at_least is not None and target.at_most is not None:
        return f"{target.at_least:.2f}–{target.at_most:.2f}×"
    if target.at_least is not None:
        return f"≥ {target.at_least:.2f}×"
    return f"≤ {target.at_most:.2f}×" if target.at_most is not None else "–"


def word(met: bool | None) -> str:
    return {True: "met", False: "**not met**", None: ""}[met]


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
        _item(f"{client} {version} ({', '.join(names)}): {shown or 'defaults'}")
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
    head = f"{machine_line(machine)}. Commit {commit}."
    method = (
        f"Medians of {counted} interleaved rounds, each run in a fresh process, after one round that does not count; "
        "ratios are medians of the ratios within a round (in parentheses the least and the greatest)."
    )
    parts = [
        *(textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) for text in (head, method)),
        titles(rows),
        table(rows),
        missing(rows),
        f"{summary(rows)}.",
        "Versions and settings:",
        settings(rows),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"
