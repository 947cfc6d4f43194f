"""Both sides of the boundary know the same commands, by the same names of fields."""

from typing import Any, get_args

import pytest

from penstock._native import Engine
from penstock.control import boundary

SAMPLES: dict[str, Any] = {
    "Connect": boundary.Connect(1, -1, "127.0.0.1", 9092, 1000),
    "SendFrame": boundary.SendFrame(1, 7, b"frame", 1000),
    "Ready": boundary.Ready(1, 13),
    "Close": boundary.Close(1, "enough"),
    "SetTopic": boundary.SetTopic("t", bytes(16), 1, (boundary.PartitionLeader(1, 0, False),)),
    "FailTopic": boundary.FailTopic("t", 3, "unknown", False),
    "ForgetTopic": boundary.ForgetTopic("t"),
    "SetStatus": boundary.SetStatus("all is well"),
    "SetBrokerStatus": boundary.SetBrokerStatus(1, "connection refused"),
    "SetIdentity": boundary.SetIdentity(7, 0),
    "ResumeLane": boundary.ResumeLane(
        "t",
        0,
        (
            boundary.BatchDecision(1, "retry"),
            boundary.BatchDecision(2, "fail", error_code=10),
            boundary.BatchDecision(3, "complete", offset=5),
            boundary.BatchDecision(4, "split"),
        ),
        boundary.Renumber(7, 1, 0),
        100,
    ),
    "FailBuffered": boundary.FailBuffered(31, "not allowed"),
    "FailProducer": boundary.FailProducer(31, "not allowed"),
}


@pytest.fixture
def engine() -> Engine:
    """An engine that was never started: commands are read and kept."""
    return Engine(
        client_id="test",
        acks=-1,
        enable_idempotence=True,
        compression_type="none",
        compression_level=0,
        batch_size=16384,
        linger_ms=5,
        buffer_memory=1 << 20,
        max_request_size=1 << 20,
        max_in_flight_requests_per_connection=5,
        delivery_timeout_ms=120_000,
        request_timeout_ms=30_000,
        connections_max_idle_ms=540_000,
        send_buffer_bytes=-1,
        receive_buffer_bytes=-1,
        partitioner_ignore_keys=False,
        partitioner_adaptive_partitioning_enable=True,
        partitioner_availability_timeout_ms=0,
        partitioner_rack_aware=False,
    )


def test_every_command_has_a_sample() -> None:
    assert {command.__name__ for command in get_args(boundary.Command)} == set(SAMPLES)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_native_side_reads_every_command_by_its_fields(engine: Engine, name: str) -> None:
    assert engine.exchange([SAMPLES[name]], 0) == []


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if name != "SetStatus"])
def test_a_field_of_the_wrong_type_is_refused_by_name(engine: Engine, name: str) -> None:
    sample = SAMPLES[name]
    for field in sample._fields:
        if field == "renumber":
            continue
        with pytest.raises((TypeError, AttributeError, OverflowError)):
            engine.exchange([sample._replace(**{field: object()})], 0)


def test_what_is_no_command_is_refused(engine: Engine) -> None:
    with pytest.raises(TypeError, match="not a command of the boundary"):
        engine.exchange([boundary.ConnectionWanted(1)], 0)  # type: ignore[list-item]
