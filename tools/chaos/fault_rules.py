"""The faults of the proxy: rules, the plan that holds them, and the notes of those that were applied.

    proxy.plan.add(api="Produce", drop="close", times=2)               # append, then close instead of answering, twice
    proxy.plan.add(api="Produce", topic="orders", partition=1, error=6)  # NOT_LEADER_OR_FOLLOWER for one partition only
    proxy.notes.wait_for("drop: close", 2)

Rules are tried in the order in which they were added; the first one that matches a request is used up by it: each request
meets at most one. Tests and the nemesis call this from their threads while the proxy runs in its own.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Target: TypeAlias = tuple[str, int]
"""A topic and its partition; -1 stands for the whole topic."""


@dataclass(slots=True, eq=False)
class Rule:
    """One fault. `api`, `topic`, `partition`, `node`: only requests that name it or go to it; None is any.

    The names are those of the embedded broker's `Fault` where it has them. The effects, in this order:

    - `reset="reading"`: after half of the request was read, the connection is reset; nothing is forwarded. The request's
      first bytes decide, hence it excludes `topic` and `partition`;
    - `close`: the connection is closed before the request is forwarded;
    - `delay_ms`: the request waits, and later requests of its connection with it;
    - `overtaken_ms`: the request waits until a later one of the same API on another connection has been answered, at
      most that long, and is then forwarded even if its client has closed the connection;
    - `reset="request"`: half of it is forwarded, then both connections are reset;
    - `trickle_ms`: it is forwarded in small pieces over that time;
    - `error`: the code is the answer for the topic and partition, or for all of them. A Produce request goes on
        without these partitions, unless `after_append`: then all of it goes on, and the answer is changed. Requests of
        other APIs, whose effects do not matter, are always forwarded and their answers changed;
      - `shape`: a Produce answer lacks a partition ("omit"), has it twice ("repeat") or has one that was not requested
        ("invent");
    - `throttle_time_ms`: that number is in the answer;
    - `answer_delay_ms`, `answer_trickle_ms`: as above, for the answer and what follows on its connection;
    - `drop`: no answer is sent: "close" closes the connection; "silent" leaves it open, and sends nothing any more;
    - `reset="answer"`: half of the answer is sent, then the connection is reset.
    """

    api: str | None = None
    topic: str | None = None
    partition: int | None = None
    node: int | None = None
    times: int = 1
    close: bool = False
    delay_ms: float = 0
    overtaken_ms: float = 0
    trickle_ms: float = 0
    error: int = 0
    after_append: bool = False
    shape: Literal["omit", "repeat", "invent"] | None = None
    throttle_time_ms: int = 0
    answer_delay_ms: float = 0
    answer_trickle_ms: float = 0
    drop: Literal["close", "silent"] | None = None
    reset: Literal["reading", "request", "answer"] | None = None
    also: tuple[Rule, ...] = ()
    """Errors for other partitions of the same request."""

    def __post_init__(self) -> None:
        """Refuse a rule that can never match: it would test nothing."""
        if self.times < 1:
            raise ValueError(f"a fault must happen at least once, not {self.times} times")
        if self.reset == "reading" and not self.is_for_all_targets:
            raise ValueError("a request that is reset while it is read cannot be selected by topic or partition")
        if (self.shape or self.after_append) and self.api != "Produce":
            raise ValueError("only Produce has answers of another shape and errors after the append")
        if self.also and not (
            self.api == "Produce" and all(each.error and each.api == "Produce" for each in self.also)
        ):
            raise ValueError("only a Produce request can meet several errors")

    def fits(self, target: Target) -> bool:
        """Whether it matches that topic and partition."""
        return self.topic in (None, target[0]) and self.partition in (None, target[1])

    @property
    def is_for_all_targets(self) -> bool:
        """Whether it names neither topic nor partition."""
        return self.topic is None and self.partition is None

    def refusals(self, api: str) -> list[Rule]:
        """The parts of it that keep partitions of a request from the broker."""
        return [each for each in (self, *self.also) if api == "Produce" and each.error and not each.after_append]

    @property
    def kind(self) -> str:
        """Its effect in a few words, equal for equal effects: for notes and reports."""
        words = [f"error {self.error}{' after append' if self.after_append else ''}"] if self.error else []
        words += [
            f"{name}: {value}" for name in ("shape", "drop", "reset") if (value := getattr(self, name)) is not None
        ]
        words += ["close"] if self.close else []
        words += [each.kind for each in self.also]
        timed = {
            "delay": self.delay_ms,
            "overtaken": self.overtaken_ms,
            "trickle": self.trickle_ms,
            "throttle": self.throttle_time_ms,
            "answer delay": self.answer_delay_ms,
            "answer trickle": self.answer_trickle_ms,
        }
        return ", ".join(words + [word for word, value in timed.items() if value]) or "nothing"

    @property
    def changes_answer(self) -> bool:
        """Whether the answer's content changes, not only its delivery."""
        return bool(self.error or self.shape or self.throttle_time_ms)

    def as_dict(self) -> dict[str, Any]:
        """The fields that are not defaults: for a schedule's text and for reports."""
        default = Rule()
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != getattr(default, field.name)
        }


