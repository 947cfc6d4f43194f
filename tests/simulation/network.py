"""The network between the engine and the cluster: bytes take time, and connections end in every possible way.

A broker serves a connection serially: the next request is read when the answer to the last one was sent. Requests of a
dead connection may still be processed (`zombie`), long after the client has sent them again on a new one.

Some seeds have slow links: a socket takes only what its send buffer has room for, and the bytes leave it at a rate. Bytes
in the buffer of a connection that is reset are lost; those of a closed one still leave.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from penstock._native import SteppedEngine
from simulation.cluster import PORT, Cluster, Reply, ip
from simulation.plan import Plan
from simulation.watch import Watch
from simulation.world import MS, S, World

PIECE = 1_400
"""Bytes that leave a slow link's send buffer at once."""


class Link:
    """One connection."""

    def __init__(self, connection: int, node_id: int) -> None:
        self.connection = connection
        self.node_id = node_id
        self.up = False
        self.client_open = True
        self.broker_open = True
        self.buffer = bytearray()  # at the broker, not yet a whole frame
        self.frames: deque[bytes] = deque()
        self.busy = False
        self.arrives_us = 0  # bytes of one direction stay in order
        self.returns_us = 0
        self.narrow = False
        self.waiting = bytearray()  # in the client's send buffer
        self.leaving = False  # a piece of it is on its way out


