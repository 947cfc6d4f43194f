"""What Penstock makes of Kafka's settings: which work, which are planned, which mean something to a JVM only.

Also other people's names: librdkafka's settings and Java's classes, each with what to write here instead.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

Status = Literal["working", "planned", "jvm-only"]


class Support(NamedTuple):
    """What Penstock makes of one setting.

    `working`: does what Kafka says. `planned`: known, not yet supported; anything but the default, or one of `accepts`,
    is refused. `jvm-only`: accepted and logged; it can mean nothing here. `default_honoured` is False where even the
    default promises something that Penstock does not do yet.
    """

    status: Status
    note: str = ""
    accepts: tuple[Any, ...] = ()
    default_honoured: bool = True


_WORKING: Final = Support("working")
_TRANSACTIONS: Final = Support("planned", "transactions are not there yet")
_METRICS: Final = Support("working", "shapes the windows of the rates and averages in metrics()")

_SUPPORT: Final = {
    "acks": Support("working", 'also taken as a number: acks=1 is acks="1"'),
    "batch.size": Support("working", "0 is taken as 1: each record travels in a batch of its own"),
    "bootstrap.resolve.timeout.ms": _WORKING,
    "bootstrap.servers": _WORKING,
    "buffer.memory": _WORKING,
    "buffer.memory.allocation.strategy": Support("planned", "batches get their whole buffer at once (full)"),
    "client.dns.lookup": _WORKING,
    "client.id": Support("working", "producer-1, producer-2, … if not given"),
    "client.rack": _WORKING,
    "compression.gzip.level": _WORKING,
    "compression.lz4.level": Support("working", "as in Java, 9 is LZ4's fast compressor, any other its thorough one"),
    "compression.type": _WORKING,
    "compression.zstd.level": _WORKING,
    "config.providers": Support("planned", "values are taken as they stand; ${…} is not replaced"),
    "connections.max.idle.ms": _WORKING,
    "delivery.timeout.ms": Support("working", "raised to linger.ms + request.timeout.ms if not given and below it"),
    "enable.idempotence": Support(
        "working", "off, with a logged line, if not given and acks or retries speak against it"
    ),
    "enable.metrics.push": Support(
        "planned", "no telemetry is pushed to the brokers (KIP-714) yet", accepts=(False,), default_honoured=False
    ),
    "interceptor.classes": Support("working", "classes, instances or names"),
    "key.serializer": Support("working", "optional: without one, bytes and None pass as they are"),
    "linger.ms": _WORKING,
    "max.block.ms": _WORKING,
    "max.in.flight.requests.per.connection": _WORKING,
    "max.request.size": _WORKING,
    "metadata.cluster.check.enable": _WORKING,
    "metadata.max.age.ms": _WORKING,
    "metadata.max.idle.ms": _WORKING,
    "metadata.recovery.rebootstrap.trigger.ms": _WORKING,
    "metadata.recovery.strategy": _WORKING,
    "metric.reporters": Support("jvm-only", "there is no JMX here; read producer.metrics()", default_honoured=False),
    "metrics.num.samples": _METRICS,
    "metrics.recording.level": Support("working", "the producer has no metrics beyond INFO"),
    "metrics.sample.window.ms": _METRICS,
    "partitioner.adaptive.partitioning.enable": _WORKING,
    "partitioner.availability.timeout.ms": _WORKING,
    "partitioner.class": Support(
        "working", "a class, an instance or a name; without one, Kafka's built-in partitioning"
    ),
    "partitioner.ignore.keys": _WORKING,
    "partitioner.rack.aware": _WORKING,
    "receive.buffer.bytes": _WORKING,
    "reconnect.backoff.max.ms": Support("working", "reconnect.backoff.ms if only that is given, as in Java"),
    "reconnect.backoff.ms": _WORKING,
    "request.timeout.ms": _WORKING,
    "retries": _WORKING,
    "retry.backoff.max.ms": _WORKING,
    "retry.backoff.ms": _WORKING,
    "security.protocol": Support("planned", "connections are PLAINTEXT; TLS and SASL are not there yet"),
    "security.providers": Support("jvm-only", "it names Java security providers"),
    "send.buffer.bytes": _WORKING,
    "socket.connection.setup.timeout.max.ms": _WORKING,
    "socket.connection.setup.timeout.ms": _WORKING,
    "ssl.keymanager.algorithm": Support("jvm-only", "it names a Java KeyManagerFactory"),
    "ssl.provider": Support("jvm-only", "it names a Java security provider"),
    "ssl.secure.random.implementation": Support("jvm-only", "it names a Java SecureRandom"),
    "ssl.trustmanager.algorithm": Support("jvm-only", "it names a Java TrustManagerFactory"),
    "transaction.timeout.ms": _TRANSACTIONS,
    "transaction.two.phase.commit.enable": _TRANSACTIONS,
    "transactional.id": _TRANSACTIONS,
    "value.serializer": Support("working", "optional: without one, bytes and None pass as they are"),
}

_FAMILIES: Final = {
    "sasl.": Support("planned", "SASL is not there yet"),
    "ssl.": Support("planned", "TLS is not there yet"),
}


def support(name: str) -> Support:
    """What Penstock makes of a setting; a `KeyError` for a name that nobody has thought about."""
    known = _SUPPORT.get(name)
    if known is None:
        known = next((family for prefix, family in _FAMILIES.items() if name.startswith(prefix)), None)
    if known is None:
        raise KeyError(name)
    return known


# --- Other people's names ---

ELSEWHERE: Final = {
    # librdkafka (confluent-kafka)
    "batch.num.messages": "use batch.size, in bytes; batches are not limited by the number of records",
    "broker.address.family": "there is no such setting: addresses are tried in the resolver's order",
    "broker.address.ttl": "there is no such setting: names are resolved anew for each connection",
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
    "enable.gapless.guarantee": "use enable.idempotence: order is kept, and each failed record is told",
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
    "statistics.interval.ms": "there is no such setting: call producer.metrics() whenever you want",
    "stats_cb": "there is no such setting: call producer.metrics() whenever you want",
    "sticky.partitioning.linger.ms": "there is no such setting: each full batch moves the sticky partition",
    "throttle_cb": "there is no such setting: see produce-throttle-time-avg in producer.metrics()",
    "topic.metadata.propagation.max.ms": "use max.block.ms: send() waits that long for a topic to appear",
    "topic.metadata.refresh.interval.ms": "use metadata.max.age.ms, also in milliseconds",
    "topic.metadata.refresh.fast.interval.ms": "use retry.backoff.ms",
    "topic.metadata.refresh.sparse": "there is no such setting: only topics in use are asked for",
    # kafka-python and aiokafka, as far as they differ
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
    "auto.include.jmx.reporter": "it went with Kafka 4.0, and there is no JMX here",
    "block.on.buffer.full": "it went with Kafka 0.11; use max.block.ms",
    "default.list.key.serde.inner": "pass an instance: key_serializer=ListSerializer(StringSerializer())",
    "default.list.value.serde.inner": "pass an instance: value_serializer=ListSerializer(StringSerializer())",
    "key.deserializer": "it is a consumer's; a producer has key.serializer",
    "key.serializer.encoding": 'pass an instance: key_serializer=StringSerializer("utf-16-be")',
    "metadata.fetch.timeout.ms": "it went with Kafka 0.11; use max.block.ms",
    "schema.registry.url": "Schema Registry is not there yet",
    "serializer.encoding": 'pass instances: key_serializer=StringSerializer("utf-16-be"), value_serializer likewise',
    "timeout.ms": "it went with Kafka 0.11; use request.timeout.ms",
    "value.deserializer": "it is a consumer's; a producer has value.serializer",
    "value.serializer.encoding": 'pass an instance: value_serializer=StringSerializer("utf-16-be")',
}
"""A name that is not Kafka's producer's → what to do instead."""

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
"""Java's class → ours, for configurations that a Java producer reads, too."""

