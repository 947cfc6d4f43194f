"""The result of `penstock bench`: lines, JSON, and a page or picture with the course of the run."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from penstock.cli.limits import Figures, Verdict, limit_as_json, verdict
from penstock.cli.load import Load
from penstock.cli.meter import Interval, Latencies

WIDTH: Final = 860
_PLOT_HEIGHT: Final = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 34, 30
_LINES: Final = (("p50", "#1f6feb"), ("p99", "#d9822b"), ("max", "#c93c37"))


class Report(NamedTuple):
    """The figures of a run. Times are seconds, latencies ms."""

    load: Load
    settings: dict[str, str]
    version: str
    machine: str
    records: int
    failed: int
    seconds: float
    cpu_seconds: float
    latencies: Latencies
    intervals: Sequence[Interval]
    figures: Figures | None = None
    """Of the producer; None: it could not be measured (interrupted early)."""

    @property
    def verdict(self) -> Verdict | None:
        """What limited the run."""
        return None if self.figures is None else verdict(self.figures)

    @property
    def records_per_second(self) -> float:
        """Acknowledged records divided by the time until the last acknowledgment."""
        return (self.records - self.failed) / self.seconds if self.seconds else 0.0

    @property
    def cpu_us_per_record(self) -> float:
        """CPU time of the whole process: all threads, and generating the load."""
        return self.cpu_seconds / self.records * 1e6 if self.records else 0.0

    def lines(self) -> Iterator[str]:
        """The text for a terminal."""
        yield f"{self.records - self.failed:,} of {self.records:,} records acknowledged in {self.seconds:.2f} s" + (
            f"; {self.failed:,} failed" if self.failed else ""
        )
        yield (
            f"{self.records_per_second:,.0f} records/s, {self.records_per_second * self.load.size / 1e6:,.1f} MB/s, "
            f"{self.cpu_us_per_record:.2f} µs of CPU per record"
        )
        if self.latencies.count:
            figures = ", ".join(f"{name} {_number(value)}" for name, value in self.latencies.percentiles().items())
            yield f"latency of {self.latencies.count:,} acknowledgments in ms: {figures}"
        if (found := self.verdict) is not None:
            yield from found.lines()

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "version": self.version,
            "machine": self.machine,
            "load": self.load._asdict(),
            "settings": self.settings,
            "records": self.records,
            "failed": self.failed,
            "seconds": round(self.seconds, 6),
            "records_per_second": round(self.records_per_second, 1),
            "mb_per_second": round(self.records_per_second * self.load.size / 1e6, 3),
            "cpu_us_per_record": round(self.cpu_us_per_record, 4),
            "latency_samples": self.latencies.count,
            "latency_ms": {
                name: None if value is None else round(value, 3) for name, value in self.latencies.percentiles().items()
            },
            "intervals": [interval._asdict() for interval in self.intervals],
            "limit": None if self.figures is None else limit_as_json(self.figures),
        }


def as_html(report: Report) -> str:
    """One self-contained HTML page."""
    load = report.load
    asked = {
        "topic": load.topic,
        "value": f"{load.size:,} bytes, {load.content}",
        "keys": f"{load.keys:,} different" if load.keys else "none",
        "senders": f"{load.senders:,} {'tasks' if load.is_asyncio else 'threads'}",
        **({"records per call": f"{load.bulk:,}"} if load.bulk else {}),
        "rate": "no limit" if load.rate is None else f"{load.rate:,.0f} records/s, open loop",
        **report.settings,
        "penstock": report.version,
        "machine": report.machine,
    }
    found = {
        "records": f"{report.records:,}, {report.failed:,} failed",
        "time": f"{report.seconds:.2f} s",
        "records/s": f"{report.records_per_second:,.0f}",
        "MB/s": f"{report.records_per_second * load.size / 1e6:,.1f}",
        "CPU per record": f"{report.cpu_us_per_record:.2f} µs",
        **{f"latency {name}": f"{_number(value)} ms" for name, value in report.latencies.percentiles().items()},
    }
    if (limit := report.verdict) is not None:
        found |= {"limited by": f"{limit.by}: {limit.why}", "to change": limit.change}
    return _PAGE.format(title=html.escape(load.topic), found=_rows(found), asked=_rows(asked), picture=as_svg(report))


def as_svg(report: Report) -> str:
    """Throughput and latency over the run, as one picture."""
    height = 2 * (_TOP + _PLOT_HEIGHT + _BOTTOM)
    times = [interval.end_s for interval in report.intervals]
    rates = [interval.records_per_second for interval in report.intervals]
    latencies = {
        "p50": [interval.p50_ms for interval in report.intervals],
        "p99": [interval.p99_ms for interval in report.intervals],
        "max": [interval.highest_ms for interval in report.intervals],
    }
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        f"<title>penstock bench: {html.escape(report.load.topic)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *_plot("records/s, each second", times, {"records/s": (rates, "#1f6feb")}, 0, logarithmic=False),
        *_plot(
            "latency in ms, each second (logarithmic)",
            times,
            {name: (latencies[name], colour) for name, colour in _LINES},
            _TOP + _PLOT_HEIGHT + _BOTTOM,
            logarithmic=True,
        ),
        "</svg>",
    ]
    return "\n".join(parts)


def _plot(
    title: str,
    times: Sequence[float],
    lines: dict[str, tuple[Sequence[float | None], str]],
    top: int,
    *,
    logarithmic: bool,
) -> Iterator[str]:
    """Axes and a polyline for each series; without samples, only the axes."""
    known = [value for values, _ in lines.values() for value in values if value is not None]
    high = max(known, default=1.0) or 1.0
    low = max(min(known, default=0.1), 0.01) if logarithmic else 0.0
    ticks = _decades(low, high) if logarithmic else _steps(high)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    base = top + _TOP + _PLOT_HEIGHT
    span = max(times, default=1.0)

    def x(seconds: float) -> float:
        return _LEFT + seconds / span * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        part = math.log(max(value, low) / low) / math.log(high / low) if logarithmic else value / high
        return base - part * _PLOT_HEIGHT

    yield f'<text x="{_LEFT}" y="{top + 20}" font-weight="600" fill="#1f2328">{title}</text>'
    for tick in ticks:
        yield f'<line x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" stroke="#d0d7de"/>'
        yield f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end" fill="#57606a">{_short(tick)}</text>'
    for seconds in _steps(span):
        yield f'<text x="{x(seconds):.1f}" y="{base + 18}" text-anchor="middle" fill="#57606a">{_short(seconds)} s</text>'
    yield from _series(times, lines, x, y, top)


def _series(
    times: Sequence[float],
    lines: dict[str, tuple[Sequence[float | None], str]],
    x: Callable[[float], float],
    y: Callable[[float], float],
    top: int,
) -> Iterator[str]:
    for number, (name, (values, colour)) in enumerate(reversed(lines.items())):
        points = [f"{x(at):.1f},{y(value):.1f}" for at, value in zip(times, values, strict=True) if value is not None]
        if len(points) == 1:
            at, level = points[0].split(",")
            yield f'<circle cx="{at}" cy="{level}" r="3" fill="{colour}"/>'
        elif points:
            yield f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        right = WIDTH - _RIGHT - number * 60
        yield f'<text x="{right}" y="{top + 20}" text-anchor="end" fill="{colour}" font-weight="600">{name}</text>'


def _steps(high: float) -> list[float]:
    """Four to eight round numbers from 0 to `high`."""
    step = 10.0 ** math.floor(math.log10(high / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if high / (step * factor) <= 8)
    return [step * number for number in range(math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [10.0**exponent for exponent in range(first, max(last, first + 1) + 1)]


def _short(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e4 else f"{value:g}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def _rows(figures: dict[str, str]) -> str:
    return "\n".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in figures.items()
    )


_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>penstock bench: {title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 2rem auto; padding: 0 1rem }}
body {{ color: #1f2328; background: #fff }}
.figures {{ display: flex; flex-wrap: wrap; gap: 3rem }}
th {{ text-align: left; font-weight: 500; color: #57606a; padding-right: 1.5rem; vertical-align: top }}
td {{ font-variant-numeric: tabular-nums }}
svg {{ width: 100%; height: auto }}
</style>
<h1>penstock bench: {title}</h1>
<div class="figures">
<table>{found}</table>
<table>{asked}</table>
</div>
{picture}
</html>
"""
