"""Commands and events between the controller and the runtime, beside those of the boundary.

The runtime carries these out itself: look-ups, the published view, logs, and the calls of the application.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

from penstock.control import boundary
from penstock.control.boundary import Trouble
from penstock.control.calls import PendingCall
from penstock.control.cluster_view import ClusterView


class Resolve(NamedTuple):
    """Look a host up, on a thread that may block; answered by `Resolved`."""

    host: str
    port: int


class Resolved(NamedTuple):
    """The IP addresses of a host in the resolver's order, or why there are none."""

    host: str
    port: int
    addresses: tuple[str, ...]
    error: str


class Publish(NamedTuple):
    """Make this view visible before the commands behind it reach the engine."""

    view: ClusterView


class RequestTopicAges(NamedTuple):
    """Request the ages of the topics from the engine; answered by `TopicAges`."""


class TopicAges(NamedTuple):
    """Topic → ms since its last append."""

    ages_ms: Mapping[str, int]


class Log(NamedTuple):
    """Log this, with a limited rate for each `subject`."""

    level: int
    subject: str
    message: str


# ------------------------------------------------------------------------------------------ calls of the application


class Shutdown(NamedTuple):
    """The producer is closed: the controller does nothing more, and the control thread ends."""


Request: TypeAlias = Shutdown
"""All requests of an application to the controller. Transactions add theirs: begin, commit, abort."""


class Call(NamedTuple):
    """A request of the application, answered by one `Reply` with the same handle, in this step or a later one."""

    request: Request
    handle: PendingCall
    """The caller's; the controller only stores it and gives it back."""


class Reply(NamedTuple):
    """A call is done; `trouble` is false if it succeeded."""

    handle: PendingCall
    trouble: Trouble = Trouble()


Command: TypeAlias = boundary.Command | Resolve | Publish | RequestTopicAges | Log | Reply
Event: TypeAlias = boundary.Event | Resolved | TopicAges | Call
