"""Every error code, in every answer that can carry one, with the reaction of the controller.

Expectations are written down here a second time, by code. Of the codes that no row names, each test takes one of each
default; that they all go by the class of their error is shown by `test_every_code_has_an_outcome_by_its_row_or_by_default`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import pytest
from control_harness import Bench, Settings, batch, lane, metadata, topic

from penstock import errors
from penstock.control import error_table
from penstock.control.boundary import (
    BatchReport,
    Close,
    Connect,
    ConnectionWanted,
    FailBuffered,
    FailProducer,
    FailTopic,
    LanesHandedOver,
    LeaderWanted,
    Renumber,
    ResumeLane,
    SendFrame,
    SetIdentity,
    SetTopic,
    TopicWanted,
)
from penstock.control.commands import Resolve
from penstock.control.error_table import (
    API_VERSIONS,
    FIND_COORDINATOR,
    INIT_PRODUCER_ID,
    METADATA_CLUSTER,
    METADATA_PARTITION,
    METADATA_TOPIC,
    PRODUCE,
    TABLES,
    CoordinatorOutcome,
    Table,
)
from penstock.protocol.messages.api_versions import ApiVersion, ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataResponse, MetadataResponseTopic

CODES = [0, *errors.ERROR_BY_CODE, 9_999]
BY_DEFAULT = [84, 88, 99, 9_999]
"""No row names them: ELECTION_NOT_NEEDED (refresh), UNSTABLE_OFFSET_COMMIT (retriable), POSITION_OUT_OF_RANGE, unknown."""


def each_code(table: Table[Enum]) -> pytest.MarkDecorator:
    """Every row of a table, and each of its defaults."""
    return pytest.mark.parametrize("code", [*(row.code for row in table.rows), *BY_DEFAULT], ids=errors.error_name)


PATIENCE_MS = 1_300
"""Longer than any backoff, and far below the periods of metadata."""


def expected(of: Mapping[str, str], code: int, *, refresh: str, retriable: str, other: str) -> str:
    """The expected reaction: as written down for the code, or by its class."""
    for behaviour, codes in of.items():
        if str(code) in codes.split():
            return behaviour
    if errors.needs_refresh(code):
        return refresh
    return retriable if errors.is_retriable(code) else other


def later(bench: Bench, kind: type) -> SendFrame | None:
    """The request of this kind that goes out within a backoff's time; all earlier steps run."""
    until_ms = bench.now_ms + PATIENCE_MS
    while True:
        for frame in bench.all(SendFrame):
            if bench.sent[frame.correlation_id][1] is kind:
                return frame
        at_ms = bench.controller.next_wakeup_ms()
        if at_ms is None or at_ms > until_ms:
            return None
        bench.sleep()
        if bench.all(Resolve):
            bench.resolve("10.0.0.1")
        for connect in bench.all(Connect):
            bench.handshake(connect)


# --------------------------------------------------------------------------------------------------------- the tables


def test_rows_name_codes_that_exist_once_and_the_test_that_steps_them() -> None:
    for table in TABLES:
        codes = [row.code for row in table.rows]
        assert len(set(codes)) == len(codes), table.place
        assert set(codes) <= set(CODES) - {9_999}, table.place
        assert callable(globals()[table.test])
        assert not set(codes) & set(BY_DEFAULT), table.place
    assert len({table.place for table in TABLES}) == len(TABLES)


@pytest.mark.parametrize("code", CODES, ids=errors.error_name)
def test_every_code_has_an_outcome_by_its_row_or_by_default(code: int) -> None:
    for table in TABLES:
        by_row = {row.code: row.outcome for row in table.rows}
        default = table.refresh if errors.needs_refresh(code) else table.retriable
        default = default if errors.is_retriable(code) else table.other
        assert table.outcome(code) is by_row.get(code, default)


def test_each_outcome_has_an_explanation_of_its_own() -> None:
    kinds = {type(row.outcome) for table in TABLES for row in table.rows}
    for kind in kinds:
        assert len({each.value for each in kind.__members__.values()}) == len(kind.__members__)
        assert set(kind) == {row.outcome for table in TABLES for row in table.rows if isinstance(row.outcome, kind)}


# ------------------------------------------------------------------------------------------------------------- Produce

PRODUCED = {
    "retried": "2 7 19 20 51 0",
    "retried, refreshed": "3 5 6 13 56 74 75 100 103",
    "failed": "-1 17 18 21 29 32 42 43 48 76 87 120",
    "split": "10",
    "completed": "46",
    "renumbered": "45 47 59",
    "fatal": "31 35 49 53 90",
}


