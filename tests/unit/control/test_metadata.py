"""Topics and leaders, and when they are requested."""

from __future__ import annotations

from random import Random
from uuid import UUID

from control_harness import Settings, metadata, topic

from penstock.control.boundary import FailTopic, ForgetTopic, NodeEndpoint, PartitionLeader, SetTopic
from penstock.control.cluster_view import Node
from penstock.control.metadata import Metadata
from penstock.partitioner import Cluster
from penstock.protocol.messages.metadata import MetadataResponse, MetadataResponsePartition, MetadataResponseTopic

ID = UUID(int=7).bytes


def known(*topics: MetadataResponseTopic, settings: Settings | None = None) -> Metadata:
    """Metadata that has these topics, at time 0."""
    state = Metadata(settings or Settings(), Random(1), 0)
    for each in topics:
        state.want(each.name or "", -1, 0)
    state.request(0)
    state.answered(metadata(*topics), 13, 0)
    return state


def refreshed(
    state: Metadata, *topics: MetadataResponseTopic, now_ms: float = 1_000, version: int = 13
) -> list[object]:
    state.request_refresh()
    state.request(now_ms)
    return list(state.answered(metadata(*topics), version, now_ms) or [])


def names(state: Metadata, now_ms: float) -> list[str | None]:
    return [each.name for each in state.request(now_ms).topics or ()]


def test_a_first_request_is_due_at_once_and_names_no_topics() -> None:
    state = Metadata(Settings(), Random(1), 5)
    assert state.due_ms(5) == 5
    request = state.request(5)
    assert request.topics == ()
    assert request.allow_auto_topic_creation, "as Java's producer"
    assert state.due_ms(5) is None, "one at a time"


def test_a_new_topic_is_requested_alone_and_at_once() -> None:
    state = known(topic("t", 1))
    state.want("u", -1, 10)
    assert state.due_ms(10) == 10
    assert names(state, 10) == ["u"]


def test_a_refresh_requests_all_topics_after_backoff() -> None:
    state = known(topic("t", 1), topic("u", 1))
    state.request_refresh()
    due_ms = state.due_ms(1)
    assert due_ms is not None
    assert 80 <= due_ms <= 120
    assert names(state, due_ms) == ["t", "u"]


def test_metadata_is_refreshed_when_it_is_old() -> None:
    assert known(topic("t", 1)).due_ms(10) == 300_000


def test_failed_requests_have_growing_backoff() -> None:
    state = known()
    gaps, now_ms = [], 1_000.0
    for _ in range(5):
        state.request_refresh()
        state.request(now_ms)
        state.failed(now_ms)
        due_ms = state.due_ms(now_ms)
        assert due_ms is not None
        gaps.append(due_ms - now_ms)
        now_ms = due_ms
    assert gaps[0] < gaps[1] < gaps[2] < gaps[3] <= 1_000


def test_an_answer_without_brokers_is_ignored() -> None:
    state = known(topic("t", 1))
    state.request_refresh()
    state.request(500)
    assert state.answered(MetadataResponse(), 13, 500) == []
    assert state.brokers[1].host == "10.0.0.1"
    assert (state.due_ms(500) or 0) > 500


def test_an_older_leader_epoch_is_ignored() -> None:
    state = known(topic("t", 2, epoch=5))
    assert refreshed(state, topic("t", 1, epoch=4)) == []
    assert state.leader_epoch("t", 0) == 5


def test_the_same_or_a_newer_epoch_counts() -> None:
    state = known(topic("t", 2, epoch=5))
    assert refreshed(state, topic("t", 1, epoch=6)) == [SetTopic("t", ID, 2, (PartitionLeader(1, 6, False),))]


def test_without_epochs_the_newest_answer_counts() -> None:
    state = known(topic("t", 2, epoch=-1))
    assert len(refreshed(state, topic("t", 1, epoch=-1))) == 1


def test_a_snapshot_after_forgetting_is_newer_than_one_before() -> None:
    # The data plane keeps a topic that got a record in the very moment, and takes newer snapshots only.
    state = known(topic("t", 1))
    (before,) = refreshed(state, topic("t", 1, epoch=9))
    state.expire({"t": 300_000}, 300_000)
    state.keep(["t"], 300_001)
    (after,) = refreshed(state, topic("t", 2, epoch=10))
    assert isinstance(before, SetTopic)
    assert isinstance(after, SetTopic)
    assert after.version > before.version


