"""One client's connection: frames in, one request at a time, answers out.

The bytes are not trusted. A length is checked when its four bytes are there, before anything is allocated for the
frame; the frame's memory then grows with what really arrives. While a request is handled, at most one further frame
is read ahead: as in Kafka, a client that sends faster than it is served is slowed down by TCP.
"""

import asyncio
import logging
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from penstock.devbroker.context import CloseConnection

logger = logging.getLogger(__name__)

_LENGTH: Final = struct.Struct(">i")
_SMALLEST_FRAME: Final = 8  # API key, version, correlation id

Answer = Callable[[bytes], Awaitable[bytearray | None]]


class Connection(asyncio.Protocol):
    """Serves one connection until either side closes it."""

    def __init__(
        self, answer: Answer, max_request_bytes: int, opened: set["Connection"], loop: asyncio.AbstractEventLoop
    ) -> None:
        """`answer` handles a frame; `opened` is where the connection enters and removes itself."""
        self._answer = answer
        self._max_request_bytes = max_request_bytes
        self._opened = opened
        self._loop = loop
        self._buffer = bytearray()
        self._size: int | None = None  # of the frame that is being received
        self._next: bytes | None = None  # a frame that waits for its turn
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._transport: asyncio.Transport
        self.task: asyncio.Task[None] | None = None

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.peer = transport.get_extra_info("peername")
        self._opened.add(self)
        self.task = self._loop.create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody is left to answer, also if a request waits for records at this moment."""
        self._opened.discard(self)
        if self.task is not None:
            self.task.cancel()

    def eof_received(self) -> bool:
        """A client that has stopped sending does not wait for answers either."""
        return False

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Take bytes off the socket."""
        self._buffer += data
        self._take_frame()

    # Frames.

    def _take_frame(self) -> None:
        """Cut a frame off the buffer if there is a whole one and nothing is ahead of it."""
        if self._next is not None:
            # A frame is ready and not yet taken: what is behind it must wait outside.
            self._transport.pause_reading()
            return
        if self._size is None and len(self._buffer) >= _LENGTH.size:
            size: int = _LENGTH.unpack_from(self._buffer)[0]
            if not _SMALLEST_FRAME <= size <= self._max_request_bytes:
                limits = f"{_SMALLEST_FRAME} to {self._max_request_bytes}"
                self.close(f"a frame of {size} bytes is announced, only {limits} are taken")
                return
            self._size = size
        if self._size is not None and len(self._buffer) >= _LENGTH.size + self._size:
            end = _LENGTH.size + self._size
            # The view must be gone before the buffer shrinks.
            with memoryview(self._buffer) as view:
                self._next = bytes(view[_LENGTH.size : end])
            del self._buffer[:end]
            self._size = None
            self._arrived.set()

    async def _frame(self) -> bytes:
        while self._next is None:
            self._arrived.clear()
            await self._arrived.wait()
        frame, self._next = self._next, None
        self._take_frame()
        if not self._transport.is_closing() and not self._transport.is_reading():
            self._transport.resume_reading()
        return frame

    async def _serve(self) -> None:
        try:
            while not self._transport.is_closing():
                answer = await self._answer(await self._frame())
                if answer is not None:
                    self._transport.write(answer)
                    await self._writable.wait()
        except CloseConnection as reason:
            self.close(str(reason))
        except Exception:
            # A bug in a handler must cost one connection and no more.
            logger.exception("the connection from %s is closed: its request failed", self.peer)
            self._transport.close()

    def close(self, reason: str) -> None:
        """Close the connection and say why."""
        logger.warning("the connection from %s is closed: %s", self.peer, reason)
        self._transport.close()

    def abort(self) -> None:
        """Close the connection without sending what is still to be sent."""
        self._transport.abort()