def produced(report_of: BatchReport, settings: Settings | None = None, *before: BatchReport) -> tuple[Bench, str]:
    """A lane with this batch (behind others) is handed over: the decision about the batch, and about the rest."""
    bench = Bench(settings or Settings())
    bench.start(topic("t", 1))
    numbers = {} if bench.settings.enable_idempotence else {"producer_id": -1, "epoch": -1}
    bench.step(LanesHandedOver((lane(*before, report_of, **numbers),), ()))
    return bench, bench.one(ResumeLane).decisions[-1].action


@each_code(PRODUCE)
def test_a_produce_answer(code: int) -> None:
    what = expected(PRODUCED, code, refresh="retried, refreshed", retriable="retried", other="failed")
    bench, action = produced(batch(error=code))
    resume = bench.one(ResumeLane)
    assert action == {"failed": "fail", "fatal": "fail", "split": "split", "completed": "complete"}.get(what, "retry")
    assert (resume.delay_ms >= 80) == (action == "retry"), "backoff, if it is sent again"
    if action == "fail":
        assert resume.decisions[0].code == code
        assert resume.renumber == Renumber(9, 0, 0), "its successors close ranks"
    elif what == "renumbered":
        assert resume.renumber == Renumber(9, 1, 0)
    else:
        assert resume.renumber is None, "a retried batch is byte-identical"
    assert bench.all(SetIdentity) == ([SetIdentity(9, 1)] if what == "renumbered" else [])
    assert [failure.trouble.code for failure in bench.all(FailProducer)] == ([code] if what == "fatal" else [])
    assert (later(bench, MetadataRequest) is not None) == (what == "retried, refreshed")


@each_code(PRODUCE)
def test_a_produce_answer_without_idempotence(code: int) -> None:
    what = expected(PRODUCED, code, refresh="retried, refreshed", retriable="retried", other="failed")
    bench, action = produced(batch(error=code, base_sequence=-1), Settings(enable_idempotence=False))
    rest = {"retried": "retry", "retried, refreshed": "retry", "split": "split", "completed": "complete"}
    assert action == rest.get(what, "fail")
    assert bench.one(ResumeLane).renumber is None
    assert not bench.all(FailProducer)
    assert (later(bench, MetadataRequest) is not None) == (what == "retried, refreshed")


@each_code(PRODUCE)
def test_a_produce_answer_to_a_batch_that_may_be_in_the_log(code: int) -> None:
    """It is never renumbered nor split: it is resent unchanged, or fails, and then its sequence is not used again."""
    what = expected(PRODUCED, code, refresh="retried, refreshed", retriable="retried", other="failed")
    bench, action = produced(batch(error=code, fate="unknown"))
    sent_again = {"retried": "retry", "retried, refreshed": "retry", "completed": "complete"}
    assert action == sent_again.get(what, "fail")
    renumber = bench.one(ResumeLane).renumber
    assert renumber == (Renumber(9, 1, 0) if action == "fail" else None)


@each_code(PRODUCE)
def test_a_produce_answer_behind_a_batch_that_is_retried(code: int) -> None:
    """A rejected sequence number means nothing while a batch before it is still to be sent."""
    what = expected(PRODUCED, code, refresh="retried, refreshed", retriable="retried", other="failed")
    bench, action = produced(batch(2, 10, error=code), None, batch(1, 0, error=19))
    assert action == {"failed": "fail", "fatal": "fail", "split": "split", "completed": "complete"}.get(what, "retry")
    first = bench.one(ResumeLane).decisions[0]
    assert first.action == "retry"
    if what == "renumbered":
        assert bench.one(ResumeLane).renumber is None


@each_code(PRODUCE)
def test_a_produce_answer_behind_a_batch_that_failed(code: int) -> None:
    """The gap is of our own making then, and closing it is enough; other complaints about numbers take a new epoch."""
    what = expected(PRODUCED, code, refresh="retried, refreshed", retriable="retried", other="failed")
    bench, _ = produced(batch(2, 10, error=code), None, batch(1, 0, error=87))
    renumber = bench.one(ResumeLane).renumber
    if code == 46:
        assert renumber is None, "the broker accepted it, so that there was no gap before it"
    else:
        assert renumber == (Renumber(9, 1, 0) if what == "renumbered" and code != 45 else Renumber(9, 0, 0))


@each_code(PRODUCE)
def test_a_produce_answer_without_log_start(code: int) -> None:
    """Only a broker that has lost the producer's state is asked again for it."""
    bench, _ = produced(batch(error=code))
    known = bench.one(ResumeLane)
    bench = Bench()
    bench.start(topic("t", 1))
    bench.step(LanesHandedOver((lane(batch(error=code), log_start_offset=-1),), ()))
    resume = bench.one(ResumeLane)
    assert (resume.decisions, resume.renumber) == (known.decisions, None if code == 59 else known.renumber)


