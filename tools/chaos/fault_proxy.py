"""A protocol-aware proxy in front of real Kafka brokers: it does wrong what `fault_rules` says, and nothing else.

    with FaultProxy({node.node_id: node.address for node in cluster.nodes.values()}) as proxy:
        producer = KafkaProducer(bootstrap_servers=proxy.bootstrap_servers)
        proxy.plan.add(api="Produce", drop="silent")
        proxy.cut(1)  # broker 1: everything sent to it or by it vanishes, until `heal`

One listener per broker; answers that tell addresses are rewritten (Metadata, DescribeCluster, FindCoordinator, and the
leaders' endpoints in Produce and Fetch), so that clients stay behind the proxy. Brokers talk to each other past it.

What may be wrong with a broker as a whole, besides the rules for single requests:

| state | connections that exist | new connections |
|---|---|---|
| cut | stay open, all bytes vanish; reset by `heal`, since their streams have holes | are accepted and never answered |
| frozen | stay open, no byte passes; `heal` lets all of them through | the same |
| refused | stay as they are | are refused |

The proxy runs in a thread of its own; its methods may be called from any other.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar
from uuid import UUID

from fault_frames import Address, Asked, answer_alone, change_answer, read_request, refuse
from fault_rules import Notes, Plan, Rule
from kafka_cluster import HOST, free_ports

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_FRAME = 110 << 20
"""Bytes; Kafka's own socket.request.max.bytes is 100 MiB. Memory grows with what really arrives."""
TRICKLE_PIECES = 16
# How long a request that was overtaken may take to be answered once its client is gone.
_ORPHAN_S = 15.0
_LENGTH = struct.Struct(">i")
_CLOSE_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s: close() sends RST


class _EndError(Exception):
    """A rule ends this connection: with RST, or as peers usually do."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__()
        self.reset = reset


@dataclass(slots=True)
class _Pending:
    """A request whose answer is due."""

    asked: Asked
    rule: Rule | None
    answer: bytes | None = None
    """Ours, where the broker was not asked."""


@dataclass(eq=False)
class _Broker:
    """One broker, as the proxy shows it."""

    node: int
    address: Address
    port: int
    server: asyncio.Server | None = None
    cut: bool = False
    passable: asyncio.Event = field(default_factory=asyncio.Event)
    sessions: set[_Session] = field(default_factory=set)


class FaultProxy:
    """See the module's text.

    Args:
        brokers: node id → the broker's own address.
    """

    def __init__(self, brokers: Mapping[int, Address]) -> None:
        self.plan = Plan()
        self.notes = Notes()
        self.names: dict[UUID, str] = {}
        ports = free_ports(len(brokers), None)
        self._brokers = {
            node: _Broker(node, address, port) for (node, address), port in zip(brokers.items(), ports, strict=True)
        }
        self.addresses = {node: (HOST, broker.port) for node, broker in self._brokers.items()}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._answered: dict[str, _Answers] = {}

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,...` of all listeners."""
        return ",".join(f"{host}:{port}" for host, port in self.addresses.values())

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # ---------------------------------------------------------------------------------------------- a broker as a whole

    def cut(self, *nodes: int) -> None:
        """From now on all bytes to and from these brokers vanish; connections stay open."""
        self._each(nodes, "cut", lambda broker: setattr(broker, "cut", True))

    def freeze(self, *nodes: int) -> None:
        """Hold all bytes to and from these brokers back."""
        self._each(nodes, "freeze", lambda broker: broker.passable.clear())

    def sever(self, *nodes: int) -> None:
        """Reset all connections to these brokers, once."""

        def reset(broker: _Broker) -> None:
            for session in list(broker.sessions):
                session.end(reset=True)

        self._each(nodes, "sever", reset)

    def refuse(self, *nodes: int) -> None:
        """Take no new connections to these brokers: ECONNREFUSED."""

        def unlisten(broker: _Broker) -> None:
            if broker.server is not None:
                broker.server.close()
                broker.server = None

        self._each(nodes, "refuse", unlisten)

    def heal(self, *nodes: int) -> None:
        """End `cut`, `freeze` and `refuse`, for these brokers or for all."""

        async def heal() -> None:
            for broker in self._chosen(nodes):
                broker.cut = False
                broker.passable.set()
                for session in [session for session in broker.sessions if session.has_hole]:
                    session.end(reset=True)
                await self._listen(broker)

        self._call(heal())

    @property
    def connections(self) -> int:
        """How many clients are connected."""

        async def count() -> int:
            return sum(len(broker.sessions) for broker in self._brokers.values())

        return self._call(count())

    # --------------------------------------------------------------------------------------------------- for sessions

    def count_answer(self, api: str, session: object) -> None:
        """An answer has gone to its client: requests that were to be overtaken by it may go."""
        for waiting in list(self._answered.get(api, ())):
            if waiting.session is not session:
                waiting.event.set()

    async def overtaken(self, api: str, session: object, timeout_s: float) -> bool:
        """Wait until another connection has got an answer of this API; False: it did not in time."""
        waiting = _Waiting(session)
        queue = self._answered.setdefault(api, _Answers())
        queue.add(waiting)
        try:
            await asyncio.wait_for(waiting.event.wait(), timeout_s)
        except TimeoutError:
            return False
        finally:
            queue.discard(waiting)
        return True

    # ----------------------------------------------------------------------------------------------------------- inside

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    def _chosen(self, nodes: tuple[int, ...]) -> list[_Broker]:
        return [self._brokers[node] for node in nodes or self._brokers]

    def _each(self, nodes: tuple[int, ...], kind: str, do: Callable[[_Broker], object]) -> None:
        async def all_of_them() -> None:
            for broker in self._chosen(nodes):
                do(broker)
                self.notes.note(kind, broker.node)

        self._call(all_of_them())

    async def _start(self) -> None:
        for broker in self._brokers.values():
            broker.passable.set()
            await self._listen(broker)

    async def _listen(self, broker: _Broker) -> None:
        if broker.server is not None:
            return

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session = _Session(self, broker, reader, writer)
            broker.sessions.add(session)
            # Cancelled only by `_stop`, and asyncio's streams make noise about tasks of theirs that end so.
            with contextlib.suppress(asyncio.CancelledError):
                try:
                    await session.run()
                finally:
                    broker.sessions.discard(session)

        broker.server = await asyncio.start_server(serve, HOST, broker.port, reuse_address=True)

    async def _stop(self) -> None:
        for broker in self._brokers.values():
            if broker.server is not None:
                broker.server.close()
            for session in list(broker.sessions):
                session.end(reset=True)
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Waiting:
    """A request that waits to be overtaken."""

    def __init__(self, session: object) -> None:
        self.session = session
        self.event = asyncio.Event()


