"""One client's connection through the fault proxy, and the matching connection to the broker.

Three tasks: requests go from the client to the broker, answers arrive from the broker, answers go to the client in the
order of the requests. The proxy's own answers keep that order, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

from fault_frames import Address, Asked, answer_alone, change_answer, read_request, refuse
from fault_rules import Notes, Plan, Rule

MAX_FRAME = 110 << 20
"""Bytes; Kafka's own socket.request.max.bytes is 100 MiB. Memory grows with the bytes that arrive."""
TRICKLE_PIECES = 16
# How long a request that was overtaken may take to be answered once its client is gone.
_ORPHAN_S = 15.0
_LENGTH = struct.Struct(">i")
_CLOSE_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close() sends RST


class _EndError(Exception):
    """A rule ends this connection: with RST, or with FIN."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


@dataclass(slots=True)
class _Pending:
    """A request whose answer is due."""

    asked: Asked
    rule: Rule | None
    answer: bytes | None = None
    """The proxy's own answer, if the request was not forwarded."""


class _Waiting:
    """A request that waits to be overtaken."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.event = asyncio.Event()


@dataclass(slots=True)
class Shared:
    """The state shared by all connections of a proxy."""

    plan: Plan
    notes: Notes
    addresses: dict[int, Address]
    """Node id → the proxy's address for it."""
    names: dict[UUID, str] = field(default_factory=dict)
    """Topic id → name."""
    _waiting: dict[str, set[_Waiting]] = field(default_factory=dict)

    def answered(self, api: str, session: Session) -> None:
        """An answer went to its client: requests that wait for it may go on."""
        for waiting in self._waiting.get(api, ()):
            if waiting.session is not session:
                waiting.event.set()

    async def overtaken(self, api: str, session: Session, timeout_s: float) -> bool:
        """Wait until another connection has got an answer of this API; False after the timeout."""
        waiting = _Waiting(session)
        queue = self._waiting.setdefault(api, set())
        queue.add(waiting)
        try:
            await asyncio.wait_for(waiting.event.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            queue.discard(waiting)
        return True


@dataclass(eq=False)
class Broker:
    """One broker behind the proxy. The table in `fault_proxy` describes its states."""

    node: int
    address: Address
    port: int
    server: asyncio.Server | None = None
    cut: bool = False
    passable: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared while it is frozen."""
    sessions: set[Session] = field(default_factory=set)


class Session:
    """One client's connection, and the matching one to the broker."""

    def __init__(
        self, shared: Shared, broker: Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._shared = shared
        self._broker = broker
        self._from_client, self._to_client = reader, writer
        self._from_broker: asyncio.StreamReader | None = None
        self._to_broker: asyncio.StreamWriter | None = None
        self._pending: deque[_Pending] = deque()
        self._arrived: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self._broker_ended = False
        self._silent = False
        self._orphan = False
        self._client_ended = False
        self._ended = False
        self.has_hole = False
        """Bytes of this connection have vanished."""

    async def run(self) -> None:
        """Run until either side or a rule ends it."""
        tasks: list[asyncio.Task[None]] = []
        reset = False
        try:
            if not await self._passes():
                await self._swallow(self._from_client)
                return
            self._from_broker, self._to_broker = await asyncio.open_connection(*self._broker.address)
            self._disable_nagle()
            reading = asyncio.create_task(self._read_answers())
            working = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
            tasks = [reading, *working]
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except _EndError as end:
            reset = end.reset
        except (OSError, EOFError):
            # The broker is down, or one peer closed in the middle of a frame: close the other side.
            reset = True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self.end(reset=reset)

    def end(self, *, reset: bool) -> None:
        """Close both connections, with RST instead of FIN if `reset`."""
        if self._ended:
            return
        self._ended = True
        for writer in (self._to_client, self._to_broker):
            if writer is None:
                continue
            if reset:
                with contextlib.suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
                writer.transport.abort()
            else:
                writer.close()

    # -------------------------------------------------------------------------------------------------------- requests

    async def _requests(self) -> None:
        """Client → broker, one frame after the other."""
        while True:
            try:
                head = await self._from_client.readexactly(4)
            except (EOFError, OSError):
                await self._finish_forwarding()
                return
            size = _size(head, minimum=8)
            start = await self._from_client.readexactly(8)
            early = self._shared.plan.take_early(read_request(start).api, self._broker.node)
            if early is not None:
                await self._from_client.readexactly((size - 8) // 2)
                self._note(early, read_request(start))
                raise _EndError(reset=True)
            await self._request(read_request(start + await self._from_client.readexactly(size - 8)))

    async def _request(self, asked: Asked) -> None:
        shared = self._shared
        rule = shared.plan.take(asked.api, self._broker.node, lambda: asked.targets(shared.names))
        pending = _Pending(asked, rule)
        if rule is not None:
            self._note(rule, asked)
            if rule.close:
                raise _EndError(reset=False)
            await asyncio.sleep(rule.delay_ms / 1000)
            if rule.overtaken_ms:
                self._orphan = True
                if await shared.overtaken(asked.api, self, rule.overtaken_ms / 1000):
                    shared.notes.note("was overtaken", self._broker.node, asked.api)
            if any(not refuse(asked, each, shared.names) for each in rule.refusals(asked.api)):
                pending.answer = answer_alone(asked)
            if rule.reset == "request":
                await self._send_to_broker((_LENGTH.pack(len(asked.frame)) + asked.frame)[: len(asked.frame) // 2])
                await asyncio.sleep(0.01)  # or the RST would overtake the half
                raise _EndError(reset=True)
        if asked.is_answered:
            # Added before it is sent: the answer may arrive before `drain` returns.
            self._pending.append(pending)
        if pending.answer is None:
            await self._send_to_broker(
                _LENGTH.pack(len(asked.frame)) + asked.frame, over_ms=rule.trickle_ms if rule is not None else 0
            )
        self._changed.set()

    async def _finish_forwarding(self) -> None:
        """The client is gone. Its requests are still in flight; closing at once could lose them."""
        self._client_ended = True
        if self._orphan and self._pending and not self.has_hole:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ORPHAN_S):
                    while self._pending and not self._broker_ended:
                        self._changed.clear()
                        await self._changed.wait()

    # --------------------------------------------------------------------------------------------------------- answers

    async def _read_answers(self) -> None:
        """Broker → proxy. Separate from `_answers`, so that a broker's close is noticed while no answer is due."""
        assert self._from_broker is not None
        with contextlib.suppress(EOFError, OSError):
            while True:
                size = _size(await self._from_broker.readexactly(4), minimum=4)
                self._arrived.append(await self._from_broker.readexactly(size))
                self._changed.set()
        self._broker_ended = True
        self._changed.set()

    async def _answers(self) -> None:
        """Proxy → client, in the order of the requests."""
        while True:
            if self._pending and (self._pending[0].answer is not None or self._arrived):
                await self._answer(self._pending[0])
                self._pending.popleft()
                self._changed.set()
            elif self._broker_ended:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    async def _answer(self, pending: _Pending) -> None:
        shared, asked, rule = self._shared, pending.asked, pending.rule
        answer = pending.answer
        if answer is None:
            answer = change_answer(self._arrived.popleft(), asked, rule, shared.addresses, shared.names)
        data = _LENGTH.pack(len(answer)) + answer
        trickle_ms = 0.0
        if rule is not None:
            await asyncio.sleep(rule.answer_delay_ms / 1000)
            trickle_ms = rule.answer_trickle_ms
            if rule.drop == "close":
                raise _EndError(reset=False)
            if rule.drop == "silent":
                # Nothing may follow either: an answer to a later request would show that this one is missing.
                self._silent = True
            if rule.reset == "answer":
                await self._send(self._to_client, data[: len(data) // 2])
                await asyncio.sleep(0.01)  # or the RST would overtake the half
                raise _EndError(reset=True)
        if not self._silent:
            if self._client_ended:
                shared.notes.note("answered late", self._broker.node, asked.api)
                return
            await self._send(self._to_client, data, over_ms=trickle_ms)
            shared.answered(asked.api, self)

    # ----------------------------------------------------------------------------------------------------------- bytes

    async def _send_to_broker(self, data: bytes, *, over_ms: float = 0) -> None:
        assert self._to_broker is not None
        await self._send(self._to_broker, data, over_ms=over_ms)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, *, over_ms: float = 0) -> None:
        """Send, subject to the current faults of the broker."""
        piece = len(data) if not over_ms else max(1, len(data) // TRICKLE_PIECES)
        for start in range(0, len(data), piece):
            if not await self._passes():
                return
            writer.write(data[start : start + piece])
            await writer.drain()
            if over_ms:
                await asyncio.sleep(over_ms / TRICKLE_PIECES / 1000)

    async def _passes(self) -> bool:
        """Wait while the broker is frozen; False if the bytes must vanish."""
        await self._broker.passable.wait()
        self.has_hole = self.has_hole or self._broker.cut
        return not self.has_hole

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            pass

    def _disable_nagle(self) -> None:
        """Disable Nagle's algorithm: separate writes are sent separately."""
        for writer in (self._to_client, self._to_broker):
            if writer is not None:
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _note(self, rule: Rule, asked: Asked) -> None:
        self._shared.notes.note(rule.kind, self._broker.node, asked.api, asked.targets(self._shared.names))


def _size(head: bytes, minimum: int) -> int:
    size: int = _LENGTH.unpack(head)[0]
    if not minimum <= size <= MAX_FRAME:
        # The proxy does not validate, but it cannot pass such a frame on.
        raise ConnectionError(f"a frame of {size} bytes is announced")
    return size
