"""The checks of an installed Penstock; run by an interpreter without other packages."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import penstock
from penstock import _native
from penstock.devbroker import DevCluster
from penstock.testing import MockProducer

assert Path(penstock.__file__).is_relative_to(sys.prefix), penstock.__file__
values = [b"%d" % number * 100 for number in range(1000)]
offsets = {}


async def from_a_loop(servers: str) -> int:
    async with penstock.AsyncKafkaProducer(bootstrap_servers=servers) as producer:
        return (await producer.send_and_wait("none", b"from a loop")).offset


with DevCluster.running() as cluster:
    # zstd and lz4 are C, and compiled for another libc than the compiler's own.
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        cluster.create_topic(codec, 1)
        with penstock.KafkaProducer(bootstrap_servers=cluster.bootstrap_servers, compression_type=codec) as producer:
            future = producer.send(codec, b"hello", key=b"a key")
            producer.send_many(codec, values).raise_for_errors()
            producer.flush(30)
            offsets[codec] = [future.result(30).offset, cluster.end_offsets(codec)[0]]
    offsets["asyncio"] = asyncio.run(from_a_loop(cluster.bootstrap_servers))
print(json.dumps({"offsets": offsets, "build": _native.__build__, "mock": len(MockProducer().history())}))
