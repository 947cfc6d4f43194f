"""The producer under test: the real controller and the real engine, stepped, and an application that sends.

The control plane runs as `Runtime` runs it (step, pass the commands on, take the events), but the world decides when: at
once mostly, sometimes only after seconds, as when another library holds the GIL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from random import Random

from penstock import serialization
from penstock._native import Engine, Sender, SteppedEngine
from penstock.config import ProducerConfig, parse_bootstrap_servers
from penstock.control import boundary
from penstock.control.commands import Command, Event, Log, Publish, RequestTopicAges, Resolve, TopicAges
from penstock.control.controller import Controller
from penstock.control.peers import Endpoint
from penstock.errors import KafkaError, KafkaTimeoutError, ProducerClosedError, RecordPurgedError
from penstock.facade.assembly import Wiring
from penstock.facade.lifecycle import Calls, one_by_one
from simulation.cluster import sender_of
from simulation.coroutines import Application, InLoop
from simulation.network import Network
from simulation.oracles import Deadlines, Memory
from simulation.plan import MAY_SPLIT_BELOW, Plan
from simulation.records import OneOfMany, Sent, broken_callbacks, called
from simulation.trace import brief
from simulation.watch import Watch
from simulation.world import MS, S, World
from support.oracle import Reported

TICK_US = 50 * MS
"""How often the I/O thread checks deadlines."""


class Client:
    """See the module."""

    def __init__(self, world: World, plan: Plan) -> None:
        self._world = world
        self._plan = plan
        servers = ",".join(f"10.0.0.{number}:9092" for number in range(1, min(plan.nodes, 2) + 1))
        self.config = ProducerConfig({"bootstrap.servers": servers, **plan.settings})
        settings = self.config.settings
        self.engine = Engine(settings, seed=plan.seed)
        self.stepped = SteppedEngine(self.engine)
        bootstrap = [Endpoint(*pair) for pair in parse_bootstrap_servers(settings.bootstrap_servers)]
        self.controller = Controller(settings, bootstrap, random=Random(plan.seed), now_ms=0.0, software_version="sim")
        value = partial(serialization.serialize, serialization.BytesSerializer(), setting="value.serializer")
        self._sender: Sender[bytes, bytes] = Sender()
        wiring = Wiring(
            key_serializer=value,
            value_serializer=value,
            key_fast="bytes",
            value_fast="bytes",
            partitioner=None,
            interceptors=None,
            warn_waiting=lambda *_: None,
            max_block_ms=settings.max_block_ms,
        )
        self._sender._attach(self.engine, **wiring)
        splits = plan.max_message_bytes < MAY_SPLIT_BELOW
        self._memory = Memory(self.stepped, settings.buffer_memory, splits=splits)
        self.deadlines = Deadlines(world, settings.delivery_timeout_ms)
        self._coroutines = Application(world, plan, self, wiring) if plan.tasks else None
        self.network: Network
        self.watch = Watch(settings)
        self.sent: list[Sent] = []
        self.refused: list[Reported] = []
        self.unbuffered: list[tuple[int, str]] = []
        self._groups: dict[str, list[tuple[int, bytes, bytes]]] = {}
        self.fatal = ""
        self.late: list[str] = []
        self.logs: list[str] = []
        self._events: list[Event] = []
        self._commands: list[boundary.Command] = []
        self._stepping = False  # a step of the control plane is due
        self._handing_over = False  # it has stepped, and its commands are not passed on yet
        self._io_due = False
        self._next_io_us: int | None = None
        self._calling = False
        self._flushing = False
        self._codec_random = Random(f"codec worker {plan.seed}")
        self._jobs = 0  # batches whose codec worker is about to finish
        self._purged = 0  # as the engine counts
        self.closed = False

    def start(self) -> None:
        """Start both planes."""
        self._wake_control()
        self._run_io_soon()

    # ----------------------------------------------------------------------------------------------------- data plane

    def run_io(self) -> None:
        """A pass of the I/O thread, and its consequences."""
        if self.closed:
            return
        self.stepped.set_now_us(self._world.now_us)
        due_us = self.stepped.run_once()
        self.network.pump()
        if due_us is not None and (self._next_io_us is None or due_us < self._next_io_us):
            self._next_io_us = max(due_us, self._world.now_us)
            self._world.at(self._next_io_us, self._run_io_by_timer)
        self._memory.check()
        self.deadlines.check(self.engine.unresolved_records())
        self._take_events()
        self._call_back()
        self._check_jobs()
        if self._coroutines is not None:
            self._coroutines.loop.poll()
            self._check_memory()

    def _run_io_by_timer(self) -> None:
        self._next_io_us = None
        self._run_io_soon(0)

    def _run_io_soon(self, typical_us: float = 20) -> None:
        if not self._io_due:
            self._io_due = True
            self._world.after(self._world.spread(typical_us), self._run_io_now)

    def _run_io_now(self) -> None:
        self._io_due = False
        self.run_io()

    def _check_jobs(self) -> None:
        """The codec workers: each batch takes its time, and they may end in another order than they began."""
        while self._jobs < self.stepped.waiting_jobs():
            self._jobs += 1
            typical_us = 10 if self.is_calm() else self._plan.encode_us
            self._world.after(self._codec_random.expovariate(1 / typical_us), self._encode)

    def _encode(self) -> None:
        self._jobs -= 1
        waiting = self.stepped.waiting_jobs()
        if waiting:
            self.stepped.encode(self._codec_random.randrange(waiting))
            self._run_io_soon(2)

    def socket_changed(self) -> None:
        """Something happened to a socket: the I/O thread runs."""
        self._run_io_soon(2)

    # -------------------------------------------------------------------------------------------------- control plane

    def _take_events(self) -> None:
        events = self.engine.exchange([], 0)
        if events:
            self._reported_by_engine(events)
            self._wake_control()

    def _reported_by_engine(self, events: Sequence[boundary.Event]) -> None:
        self.watch.events(events, self._world.now_us)
        self._events += events

    def _wake_control(self) -> None:
        if self._stepping or self._handing_over:
            return
        self._stepping = True
        self._world.after(self._stall_us(), self._step_control)

    def _stall_us(self) -> int:
        world = self._world
        if not self.is_calm() and world.chance(self._plan.rates.stall):
            stall_us = world.random.choice([50 * MS, 500 * MS, 3 * S])
            world.note(f"the control plane does not run for {stall_us // MS} ms")
            return stall_us
        return world.spread(self._plan.stall_us)

    def is_calm(self) -> bool:
        """Whether no new faults occur any more."""
        return self._world.now_us > self._plan.calm_ms * MS

    def _step_control(self) -> None:
        self._stepping = False
        if self.closed:
            return
        events, self._events = self._events, []
        for event in events:
            if not isinstance(event, boundary.FrameReceived):
                self._world.note(f"event {brief(event)}")
        native: list[boundary.Command] = []
        for command in self._step_watched(events, self._world.now_us / 1000):
            if isinstance(command, Publish):
                pass
            elif isinstance(command, Resolve):
                raise AssertionError("the simulation has no host names")
            elif isinstance(command, RequestTopicAges):
                self._events.append(TopicAges(self.engine.topic_ages()))
                self._wake_control()
            elif isinstance(command, Log):
                self._log(command)
            else:
                native.append(command)
        # The world goes on between the decision and its arrival.
        if native:
            self._handing_over = True
            self._world.after(self._stall_us(), lambda: self._hand_over(native))
        self._plan_wakeup()

    def _step_watched(self, events: list[Event], now_ms: float) -> list[Command]:
        peers = self.controller._connections._by_connection
        for event in events:
            if isinstance(event, boundary.ConnectionClosed):
                self.watch.lost(event, peers.get(event.connection_id), now_ms)
        commands = self.controller.step(events, now_ms)
        connects = [command.connection_id for command in commands if isinstance(command, boundary.Connect)]
        self.watch.stepped(events, [(connection, peers[connection]) for connection in connects], now_ms)
        return commands

    def _hand_over(self, native: list[boundary.Command]) -> None:
        if self.closed:
            return
        for command in native:
            if isinstance(command, boundary.FailProducer):
                self.fatal = command.trouble.message
            self._world.note(f"command {brief(command)}")
        self._handing_over = False
        self._reported_by_engine(self.engine.exchange(native, 0))
        self.watch.commanded(native)
        self._wake_by_timer()
        if self._events:
            self._wake_control()
        self.run_io()
        self.watch.check_windows(native, self.stepped.windows(), self._world.now_us)

    def _log(self, command: Log) -> None:
        if command.level >= logging.ERROR:
            self.logs.append(command.message)
        self._world.note(f"log {command.message}")

    def _plan_wakeup(self) -> None:
        at_ms = self.controller.next_wakeup_ms()
        if at_ms is not None:
            self._world.at(at_ms * 1000 + 1, self._wake_by_timer)

    def _wake_by_timer(self) -> None:
        at_ms = self.controller.next_wakeup_ms()
        if at_ms is not None and at_ms * 1000 <= self._world.now_us:
            self._wake_control()

    # ---------------------------------------------------------------------------------------------------- application

    def send(self, number: int, topic: str, partition: int | None, key: bytes | None, size: int) -> None:
        """Send record `number`; its value begins with that number."""
        if self._plan.bulk and not self.is_calm():
            # Elsewhere the number chooses, here the key: a call has one partition, and the order is per partition.
            self._gather(number, topic, key or b"partition %d" % (partition or 0), size)
            return
        if self._coroutines is not None:
            self._send_in_loop(self._coroutines, number, topic, partition, key, size)
            return
        self._send_group(topic)  # gathered records are sent first
        record = Sent(number, topic, partition, self._world.now_us)
        callback: Callable[..., None] | None = None
        if self._world.chance(self._plan.with_callback):
            record.called = []
            callback = partial(called, record.called)
        value = b"%d " % number + b"v" * size
        if "compression.type" in self._plan.settings and number % 2:
            value = b"%d " % number + self._codec_random.randbytes(size)  # random bytes do not compress
        try:
            record.future = self._sender.send(
                topic, value, key=key, partition=partition, timestamp=number, callback=callback
            )
        except (KafkaTimeoutError, ProducerClosedError, KafkaError) as error:
            self.refused.append(Reported((topic, partition), sender_of(number), number, "not persisted"))
            self._world.note(f"record {number} is refused: {type(error).__name__}")
            if record.called is not None:
                assert not record.called, "a callback of a record that was refused"
        else:
            self._keep(record)
            timeout_us = self.config.settings.delivery_timeout_ms * MS
            self._world.after(timeout_us + 2 * TICK_US, lambda: self._check_deadline(record))
        self._take_events()
        self._check_jobs()
        self._run_io_soon()

    def _keep(self, record: Sent) -> None:
        self.sent.append(record)
        self.deadlines.sent(record)

    def _send_in_loop(
        self, coroutines: Application, number: int, topic: str, partition: int | None, key: bytes | None, size: int
    ) -> None:
        record = Sent(number, topic, partition, self._world.now_us)
        if self._world.chance(self._plan.with_callback):
            record.called = []
        value = b"%d " % number + (b"v" * size if number % 3 else self._codec_random.randbytes(size))
        coroutines.send(sender_of(number, self._plan.tasks), record, value, key)

    def refuse(self, record: Sent, why: str) -> None:
        """`send` refused it."""
        place = (record.topic, record.partition)
        self.refused.append(Reported(place, sender_of(record.number, self._plan.tasks), record.number, "not persisted"))
        self._world.note(f"record {record.number} is refused: {why}")
        assert not record.called, "a callback of a record that was refused"

    def buffered(self, record: Sent) -> None:
        """`send` buffered it, in an event loop."""
        record.sent_us = self._world.now_us
        self._world.note(f"record {record.number} is buffered")
        self._keep(record)
        assert isinstance(record.future, InLoop)
        future = record.future.future
        self._world.after(self.delivery_us, lambda: future.done() or self._is_late(record))
        if self._coroutines is not None:  # only the callback reports the end of a cancelled record
            grace_us = self._coroutines.grace_us()
            self._world.after(self.delivery_us + grace_us, lambda: self._check_deadline(record))

    def loop_has_run(self) -> None:
        """The event loop has run."""
        if not self.closed:
            self._take_events()
            self._check_jobs()
            self._run_io_soon()
        if self._coroutines is not None:
            self._coroutines.loop.poll()

    @property
    def delivery_us(self) -> int:
        """The latest time at which a record's future must be resolved."""
        return self.config.settings.delivery_timeout_ms * MS + 2 * TICK_US

    def _check_memory(self) -> None:
        waiting, total = self.stepped.waiting_for_memory, self.config.settings.buffer_memory
        assert not waiting or self.stepped.available_memory < total, f"all memory is free, and {waiting} wait for it"

    def _gather(self, number: int, topic: str, key: bytes, size: int) -> None:
        group = self._groups.setdefault(topic, [])
        group.append((number, key, b"%d " % number + b"v" * size))
        if len(group) == 1:
            self._world.after(self._world.spread(20 * MS), lambda: self._send_group(topic))

    def _send_group(self, topic: str) -> None:
        group = self._groups.pop(topic, [])
        if self.closed or not group:
            return
        numbers, keys, values = (list(column) for column in zip(*group, strict=True))

        def refused(number: int, error: Exception) -> None:
            self.refused.append(Reported((topic, None), sender_of(number), number, "not persisted"))
            self._world.note(f"record {number} is refused: {type(error).__name__}")

        try:
            result = self._sender.send_many(topic, values, keys=keys, timestamps=numbers)
        except KafkaError as error:
            for number in numbers:
                refused(number, error)
        else:
            self._world.note(f"records {numbers} are sent at once")
            for index, number in enumerate(numbers):
                if result.partitions[index] < 0:
                    self.unbuffered.append((number, topic))
                    continue
                record = Sent(number, topic, None, self._world.now_us)
                record.future = OneOfMany(result, index)
                self._keep(record)
                timeout_us = self.config.settings.delivery_timeout_ms * MS
                self._world.after(timeout_us + 2 * TICK_US, lambda record=record: self._check_deadline(record))
        self._take_events()
        self._run_io_soon()

    def flush(self) -> None:
        """Begin a flush unless one is running: nothing lingers until all records that are buffered now are resolved."""
        if self._coroutines is not None:
            self._coroutines.flush()
            return
        if not self._flushing:
            self._flushing = True
            self.stepped.begin_flush()
            self._check_flush()
            self._run_io_soon()

    def _check_flush(self) -> None:
        if self.stepped.flushed():
            self._flushing = False
        else:
            self._world.after(20 * MS, self._check_flush)

    def purge(self, topic: str | None) -> None:
        """The application gives up what was never sent. The I/O thread need not run for it."""
        if self.closed:
            return
        self._world.note(f"the application purges {topic or 'all topics'}")
        self._purged += self.engine.purge(topic)
        self._take_events()
        self._call_back()
        if self._coroutines is not None:
            self._coroutines.loop.poll()

    def close(self) -> None:
        """close(0): pending records fail, and the network keeps its bytes."""
        self._world.note("the producer is closed")
        self.stepped.shut_down()
        self.network.pump()
        self.closed = True
        futures = [(record.number, record.future) for record in self.sent]
        unresolved = [
            number
            for number, future in futures
            if future is not None and not (future.future if isinstance(future, InLoop) else future).done()
        ]
        assert not unresolved, f"close left {unresolved} unresolved"
        self._call_back()
        if self._coroutines is not None:
            self._coroutines.loop.poll()

    def end(self) -> list[str]:
        """The application's end; returns its broken guarantees."""
        if self._coroutines is not None:  # a future that was cancelled does not say what became of its record
            return self._coroutines.end()
        results = (record.resolved() for record in self.sent)
        purged = sum(isinstance(result[0], RecordPurgedError) for result in results if result is not None)
        return [] if purged == self._purged else [f"{purged} records were purged, and {self._purged} counted"]

    def _check_deadline(self, record: Sent) -> None:
        assert record.future is not None
        if not record.future.done():
            self._is_late(record)

    def _is_late(self, record: Sent) -> None:
        self.late.append(f"record {record.number}, sent at {record.sent_us / MS:.3f} ms")

    def _call_back(self) -> None:
        """The callback thread, which may be slow."""
        if self._calling:
            return
        calls = self.stepped.take_callbacks()
        if calls[0]:
            self._calling = True
            typical_us = 10 if self.is_calm() else self._plan.callback_delay_us
            self._world.after(self._world.spread(typical_us), lambda: self._run_calls(calls))

    def _run_calls(self, calls: Calls) -> None:
        for function, outcome, error in one_by_one(calls):
            if error is ...:
                function(outcome)
            else:
                function(outcome, error)
        self._calling = False
        self._call_back()
        self._run_io_soon()

    # -------------------------------------------------------------------------------------------------------- verdict

    def reported(self) -> list[Reported]:
        """The result of every record."""
        unbuffered = (
            Reported((topic, None), sender_of(number), number, "not persisted") for number, topic in self.unbuffered
        )
        return [*self.refused, *unbuffered, *(record.reported(self._plan.tasks) for record in self.sent)]

    def broken_callbacks(self) -> list[str]:
        """Records whose callback did not run exactly once, or reported another result than the future."""
        return broken_callbacks(self.sent)
