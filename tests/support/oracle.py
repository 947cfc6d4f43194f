"""The oracle: compares what producers reported about their records with the content of the logs.

Tests that inject faults (simulation, chaos, soak) number their records, keep the result of each future, read the logs
independently of the producer, and call `judge`. For acks=all with idempotence every violation is a bug:

| violation | the broken guarantee |
|---|---|
| lost | an acknowledged record is in the log |
| doubled | no record is in the log twice, whatever was reported |
| reordered | the records of one sender in one partition are in the order of their sends, failed ones included |
| false failure | what failed as *not persisted* is not in the log |
| misplaced | an acknowledged record is at the offset that its future reports (if it reports one) |
| unresolved | every future resolves |
| unknown | the log has only records that were sent |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

Outcome: TypeAlias = Literal["acknowledged", "not persisted", "possibly persisted", "unresolved"]
Place: TypeAlias = Hashable
"""A partition: any key of the caller's."""

EXAMPLES = 5
"""How many violations of a kind are kept as text."""


class Reported(NamedTuple):
    """The result of one record, as its future reports it."""

    place: Place
    sender: Hashable
    """One thread of one producer: its records have an order."""
    number: int
    """Grows with each send of the sender; unique for it over all partitions."""
    outcome: Outcome
    offset: int = -1
    """-1: the future reported none."""


class Logged(NamedTuple):
    """One record of a log, in the order of the log."""

    sender: Hashable
    number: int
    offset: int


@dataclass(slots=True)
class Verdict:
    """Counts, and the first few violations of each kind as text."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    persisted_though_failed: int = 0
    """Possibly persisted records that are in the log: not a violation, but interesting."""
    forgiven: int = 0
    """Acknowledged records that are missing and are allowed to be."""
    violations: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """No guarantee was broken."""
        return not self.violations

    def __str__(self) -> str:
        """Counts, then the violations."""
        reported = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        broken = ", ".join(f"{count:,} {kind}" for kind, count in sorted(self.violations.items())) or "nothing broken"
        return "\n  ".join([f"{self.outcomes.total():,} records: {reported}; {broken}", *self.examples])

    def violate(self, kind: str, what: str) -> None:
        """Count a violation."""
        self.violations[kind] += 1
        if self.violations[kind] <= EXAMPLES:
            self.examples.append(f"{kind}: {what}")


def judge(
    reported: Iterable[Reported],
    logs: Mapping[Place, Sequence[Logged]],
    *,
    cut: Mapping[Place, int] | None = None,
    forgive: Callable[[Reported], bool] = lambda _: False,
    unfenced: bool = False,
) -> Verdict:
    """Compare the reported results with the logs.

    ``cut``: logs that legitimately lost everything below an offset (a topic that was deleted and created again: all
    records that were acknowledged before). Records acknowledged at a lower offset may be missing. -1 allows every
    acknowledged record to be missing. ``forgive`` does the same for single records, for a caller that knows which were sent
    before the new topic existed. ``unfenced``: the producer changed its id, and a new id does not fence requests in flight
    with the old one, so that a record that failed as *possibly persisted* may be appended late.
    """
    verdict = Verdict()
    cut = cut or {}
    by_place: dict[Place, dict[tuple[Hashable, int], Reported]] = {}
    for record in reported:
        verdict.outcomes[record.outcome] += 1
        by_place.setdefault(record.place, {})[record.sender, record.number] = record
    for place in [*by_place, *(place for place in logs if place not in by_place)]:
        _judge_place(verdict, place, by_place.get(place, {}), logs.get(place, ()), cut, forgive, unfenced)
    return verdict


def _judge_place(
    verdict: Verdict,
    place: Place,
    reported: Mapping[tuple[Hashable, int], Reported],
    log: Sequence[Logged],
    cut: Mapping[Place, int],
    forgive: Callable[[Reported], bool],
    unfenced: bool,
) -> None:
    found: dict[tuple[Hashable, int], int] = {}
    last: dict[Hashable, Logged] = {}
    for entry in log:
        name = f"record {entry.number} of {entry.sender} in {place} at offset {entry.offset}"
        record = reported.get((entry.sender, entry.number))
        if record is None:
            verdict.violate("unknown", name)
            continue
        if (entry.sender, entry.number) in found:
            verdict.violate("doubled", f"{name}, and at {found[entry.sender, entry.number]}; it was {record.outcome}")
            continue
        found[entry.sender, entry.number] = entry.offset
        before = last.get(entry.sender)
        if before is None or before.number < entry.number:
            last[entry.sender] = entry
        elif not (unfenced and record.outcome == "possibly persisted"):
            verdict.violate("reordered", f"{name}, behind record {before.number}; it was {record.outcome}")
        if record.outcome == "not persisted":
            verdict.violate("false failure", name)
        elif record.outcome == "possibly persisted":
            verdict.persisted_though_failed += 1
        elif record.outcome == "acknowledged" and record.offset not in (-1, entry.offset):
            verdict.violate("misplaced", f"{name}; its future says {record.offset}")
    forgiven = cut.get(place, 0)
    for key, record in reported.items():
        if record.outcome == "unresolved":
            verdict.violate("unresolved", f"record {record.number} of {record.sender} in {place}")
        elif record.outcome == "acknowledged" and key not in found:
            if _forgiven(record, forgiven) or forgive(record):
                verdict.forgiven += 1
                continue
            verdict.violate(
                "lost",
                f"record {record.number} of {record.sender} in {place}, acknowledged with offset {record.offset}",
            )


def _forgiven(record: Reported, below: int) -> bool:
    return below == -1 or -1 < record.offset < below


@runtime_checkable
class _Future(Protocol):
    """A `DeliveryFuture`, or a record of a bulk result."""

    def done(self) -> bool: ...
    def exception(self, timeout: float | None = None, /) -> Any: ...
    def result(self, timeout: float | None = None, /) -> Any: ...


def reported_by(place: Place, sender: Hashable, number: int, future: object) -> Reported:
    """The current result of a `DeliveryFuture` (or of a future like those of `concurrent.futures`)."""
    from penstock.errors import KafkaError

    assert isinstance(future, _Future)
    if not future.done():
        return Reported(place, sender, number, "unresolved")
    error = future.exception(0)
    if error is None:
        return Reported(place, sender, number, "acknowledged", future.result(0).offset)
    assert isinstance(error, KafkaError)
    return Reported(place, sender, number, "possibly persisted" if error.possibly_persisted else "not persisted")
