"""Metadata answers that are old, partial, contradictory or late: the scenarios of Java's MetadataTest."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from uuid import UUID

import pytest
from control_harness import Bench, Settings, batch, lane, metadata, topic

from penstock.control.boundary import (
    FailTopic,
    LanesHandedOver,
    NodeEndpoint,
    PartitionLeader,
    ResumeLane,
    SendFrame,
    SetTopic,
)
from penstock.control.metadata import Metadata
from penstock.protocol.message import replace
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponseTopic

ID = UUID(int=7).bytes


def fresh(*names: str) -> Metadata:
    """Nothing is known; these topics are wanted, and a request for them is out."""
    state = Metadata(Settings(), Random(1), 0)
    for name in names:
        state.want(name, -1, 0)
    state.request(0)
    return state


def known(*topics: MetadataResponseTopic) -> Metadata:
    state = fresh(*(each.name or "" for each in topics))
    state.answered(metadata(*topics), 13, 0)
    return state


def refreshed(state: Metadata, *topics: MetadataResponseTopic, now_ms: float = 1_000) -> list[object]:
    state.request_refresh()
    state.request(now_ms)
    return list(state.answered(metadata(*topics), 13, now_ms) or [])


def names(state: Metadata, now_ms: float) -> list[str | None]:
    return [each.name for each in state.request(now_ms).topics or ()]


# ------------------------------------------------------------------------------------------------------- leader epochs


def test_an_older_answer_does_not_undo_the_hint_of_a_produce_answer() -> None:
    state = known(topic("t", 1))
    state.add_endpoints([NodeEndpoint(3, "10.0.0.3", 9092, None)])
    assert state.apply_hints("t", ID, {0: (3, 2)}) is not None
    assert refreshed(state, topic("t", 1, epoch=1)) == [], "a broker with older metadata"
    assert state.leader_epoch("t", 0) == 2
    (snapshot,) = refreshed(state, topic("t", 2, epoch=3))
    assert isinstance(snapshot, SetTopic)
    assert snapshot.partitions == (PartitionLeader(2, 3, False),)


def test_the_same_epoch_brings_news_of_replicas_and_an_older_one_does_not() -> None:
    state = known(topic("t", 1, epoch=5))
    answer = topic("t", 1, epoch=5)
    changed = replace(answer, partitions=(replace(answer.partitions[0], isr_nodes=()),))
    refreshed(state, changed)
    assert state.view().topics["t"][0].in_sync_replicas == ()
    older = replace(answer, partitions=(replace(answer.partitions[0], leader_epoch=4),))
    refreshed(state, older)
    assert state.view().topics["t"][0].in_sync_replicas == ()


def test_epochs_outlive_a_deletion_and_start_again_with_a_new_id() -> None:
    state = known(topic("t", 1, epoch=10))
    refreshed(state, topic("t", error=3))
    assert state.leader_epoch("t", 0) == 10
    (snapshot,) = refreshed(state, topic("t", 2, epoch=5, id=8))
    assert isinstance(snapshot, SetTopic)
    assert (snapshot.topic_id, snapshot.partitions[0].leader_epoch) == (UUID(int=8).bytes, 5)


def test_a_first_topic_id_starts_epochs_again() -> None:
    """Without an id the topic may be another one (Java: `updateLatestMetadata`)."""
    state = known(topic("t", 1, epoch=100, id=0))
    (snapshot,) = refreshed(state, topic("t", 2, epoch=10, id=7))
    assert isinstance(snapshot, SetTopic)
    assert snapshot.partitions == (PartitionLeader(2, 10, False),)
    assert refreshed(state, topic("t", 1, epoch=9, id=7)) == [], "from now on they only grow"
    (snapshot,) = refreshed(state, topic("t", 1, epoch=12, id=7))
    assert isinstance(snapshot, SetTopic)


def test_leader_epochs_of_brokers_before_2_4_are_ignored() -> None:
    for version, epochs in ((8, [-1, -1]), (9, [10, 10])):
        state = fresh("t")
        (first,) = state.answered(metadata(topic("t", 1, epoch=10)), version, 0) or []
        state.request_refresh()
        state.request(1_000)
        second = state.answered(metadata(topic("t", 2, epoch=9)), version, 1_000)
        assert isinstance(first, SetTopic)
        leaders = [snapshot.partitions[0] for snapshot in (first, *(second or ())) if isinstance(snapshot, SetTopic)]
        assert [leader.leader_epoch for leader in leaders] == epochs[: len(leaders)]
        assert leaders[-1].leader == (2 if version < 9 else 1), "without epochs the newest answer counts"


def test_a_hint_for_one_partition_leaves_the_others_alone() -> None:
    state = known(topic("t", 1, 1))
    snapshot = state.apply_hints("t", ID, {1: (2, 3)})
    assert snapshot is not None
    assert snapshot.partitions == (PartitionLeader(1, 1, False), PartitionLeader(2, 3, False))
    infos = state.view().topics["t"]
    assert [info.leader and info.leader.id for info in infos] == [1, 2]


# ------------------------------------------------------------------------------------------------ when to request again


def test_a_refresh_requested_during_a_request_is_due_after_its_answer() -> None:
    state = known(topic("t", 1))
    state.request_refresh()
    state.request(1_000)
    state.request_refresh()
    state.answered(metadata(topic("t", 1)), 13, 1_010)
    due_ms = state.due_ms(1_010)
    assert due_ms is not None
    assert due_ms <= 1_010 + 120
    state.request(due_ms)
    state.answered(metadata(topic("t", 1)), 13, due_ms)
    assert state.due_ms(due_ms) == due_ms + 300_000


def test_a_topic_needed_during_a_request_is_requested_right_after() -> None:
    state = known(topic("t", 1))
    state.want("u", -1, 10)
    assert names(state, 10) == ["u"]
    state.want("v", -1, 11)
    assert state.due_ms(11) is None
    state.answered(metadata(topic("u", 1)), 13, 20)
    assert state.due_ms(20) == 20
    assert names(state, 20) == ["v"]


def test_new_topics_do_not_postpone_the_refresh_of_all() -> None:
    state = known(topic("t", 1))
    state.want("u", -1, 200_000)
    assert names(state, 200_000) == ["u"]
    state.answered(metadata(topic("u", 1)), 13, 200_000)
    assert state.due_ms(200_001) == 300_000
    assert names(state, 300_000) == ["t", "u"]


@pytest.mark.parametrize("why", ["a refresh is wanted", "all is old"])
def test_a_new_topic_is_part_of_a_request_for_all(why: str) -> None:
    state = known(topic("t", 1))
    now_ms = 1_000.0
    if why == "all is old":
        now_ms = 300_000.0
    else:
        state.request_refresh()
    state.want("u", -1, now_ms)
    assert names(state, now_ms) == ["t", "u"]


def test_a_topic_missing_from_the_answer_is_requested_again_after_backoff() -> None:
    state = known(topic("t", 1))
    state.want("u", -1, 10)
    state.request(10)
    assert state.answered(metadata(), 13, 20) == []
    assert state.view().partitions_for_topic("t") == (0,)
    due_ms = state.due_ms(20)
    assert due_ms is not None
    assert 80 <= due_ms - 20 <= 120
    assert "u" in names(state, due_ms)


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("code", [3, 5, 56, 29, 0])
def test_a_topic_unchanged_after_an_error_is_announced_again(code: int) -> None:
    """Only a snapshot takes a `FailTopic` back; without one, senders would wait until the next change of leaders."""
    state = known(topic("t", 1))
    (failure,) = refreshed(state, topic("t", error=code))  # 0: an answer without partitions
    assert isinstance(failure, FailTopic)
    assert failure.trouble.code == (code or 5)
    (snapshot,) = refreshed(state, topic("t", 1))
    assert isinstance(snapshot, SetTopic)
    assert snapshot.partitions == (PartitionLeader(1, 1, False),)
    assert refreshed(state, topic("t", 1)) == []


def test_an_error_of_one_topic_does_not_affect_another() -> None:
    state = fresh("invalid", "secret", "fine")
    answer = metadata(topic("invalid", error=17), topic("secret", error=29), topic("fine", 1))
    commands = state.answered(answer, 13, 0) or []
    codes = {
        each.name: each.trouble.code if isinstance(each, FailTopic) else 0 for each in commands if hasattr(each, "name")
    }
    assert codes == {"invalid": 17, "secret": 29, "fine": 0}
    assert set(state.view().views) == {"fine"}


def test_after_a_final_error_a_topic_is_requested_when_a_call_needs_it_again() -> None:
    state = fresh("secret")
    state.answered(metadata(topic("secret", error=29)), 13, 0)
    assert state.due_ms(50) == 300_000, "not before"
    state.want("secret", -1, 50)
    due_ms = state.due_ms(50)
    assert due_ms is not None
    assert due_ms <= 120
    assert "secret" in names(state, due_ms)
    (snapshot,) = state.answered(metadata(topic("secret", 1)), 13, due_ms) or []
    assert isinstance(snapshot, SetTopic)


# --------------------------------------------------------------------------------------- ----------- after produce errors


def requests(bench: Bench) -> int:
    return sum(
        bench.sent[frame.correlation_id][1] is MetadataRequest
        for frame in bench.commands
        if isinstance(frame, SendFrame)
    )


def asked(bench: Bench) -> list[SendFrame]:
    return [frame for frame in bench.all(SendFrame) if bench.sent[frame.correlation_id][1] is MetadataRequest]


def test_one_storage_error_brings_one_refresh() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    before = requests(bench)
    bench.step(LanesHandedOver((lane(batch(error=56, fate="unknown")),), ()))
    assert bench.one(ResumeLane).decisions[0].action == "retry"
    while bench.now_ms < 60_000:
        for frame in asked(bench):
            bench.answer(frame, metadata(topic("t", 1)))
        bench.sleep()
    assert requests(bench) - before == 1


def test_a_topic_with_a_metadata_error_is_requested_with_growing_backoff_and_lanes_continue() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LanesHandedOver((lane(batch(error=56, fate="unknown")),), ()))
    times: list[float] = []
    while len(times) < 8:
        for frame in asked(bench):
            times.append(bench.now_ms)
            bench.answer(frame, metadata(topic("t", error=56)))
            assert not bench.one(FailTopic).is_final
        bench.sleep()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 80 <= gaps[0] <= 240
    assert all(800 <= gap <= 1_000 for gap in gaps[4:])
    assert bench.controller._metadata.view().partitions_for_topic("t") == (0,), "it is not forgotten"
    while not asked(bench):
        bench.sleep()
    bench.answer(asked(bench)[0], metadata(topic("t", 1)))
    assert bench.one(SetTopic).partitions[0].leader == 1


def test_while_the_leader_stays_the_old_one_retries_and_refreshes_come_at_growing_distances() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    delays, before = [], requests(bench)
    for failures in range(6):
        bench.step(LanesHandedOver((lane(batch(error=6, attempts=failures + 1), failures=failures),), ()))
        delays.append(bench.one(ResumeLane).delay_ms)
        resumed_at_ms = bench.now_ms + delays[-1]
        while (at_ms := bench.controller.next_wakeup_ms()) is not None and at_ms <= resumed_at_ms:
            bench.sleep()
            for frame in asked(bench):
                bench.answer(frame, metadata(topic("t", 1)))
        bench.step(after_ms=max(0.0, resumed_at_ms - bench.now_ms))
        for frame in asked(bench):
            bench.answer(frame, metadata(topic("t", 1)))
    for failures, delay in enumerate(delays):
        assert 0.8 * min(100 * 2**failures, 1_000) <= delay <= 1.2 * min(100 * 2**failures, 1_000)
    assert requests(bench) - before <= len(delays), "one for each refusal, not one for each backoff"


def test_a_topic_that_disappears_for_a_while_keeps_its_lanes() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    for failures in range(3):
        bench.step(LanesHandedOver((lane(batch(error=3, attempts=failures + 1), failures=failures),), ()))
        assert bench.one(ResumeLane).decisions[0].action == "retry"
        while not asked(bench):
            bench.sleep()
        bench.answer(asked(bench)[0], metadata(topic("t", error=3)))
        assert not bench.one(FailTopic).is_final
    while not asked(bench):
        bench.sleep()
    bench.answer(asked(bench)[0], metadata(topic("t", 2, epoch=2)))
    assert bench.one(SetTopic).partitions[0] == PartitionLeader(2, 2, False)
