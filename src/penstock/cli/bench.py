"""`penstock bench`: how fast this producer is with your cluster, and how long acknowledgments take."""

from __future__ import annotations

import asyncio
import contextlib
import math
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, cast

import typer
from rich.table import Table

from penstock import AsyncKafkaProducer, KafkaProducer, ProducerConfig
from penstock._native import __version__, timeout_s
from penstock.cli.interrupts import Interrupts, cut_short
from penstock.cli.limits import Figures, Watch, round_trip_ms
from penstock.cli.load import Content, Load, send_from_tasks, send_from_threads
from penstock.cli.meter import Meter
from penstock.cli.options import Json, Rate, Wait, number, settings_of
from penstock.cli.output import CommandError, complain, print_json, print_line
from penstock.cli.progress import live_display
from penstock.cli.report import Report, as_html, as_svg
from penstock.cli.sending import DRAIN_S
from penstock.cli.target import Bootstrap, Dev, bootstrap_servers
from penstock.cli.waiting import awaited
from penstock.errors import DeliveryError
from penstock.serialization import ByteArraySerializer

_INTERVAL_S: Final = 1.0
_CHECK_S: Final = 0.25


def bench(
    topic: Annotated[str, typer.Option("--topic", "-t", help="Topic to send to; the records stay in it.")],
    seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            parser=number("--seconds", "seconds", 0.1),
            help="How many seconds; 10 if --records is not given, inf: until Ctrl-C.",
        ),
    ] = None,
    records: Annotated[int | None, typer.Option("--records", "-n", min=1, help="How many records.")] = None,
    rate: Rate = None,
    size: Annotated[int, typer.Option(min=0, help="Bytes of a value.")] = 100,
    content: Annotated[Content, typer.Option(help="Kind of values.")] = Content.json,
    keys: Annotated[int, typer.Option(min=0, max=10_000_000, help="How many different keys; 0: none.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, max=1_000, help="Threads that send.  [default: 1]")] = None,
    tasks: Annotated[
        int | None,
        typer.Option(
            "--asyncio", min=1, max=100_000, metavar="TASKS", help="Send from tasks of one event loop, instead."
        ),
    ] = None,
    bulk: Annotated[
        int | None,
        typer.Option(min=1, max=1_000_000, metavar="RECORDS", help="Send with send_many, so many records per call."),
    ] = None,
    compression: Annotated[str | None, typer.Option(help="Short for -X compression.type=….")] = None,
    bootstrap: Bootstrap = None,
    dev: Dev = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", "-X", metavar="NAME=VALUE", help="Producer setting; repeatable.")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Producer settings, a .properties file.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a report: .html or .svg.")] = None,
    wait: Wait = None,
    json: Json = False,
) -> None:
    """Send generated records, and measure throughput and the latency of acknowledgments.

    With --rate the load is open: it does not wait for the cluster, and a latency counts from the time when a record was due.
    Without --rate, it is as fast as the buffer allows, and the latency is mostly the time in the full buffer. Ctrl-C ends it.
    """
    if report is not None and report.suffix not in (".html", ".svg"):
        raise CommandError(f"--report {report}: the name must end in .html or .svg", code=2)
    if report is not None and not report.resolve().parent.is_dir():
        raise CommandError(f"--report {report}: the folder does not exist", code=2)
    if tasks is not None and (threads is not None or bulk is not None):
        raise CommandError(
            f"--asyncio and {'--threads' if threads is not None else '--bulk'} exclude each other", code=2
        )
    settings = settings_of(config, setting)
    if compression is not None:
        settings["compression.type"] = compression
    if seconds is None and records is None:
        seconds = 10.0
    seconds = timeout_s(seconds)
    if rate is not None and math.isinf(rate):
        rate = None
    load = Load(topic, content, size, keys, tasks or threads or 1, rate, records, seconds, tasks is not None, bulk or 0)
    configured = cast("str | None", settings.pop("bootstrap.servers", None))
    with bootstrap_servers(bootstrap, dev, configured=configured) as servers:
        checked = ProducerConfig(
            settings,
            bootstrap_servers=servers,
            key_serializer=ByteArraySerializer(),
            value_serializer=ByteArraySerializer(),
        )
        problem, code = awaited(checked, settings, topic, wait_s=wait)
        if problem is not None:
            complain(problem)
            raise typer.Exit(code)
        producer: _Producer = AsyncKafkaProducer(checked) if load.is_asyncio else KafkaProducer(checked)
        done, problem, code = _run(producer, load, settings, round_trip_ms(checked.settings.bootstrap_addresses))
    if report is not None:
        try:
            report.write_text(as_html(done) if report.suffix == ".html" else as_svg(done), encoding="utf-8")
        except OSError as error:
            complain(f"--report {report}: {error.strerror}")
            code = code or 1
    if json:
        print_json(done.as_json() | {"error": problem})
    else:
        for line in done.lines():
            print_line(line)
    if problem is not None:
        complain(problem)
    raise typer.Exit(code)


