"""The bench's link: its settings; and where this machine allows it, a connection through it.

Delay, rate, queue and loss have tests with stepped time in `bench/limits/src/line.rs`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from bench.distance import Distance
from bench.link import Network, missing_right
from bench.surroundings import MissingToolError


def test_the_queue_is_one_bandwidth_delay_product_and_at_least_256_packets() -> None:
    assert Distance(0).queue == 256
    assert Distance(100, mbit=1000, mtu=1500).queue == 8334, "12.5 MB in packets of 1,500 bytes"
    assert Distance(100, mbit=1, mtu=1500).queue == 256


def test_a_distance_says_all_that_it_is() -> None:
    shown = str(Distance(20, mbit=10, loss=0.01, mtu=1500, congestion="cubic"))
    assert shown == "20 ms, 10 Mbit/s, queue 256 packets, MTU 1500, 1% loss, cubic"


def test_a_missing_right_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert missing_right() == "a link needs root (network namespaces and TUN devices)"
    with pytest.raises(MissingToolError, match="needs root"):
        Network()


def test_a_connection_through_the_link_moves_what_was_sent_and_leaves_nothing_behind() -> None:
    if shutil.which("cargo") is None:
        pytest.skip("no Rust: the link is a program of bench/limits")
    try:
        network = Network()
    except MissingToolError as why:
        pytest.skip(str(why))
    program = (
        "import socket, sys\n"
        "with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as stream:\n"
        "    stream.sendall(bytes(300_000)); stream.shutdown(socket.SHUT_WR); stream.recv(1)\n"
    )
    received = bytearray()
    with network, network.link(Distance(4, mbit=100)) as link, socket.create_server((network.near, 0)) as server:
        server.settimeout(60)

        def serve() -> None:
            stream, _ = server.accept()
            with stream:
                while data := stream.recv(1 << 16):
                    received.extend(data)

        serving = threading.Thread(target=serve)
        serving.start()
        where = [network.near, str(server.getsockname()[1])]
        subprocess.run(network.inside(sys.executable, "-c", program, *where), check=True, timeout=60)
        serving.join(60)
        totals = link.totals()
    assert len(received) == 300_000
    assert totals["b_to_a"]["bytes"] > 300_000, "it went through the link"
    assert totals["b_to_a"]["dropped"] == totals["b_to_a"]["lost"] == 0
    assert f"near{os.getpid()}" not in {name for _, name in socket.if_nameindex()}
