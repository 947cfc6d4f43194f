"""The producer's id and epoch."""

from __future__ import annotations

from random import Random

from control_harness import Settings

from penstock.control.delivery import Identity
from penstock.control.identity import MAX_EPOCH, IdentityManager


def manager(identity: Identity | None = None) -> IdentityManager:
    made = IdentityManager(Settings(), Random(1))
    if identity is not None:
        made.request(0)
        made.answered(0, *identity, 0)
    return made


def test_without_idempotence_there_is_no_identity() -> None:
    off = IdentityManager(Settings(enable_idempotence=False), Random(1))
    assert off.due_ms(0) is None
    assert off.next_identity() is None


def test_an_identity_is_requested_at_once_and_once() -> None:
    fresh = manager()
    assert fresh.due_ms(0) == 0
    fresh.request(0)
    assert fresh.due_ms(0) is None
    assert fresh.answered(0, 9, 0, 5) == Identity(9, 0)
    assert fresh.due_ms(0) is None


def test_a_lost_request_is_repeated_after_a_growing_backoff() -> None:
    asked = manager()
    waits = []
    for _ in range(3):
        asked.request(0)
        asked.lost(0)
        waits.append(asked.due_ms(0) or 0)
    assert waits[0] < waits[1] < waits[2]


def test_an_epoch_is_raised_without_a_request() -> None:
    held = manager(Identity(9, 3))
    assert held.next_identity() == Identity(9, 4)
    held.adopt(Identity(9, 4))
    assert held.current == Identity(9, 4)


def test_used_up_epochs_take_a_new_producer_id() -> None:
    held = manager(Identity(9, MAX_EPOCH))
    assert held.next_identity() is None
    held.renew(70)
    assert held.due_ms(0) == 70
    held.request(0)
    assert held.answered(0, 10, 0, 80) == Identity(10, 0)


def test_an_answer_without_a_producer_id_is_no_answer() -> None:
    asked = manager()
    asked.request(0)
    assert asked.answered(0, -1, -1, 1_000) is None
    assert 1_080 <= (asked.due_ms(0) or 0) <= 1_120


def test_a_late_answer_changes_nothing() -> None:
    held = manager(Identity(9, 3))
    assert held.answered(0, 10, 0, 0) is None
    assert held.current == Identity(9, 3)
