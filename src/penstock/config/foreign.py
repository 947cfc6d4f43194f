"""Names from elsewhere, with advice: settings of other clients, and Java's classes."""

from __future__ import annotations

from typing import Final

ELSEWHERE: Final = {
    # librdkafka (confluent-kafka)
    "batch.num.messages": "use batch.size, in bytes; batches are not limited by the number of records",
    "broker.address.family": "there is no such setting: addresses are tried in the resolver's order",
    "broker.address.ttl": "there is no such setting: names are resolved for each new connection",
    "client.software.name": "there is no such setting: the name is Penstock's",
    "compression.codec": "use compression.type",
    "compression.level": "use compression.gzip.level, compression.lz4.level or compression.zstd.level",
    "connections.max.idle": "use connections.max.idle.ms",
    "debug": 'there is no such setting: set the level of the logger "penstock" with Python\'s logging',
    "default_topic_conf": "there are no settings per topic: give them for the producer",
    "default.topic.config": "there are no settings per topic: give them for the producer",
    "delivery.report.only.error": "there is no such setting: give send() a callback, or keep the future",
    "delivery_callback": "give send() a callback(metadata, error), or keep the future",
    "dr_cb": "give send() a callback(metadata, error), or keep the future",
    "dr_msg_cb": "give send() a callback(metadata, error), or keep the future",
    "enable.gapless.guarantee": "use enable.idempotence: order is kept, and each failed record is reported",
    "enable.random.seed": "there is no such setting",
    "enable.ssl.certificate.verification": "there is no such setting; verification cannot be switched off",
    "error_cb": 'there is no such setting: errors reach futures and callbacks; faults are logged under "penstock"',
    "linger": "use linger.ms",
    "log.connection.close": 'there is no such setting: set the level of the logger "penstock.control"',
    "log_level": 'there is no such setting: set the level of the logger "penstock" with Python\'s logging',
    "logger": 'there is no such setting: Penstock logs through Python\'s logging under "penstock"',
    "max.in.flight": "use max.in.flight.requests.per.connection",
    "message.max.bytes": "use max.request.size, in bytes",
    "message.send.max.retries": "use retries; better leave it and bound the time with delivery.timeout.ms",
    "message.timeout.ms": "use delivery.timeout.ms, also in milliseconds (0 is not infinite here)",
    "metadata.broker.list": "use bootstrap.servers",
    "on_delivery": "give send() a callback(metadata, error), or keep the future",
    "partitioner": "use partitioner.class; Kafka's murmur2 is the default here (librdkafka's murmur2_random)",
    "produce.offset.report": "there is no such setting: the metadata always carries the offset",
    "queue.buffering.backpressure.threshold": "there is no such setting",
    "queue.buffering.max.kbytes": "use buffer.memory, in bytes: multiply by 1024",
    "queue.buffering.max.messages": "use buffer.memory, in bytes; the buffer is not limited by the number of records",
    "queue.buffering.max.ms": "use linger.ms, also in milliseconds",
    "queuing.strategy": "there is no such setting: records of a partition are sent in order",
    "reconnect.backoff.jitter.ms": "use reconnect.backoff.ms and reconnect.backoff.max.ms; jitter is built in",
    "request.required.acks": "use acks",
    "sasl.mechanisms": "use sasl.mechanism",
    "sasl.oauthbearer.config": "use sasl.jaas.config and the settings sasl.oauthbearer.…",
    "sasl.oauthbearer.client.id": "use sasl.oauthbearer.client.credentials.client.id",
    "sasl.oauthbearer.client.secret": "use sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.method": "there is no such setting: it follows from the other settings sasl.oauthbearer.…",
    "sasl.password": "use sasl.jaas.config",
    "sasl.username": "use sasl.jaas.config",
    "security.protocol.map": "use security.protocol",
    "socket.blocking.max.ms": "there is no such setting",
    "socket.connection.setup.timeout": "use socket.connection.setup.timeout.ms",
    "socket.keepalive.enable": "there is no such setting: keep-alive is always on",
    "socket.max.fails": "there is no such setting: a failing connection is replaced after reconnect.backoff.ms",
    "socket.nagle.disable": "there is no such setting: Nagle's algorithm is always off",
    "socket.receive.buffer.bytes": "use receive.buffer.bytes",
    "socket.send.buffer.bytes": "use send.buffer.bytes",
    "socket.timeout.ms": "use request.timeout.ms, also in milliseconds",
    "ssl.ca.location": "use ssl.truststore.type=PEM and ssl.truststore.location",
    "ssl.ca.pem": "use ssl.truststore.type=PEM and ssl.truststore.certificates",
    "ssl.certificate.location": "use ssl.keystore.type=PEM and ssl.keystore.location: a file with key and certificates",
    "ssl.certificate.pem": "use ssl.keystore.type=PEM and ssl.keystore.certificate.chain",
    "ssl.key.location": "use ssl.keystore.type=PEM and ssl.keystore.location: a file with key and certificates",
    "ssl.key.pem": "use ssl.keystore.type=PEM and ssl.keystore.key",
    "statistics.interval.ms": "there is no such setting: call producer.metrics() at any time",
    "stats_cb": "there is no such setting: call producer.metrics() at any time",
    "sticky.partitioning.linger.ms": "there is no such setting: each full batch moves the sticky partition",
    "throttle_cb": "there is no such setting: see produce-throttle-time-avg in producer.metrics()",
    "topic.metadata.propagation.max.ms": "use max.block.ms: send() waits that long for a topic to appear",
    "topic.metadata.refresh.interval.ms": "use metadata.max.age.ms, also in milliseconds",
    "topic.metadata.refresh.fast.interval.ms": "use retry.backoff.ms",
    "topic.metadata.refresh.sparse": "there is no such setting: metadata is only requested for topics in use",
    # kafka-python and aiokafka, where they differ
    "api.version": "there is no such setting: versions are negotiated with each broker",
    "api.version.request": "there is no such setting: versions are negotiated with each broker",
    "broker.version.fallback": "there is no such setting: versions are negotiated with each broker",
    "loop": "there is no such setting: AsyncKafkaProducer uses the running event loop",
    "max.batch.size": "use batch.size",
    "sasl.plain.password": "use sasl.jaas.config",
    "sasl.plain.username": "use sasl.jaas.config",
    "ssl.cafile": "use ssl.truststore.type=PEM and ssl.truststore.location",
    "ssl.certfile": "use ssl.keystore.type=PEM and ssl.keystore.location: a file with key and certificates",
    "ssl.check.hostname": "use ssl.endpoint.identification.algorithm: https checks the host's name, empty does not",
    "ssl.context": "there is no such setting yet; use the settings ssl.…",
    "ssl.keyfile": "use ssl.keystore.type=PEM and ssl.keystore.location: a file with key and certificates",
    # Java's own, outside of the producer's definition
    "auto.include.jmx.reporter": "Kafka 4.0 removed it, and there is no JMX here",
    "block.on.buffer.full": "Kafka 0.11 removed it; use max.block.ms",
    "default.list.key.serde.inner": "pass an instance: key_serializer=ListSerializer(StringSerializer())",
    "default.list.value.serde.inner": "pass an instance: value_serializer=ListSerializer(StringSerializer())",
    "key.deserializer": "it is a consumer's; a producer has key.serializer",
    "key.serializer.encoding": 'pass an instance: key_serializer=StringSerializer("utf-16-be")',
    "metadata.fetch.timeout.ms": "Kafka 0.11 removed it; use max.block.ms",
    "schema.registry.url": "Schema Registry is not supported yet",
    "serializer.encoding": 'pass instances: key_serializer=StringSerializer("utf-16-be"), value_serializer likewise',
    "timeout.ms": "Kafka 0.11 removed it; use request.timeout.ms",
    "value.deserializer": "it is a consumer's; a producer has value.serializer",
    "value.serializer.encoding": 'pass an instance: value_serializer=StringSerializer("utf-16-be")',
}
"""A name that is no setting of Kafka's producer → what to do instead."""

