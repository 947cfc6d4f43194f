"""The one backoff formula of the control plane."""

from random import Random
from typing import NamedTuple


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
