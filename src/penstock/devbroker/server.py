"""One node: a listener, and the connections that it has accepted."""

import asyncio
import contextlib
import functools

from penstock.devbroker.connection import Connection
from penstock.devbroker.dispatch import answer
from penstock.devbroker.state import ClusterState

_STEPS_TO_BEGIN = 3
"""Loop iterations from an accepted socket to `connection_made`, plus one."""


class NodeServer:
    """The sockets of one broker of a cluster."""

    def __init__(self, state: ClusterState, node_id: int, port: int) -> None:
        """`port` 0 stands for a free one; the node keeps it when it is stopped and started again."""
        self._state = state
        self._node_id = node_id
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.port = port

    @property
    def is_running(self) -> bool:
        """Whether the node listens."""
        return self._server is not None

    async def start(self) -> None:
        """Listen; `OSError` if the port is taken."""
        loop = asyncio.get_running_loop()
        handle = functools.partial(answer, self._state, self._state.nodes[self._node_id])
        limit = self._state.settings.max_request_bytes
        self._server = await loop.create_server(
            lambda: Connection(handle, limit, self._connections, loop), self._state.settings.host, self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close the listener and all connections."""
        if self._server is None:
            return
        server, self._server = self._server, None
        # asyncio loses a connection that was accepted but not begun when its server closes (an assertion fails in CPython
        # 3.11), and it would stay open. So: accept no more, begin the accepted ones, then close all.
        loop = asyncio.get_running_loop()
        with contextlib.suppress(NotImplementedError):  # a loop without readers (Windows)
            for listener in server.sockets:
                loop.remove_reader(listener.fileno())
        for _ in range(_STEPS_TO_BEGIN):
            await asyncio.sleep(0)
        server.close()
        connections = list(self._connections)
        for connection in connections:
            connection.abort()
        tasks = [connection.task for connection in connections if connection.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
