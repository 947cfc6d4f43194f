"""One client's connection: it reads frames, handles one request at a time, and writes the answers.

The bytes are not trusted. A length is checked when its four bytes have arrived, before any memory is allocated for the
frame; the frame's memory then grows with the bytes that arrive. While a request is handled, at most one further frame
is read: as in Kafka, TCP slows down a client that sends faster than it is served.
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
        """`answer` handles a frame; the connection adds itself to `opened`, and removes itself at its end."""
        self._answer = answer
        self._max_request_bytes = max_request_bytes
        self._opened = opened
        self._loop = loop
        self._buffer = bytearray()
        self._size: int | None = None  # of the frame that is being received
        self._next: bytes | None = None  # a frame that waits until the current request is answered
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
        """The request in progress is cancelled, also if it waits for records: its client is gone."""
        self._opened.discard(self)
        if self.task is not None:
            self.task.cancel()

    def eof_received(self) -> bool:
        """Closes: a client that has stopped sending does not wait for answers either."""
        return False

    def pause_writing(self) -> None:
        """The client reads more slowly than answers are written."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Buffer bytes of the socket."""
        self._buffer += data
        self._take_frame()

    # Frames.

    def _take_frame(self) -> None:
        """Take a frame from the buffer if it is complete and no other frame waits."""
        if self._next is not None:
            # One frame waits already: the bytes after it stay in the buffer.
            self._transport.pause_reading()
            return
        if self._size is None and len(self._buffer) >= _LENGTH.size:
            size: int = _LENGTH.unpack_from(self._buffer)[0]
            if not _SMALLEST_FRAME <= size <= self._max_request_bytes:
                limits = f"{_SMALLEST_FRAME} to {self._max_request_bytes}"
                self.close(f"a frame announces {size} bytes; the broker accepts {limits}")
                return
            self._size = size
        if self._size is not None and len(self._buffer) >= _LENGTH.size + self._size:
            end = _LENGTH.size + self._size
            # The view must be released before the buffer shrinks.
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
            # A bug in a handler closes one connection; the others go on.
            logger.exception("the connection from %s is closed: its request failed", self.peer)
            self._transport.close()

    def close(self, reason: str) -> None:
        """Close the connection and log the reason."""
        logger.warning("the connection from %s is closed: %s", self.peer, reason)
        self._transport.close()

    def abort(self) -> None:
        """Close the connection without sending the rest of the answers."""
        self._transport.abort()
