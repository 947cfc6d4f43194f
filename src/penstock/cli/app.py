"""The commands, and what ends them: one place decides about exit codes and error messages."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import typer

from penstock.cli import broker, config, produce, tail, topics
from penstock.cli.output import INTERRUPTED, CommandError, complain
from penstock.cli.target import attach_dev_folder
from penstock.errors import ConfigError, KafkaError

app = typer.Typer(
    name="penstock",
    help="Produce to Kafka, look into topics, and run an embedded broker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("produce")(produce.produce)
app.command("tail")(tail.tail)
app.add_typer(topics.app, name="topics")
app.command("broker")(broker.broker)
app.command("config")(config.config)


def run(arguments: Sequence[str]) -> int:
    """Run a command line; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="penstock: %(message)s")
    try:
        app(attach_dev_folder(arguments), prog_name="penstock")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except CommandError as failure:
        complain(str(failure))
        return failure.code
    except ConfigError as error:
        complain(str(error))
        return 2
    except KafkaError as error:
        complain(str(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
