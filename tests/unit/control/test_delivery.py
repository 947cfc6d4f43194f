"""The decision about a lane that was handed over. Batches have ten records each."""

from __future__ import annotations

from random import Random

from control_harness import batch, lane
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.backoff import Backoff
from penstock.control.boundary import BatchReport, LaneReport, Renumber, ResumeLane
from penstock.control.delivery import Identity, Policy, Verdict, advance_sequence, decide

BACKOFF = Backoff(100, 1_000)
POLICY = Policy(idempotent=True, retries=2**31 - 1, backoff=BACKOFF)
PLAIN = Policy(idempotent=False, retries=2**31 - 1, backoff=BACKOFF)
NOW, NEXT = Identity(9, 0), Identity(9, 1)


def judge(report: LaneReport, policy: Policy = POLICY, known_epoch: int = 1, **identities: Identity | None) -> Verdict:
    target = identities.get("target", NOW)
    return decide(report, policy, target, identities.get("next_identity", NEXT), known_epoch, Random(1))


def resumed(report: LaneReport, policy: Policy = POLICY) -> tuple[str, Renumber | None]:
    """The actions for the batches, by first letters, and the new numbers."""
    resume = judge(report, policy).resume
    assert resume is not None
    letters = {"retry": "r", "fail": "f", "complete": "c", "split": "s"}
    return "".join(letters[decision.action] for decision in resume.decisions), resume.renumber


# ------------------------------------------------------------------------------------- one batch, and its error message


def test_an_unknown_code_is_treated_as_an_unknown_error() -> None:
    assert resumed(lane(batch(error=9_999)))[0] == "f"
    assert "9999" in judge(lane(batch(error=9_999))).resume.decisions[0].message  # type: ignore[union-attr]


def test_an_error_is_named_once() -> None:
    """The exception has the code, and names it; the decision adds the rest of the message."""
    (decision,) = judge(lane(batch(error=29))).resume.decisions  # type: ignore[union-attr]
    assert (decision.action, decision.code, decision.message) == ("fail", 29, "")


# ------------------------------------------------------------------------------------------------------ single batches


def test_an_unanswered_batch_is_resent_unchanged() -> None:
    assert resumed(lane(batch(error=13, fate="unknown"))) == ("r", None)


def test_retries_count_attempts_beyond_the_first() -> None:
    twice = Policy(idempotent=True, retries=2, backoff=BACKOFF)
    assert resumed(lane(batch(error=19, attempts=2)), twice)[0] == "r"
    assert resumed(lane(batch(error=19, attempts=3)), twice)[0] == "f"
    decision = judge(lane(batch(error=19, attempts=3)), twice).resume.decisions[0]  # type: ignore[union-attr]
    assert decision.code == 19
    assert "retries=2" in decision.message


def test_a_split_does_not_count_against_retries() -> None:
    never = Policy(idempotent=True, retries=0, backoff=BACKOFF)
    assert resumed(lane(batch(error=10)), never)[0] == "s"


def test_one_record_that_is_too_large_fails() -> None:
    assert resumed(lane(batch(error=10, record_count=1)))[0] == "f"


def test_a_batch_of_unknown_fate_is_not_split() -> None:
    assert resumed(lane(batch(error=10, fate="unknown")))[0] == "f"


def test_a_duplicate_is_complete_without_an_offset() -> None:
    decision = judge(lane(batch(error=46))).resume.decisions[0]  # type: ignore[union-attr]
    assert (decision.action, decision.base_offset) == ("complete", -1)


def test_a_success_that_came_while_the_lane_settled_counts() -> None:
    decision = judge(lane(batch(error=0, base_offset=77))).resume.decisions[0]  # type: ignore[union-attr]
    assert (decision.action, decision.base_offset) == ("complete", 77)


def test_a_lost_producer_state_is_retried_until_the_log_start_is_known() -> None:
    assert resumed(lane(batch(error=59), log_start_offset=-1)) == ("r", None)
    assert resumed(lane(batch(error=59), log_start_offset=4)) == ("r", Renumber(9, 1, 0))


