"""Rules of recovery that the oracle cannot see: what is in flight after a loss, how often a broker is connected to, and
when a request has waited too long.

The watch reads the bytes of all connections. It may know less than the engine (a request that was never written whole),
so that it never demands more than the rules do.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from penstock.control import boundary
from penstock.control.peers import Peer
from penstock.protocol import versions
from penstock.protocol.messages import index
from penstock.protocol.messages.produce import ProduceRequest, ProduceResponse
from penstock.protocol.primitives import ProtocolError
from penstock.protocol.versions import decode_request_header

MS = 1_000
_DUPLICATE = 46
Place = tuple[str, int]


class Stream:
    """Bytes of one direction, cut into frames."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def cut(self, data: bytes) -> list[bytes]:
        """The frames that are whole now."""
        self.rest += data
        frames = []
        while len(self.rest) >= 4:
            size = struct.unpack_from(">i", self.rest)[0]
            if size < 4 or len(self.rest) < 4 + size:
                break
            frames.append(bytes(self.rest[4 : 4 + size]))
            del self.rest[: 4 + size]
        return frames


class Line:
    """One connection as the watch sees it."""

    def __init__(self, node_id: int, now_us: int) -> None:
        self.node_id = node_id
        self.out, self.back = Stream(), Stream()
        self.waiting: deque[tuple[int, tuple[Place, ...]]] = deque()
        """Unanswered requests: the version of Produce (-1: another API) and its partitions."""
        self.window = 0  # 0: it does not carry Produce
        self.answered = 0
        self.narrow = False
        self.progress_us = now_us

    def produce(self) -> list[tuple[Place, ...]]:
        """The partitions of the Produce requests that are not answered."""
        return [places for version, places in self.waiting if version >= 0]


