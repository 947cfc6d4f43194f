"""The reader on a real Kafka whose topic grows, and is then deleted and created again."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from kafka_cluster import KafkaCluster

from penstock import KafkaProducer
from penstock._reader import Reader
from support.fixtures import TopicFactory

TIMEOUT_S = 30


def test_new_partitions_and_a_new_topic_are_read_from_their_beginning(
    kafka: KafkaCluster, kafka_topic: TopicFactory
) -> None:
    topic = kafka_topic(1)
    servers = kafka.bootstrap_servers
    admin = AdminClient({"bootstrap.servers": servers})
    notices: list[str] = []

    def fill(*values: str) -> None:
        """A value for each partition."""
        with KafkaProducer(bootstrap_servers=servers) as producer:
            for partition, value in enumerate(values):
                producer.send(topic, value.encode(), partition=partition)

    def grow() -> None:
        admin.create_partitions([NewPartitions(topic, 2)])[topic].result(TIMEOUT_S)
        fill("grown-0", "grown-1")

    def recreate() -> None:
        admin.delete_topics([topic])[topic].result(TIMEOUT_S)
        while True:
            try:
                admin.create_topics([NewTopic(topic, 2)])[topic].result(TIMEOUT_S)
                break
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # it takes a moment
                    raise
        fill("new-0", "new-1")

    steps = [lambda: None, grow, recreate]

    def between() -> None:
        # Before the first request, after the start positions are known, and after both added records were read.
        if steps and (len(steps) > 1 or len(taken) == 3):
            steps.pop(0)()

    taken: list[str] = []
    fill("old")
    options = {"metadata_max_age_s": 0.0, "timeout_s": float(TIMEOUT_S)}
    with Reader(servers, topic, between=between, notice=notices.append, **options) as reader:  # type: ignore[arg-type]
        for record in reader:
            taken.append((record.value or b"").decode())
            if len(taken) == 5:
                break
    assert sorted(taken[:3]) == ["grown-0", "grown-1", "old"]
    assert sorted(taken[3:]) == ["new-0", "new-1"]
    assert notices == [
        f"topic {topic} has 1 new partition (1), read from the beginning",
        f"topic {topic} was deleted and created again; it is read from the beginning",
    ]
