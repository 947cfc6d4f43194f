"""The listing of all settings, as `penstock config` prints it."""

from collections.abc import Iterator
from typing import NamedTuple

from penstock.config.support import Status, support
from penstock.config.table import SETTINGS


class ConfigRow(NamedTuple):
    """One line of `penstock config`."""

    name: str
    type: str
    default: str
    importance: str
    valid: str
    status: Status
    default_honoured: bool
    note: str


def describe() -> Iterator[ConfigRow]:
    """All settings by name: Kafka's definition, and the status in Penstock.

    `default_honoured` is False where even the default needs a feature that Penstock does not have yet.
    """
    for setting in SETTINGS:
        status, note, _, honoured = support(setting.name)
        valid = str(setting.validator) if setting.validator is not None else ""
        default = "(required)" if setting.name == "bootstrap.servers" else setting.default_text
        yield ConfigRow(setting.name, setting.type, default, setting.importance, valid, status, honoured, note)