class Network:
    """All connections of one producer."""

    def __init__(
        self,
        world: World,
        plan: Plan,
        cluster: Cluster,
        engine: SteppedEngine,
        changed: Callable[[], None],
        watch: Watch,
    ) -> None:
        self._world = world
        self._plan = plan
        self._cluster = cluster
        self._engine = engine
        self._changed = changed
        self._watch = watch
        self._links: dict[int, Link] = {}
        self._node_of = {ip(node_id): node_id for node_id in cluster.state.nodes}

    # ------------------------------------------------------------------------------------------------ after each I/O pass

    def pump(self) -> None:
        """Process the engine's changes to its sockets."""
        for connection, address, port in self._engine.dialled():
            self._dial(connection, address, port)
        self._take_closed()
        for link in list(self._links.values()):
            if link.client_open and link.up:
                self._carry(link)

    def _take_closed(self) -> None:
        for connection in self._engine.closed():
            link = self._links.get(connection)
            if link is not None and link.client_open:
                self._client_closed(link)

    def _calm(self) -> bool:
        return self._cluster.calm

    def _is_slow(self) -> bool:
        return self._plan.link_bytes_per_s > 0 and not self._calm()

    def _dial(self, connection: int, address: str, port: int) -> None:
        assert port == PORT, f"dialled port {port}"
        link = self._links[connection] = Link(connection, self._node_of[address])
        self._watch.dialled(connection, link.node_id, self._world.now_us)
        if self._plan.link_bytes_per_s:
            self._watch.narrowed(connection)
        world, rates = self._world, self._plan.rates
        delay_us = world.spread(self._plan.latency_us) + 1
        if not self._calm() and world.chance(rates.black_hole):
            world.note(f"connection {connection} to {address} leads nowhere")
        elif not self._calm() and world.chance(rates.refuse_connection):
            world.after(delay_us, lambda: self._reset(link, "refused"))
        else:
            world.after(delay_us, lambda: self._come_up(link))

    def _come_up(self, link: Link) -> None:
        if not link.client_open:
            return
        if not self._cluster.state.nodes[link.node_id].alive:
            self._reset(link, "refused by a dead node")
            return
        delay_us = self._cluster.nodes[link.node_id].cut_until_us - self._world.now_us
        if delay_us > 0:
            self._world.after(delay_us, lambda: self._come_up(link))
            return
        link.up = True
        if self._is_slow():
            self._engine.set_room(link.connection, self._plan.send_buffer)
        elif not self._calm() and self._world.chance(self._plan.rates.partial_write):
            self._narrow(link)
        self._engine.accept(link.connection)
        self._changed()

    def _narrow(self, link: Link) -> None:
        """For a while, the socket takes only a few bytes at a time."""
        link.narrow = True
        self._watch.narrowed(link.connection)
        self._engine.set_room(link.connection, self._world.random.randrange(1, 400))
        self._changed()
        self._world.after(self._world.spread(20 * MS), lambda: self._widen(link))

    def _widen(self, link: Link) -> None:
        if not (link.client_open and link.up):
            return
        if self._calm() or self._world.chance(0.3):
            link.narrow = False
            self._engine.set_room(link.connection, None)
            self._changed()
        else:
            self._narrow(link)

    # ------------------------------------------------------------------------------------------------ client to broker

    def _carry(self, link: Link) -> None:
        data = self._engine.take_written(link.connection)
        if not data:
            return
        world = self._world
        self._watch.written(link.connection, data, world.now_us)
        if self._plan.link_bytes_per_s and not self._is_slow() and self._engine.set_room(link.connection, None):
            self._changed()
        if self._is_slow() or link.waiting:
            link.waiting += data
            self._let_out(link)
        else:
            self._depart(link, data)
        if not self._calm() and world.chance(self._plan.rates.reset_per_request):
            world.after(world.spread(self._plan.latency_us), lambda: self._reset(link, "reset"))

    def _depart(self, link: Link, data: bytes) -> None:
        world = self._world
        link.arrives_us = max(link.arrives_us, world.now_us + world.spread(self._plan.latency_us) + 1)
        world.at(link.arrives_us, lambda: self._arrive(link, data))

    def _let_out(self, link: Link) -> None:
        """The next piece leaves the send buffer, at the link's rate."""
        if link.leaving or not link.waiting:
            return
        link.leaving = True
        size = min(len(link.waiting), PIECE) if self._is_slow() else len(link.waiting)
        needed_us = size * S / self._plan.link_bytes_per_s if self._is_slow() else 0
        self._world.after(needed_us + 1, lambda: self._left(link, size))

    def _left(self, link: Link, size: int) -> None:
        link.leaving = False
        piece = bytes(link.waiting[:size])
        del link.waiting[:size]
        if piece:  # unless the connection was reset meanwhile
            self._depart(link, piece)
        self._take_closed()
        if link.client_open and link.up:
            free = self._plan.send_buffer - len(link.waiting)
            # As Linux: a socket that was full is writable when a third of its buffer is free.
            room = (free if 3 * free >= self._plan.send_buffer else 0) if self._is_slow() else None
            if room != 0 and self._engine.set_room(link.connection, room):
                self._changed()
        self._let_out(link)

    def _arrive(self, link: Link, data: bytes) -> None:
        if not link.broker_open:
            return
        cut_us = self._cluster.nodes[link.node_id].cut_until_us
        if cut_us > self._world.now_us:  # TCP retransmits until the bytes get through
            link.arrives_us = max(link.arrives_us, cut_us)
            self._world.at(cut_us, lambda: self._arrive(link, data))
            return
        if not link.client_open and not self._world.chance(self._plan.rates.zombie):
            link.broker_open = False
            return
        link.buffer += data
        while len(link.buffer) >= 4:
            size = struct.unpack_from(">i", link.buffer)[0]
            assert 8 <= size < 1 << 26, f"the client announces a frame of {size} bytes"
            if len(link.buffer) < 4 + size:
                break
            link.frames.append(bytes(link.buffer[4 : 4 + size]))
            del link.buffer[: 4 + size]
        self._serve(link)

    def _serve(self, link: Link) -> None:
        if link.busy or not link.frames or not link.broker_open:
            return
        link.busy = True
        self._world.after(self._world.spread(self._plan.append_us) + 1, lambda: self._process(link))

    def _process(self, link: Link) -> None:
        node = self._cluster.nodes[link.node_id]
        if not link.broker_open or not self._cluster.state.nodes[link.node_id].alive:
            return
        if node.frozen_until_us > self._world.now_us:
            self._world.at(node.frozen_until_us, lambda: self._process(link))
            return
        if not link.client_open:
            self._world.note(f"node {link.node_id} processes what connection {link.connection} left behind")
        reply = self._cluster.answer(link.node_id, link.frames.popleft())
        if reply.close or reply.finish is None:
            self._hang_up(link, reply.close)
            return
        self._world.at(reply.ready_us, lambda: self._answer(link, reply))

    # ------------------------------------------------------------------------------------------------ broker to client

    def _answer(self, link: Link, reply: Reply) -> None:
        if not link.broker_open or reply.finish is None:
            return
        node = self._cluster.nodes[link.node_id]
        if node.frozen_until_us > self._world.now_us:
            self._world.at(node.frozen_until_us, lambda: self._answer(link, reply))
            return
        world, rates = self._world, self._plan.rates
        data = reply.finish()
        link.busy = False
        if not self._calm() and world.chance(rates.lose_answer):
            world.note(f"the answer on connection {link.connection} is lost with it")
            self._hang_up(link, "the answer is lost")
            return
        if not self._calm() and world.chance(rates.swallow_answer):
            world.note(f"the answer on connection {link.connection} is swallowed")
            self._serve(link)
            return
        if not self._calm() and world.chance(rates.garbage):
            world.note(f"garbage on connection {link.connection}")
            data = world.random.randbytes(world.random.randrange(1, 40))
        link.returns_us = max(link.returns_us, world.now_us + world.spread(self._plan.latency_us) + 1)
        cut = world.random.randrange(len(data) + 1) if world.chance(0.2) else 0
        for piece in (data[:cut], data[cut:]):
            if piece:
                world.at(link.returns_us, lambda piece=piece: self._return(link, piece))  # type: ignore[misc]
                link.returns_us += world.spread(self._plan.latency_us / 2)
        self._serve(link)

    def _return(self, link: Link, data: bytes) -> None:
        if not link.client_open:
            return
        cut_us = self._cluster.nodes[link.node_id].cut_until_us
        if cut_us > self._world.now_us:
            link.returns_us = max(link.returns_us, cut_us)
            self._world.at(cut_us, lambda: self._return(link, data))
            return
        self._engine.deliver(link.connection, data)
        self._watch.delivered(link.connection, data, self._world.now_us)
        self._take_closed()  # invalid bytes close a connection at once
        self._changed()

    # ----------------------------------------------------------------------------------------------------------- ends

    def _client_closed(self, link: Link) -> None:
        link.client_open = False
        # Its last bytes are in flight in any case.
        self._forget_later(link)

    def _reset(self, link: Link, why: str) -> None:
        if not link.client_open:
            return
        self._world.note(f"connection {link.connection} to node {link.node_id}: {why}")
        if link.up:
            self._carry(link)
        link.client_open = False
        link.waiting.clear()
        if not self._world.chance(self._plan.rates.zombie):
            link.broker_open = False
        self._engine.reset(link.connection)
        self._changed()
        self._forget_later(link)

    def _hang_up(self, link: Link, why: str) -> None:
        link.broker_open = False
        if not link.client_open:
            return
        self._world.note(f"node {link.node_id} closes connection {link.connection}: {why}")

        def arrive() -> None:
            if link.client_open:
                link.client_open = False
                self._engine.hang_up(link.connection)
                self._changed()
                self._forget_later(link)

        link.returns_us = max(link.returns_us, self._world.now_us + self._world.spread(self._plan.latency_us) + 1)
        self._world.at(link.returns_us, arrive)

    def _forget_later(self, link: Link) -> None:
        self._world.after(60 * S, lambda: self._links.pop(link.connection, None))

    def node_crashed(self, node_id: int) -> None:
        """All of its connections are reset, and their bytes are lost."""
        for link in list(self._links.values()):
            if link.node_id == node_id and link.broker_open:
                link.broker_open = False
                link.frames.clear()
                if link.up:
                    self._world.after(
                        self._world.spread(self._plan.latency_us), lambda link=link: self._reset(link, "crash")
                    )  # type: ignore[misc]
