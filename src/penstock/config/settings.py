"""The values of a configuration with types and names of Python, for the code that works with them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.config.rules import INT_MAX


class ProducerSettings(NamedTuple):
    """The values that the producer works with. Names are the settings' with underscores, times milliseconds, sizes bytes.

    They are the configuration's values after all rules, except: `acks` is -1 (all), 0 or 1; `batch_size` is at least 1;
    `penstock_batch_growth_max_bytes` is 0 if batch.size is; `compression_level` is the level of the codec in use;
    `linger_ms` is at most 2³¹-1; `metadata_recovery_strategy` and `buffer_memory_allocation_strategy` are lower case;
    `bootstrap_servers` has the form "host:port" ("[address]:port" for IPv6), and `bootstrap_addresses` has the same as
    pairs.
    """

    acks: int
    batch_size: int
    bootstrap_addresses: tuple[tuple[str, int], ...]
    bootstrap_resolve_timeout_ms: int
    bootstrap_servers: tuple[str, ...]
    buffer_memory: int
    buffer_memory_allocation_strategy: str
    client_dns_lookup: str
    client_id: str
    client_rack: str
    compression_level: int
    compression_type: str
    connections_max_idle_ms: int
    delivery_timeout_ms: int
    enable_idempotence: bool
    interceptor_classes: tuple[Any, ...]
    key_serializer: Any
    linger_ms: int
    max_block_ms: int
    max_in_flight_requests_per_connection: int
    max_request_size: int
    metadata_cluster_check_enable: bool
    metadata_max_age_ms: int
    metadata_max_idle_ms: int
    metadata_recovery_rebootstrap_trigger_ms: int
    metadata_recovery_strategy: str
    metrics_num_samples: int
    metrics_recording_level: str
    metrics_sample_window_ms: int
    partitioner_adaptive_partitioning_enable: bool
    partitioner_availability_timeout_ms: int
    partitioner_class: Any
    partitioner_ignore_keys: bool
    partitioner_rack_aware: bool
    penstock_batch_growth_max_bytes: int
    penstock_batch_linger_bytes: int
    receive_buffer_bytes: int
    reconnect_backoff_max_ms: int
    reconnect_backoff_ms: int
    request_timeout_ms: int
    retries: int
    retry_backoff_max_ms: int
    retry_backoff_ms: int
    send_buffer_bytes: int
    socket_connection_setup_timeout_max_ms: int
    socket_connection_setup_timeout_ms: int
    value_serializer: Any


def typed_settings(values: Mapping[str, Any], addresses: tuple[tuple[str, int], ...]) -> ProducerSettings:
    """The typed settings of a whole configuration; `addresses` are its bootstrap servers, parsed."""
    typed: dict[str, Any] = {name: values.get(name.replace("_", ".")) for name in ProducerSettings._fields}
    typed["acks"] = int(values["acks"])
    # The level of the codec in use; none and snappy have no levels.
    typed["compression_level"] = values.get(f"compression.{values['compression.type']}.level", 0)
    typed["batch_size"] = max(1, values["batch.size"])
    if values["batch.size"] == 0:
        typed["penstock_batch_growth_max_bytes"] = 0  # each record is to be sent in a batch of its own
    typed["bootstrap_addresses"] = addresses
    typed["bootstrap_servers"] = tuple(
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses
    )
    typed["linger_ms"] = min(values["linger.ms"], INT_MAX)
    for name in ("buffer_memory_allocation_strategy", "metadata_recovery_strategy"):
        typed[name] = typed[name].lower()
    return ProducerSettings(**typed)
