"""Blocking requests to brokers, for the reader and `penstock topics`: one connection per broker. Private.

`Cluster` resolves names and connects on threads of its own, so that a silent name server or host delays no other address
and no Ctrl-C. Everything else runs on the caller's thread.
"""

from __future__ import annotations

import itertools
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias, TypeVar

from penstock._native import timeout_s as as_timeout
from penstock.config import parse_bootstrap_servers
from penstock.errors import NetworkError
from penstock.protocol import versions
from penstock.protocol.message import Request, Response
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.metadata import MetadataRequest, MetadataRequestTopic, MetadataResponse
from penstock.protocol.primitives import ProtocolError

R = TypeVar("R", bound=Response)

Address: TypeAlias = tuple[str, int]

MAX_FRAME_BYTES: Final = 128 * 1024 * 1024
"""The longest answer that is accepted: a broken or foreign server must not cause a large allocation."""

_RECEIVE_BYTES: Final = 256 * 1024

# The last version with names of topics; newer ones need ids, which callers that delete by name do not have.
_NEWEST_VERSION: Final = {index.DELETE_TOPICS.key: 5}
_FALLBACK_API_VERSIONS: Final = 0
_UNSUPPORTED_VERSION: Final = 35

_LENGTH: Final = struct.Struct(">i")


class Connection:
    """One blocking connection to a broker; it requests the broker's versions at once.

    `timeout_s` limits connecting and each wait for bytes, in seconds. All methods raise `OSError` if the connection broke
    (`TimeoutError` is one) and `ProtocolError` for an invalid answer. After either, close the connection.
    """

    def __init__(self, host: str, port: int, *, timeout_s: float, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        """Connect and negotiate."""
        self._max_frame_bytes = max_frame_bytes
        self._correlation_ids = itertools.count(1)
        self._versions: dict[int, tuple[int, int]] = {}
        self._socket = socket.create_connection((host, port), timeout=as_timeout(timeout_s))
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._negotiate()
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, message: Request, response: type[R]) -> R:
        """Send and wait for the answer."""
        return self.receive(response, self.send(message))

    def send(self, message: Request, *, newest: int | None = None) -> tuple[int, int]:
        """Send a request in version `newest` at most; returns the ticket for `receive`: version and correlation id."""
        api = versions.CLIENT_APIS[message.API_KEY]
        if api.key not in self._versions:
            raise ProtocolError(f"the broker does not know the API {api.name}")
        low, high = self._versions[api.key]
        newest = _NEWEST_VERSION.get(api.key, high) if newest is None else newest
        return self._send(message, versions.negotiate(api, low, min(high, newest)))

    def receive(self, response: type[R], sent: tuple[int, int]) -> R:
        """The answer for a ticket of `send`; answers come in the order of the requests."""
        version, correlation_id = sent
        answered, message = versions.decode_response(response, version, self._receive_frame())
        if answered != correlation_id:
            raise ProtocolError(f"the answer is to request {answered}, not to {correlation_id}")
        return message

    def _negotiate(self) -> None:
        request = ApiVersionsRequest(client_software_name="penstock-reader", client_software_version="1")
        answer = self.receive(ApiVersionsResponse, self._send(request, ApiVersionsRequest.MAX_VERSION))
        if answer.error_code == _UNSUPPORTED_VERSION:  # an older broker; every broker has version 0 (KIP-511)
            answer = self.receive(ApiVersionsResponse, self._send(ApiVersionsRequest(), _FALLBACK_API_VERSIONS))
        if answer.error_code:
            raise ProtocolError(f"the broker answered ApiVersions with the error {answer.error_code}")
        self._versions = {key.api_key: (key.min_version, key.max_version) for key in answer.api_keys}

    def _send(self, message: Request, version: int) -> tuple[int, int]:
        correlation_id = next(self._correlation_ids)
        frame = versions.encode_request(message, version, correlation_id, "penstock-reader")
        self._socket.sendall(_LENGTH.pack(len(frame)) + frame)
        return version, correlation_id

    def _receive_frame(self) -> bytearray:
        (length,) = _LENGTH.unpack(self._receive_exactly(_LENGTH.size))
        if not 0 <= length <= self._max_frame_bytes:
            raise ProtocolError(f"an answer of {length} bytes is announced; at most {self._max_frame_bytes} are taken")
        return self._receive_exactly(length)

    def _receive_exactly(self, size: int) -> bytearray:
        # The buffer grows with the received bytes, not with the announced size.
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), _RECEIVE_BYTES))
            if not part:
                raise ConnectionError("the broker closed the connection")
            data += part
        return data