_SERIALIZERS: Final = (
    "Boolean",
    "ByteArray",
    "ByteBuffer",
    "Bytes",
    "Double",
    "Float",
    "Integer",
    "Long",
    "Short",
    "String",
    "UUID",
    "Void",
)

JAVA_CLASSES: Final = {
    **{
        f"org.apache.kafka.common.serialization.{kind}Serializer": f"penstock.serialization.{kind}Serializer"
        for kind in _SERIALIZERS
    },
    "org.apache.kafka.clients.producer.RoundRobinPartitioner": "penstock.partitioner.RoundRobinPartitioner",
}
"""Java's class → Penstock's, for configurations that a Java producer reads, too."""

_BUILT_IN: Final = "Kafka's built-in partitioning does the same; leave partitioner.class out"

JAVA_CLASSES_REFUSED: Final = {
    "org.apache.kafka.clients.producer.internals.DefaultPartitioner": f"Kafka 4.0 removed it: {_BUILT_IN}",
    "org.apache.kafka.clients.producer.UniformStickyPartitioner": (
        "Kafka 4.0 removed it: use partitioner.ignore.keys=true and leave partitioner.class out"
    ),
    "org.apache.kafka.common.serialization.ListSerializer": (
        "it needs the serializer of its elements: pass an instance, such as ListSerializer(StringSerializer())"
    ),
    "io.confluent.kafka.serializers.KafkaAvroSerializer": "Schema Registry is not supported yet",
    "io.confluent.kafka.serializers.KafkaJsonSerializer": "use penstock.serialization.JSONSerializer",
    "io.confluent.kafka.serializers.json.KafkaJsonSchemaSerializer": "Schema Registry is not supported yet",
    "io.confluent.kafka.serializers.protobuf.KafkaProtobufSerializer": "Schema Registry is not supported yet",
    "org.springframework.kafka.support.serializer.JsonSerializer": "use penstock.serialization.JSONSerializer",
}
"""Java's classes without a counterpart → the reason, and what to use instead."""

JAVA_PACKAGES: Final = (
    "org.apache.",
    "java.",
    "javax.",
    "io.confluent.",
    "org.springframework.",
    "com.",
    "io.",
    "org.",
)
"""Prefixes of Java's names: a name with one of them that cannot be imported is probably Java's."""
