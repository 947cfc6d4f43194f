"""The controller: events and the time go in, commands come out.

It owns the parts (`Connections`, `Metadata`, `IdentityManager`) and the order in which they act; every decision is
theirs or `delivery`'s. There is no socket, thread, lock, clock or sleep in here, so that a test or a simulation can
step it by hand: ``commands = controller.step(events, now_ms)``, then again at ``controller.next_wakeup_ms()`` or when
there are events.

The control connection. One connection to any broker carries Metadata and InitProducerId. Until metadata is known it
goes to a bootstrap address, later to a known broker, the least recently failed first. It is opened when a request is
due, and not missed when the broker or connections.max.idle.ms closes it. When every known broker is in backoff, or
metadata could not be had for metadata.recovery.rebootstrap.trigger.ms, the bootstrap addresses come in again (KIP-899,
KIP-1102).
"""

import logging
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple, TypeAlias

from penstock import errors
from penstock.control import boundary
from penstock.control.boundary import (
    ConnectionClosed,
    ConnectionOpened,
    ConnectionWanted,
    FailBuffered,
    FailProducer,
    FailureKind,
    FrameReceived,
    LaneReport,
    LanesHandedOver,
    LeaderWanted,
    Ready,
    SetBrokerStatus,
    SetIdentity,
    SetStatus,
    TopicWanted,
    Trouble,
)
from penstock.control.connections import Connections, Endpoint, Peer, Resolve, Resolved, is_ip_address
from penstock.control.delivery import Policy, decide
from penstock.control.identity import Fatal, IdentityManager, Refused
from penstock.control.metadata import ClusterView, Metadata
from penstock.control.settings import Backoff, ControlSettings
from penstock.protocol import versions
from penstock.protocol.message import Request
from penstock.protocol.messages import index
from penstock.protocol.messages.init_producer_id import InitProducerIdRequest, InitProducerIdResponse
from penstock.protocol.messages.metadata import MetadataResponse
from penstock.protocol.primitives import ProtocolError

_MAX_INT32 = 2**31 - 1


class Publish(NamedTuple):
    """For the runtime: make this view visible before the commands behind it reach the engine."""

    view: ClusterView


class AskTopicAges(NamedTuple):
    """For the runtime: ask the engine for its topics' ages and bring them as `TopicAges`."""


class TopicAges(NamedTuple):
    """Topic → ms since its last append."""

    ages_ms: Mapping[str, int]


class Log(NamedTuple):
    """For the runtime: say this, but not again and again for the same `subject`."""

    level: int
    subject: str
    message: str


Command: TypeAlias = boundary.Command | Resolve | Publish | AskTopicAges | Log
Event: TypeAlias = boundary.Event | Resolved | TopicAges


class _Request(NamedTuple):
    """A control request that is out."""

    kind: str  # "metadata" | "identity"
    version: int


