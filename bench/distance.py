"""The properties of a link: data only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_LEAST_QUEUE = 256


@dataclass(frozen=True)
class Distance:
    """The properties of a link. Data only: part of a row."""

    round_trip_ms: float
    mbit: float = 1000
    loss: float = 0.0
    """Chance of each packet to be lost, in each direction."""
    mtu: int = 9000
    """Of both devices. The link shares the cores with client and broker: large packets leave them more of it at 1 Gbit/s."""
    congestion: str = ""
    """TCP's congestion control in the namespace, where the clients are; empty: the machine's default."""

    @property
    def queue(self) -> int:
        """Packets that the router before the slow wire keeps: one bandwidth-delay product, at least 256."""
        return max(_LEAST_QUEUE, int(self.mbit * 1e6 / 8 * self.round_trip_ms / 1e3 / self.mtu) + 1)

    def __str__(self) -> str:
        parts = [
            f"{self.round_trip_ms:g} ms",
            f"{self.mbit:g} Mbit/s",
            f"queue {self.queue} packets",
            f"MTU {self.mtu}",
        ]
        if self.loss:
            parts.append(f"{self.loss:.0%} loss")
        return ", ".join([*parts, self.congestion or default_congestion()])


def default_congestion() -> str:
    """The congestion control that this machine's sockets use, unless told otherwise."""
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    except OSError:
        return "unknown congestion control"