def test_the_followers_of_a_batch_with_lost_state_follow_it_into_the_new_epoch() -> None:
    report = lane(batch(1, 10, 59), batch(2, 20, 59), last_acked_sequence=9, log_start_offset=1_010)
    assert resumed(report) == ("rr", Renumber(9, 1, 0))
    assert resumed(report._replace(log_start_offset=-1)) == ("rr", None)


def test_an_unauthorized_topic_fails_alone() -> None:
    verdict = judge(lane(batch(error=29)))
    assert not verdict.fatal
    assert verdict.resume is not None
    assert verdict.resume.decisions[0].code == 29


# ------------------------------------------------------------------------------------------------------------- numbers


def three(first: int, second: int = 45, third: int = 45, **changes: str) -> LaneReport:
    """Batches at 0, 10, 20; `a`, `b`, `c` are their fates."""
    fates = [changes.get(name, "rejected") for name in "abc"]
    codes = (first, second, third)
    return lane(*(batch(n + 1, 10 * n, codes[n], fate=fates[n]) for n in range(3)))


def test_followers_of_a_retried_batch_are_retried_unchanged() -> None:
    assert resumed(three(19)) == ("rrr", None)


def test_a_genuine_gap_starts_a_new_epoch() -> None:
    assert resumed(three(45)) == ("rrr", Renumber(9, 1, 0))


def test_a_genuine_gap_before_a_batch_of_unknown_fate_fails_that_batch() -> None:
    assert resumed(three(45, third=13, c="unknown")) == ("rrf", Renumber(9, 1, 0))
    assert resumed(three(45, a="unknown")) == ("frr", Renumber(9, 1, 0))


def test_batches_behind_one_that_is_certainly_not_in_the_log_are_renumbered() -> None:
    assert resumed(three(87)) == ("frr", Renumber(9, 0, 0))
    assert resumed(three(19, 87)) == ("rfr", Renumber(9, 0, 0))


def test_numbers_that_another_topic_of_the_name_may_hold_are_not_used_again() -> None:
    assert resumed(three(87)._replace(numbers_used_elsewhere=True)) == ("frr", Renumber(9, 1, 0))
    assert resumed(three(19)._replace(numbers_used_elsewhere=True)) == ("rrr", None), "nothing failed: no gap to close"


def test_numbers_follow_the_last_acknowledged_one() -> None:
    report = lane(batch(1, 30, 87), batch(2, 40, 45), last_acked_sequence=29)
    assert resumed(report) == ("fr", Renumber(9, 0, 30))


def test_later_batches_are_renumbered_too() -> None:
    assert resumed(lane(batch(1, 0, 87))) == ("f", Renumber(9, 0, 0))


def test_renumbering_works_across_the_wrap() -> None:
    last = 2**31 - 1
    report = lane(batch(1, last, 87), batch(2, 9, 45), last_acked_sequence=last - 1)
    assert resumed(report) == ("fr", Renumber(9, 0, last))
    assert resumed(lane(batch(1, 0, 87), last_acked_sequence=last))[1] == Renumber(9, 0, 0)


def test_a_sequence_that_a_later_batch_has_passed_is_never_used_again() -> None:
    report = lane(batch(1, 0, 87), batch(2, 20, 45), last_acked_sequence=19)
    assert resumed(report) == ("fr", Renumber(9, 1, 0))


def test_behind_a_certain_gap_an_unknown_batch_cannot_follow() -> None:
    assert resumed(three(87, third=13, c="unknown")) == ("frf", Renumber(9, 1, 0))


def test_before_a_certain_gap_an_unknown_batch_goes_first_and_the_gap_waits() -> None:
    assert resumed(three(20, 87, a="unknown")) == ("rfr", None)


def test_a_failed_batch_of_unknown_fate_ends_the_epoch() -> None:
    assert resumed(three(-1, a="unknown")) == ("frr", Renumber(9, 1, 0))
    assert resumed(lane(batch(1, 0, -1, fate="unknown"))) == ("f", Renumber(9, 1, 0))


def test_behind_a_possible_gap_unknown_batches_ask_the_broker() -> None:
    assert resumed(three(-1, 13, 13, a="unknown", b="unknown", c="unknown")) == ("frr", None)
    # If it is in the log, its successors are accepted. If not, the broker reports the gap, and only then they fail.
    assert resumed(lane(batch(2, 10, 45, fate="unknown"), batch(3, 20, 45))) == ("fr", Renumber(9, 1, 0))


