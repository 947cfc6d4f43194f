"""The decision about a lane that was handed over: one for each of its batches, as a pure function of the report.

Nothing of the lane is in flight, and its whole history is in the report. The meaning of each error code is in `error_table`.
The rules about sequence numbers (Java: `TransactionManager.handleFailedBatch` and `canRetry`, KIP-360; stricter than Java in
that a batch of unknown fate never gets other numbers):

| the batches | numbers of those that remain |
|---|---|
| none failed, no gap was reported | unchanged |
| one failed, certainly not in the log | same epoch, contiguous from the failed one's sequence |
| one failed, certainly not in the log, and the topic was created again in this epoch | new epoch |
| one failed, certainly not in the log, and one behind it has unknown fate | new epoch; that one fails as possibly persisted |
| one failed, certainly not in the log, and one before it has unknown fate | unchanged: the earlier one goes first |
| one failed, perhaps in the log, others of unknown fate remain | unchanged: their answers show if there is a gap |
| one failed, perhaps in the log, and no fate is unknown or nothing remains | new epoch |
| the first that remains got an error that needs a new epoch | new epoch; unknown ones fail |

A batch that was failed may still be appended late. It cannot follow its successors then: they have a higher epoch, which
fences it.
"""

from random import Random
from typing import Final, NamedTuple

from penstock import errors
from penstock.control.backoff import Backoff
from penstock.control.boundary import BatchDecision, BatchReport, FailureKind, LaneReport, Renumber, ResumeLane, Trouble
from penstock.control.error_table import PRODUCE
from penstock.control.error_table import ProduceOutcome as Outcome

_SEQUENCE_MASK: Final = 0x7FFF_FFFF


class Identity(NamedTuple):
    """A producer id with its epoch."""

    producer_id: int
    epoch: int


class Policy(NamedTuple):
    """The settings that matter here."""

    idempotent: bool
    retries: int  # attempts beyond the first
    backoff: Backoff  # retry.backoff.ms and .max.ms


class Verdict(NamedTuple):
    """The decision about a lane."""

    resume: ResumeLane | None  # None: a new producer id must be obtained first, then decide again
    identity: Identity | None = None  # the lane needed a new epoch: all lanes adopt it from now on
    refresh_metadata: bool = False
    fatal: Trouble = Trouble()  # fails the producer


class _Choice(NamedTuple):
    """A decision for one batch before its numbers are considered."""

    decision: BatchDecision
    renew: bool = False  # it cannot be sent again under its present numbers

    @property
    def remains(self) -> bool:
        return self.decision.action in ("retry", "split")


def decide(
    report: LaneReport,
    policy: Policy,
    target: Identity | None,
    next_identity: Identity | None,
    known_leader_epoch: int,
    random: Random,
) -> Verdict:
    """Decide about every batch of a lane.

    ``target`` is the identity that lanes adopt, ``next_identity`` the one to use if this lane needs a newer one
    (None: no epoch is left). ``known_leader_epoch`` is of the newest leader known, usable hints included, or -1.
    """
    numbered = policy.idempotent and report.producer_id >= 0
    choices = _choose_all(report, policy, numbered)
    renumber: Renumber | None = None
    fresh: Identity | None = None
    if numbered:
        kind, first_sequence = _numbering(report, choices)
        if kind == "new":
            lane = Identity(report.producer_id, report.epoch)
            fresh = target if target not in (None, lane) else next_identity
            if fresh is None:
                return Verdict(None, refresh_metadata=_wants_refresh(report), fatal=_fatal(report, numbered))
            choices = [_fail_if_unknown(choice, batch) for choice, batch in zip(choices, report.batches, strict=True)]
            renumber = Renumber(*fresh, 0)
        elif kind == "same":
            renumber = Renumber(report.producer_id, report.epoch, first_sequence)
    decisions = tuple(choice.decision for choice in choices)
    delay_ms = _delay_ms(report, decisions, policy, known_leader_epoch, random)
    return Verdict(
        ResumeLane(report.topic, report.partition, decisions, renumber, delay_ms),
        identity=fresh if fresh != target else None,
        refresh_metadata=_wants_refresh(report),
        fatal=_fatal(report, numbered),
    )


def advance_sequence(sequence: int, count: int) -> int:
    """The sequence ``count`` records later: modulo 2³¹ (Java: `DefaultRecordBatch.incrementSequence`)."""
    return (sequence + count) & _SEQUENCE_MASK


# ---------------------------------------------------------------------------------------------------------- each batch


def _choose_all(report: LaneReport, policy: Policy, numbered: bool) -> list[_Choice]:
    choices: list[_Choice] = []
    behind_retry = behind_failure = False
    for batch in report.batches:
        choice = _choose(batch, report, policy, numbered, behind_retry, behind_failure)
        behind_retry = behind_retry or choice.remains
        behind_failure = behind_failure or choice.decision.action == "fail"
        choices.append(choice)
    return choices


def _choose(
    batch: BatchReport, report: LaneReport, policy: Policy, numbered: bool, behind_retry: bool, behind_failure: bool
) -> _Choice:
    outcome = PRODUCE.outcome(batch.error_code)
    if outcome is Outcome.DUPLICATE or (outcome is Outcome.DONE and batch.base_offset >= 0):
        offset = batch.base_offset if outcome is Outcome.DONE else -1
        return _Choice(BatchDecision(batch.batch_id, "complete", base_offset=offset))
    if batch.expired:
        # Its futures have failed already, with the fate of that moment. Another attempt could make that wrong.
        return _fail(batch, "its time ran out", kind="timeout")
    if outcome is Outcome.DONE:
        return _retry(batch)
    if outcome is Outcome.SPLIT and batch.record_count > 1 and batch.fate != "unknown":
        return _Choice(BatchDecision(batch.batch_id, "split"))  # Java: does not count against `retries`
    if outcome in (Outcome.FAIL, Outcome.FATAL, Outcome.SPLIT):
        return _fail(batch)
    if batch.attempts > policy.retries:
        return _fail(batch, f"gave up after {batch.attempts} attempts (retries={policy.retries})")
    if outcome in (Outcome.RETRY, Outcome.REFRESH):
        return _retry(batch)
    return _choose_numbers(batch, report, outcome, numbered, behind_retry, behind_failure)