class Plan:
    """The pending rules."""

    def __init__(self) -> None:
        """Starts without rules: everything passes."""
        self._lock = threading.Lock()
        self._pending: list[Rule] = []

    def add(self, api: str | None = None, **what: Any) -> Rule:
        """Script a fault for the next requests that match; see `Rule`."""
        rule = Rule(api, **what)
        self.extend([rule])
        return rule

    def extend(self, rules: Iterable[Rule]) -> None:
        """Add existing rules. They are used up: create new ones for each plan."""
        with self._lock:
            self._pending.extend(rules)

    def clear(self) -> None:
        """Remove all pending rules."""
        with self._lock:
            self._pending.clear()

    @property
    def pending(self) -> list[Rule]:
        """The pending rules, in order."""
        with self._lock:
            return list(self._pending)

    def take_early(self, api: str | None, node: int) -> Rule | None:
        """The rule for a request of which only the beginning has arrived."""
        return self._take(api, node, lambda rule: rule.reset == "reading")

    def take(self, api: str | None, node: int, targets: Callable[[], Iterable[Target]]) -> Rule | None:
        """The rule for a whole request; `targets` returns its partitions and is called only if needed."""

        def fits(rule: Rule) -> bool:
            return rule.reset != "reading" and (rule.is_for_all_targets or any(map(rule.fits, targets())))

        return self._take(api, node, fits)

    def _take(self, api: str | None, node: int, fits: Callable[[Rule], bool]) -> Rule | None:
        if not self._pending:  # the usual case; reading a list's truth needs no lock
            return None
        with self._lock:
            for rule in self._pending:
                if rule.api in (None, api) and rule.node in (None, node) and fits(rule):
                    rule.times -= 1
                    if not rule.times:
                        self._pending.remove(rule)
                    return rule
        return None


@dataclass(frozen=True, slots=True)
class Note:
    """A fault that was applied."""

    at: float
    """`time.monotonic()`."""
    kind: str
    node: int
    api: str
    targets: tuple[Target, ...] = ()


class Notes:
    """The faults that were applied, in order, and their counts."""

    def __init__(self) -> None:
        """Start empty."""
        self._changed = threading.Condition()
        self._all: list[Note] = []

    def note(self, kind: str, node: int, api: str = "", targets: Iterable[Target] = ()) -> None:
        """Add a fault."""
        with self._changed:
            self._all.append(Note(time.monotonic(), kind, node, api, tuple(targets)))
            self._changed.notify_all()

    @property
    def all(self) -> list[Note]:
        """All of them, the oldest first."""
        with self._changed:
            return list(self._all)

    def counts(self) -> Counter[str]:
        """The number of each kind and API."""
        with self._changed:
            return Counter(f"{note.api} {note.kind}".strip() for note in self._all)

    def wait_for(self, kind: str, count: int = 1, timeout: float = 30.0) -> None:
        """Return when a kind was applied that often; `TimeoutError` after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: sum(note.kind == kind for note in self._all) >= count, timeout):
                raise TimeoutError(f"{kind!r} has not happened {count} times within {timeout:g} s: {self._all}")
