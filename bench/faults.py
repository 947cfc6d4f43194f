"""Faults between clients and the broker: data, and the plan that follows from a seed, the same for every contestant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

NOT_LEADER, REQUEST_TIMED_OUT = 6, 7
_REQUESTS = 20_000
"""More than any contestant makes: the plan does not end before the load does."""

RESET: Mapping[str, Any] = {"reset": "request"}
"""The connection is reset amid the request."""
DROP: Mapping[str, Any] = {"drop": "close"}
"""The request is appended, and the connection closed in place of an answer."""
MIX: tuple[Mapping[str, Any], ...] = (
    RESET,
    DROP,
    {"reset": "answer"},
    {"close": True},
    {"error": NOT_LEADER},
    {"error": REQUEST_TIMED_OUT, "after_append": True},
    {"answer_delay_ms": 50},
)
"""Besides these two: the answer reset, the connection closed before the request is read on, two errors, a late answer."""


@dataclass(frozen=True)
class Faults:
    """What may happen to a Produce request, and how often. Part of a row."""

    chance: float
    kinds: tuple[Mapping[str, Any], ...]

    def plan(self, seed: int) -> list[dict[str, Any]]:
        """The rules of `tools/chaos/fault_rules.py` for one request after the other; most may say nothing."""
        random = Random(seed)
        return [
            {"api": "Produce", **(random.choice(self.kinds) if random.random() < self.chance else {})}
            for _ in range(_REQUESTS)
        ]
