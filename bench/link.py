"""A link with distance between this machine and a network namespace: two TUN devices, and `limits/src/bin/link.rs` between them.

The namespace has no name: it belongs to a process that ends with the benchmark, however that ends, and goes with it. The
devices go when the last process that holds them ends. So nothing is left behind, also after SIGKILL.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.distance import Distance, default_congestion
from bench.surroundings import MissingToolError, limits

_TUN = Path("/dev/net/tun")
_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000


def missing_right() -> str | None:
    """What this machine lacks for a link; None if nothing."""
    if os.geteuid() != 0:
        return "a link needs root (network namespaces and TUN devices)"
    if not _TUN.exists():
        return f"a link needs {_TUN}"
    missing = [tool for tool in ("ip", "unshare", "nsenter", "setpriv") if shutil.which(tool) is None]
    return f"a link needs the programs {', '.join(missing)} (iproute2, util-linux)" if missing else None


class Network:
    """A namespace behind two TUN devices; `link` puts a link of some distance between them.

    Raises:
        MissingToolError: this machine does not allow it; the message says what is missing.
    """

    def __init__(self) -> None:
        if why := missing_right():
            raise MissingToolError(why)
        pid = os.getpid()
        self._names = f"near{pid}", f"far{pid}"
        # RFC 2544: addresses for benchmarks; a network of four for each process.
        first = pid % 16384 * 4
        self.near, self.far = (f"198.18.{(first + n) // 256}.{(first + n) % 256}" for n in (1, 2))
        self._stack = ExitStack()
        try:
            self._devices = [self._stack.enter_context(_device(name)) for name in self._names]
            self._holder = self._stack.enter_context(_Namespace())
            _ip("link", "set", "dev", self._names[1], "netns", str(self._holder.pid))
            _ip("addr", "add", f"{self.near}/30", "dev", self._names[0])
            _ip("link", "set", "dev", self._names[0], "up")
            _run(self.inside("ip", "addr", "add", f"{self.far}/30", "dev", self._names[1]))
            _run(self.inside("ip", "link", "set", "dev", "lo", "up"))
        except BaseException:
            self.close()
            raise

    def inside(self, *command: str) -> list[str]:
        """The command that runs `command` in the namespace. It ends with this process, however that ends."""
        there = ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", "--"]
        return [*there, "setpriv", "--pdeathsig", "KILL", "--", *command]

    def link(self, distance: Distance) -> RunningLink:
        """Put a link between the devices, in place of an earlier one, which must have ended."""
        for name, prefix in zip(self._names, ([], self.inside()), strict=True):
            device = ["ip", "link", "set", "dev", name]
            _run([*prefix, *device, "mtu", str(distance.mtu), "txqueuelen", "10000", "up"])
        # No connection may begin with what the kernel remembers of an earlier one over another link.
        _run(self.inside("sh", "-c", "echo 1 > /proc/sys/net/ipv4/tcp_no_metrics_save"))
        # By route: a namespace may not choose each congestion control as its default.
        congestion = distance.congestion or default_congestion()
        route = ["ip", "route", "replace", f"{self.near}/32", "dev", self._names[1], "congctl", congestion]
        _run(self.inside(*route))
        return RunningLink(distance, self._devices)

    def close(self) -> None:
        """Remove devices and namespace."""
        self._stack.close()

    def __enter__(self) -> Network:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class RunningLink:
    """The process that moves the packets; it ends with this one."""

    def __init__(self, distance: Distance, devices: list[Any]) -> None:
        program = limits() / "link"
        theirs, ours = os.pipe()
        options = {
            "--one-way-us": distance.round_trip_ms * 500,
            "--mbit": distance.mbit,
            "--loss": distance.loss,
            "--queue": distance.queue,
            "--control": f"/proc/self/fd/{theirs}",
        }
        self._control = os.fdopen(ours, "w")
        try:
            self._process = subprocess.Popen(
                [str(program), *(str(part) for option in options.items() for part in option)],
                stdin=devices[0],
                stdout=devices[1],
                stderr=subprocess.PIPE,
                pass_fds=[theirs],
                text=True,
            )
        finally:
            os.close(theirs)
        self._line()

    def totals(self) -> dict[str, dict[str, float]]:
        """Counters of both directions: `a_to_b` leads into the namespace. Times in µs."""
        self._control.write("\n")
        self._control.flush()
        return self._line()

    def _line(self) -> dict[str, Any]:
        assert self._process.stderr is not None
        text = self._process.stderr.readline()
        try:
            line: dict[str, Any] = json.loads(text)
        except ValueError:
            raise RuntimeError(f"the link failed: {text}{self._process.stderr.read()}") from None
        return line

    def close(self) -> None:
        """End the link; packets under way are lost."""
        self._control.close()
        self._process.wait(10)
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> RunningLink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Namespace:
    """A network namespace without a name: that of a process that waits for the end of its stdin."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo up && exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"up\n":
            self._process.wait(10)
            raise MissingToolError("a link needs the right to make network namespaces (unshare --net failed)")
        self.pid = self._process.pid

    def __enter__(self) -> _Namespace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait(10)


def _device(name: str) -> Any:
    """An open TUN device; it exists as long as the file is open somewhere."""
    try:
        file = os.fdopen(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC), "r+b", buffering=0)
    except OSError as error:
        raise MissingToolError(f"a link needs {_TUN}: {error.strerror}") from None
    try:
        fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    except OSError as error:
        file.close()
        raise MissingToolError(f"a link needs the right to make TUN devices: {error.strerror}") from None
    return file


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise MissingToolError(f"a link needs `{' '.join(command)}` to work: {done.stderr.strip()}")
