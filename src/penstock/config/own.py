"""What is Penstock's own in the settings: those that Kafka does not have, `penstock.<area>.<name>`, and other defaults.

Our settings stand in one table with Kafka's for everything that a user does: keywords, properties files, checks, listing. A new
one needs a row in `_OWN` and a line in `OwnOptions` here, a row in `support.py`, and from there on what any setting needs.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypedDict

from penstock.config.definition import Range, Setting
from penstock.config.table import SETTINGS

PREFIX: Final = "penstock."


class _Own(NamedTuple):
    """A setting of our own, and what it does: Kafka's documentation does not have it."""

    setting: Setting
    about: str


_OWN: Final = (
    _Own(
        Setting("penstock.batch.growth.max.bytes", "INT", "MEDIUM", 1_000_000, Range(0, 2**31 - 1)),
        "A batch that cannot be sent yet grows beyond batch.size up to this many bytes, so that a slow or distant broker"
        " costs no throughput. Never below batch.size; bounded also by max.request.size and by what the topic accepts."
        " 0: no growth, batches as in Java; batch.size=0 also means no growth.",
    ),
    _Own(
        Setting("penstock.batch.linger.bytes", "INT", "LOW", 262_144, Range(0, 2**31 - 1)),
        "While two batches of a partition are under way, the next one goes on lingering (linger.ms) beyond batch.size until"
        " it has this many bytes: fewer, larger requests cost the client and the broker less. 0: a batch of batch.size is"
        " sent at once; so is it if batch.size is given and this is not, or without growth.",
    ),
)


class OwnOptions(TypedDict, total=False):
    """Our own settings as keyword options."""

    penstock_batch_growth_max_bytes: int
    penstock_batch_linger_bytes: int


OWN_SETTINGS: Final = tuple(own.setting for own in _OWN)
"""Ours only, sorted by name."""

ABOUT: Final = {own.setting.name: own.about for own in _OWN}
"""A setting of our own → what it does."""

ALL_SETTINGS: Final = tuple(sorted((*SETTINGS, *OWN_SETTINGS), key=lambda setting: setting.name))
"""Kafka's and ours, sorted by name."""

OUR_DEFAULTS: Final[dict[str, Any]] = {"receive.buffer.bytes": -1, "send.buffer.bytes": -1}
"""Kafka's settings whose default is another one here → ours. -1: the kernel sizes the buffer, by rate and distance."""

DEFAULT_WORDS: Final = dict.fromkeys(OUR_DEFAULTS, "kernel")
"""The same defaults, as the listing calls them."""
