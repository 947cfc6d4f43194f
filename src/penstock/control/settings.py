"""The settings that the control plane reads, and its backoff formula."""

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, Protocol


class ControlSettings(Protocol):
    """The settings that the control plane reads; the producer's typed configuration has them under the same names.

    Names are Kafka's with underscores for dots, times are milliseconds.
    """

    @property
    def bootstrap_servers(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def bootstrap_resolve_timeout_ms(self) -> int: ...  # noqa: D102
    @property
    def client_id(self) -> str: ...  # noqa: D102
    @property
    def client_rack(self) -> str: ...  # noqa: D102
    @property
    def client_dns_lookup(self) -> str: ...  # noqa: D102
    @property
    def enable_idempotence(self) -> bool: ...  # noqa: D102
    @property
    def metadata_cluster_check_enable(self) -> bool: ...  # noqa: D102
    @property
    def metadata_max_age_ms(self) -> int: ...  # noqa: D102
    @property
    def metadata_max_idle_ms(self) -> int: ...  # noqa: D102
    @property
    def metadata_recovery_rebootstrap_trigger_ms(self) -> int: ...  # noqa: D102
    @property
    def metadata_recovery_strategy(self) -> str: ...  # noqa: D102
    @property
    def partitioner_rack_aware(self) -> bool: ...  # noqa: D102
    @property
    def reconnect_backoff_max_ms(self) -> int: ...  # noqa: D102
    @property
    def reconnect_backoff_ms(self) -> int: ...  # noqa: D102
    @property
    def request_timeout_ms(self) -> int: ...  # noqa: D102
    @property
    def retries(self) -> int: ...  # noqa: D102
    @property
    def retry_backoff_max_ms(self) -> int: ...  # noqa: D102
    @property
    def retry_backoff_ms(self) -> int: ...  # noqa: D102
    @property
    def socket_connection_setup_timeout_max_ms(self) -> int: ...  # noqa: D102
    @property
    def socket_connection_setup_timeout_ms(self) -> int: ...  # noqa: D102


class Backoff(NamedTuple):
    """Exponential: ``initial_ms * 2^failures``, ±20 %, at most ``max_ms`` (KIP-144, KIP-580, KIP-601).

    Without a range to grow in it is ``max_ms``, without jitter. Java: `ExponentialBackoff`.
    """

    initial_ms: float
    max_ms: float

    def delay_ms(self, failures: int, random: Random) -> float:
        """ms to wait after ``failures`` failures before this one."""
        if self.initial_ms >= self.max_ms:
            return self.max_ms
        # 2^31 of the smallest unit is beyond any limit; a larger exponent would only overflow.
        term = min(self.initial_ms * float(1 << min(failures, 31)), self.max_ms)
        return min(term * random.uniform(0.8, 1.2), self.max_ms)