class Controller:
    """See the module. Times are milliseconds on the engine's monotonic clock."""

    def __init__(
        self,
        settings: ControlSettings,
        bootstrap: Sequence[Endpoint],
        *,
        random: Random,
        now_ms: float,
        software_version: str,
    ) -> None:
        """Nothing is sent before the first `step`."""
        self._settings = settings
        self._random = random
        self._now_ms = now_ms
        self._policy = Policy(
            settings.enable_idempotence,
            settings.retries,
            Backoff(settings.retry_backoff_ms, settings.retry_backoff_max_ms),
        )
        self._connections = Connections(settings, random, software_version)
        self._metadata = Metadata(settings, random, now_ms)
        self._identity = IdentityManager(settings, random)
        self._bootstrap = [self._connections.peer("control", -1, endpoint) for endpoint in dict.fromkeys(bootstrap)]
        self._bootstrapping = True  # the control connection goes to bootstrap addresses
        self._rebootstraps = settings.metadata_recovery_strategy.lower() == "rebootstrap"
        self._resolve_deadline_ms: float | None = None
        if settings.bootstrap_resolve_timeout_ms > 0 and not any(is_ip_address(server.host) for server in bootstrap):
            self._resolve_deadline_ms = now_ms + settings.bootstrap_resolve_timeout_ms
        self._control: Peer | None = None  # the peer that carries control requests, or is to carry them
        self._requests: dict[int, _Request] = {}  # correlation id → request, all on the control connection
        self._trying_since_ms: float | None = None  # metadata was due then, and has not come yet
        self._homeless: set[int] = set()  # brokers that records wait for and whose address is not known
        self._not_ready: list[Peer] = []  # data connections whose handshake is done, and that are not announced yet
        self._parked: list[LaneReport] = []  # lanes that wait for a new producer id
        self._status = ""
        self._broker_status: dict[int, str] = {}  # as the engine knows it
        self._failed = False
        self._out: list[Command] = []

    # -------------------------------------------------------------------------------------------------------- stepping

    def step(self, events: Sequence[Event], now_ms: float) -> list[Command]:
        """Take in what happened, begin what is due, and say what is to be done; in this order."""
        self._now_ms = now_ms
        self._out = []
        for event in events:
            self._take(event)
        self._drive()
        return self._out

    def next_wakeup_ms(self) -> float | None:
        """When the next `step` is due if there are no events; None: never."""
        if self._failed:
            return None
        now_ms = self._now_ms
        times = [self._connections.next_wakeup_ms(), self._metadata.next_idle_check_ms, self._resolve_deadline_ms]
        requests = [self._metadata.due_ms(now_ms), self._identity.due_ms()]
        if self._control is None:
            due = min((time for time in requests if time is not None), default=None)
            if due is not None:
                times.append(max(due, min((peer.not_before_ms for peer in self._candidates()), default=due)))
        elif self._control.state == "open":
            times += [max(time, self._control.still_until_ms) for time in requests if time is not None]
        times += [peer.still_until_ms for peer in self._not_ready]
        if self._trying_since_ms is not None and self._rebootstraps and not self._bootstrapping:
            times.append(self._trying_since_ms + self._settings.metadata_recovery_rebootstrap_trigger_ms)
        return min((time for time in times if time is not None), default=None)

    def _take(self, event: Event) -> None:
        match event:
            case LanesHandedOver():
                self._lanes_handed_over(event)
            case FrameReceived():
                self._frame_received(event)
            case ConnectionClosed():
                self._connection_closed(event)
            case ConnectionOpened():
                self._out += self._connections.opened(event, self._cluster_to_check())
            case ConnectionWanted(broker_id=broker_id):
                self._want_data_connection(broker_id)
            case Resolved():
                self._resolved(event)
            case TopicWanted(name=name, partition=partition):
                self._metadata.want(name, partition, self._now_ms)
            case LeaderWanted(topics=topics):
                self._metadata.keep(topics, self._now_ms)
                self._metadata.request_refresh()
            case TopicAges(ages_ms=ages_ms):
                self._forget_idle_topics(ages_ms)
            case boundary.EngineFailed():
                self._failed = True  # nothing is left to be controlled; the runtime ends

    def _drive(self) -> None:
        now_ms = self._now_ms
        if self._failed:
            return
        if self._resolve_deadline_ms is not None and now_ms >= self._resolve_deadline_ms:
            message = f"no bootstrap server could be resolved within bootstrap.resolve.timeout.ms; {self._errors()}"
            self._fail("unresolved", Trouble(message=message))
            return
        if now_ms >= self._metadata.next_idle_check_ms:
            self._metadata.next_idle_check_ms = (
                now_ms + self._settings.metadata_max_idle_ms
            )  # until the answer is there
            self._out.append(AskTopicAges())
        for peer in self._connections.give_up_look_ups(now_ms):
            label = peer.label()
            self._out.append(Log(logging.WARNING, f"resolve {label}", f"{label}: {peer.errors[label]}"))
        self._release_control_if_idle()
        metadata_due = _reached(self._metadata.due_ms(now_ms), now_ms)
        if metadata_due and self._trying_since_ms is None:
            self._trying_since_ms = now_ms
        self._rebootstrap_if_stuck()
        if metadata_due or _reached(self._identity.due_ms(), now_ms):
            self._use_control_connection()
        self._out += self._connections.drive(now_ms)
        self._make_ready()
        self._publish_status()

    # ------------------------------------------------------------------------------------------ the control connection

    def _candidates(self) -> list[Peer]:
        """Who may carry control requests."""
        if self._bootstrapping:
            return self._bootstrap
        return [
            self._connections.peer("control", node.id, Endpoint(node.host, node.port))
            for node in self._metadata.brokers.values()
        ]

    def _use_control_connection(self) -> None:
        """Send what is due if there is a connection, else see to it that there will be one."""
        if self._control is None:
            self._choose_control()
        control = self._control
        if control is not None and control.state == "open" and control.still_until_ms <= self._now_ms:
            self._send_due(control)

    def _choose_control(self) -> None:
        ready = [peer for peer in self._candidates() if peer.not_before_ms <= self._now_ms]
        if not ready and not self._bootstrapping and self._rebootstraps:
            self._rebootstrap("none of the known brokers can be reached")
            ready = [peer for peer in self._candidates() if peer.not_before_ms <= self._now_ms]
        if not ready:
            return
        # Least recently failed; at random among those that never did, so that clients spread over brokers.
        self._control = min(ready, key=lambda peer: (peer.failed_at_ms, self._random.random()))
        self._control.wanted = True

    def _release_control(self) -> None:
        """The control connection is gone, or to be replaced: its requests are lost."""
        if self._control is None:
            return
        self._control.wanted = False
        self._control = None
        for request in self._requests.values():
            (self._metadata.failed if request.kind == "metadata" else self._identity.lost)(self._now_ms)
        self._requests.clear()

    def _rebootstrap_if_stuck(self) -> None:
        if self._trying_since_ms is None or self._bootstrapping or not self._rebootstraps:
            return
        if self._now_ms - self._trying_since_ms > self._settings.metadata_recovery_rebootstrap_trigger_ms:
            self._rebootstrap("no metadata for metadata.recovery.rebootstrap.trigger.ms")

    def _rebootstrap(self, reason: str) -> None:
        """Ask the bootstrap addresses again. Topics and leaders stay until an answer replaces them."""
        self._out.append(Log(logging.INFO, "rebootstrap", f"asking bootstrap.servers again: {reason}"))
        self._bootstrapping = True
        self._trying_since_ms = self._now_ms
        self._metadata.request_refresh()
        control = self._control
        self._release_control()
        if control is not None and control.state in ("connecting", "handshake", "open"):
            self._out.append(self._connections.close(control, f"asking bootstrap.servers again: {reason}"))

    def _send_due(self, peer: Peer) -> None:
        if _reached(self._metadata.due_ms(self._now_ms), self._now_ms):
            version = peer.negotiate(index.METADATA)
            self._send(peer, "metadata", self._metadata.request(self._now_ms), version)
        if _reached(self._identity.due_ms(), self._now_ms):
            version = peer.negotiate(index.INIT_PRODUCER_ID)
            self._identity.requested()
            request = InitProducerIdRequest(transactional_id=None, transaction_timeout_ms=_MAX_INT32)
            self._send(peer, "identity", request, version)

    def _send(self, peer: Peer, kind: str, message: Request, version: int) -> None:
        frame = self._connections.request(peer, message, version)
        self._requests[frame.correlation_id] = _Request(kind, version)
        self._out.append(frame)

    # ------------------------------------------------------------------------------------------------ data connections

    def _want_data_connection(self, broker_id: int) -> None:
        node = self._metadata.brokers.get(broker_id)
        if node is None:
            self._homeless.add(broker_id)
            self._metadata.request_refresh()
            return
        self._connections.peer("data", node.id, Endpoint(node.host, node.port)).wanted = True

    def _make_ready(self) -> None:
        """Data connections whose handshake is done carry records, once their broker reads again."""
        self._not_ready = [peer for peer in self._not_ready if peer.state == "open"]
        for peer in self._not_ready:
            if peer.still_until_ms <= self._now_ms:
                self._out.append(Ready(peer.connection_id, peer.negotiate(index.PRODUCE)))
        self._not_ready = [peer for peer in self._not_ready if peer.still_until_ms > self._now_ms]

    def _move_data_peers(self) -> None:
        """Brokers may have new addresses, or an address at last: what waits for them goes there."""
        for peer in list(self._connections.peers()):
            node = self._metadata.brokers.get(peer.broker_id)
            if peer.purpose == "data" and peer.wanted and peer.state == "idle":
                if node is None:
                    peer.wanted = False
                    self._homeless.add(peer.broker_id)
                elif peer.endpoint != (node.host, node.port):
                    peer.wanted = False
                    self._want_data_connection(peer.broker_id)
        for broker_id in [broker_id for broker_id in self._homeless if broker_id in self._metadata.brokers]:
            self._homeless.discard(broker_id)
            self._want_data_connection(broker_id)
        if any(self._metadata.leads(broker_id) for broker_id in self._homeless):
            # An answer that leaves out a leader (it was down, or the answer old) is no reason to wait for
            # metadata.max.age.ms; Java takes its partitions for leaderless, and asks on.
            self._metadata.request_refresh()
        self._connections.forget(
            {(node.id, Endpoint(node.host, node.port)) for node in self._metadata.brokers.values()}
        )

    # ----------------------------------------------------------------------------------------------- connection events

    def _resolved(self, event: Resolved) -> None:
        if event.addresses:
            self._resolve_deadline_ms = None
        else:
            where = Endpoint(event.host, event.port)
            self._out.append(Log(logging.WARNING, f"resolve {where}", f"cannot resolve {where}: {event.error}"))
        self._out += self._connections.resolved(event, self._now_ms)
        self._release_control_if_idle()

    def _connection_closed(self, event: ConnectionClosed) -> None:
        closed, commands = self._connections.closed(event, self._now_ms)
        self._out += commands
        if closed is None:
            return
        peer = closed.peer
        if closed.error:
            self._out.append(Log(logging.WARNING, f"connection {closed.label}", f"{closed.label}: {closed.error}"))
            if peer.purpose == "data":
                self._metadata.request_refresh()  # it may be down, and others lead (Java: handleServerDisconnect)
        self._release_control_if_idle()

    def _release_control_if_idle(self) -> None:
        """After a failed round, or when it was closed for idleness: it is chosen anew when it is next needed."""
        if self._control is not None and self._control.state == "idle":
            self._release_control()

    def _cluster_to_check(self) -> str | None:
        if not self._rebootstraps or not self._settings.metadata_cluster_check_enable:
            return None
        return self._metadata.cluster_id

    # --------------------------------------------------------------------------------------------------------- answers

    def _frame_received(self, event: FrameReceived) -> None:
        peer = self._connections.of(event.connection_id)
        if peer is None:
            return
        if peer.state == "handshake":
            self._handshake_answered(peer, event)
            return
        request = self._requests.pop(event.correlation_id, None) if peer is self._control else None
        if request is None:
            self._out.append(self._connections.close(peer, "an answer to a request that was not sent"))
            return
        try:
            if request.kind == "metadata":
                _, metadata = versions.decode_response(MetadataResponse, request.version, event.frame)
                throttle = index.METADATA, request.version, metadata.throttle_time_ms
                self._connections.keep_still(peer, *throttle, self._now_ms)
                self._metadata_answered(metadata, request.version)
            else:
                _, identity = versions.decode_response(InitProducerIdResponse, request.version, event.frame)
                throttle = index.INIT_PRODUCER_ID, request.version, identity.throttle_time_ms
                self._connections.keep_still(peer, *throttle, self._now_ms)
                self._identity_answered(identity)
        except ProtocolError as error:
            self._requests[event.correlation_id] = request  # lost with its connection
            self._out.append(self._connections.close(peer, f"malformed answer to {request.kind} request: {error}"))

    def _handshake_answered(self, peer: Peer, event: FrameReceived) -> None:
        handshake, commands = self._connections.handshake(peer, event, self._cluster_to_check(), self._now_ms)
        self._out += commands
        if handshake.outcome == "open" and peer.purpose == "data":
            self._not_ready.append(peer)
        elif handshake.outcome == "rebootstrap" and self._rebootstraps and not self._bootstrapping:
            self._rebootstrap(f"{peer.label()} is not the node it was (metadata.cluster.check.enable)")

    def _metadata_answered(self, response: MetadataResponse, version: int) -> None:
        commands = self._metadata.answered(response, version, self._now_ms)
        if commands is None:
            if self._rebootstraps:
                self._rebootstrap("the broker asks for it (REBOOTSTRAP_REQUIRED)")
            return
        if not response.brokers:
            return
        self._trying_since_ms = None
        self._bootstrapping = False
        for peer in self._connections.peers():
            if peer.purpose == "control":
                peer.errors.clear()
        for command in commands:
            if isinstance(command, boundary.FailTopic):
                text = f"metadata of topic {command.name!r}: {command.trouble.message}"
                self._out.append(Log(logging.WARNING, f"topic {command.name}", text))
        self._out.append(Publish(self._metadata.view()))
        self._out += commands
        self._move_data_peers()

    def _identity_answered(self, answer: InitProducerIdResponse) -> None:
        outcome = self._identity.answered(answer.error_code, answer.producer_id, answer.producer_epoch, self._now_ms)
        if isinstance(outcome, Fatal):
            self._fail("broker", Trouble(*outcome))
        elif isinstance(outcome, Refused):
            self._out.append(Log(logging.ERROR, "identity", outcome.message))
            self._out.append(FailBuffered("broker", Trouble(*outcome)))
        elif outcome is not None:
            self._out.append(SetIdentity(*outcome))
            parked, self._parked = self._parked, []
            for report in parked:
                self._decide(report)

    # ----------------------------------------------------------------------------------------------------------- lanes

    def _lanes_handed_over(self, event: LanesHandedOver) -> None:
        self._apply_hints(event)
        self._metadata.keep({report.topic for report in event.lanes}, self._now_ms)
        for report in event.lanes:
            self._decide(report)

    def _apply_hints(self, event: LanesHandedOver) -> None:
        """New leaders that Produce answers named are known before the lanes go back (KIP-951)."""
        changed = self._metadata.add_endpoints(event.endpoints)
        hints: dict[tuple[str, bytes], dict[int, tuple[int, int]]] = {}
        for report in event.lanes:
            for batch in report.batches:
                if batch.current_leader >= 0 and batch.current_leader_epoch > report.leader_epoch:
                    hint = (batch.current_leader, batch.current_leader_epoch)
                    hints.setdefault((report.topic, report.topic_id), {})[report.partition] = hint
        snapshots = [self._metadata.apply_hints(name, topic_id, new) for (name, topic_id), new in hints.items()]
        commands = [snapshot for snapshot in snapshots if snapshot is not None]
        if commands or changed:
            self._out.append(Publish(self._metadata.view()))
            self._out += commands
            self._move_data_peers()

    def _decide(self, report: LaneReport) -> None:
        verdict = decide(
            report,
            self._policy,
            self._identity.current,
            self._identity.next_identity(),
            self._metadata.leader_epoch(report.topic, report.partition),
            self._random,
        )
        if verdict.refresh_metadata:
            self._metadata.request_refresh()
        if verdict.resume is None:
            self._identity.renew(self._now_ms)
            self._parked.append(report)
        else:
            if verdict.identity is not None:
                self._identity.adopt(verdict.identity)
                self._out.append(SetIdentity(*verdict.identity))
            self._out.append(verdict.resume)
            self._log_lane(report)
        if verdict.fatal is not None:
            self._fail("broker", Trouble(*verdict.fatal))

    def _log_lane(self, report: LaneReport) -> None:
        said = next((batch for batch in report.batches if batch.error_code), None)
        if said is not None:
            name = f"{report.topic}-{report.partition}"
            cause = ": ".join(part for part in (errors.error_name(said.error_code), said.error_message) if part)
            text = f"{name}: {cause} (broker {report.leader}, attempt {said.attempts}, {len(report.batches)} batches)"
            self._out.append(Log(logging.WARNING, f"lane {report.topic} {said.error_code}", text))

    # ------------------------------------------------------------------------------------------------------------ rest

    def _forget_idle_topics(self, ages_ms: Mapping[str, int]) -> None:
        commands = self._metadata.expire(ages_ms, self._now_ms)
        if commands:
            self._out.append(Publish(self._metadata.view()))
            self._out += commands

    def _fail(self, kind: FailureKind, trouble: Trouble) -> None:
        if not self._failed:
            self._failed = True
            self._out.append(Log(logging.ERROR, "fatal", f"the producer cannot go on: {trouble.message}"))
            self._out.append(FailProducer(kind, trouble))

    def _errors(self) -> str:
        errors = {label: error for peer in self._connections.peers() for label, error in peer.errors.items()}
        return "; ".join(f"{label}: {error}" for label, error in errors.items())

    def _silent(self) -> str:
        """Who was called and has not answered yet."""
        silent = {
            "resolving": "its name is being looked up",
            "connecting": "not connected yet",
            "handshake": "connected, but has not answered yet",
        }
        told = {peer.label(): silent[peer.state] for peer in self._connections.peers() if peer.state in silent}
        return "; ".join(f"{label}: {state}" for label, state in told.items())

    def _publish_status(self) -> None:
        """Say why metadata cannot be had; nothing while it can."""
        waiting = self._trying_since_ms is not None or (self._identity.due_ms() is not None and self._control is None)
        errors = (self._errors() or self._silent()) if waiting else ""
        status = f"no broker reachable: {errors}" if errors else ""
        if status != self._status:
            self._status = status
            self._out.append(SetStatus(Trouble(message=status)))
        self._publish_broker_status()

    def _publish_broker_status(self) -> None:
        """Say why a broker that records wait for cannot be reached, until it can be."""
        troubles: dict[int, str] = {}
        for peer in self._connections.peers():
            if peer.purpose == "data" and peer.wanted and peer.errors:
                errors = "; ".join(f"{label}: {error}" for label, error in peer.errors.items())
                where = "at the address that it advertises (advertised.listeners)"
                troubles[peer.broker_id] = f"broker {peer.broker_id} cannot be reached {where}: {errors}"
        for broker_id in self._homeless:
            troubles.setdefault(broker_id, f"broker {broker_id} is a leader, but its address is in no metadata")
        for broker_id in sorted(self._broker_status.keys() | troubles.keys()):
            message = troubles.get(broker_id, "")
            if message != self._broker_status.get(broker_id, ""):
                self._out.append(SetBrokerStatus(broker_id, Trouble(message=message)))
        self._broker_status = troubles


def _reached(time_ms: float | None, now_ms: float) -> bool:
    return time_ms is not None and time_ms <= now_ms
