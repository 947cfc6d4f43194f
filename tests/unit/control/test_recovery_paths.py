"""Recoveries of several steps: stale metadata, epochs used up, answers that the broker has forgotten."""

from __future__ import annotations

from control_harness import Bench, batch, lane, metadata, topic

from penstock.control.boundary import (
    BatchReport,
    Connect,
    FailProducer,
    LaneReport,
    LanesHandedOver,
    NodeEndpoint,
    PartitionLeader,
    Renumber,
    ResumeLane,
    SendFrame,
    SetIdentity,
    SetTopic,
)
from penstock.protocol.message import Request
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponseTopic


def requested(bench: Bench, kind: type[Request]) -> SendFrame:
    """The next request of this kind; connections that are wanted for it come up."""
    while True:
        for frame in bench.all(SendFrame):
            if bench.sent[frame.correlation_id][1] is kind:
                return frame
        bench.sleep()
        for connect in bench.all(Connect):
            bench.handshake(connect)


def refreshed(bench: Bench, *topics: MetadataResponseTopic) -> None:
    """Metadata is requested, and answered like this."""
    bench.answer(requested(bench, MetadataRequest), metadata(*topics))


def actions(resume: ResumeLane) -> str:
    """First letters: retry, fail, complete, split."""
    return "".join(decision.action[0] for decision in resume.decisions)


# ------------------------------------------------------------------------------------------------------ a leader moved


def test_stale_metadata_is_requested_until_it_has_the_new_leader() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    delays = []
    for failures in range(4):
        bench.step(LanesHandedOver((lane(batch(error=6, attempts=failures + 1), failures=failures),), ()))
        delays.append(bench.one(ResumeLane).delay_ms)
        refreshed(bench, topic("t", 1))
        assert not bench.all(SetTopic), "it is no newer"
    assert delays[0] < delays[1] < delays[2] < delays[3]
    bench.step(LanesHandedOver((lane(batch(error=6, attempts=5), failures=4),), ()))
    refreshed(bench, topic("t", 2, epoch=2))
    assert bench.one(SetTopic).partitions == (PartitionLeader(2, 2, False),), "a newer epoch ends the lane's backoff"


def test_a_hint_is_not_undone_by_older_metadata() -> None:
    bench = Bench()
    bench.start(topic("t", 1))
    hinted = lane(batch(error=6, current_leader=2, current_leader_epoch=2))
    bench.step(LanesHandedOver((hinted,), (NodeEndpoint(2, "10.0.0.2", 9092, None),)))
    assert bench.one(SetTopic).partitions[0].leader == 2
    refreshed(bench, topic("t", 1, epoch=1))
    assert not bench.all(SetTopic)


def test_each_lane_of_a_mixed_answer_gets_its_own_decision() -> None:
    bench = Bench()
    bench.start(topic("t", 1, 1, 1), topic("u", 1))
    reports = (
        lane(batch(1, error=6, current_leader=2, current_leader_epoch=2), partition=0),
        lane(batch(2, error=19), partition=1),
        lane(batch(3, error=87), partition=2),
        lane(batch(4, error=29), topic="u"),
    )
    bench.step(LanesHandedOver(reports, (NodeEndpoint(2, "10.0.0.2", 9092, None),)))
    resumed = {(each.topic, each.partition): each for each in bench.all(ResumeLane)}
    assert {place: actions(each) for place, each in resumed.items()} == {
        ("t", 0): "r",
        ("t", 1): "r",
        ("t", 2): "f",
        ("u", 0): "f",
    }
    assert [resumed["t", number].delay_ms > 0 for number in range(3)] == [False, True, False]
    assert not bench.all(FailProducer)


# ------------------------------------------------------------------------------------------------------------- numbers


def in_flight(*results: tuple[int, str], acked: int = -1) -> LaneReport:
    """Batches of ten records behind the last acknowledged one: (error, fate) of each."""
    first = acked + 1
    batches: list[BatchReport] = [
        batch(number + 1, first + 10 * number, error, fate=fate) for number, (error, fate) in enumerate(results)
    ]
    return lane(*batches, last_acked_sequence=acked)


