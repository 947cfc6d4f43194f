"""A real Apache Kafka for tests, benchmarks and experiments: `KafkaCluster` starts, breaks and stops it.

Each node is one JVM in KRaft combined mode (broker and controller). A node's processes form a chain, this process →
guard (`kafka_guard.py`) → JVM, in which each end notices the other's death, so a killed test run leaves no broker.

    with KafkaCluster() as kafka:
        kafka.create_topic("orders", partitions=3)
        produce_to(kafka.bootstrap_servers)
"""

from __future__ import annotations

import base64
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import kafka_artifacts
import kafka_wire

HOST = "127.0.0.1"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.05
_GUARD = Path(__file__).resolve().parent / "kafka_guard.py"

# Below the range from which kernels hand out ports to outgoing connections (32768 on Linux, 49152 elsewhere): a node
# that is killed and restarted must find its port free, however many connections were opened in between.
_PORTS = range(20000, 32000)


class KafkaStartError(RuntimeError):
    """A node did not start; the message ends with its log."""


class KafkaNode:
    """One JVM of a cluster: its folder, its ports, its process."""

    def __init__(self, node_id: int, folder: Path, host: str, port: int, controller_port: int) -> None:
        self.node_id = node_id
        self.folder = folder
        self.host = host
        self.port = port
        self.controller_port = controller_port
        self._guard: subprocess.Popen[bytes] | None = None
        self.pid: int | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The address for its clients."""
        return self.host, self.port

    @property
    def properties(self) -> Path:
        return self.folder / "server.properties"

    @property
    def log(self) -> Path:
        """The JVM's output, over all of its starts."""
        return self.folder / "server.log"

    @property
    def running(self) -> bool:
        return self._guard is not None and self._guard.poll() is None

    def configure(self, config: Mapping[str, object]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties.write_text("".join(f"{name}={value}\n" for name, value in config.items()))

    def format(self, cluster_id: str) -> None:
        """Write the cluster's identity into the data folder, as Kafka requires; an existing one is kept."""
        command = _jvm("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
        command += ["kafka.tools.StorageTool", "format", "--ignore-formatted"]
        done = subprocess.run(
            [*command, "-t", cluster_id, "-c", str(self.properties)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            raise KafkaStartError(f"formatting the storage of node {self.node_id} failed:\n{done.stdout}")

    def launch(self, heap_mb: int, *, temporary: bool, short_lived: bool) -> None:
        """Start the JVM; returns at once, before it is ready. A temporary folder is removed with this process."""
        if self.running:
            raise RuntimeError(f"node {self.node_id} is already running (pid {self.pid})")
        options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC") if short_lived else ()
        command = _jvm(f"-Xms{heap_mb}m", f"-Xmx{heap_mb}m", "-Djava.awt.headless=true", *options)
        command += ["kafka.Kafka", str(self.properties)]
        with self.log.open("ab") as log:
            self._guard = subprocess.Popen(
                [sys.executable, str(_GUARD), str(self.folder) if temporary else "", *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                # Out of the terminal's process group: Ctrl-C is for this process, which stops the nodes in its own order.
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        with self._guard.stdout as first_line:
            self.pid = int(first_line.readline() or 0) or None

    def signal(self, number: signal.Signals) -> None:
        """Pass a signal to the JVM: SIGSTOP and SIGCONT make a broker that hangs, without closing its sockets."""
        if self.running and self._guard is not None and self._guard.stdin is not None:
            # A broken pipe: it has just died, so the signal is not needed.
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(bytes([number]))

    def wait(self, timeout_s: float) -> bool:
        """Wait for the JVM to end; False if it has not by then."""
        if self._guard is None:
            return True
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard = self.pid = None
        return True

    def log_tail(self, lines: int = 60) -> str:
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"


class KafkaCluster:
    """One node or several, on their own ports.

    Args:
        nodes: how many; node ids are 1, 2, … Internal topics get a fitting replication factor.
        data_dir: the folder of the logs. It is kept, and reused by the next cluster with the same folder; without it,
                a temporary folder that is removed with the cluster.
        port: the first node's client port, its neighbours' follow; None lets the harness choose free ones.
        config: broker settings that override the harness's; a key `node-2:broker.rack` is for node 2 alone.
        heap_mb: heap of each JVM.
        short_lived: the JVMs compile less: a start takes a quarter less of the processor, later work is slower.
        host: the address of this machine where clients reach the nodes.
    """

    def __init__(
        self,
        nodes: int = 1,
        data_dir: str | Path | None = None,
        *,
        port: int | None = None,
        config: Mapping[str, object] | None = None,
        heap_mb: int = 512,
        short_lived: bool = False,
        host: str = HOST,
    ) -> None:
        if nodes < 1:
            raise ValueError(f"a cluster has at least one node, not {nodes}")
        self._size = nodes
        self._data_dir = Path(data_dir).resolve() if data_dir is not None else None
        self._port = port
        self._config = dict(config or {})
        self._heap_mb = heap_mb
        self._short_lived = short_lived
        self._host = host
        self._folder: Path | None = None
        self.nodes: dict[int, KafkaNode] = {}

    @property
    def bootstrap_servers(self) -> str:
        """`host:port,host:port`, all nodes, also those that are down."""
        if not self.nodes:
            raise RuntimeError("the cluster has not been started")
        return ",".join(f"{self._host}:{node.port}" for node in self.nodes.values())

    def __enter__(self) -> KafkaCluster:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> KafkaCluster:
        """Start all nodes and wait until each of them serves requests and has all others in its metadata."""
        if self.nodes:
            raise RuntimeError("the cluster is already started")
        kafka_artifacts.libs()  # before anything is created that would need a cleanup
        self._folder = self._data_dir or Path(tempfile.mkdtemp(prefix="penstock-kafka-"))
        try:
            self._lay_out(self._folder)
            for node in self.nodes.values():
                self._launch(node)
            self._await_ready(self.nodes.values())
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop all nodes and remove a temporary folder. Does nothing if no node runs."""
        running = [node for node in self.nodes.values() if node.running]
        # Temporary data needs no clean shutdown. Data that is kept gets one, of all nodes at a time; the last of several nodes
        # cannot complete it (no quorum), hence the deadline.
        if self._data_dir is not None:
            deadline = time.monotonic() + STOP_TIMEOUT_S
            for node in running:
                node.signal(signal.SIGCONT)  # a stopped process handles SIGTERM only when it continues
                node.signal(signal.SIGTERM)
            for node in running:
                node.wait(max(0.0, deadline - time.monotonic()))
        for node in running:
            node.signal(signal.SIGKILL)
        for node in self.nodes.values():
            node.wait(STOP_TIMEOUT_S)
        self.nodes = {}
        if self._folder is not None and self._data_dir is None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def kill(self, node_id: int = 1) -> None:
        """End a node like a crash: SIGKILL, without notice to clients or controller."""
        node = self.nodes[node_id]
        node.signal(signal.SIGKILL)
        if not node.wait(STOP_TIMEOUT_S):
            raise RuntimeError(f"node {node_id} survived SIGKILL")

    def shutdown(self, node_id: int = 1) -> None:
        """Shut down a node cleanly: it hands over its leaderships first."""
        node = self.nodes[node_id]
        node.signal(signal.SIGTERM)
        if not node.wait(STOP_TIMEOUT_S):
            self.kill(node_id)

    def restart(self, node_id: int = 1) -> None:
        """Start a node again on its port and data, killing it first if it runs; returns when it serves."""
        if self.nodes[node_id].running:
            self.kill(node_id)
        self._launch(self.nodes[node_id])
        self._await_ready([self.nodes[node_id]])

    def pause(self, node_id: int = 1) -> None:
        """Make a node hang (SIGSTOP): its sockets stay open and the kernel still accepts connections for it."""
        node = self.nodes[node_id]
        node.signal(signal.SIGSTOP)
        # The signal stops the JVM's threads one after the other; until the last one it may still answer.
        tasks = Path(f"/proc/{node.pid}/task")
        deadline = time.monotonic() + 10
        while tasks.exists() and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # a thread has ended
                states = [stat.read_text().rpartition(")")[2].split()[0] for stat in tasks.glob("*/stat")]
                if all(state in "TtZX" for state in states):
                    return

    def resume(self, node_id: int = 1) -> None:
        """End `pause`."""
        self.nodes[node_id].signal(signal.SIGCONT)

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replication_factor: int = 1,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Create a topic and wait until every running node has a leader for each of its partitions."""
        running = self._running()
        kafka_wire.create_topic(running[0].address, name, partitions, replication_factor, config or {})

        def all_have_leaders() -> bool:
            return all(self._knows_leaders(node, name, partitions) for node in running)

        self._poll(all_have_leaders, 30.0, lambda: f"topic {name!r} has no leader for some partition on some node")

    def leaders(self, topic: str) -> dict[int, int]:
        """Leader by partition, from the first running node; -1 if there is none."""
        view = kafka_wire.metadata(self._running()[0].address, [topic])
        return {partition.index: partition.leader for partition in view.topics.get(topic, [])}

    def in_sync(self, topic: str) -> dict[int, tuple[int, ...]]:
        """In-sync replicas by partition, from the first running node."""
        view = kafka_wire.metadata(self._running()[0].address, [topic])
        return {partition.index: partition.in_sync for partition in view.topics.get(topic, [])}

    def log_tail(self, lines: int = 60) -> str:
        """The end of every node's log."""
        return "\n".join(f"--- node {node.node_id}: {node.log}\n{node.log_tail(lines)}" for node in self.nodes.values())

    def _launch(self, node: KafkaNode) -> None:
        node.launch(self._heap_mb, temporary=self._data_dir is None, short_lived=self._short_lived)

    def _running(self) -> list[KafkaNode]:
        running = [node for node in self.nodes.values() if node.running]
        if not running:
            raise RuntimeError("no node of the cluster is running")
        return running

    @staticmethod
    def _knows_leaders(node: KafkaNode, topic: str, partitions: int) -> bool:
        seen = kafka_wire.metadata(node.address, [topic]).topics.get(topic, [])
        return len(seen) == partitions and all(partition.leader >= 0 for partition in seen)

    def _lay_out(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        ports = free_ports(self._size, self._port)
        controllers = free_ports(self._size, None, taken=ports)
        for index, (port, controller_port) in enumerate(zip(ports, controllers, strict=True)):
            node_id = index + 1
            self.nodes[node_id] = KafkaNode(node_id, folder / f"node-{node_id}", self._host, port, controller_port)
        voters = ",".join(f"{node.node_id}@{HOST}:{node.controller_port}" for node in self.nodes.values())
        for node in self.nodes.values():
            node.configure(self._node_config(node, voters))
        cluster_id = _cluster_id(self.nodes[1].folder)
        blank = [node for node in self.nodes.values() if not (node.folder / "data" / "meta.properties").exists()]
        with ThreadPoolExecutor(self._size) as pool:  # each one runs a JVM, whose start takes most of the time
            list(pool.map(lambda node: node.format(cluster_id), blank))

    def _node_config(self, node: KafkaNode, voters: str) -> dict[str, object]:
        replicas, in_sync = min(3, self._size), min(2, self._size)
        config: dict[str, object] = {
            "process.roles": "broker,controller",
            "node.id": node.node_id,
            "controller.quorum.voters": voters,
            "listeners": f"CLIENTS://{node.host}:{node.port},CONTROLLER://{HOST}:{node.controller_port}",
            "advertised.listeners": f"CLIENTS://{node.host}:{node.port}",
            "listener.security.protocol.map": "CLIENTS:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "CLIENTS",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": node.folder / "data",
            # Tests need topics that do not exist.
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": 0,
            # The controller refuses a killed broker until its old session has ended: 9 s by default, which every restart in a
            # test would wait for.
            "broker.session.timeout.ms": 3_000,
            "broker.heartbeat.interval.ms": 500,
            # Small internal topics: their creation takes most of the time of a first transaction or group.
            "offsets.topic.num.partitions": 3,
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.num.partitions": 3,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.num.partitions": 3,
            "share.coordinator.state.topic.replication.factor": replicas,
            "share.coordinator.state.topic.min.isr": in_sync,
            # Records have their own timestamps, and tests use old ones: retention by age, which a check every few seconds
            # applies, would delete them while they are read.
            "log.retention.ms": -1,
            # Per partition. A minute of benchmarking writes gigabytes; small segments make the bound effective.
            "log.retention.bytes": 1 << 30,
            "log.segment.bytes": 128 << 20,
            "log.retention.check.interval.ms": 10_000,
            "log.segment.delete.delay.ms": 1_000,
        }
        for name, value in self._config.items():
            scope, separator, bare = name.partition(":")
            if not separator:
                config[name] = value
            elif scope == f"node-{node.node_id}":
                config[bare] = value
        return config

    def _await_ready(self, nodes: Iterable[KafkaNode]) -> None:
        for node in nodes:
            state = _Readiness(node, self._running())
            self._poll(state.ready, START_TIMEOUT_S, state.explain)

    def _poll(self, condition: Callable[[], bool], timeout_s: float, explain: Callable[[], str]) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise KafkaStartError(f"after {timeout_s:g} s: {explain()}\n{self.log_tail()}")
            time.sleep(_POLL_S)


class _Readiness:
    """Sends ApiVersions and Metadata to a node until it serves and its metadata has all peers."""

    def __init__(self, node: KafkaNode, peers: Iterable[KafkaNode]) -> None:
        self._node = node
        self._expected = {peer.node_id for peer in peers}
        self._last = "not asked yet"

    def ready(self) -> bool:
        if not self._node.running:
            raise KafkaStartError(f"node {self._node.node_id} ended while starting:\n{self._node.log_tail()}")
        try:
            kafka_wire.api_versions(self._node.address)
            view = kafka_wire.metadata(self._node.address, [])
        except (OSError, kafka_wire.WireError) as error:
            self._last = repr(error)
            return False
        self._last = f"it knows the brokers {sorted(view.brokers)} of {sorted(self._expected)}"
        return self._expected <= view.brokers.keys()

    def explain(self) -> str:
        return f"node {self._node.node_id} is not ready: {self._last}"


def _jvm(*options: str) -> list[str]:
    logging = [
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
    ]
    return [kafka_artifacts.java(), *options, *logging, "-cp", kafka_artifacts.classpath()]


def _cluster_id(folder: Path) -> str:
    """The cluster's id, the same for every start on this data: 16 random bytes as Kafka writes them."""
    file = folder / "cluster-id"
    if not file.exists():
        # A leading dash would read as an option on StorageTool's command line.
        text = "-"
        while text.startswith("-"):
            text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        file.write_text(text)
    return file.read_text().strip()


def free_ports(count: int, first: int | None, taken: Iterable[int] = ()) -> list[int]:
    if first is not None:
        return [first + index for index in range(count)]
    found: list[int] = []
    used = set(taken)
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        if port not in used and _bindable(port):
            found.append(port)
    return found


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        # As Java's server sockets do: connections of a former owner in TIME_WAIT do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