_Producer: TypeAlias = KafkaProducer[Any, Any] | AsyncKafkaProducer[Any, Any]


def _run(
    producer: _Producer, load: Load, settings: dict[str, Any], distance_ms: float | None
) -> tuple[Report, str | None, int]:
    """Send the load and wait for the acknowledgments; returns the report, the problem if any, and the exit code."""
    stopped_by = None
    problem: str | None = None
    undelivered: str | None = None
    stop = threading.Event()
    meter = Meter(load.senders)
    watch: Watch | None = None
    figures: Figures | None = None
    cpu = time.process_time()
    with Interrupts() as interrupts:
        try:
            try:
                _fetch_metadata(producer, load.topic)  # connections and metadata are not measured
                watch = Watch(
                    producer.metrics, producer.config.settings.max_in_flight_requests_per_connection, distance_ms
                )
                meter = Meter(load.senders)
                cpu = time.process_time()
                with live_display(lambda: _table(meter, load), refresh_per_second=4):
                    for errors in _senders(producer, load, meter, stop):
                        problem = next((str(it) for it in errors if not isinstance(it, DeliveryError)), None)
                        undelivered = next((str(it) for it in errors if isinstance(it, DeliveryError)), None)
                        _wait_and_tick(meter)
                        watch.sample()
                    if isinstance(producer, KafkaProducer):
                        undelivered = _flush(producer, meter)
                if undelivered is not None:
                    complain(undelivered)
            except KeyboardInterrupt:
                stopped_by = interrupts.stopped_by
            meter.end()
            cpu = time.process_time() - cpu
            if watch is not None:
                figures = watch.figures(load, meter, cpu)
        finally:
            stop.set()
            with contextlib.suppress(DeliveryError):
                closing = producer.close(timeout=None if stopped_by is None else DRAIN_S)
                if closing is not None:
                    asyncio.run(closing)
    meter.tick()
    report = Report(
        load=load,
        settings={name: str(value) for name, value in settings.items()},
        version=__version__,
        machine=f"{platform.machine()}, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        records=sum(meter.sent),
        failed=meter.failed,
        seconds=meter.seconds,
        cpu_seconds=cpu,
        latencies=meter.latencies,
        intervals=meter.intervals,
        figures=figures,
    )
    if stopped_by is not None:
        return report, *cut_short(stopped_by)
    return report, problem, int(problem is not None or meter.failed > 0)


def _wait_and_tick(meter: Meter) -> None:
    time.sleep(_CHECK_S)
    last = meter.intervals[-1].end_s if meter.intervals else 0.0
    if meter.now() - meter.began - last >= _INTERVAL_S:
        meter.tick()


def _senders(producer: _Producer, load: Load, meter: Meter, stop: threading.Event) -> Iterator[list[BaseException]]:
    if isinstance(producer, AsyncKafkaProducer):
        return send_from_tasks(producer, load, meter, stop)
    return send_from_threads(producer, load, meter, stop)


def _fetch_metadata(producer: _Producer, topic: str) -> None:
    if isinstance(producer, AsyncKafkaProducer):
        asyncio.run(producer.partitions_for(topic))
    else:
        producer.partitions_for(topic)


def _flush(producer: KafkaProducer[Any, Any], meter: Meter) -> str | None:
    """Wait for the acknowledgments; returns the error about failures that no future or callback reported."""
    try:
        producer.flush()
    except DeliveryError as error:
        meter.fail(error.count)
        return str(error)
    return None


def _table(meter: Meter, load: Load) -> Table:
    """Figures of the last second and of the whole run."""
    table = Table("", "records/s", "MB/s", "p50 ms", "p99 ms", "max ms", box=None, header_style="bold", pad_edge=False)
    seconds, sent = meter.seconds, sum(meter.sent)
    if meter.intervals:
        last = meter.intervals[-1]
        table.add_row("last second", *_cells(last.records_per_second, load, last.p50_ms, last.p99_ms, last.highest_ms))
    found = meter.latencies.percentiles()
    overall = sent / max(seconds, 1e-9)
    table.add_row(f"{seconds:.0f} s, {sent:,} sent", *_cells(overall, load, found["p50"], found["p99"], found["max"]))
    return table


def _cells(per_second: float, load: Load, *latencies_ms: float | None) -> Iterator[str]:
    yield f"{per_second:,.0f}"
    yield f"{per_second * load.size / 1e6:,.1f}"
    for latency in latencies_ms:
        yield "" if latency is None else f"{latency:,.1f}"
