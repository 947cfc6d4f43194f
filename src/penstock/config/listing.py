"""The listing of all settings, as `penstock config` prints it."""

from collections.abc import Iterator
from typing import NamedTuple

from penstock.config.own import ABOUT, ALL_SETTINGS, DEFAULT_WORDS
from penstock.config.support import Status, support


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
    about: str


def describe() -> Iterator[ConfigRow]:
    """All settings by name, Kafka's and ours: the definition, and the status in Penstock.

    `default_honoured` is False where even the default needs a feature that Penstock does not have yet.
    `about` describes a setting of our own; it is empty for Kafka's, which Kafka documents.
    """
    for setting in ALL_SETTINGS:
        status, note, _, honoured = support(setting.name)
        valid = str(setting.validator) if setting.validator is not None else ""
        default = "(required)" if setting.name == "bootstrap.servers" else setting.default_text
        if setting.name in DEFAULT_WORDS:
            default = f"{DEFAULT_WORDS[setting.name]} (Kafka: {default})"
        about = ABOUT.get(setting.name, "")
        yield ConfigRow(setting.name, setting.type, default, setting.importance, valid, status, honoured, note, about)