def test_the_broker_recognises_recent_batches_with_lost_replies() -> None:
    """Five batches are out, their connection closes: they are sent again unchanged, and come back as duplicates."""
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LanesHandedOver((in_flight(*[(13, "unknown")] * 5, acked=99),), ()))
    assert actions(bench.one(ResumeLane)) == "rrrrr"
    assert bench.one(ResumeLane).renumber is None
    assert not bench.all(SetIdentity)


def test_a_lost_reply_that_the_broker_has_forgotten_fails_as_possibly_persisted_and_the_next_continue() -> None:
    """A restarted broker remembers the last batch only: it calls an older one out of order, though it has it."""
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LanesHandedOver((in_flight((45, "unknown"), (13, "unknown"), (13, "unknown"), acked=99),), ()))
    resume = bench.one(ResumeLane)
    assert actions(resume) == "frr"
    assert resume.decisions[0].code == 45
    assert resume.renumber is None, "the others may be in the log as well, and only unchanged batches are found there"
    # The broker knows the last one, so that there was no gap.
    bench.step(LanesHandedOver((lane(batch(3, 120, 46), last_acked_sequence=119),), ()))
    assert actions(bench.one(ResumeLane)) == "c"
    assert not bench.all(SetIdentity)


def test_a_reply_that_was_lost_and_overtaken_ends_the_epoch() -> None:
    """The batch timed out after its append, its successors got through, and the broker has forgotten it since."""
    bench = Bench()
    bench.start(topic("t", 1))
    report = lane(batch(1, 100, 45, fate="unknown"), last_acked_sequence=149)
    bench.step(LanesHandedOver((report,), ()))
    assert actions(bench.one(ResumeLane)) == "f"
    assert bench.one(ResumeLane).renumber == Renumber(9, 1, 0)
    assert bench.one(SetIdentity) == SetIdentity(9, 1)


def test_epochs_rise_one_by_one_to_the_last_and_then_a_new_producer_id_is_obtained_once() -> None:
    bench = Bench()
    bench.start(topic("t", 1, 1, 1), identity=(9, 32_765))
    for epoch in (32_766, 32_767):
        bench.step(LanesHandedOver((lane(batch(error=45), epoch=epoch - 1),), ()))
        assert bench.one(SetIdentity) == SetIdentity(9, epoch)
        assert bench.one(ResumeLane).renumber == Renumber(9, epoch, 0)
    spent = tuple(lane(batch(error=45), epoch=32_767, partition=number) for number in range(2))
    bench.step(LanesHandedOver(spent, ()))
    assert not bench.all(ResumeLane)
    frame = bench.find(InitProducerIdRequest)
    # At the same time: a lane that only retries, and one that lags behind and can still adopt the last epoch.
    behind = lane(batch(error=45), epoch=32_766, partition=2)
    bench.step(LanesHandedOver((behind,), ()))
    assert bench.one(ResumeLane).renumber == Renumber(9, 32_767, 0)
    bench.answer(frame, InitProducerIdResponse(producer_id=10, producer_epoch=0))
    assert bench.one(SetIdentity) == SetIdentity(10, 0)
    assert [each.renumber for each in bench.all(ResumeLane)] == [Renumber(10, 0, 0)] * 2


def test_a_lost_request_for_a_new_producer_id_is_repeated_and_lanes_wait() -> None:
    bench = Bench()
    control = bench.start(topic("t", 1), identity=(9, 32_767))
    bench.step(LanesHandedOver((lane(batch(error=47), epoch=32_767),), ()))
    bench.find(InitProducerIdRequest)
    bench.close(control, "reset")
    assert not bench.all(ResumeLane)
    frame = requested(bench, InitProducerIdRequest)
    bench.answer(frame, InitProducerIdResponse(producer_id=11, producer_epoch=0))
    assert bench.one(ResumeLane).renumber == Renumber(11, 0, 0)