def test_an_accepted_batch_behind_a_failed_one_proves_that_there_is_no_gap() -> None:
    assert resumed(three(-1, 46, 13, a="unknown", c="unknown")) == ("fcr", None)


def test_an_expired_batch_counts_by_its_fate() -> None:
    gone = {"expired": True}
    assert resumed(lane(batch(1, 0, 19, **gone), batch(2, 10, 45))) == ("fr", Renumber(9, 0, 0))
    assert resumed(lane(batch(1, 0, 13, fate="unknown", **gone), batch(2, 10, 45))) == ("fr", Renumber(9, 1, 0))
    assert judge(lane(batch(1, 0, 19, **gone))).resume.decisions[0].kind == "timeout"  # type: ignore[union-attr]


def test_a_lane_that_lags_behind_adopts_the_epoch_that_others_have_reached() -> None:
    verdict = judge(lane(batch(error=45)), target=Identity(9, 4), next_identity=Identity(9, 5))
    assert verdict.resume is not None
    assert verdict.resume.renumber == Renumber(9, 4, 0)
    assert verdict.identity is None


def test_without_an_epoch_left_the_lane_waits() -> None:
    assert judge(lane(batch(error=45)), next_identity=None).resume is None
    assert judge(lane(batch(error=19)), next_identity=None).resume is not None


# ------------------------------------------------------------------------------------------------------------- backoff


def test_backoff_grows_with_jitter_up_to_its_maximum() -> None:
    delays = [judge(lane(batch(error=19), failures=n)).resume.delay_ms for n in range(12)]  # type: ignore[union-attr]
    assert 80 <= delays[0] <= 120
    assert 160 <= delays[1] <= 240
    assert all(800 <= delay <= 1_000 for delay in delays[5:])


def delay_ms(*batches: BatchReport) -> int:
    resume = judge(lane(*batches, failures=3)).resume
    assert resume is not None
    return resume.delay_ms


def test_batches_of_a_lost_connection_wait_for_the_next_one_only() -> None:
    lost = batch(1, 0, 13, fate="unknown", lost=True)
    waiting = batch(2, 10, 0, fate="unknown")
    assert delay_ms(lost) == 0
    assert delay_ms(lost, waiting) == 0
    assert delay_ms(lost, batch(2, 10, 13, fate="unknown", lost=True)) == 0


def test_an_error_that_a_broker_answered_waits_for_retry_backoff() -> None:
    lost = batch(1, 0, 13, fate="unknown", lost=True)
    assert 640 <= delay_ms(batch(1, 0, 13, fate="unknown")) <= 960, "the broker itself may answer NETWORK_EXCEPTION"
    assert delay_ms(batch(1, 0, 6), batch(2, 10, 13, fate="unknown", lost=True)) >= 640
    assert delay_ms(lost, batch(2, 10, 45)) >= 640
    assert delay_ms(batch(1, 0, 0, fate="unknown")) >= 640


def test_a_newer_leader_ends_backoff() -> None:
    assert judge(lane(batch(error=6)), known_epoch=2).resume.delay_ms == 0  # type: ignore[union-attr]
    assert judge(lane(batch(error=6)), known_epoch=1).resume.delay_ms > 0  # type: ignore[union-attr]
    assert judge(lane(batch(error=6), leader_epoch=-1), known_epoch=2).resume.delay_ms > 0  # type: ignore[union-attr]


def test_a_useless_hint_does_not_end_backoff() -> None:
    """The address of its node may be unknown: requests to the same leader would follow each other without a pause."""
    hinted = lane(batch(error=6, current_leader=3, current_leader_epoch=2))
    assert judge(hinted, known_epoch=1).resume.delay_ms > 0  # type: ignore[union-attr]


def test_splits_and_failures_do_not_wait() -> None:
    assert judge(lane(batch(error=10))).resume.delay_ms == 0  # type: ignore[union-attr]
    assert judge(lane(batch(error=87))).resume.delay_ms == 0  # type: ignore[union-attr]


