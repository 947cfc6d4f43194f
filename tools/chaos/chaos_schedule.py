"""The steps of the nemesis: an endless list that follows from a seed, and from nothing else.

Kinds are dealt like cards: each deck holds every kind as often as `DECK` says, shuffled, so that a long run meets each
of them again and again and a short one meets many. A step mends its faults before the next one begins, except for
rules of the proxy that no request has met yet.

`python tools/chaos/chaos_run.py --seed 7 --plan 20` prints the first twenty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from fault_rules import Rule

DECK: Final[Mapping[str, int]] = {
    "burst": 6,  # faults of single requests and answers, by the proxy
    "cut": 1,  # the network to one broker: half-open
    "freeze": 1,  # the same, but the bytes come later
    "unplug": 1,  # connections to one broker are reset and refused
    "blackout": 1,  # every broker is cut off
    "kill": 2,  # SIGKILL for the leader of a partition
    "restart": 1,  # one broker in good order
    "pause": 2,  # SIGSTOP, SIGCONT
    "move": 2,  # other preferred leaders, elected
    "evict": 1,  # a partition's leader loses its replica, and gets it back
    "recreate": 1,  # a topic is deleted and made again
    "roll": 1,  # every broker in good order, one after the other
}
"""How often each kind is in a deck."""

# Codes for Produce, by what a producer is to make of them.
_RETRIABLE_BEFORE: Final = (2, 3, 6, 19, 100)
_ABOUT_NUMBERS: Final = (45, 47, 59)
_FINAL: Final = (29, 87)
_AFTER_APPEND: Final = (-1, 6, 7, 20, 56)
_OF_METADATA: Final = (3, 5)  # UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    number: int
    kind: str
    pause_s: float
    """How long to leave the cluster alone before."""
    node: int = 0
    partition: int = 0
    lasting_s: float = 0
    """How long the thing lasts, where it has a duration; for "kill": from the death to the restart."""
    rules: tuple[Mapping[str, Any], ...] = field(default=())
    """For "burst": the rule for the proxy."""

    def __str__(self) -> str:
        """The text for users."""
        words = [f"{self.number:3} {self.kind}"]
        if self.kind == "burst":
            words += [", ".join(f"{Rule(**rule).kind} × {rule.get('times', 1)} ({rule['api']})" for rule in self.rules)]
        elif self.kind in ("kill", "evict"):
            words += [f"the leader of partition {self.partition}"]
        elif self.kind not in ("blackout", "move", "recreate", "roll"):
            words += [f"node {self.node}"]
        if self.lasting_s:
            words += [f"for {self.lasting_s:.1f} s"]
        return " ".join(words)


def deck_of(kinds: Iterable[str]) -> tuple[str, ...]:
    """These kinds, each with its count in `DECK`."""
    return tuple(kind for kind in kinds for _ in range(DECK[kind]))


def steps(seed: int, nodes: int, deck: Sequence[str] = deck_of(DECK)) -> Iterator[Step]:
    """The steps of a seed. Node ids are 1, 2, …"""
    random = Random(seed)
    number = 0
    while True:
        for kind in random.sample(deck, len(deck)):
            number += 1
            yield Step(
                number=number,
                kind=kind,
                pause_s=round(random.uniform(0.2, 1.5), 2),
                node=random.randint(1, nodes),
                partition=random.randrange(64),
                lasting_s=_lasting_s(kind, random),
                rules=tuple(_rule(random) for _ in range(random.randint(2, 6))) if kind == "burst" else (),
            )


def _lasting_s(kind: str, random: Random) -> float:
    match kind:
        case "cut" | "freeze" | "unplug":
            return round(random.uniform(0.5, 5), 1)
        case "blackout":
            return round(random.uniform(0.5, 6), 1)
        case "pause":
            # The controller declares a silent broker dead after 3 s: shorter and longer pauses are different events.
            return round(random.choice([random.uniform(0.5, 2.5), random.uniform(4, 7)]), 1)
        case "kill":
            return round(random.uniform(0, 4), 1)
        case _:
            return 0.0


def _rule(random: Random) -> dict[str, Any]:
    """One rule, with faults that a real broker or network could have: *not appended* errors are true."""
    journey: dict[str, Any] = random.choice(
        [
            {"drop": "close"},
            {"drop": "silent"},
            {"close": True},
            {"reset": "reading"},
            {"reset": "request"},
            {"reset": "answer"},
            {"delay_ms": random.randint(10, 3_000)},
            {"answer_delay_ms": random.randint(10, 3_000)},
            {"trickle_ms": random.randint(100, 1_500)},
            {"answer_trickle_ms": random.randint(100, 1_500)},
        ]
    )
    # InitProducerId is sent once, before the nemesis begins: scripted tests cover it.
    api = random.choice(["ApiVersions", "Metadata", "Produce", "Produce", "Produce", "Produce", "Produce"])
    if api == "Metadata" and random.random() < 0.4:
        where = {"topic": "orders", "partition": random.randrange(6)} if random.random() < 0.5 else {}
        return {"api": api, "error": random.choice(_OF_METADATA), "times": random.randint(1, 4), **where}
    if api != "Produce":
        return {"api": api, **journey}
    answer: dict[str, Any] = random.choice(
        [
            {"error": random.choice(_RETRIABLE_BEFORE), "times": random.randint(1, 8)},
            {"error": random.choice(_ABOUT_NUMBERS), "times": random.randint(1, 3)},
            {"error": random.choice(_FINAL)},
            {"error": 10, "times": random.randint(1, 3)},
            {"error": random.choice(_AFTER_APPEND), "after_append": True, "times": random.randint(1, 5)},
            {"shape": random.choice(["omit", "repeat", "invent"])},
            {"throttle_time_ms": random.randint(10, 800), "times": random.randint(1, 4)},
            {"overtaken_ms": random.randint(2_000, 8_000)},
        ]
    )
    where = {"partition": random.randrange(4)} if "error" in answer and random.random() < 0.6 else {}
    what = random.choice([answer, answer, journey])
    return {"api": "Produce", **what, **(where if what is answer else {})}