@each_code(PRODUCE)
def test_a_produce_answer_with_an_offset(code: int) -> None:
    """An offset is an acknowledgement where there is no error, and only there."""
    bench, _ = produced(batch(error=code, base_offset=7))
    decision = bench.one(ResumeLane).decisions[0]
    assert (decision.action == "complete", decision.base_offset) == (code in (0, 46), 7 if code == 0 else -1)


@each_code(PRODUCE)
def test_an_expired_batch_is_never_resent_after_any_answer(code: int) -> None:
    _, action = produced(batch(error=code, expired=True))
    assert action == ("complete" if code == 46 else "fail")


# ------------------------------------------------------------------------------------------------------------ Metadata


def asked(code: int, settings: Settings | None = None, *topics: MetadataResponseTopic, empty: bool = False) -> Bench:
    """A known topic is requested, and answered with a newer leader and this error for the whole answer."""
    bench = Bench(settings or Settings())
    control = bench.start(topic("t", 1))
    bench.step(LeaderWanted(("t",)))
    frame = later(bench, MetadataRequest)
    assert frame is not None
    assert frame.connection_id == control.connection_id
    bench.answer(frame, MetadataResponse(error_code=code) if empty else metadata(*topics, error=code))
    return bench


@each_code(METADATA_CLUSTER)
def test_a_metadata_answer_as_a_whole(code: int) -> None:
    bench = asked(code, None, topic("t", 2, epoch=2))
    if code == 129:
        control = bench.one(Close).connection_id
        bench.close(Connect(control, -1, "10.0.0.1", 9092, 0), expected=True)
        while not bench.all(Resolve):
            bench.sleep()
        assert not [each for each in bench.commands if isinstance(each, SetTopic) and each.version > 1]
    else:
        assert bench.one(SetTopic).partitions[0].leader == 2
        assert not bench.all(Close)
    silent = asked(code, Settings(metadata_recovery_strategy="none"), empty=True)
    assert silent.last == [], "nothing is taken from an answer without brokers, and nothing is closed"
    assert later(silent, MetadataRequest) is not None


TOPICS = {"refused": "17 29", "taken": "0"}


@each_code(METADATA_TOPIC)
def test_a_metadata_answer_about_a_topic(code: int) -> None:
    what = expected(TOPICS, code, refresh="requested again", retriable="requested again", other="requested again")
    bench = Bench()
    bench.start()
    bench.step(TopicWanted("t", -1))
    bench.answer(bench.find(MetadataRequest), metadata(topic("t", 1, error=code)))
    if what == "taken":
        assert bench.one(SetTopic).partitions[0].leader == 1
    else:
        failure = bench.one(FailTopic)
        assert (failure.name, failure.trouble.code, failure.is_final) == ("t", code, what == "refused")
    assert (later(bench, MetadataRequest) is not None) == (what == "requested again")


@each_code(METADATA_TOPIC)
def test_known_leaders_of_a_topic_stay_after_any_answer(code: int) -> None:
    bench = asked(0, None, topic("t", 1, error=code))
    assert bench.controller._metadata.view().partitions_for_topic("t") == (0,)
    assert not bench.all(SetTopic)


@each_code(METADATA_PARTITION)
def test_a_metadata_answer_about_a_partition(code: int) -> None:
    what = expected(
        {"taken": "0", "requested again": "5 9 72"}, code, refresh="requested again", retriable="taken", other="taken"
    )
    answer = topic("t", 2, epoch=5)
    partitions = (answer.partitions[0].__class__(error_code=code, partition_index=0, leader_id=2, leader_epoch=5),)
    answer = MetadataResponseTopic(name="t", topic_id=answer.topic_id, partitions=partitions)
    bench = asked(0, None, answer)
    assert [(each.leader, each.leader_epoch) for each in bench.one(SetTopic).partitions] == [(2, 5)]
    assert (later(bench, MetadataRequest) is not None) == (what == "requested again")


# --------------------------------------------------------------------------------------------------------- ApiVersions


@each_code(API_VERSIONS)
def test_an_api_versions_answer(code: int) -> None:
    what = expected({"open": "0", "again": "35"}, code, refresh="closed", retriable="closed", other="closed")
    bench = Bench()
    connect = bench.connect_control()
    hello = bench.open(connect)
    refused = ApiVersionsResponse(
        error_code=code, api_keys=(ApiVersion(api_key=18, min_version=0, max_version=2), *bench.api_versions().api_keys)
    )
    bench.answer(hello, refused if code else bench.api_versions(), version=0 if code == 35 else None)
    if what == "open":
        bench.find(MetadataRequest)
    elif what == "again":
        second = bench.find(ApiVersionsRequest)
        assert bench.sent[second.correlation_id][2] < bench.sent[hello.correlation_id][2]
    else:
        assert bench.one(Close).connection_id == connect.connection_id
        assert errors.error_name(code) in bench.one(Close).reason or code == 129
        bench.close(connect, bench.one(Close).reason, expected=True)
        assert not bench.all(Connect), "after backoff"
        before_ms = bench.now_ms
        while not bench.all(Resolve):
            bench.sleep()
        assert 40 <= bench.now_ms - before_ms <= 60