class _Answers(set[_Waiting]):
    """Those that wait for answers of one API."""


class _Session:
    """One client's connection and its counterpart to the broker."""

    def __init__(
        self, proxy: FaultProxy, broker: _Broker, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._proxy = proxy
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
        """Until either side ends it, or a rule does."""
        tasks: list[asyncio.Task[None]] = []
        reset = False
        try:
            if not await self._reaches(self._broker.passable):
                await self._swallow(self._from_client)
                return
            self._from_broker, self._to_broker = await asyncio.open_connection(*self._broker.address)
            self._tell_apart_writes()
            reading = asyncio.create_task(self._read_answers())
            working = [asyncio.create_task(self._requests()), asyncio.create_task(self._answers())]
            tasks = [reading, *working]
            done, _ = await asyncio.wait(working, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except _EndError as end:
            reset = end.reset
        except (OSError, EOFError):
            # The broker is down, or a peer went away in the middle of something: so does the other.
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
                await self._see_orphans_home()
                return
            size = _size(head, minimum=8)
            start = await self._from_client.readexactly(8)
            early = self._proxy.plan.take_early(read_request(start).api, self._broker.node)
            if early is not None:
                await self._from_client.readexactly((size - 8) // 2)
                self._note(early, read_request(start))
                raise _EndError(reset=True)
            await self._request(read_request(start + await self._from_client.readexactly(size - 8)))

    async def _request(self, asked: Asked) -> None:
        proxy = self._proxy
        rule = proxy.plan.take(asked.api, self._broker.node, lambda: asked.targets(proxy.names))
        pending = _Pending(asked, rule)
        if rule is not None:
            self._note(rule, asked)
            if rule.close:
                raise _EndError(reset=False)
            await asyncio.sleep(rule.delay_ms / 1000)
            if rule.overtaken_ms:
                self._orphan = True
                if await proxy.overtaken(asked.api, self, rule.overtaken_ms / 1000):
                    proxy.notes.note("was overtaken", self._broker.node, asked.api)
            if any(not refuse(asked, each, proxy.names) for each in rule.refusals(asked.api)):
                pending.answer = answer_alone(asked)
            if rule.reset == "request":
                await self._send_to_broker((_LENGTH.pack(len(asked.frame)) + asked.frame)[: len(asked.frame) // 2])
                await asyncio.sleep(0.01)  # or the RST would overtake the half
                raise _EndError(reset=True)
        if asked.is_answered:
            # Before it is sent: the answer may be there before `drain` returns.
            self._pending.append(pending)
        if pending.answer is None:
            await self._send_to_broker(
                _LENGTH.pack(len(asked.frame)) + asked.frame, over_ms=rule.trickle_ms if rule is not None else 0
            )
        self._changed.set()

    async def _see_orphans_home(self) -> None:
        """The client is gone. What it had sent is on its way all the same; closing at once could break that off."""
        self._client_ended = True
        if self._orphan and self._pending and not self.has_hole:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ORPHAN_S):
                    while self._pending and not self._broker_ended:
                        self._changed.clear()
                        await self._changed.wait()

    # --------------------------------------------------------------------------------------------------------- answers

    async def _read_answers(self) -> None:
        """Broker → here. Apart from `_answers`, so that a broker's end is noticed while nothing is asked."""
        assert self._from_broker is not None
        with contextlib.suppress(EOFError, OSError):
            while True:
                size = _size(await self._from_broker.readexactly(4), minimum=4)
                self._arrived.append(await self._from_broker.readexactly(size))
                self._changed.set()
        self._broker_ended = True
        self._changed.set()

    async def _answers(self) -> None:
        """Here → client, in the order of the requests."""
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
        proxy, asked, rule = self._proxy, pending.asked, pending.rule
        answer = pending.answer
        if answer is None:
            answer = change_answer(self._arrived.popleft(), asked, rule, proxy.addresses, proxy.names)
        data = _LENGTH.pack(len(answer)) + answer
        trickle_ms = 0.0
        if rule is not None:
            await asyncio.sleep(rule.answer_delay_ms / 1000)
            trickle_ms = rule.answer_trickle_ms
            if rule.drop == "close":
                raise _EndError(reset=False)
            if rule.drop == "silent":
                # Nothing may follow either: an answer to a later request would tell that this one is missing.
                self._silent = True
            if rule.reset == "answer":
                await self._send(self._to_client, data[: len(data) // 2])
                await asyncio.sleep(0.01)  # or the RST would overtake the half
                raise _EndError(reset=True)
        if not self._silent:
            if self._client_ended:
                proxy.notes.note("answered late", self._broker.node, asked.api)
                return
            await self._send(self._to_client, data, over_ms=trickle_ms)
            proxy.count_answer(asked.api, self)

    # ----------------------------------------------------------------------------------------------------------- bytes

    async def _send_to_broker(self, data: bytes, *, over_ms: float = 0) -> None:
        assert self._to_broker is not None
        await self._send(self._to_broker, data, over_ms=over_ms)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes, *, over_ms: float = 0) -> None:
        """Through whatever is wrong with this broker at the moment."""
        piece = len(data) if not over_ms else max(1, len(data) // TRICKLE_PIECES)
        for start in range(0, len(data), piece):
            if not await self._reaches(self._broker.passable):
                return
            writer.write(data[start : start + piece])
            await writer.drain()
            if over_ms:
                await asyncio.sleep(over_ms / TRICKLE_PIECES / 1000)

    async def _reaches(self, passable: asyncio.Event) -> bool:
        """Wait while the broker is frozen; False if what is sent now vanishes."""
        await passable.wait()
        self.has_hole = self.has_hole or self._broker.cut
        return not self.has_hole

    async def _swallow(self, reader: asyncio.StreamReader) -> None:
        while await reader.read(1 << 16):
            pass

    def _tell_apart_writes(self) -> None:
        """No Nagle: what is written in pieces leaves in pieces."""
        for writer in (self._to_client, self._to_broker):
            if writer is not None:
                writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _note(self, rule: Rule, asked: Asked) -> None:
        self._proxy.notes.note(rule.kind, self._broker.node, asked.api, asked.targets(self._proxy.names))


def _size(head: bytes, minimum: int) -> int:
    size: int = _LENGTH.unpack(head)[0]
    if not minimum <= size <= MAX_FRAME:
        # Not ours to judge, but nothing that could be passed on frame by frame.
        raise ConnectionError(f"a frame of {size} bytes is announced")
    return size
