"""An oracle: no record runs out of time before its own delivery.timeout.ms, whatever batch it is in."""

from __future__ import annotations

from typing import Protocol

from penstock.errors import KafkaError, KafkaTimeoutError
from simulation.world import World


class Outcome(Protocol):
    """A future of one record."""

    def done(self) -> bool: ...

    def exception(self, timeout: float | None = None) -> KafkaError | None: ...


def watch_for_early_failure(world: World, outcome: Outcome, place: str, timeout_us: int, early: list[str]) -> None:
    """Add `place` to `early` if the record that was sent now has run out of time one µs before its deadline."""

    def check() -> None:
        if not outcome.done():
            return
        try:
            error = outcome.exception(0)
        except KafkaError as raised:
            error = raised
        # A broker's own timeout has the same class, and another text.
        if isinstance(error, KafkaTimeoutError) and "the record was still" in str(error):
            early.append(f"{place}: {error}")

    world.after(timeout_us - 1, check)
