"""Numbers that are not ints and bytes-like objects, in every argument of the producers of both facades."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from aio_support import LOOPS, producing, run_on
from driven import FACADES
from facade_support import SOON_S, Log, MakeProducer, MakeTopic

from penstock import KafkaProducer, ProducerRecord
from penstock.devbroker import RunningCluster

T_MS = 1_700_000_000_000


@pytest.mark.parametrize("facade", FACADES)
@pytest.mark.parametrize("kind", [int, np.int32, np.uint64, np.array])
def test_partitions_and_timestamps(
    new_producer: MakeProducer, new_topic: MakeTopic, log: Log, facade: type, kind: Any
) -> None:
    topic, producer = new_topic(3), new_producer()
    when = np.int64 if kind is np.int32 else kind
    producer.send(topic, b"send", partition=kind(2), timestamp=when(T_MS)).result(SOON_S)
    producer.send(ProducerRecord(topic, b"record", partition=kind(2), timestamp=when(T_MS))).result(SOON_S)
    # The first record is serialized alone, the others one by one: each with its own time, or one time for all.
    many = producer.send_many(topic, [b"many", b"more"], timestamps=[when(T_MS), T_MS], partition=kind(2))
    assert list(many.partitions) == [2, 2]
    table = pa.table({"value": [b"arrow"], "at": [T_MS]})
    producer.send_arrow(topic, table, value="value", timestamp="at", partition=kind(2)).raise_for_errors()
    producer.flush()
    assert log.by_partition(topic) == {2: [b"send", b"record", b"many", b"more", b"arrow"]}
    assert {record.timestamp for record in log.records(topic)} == {T_MS}


@pytest.mark.parametrize("facade", FACADES)
def test_a_numpy_array_is_a_column_of_timestamps(
    new_producer: MakeProducer, topic: str, log: Log, facade: type
) -> None:
    producer = new_producer()
    producer.send_many(topic, [b"a", b"b"], timestamps=np.array([T_MS, T_MS + 1])).raise_for_errors()
    assert [record.timestamp for record in log.records(topic)] == [T_MS, T_MS + 1]


@pytest.mark.parametrize("facade", FACADES)
@pytest.mark.parametrize("wrong", [1.0, np.float64(1), np.True_, True, "1", np.array([1])], ids=repr)
def test_numbers_that_are_not_whole_are_refused(
    new_producer: MakeProducer, topic: str, log: Log, facade: type, wrong: Any
) -> None:
    producer = new_producer()
    with pytest.raises(TypeError, match="partition must be an int or None"):
        producer.send(topic, b"v", partition=wrong)
    with pytest.raises(TypeError, match="partition must be an int or None"):
        producer.send_many(topic, [b"v"], partition=wrong)
    with pytest.raises(TypeError, match="timestamp must be an int"):
        producer.send_many(topic, [b"v"], timestamps=[wrong])
    if not isinstance(wrong, str):  # a str is a column's name
        with pytest.raises(TypeError, match="partition must be a column's name, an int or None"):
            producer.send_arrow(topic, pa.table({"v": [b"v"]}), partition=wrong)
    assert log.count(topic) == 0


@pytest.mark.parametrize("facade", FACADES)
def test_header_values_are_copied_when_they_are_given(
    new_producer: MakeProducer, topic: str, log: Log, facade: type
) -> None:
    # With linger: a later change of the value happens before the record is sent.
    producer: KafkaProducer[Any, Any] = new_producer(linger_ms=60_000)
    changing = bytearray(b"a-b-c-")
    every_other = memoryview(changing)[::2]
    shapes: list[Any] = [
        [("all", changing), ("some", every_other)],
        (("all", memoryview(changing)), ("some", every_other)),
        {"all": changing, "some": every_other},
        iter([["all", changing], ["some", every_other]]),
    ]
    record = ProducerRecord(topic, b"record", headers=shapes[0])
    for headers in shapes:
        producer.send(topic, b"send", headers=headers)
    producer.send(record)
    producer.send_many(topic, [b"many"] * 3, headers=shapes[:3])
    changing[:] = b"x-y-z-"
    producer.flush()
    assert [record.headers for record in log.records(topic)] == [(("all", b"a-b-c-"), ("some", b"abc"))] * 8


@pytest.mark.parametrize("kind", LOOPS)
def test_header_values_are_copied_before_a_send_waits_for_its_topic(cluster: RunningCluster, kind: str) -> None:
    topic, changing = f"made-later-{kind}", bytearray(b"before")

    async def main() -> None:
        async with producing(cluster.bootstrap_servers, metadata_max_age_ms=100) as producer:
            sending = asyncio.ensure_future(producer.send(topic, b"v", headers=[("h", changing)]))
            await asyncio.sleep(0)
            changing[:] = b"after!"
            await asyncio.to_thread(cluster.create_topic, topic, 1)
            await (await sending)

    run_on(kind, main())
    assert [record.headers for record in Log(cluster).records(topic)] == [(("h", b"before"),)]


@pytest.mark.parametrize("facade", FACADES)
@pytest.mark.parametrize(
    "view", [memoryview(np.array([1, 2], "<i4")), memoryview(np.arange(4, dtype="<i2"))[::2]], ids=["items", "strided"]
)
def test_values_and_keys_may_be_memoryviews_of_any_items(
    new_producer: MakeProducer, topic: str, log: Log, facade: type, view: memoryview
) -> None:
    producer = new_producer()
    producer.send(topic, view, key=view).result(SOON_S)
    producer.send_many(topic, [view], keys=[view]).raise_for_errors()
    assert [(record.value, record.key) for record in log.records(topic)] == [(view.tobytes(), view.tobytes())] * 2