_BUILT_IN: Final = "Kafka's built-in partitioning does what it did; leave partitioner.class out"

JAVA_CLASSES_REFUSED: Final = {
    "org.apache.kafka.clients.producer.internals.DefaultPartitioner": f"it went with Kafka 4.0: {_BUILT_IN}",
    "org.apache.kafka.clients.producer.UniformStickyPartitioner": (
        "it went with Kafka 4.0: use partitioner.ignore.keys=true and leave partitioner.class out"
    ),
    "org.apache.kafka.common.serialization.ListSerializer": (
        "it needs the serializer of its elements: pass an instance, such as ListSerializer(StringSerializer())"
    ),
    "io.confluent.kafka.serializers.KafkaAvroSerializer": "Schema Registry is not there yet",
    "io.confluent.kafka.serializers.KafkaJsonSerializer": "use penstock.serialization.JSONSerializer",
    "io.confluent.kafka.serializers.json.KafkaJsonSchemaSerializer": "Schema Registry is not there yet",
    "io.confluent.kafka.serializers.protobuf.KafkaProtobufSerializer": "Schema Registry is not there yet",
    "org.springframework.kafka.support.serializer.JsonSerializer": "use penstock.serialization.JSONSerializer",
}
"""Java's classes that people name → why they do not work here, and what does."""

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
"""How names begin that are Java's rather than Python's, if they cannot be imported."""
