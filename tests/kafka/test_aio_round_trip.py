"""`AsyncKafkaProducer` into a real Kafka, also in bulk, read by a foreign consumer; a broker killed while coroutines send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pyarrow as pa
import pytest
import uvloop
from kafka_cluster import KafkaCluster

from penstock import AsyncDeliveryFuture, AsyncKafkaProducer, ProducerRecord
from support.fixtures import TopicFactory
from support.judges import by_partition, read_with_confluent, read_with_kafka_python
from support.sent import Sent, check

PARTITIONS = 6


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_records_of_coroutines_arrive(loop_factory: type, kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(PARTITIONS)
    sent: list[Sent] = []

    async def part(producer: AsyncKafkaProducer[bytes, bytes], number: int) -> None:
        records: list[ProducerRecord[bytes, bytes]] = [
            ProducerRecord(
                topic, b"%d of %d" % (each, number), key=b"%d" % (each % 7), headers=[("part", b"%d" % number)]
            )
            for each in range(2_000)
        ]
        futures = [await producer.send(record) for record in records]
        sent.extend(zip(records, await asyncio.gather(*futures), strict=True))

    async def main() -> None:
        async with AsyncKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, buffer_memory=400_000) as producer:
            await asyncio.gather(*(part(producer, number) for number in range(10)))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())
    # The order is guaranteed within one coroutine's records only: sorted by partition, it is checked below.
    for judge in (read_with_kafka_python, read_with_confluent):
        check(sent, judge(kafka.bootstrap_servers, topic, len(sent)), ordered=False)
    for number in range(10):
        mine = [(record, metadata) for record, metadata in sent if record.headers == (("part", b"%d" % number),)]
        for partition in range(PARTITIONS):
            offsets = [metadata.offset for _, metadata in mine if metadata.partition == partition]
            assert offsets == sorted(offsets)


def test_bulk_records_of_coroutines_are_at_their_offsets(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(PARTITIONS)
    sent: dict[tuple[int, int], tuple[bytes, bytes]] = {}

    def part(number: int) -> tuple[list[bytes], list[bytes]]:
        return [b"%d of %d" % (each, number) for each in range(5_000)], [b"%d" % (each % 97) for each in range(5_000)]

    async def streamed(entries: list[bytes]) -> AsyncIterator[bytes]:
        for number, entry in enumerate(entries):
            if number % 100 == 0:
                await asyncio.sleep(0)
            yield entry

    async def send(producer: AsyncKafkaProducer[bytes, bytes], number: int) -> None:
        values, keys = part(number)
        if number % 3 == 0:
            result = await producer.send_many(topic, streamed(values), keys=keys)
        elif number % 3 == 1:
            result = await producer.send_many(topic, values, keys=iter(keys))
        else:
            result = await producer.send_arrow(topic, pa.table({"v": values, "k": keys}), value="v", key="k")
        (await result).raise_for_errors()
        places = zip(result.partitions, result.offsets, strict=True)
        sent.update(zip(places, zip(values, keys, strict=True), strict=True))

    async def main() -> None:
        async with AsyncKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, buffer_memory=400_000) as producer:
            await asyncio.gather(*(send(producer, number) for number in range(9)))

    asyncio.run(main())
    assert len(sent) == 9 * 5_000
    found = read_with_confluent(kafka.bootstrap_servers, topic, len(sent))
    assert {(record.partition, record.offset): (record.value, record.key) for record in found} == sent
    for number in range(9):
        values = set(part(number)[0])
        # The order is guaranteed for the records of one call, in each partition.
        for records in by_partition(found).values():
            mine = [record.value for record in records if record.value in values]
            assert mine == sorted(mine, key=lambda value: int((value or b"").split()[0]))


def test_coroutines_survive_a_killed_broker(kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
    topic = kafka_topic(3)
    sent: list[Sent] = []

    async def main() -> None:
        async with AsyncKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, batch_size=1_000) as producer:
            pending: list[tuple[ProducerRecord[bytes, bytes], AsyncDeliveryFuture]] = []
            for number in range(3_000):
                record: ProducerRecord[bytes, bytes] = ProducerRecord(topic, b"%d" % number)
                pending.append((record, await producer.send(record)))
                if number == 1_000:
                    await asyncio.to_thread(kafka.kill)
                    restarting = asyncio.create_task(asyncio.to_thread(kafka.restart))
            await restarting
            sent.extend([(record, await future) for record, future in pending])

    asyncio.run(main())
    check(sent, read_with_confluent(kafka.bootstrap_servers, topic, len(sent)), resent=True)