class Watch:
    """See the module. Broken rules are in `broken`."""

    def __init__(self, settings: Any) -> None:
        """No connection yet."""
        self._full: int = settings.max_in_flight_requests_per_connection
        self._timeout_us: int = settings.request_timeout_ms * MS
        self._backoff_ms: tuple[int, int] = (settings.reconnect_backoff_ms, settings.reconnect_backoff_max_ms)
        self._names: dict[bytes, str] = {}
        self._lines: dict[int, Line] = {}
        self._probing: set[Place] = set()  # certainly
        self._probing_nodes: set[int] = set()  # certainly
        self._doubtful_nodes: set[int] = set()  # perhaps
        self._lost: dict[
            Peer, tuple[int, float]
        ] = {}  # losses in a row before Produce was answered, and the last one's time
        self.broken: list[str] = []

    # ------------------------------------------------------------------------------------------------------------ bytes

    def dialled(self, connection: int, node_id: int, now_us: int) -> None:
        """A connection begins."""
        self._lines[connection] = Line(node_id, now_us)

    def narrowed(self, connection: int) -> None:
        """Its socket may hold requests back."""
        if line := self._lines.get(connection):
            line.narrow = True

    def written(self, connection: int, data: bytes, now_us: int) -> None:
        """The client has written."""
        line = self._lines.get(connection)
        if line is None:
            return
        if not line.waiting:
            line.progress_us = now_us
        for frame in line.out.cut(data):
            header, reader = decode_request_header(frame)
            if header.request_api_key != index.PRODUCE.key:
                line.waiting.append((-1, ()))
                continue
            request = ProduceRequest.read(reader, header.request_api_version)
            places = tuple(self._places(request))
            self._check(line, places, now_us)
            line.waiting.append((header.request_api_version, places))

    def _places(self, request: ProduceRequest) -> Iterable[Place]:
        for topic in request.topic_data:
            name = topic.name or self._names[topic.topic_id.bytes]
            for part in topic.partition_data:
                yield name, part.index

    def _check(self, line: Line, places: Iterable[Place], now_us: int) -> None:
        unanswered = line.produce()
        if len(unanswered) >= line.window:
            self._breaks(now_us, f"node {line.node_id}: {len(unanswered) + 1} requests in a window of {line.window}")
        flying = {place for other in self._lines.values() for request in other.produce() for place in request}
        for place in set(places) & self._probing & flying:
            self._breaks(now_us, f"{place} has two batches in flight while it is probing")

    def delivered(self, connection: int, data: bytes, now_us: int) -> None:
        """Bytes have reached the client."""
        line = self._lines.get(connection)
        if line is None:
            return
        for frame in line.back.cut(data):
            if not line.waiting:
                return
            line.progress_us = now_us
            version, places = line.waiting.popleft()
            if version >= 0:
                self._answered(line, version, places, frame)

    def _answered(self, line: Line, version: int, places: Sequence[Place], frame: bytes) -> None:
        try:
            _, response = versions.decode_response(ProduceResponse, version, frame)
        except ProtocolError:
            return  # garbage: it ends the connection
        line.answered += 1
        line.window = min(line.window + 1, self._full)
        self._probing_nodes.discard(line.node_id)
        parts = [part for topic in response.responses for part in topic.partition_responses]
        if len(parts) == len(places):  # otherwise it ends the connection
            self._doubtful_nodes.discard(line.node_id)
        if any(part.error_code in (0, _DUPLICATE) or part.base_offset >= 0 for part in parts):
            self._probing.difference_update(places)

    # ---------------------------------------------------------------------------------------------------- control plane

    def events(self, events: Iterable[object], now_us: int) -> None:
        """The engine has reported these."""
        for event in events:
            if isinstance(event, boundary.ConnectionClosed):
                self._closed(event, now_us)

    def _closed(self, event: boundary.ConnectionClosed, now_us: int) -> None:
        line = self._lines.get(event.connection_id)
        if line is None:
            return
        lost = line.produce()
        line.waiting.clear()
        if event.expected:
            return
        waited_us = now_us - line.progress_us
        if "no answer within" in event.reason and waited_us < self._timeout_us:
            self._breaks(now_us, f"connection {event.connection_id}: a time-out {waited_us // MS} ms after an answer")
        if lost:
            self._probing_nodes.add(line.node_id)
            self._probing.update(place for request in lost for place in request)
        if lost or line.out.rest or line.narrow:
            self._doubtful_nodes.add(line.node_id)

    def stepped(self, events: Iterable[object], connects: Iterable[tuple[int, Peer]], now_ms: float) -> None:
        """The control plane has taken these events, and begins these attempts."""
        for event in events:
            if isinstance(event, boundary.ConnectionClosed):
                self._lines.pop(event.connection_id, None)
        for _, peer in connects:
            losses, at_ms = self._lost.get(peer, (0, 0.0))
            initial_ms, max_ms = self._backoff_ms
            least_ms = 0.8 * min(initial_ms * 2 ** (losses - 1), max_ms) if losses else 0.0
            if now_ms - at_ms < least_ms - 0.1:
                self._breaks(int(now_ms * MS), f"connects {now_ms - at_ms:.1f} ms after loss {losses} in a row")

    def lost(self, event: boundary.ConnectionClosed, peer: Peer | None, now_ms: float) -> None:
        """The control plane is about to take the end of a peer's connection."""
        line = self._lines.get(event.connection_id)
        if peer is None or line is None or not line.window:
            return
        losses, _ = self._lost.get(peer, (0, 0.0))
        if line.answered:
            self._lost[peer] = (0, now_ms)
        elif not event.expected:
            self._lost[peer] = (losses + 1, now_ms)

    def commanded(self, commands: Iterable[object]) -> None:
        """These commands are on their way."""
        for command in commands:
            if isinstance(command, boundary.SetTopic):
                self._names[command.topic_id] = command.name
            elif isinstance(command, boundary.Ready) and (line := self._lines.get(command.connection_id)):
                line.window = 1 if line.node_id in self._probing_nodes else self._full

    def check_windows(self, commands: Iterable[object], windows: dict[int, int], now_us: int) -> None:
        """The commands have arrived: a connection begins slowly only after a loss."""
        for command in commands:
            if not isinstance(command, boundary.Ready) or not (line := self._lines.get(command.connection_id)):
                continue
            window = windows.get(command.connection_id, self._full)
            if window < self._full and line.node_id not in self._doubtful_nodes:
                self._breaks(now_us, f"node {line.node_id}: a window of {window} though nothing in flight was lost")

    def _breaks(self, now_us: int, what: str) -> None:
        self.broken.append(f"recovery: at {now_us / MS:.3f} ms: {what}")
