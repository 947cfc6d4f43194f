"""`penstock produce`: sends a file or stdin to a topic."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

import typer

from penstock import KafkaProducer, ProducerConfig
from penstock.cli.arrow_input import ArrowSource, pump_batches, require_pyarrow
from penstock.cli.inputs import CsvSource, InputError, JsonLinesSource, LineSource, Source
from penstock.cli.interrupts import Interrupts, cut_short
from penstock.cli.options import Rate, Wait, pairs, settings_of
from penstock.cli.output import CommandError, OutputError, complain, print_json, print_line
from penstock.cli.progress import progress
from penstock.cli.sending import Headers, Pace, deliver, pump
from penstock.cli.tally import Summary, Tally
from penstock.cli.target import Bootstrap, Dev, bootstrap_servers
from penstock.cli.waiting import awaited
from penstock.errors import KafkaError
from penstock.serialization import ByteArraySerializer


class Format(StrEnum):
    """Input formats."""

    lines = "lines"
    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"
    arrow = "arrow"


def produce(
    topic: Annotated[str, typer.Option("--topic", "-t", help="Topic to send to.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Input; - is stdin.")] = "-",
    format: Annotated[Format, typer.Option("--format", "-f", help="Format of the input.")] = Format.lines,
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Not for lines: column or field for the key.")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--key-delimiter", "-K", metavar="DELIM", help="lines: text that ends the key.")
    ] = None,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Send to this partition.")] = None,
    header: Annotated[
        list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="On each record; repeatable.")
    ] = None,
    bootstrap: Bootstrap = None,
    dev: Dev = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", "-X", metavar="NAME=VALUE", help="Producer setting; repeatable.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Producer settings, a .properties file.")] = None,
    separator: Annotated[
        str | None, typer.Option("--delimiter", metavar="CHAR", help="csv: cell delimiter, such as ';' or '\\t'.")
    ] = None,
    infer: Annotated[bool, typer.Option("--infer", help="csv: make numbers JSON numbers.")] = False,
    null: Annotated[str | None, typer.Option(metavar="TEXT", help="csv: cell text that means null.")] = None,
    rate: Rate = None,
    wait: Wait = None,
    json: Annotated[bool, typer.Option("--json", help="Summary as JSON.")] = False,
) -> None:
    """Send lines, JSON lines, or rows of CSV, Parquet or Arrow (as JSON objects) to a topic, and wait for every acknowledgment.

    Bad input ends it with file and line; the records that were acknowledged before are reported. In CSV and JSON lines, blank
    lines are skipped and counted. Ctrl-C, SIGTERM and SIGHUP wait up to 5 s for sent records, a second Ctrl-C does not.
    """
    headers = tuple((name, value.encode()) for name, value in pairs("-H", header))
    settings = settings_of(config, setting)
    _check(format, key=key, delimiter=delimiter, separator=separator, infer=infer, null=null)
    cells = "," if separator is None else _one_character(separator)
    configured = cast("str | None", settings.pop("bootstrap.servers", None))
    with _opened(file) as stream, bootstrap_servers(bootstrap, dev, configured=configured) as servers:
        source = _source(stream, file, format, key=key, delimiter=delimiter, separator=cells, infer=infer, null=null)
        # The values are bytes already, whatever serializers a file for a Java producer names.
        checked = ProducerConfig(
            settings,
            bootstrap_servers=servers,
            key_serializer=ByteArraySerializer(),
            value_serializer=ByteArraySerializer(),
        )
        problem, code = awaited(checked, settings, topic, wait_s=wait, partition=partition)
        tally = Tally()
        if not code:
            pace = None if rate is None or math.isinf(rate) else Pace(rate)
            producer: KafkaProducer[Any, Any] = KafkaProducer(checked)
            problem, code = _run(producer, topic, source, tally, partition=partition, headers=headers, pace=pace)
    summary = tally.summary()
    code = code or int(summary.failed > 0)
    sentence = _sentence(summary, source.blank_lines)
    try:
        if json:
            print_json(summary.as_json() | {"blank_lines": source.blank_lines, "error": problem})
        else:
            print_line(sentence)
    except OutputError as error:
        # The summary still has to report what was acknowledged.
        complain(sentence)
        complain(str(error))
        code = code or error.code
    for failures in summary.errors:
        complain(str(failures))
    if (others := summary.failed - sum(failures.records for failures in summary.errors)) > 0:
        complain(f"{others:,} more failed, for other reasons")
    if problem is not None:
        complain(f"{problem} ({summary.acknowledged:,} records were acknowledged)")
    raise typer.Exit(code)


def _run(
    producer: KafkaProducer[Any, Any],
    topic: str,
    source: Source | ArrowSource,
    tally: Tally,
    *,
    partition: int | None,
    headers: Headers,
    pace: Pace | None,
) -> tuple[str | None, int]:
    """Send everything and close the producer; returns the problem, if any, and the exit code."""
    problem = None

    def send(interrupts: Interrupts) -> None:
        nonlocal problem
        try:
            if isinstance(source, ArrowSource):
                pump_batches(
                    producer, topic, source, tally, interrupts, partition=partition, headers=headers, pace=pace
                )
            else:
                pump(
                    producer,
                    topic,
                    source,
                    tally,
                    interrupts,
                    partition=partition,
                    headers=lambda _: headers,
                    pace=pace,
                )
        except InputError as error:
            problem = str(error)
        except KafkaError as error:
            problem = f"{source.name}:{source.line}: {error}"

    stopped_by = deliver(producer, send, tally, progress(tally))
    return (problem, int(problem is not None)) if stopped_by is None else cut_short(stopped_by)


def _check(format: Format, **given: object) -> None:
    options = {Format.lines: {"delimiter"}, Format.csv: {"key", "separator", "infer", "null"}}
    allowed = options.get(format, {"key"})
    names: Mapping[str, str] = {"delimiter": "-K", "separator": "--delimiter"}
    for option, value in given.items():
        if value not in (None, False) and option not in allowed:
            raise CommandError(f"{names.get(option, f'--{option}')} does not go with --format {format}", code=2)
    if format in (Format.parquet, Format.arrow):
        require_pyarrow()
    if given["delimiter"] == "":
        raise CommandError("-K: the delimiter is empty", code=2)


def _one_character(given: str) -> str:
    delimiter = "\t" if given == r"\t" else given
    if len(delimiter) != 1:
        raise CommandError(f"--delimiter {given}: not one character", code=2)
    if delimiter in '"\r\n':
        raise CommandError(f"--delimiter {delimiter!r}: quotes and line ends have their own meaning in CSV", code=2)
    return delimiter


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        if sys.stdin is None:
            raise CommandError("stdin is closed; name a FILE to send", code=2)
        yield sys.stdin.buffer
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115 (closed below; only opening may fail here)
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror} (0 records were acknowledged)") from error
    with stream:
        yield stream


def _source(
    stream: BinaryIO,
    file: str,
    format: Format,
    *,
    key: str | None,
    delimiter: str | None,
    separator: str,
    infer: bool,
    null: str | None,
) -> Source | ArrowSource:
    name = "<stdin>" if file == "-" else file
    if format is Format.lines:
        return LineSource(stream, name, delimiter=delimiter)
    if format is Format.csv:
        return CsvSource(stream, name, key=key, infer=infer, null=null, delimiter=separator, warn=complain)
    if format is Format.parquet and not stream.seekable():
        raise CommandError("Parquet cannot be read from a pipe; name a FILE", code=2)
    if format in (Format.parquet, Format.arrow):
        return ArrowSource(stream, name, parquet=format is Format.parquet, key=key)
    return JsonLinesSource(stream, name, key=key)


def _sentence(summary: Summary, blank_lines: int) -> str:
    partitions = ", ".join(f"{partition}: {count:,}" for partition, count in summary.partitions.items())
    text = (
        f"{summary.acknowledged:,} of {summary.records:,} records acknowledged in {summary.seconds:.2f} s: "
        f"{summary.records_per_second:,.0f} records/s, {summary.bytes / 1e6:,.2f} MB"
    )
    if summary.latency_p50_ms is not None and summary.latency_p99_ms is not None:
        text += f"; latency p50 {summary.latency_p50_ms:.1f} ms, p99 {summary.latency_p99_ms:.1f} ms"
    if partitions:
        text += f"; partitions {partitions}"
    if summary.failed:
        text += f"; {summary.failed:,} failed"
    if blank_lines:
        text += f"; {blank_lines:,} blank line{'' if blank_lines == 1 else 's'} skipped"
    return text
