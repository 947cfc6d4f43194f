"""What the fault proxy is to do wrong: rules, the plan that holds them, and the notes of those that happened.

    proxy.plan.add(api="Produce", drop="close", times=2)               # append, then close instead of answering, twice
    proxy.plan.add(api="Produce", topic="orders", partition=1, error=6)  # NOT_LEADER_OR_FOLLOWER for one partition only
    proxy.notes.wait_for("drop: close", 2)

Rules are looked at in the order in which they were added; the first that fits a request is used up by it, so that each
request meets at most one. Tests and the nemesis call this from their threads while the proxy runs in its own.
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
"""A topic and a partition of it; -1 stands for the topic as a whole."""


@dataclass(slots=True, eq=False)
class Rule:
    """One fault. `api`, `topic`, `partition`, `node`: only requests that name it or go to it; None is any.

    The words are those of the embedded broker's `Fault` where it has them. What happens, in this order:

    - `reset="reading"`: after half of the request has been taken, the connection is reset; nothing is forwarded. It is
      decided by the request's first bytes, hence only without `topic` and `partition`;
    - `close`: the connection is closed before the request is forwarded;
    - `delay_ms`: the request waits, and with it what follows on its connection;
    - `overtaken_ms`: the request waits until a later one of the same API on another connection has been answered, at
      most so long, and is then forwarded even if its client has given up the connection;
    - `reset="request"`: half of it is forwarded, then both connections are reset;
    - `trickle_ms`: it is forwarded in small pieces over that time;
    - `error`: the code is the answer for the topic and partition, or for all of them. A Produce request goes on
      without these partitions, unless `after_append`: then all of it goes on, and the answer is changed. The other
      APIs, which have no effect worth speaking of, are always forwarded and their answers changed;
    - `shape`: a Produce answer leaves a partition out ("omit"), says it twice ("repeat") or adds one that nobody asked
      about ("invent");
    - `throttle_time_ms`: that number is in the answer;
    - `answer_delay_ms`, `answer_trickle_ms`: as above, for the answer and what follows on its connection;
    - `drop`: no answer goes out: "close" closes the connection; "silent" leaves it open, and nothing comes any more;
    - `reset="answer"`: half of the answer goes out, then the connection is reset.
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
        """Refuse what could never happen: a rule that is never met tests nothing."""
        if self.times < 1:
            raise ValueError(f"a fault must happen at least once, not {self.times} times")
        if self.reset == "reading" and not self.is_for_all_targets:
            raise ValueError("a request that is reset while it is read is not known by topic or partition")
        if (self.shape or self.after_append) and self.api != "Produce":
            raise ValueError("only Produce has answers of another shape and errors after the append")
        if self.also and not (
            self.api == "Produce" and all(each.error and each.api == "Produce" for each in self.also)
        ):
            raise ValueError("only a Produce request can meet several errors")

    def fits(self, target: Target) -> bool:
        """Whether it is for that topic and partition."""
        return self.topic in (None, target[0]) and self.partition in (None, target[1])

    @property
    def is_for_all_targets(self) -> bool:
        """Whether it names neither topic nor partition."""
        return self.topic is None and self.partition is None

    def refusals(self, api: str) -> list[Rule]:
        """Those parts of it that keep partitions of a request from the broker."""
        return [each for each in (self, *self.also) if api == "Produce" and each.error and not each.after_append]

    @property
    def kind(self) -> str:
        """What it does, in a few words, the same for all rules that do the same: for notes and reports."""
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
        """The answer's content is touched, not only its journey."""
        return bool(self.error or self.shape or self.throttle_time_ms)

    def as_dict(self) -> dict[str, Any]:
        """What differs from a rule that does nothing: for a schedule's text and for reports."""
        default = Rule()
        return {
            field.name: value
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != getattr(default, field.name)
        }


class Plan:
    """The rules that are still to come."""

    def __init__(self) -> None:
        """Start without any: everything passes."""
        self._lock = threading.Lock()
        self._pending: list[Rule] = []

    def add(self, api: str | None = None, **what: Any) -> Rule:
        """Script a fault for the next requests that it fits; see `Rule`."""
        rule = Rule(api, **what)
        self.extend([rule])
        return rule

    def extend(self, rules: Iterable[Rule]) -> None:
        """Add rules that were made elsewhere. They are used up: give each plan its own."""
        with self._lock:
            self._pending.extend(rules)

    def clear(self) -> None:
        """Forget what has not happened yet."""
        with self._lock:
            self._pending.clear()

    @property
    def pending(self) -> list[Rule]:
        """What has not happened yet, in order."""
        with self._lock:
            return list(self._pending)

    def take_early(self, api: str | None, node: int) -> Rule | None:
        """The rule for a request of which only the beginning has arrived."""
        return self._take(api, node, lambda rule: rule.reset == "reading")

    def take(self, api: str | None, node: int, targets: Callable[[], Iterable[Target]]) -> Rule | None:
        """The rule that a whole request meets; `targets` says what it is about, and is called only if it matters."""

        def fits(rule: Rule) -> bool:
            return rule.reset != "reading" and (rule.is_for_all_targets or any(map(rule.fits, targets())))

        return self._take(api, node, fits)

    def _take(self, api: str | None, node: int, fits: Callable[[Rule], bool]) -> Rule | None:
        if not self._pending:  # almost always; reading a list's truth needs no lock
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
    """A fault that happened."""

    at: float
    """`time.monotonic()`."""
    kind: str
    node: int
    api: str
    targets: tuple[Target, ...] = ()


class Notes:
    """What happened, in order, and how often."""

    def __init__(self) -> None:
        """Start empty."""
        self._changed = threading.Condition()
        self._all: list[Note] = []

    def note(self, kind: str, node: int, api: str = "", targets: Iterable[Target] = ()) -> None:
        """Remember a fault."""
        with self._changed:
            self._all.append(Note(time.monotonic(), kind, node, api, tuple(targets)))
            self._changed.notify_all()

    @property
    def all(self) -> list[Note]:
        """The oldest first."""
        with self._changed:
            return list(self._all)

    def counts(self) -> Counter[str]:
        """How often, by kind and API."""
        with self._changed:
            return Counter(f"{note.api} {note.kind}".strip() for note in self._all)

    def wait_for(self, kind: str, count: int = 1, timeout: float = 30.0) -> None:
        """Return when a kind has happened so often; `TimeoutError` after `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: sum(note.kind == kind for note in self._all) >= count, timeout):
                raise TimeoutError(f"{kind!r} has not happened {count} times within {timeout:g} s: {self._all}")
