"""Runs the rows against real peers and prints the results: `python -m bench` (`make bench`), `--quick` (`make bench-quick`).

`--network` (`make bench-network`) runs the rows with distance and with faults instead.

A row that was measured for this code on this machine is not run again: an interrupted benchmark continues.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from bench.chart import chart
from bench.default_rows import DEFAULT_ROWS
from bench.fault_rows import FAULT_ROWS
from bench.network_rows import NETWORK_ROWS
from bench.places import Kafka
from bench.report import Done, lines_of, report
from bench.results import Results, code_version, fingerprint
from bench.row import Row
from bench.rows import ROWS
from bench.runs import run_row
from bench.surroundings import CODE, HERE, ROOT, commit, machine, missing_tools

HERE_ROWS, FAR_ROWS = [*ROWS, *DEFAULT_ROWS], [*NETWORK_ROWS, *FAULT_ROWS]
KNOWN = {row.name: row for row in [*HERE_ROWS, *FAR_ROWS]}


def main() -> None:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)  # so that Kafka, link and the running contestant end, too
    chosen = [KNOWN[name] for name in arguments.rows] or [
        row for row in (FAR_ROWS if arguments.network else HERE_ROWS) if not (arguments.quick and row.only_full)
    ]
    name = (
        ("network-quick" if arguments.quick else "network")
        if arguments.network
        else "quick"
        if arguments.quick
        else "latest"
    )
    file: Path = arguments.json or HERE / "results" / f"{name}.json"
    results = Results(file)
    here, code = machine(), code_version(ROOT, CODE)
    about = {"machine": here, "commit": commit(), "quick": arguments.quick}
    done: list[tuple[Row, Done]] = []
    with Kafka() as kafka:
        for row in chosen:
            pairs = arguments.pairs or (row.quick_pairs if arguments.quick else row.pairs)
            key = {
                "code": code,
                "machine": fingerprint(here),
                "tools": fingerprint(missing_tools(one.client for one in row.contestants.values())),
                "row": fingerprint([row, pairs, arguments.quick]),
            }
            found = None if arguments.fresh else results.find(row.name, key)
            if found is None:
                began = time.monotonic()
                print(f"{row.name}: {row.title}", file=sys.stderr)
                found = {**run_row(row, pairs, arguments.quick, kafka), "key": key}
                found["compared"] = _compared(row, found)
                results.add(found, about)
                print(f"  {row.name} took {time.monotonic() - began:.0f} s", file=sys.stderr)
            else:
                print(
                    f"{row.name}: measured before for this code on this machine (FRESH=1 measures again)",
                    file=sys.stderr,
                )
            done.append((row, found))
    text = report(done, here, about["commit"])
    file.with_suffix(".md").write_text(text)
    file.with_suffix(".svg").write_text(chart(done))
    print(f"\n{text}\nWritten: {file}, {file.with_suffix('.md').name}, {file.with_suffix('.svg').name}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _compared(row: Row, found: Done) -> list[dict[str, object]]:
    """The comparisons as data, for readers of the JSON."""
    return [
        {
            "us": line.us,
            "them": line.them,
            **({"not_run": compared} if isinstance(compared, str) else {}),
            "figures": []
            if isinstance(compared, str)
            else [one._asdict() | {"target": vars(one.target)} for one in compared],
        }
        for line, compared in lines_of(row, found)
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench", description="paired benchmarks against other clients on a real Kafka"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller counts, fewer rounds: all rows in under 9 minutes"
    )
    parser.add_argument(
        "--network",
        action="store_true",
        help="the rows with distance (they need root, /dev/net/tun, ip) and with faults",
    )
    parser.add_argument(
        "--rows", default=os.environ.get("ROWS", ""), help=f"comma-separated; default all: {', '.join(KNOWN)}"
    )
    parser.add_argument("--pairs", type=int, default=0, help="counted rounds per row, in place of each row's own")
    parser.add_argument(
        "--fresh", action="store_true", default=bool(os.environ.get("FRESH")), help="measure stored rows again"
    )
    parser.add_argument("--json", type=Path, help="the result, default bench/results/latest.json or quick.json")
    arguments = parser.parse_args()
    arguments.rows = [name.strip() for name in arguments.rows.split(",") if name.strip()]
    for name in arguments.rows:
        if name not in KNOWN:
            parser.error(f"no row is called {name!r}; there are: {', '.join(KNOWN)}")
    return arguments


if __name__ == "__main__":
    main()
