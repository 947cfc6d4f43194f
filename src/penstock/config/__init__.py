"""The producer's configuration: Kafka's names and rules, read and checked before any thread starts.

Each of the names of Java's `ProducerConfig` (kafka-clients 4.4) is known with its type, default, importance and
validator. Settings of our own are called `penstock.<area>.<name>` (`own.py`). `penstock config` lists all of them with
their status in Penstock: a planned setting is refused unless it keeps its default, a setting that only a JVM can honour
is accepted and logged, and an unknown name is refused with a suggestion.
"""

from penstock.config.definition import Password
from penstock.config.listing import ConfigRow, describe
from penstock.config.options import ProducerOptions
from penstock.config.producer import ProducerConfig
from penstock.config.rules import parse_bootstrap_servers
from penstock.config.settings import ProducerSettings

__all__ = [
    "ConfigRow",
    "Password",
    "ProducerConfig",
    "ProducerOptions",
    "ProducerSettings",
    "describe",
    "parse_bootstrap_servers",
]
