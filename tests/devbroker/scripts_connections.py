"""ApiVersions, and misbehaving connections: scripts for both brokers, see `kafka_scripts`."""

from __future__ import annotations

import struct
import time
from typing import Any, Final

from kafka_scripts import TIME, await_leaders, create, script
from raw_client import (
    CLIENT_ID,
    ClosedError,
    RawClient,
    batch_of,
    produce_request,
)

from penstock.protocol.messages.api_versions import ApiVersionsRequest, ApiVersionsResponse
from penstock.protocol.messages.create_topics import (
    CreatableTopicConfig,
)
from penstock.protocol.records import decode_batch, split_batches
from penstock.protocol.versions import encode_request

# Connections.


@script([(0, (0, 5)), (35, [(18, 0, 5)]), (0, (0, 5)), 42])
def api_versions_of_each_version(client: RawClient, topic: str) -> Any:
    named = ApiVersionsRequest(client_software_name="raw", client_software_version="1.0")
    first = client.ask(named, ApiVersionsResponse, 3)
    frame = bytearray(encode_request(named, 4, 77, CLIENT_ID))
    frame[2:4] = struct.pack(">h", 99)
    client.send_frame(bytes(frame))
    _, second = client.receive(ApiVersionsResponse, 0)
    third = client.ask(named, ApiVersionsResponse, 4)
    bad = ApiVersionsRequest(client_software_name="not allowed!", client_software_version="")

    def own(answer: ApiVersionsResponse) -> tuple[int, int]:
        return next((key.min_version, key.max_version) for key in answer.api_keys if key.api_key == 18)

    return [
        (first.error_code, own(first)),
        (second.error_code, [(key.api_key, key.min_version, key.max_version) for key in second.api_keys]),
        (third.error_code, own(third)),
        client.ask(bad, ApiVersionsResponse, 3).error_code,
    ]


@script(
    {
        0: (0, 13),
        1: (4, 18),
        2: (1, 11),
        3: (0, 13),
        10: (0, 6),
        18: (0, 5),
        19: (2, 7),
        20: (1, 6),
        22: (0, 5),
        23: (2, 4),
        32: (1, 4),
        37: (0, 3),
        60: (0, 2),
    }
)
def the_announced_versions(client: RawClient, topic: str) -> Any:
    named = ApiVersionsRequest(client_software_name="raw", client_software_version="1.0")
    keys = client.ask(named, ApiVersionsResponse, 4).api_keys
    offered = (0, 1, 2, 3, 10, 18, 19, 20, 22, 23, 32, 37, 60)
    return {key.api_key: (key.min_version, key.max_version) for key in keys if key.api_key in offered}


@script([(0, True, True), (0, True, True)])
def log_append_time_replaces_the_timestamps(client: RawClient, topic: str) -> Any:
    name = topic + "-append-time"
    config = CreatableTopicConfig(name="message.timestamp.type", value="LogAppendTime")
    create(client, name=name, configs=(config,))
    await_leaders(client, name, 1)
    before = time.time_ns() // 1_000_000
    seen = []
    for codec in ("none", "gzip"):
        answer = client.produce(name, batch_of(b"a", b"b", timestamp=TIME * 3, codec=codec))
        records = client.fetch(name, answer.base_offset).records
        assert records is not None
        header, decoded = decode_batch(next(split_batches(records))[1])
        times = {record.timestamp for record in decoded}
        same = times == {answer.log_append_time_ms}
        seen.append((answer.error_code, header.is_log_append_time and same, before <= header.max_timestamp < TIME * 2))
    return seen


@script([0, 0, 0])  # never more than the number of replicas
def min_insync_replicas_above_the_replication_factor(client: RawClient, topic: str) -> Any:
    name = topic + "-min"
    create(client, name=name, configs=(CreatableTopicConfig(name="min.insync.replicas", value="2"),))
    await_leaders(client, name, 1)
    return [client.produce(name, batch_of(b"a"), acks=acks).error_code for acks in (1, -1, 1)]


@script([0, 129, 129, 0])
def a_client_that_expects_another_broker(client: RawClient, topic: str) -> Any:
    cluster_id = client.metadata().cluster_id
    seen = []
    for cluster, node in ((cluster_id, 1), ("another", 1), (cluster_id, 99), (None, -1)):
        request = ApiVersionsRequest(
            client_software_name="raw", client_software_version="1.0", cluster_id=cluster, node_id=node
        )
        seen.append(client.ask(request, ApiVersionsResponse, 5).error_code)
    return seen


HOSTILE: Final[dict[str, bytes]] = {
    "an API that does not exist": struct.pack(">hhih", 9999, 0, 1, -1),
    "a version that does not exist": struct.pack(">hhih", 3, 99, 1, -1),
    "a negative version": struct.pack(">hhih", 3, -1, 1, -1),
    "a body that is cut off": encode_request(produce_request("t", batch_of(b"x")), 9, 1, CLIENT_ID)[:-5],
    "an array longer than its frame": struct.pack(">hhihi", 3, 1, 1, -1, 2**31 - 1),
    "a negative array": struct.pack(">hhihi", 19, 2, 1, -1, -7),
    "no header": b"\0\3",
}


@script(dict.fromkeys(HOSTILE, "closed") | {"afterwards": 0})
def malformed_frames_close_their_connection(client: RawClient, topic: str) -> Any:
    host, port = client.socket.getpeername()
    seen: dict[str, Any] = {}
    for name, frame in HOSTILE.items():
        with RawClient(f"{host}:{port}") as other:
            other.send_frame(frame)
            try:
                seen[name] = other.receive_frame()
            except ClosedError:
                seen[name] = "closed"
    seen["afterwards"] = client.produce(topic, batch_of(b"x")).error_code
    return seen
