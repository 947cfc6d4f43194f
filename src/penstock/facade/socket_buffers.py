"""Whether the kernel grants the socket buffers that a user asks for.

By default the kernel sizes the buffers of a connection itself, by the connection's rate and distance. A size that is set
switches that off. The kernel accepts any size, and silently gives no more than its limit, so it is asked what it gave.
"""

from __future__ import annotations

import _socket
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from penstock._log import log_line
from penstock.config.settings import ProducerSettings

_logger: Final = logging.getLogger("penstock.config")

# Linux doubles a size, for its own bookkeeping (socket(7)).
_FACTOR: Final = 2 if sys.platform == "linux" else 1


class _Buffer(NamedTuple):
    """One of a connection's two buffers."""

    setting: str
    option: int
    sysctl: str


_BUFFERS: Final = (
    _Buffer("send.buffer.bytes", _socket.SO_SNDBUF, "net.core.wmem_max"),
    _Buffer("receive.buffer.bytes", _socket.SO_RCVBUF, "net.core.rmem_max"),
)


def granted_by_the_kernel(option: int, size: int) -> int:
    """The bytes that a new TCP socket gets for this size; the size itself if that cannot be found out here."""
    try:
        probe = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    except OSError:
        return size
    try:
        probe.setsockopt(_socket.SOL_SOCKET, option, size)
        return probe.getsockopt(_socket.SOL_SOCKET, option) // _FACTOR
    except OSError:
        return size
    finally:
        probe.close()


def limited(
    settings: ProducerSettings, granted: Callable[[int, int], int] = granted_by_the_kernel
) -> Iterator[tuple[str, int, int, str]]:
    """The setting, the bytes asked for, the bytes given and the limiting sysctl of each buffer that is set and limited."""
    for buffer in _BUFFERS:
        asked: int = getattr(settings, buffer.setting.replace(".", "_"))
        given = asked if asked < 0 else granted(buffer.option, asked)
        if given < asked:
            yield buffer.setting, asked, given, buffer.sysctl


def warn_if_limited(settings: ProducerSettings) -> None:
    """Log a warning for each buffer that is set and that the kernel limits."""
    for setting, asked, given, sysctl in limited(settings):
        log_line(
            _logger,
            logging.WARNING,
            "%s = %d, but the kernel gives %d bytes: raise the sysctl %s, or leave %s out, so that the kernel sizes the"
            " buffer itself",
            setting,
            asked,
            given,
            sysctl,
            setting,
        )