def _choose_numbers(
    batch: BatchReport, report: LaneReport, outcome: Outcome, numbered: bool, behind_retry: bool, behind_failure: bool
) -> _Choice:
    """The broker rejected the batch's sequence numbers."""
    if not numbered:
        return _fail(batch)
    if behind_retry:
        # It only followed one that failed. That one goes first again, and its answer decides.
        return _retry(batch)
    if outcome is Outcome.LOST_STATE and report.log_start_offset < 0:
        return _retry(batch)  # the partition was moving; the next answer may have it (Java: the same)
    if batch.fate == "unknown":
        return _fail(batch, "an earlier attempt may have been appended, so that it cannot be sent under new numbers")
    # Behind a failed batch the gap is our own, and `_numbering` closes it.
    return _retry(batch, renew=not (outcome is Outcome.GAP and behind_failure))


def _retry(batch: BatchReport, renew: bool = False) -> _Choice:
    return _Choice(BatchDecision(batch.batch_id, "retry"), renew)


def _fail(batch: BatchReport, why: str = "", kind: FailureKind = "broker") -> _Choice:
    # The code gives the error's name, unless it is an unknown one; the message has what the broker and we add to it.
    known = batch.error_code == 0 or batch.error_code in errors.ERROR_BY_CODE
    unknown = "" if known else errors.error_name(batch.error_code)
    message = "; ".join(part for part in (unknown, batch.error_message, why) if part)
    return _Choice(BatchDecision(batch.batch_id, "fail", kind, batch.error_code, message))


def _fail_if_unknown(choice: _Choice, batch: BatchReport) -> _Choice:
    if not choice.remains or batch.fate != "unknown":
        return choice
    return _fail(batch, "an earlier batch of its partition failed, and it cannot follow under new numbers")


# ------------------------------------------------------------------------------------------------------------- numbers


def _numbering(report: LaneReport, choices: list[_Choice]) -> tuple[str, int]:
    """The rule of the table that applies: ("as is" | "same" | "new", first sequence for "same")."""
    expected = advance_sequence(report.last_acked_sequence, 1) if report.last_acked_sequence >= 0 else 0
    first_remaining = first_failed = -1
    doubtful = unknown_before = unknown_behind = False
    for batch, choice in zip(report.batches, choices, strict=True):
        if choice.renew:
            return "new", 0
        if batch.base_sequence < 0:
            continue
        if choice.remains:
            if first_failed < 0 and first_remaining < 0:
                first_remaining = batch.base_sequence
            if batch.fate == "unknown":
                unknown_before, unknown_behind = unknown_before or first_failed < 0, unknown_behind or first_failed >= 0
        elif choice.decision.action == "fail":
            if first_failed < 0:
                first_failed = batch.base_sequence
            doubtful = doubtful or batch.fate == "unknown"
        else:
            # In the log: the broker accepts no gap, so that batches that failed before this one left none.
            expected = advance_sequence(batch.base_sequence, batch.record_count)
            unknown_before, unknown_behind = unknown_before or unknown_behind, False
            first_failed, doubtful = -1, False
    if first_failed < 0 or (doubtful and (unknown_before or unknown_behind)) or (not doubtful and unknown_before):
        return "as is", 0
    first_sequence = first_remaining if first_remaining >= 0 else first_failed
    # Never use a sequence twice. If the topic was created again in this epoch, the old one's log may have the failed batch
    # under these numbers, and metadata may go back to it. Or the broker lost our state and took a later batch first.
    if doubtful or unknown_behind or report.numbers_used_elsewhere or first_sequence != expected:
        return "new", 0
    return "same", first_sequence


# ---------------------------------------------------------------------------------------------------- the whole lane


def _wants_refresh(report: LaneReport) -> bool:
    outcomes = [PRODUCE.outcome(batch.error_code) for batch in report.batches]
    return report.leader < 0 or Outcome.REFRESH in outcomes


def _fatal(report: LaneReport, numbered: bool) -> Trouble:
    if not numbered:
        return Trouble()
    for batch in report.batches:
        if PRODUCE.outcome(batch.error_code) is Outcome.FATAL:
            where = f"{report.topic}-{report.partition}"
            text = f": {batch.error_message}" if batch.error_message else ""
            return Trouble(batch.error_code, f"{errors.error_name(batch.error_code)} from the leader of {where}{text}")
    return Trouble()


def _delay_ms(
    report: LaneReport, decisions: tuple[BatchDecision, ...], policy: Policy, known_leader_epoch: int, random: Random
) -> int:
    retried = [batch for batch, decision in zip(report.batches, decisions, strict=True) if decision.action == "retry"]
    if not retried:
        return 0  # Java: the children of a split and the batches behind a failed one do not wait
    if any(batch.lost for batch in retried) and all(batch.lost or not batch.error_code for batch in retried):
        return 0  # they wait for the next connection, which has a backoff of its own
    if known_leader_epoch > report.leader_epoch >= 0:
        # A new leader is known. A hint (KIP-951) counts once its address is known, or this would not end.
        return 0
    return round(policy.backoff.delay_ms(report.failures, random))