# ---------------------------------------------------------------------------------------------------------- properties

CODES = st.sampled_from([0, 0, 6, 10, 13, 13, 19, 20, 31, 45, 45, 46, 47, 59, 87, -1, 7])
FATES = st.sampled_from(["unsent", "partly written", "rejected", "unknown"])


@st.composite
def reports(draw: st.DrawFn) -> LaneReport:
    """Any lane that the engine might hand over: contiguous sequences, codes and fates in any mixture."""
    sequence = draw(st.sampled_from([0, 7, 2**31 - 15, 2**31 - 1]))
    last_acked = draw(st.sampled_from([-1 if sequence == 0 else (sequence - 1) & 0x7FFF_FFFF, sequence, 3]))
    batches: list[BatchReport] = []
    for number in range(draw(st.integers(1, 6))):
        count = draw(st.integers(1, 20))
        fate = "unknown" if (code := draw(CODES)) in (-1, 7, 13, 20) else draw(FATES)
        batches.append(
            batch(
                number + 1,
                sequence,
                code,
                record_count=count,
                fate=fate,
                expired=draw(st.booleans()),
                attempts=draw(st.integers(1, 4)),
                base_offset=draw(st.sampled_from([-1, 50])) if code == 0 else -1,
            )
        )
        sequence = advance_sequence(sequence, count)
    return lane(*batches, last_acked_sequence=last_acked, log_start_offset=draw(st.sampled_from([-1, 0])))


def remaining(report: LaneReport, resume: ResumeLane) -> list[BatchReport]:
    decided = zip(report.batches, resume.decisions, strict=True)
    return [each for each, decision in decided if decision.action in ("retry", "split")]


PROPERTY = settings(derandomize=True, max_examples=500, deadline=None)


@PROPERTY
@given(reports(), st.integers(0, 3))
def test_every_batch_is_decided_once_in_order(report: LaneReport, retries: int) -> None:
    resume = judge(report, Policy(True, retries, BACKOFF)).resume
    assert resume is not None
    assert [d.batch_id for d in resume.decisions] == [b.batch_id for b in report.batches]
    assert 0 <= resume.delay_ms <= 1_000


@PROPERTY
@given(reports(), st.integers(0, 3))
def test_a_batch_of_unknown_fate_is_never_renumbered_split_or_sent_after_expiry(
    report: LaneReport, retries: int
) -> None:
    resume = judge(report, Policy(True, retries, BACKOFF)).resume
    assert resume is not None
    for each, decision in zip(report.batches, resume.decisions, strict=True):
        if each.fate == "unknown":
            assert decision.action != "split"
        if each.expired:
            assert decision.action in ("fail", "complete")
    if resume.renumber is not None:
        assert all(each.fate != "unknown" for each in remaining(report, resume))


@PROPERTY
@given(reports(), st.integers(0, 3))
def test_the_numbers_that_remain_leave_no_unnoticed_gap(report: LaneReport, retries: int) -> None:
    """Without new numbers, a gap may only be left where a batch of unknown fate remains, whose answer will show it."""
    resume = judge(report, Policy(True, retries, BACKOFF)).resume
    assert resume is not None
    left = remaining(report, resume)
    failed = [b for b, d in zip(report.batches, resume.decisions, strict=True) if d.action == "fail"]
    completed = [b for b, d in zip(report.batches, resume.decisions, strict=True) if d.action == "complete"]
    if resume.renumber is None:
        last_complete = completed[-1].batch_id if completed else 0
        if any(b.batch_id > last_complete for b in failed):
            assert any(b.fate == "unknown" for b in left)
    elif resume.renumber.epoch == 0:
        # The same epoch again: nothing that was, or may have been, appended lies at or behind the first number.
        assert all(b.fate != "unknown" for b in failed if not completed or b.batch_id > completed[-1].batch_id)
        expected = advance_sequence(report.last_acked_sequence, 1) if report.last_acked_sequence >= 0 else 0
        if completed:
            expected = advance_sequence(completed[-1].base_sequence, completed[-1].record_count)
        assert resume.renumber.first_sequence == expected
    else:
        assert resume.renumber.first_sequence == 0
