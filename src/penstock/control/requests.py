"""Control requests as data: the API of each, when it is due, how it is built, and what takes its answer.

A new request is a row of the controller's table (`ControlRequest`). Requests of a handshake are no rows, since their
order is the handshake's; they share `RequestKind` and `Awaited` with the others.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from penstock.control.purposes import Purpose
from penstock.protocol.message import Api, Request, Response
from penstock.protocol.messages import index
from penstock.protocol.messages.api_versions import ApiVersionsResponse
from penstock.protocol.messages.init_producer_id import InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataResponse

R = TypeVar("R", bound=Response)


class RequestKind(NamedTuple, Generic[R]):
    """One API as the control plane uses it."""

    api: Api
    response: type[R]
    throttled_since: int
    """From this version on a broker that throttles answers at once, and the client must wait; an older one has waited before
    its answer (KIP-219; Java: `shouldClientThrottle`)."""

    def throttle_ms(self, response: R, version: int) -> int:
        """For how long the client must send nothing on that connection."""
        return getattr(response, "throttle_time_ms", 0) if version >= self.throttled_since else 0


API_VERSIONS: Final = RequestKind(index.API_VERSIONS, ApiVersionsResponse, 2)
METADATA: Final = RequestKind(index.METADATA, MetadataResponse, 6)
INIT_PRODUCER_ID: Final = RequestKind(index.INIT_PRODUCER_ID, InitProducerIdResponse, 1)


class Awaited(NamedTuple):
    """A request that was sent on a connection and has no answer yet."""

    kind: RequestKind[Any]
    version: int
    answered: Callable[[Any, int], None]
    """Takes the response and its version. Raises `ProtocolError` if the response cannot be true; the connection is closed then."""
    lost: Callable[[float], None]
    """The connection ended first; takes the time in ms."""


class ControlRequest(NamedTuple, Generic[R]):
    """A row of the table of control requests. Times are milliseconds on the engine's monotonic clock."""

    kind: RequestKind[R]
    purpose: Purpose
    """On which connection it is sent."""
    due_ms: Callable[[float], float | None]
    """From when on it may be sent, given the present time; None: it is not needed, or it is awaited."""
    build: Callable[[float], Request]
    """The request, which is sent now; `due_ms` is None until it is answered or lost."""
    answered: Callable[[R, int], None]
    lost: Callable[[float], None]

    def is_due(self, now_ms: float) -> bool:
        """Whether it may be sent now."""
        due_ms = self.due_ms(now_ms)
        return due_ms is not None and due_ms <= now_ms

    def awaited(self, version: int) -> Awaited:
        """The entry to store while it has no answer."""
        return Awaited(self.kind, version, self.answered, self.lost)