def test_a_topic_that_the_data_plane_did_not_forget_is_kept() -> None:
    state = known(topic("t", 1))
    assert state.expire({"t": 300_000}, 300_000) == [ForgetTopic("t")]
    assert state.expire({"t": 100}, 301_000) == []
    assert state.due_ms(301_000) == 301_000


def test_a_recreated_topic_starts_epochs_again() -> None:
    state = known(topic("t", 2, epoch=5))
    (snapshot,) = refreshed(state, topic("t", 1, epoch=0, id=8))
    assert snapshot == SetTopic("t", UUID(int=8).bytes, 2, (PartitionLeader(1, 0, False),))


def test_another_cluster_resets_topics() -> None:
    state = known(topic("t", 2, epoch=5, id=0))
    state.request_refresh()
    state.request(500)
    (snapshot,) = state.answered(metadata(topic("t", 1, epoch=0, id=0), cluster="d"), 13, 500) or []
    assert isinstance(snapshot, SetTopic)
    assert snapshot.partitions[0] == PartitionLeader(1, 0, False)


def test_a_broker_without_topic_ids_does_not_make_us_forget_them() -> None:
    state = known(topic("t", 2, epoch=5))
    (snapshot,) = refreshed(state, topic("t", 1, epoch=6, id=0), version=9)
    assert isinstance(snapshot, SetTopic)
    assert snapshot.topic_id == ID


def test_leader_epochs_of_brokers_before_2_4_do_not_hold_a_leader_in_place() -> None:
    state = known(topic("t", 2, epoch=5))
    (snapshot,) = refreshed(state, topic("t", 1, epoch=4, id=0), version=8)
    assert isinstance(snapshot, SetTopic)
    assert snapshot.partitions == (PartitionLeader(1, -1, False),)


def test_an_unchanged_topic_is_not_announced_again() -> None:
    assert refreshed(known(topic("t", 1)), topic("t", 1)) == []


def test_a_missing_leader_is_announced_each_time_and_requested_again() -> None:
    state = known(topic("t", -1))
    due_ms = state.due_ms(0)
    assert due_ms is not None
    assert due_ms <= 120
    assert len(refreshed(state, topic("t", -1))) == 1, "the engine reports LeaderWanted once per snapshot"


def test_partitions_missing_from_the_answer_have_no_leader() -> None:
    partitions = tuple(MetadataResponsePartition(partition_index=n, leader_id=1, leader_epoch=1) for n in (0, 2))
    state = known()
    state.want("t", -1, 0)
    state.request(0)
    answer = MetadataResponseTopic(name="t", topic_id=UUID(int=7), partitions=partitions)
    (snapshot,) = state.answered(metadata(answer), 13, 0) or []
    assert isinstance(snapshot, SetTopic)
    assert [each.leader for each in snapshot.partitions] == [1, -1]


def test_added_partitions_appear() -> None:
    (snapshot,) = refreshed(known(topic("t", 1)), topic("t", 1, 2))
    assert isinstance(snapshot, SetTopic)
    assert len(snapshot.partitions) == 2


def test_an_unknown_partition_that_a_call_needs_is_requested() -> None:
    state = known(topic("t", 1))
    state.want("t", 3, 1_000)
    assert state.due_ms(1_000) == 1_000
    state.request(1_000)
    state.answered(metadata(topic("t", 1)), 13, 1_000)
    assert (state.due_ms(1_000) or 0) < 1_200
    assert state.due_ms(9_000) == 301_000, "no call needs it any more"


def test_after_an_error_the_same_answer_as_before_it_is_announced() -> None:
    """The data plane has the error: without another snapshot its senders would wait forever."""
    state = known(topic("t", 1))
    (failure,) = refreshed(state, topic("t", error=3))
    assert isinstance(failure, FailTopic)
    (snapshot,) = refreshed(state, topic("t", 1))
    assert isinstance(snapshot, SetTopic)
    assert refreshed(state, topic("t", 1)) == []


def test_a_partition_that_is_named_twice_counts_once() -> None:
    partitions = tuple(MetadataResponsePartition(partition_index=0, leader_id=n, leader_epoch=1) for n in (1, 2))
    (snapshot,) = refreshed(
        known(topic("t", -1)), MetadataResponseTopic(name="t", topic_id=UUID(int=7), partitions=partitions)
    )
    assert isinstance(snapshot, SetTopic)
    assert len(snapshot.partitions) == 1