@each_code(API_VERSIONS)
def test_an_api_versions_answer_in_the_lowest_version(code: int) -> None:
    """UNSUPPORTED_VERSION leaves nothing to try then."""
    bench = Bench()
    hello = bench.open(bench.connect_control())
    bench.answer(hello, ApiVersionsResponse(error_code=35), version=0)
    lowest = bench.find(ApiVersionsRequest)
    assert bench.sent[lowest.correlation_id][2] == 0
    bench.answer(lowest, ApiVersionsResponse(error_code=code, api_keys=bench.api_versions().api_keys))
    assert bool(bench.all(Close)) == (code != 0)


@each_code(API_VERSIONS)
def test_an_api_versions_answer_of_a_known_broker(code: int) -> None:
    """The bootstrap addresses are used only if another node answers."""
    for strategy in ("rebootstrap", "none"):
        bench = Bench(Settings(metadata_recovery_strategy=strategy))
        control = bench.start(topic("t", 1))
        bench.step(ConnectionWanted(1))
        data = bench.one(Connect)
        bench.answer(bench.open(data), ApiVersionsResponse(error_code=code), version=0 if code == 35 else None)
        closed = {close.connection_id for close in bench.all(Close)}
        if code == 35:
            assert closed == set()
        elif code == 129 and strategy == "rebootstrap":
            assert closed == {data.connection_id, control.connection_id}
        else:  # 0 names no versions, with which nothing can be begun
            assert closed == {data.connection_id}


# ------------------------------------------------------------------------------------------------------ InitProducerId

IDENTITIES = {"held": "0", "requested again": "14 15 16 51", "refused": "31 53", "fatal": "42 47 90 120"}


@each_code(INIT_PRODUCER_ID)
def test_an_init_producer_id_answer(code: int) -> None:
    what = expected(IDENTITIES, code, refresh="requested again", retriable="requested again", other="fatal")
    bench = Bench()
    bench.handshake(bench.connect_control())
    bench.answer(bench.find(MetadataRequest), metadata())
    bench.step()
    frame = next(
        f
        for f in bench.commands
        if isinstance(f, SendFrame) and bench.sent[f.correlation_id][1] is InitProducerIdRequest
    )
    answered_ms = bench.now_ms
    bench.answer(frame, InitProducerIdResponse(error_code=code, producer_id=5, producer_epoch=0))
    assert bench.all(SetIdentity) == ([SetIdentity(5, 0)] if what == "held" else [])
    assert [each.trouble.code for each in bench.all(FailBuffered)] == ([code] if what == "refused" else [])
    assert [each.trouble.code for each in bench.all(FailProducer)] == ([code] if what == "fatal" else [])
    again = later(bench, InitProducerIdRequest)
    assert (again is not None) == (what in ("requested again", "refused"))
    if again is not None:
        assert bench.now_ms - answered_ms >= 80, "after backoff"
        bench.answer(again, InitProducerIdResponse(producer_id=6, producer_epoch=0))
        assert bench.one(SetIdentity) == SetIdentity(6, 0)


def test_a_refused_renewal_fails_buffered_records_and_lanes_wait_on() -> None:
    """Epochs are used up, and the permission is gone: the lane that needs a new identity gets it when it is back."""
    bench = Bench()
    bench.start(topic("t", 1), identity=(9, 32767))
    bench.step(LanesHandedOver((lane(batch(error=45), epoch=32767),), ()))
    bench.answer(bench.find(InitProducerIdRequest), InitProducerIdResponse(error_code=31))
    assert bench.one(FailBuffered).trouble.code == 31
    assert not bench.all(ResumeLane)
    frame = later(bench, InitProducerIdRequest)
    assert frame is not None
    bench.answer(frame, InitProducerIdResponse(producer_id=10, producer_epoch=0))
    assert bench.one(ResumeLane).renumber == Renumber(10, 0, 0)


# ----------------------------------------------------------------------------------------------------- FindCoordinator

COORDINATORS = {"found": "0", "retry": "14 15", "abort": "30 120", "fatal": "42 53"}


@each_code(FIND_COORDINATOR)
def test_a_find_coordinator_answer(code: int) -> None:
    """Nothing sends it yet: the rule alone."""
    what = expected(COORDINATORS, code, refresh="retry", retriable="retry", other="fatal")
    assert FIND_COORDINATOR.outcome(code) is CoordinatorOutcome[what.upper()]


def test_every_table_is_tested() -> None:
    assert {id(each) for each in vars(error_table).values() if isinstance(each, Table)} == set(map(id, TABLES))
