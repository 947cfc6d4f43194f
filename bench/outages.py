"""Outages of the way to the broker, one after the other, and how soon after each a client's first acknowledgment comes."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.contestants.common import percentile

START_S = 5.0
"""A contestant has started, connected and sends by then."""


class Breakable(Protocol):
    """The part of `tools/chaos/fault_proxy.py` that is needed."""

    def cut(self, *nodes: int) -> None: ...
    def freeze(self, *nodes: int) -> None: ...
    def refuse(self, *nodes: int) -> None: ...
    def sever(self, *nodes: int) -> None: ...
    def heal(self, *nodes: int) -> None: ...


@dataclass(frozen=True)
class Outages:
    """What happens how often, and for how long. Part of a row."""

    kind: str
    """cut: bytes vanish, and the connection is reset at the end; freeze: they wait; restart: it is reset, and new ones are
    refused until the end."""
    count: int
    down_s: float = 0.3
    up_s: float = 0.3

    @property
    def duration_s(self) -> float:
        """How long a client has to send."""
        return START_S + self.count * (self.down_s + self.up_s) + 1

    def begin(self, proxy: Breakable) -> None:
        """Begin one."""
        if self.kind == "cut":
            proxy.cut()
        elif self.kind == "freeze":
            proxy.freeze()
        else:
            proxy.refuse()
            proxy.sever()


class Player:
    """Plays outages in a thread of its own while a client runs: `with Player(…) as player`, then `player.ends`."""

    def __init__(self, outages: Outages, proxy: Breakable) -> None:
        self.ends: list[float] = []
        """When each outage ended, by the machine's monotonic clock, which all processes share."""
        self._outages, self._proxy = outages, proxy
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)

    def _play(self) -> None:
        self._stop.wait(START_S)
        for _ in range(self._outages.count):
            if self._stop.is_set():
                return
            self._outages.begin(self._proxy)
            self._stop.wait(self._outages.down_s)
            # Before it is healed: `heal` returns after the first bytes have passed.
            self.ends.append(time.perf_counter())
            self._proxy.heal()
            self._stop.wait(self._outages.up_s)

    def __enter__(self) -> Player:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)


def recovery_figures(acknowledged: Sequence[float], ends: Sequence[float]) -> dict[str, float]:
    """From the end of each outage to the first acknowledgment after it, ms; empty without outages."""
    times = sorted(acknowledged)
    found = []
    for end in ends:
        at = bisect_left(times, end)
        # Before the client has begun to send, or after its last one, there is nothing to wait for.
        if times and times[0] < end and at < len(times):
            found.append((times[at] - end) * 1e3)
    if not found:
        return {}
    found.sort()
    return {"recovery_p50_ms": percentile(found, 50), "recovery_p99_ms": percentile(found, 99), "outages": len(found)}
