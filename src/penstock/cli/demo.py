"""`make demo`: 336,776 real flights through an embedded broker, and the proof that they arrived.

The broker runs in a process of its own, on a free port, with its log in a temporary folder.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from rich.console import Console
from rich.table import Table

from penstock import KafkaProducer
from penstock.cli import flights, proof
from penstock.cli.admin import Admin
from penstock.cli.arguments import as_text
from penstock.cli.inputs import Entry
from penstock.cli.interrupts import Interrupts, exit_code
from penstock.cli.output import INTERRUPTED, CommandError, complain, print_json, writing
from penstock.cli.progress import progress
from penstock.cli.sending import deliver, pump
from penstock.cli.tally import Summary, Tally
from penstock.errors import KafkaError

PARTITIONS: Final = 6

_STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """The demo's result; `differences` is None if it was interrupted before the proof."""

    summary: Summary
    differences: proof.Differences | None
    proof_seconds: float
    stopped_by: signal.Signals | None

    @property
    def is_proved(self) -> bool:
        """Whether every row was acknowledged and read back as it was sent."""
        return self.differences is not None and not self.differences.count and not self.summary.failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns 0 if everything arrived, 1 if not, 2 for bad arguments, 130 after Ctrl-C."""
    try:
        given = [as_text(argument) for argument in (sys.argv[1:] if arguments is None else arguments)]
    except CommandError as error:
        complain(str(error))
        return error.code
    options = _parser().parse_args(given)
    try:
        result = run(rows=options.rows, bootstrap=options.bootstrap, topic=options.topic)
        if options.json:
            print_json(_as_json(result))
        else:
            with writing() as out:
                _print(result, Console(file=out))
    except (CommandError, KafkaError) as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    if result.stopped_by is not None:
        return exit_code(result.stopped_by)
    return 0 if result.is_proved else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m penstock.cli.demo", description=main.__doc__)
    parser.add_argument("--rows", type=int, metavar="N", help=f"only the first N of {flights.ROWS:,} flights")
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT,...", help="an existing cluster instead of the embedded broker"
    )
    parser.add_argument("--topic", default="flights", help="created by the demo; it must not exist (default: flights)")
    parser.add_argument("--json", action="store_true", help="the result as JSON")
    return parser


def run(*, rows: int | None, bootstrap: str | None, topic: str) -> Result:
    """Send and prove."""
    with ExitStack() as stack:
        complain("reading the flights")
        entries = flights.entries(rows)
        servers = bootstrap if bootstrap is not None else stack.enter_context(embedded_broker())
        admin = Admin(servers)
        stack.callback(admin.close)
        admin.create(topic, PARTITIONS, -1, {})
        tally = Tally()
        stopped_by = _send(servers, topic, entries, tally)
        summary = tally.summary()
        if stopped_by is not None:
            return Result(summary, None, 0.0, stopped_by)
        complain("reading everything back with kafka-python")
        began = time.monotonic()
        differences = proof.compare(entries, summary.partitions, proof.read_back(servers, topic, PARTITIONS))
        return Result(summary, differences, time.monotonic() - began, None)


def _send(servers: str, topic: str, entries: list[Entry], tally: Tally) -> signal.Signals | None:
    """Returns the signal that cut it short, if any."""
    producer: KafkaProducer[bytes, bytes] = KafkaProducer(
        bootstrap_servers=servers, client_id="penstock-demo", acks="all", enable_idempotence=True
    )

    def send(interrupts: Interrupts) -> None:
        pump(producer, topic, entries, tally, interrupts, headers=lambda row: ((proof.ROW_HEADER, b"%d" % row),))

    return deliver(producer, send, tally, progress(tally, total=len(entries)))


@contextmanager
def embedded_broker() -> Iterator[str]:
    """A broker in its own process, so that it and the producer do not share a GIL; yields its host:port.

    It stops when its stdin ends, so that it cannot outlive this process, however this process ends.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="penstock-demo-"))
        log = stack.enter_context((Path(folder) / "broker.txt").open("w+"))
        command = [sys.executable, "-m", "penstock.cli", "broker", "--port", "0", "--until-eof"]
        process = subprocess.Popen(
            [*command, "--dir", str(Path(folder) / "data")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the producer, which still needs the broker to drain
        )
        stack.callback(_stop, process)
        assert process.stdout is not None
        servers = process.stdout.readline().strip()
        if not servers:
            raise CommandError(f"the embedded broker did not start:\n{_whole(log)}")
        yield servers


def _stop(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _whole(log: IO[str]) -> str:
    log.seek(0)
    return log.read().strip()


def _as_json(result: Result) -> dict[str, Any]:
    differences = result.differences
    found = None if differences is None else {"count": differences.count, "first": differences.shown}
    return result.summary.as_json() | {
        "proof": {"ok": result.is_proved, "differences": found, "seconds": round(result.proof_seconds, 3)}
    }


def _print(result: Result, console: Console) -> None:
    summary, differences = result.summary, result.differences
    table = Table("partition", "records", title="Flights", header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for partition, count in summary.partitions.items():
        table.add_row(str(partition), f"{count:,}")
    table.add_section()
    table.add_row("all", f"{summary.acknowledged:,}")
    console.print(table)
    console.print(
        f"{summary.acknowledged:,} of {summary.records:,} records acknowledged in {summary.seconds:.2f} s: "
        f"{summary.records_per_second:,.0f} records/s, {summary.bytes / 1e6 / max(summary.seconds, 1e-9):,.1f} MB/s",
        highlight=False,
    )
    if summary.latency_p50_ms is not None and summary.latency_p99_ms is not None:
        console.print(
            f"latency from send to acknowledgment: p50 {summary.latency_p50_ms:.1f} ms, "
            f"p99 {summary.latency_p99_ms:.1f} ms",
            highlight=False,
        )
    for failures in summary.errors:
        console.print(str(failures), style="red", markup=False)
    if differences is None:
        console.print("Interrupted: nothing was read back.")
    elif result.is_proved:
        console.print(
            f"[green]OK[/green]: kafka-python read all of it back in {result.proof_seconds:.1f} s; "
            "rows, keys, values, counts, and order per key and per partition agree.",
            highlight=False,
        )
    else:
        console.print(f"NOT OK: {differences.count:,} differences, {summary.failed:,} failed records", style="red")
        for text in differences.shown:
            console.print(f"  {text}", markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(main())
