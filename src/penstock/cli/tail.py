"""`penstock tail`: writes a topic's records to stdout."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import typer

from penstock._reader import ConsumedRecord, Reader, Start
from penstock.cli.options import WAIT_S, Wait, settings_of
from penstock.cli.output import INTERRUPTED, CommandError, complain, reader_watch, writing
from penstock.cli.target import Bootstrap, Dev, bootstrap_servers

_MAX_AGE: Final = "metadata.max.age.ms"


def tail(
    topic: Annotated[str, typer.Option("--topic", "-t", help="Topic to read.")],
    offset: Annotated[
        str, typer.Option("--offset", "-o", metavar="beginning|end|N|-N", help="Where to begin in each partition.")
    ] = "end",
    count: Annotated[int | None, typer.Option("--count", "-c", min=0, help="Stop after this many records.")] = None,
    exit_at_end: Annotated[bool, typer.Option("--exit", "-e", help="Stop at the current end.")] = False,
    partition: Annotated[int | None, typer.Option("--partition", "-p", min=0, help="Only this partition.")] = None,
    delimiter: Annotated[
        str | None, typer.Option("--key-delimiter", "-K", metavar="DELIM", help="Print the key and DELIM first.")
    ] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="One line of JSON per record, with all its parts.")
    ] = False,
    bootstrap: Bootstrap = None,
    dev: Dev = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", "-X", metavar="NAME=VALUE", help="metadata.max.age.ms, 5000 by default."),
    ] = None,
    wait: Wait = None,
) -> None:
    """Print a topic's records: a value per line, unchanged; a null is an empty line.

    Records are in order within a partition. -N begins N records before each partition's end. Without -p and -e, every
    metadata.max.age.ms it checks for new partitions and reads them from their beginning; stderr reports them.
    """
    start = _start(offset)
    max_age_s = _max_age_s(setting)
    with (
        _quiet_interrupt(),
        bootstrap_servers(bootstrap, dev) as servers,
        Reader(
            servers,
            topic,
            start=start,
            until_end=exit_at_end,
            partitions=None if partition is None else [partition],
            timeout_s=WAIT_S if wait is None else max(WAIT_S, wait),
            start_timeout_s=wait,
            metadata_max_age_s=max_age_s,
            between=reader_watch(),
            notice=complain,
        ) as reader,
    ):
        for record in itertools.islice(reader, count):
            _write(_as_json(record) if json_lines else _as_line(record, delimiter))


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """Ctrl-C is the normal end of this command, not a failure."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None


def _start(offset: str) -> Start:
    if offset == "beginning":
        return "beginning"
    if offset == "end":
        return "end"
    try:
        return int(offset)
    except ValueError:
        raise CommandError(f"-o {offset}: not one of beginning, end, N, -N", code=2) from None


def _max_age_s(given: list[str] | None) -> float:
    max_age_ms = 5_000
    for name, value in settings_of(None, given).items():
        if name != _MAX_AGE:
            raise CommandError(f"-X {name}: the reader's only setting is {_MAX_AGE}", code=2)
        if not (value.isascii() and value.isdecimal() and len(value) < 20):
            raise CommandError(f"-X {name}={value}: not a number of ms", code=2)
        max_age_ms = int(value)
    return max_age_ms / 1000


def _write(line: bytes) -> None:
    # Flushed for each record: a user may be watching, or a pipe may wait for this line.
    with writing() as out:
        out.buffer.write(line + b"\n")


def _as_line(record: ConsumedRecord, delimiter: str | None) -> bytes:
    value = record.value or b""
    return value if delimiter is None else (record.key or b"") + delimiter.encode() + value


def _as_json(record: ConsumedRecord) -> bytes:
    whole = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": record.timestamp,
        **_text("key", record.key),
        **_text("value", record.value),
        "headers": [{"name": name, **_text("value", value)} for name, value in record.headers],
    }
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def _text(name: str, data: bytes | None) -> dict[str, Any]:
    """UTF-8 as text; anything else as base64, under a name that ends in it."""
    if data is None:
        return {name: None}
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
