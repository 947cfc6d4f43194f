"""Runs an embedded cluster as its own process, for `penstock broker`."""

import asyncio
import signal
from collections.abc import Callable

from penstock.devbroker.cluster import DevCluster


def serve(cluster: DevCluster, ready: Callable[[str], None] | None = None) -> None:
    """Run `cluster` until SIGINT or SIGTERM, then stop it cleanly. For the main thread.

    `ready` is called with the bootstrap servers when all nodes listen.
    """
    asyncio.run(_serve(cluster, ready))


async def _serve(cluster: DevCluster, ready: Callable[[str], None] | None) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        async with cluster:
            if ready is not None:
                ready(cluster.bootstrap_servers)
            await stop.wait()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
