"""The ratios as an SVG chart, legible on light and dark pages. Written by hand: bars and text need no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from bench.figures import Comparison
from bench.report import Done, lines_of
from bench.row import CPU, FASTER, Row

WIDTH, LEFT, RIGHT, BAR, GAP, TOP, BOTTOM = 880, 310, 130, 13, 12, 62, 40

STYLE = """
text{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}
.small{font-size:11px;fill:#59636e}.title{font-size:15px;font-weight:600}
.rate{fill:#0969da}.cost{fill:#8250df}.late{fill:#1a7f37}
.grid{stroke:#d1d9e0;stroke-width:1}.one{stroke:#59636e;stroke-width:1.5}.target{stroke:#bc4c00;stroke-width:2.5}
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.small{fill:#9198a1}
.rate{fill:#4493f8}.cost{fill:#ab7df8}.late{fill:#3fb950}
.grid{stroke:#3d444d}.one{stroke:#9198a1}.target{stroke:#f0883e}}
"""


class Bar(NamedTuple):
    """One bar: the factor against the peer (below 1: worse), and the target on the same scale."""

    kind: str
    better: float
    target: float | None
    text: str


def bar(one: Comparison) -> Bar:
    """A ratio in the form of longer is better: messages per second as they are, costs and times inverted."""
    if one.figure == FASTER:
        return Bar("rate", one.ratio, one.target.at_least, f"{one.ratio:.1f}× the messages/s")
    kind = "cost" if one.figure == CPU else "late"
    name = {CPU: "CPU", "start_ms": "time to start", "import_ms": "time to import", "steady_rss_mib": "memory"}.get(
        one.figure, one.figure.removesuffix("_ms").replace("_", ".") + " latency"
    )
    target = None if one.target.at_most is None else 1 / one.target.at_most
    return Bar(kind, 1 / one.ratio, target, f"{one.ratio:.2f}× the {name}")


def chart(rows: Sequence[tuple[Row, Done]]) -> str:
    """Bars by row and opponent; the table alone has rows about the machine's limits or constant cost."""
    groups = [
        (row.title, line.them, [bar(one) for one in compared])
        for row, done in rows
        for line, compared in lines_of(row, done)
        if line.us == "Penstock" and not isinstance(compared, str)
    ]
    bars = [one for _, _, group in groups for one in group]
    least = min([0.5, *(one.better for one in bars)])
    most = max([2.0, *(one.better for one in bars), *(one.target for one in bars if one.target)])
    low, high = math.floor(math.log2(least)), math.ceil(math.log2(most) + 0.4)

    def x(value: float) -> float:
        return round(LEFT + (math.log2(value) - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    height = TOP + sum(_height(group) + GAP for _, _, group in groups) + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'aria-label="Penstock against other clients, ratios">',
        f"<style>{STYLE}</style>",
        '<text class="title" x="12" y="24">Penstock against other clients (log scale, longer is better)</text>',
        '<text class="small" x="12" y="42">blue: messages/s · violet: CPU per message · green: latency, start, memory · '
        "orange mark: target</text>",
    ]
    for power in range(low, high + 1):
        kind = "one" if power == 0 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{x(2**power)}" y1="{TOP - 10}" x2="{x(2**power)}" y2="{height - BOTTOM}"/>'
        )
        label = f"{2**power}×" if power >= 0 else f"1/{2**-power}"
        parts.append(
            f'<text class="small" text-anchor="middle" x="{x(2**power)}" y="{height - BOTTOM + 16}">{label}</text>'
        )
    at = TOP
    for title, them, group in groups:
        top, at = at, at + (_height(group) - len(group) * (BAR + 4)) // 2
        middle = top + _height(group) / 2
        parts.append(f'<text text-anchor="end" x="{LEFT - 10}" y="{middle - 2:.0f}">{escape(_short(title))}</text>')
        parts.append(
            f'<text class="small" text-anchor="end" x="{LEFT - 10}" y="{middle + 12:.0f}">{escape(them)}</text>'
        )
        for kind, better, target, text in group:
            start, end = sorted((x(1), x(better)))
            parts.append(
                f'<rect class="{kind}" x="{start}" y="{at}" width="{max(1.0, end - start):.1f}" height="{BAR}" rx="2"/>'
            )
            if target:
                parts.append(
                    f'<line class="target" x1="{x(target)}" y1="{at - 2}" x2="{x(target)}" y2="{at + BAR + 2}"/>'
                )
            behind = max(end, x(target) if target else end) + 6
            parts.append(f'<text class="small" x="{behind:.1f}" y="{at + BAR - 2}">{escape(text)}</text>')
            at += BAR + 4
        at = top + _height(group) + GAP
    return "\n".join([*parts, "</svg>", ""])


def _height(group: Sequence[Bar]) -> int:
    """The height of the bars, at least that of two lines of text beside them."""
    return max(2, len(group)) * (BAR + 4)


def _short(title: str) -> str:
    return title if len(title) <= 44 else title[:43].rstrip(" ,:") + "…"
