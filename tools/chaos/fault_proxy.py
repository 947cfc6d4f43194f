"""A protocol-aware proxy in front of real Kafka brokers: it applies the faults of `fault_rules` and changes nothing else.

    with FaultProxy({node.node_id: node.address for node in cluster.nodes.values()}) as proxy:
        producer = KafkaProducer(bootstrap_servers=proxy.bootstrap_servers)
        proxy.plan.add(api="Produce", drop="silent")
        proxy.cut(1)  # broker 1: all bytes to and from it vanish, until `heal`

One listener per broker; addresses in answers are rewritten (Metadata, DescribeCluster, FindCoordinator, and the leaders'
endpoints in Produce and Fetch), so that clients stay behind the proxy. Brokers connect to each other directly.

Faults of a whole broker, besides the rules for single requests:

| state | connections that exist | new connections |
|---|---|---|
| cut | stay open, all bytes vanish; reset by `heal`, since their streams have holes | are accepted and never answered |
| frozen | stay open, no byte passes; `heal` lets all of them through | the same |
| refused | stay | are refused |

The proxy runs in its own thread; its methods are thread-safe.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar

from fault_frames import Address
from fault_rules import Notes, Plan
from fault_session import Broker, Session, Shared
from kafka_cluster import HOST, free_ports

T = TypeVar("T")


class FaultProxy:
    """See the module's text.

    Args:
        brokers: node id → the broker's own address.
        plan: the rules, if they are not added one by one.
    """

    def __init__(self, brokers: Mapping[int, Address], plan: Plan | None = None) -> None:
        self.plan = Plan() if plan is None else plan
        self.notes = Notes()
        ports = free_ports(len(brokers), None)
        self._brokers = {
            node: Broker(node, address, port) for (node, address), port in zip(brokers.items(), ports, strict=True)
        }
        self.addresses = {node: (HOST, broker.port) for node, broker in self._brokers.items()}
        self._shared = Shared(self.plan, self.notes, self.addresses)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)

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
        """Hold all bytes to and from these brokers."""
        self._each(nodes, "freeze", lambda broker: broker.passable.clear())

    def sever(self, *nodes: int) -> None:
        """Reset all connections to these brokers, once."""

        def reset(broker: Broker) -> None:
            for session in list(broker.sessions):
                session.end(reset=True)

        self._each(nodes, "sever", reset)

    def refuse(self, *nodes: int) -> None:
        """Refuse new connections to these brokers: ECONNREFUSED."""

        def unlisten(broker: Broker) -> None:
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

    # --------------------------------------------------------------------------------------------------------- internal

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(30)

    def _chosen(self, nodes: tuple[int, ...]) -> list[Broker]:
        return [self._brokers[node] for node in nodes or self._brokers]

    def _each(self, nodes: tuple[int, ...], kind: str, do: Callable[[Broker], object]) -> None:
        async def all_of_them() -> None:
            for broker in self._chosen(nodes):
                do(broker)
                self.notes.note(kind, broker.node)

        self._call(all_of_them())

    async def _start(self) -> None:
        for broker in self._brokers.values():
            broker.passable.set()
            await self._listen(broker)

    async def _listen(self, broker: Broker) -> None:
        if broker.server is not None:
            return

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            session = Session(self._shared, broker, reader, writer)
            broker.sessions.add(session)
            # Only `_stop` cancels it, and asyncio's streams log their tasks that end so.
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
