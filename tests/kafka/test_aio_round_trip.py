"""`AsyncKafkaProducer` into a real Kafka, read by a foreign consumer; a broker that is killed while coroutines send."""

from __future__ import annotations

import asyncio

import pytest
import uvloop
from kafka_cluster import KafkaCluster

from penstock import AsyncDeliveryFuture, AsyncKafkaProducer, ProducerRecord
from support.fixtures import TopicFactory
from support.judges import read_with_confluent, read_with_kafka_python
from support.sent import Sent, check

PARTITIONS = 6


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_what_coroutines_send_is_there(loop_factory: type, kafka: KafkaCluster, kafka_topic: TopicFactory) -> None:
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
    # Of each coroutine's records, not of all of them together, the order is promised: sorted by place it is checked below.
    for judge in (read_with_kafka_python, read_with_confluent):
        check(sent, judge(kafka.bootstrap_servers, topic, len(sent)), ordered=False)
    for number in range(10):
        mine = [(record, metadata) for record, metadata in sent if record.headers == (("part", b"%d" % number),)]
        for partition in range(PARTITIONS):
            offsets = [metadata.offset for _, metadata in mine if metadata.partition == partition]
            assert offsets == sorted(offsets)


def test_a_broker_that_is_killed_and_comes_back_costs_coroutines_only_time(
    kafka: KafkaCluster, kafka_topic: TopicFactory
) -> None:
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