def test_a_topic_missing_from_the_answer_is_requested_again_after_backoff() -> None:
    state = known()
    state.want("t", -1, 0)
    state.request(0)
    assert state.answered(metadata(), 13, 0) == []
    assert 80 <= (state.due_ms(0) or 0) <= 120
    assert names(state, 120) == ["t"]


def test_a_known_topic_missing_from_the_answer_stays_known() -> None:
    state = known(topic("t", 1))
    assert refreshed(state) == []
    assert state.view().partitions_for_topic("t") == (0,)


def test_topics_that_were_not_requested_are_ignored() -> None:
    state = known(topic("t", 1))
    assert refreshed(state, topic("t", 1), topic("invented", 1)) == []
    assert set(state.view().views) == {"t"}


def test_a_topic_that_vanishes_keeps_its_snapshot() -> None:
    state = known(topic("t", 1))
    (failure,) = refreshed(state, topic("t", error=3))
    assert isinstance(failure, FailTopic)
    assert state.view().partitions_for_topic("t") == (0,)


def test_racks_make_leaders_local() -> None:
    settings = Settings(client_rack="b", partitioner_rack_aware=True)
    state = known(settings=settings)
    state.want("t", -1, 0)
    state.request(0)
    (snapshot,) = state.answered(metadata(topic("t", 1, 2)), 13, 0) or []
    assert isinstance(snapshot, SetTopic)
    assert [each.local for each in snapshot.partitions] == [False, True]
    assert not any(each.local for each in _leaders(Settings(client_rack="b")))


def _leaders(settings: Settings) -> tuple[PartitionLeader, ...]:
    state = Metadata(settings, Random(1), 0)
    state.want("t", -1, 0)
    state.request(0)
    (snapshot,) = state.answered(metadata(topic("t", 1, 2)), 13, 0) or []
    assert isinstance(snapshot, SetTopic)
    return snapshot.partitions


def test_hints_count_when_they_are_newer_and_their_node_is_known() -> None:
    state = known(topic("t", 1, 1))
    assert state.apply_hints("t", ID, {0: (3, 2)}) is None, "node 3 has no known address"
    assert state.add_endpoints([NodeEndpoint(3, "10.0.0.3", 9092, None)])
    assert state.apply_hints("t", ID, {0: (3, 1)}) is None, "not newer"
    assert state.apply_hints("t", UUID(int=8).bytes, {0: (3, 2)}) is None, "of another topic"
    snapshot = state.apply_hints("t", ID, {0: (3, 2), 9: (3, 2)})
    assert snapshot is not None
    assert [each.leader for each in snapshot.partitions] == [3, 1]


def test_the_view_shows_replicas_and_unknown_nodes() -> None:
    view = known(topic("t", 1, -1)).view()
    first, second = view.topics["t"]
    assert first.leader == Node(1, "10.0.0.1", 9092, "a")
    assert second.leader is None
    assert [node.id for node in first.replicas] == [1, 2]
    assert [node.id for node in first.offline_replicas] == [2]
    assert view.cluster_id == "c"
    cluster: Cluster = view
    assert (cluster.partitions_for_topic("t"), cluster.available_partitions("t")) == ((0, 1), (0,))
    assert cluster.partitions_for_topic("absent") == ()


def test_a_topic_is_forgotten_when_it_was_idle_for_long_enough() -> None:
    state = known(topic("t", 1), topic("u", 1))
    assert state.expire({"t": 300_000, "u": 299_999}, 300_000) == [ForgetTopic("t")]
    assert set(state.view().views) == {"u"}
    state.keep(["t"], 300_001)
    assert state.due_ms(300_001) == 300_001


def test_a_topic_that_recovers_unchanged_is_announced() -> None:
    # Found by the simulation: the data plane kept the error, and every later send waited until max.block.ms.
    state = known(topic("t", 1))
    (failed,) = refreshed(state, topic("t", error=5))
    assert isinstance(failed, FailTopic)
    (again,) = refreshed(state, topic("t", 1), now_ms=2_000)
    assert isinstance(again, SetTopic)
    assert refreshed(state, topic("t", 1), now_ms=3_000) == [], "once"
    (failed,) = refreshed(state, topic("t"), now_ms=4_000)
    assert isinstance(failed, FailTopic), "no partitions: not created yet"
    assert len(refreshed(state, topic("t", 1), now_ms=5_000)) == 1
