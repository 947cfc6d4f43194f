"""The status of each setting, Kafka's and ours, in Penstock: working, planned, or for a JVM only.

A new setting needs a row here; a test compares the rows with both tables.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

Status = Literal["working", "planned", "jvm-only"]


class Support(NamedTuple):
    """The status of one setting.

    `working`: as in Kafka. `planned`: not supported yet; a value other than the default, or one of `accepts`, is refused.
    `jvm-only`: accepted and logged; it has no effect outside a JVM. `default_honoured` is False where even the default
    needs a feature that Penstock does not have yet.
    """

    status: Status
    note: str = ""
    accepts: tuple[Any, ...] = ()
    default_honoured: bool = True


_WORKING: Final = Support("working")
_TRANSACTIONS: Final = Support("planned", "transactions are not supported yet")
_METRICS: Final = Support("working", "defines the windows of the rates and averages in metrics()")
_KERNEL: Final = Support("working", "not given, or -1: the kernel sizes it, by rate and distance")

_SUPPORT: Final = {
    "acks": Support("working", 'may also be a number: acks=1 is acks="1"'),
    "batch.size": Support("working", "0 means 1: each record is sent in a batch of its own"),
    "bootstrap.resolve.timeout.ms": _WORKING,
    "bootstrap.servers": _WORKING,
    "buffer.memory": _WORKING,
    "buffer.memory.allocation.strategy": Support(
        "working", "in lower case or not; incremental also with compression, which Java refuses"
    ),
    "client.dns.lookup": _WORKING,
    "client.id": Support("working", "producer-1, producer-2, … if not given"),
    "client.rack": _WORKING,
    "compression.gzip.level": _WORKING,
    "compression.lz4.level": Support("working", "as in Java, 9 is LZ4's fast compressor, any other its thorough one"),
    "compression.type": _WORKING,
    "compression.zstd.level": _WORKING,
    "config.providers": Support("planned", "values are used unchanged; ${…} is not replaced"),
    "connections.max.idle.ms": _WORKING,
    "delivery.timeout.ms": Support("working", "raised to linger.ms + request.timeout.ms if not given and below it"),
    "enable.idempotence": Support(
        "working", "off, with a logged line, if not given and acks or retries conflict with it"
    ),
    "enable.metrics.push": Support(
        "planned", "no telemetry is pushed to the brokers (KIP-714) yet", accepts=(False,), default_honoured=False
    ),
    "interceptor.classes": Support("working", "classes, instances or names"),
    "key.serializer": Support("working", "optional: without one, bytes and None pass unchanged"),
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
    "penstock.batch.growth.max.bytes": Support("working", "Penstock's own; 0: batches as in Java"),
    "penstock.batch.linger.bytes": Support("working", "Penstock's own; 0 if batch.size is given and this is not"),
    "receive.buffer.bytes": _KERNEL,
    "reconnect.backoff.max.ms": Support("working", "reconnect.backoff.ms if only that is given, as in Java"),
    "reconnect.backoff.ms": _WORKING,
    "request.timeout.ms": _WORKING,
    "retries": _WORKING,
    "retry.backoff.max.ms": _WORKING,
    "retry.backoff.ms": _WORKING,
    "security.protocol": Support("planned", "connections are PLAINTEXT; TLS and SASL are not supported yet"),
    "security.providers": Support("jvm-only", "it names Java security providers"),
    "send.buffer.bytes": _KERNEL,
    "socket.connection.setup.timeout.max.ms": _WORKING,
    "socket.connection.setup.timeout.ms": _WORKING,
    "ssl.keymanager.algorithm": Support("jvm-only", "it names a Java KeyManagerFactory"),
    "ssl.provider": Support("jvm-only", "it names a Java security provider"),
    "ssl.secure.random.implementation": Support("jvm-only", "it names a Java SecureRandom"),
    "ssl.trustmanager.algorithm": Support("jvm-only", "it names a Java TrustManagerFactory"),
    "transaction.timeout.ms": _TRANSACTIONS,
    "transaction.two.phase.commit.enable": _TRANSACTIONS,
    "transactional.id": _TRANSACTIONS,
    "value.serializer": Support("working", "optional: without one, bytes and None pass unchanged"),
}

_FAMILIES: Final = {
    "sasl.": Support("planned", "SASL is not supported yet"),
    "ssl.": Support("planned", "TLS is not supported yet"),
}


def support(name: str) -> Support:
    """The status of a setting; raises `KeyError` for a name without a row here."""
    known = _SUPPORT.get(name)
    if known is None:
        known = next((family for prefix, family in _FAMILIES.items() if name.startswith(prefix)), None)
    if known is None:
        raise KeyError(name)
    return known
