"""Instructions per message on the path of a record, counted by callgrind: the same on a busy machine as on an idle one.

`python -m bench.instructions` (`make bench-instructions`) counts, compares with the figures in `instructions.json`, and fails
if a case takes more than the tolerance above its figure: 5 % on the application's thread, 15 % in all. `--keep` writes new
figures, `--profile` shows the functions with the most instructions.

A case runs with N and with 2N records into the null sink; the difference divided by N leaves out start and end. The hash seed
is fixed; batches that close by time rather than by size make small differences from run to run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bench.places import Sink
from bench.surroundings import HERE, ROOT

KEPT = HERE / "instructions.json"
TOLERANCE = {"application": 0.05, "total": 0.15}
"""The application's thread does the same every time, to a thousandth. The other threads depend on how the work is divided
into batches, and with callbacks on when the garbage collector runs."""
RECORDS = 50_000
CHUNK = 10_000
TIMEOUT_S = 300.0

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "short form": ("penstock:futures", {}),
    "ProducerRecord": ("penstock:records", {}),
    "keyed": ("penstock:futures", {"keys": CHUNK}),
    "callback": ("penstock:callback", {}),
    "asyncio": ("penstock_async:futures", {}),
    "bulk": ("penstock:bulk", {"bulk": 1000}),
}

Functions = Counter[str]
Figures = Mapping[str, float]


class Counted(NamedTuple):
    """Instructions by function, on each side: the application's threads and the native I/O thread."""

    application: Functions
    io: Functions
    other: Functions


def parse(lines: Iterable[str]) -> Functions:
    """A callgrind file as instructions by function, without those of callees.

    Names are written once and then referred to by number; the line after `calls=` counts the callee, which is counted itself.
    """
    names: dict[str, str] = {}
    counted: Functions = Counter()
    function, skip = "", False
    for line in lines:
        if line.startswith("fn="):
            number, _, name = line[3:].strip().partition(" ")
            function = names.setdefault(number, name) if name else names[number]
        elif line.startswith("cfn="):
            number, _, name = line[4:].strip().partition(" ")
            if name:
                names.setdefault(number, name)
        elif line.startswith("calls="):
            skip = True
        elif line[:1].isdigit() or line[:1] in ("+", "-", "*"):
            if not skip:
                counted[function] += int(line.split()[1])
            skip = False
    return counted


def sort_threads(threads: list[Functions]) -> Counted:
    """The first thread is the application's; the one that runs the engine is the I/O thread; the others are Python's."""
    engine = [any("engine::Engine" in name and "run_once" in name for name in functions) for functions in threads]
    application, io, other = Counter(threads[0]), Functions(), Functions()
    for functions, is_io in zip(threads[1:], engine[1:], strict=True):
        (io if is_io else other).update(functions)
    return Counted(application, io, other)


def per_message(once: Functions, twice: Functions, records: int) -> Functions:
    """The difference of two runs, by function, in instructions per message."""
    names = once.keys() | twice.keys()
    return Functions({name: (twice[name] - once[name]) / records for name in names})


def compared(kept: Mapping[str, Figures], now: Mapping[str, Figures], tolerance: Mapping[str, float]) -> list[str]:
    """The cases above their tolerance."""
    return [
        f"{case}, {side}: {taken:,.0f} instructions per message, {taken / before - 1:+.1%} against the {before:,.0f} kept"
        for case in now
        if case in kept
        for side, allowed in tolerance.items()
        for taken, before in [(now[case][side], kept[case][side])]
        if taken > before * (1 + allowed)
    ]


def run(case: str, records: int) -> Counted | str:
    """One case under callgrind; a text is the reason why it cannot run."""
    client, more = CASES[case]
    with tempfile.TemporaryDirectory(prefix="penstock-callgrind-") as folder, Sink(6) as sink:
        task = {"bootstrap": sink.bootstrap_servers, "topic": "instructions", "size": 100, "linger_ms": 5}
        task |= {"count": records, "chunk": CHUNK, **more}
        command = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={folder}/out"]
        done = subprocess.run(
            [*command, sys.executable, "-m", "bench.worker", client, json.dumps(task)],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{case} failed under valgrind:\n{done.stderr}")
        measured = json.loads(done.stdout)
        if "not_run" in measured:
            return str(measured["not_run"])
        if measured["failures"]:
            raise SystemExit(f"{case}: {measured['failures']} records failed under valgrind")
        threads = [parse(file.read_text().splitlines()) for file in sorted(Path(folder).glob("out-*"))]
    return sort_threads(threads)


def measure(case: str) -> Counted | str:
    """Instructions per message of one case, by function."""
    once, twice = run(case, RECORDS), run(case, 2 * RECORDS)
    if isinstance(once, str) or isinstance(twice, str):
        return str(once)
    return Counted(*(per_message(a, b, RECORDS) for a, b in zip(once, twice, strict=True)))


def interpreter() -> str:
    """The interpreter; instruction counts depend on it, and on little else."""
    return f"{platform.python_implementation()} {'.'.join(platform.python_version_tuple()[:2])} {platform.machine()}"


def show(functions: Functions, side: str, top: int) -> None:
    print(f"\n{side}: {sum(functions.values()):,.0f} instructions per message")
    for name, count in functions.most_common(top):
        print(f"{count:10,.1f}  {name[:120]}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.instructions", description="instructions per message, by callgrind")
    parser.add_argument("--keep", action="store_true", help=f"write {KEPT.name} again")
    parser.add_argument("--cases", default="", help=f"comma-separated; default all: {', '.join(CASES)}")
    parser.add_argument("--profile", action="store_true", help="show the functions that take most")
    arguments = parser.parse_args()
    if shutil.which("valgrind") is None:
        raise SystemExit(
            "valgrind is not installed: instructions cannot be counted. Install it, or leave this to a machine that has it."
        )
    wanted = [case.strip() for case in arguments.cases.split(",") if case.strip()] or list(CASES)
    if unknown := [case for case in wanted if case not in CASES]:
        raise SystemExit(f"no case is called {', '.join(unknown)}; there are: {', '.join(CASES)}")
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {"interpreter": None, "cases": {}}
    now: dict[str, Figures] = {}
    print(f"{'case':<16}{'application':>12}{'I/O':>8}{'other':>8}{'total':>10}{'kept':>10}")
    for case in wanted:
        counted = measure(case)
        if isinstance(counted, str):
            print(f"{case:<16}not run: {counted}")
            continue
        sides = [sum(functions.values()) for functions in counted]
        now[case] = {"application": round(sides[0], 1), "total": round(sum(sides), 1)}
        before = kept["cases"].get(case, {}).get("total", "")
        print(
            f"{case:<16}{sides[0]:>12,.0f}{sides[1]:>8,.0f}{sides[2]:>8,.0f}{sum(sides):>10,.0f}{before:>10}",
            flush=True,
        )
        if arguments.profile:
            for functions, side in zip(counted, ("application thread", "I/O thread", "other threads"), strict=True):
                show(functions, side, 25)
    if arguments.keep:
        cases = {**kept["cases"], **now} if kept["interpreter"] == interpreter() else now
        KEPT.write_text(json.dumps({"interpreter": interpreter(), "cases": cases}, indent=1) + "\n")
        print(f"kept in {KEPT.name}")
    elif kept["interpreter"] != interpreter():
        print(f"The kept figures are for {kept['interpreter']}, this is {interpreter()}: nothing to compare with.")
    elif worse := compared(kept["cases"], now, TOLERANCE):
        raise SystemExit("\n".join(["more than the tolerance above the kept figures:", *worse]))


if __name__ == "__main__":
    main()
