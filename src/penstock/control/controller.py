"""The controller: events and the time go in, commands come out.

It owns the parts and the order in which they act; the decisions are theirs. It has no socket, thread, lock, clock or sleep,
so that a test or a simulation can step it by hand: ``commands = controller.step(events, now_ms)``, then again at
``controller.next_wakeup_ms()`` or when there are events.

| part | decides |
|---|---|
| `Connections` | attempts, backoff, which request an answer belongs to |
| `Handshake` | the requests before a connection is open |
| `ControlConnection` | which broker carries control requests, and when it returns to the bootstrap addresses |
| `DataConnections` | which brokers get records |
| `Metadata`, `IdentityManager` | the metadata and the identity, and when to request them |
| `Lanes` | lanes that were handed over |
| `Status` | what waiting calls report |

Control requests are rows of `_requests`.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from random import Random
from typing import Any

from penstock.config.settings import ProducerSettings
from penstock.control import boundary, commands, requests
from penstock.control.boundary import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionWanted,
    FailBuffered,
    FailProducer,
    FailTopic,
    FailureKind,
    FrameReceived,
    LanesHandedOver,
    LeaderWanted,
    SetIdentity,
    TopicWanted,
    Trouble,
)
from penstock.control.commands import Call, Command, Event, Log, Publish, Reply, RequestTopicAges, Resolved, TopicAges
from penstock.control.connections import Connections
from penstock.control.control_connection import ControlConnection
from penstock.control.data_connections import DataConnections
from penstock.control.handshake import ApiVersionsStep, Failed, Handshake, Passed, Progress, SendRequest
from penstock.control.identity import Fatal, IdentityManager, Refused
from penstock.control.lanes import Lanes
from penstock.control.metadata import Metadata
from penstock.control.peers import Endpoint, Peer
from penstock.control.purposes import purposes
from penstock.control.requests import Awaited, ControlRequest
from penstock.control.status import Status
from penstock.protocol.messages.init_producer_id import InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataResponse


class Controller:
    """See the module. Times are milliseconds on the engine's monotonic clock."""

    def __init__(
        self,
        settings: ProducerSettings,
        bootstrap: Sequence[Endpoint],
        *,
        random: Random,
        now_ms: float,
        software_version: str,
    ) -> None:
        """Nothing is sent before the first `step`."""
        self._software_version = software_version
        self._max_idle_ms = settings.metadata_max_idle_ms
        self._now_ms = now_ms
        purpose = purposes(settings)
        self._connections = Connections(settings, random)
        self._metadata = Metadata(settings, random, now_ms)
        self._identity = IdentityManager(settings, random)
        self._control = ControlConnection(
            settings, self._connections, self._metadata, purpose.control, bootstrap, random=random, now_ms=now_ms
        )
        self._data = DataConnections(self._connections, self._metadata, purpose.data)
        self._lanes = Lanes(settings, self._metadata, self._identity, random=random)
        self._status = Status(self._connections)
        self._requests: tuple[ControlRequest[Any], ...] = (
            ControlRequest(
                requests.METADATA,
                purpose.control,
                due_ms=self._metadata.due_ms,
                build=self._metadata.request,
                answered=self._metadata_answered,
                lost=self._metadata.failed,
            ),
            ControlRequest(
                requests.INIT_PRODUCER_ID,
                purpose.control,
                due_ms=self._identity.due_ms,
                build=self._identity.request,
                answered=self._identity_answered,
                lost=self._identity.lost,
            ),
        )
        self._routes = {purpose.control.name: self._control}
        self._failed = False
        self.ended = False
        """Whether everything is done: the control thread ends."""
        self._out: list[Command] = []

    # -------------------------------------------------------------------------------------------------------- stepping

    def step(self, events: Sequence[Event], now_ms: float) -> list[Command]:
        """Take the events, begin what is due, and return the commands, in the order in which they apply."""
        self._now_ms = now_ms
        self._out = []
        for event in events:
            self._take(event)
        if not self._failed and not self.ended:
            self._drive()
        return self._out

    def next_wakeup_ms(self) -> float | None:
        """When the next `step` is due if there are no events; None: never."""
        if self._failed or self.ended:
            return None
        times = [self._metadata.next_idle_check_ms, *self._data.wakeups_ms()]
        backoff_ms = self._connections.next_wakeup_ms()
        if backoff_ms is not None:
            times.append(backoff_ms)
        for purpose, route in self._routes.items():
            due = [row.due_ms(self._now_ms) for row in self._rows(purpose)]
            times += route.wakeups_ms([due_ms for due_ms in due if due_ms is not None])
        return min(times)

    def _take(self, event: Event) -> None:
        match event:
            case LanesHandedOver():
                self._lanes_handed_over(event)
            case FrameReceived():
                self._out += self._connections.received(event, self._now_ms)
            case ConnectionClosed():
                self._connection_closed(event)
            case ConnectionOpened():
                self._connection_opened(event)
            case ConnectionWanted(broker_id=broker_id):
                self._data.want(broker_id)
            case Resolved():
                self._resolved(event)
            case TopicWanted(name=name, partition=partition):
                self._metadata.want(name, partition, self._now_ms)
            case LeaderWanted(topics=topics):
                self._metadata.keep(topics, self._now_ms)
                self._metadata.request_refresh()
            case TopicAges(ages_ms=ages_ms):
                self._forget_idle_topics(ages_ms)
            case Call():
                self._called(event)
            case boundary.EngineFailed():
                self.ended = True  # nothing is left to be controlled

    def _drive(self) -> None:
        now_ms = self._now_ms
        if self._control.is_unresolved(now_ms):
            text = "no bootstrap server could be resolved within bootstrap.resolve.timeout.ms"
            self._fail("unresolved", Trouble(0, f"{text}; {self._status.errors().message}"))
            return
        if now_ms >= self._metadata.next_idle_check_ms:
            self._metadata.next_idle_check_ms = now_ms + self._max_idle_ms  # not again before TopicAges arrives
            self._out.append(RequestTopicAges())
        for peer in self._connections.cancel_late_look_ups(now_ms):
            label = peer.label()
            self._out.append(Log(logging.WARNING, f"resolve {label}", f"{label}: {peer.troubles[label].message}"))
        self._control.release_if_idle()
        due = [purpose for purpose in self._routes if any(row.is_due(now_ms) for row in self._rows(purpose))]
        self._out += self._control.rebootstrap_if_stuck(now_ms)
        for purpose in due:
            self._send_due(purpose)
        self._out += self._connections.drive(now_ms)
        self._out += self._data.ready(now_ms)
        lacks_identity = self._identity.due_ms(now_ms) is not None and self._control.peer is None
        waiting = self._control.lacks_metadata or lacks_identity
        self._out += self._status.changes(waiting=waiting, without_address=self._data.without_address)

    # -------------------------------------------------------------------------------------------------------- requests

    def _rows(self, purpose: str) -> list[ControlRequest[Any]]:
        return [row for row in self._requests if row.purpose.name == purpose]

    def _send_due(self, purpose: str) -> None:
        """Send the requests that are due if there is a connection for them, else choose one."""
        route = self._routes[purpose]
        self._out += route.choose(self._now_ms)
        peer = route.usable(self._now_ms)
        if peer is None:
            return
        for row in self._rows(purpose):
            if row.is_due(self._now_ms):
                awaited = row.awaited(peer.negotiate(row.kind.api))
                self._out.append(self._connections.request(peer, row.build(self._now_ms), awaited))

    def _metadata_answered(self, response: MetadataResponse, version: int) -> None:
        snapshots = self._metadata.answered(response, version, self._now_ms)
        if snapshots is None:
            if self._control.rebootstraps:
                reason = "the broker requires it (REBOOTSTRAP_REQUIRED)"
                self._out += self._control.rebootstrap(reason, self._now_ms)
            return
        if not response.brokers:
            return
        self._control.metadata_came()
        for command in snapshots:
            if isinstance(command, FailTopic):
                text = f"metadata of topic {command.name!r}: {command.trouble.message}"
                self._out.append(Log(logging.WARNING, f"topic {command.name}", text))
        self._publish(snapshots)
        self._data.brokers_changed()

    def _identity_answered(self, answer: InitProducerIdResponse, version: int) -> None:
        outcome = self._identity.answered(answer.error_code, answer.producer_id, answer.producer_epoch, self._now_ms)
        if isinstance(outcome, Fatal):
            self._fail("broker", Trouble(*outcome))
        elif isinstance(outcome, Refused):
            self._out.append(Log(logging.ERROR, "identity", outcome.message))
            self._out.append(FailBuffered("broker", Trouble(*outcome)))
        elif outcome is not None:
            self._out.append(SetIdentity(*outcome))
            self._out += self._lanes.identity_came(self._now_ms)
            self._fail("broker", self._lanes.fatal)

    # ----------------------------------------------------------------------------------------------------- connections

    def _resolved(self, event: Resolved) -> None:
        if event.addresses:
            self._control.resolved()
        else:
            where = Endpoint(event.host, event.port)
            self._out.append(Log(logging.WARNING, f"resolve {where}", f"cannot resolve {where}: {event.error}"))
        self._out += self._connections.resolved(event, self._now_ms)
        self._control.release_if_idle()

    def _connection_opened(self, event: ConnectionOpened) -> None:
        peer = self._connections.opened(event)
        if peer is not None:
            cluster_id = self._control.cluster_to_check() if peer.broker_id >= 0 else None
            node_id = -1 if cluster_id is None else peer.broker_id
            step = ApiVersionsStep(self._software_version, peer.purpose.needs, cluster_id, node_id)
            peer.handshake = Handshake((step,))
            self._follow(peer, peer.handshake.begin())

    def _handshake_answered(self, peer: Peer, response: Any, version: int) -> None:
        self._follow(peer, peer.handshake.answered(response, version))

    def _follow(self, peer: Peer, progress: Progress) -> None:
        """Take the next step of a handshake."""
        match progress:
            case SendRequest(kind=kind, message=message, version=version):
                answered = partial(self._handshake_answered, peer)
                awaited = Awaited(kind, version, answered, lost=_nothing_is_lost)
                self._out.append(self._connections.request(peer, message, awaited))
            case Failed(trouble=trouble, wrong_node=wrong_node):
                self._out.append(self._connections.close(peer, trouble))
                if wrong_node:
                    reason = f"{peer.label()} is not the node it was (metadata.cluster.check.enable)"
                    self._out += self._control.rebootstrap_from_known(reason, self._now_ms)
            case Passed(session=session):
                self._connections.accepted(peer, session)
                if peer.purpose.carries_records:
                    self._data.accepted(peer)

    def _connection_closed(self, event: ConnectionClosed) -> None:
        closed, commands = self._connections.closed(event, self._now_ms)
        self._out += commands
        if closed is None:
            return
        if closed.trouble:
            text = f"{closed.label}: {closed.trouble.message}"
            self._out.append(Log(logging.WARNING, f"connection {closed.label}", text))
            if closed.peer.purpose.loss_refreshes_metadata:
                self._metadata.request_refresh()
        self._control.release_if_idle()
        for awaited in closed.lost:
            awaited.lost(self._now_ms)

    # ----------------------------------------------------------------------------------------------- lanes and topics

    def _lanes_handed_over(self, event: LanesHandedOver) -> None:
        brokers_changed, snapshots = self._lanes.take_hints(event)
        if snapshots or brokers_changed:
            self._publish(snapshots)
            self._data.brokers_changed()
        self._metadata.keep({report.topic for report in event.lanes}, self._now_ms)
        for report in event.lanes:
            self._out += self._lanes.decide(report, self._now_ms)
            self._fail("broker", self._lanes.fatal)

    def _forget_idle_topics(self, ages_ms: Mapping[str, int]) -> None:
        forgotten = self._metadata.expire(ages_ms, self._now_ms)
        if forgotten:
            self._publish(forgotten)

    def _publish(self, changes: Sequence[boundary.Command]) -> None:
        """The view comes first: Python partitioners never lag behind the engine."""
        self._out.append(Publish(self._metadata.view()))
        self._out += changes

    # ------------------------------------------------------------------------------------------------- the application

    def _called(self, call: Call) -> None:
        match call.request:
            case commands.Shutdown():
                self.ended = True
                self._out.append(Reply(call.handle))

    def _fail(self, kind: FailureKind, trouble: Trouble) -> None:
        """Fail the producer if there is trouble; once."""
        if trouble and not self._failed:
            self._failed = True
            self._out.append(Log(logging.ERROR, "fatal", f"the producer has failed: {trouble.message}"))
            self._out.append(FailProducer(kind, trouble))


def _nothing_is_lost(now_ms: float) -> None:
    """For a handshake: the next connection begins with one of its own."""