class Cluster:
    """The addresses of a cluster's brokers, and a connection to each that is used; for one thread."""

    def __init__(
        self, bootstrap_servers: str, *, timeout_s: float = 10.0, request_timeout_s: float | None = None
    ) -> None:
        """`bootstrap_servers` as the producer's setting. In seconds: `timeout_s` limits each attempt to connect, for all
        addresses together, and `request_timeout_s` (by default the same) each wait for an answer.

        Raises:
            ConfigError: an address is malformed.
        """
        self._bootstrap = parse_bootstrap_servers([entry.strip() for entry in bootstrap_servers.split(",")])
        self._timeout_s = timeout_s
        self._request_timeout_s = timeout_s if request_timeout_s is None else request_timeout_s
        self._addresses: dict[int, Address] = {}
        self._connections: dict[Address, Connection] = {}

    def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def metadata(self, topics: Iterable[str] | None, *, create: bool = False) -> MetadataResponse:
        """The metadata of `topics` (None: of all), from the first broker that answers.

        `create`: the request creates a missing topic, if the brokers allow that.

        Raises:
            NetworkError: no broker answered; the text has each address's error.
        """
        asked = None if topics is None else tuple(MetadataRequestTopic(name=name) for name in topics)
        request = MetadataRequest(topics=asked, allow_auto_topic_creation=create)
        failures: dict[Address, Exception] = {}
        for address, connection in list(self._connections.items()):
            answer = self._metadata_of(address, connection, request, failures)
            if answer is not None:
                return answer
        addresses = dict.fromkeys([*self._addresses.values(), *self._bootstrap])
        with self._race([it for it in addresses if it not in failures]) as race:
            for address, result in race:
                if isinstance(result, Exception):
                    failures[address] = result
                    continue
                self._connections[address] = result
                answer = self._metadata_of(address, result, request, failures)
                if answer is not None:
                    return answer
        in_order = [(address, failures[address]) for address in addresses if address in failures]
        reasons = "; ".join(f"{_shown(address)}: {_reason(error)}" for address, error in in_order)
        raise NetworkError(f"no broker can be reached: {reasons}", hint="Check the address and the broker.")

    def node(self, node_id: int) -> Connection:
        """The connection to a broker of the last metadata; raises `OSError` for an unknown broker, or if it cannot connect."""
        address = self._addresses.get(node_id)
        if address is None:
            raise ConnectionError(f"the address of broker {node_id} is not known")
        if address not in self._connections:
            with self._race([address]) as race:
                for _, result in race:
                    if isinstance(result, Exception):
                        raise ConnectionError(f"broker {node_id} at {_shown(address)}: {_reason(result)}") from result
                    self._connections[address] = result
        return self._connections[address]

    def reach_one_of(self, node_ids: Iterable[int]) -> None:
        """Make sure that at least one of these brokers is connected; raises `NetworkError` with the reasons if none is."""
        asked = {self._addresses[node]: node for node in node_ids if node in self._addresses}
        if any(address in self._connections for address in asked):
            return
        failures: dict[Address, Exception] = {}
        with self._race(asked) as race:
            for address, result in race:
                if isinstance(result, Connection):
                    self._connections[address] = result
                    return
                failures[address] = result
        reasons = "; ".join(f"broker {asked[at]} at {_shown(at)}: {_reason(failures[at])}" for at in asked)
        raise NetworkError(
            f"no leader can be reached: {reasons or 'its address is not known'}",
            hint="These are the addresses that the brokers advertise (advertised.listeners).",
        )

    def request(self, node_id: int, request: Request, response: type[R]) -> R:
        """Send a request to one broker, and wait. After an `OSError` or `ProtocolError` the next call connects again."""
        try:
            return self.node(node_id).request(request, response)
        except (OSError, ProtocolError):
            self._drop(self._addresses.get(node_id))
            raise

    def _race(self, addresses: Iterable[Address]) -> _Race:
        return _Race(addresses, self._timeout_s, self._request_timeout_s)

    def _metadata_of(
        self, address: Address, connection: Connection, request: MetadataRequest, failures: dict[Address, Exception]
    ) -> MetadataResponse | None:
        try:
            answer = connection.request(request, MetadataResponse)
            if not answer.brokers:  # it is still starting
                raise ConnectionError("the broker does not know of any broker yet")
        except (OSError, ProtocolError) as error:
            self._drop(address)
            failures[address] = error
            return None
        self._addresses = {broker.node_id: (broker.host, broker.port) for broker in answer.brokers}
        return answer

    def _drop(self, address: Address | None) -> None:
        connection = self._connections.pop(address, None) if address is not None else None
        if connection is not None:
            connection.close()


class _Race:
    """Connects to several addresses at once; iterate for each one's result, in the order in which they are done.

    An address without a result after `timeout_s` seconds has a `TimeoutError`. Connections that are ready later are closed.
    """

    def __init__(self, addresses: Iterable[Address], timeout_s: float, request_timeout_s: float) -> None:
        self._open = list(addresses)
        self._timeout_s = timeout_s
        self._request_timeout_s = request_timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._results: queue.SimpleQueue[tuple[Address, Connection | Exception]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._over = False
        for address in self._open:
            threading.Thread(target=self._connect, args=(address,), name="penstock-connect", daemon=True).start()

    def __enter__(self) -> _Race:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._over = True
        while not self._results.empty():
            self._close(self._results.get()[1])

    def __iter__(self) -> Iterator[tuple[Address, Connection | Exception]]:
        while self._open:
            try:
                address, result = self._results.get(
                    timeout=min(max(self._deadline - time.monotonic(), 0), threading.TIMEOUT_MAX)
                )
            except queue.Empty:
                address, result = self._open[0], TimeoutError()
            self._open.remove(address)
            if isinstance(result, TimeoutError):  # of this race, or of the system call that took too long
                result = TimeoutError(f"no answer within {self._timeout_s:g} s")
            yield address, result

    def _connect(self, address: Address) -> None:
        result: Connection | Exception
        try:
            result = Connection(*address, timeout_s=self._request_timeout_s)
        except Exception as error:  # of any type: a name that cannot be encoded, for example, is a UnicodeError
            result = error
        with self._lock:
            if not self._over:
                self._results.put((address, result))
                return
        self._close(result)

    @staticmethod
    def _close(result: Connection | Exception) -> None:
        if isinstance(result, Connection):
            result.close()


def _shown(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
